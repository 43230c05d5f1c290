//! Paying pongs: as the queue of a connection has room, and as often as its peer may have them.
//! `pings` knows which are owed.

use crate::conn::{Conn, Stage};
use crate::switchboard::Switchboard;
use std::time::Instant;

impl Switchboard {
    /// When the next pong for this peer may go, if one is owed.
    pub(crate) fn pong_at(&self, conn: &Conn) -> Option<Instant> {
        let (at, len) = conn.pings.pong_due(self.now)?;
        if !conn.mux.daemons.is_empty() {
            return Some(at);
        }
        Some(at.max(self.idle_pongs.ready_at(kibibytes(len), self.now)?))
    }

    /// Pongs go out as the queue has room, and as often as the peer may have them.
    pub(crate) fn pay_pongs(&mut self, conn: &mut Conn) {
        while conn.batch.is_none()
            && conn.has_room()
            && !matches!(conn.stage, Stage::Ending { .. })
            && !self.is_sending_too_much(conn)
        {
            let now = self.now;
            match self.pong_at(conn) {
                None => return,
                Some(at) if at > now => return self.due(at),
                Some(_) => {}
            }
            if conn.mux.daemons.is_empty()
                && let Some((_, len)) = conn.pings.pong_due(now)
            {
                self.idle_pongs.take_many(kibibytes(len), now);
            }
            let Some(pong) = conn.pings.next_pong(now) else { return };
            conn.seal(&pong, now);
        }
    }
}

/// What a pong of so many bytes takes from the bucket that all peers without a daemon share:
/// nothing where it is small, so that an ordinary ping is answered whatever others ask for. Of
/// those each peer gets one a second.
const fn kibibytes(len: u16) -> u32 {
    len as u32 / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{IDLE_PONGS_BURST, IDLE_PONGS_EVERY};
    use primitives::Bucket;

    #[test]
    fn small_pongs_are_paid_whatever_other_peers_ask_for() {
        let now = Instant::now();
        let mut bucket = Bucket::new(IDLE_PONGS_BURST, IDLE_PONGS_EVERY);
        // Small ones leave the bucket as it is.
        assert!((0..100_000).all(|_| bucket.take_many(kibibytes(1), now)));
        assert!(bucket.is_full(now));
        // Those that ask for large ones empty it.
        let large = (0..1000).filter(|_| bucket.take_many(kibibytes(65531), now)).count();
        assert_eq!(large, 65);
        assert_eq!(bucket.ready_at(kibibytes(1023), now), Some(now));
    }
}
