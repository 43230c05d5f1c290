//! Is the peer still there, and does it know that we are? BOLT 1, "The ping and pong Messages".
//! Time comes in as a value.

use crate::limits::{MAX_OWED_PONGS, MAX_PINGS, PONG_BURST, PONG_EVERY, Times};
use primitives::Bucket;
use std::collections::VecDeque;
use std::time::Instant;
use wire::{Message, Ping, Pong};

/// BOLT 1: a ping that asks for so many bytes or more gets no pong.
pub const NO_PONG: u16 = 65532;
/// Bytes of pong that our own pings ask for.
const OUR_PONG_BYTES: u16 = 1;

/// The origin of a ping, which hears of the pong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Ourselves,
    Master(u64),
}

/// The pings and pongs of one connection.
#[derive(Debug)]
pub struct Pings {
    times: Times,
    /// When the peer was last heard.
    heard: Instant,
    /// Ours without a pong, oldest first: who asked, for how many bytes, when.
    waiting: VecDeque<(Asker, u16, Instant)>,
    /// Pongs that the peer asked for, and its queue had no room for or it asks for too often.
    owed: VecDeque<u16>,
    /// One token is a pong.
    pongs: Bucket,
}

/// The action that is due at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this moment.
    At(Instant),
    /// Send this now.
    Ping(Vec<u8>),
    /// The peer did not answer: hang up.
    Silent,
}

/// The peer asks for more pongs than it reads, or than it gets: no more often than [`PONG_EVERY`].
#[derive(Debug, PartialEq, Eq)]
pub struct Flood;

impl Pings {
    /// For a connection made now.
    pub const fn new(now: Instant, times: Times) -> Self {
        let pongs = Bucket::new(PONG_BURST, PONG_EVERY);
        Self { times, heard: now, waiting: VecDeque::new(), owed: VecDeque::new(), pongs }
    }

    /// Anything at all came from the peer.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A ping came. Its pong will be in [`Pings::next_pong`] once there is room and time for it:
    /// BOLT 1 has every ping below 65532 answered, and does not say how soon. Six bytes may ask for
    /// 65 kB, so that answering at once lets a peer use up all that we can send.
    pub fn on_ping(&mut self, ping: &Ping) -> Result<(), Flood> {
        if ping.num_pong_bytes >= NO_PONG {
            return Ok(());
        }
        if self.owed.len() >= MAX_OWED_PONGS {
            return Err(Flood);
        }
        self.owed.push_back(ping.num_pong_bytes);
        Ok(())
    }

    /// When the next pong that is owed may go, and how many bytes were asked for.
    pub fn pong_due(&self, now: Instant) -> Option<(Instant, u16)> {
        let len = self.owed.front()?;
        Some((self.pongs.ready_at(1, now)?, *len))
    }

    /// The next pong that is owed and due, for a queue that has room.
    pub fn next_pong(&mut self, now: Instant) -> Option<Vec<u8>> {
        let len = *self.owed.front()?;
        if !self.pongs.take(now) {
            return None;
        }
        self.owed.pop_front();
        Some(Pong { ignored: vec![0; usize::from(len)] }.encode())
    }

    /// A pong came. Where the master asked for it: under which number. A pong that answers nothing
    /// is let pass: BOLT 1 allows to hang up, and nothing is gained by it.
    pub fn on_pong(&mut self, pong: &Pong) -> Option<u64> {
        let answered =
            self.waiting.iter().position(|(_, len, _)| usize::from(*len) == pong.ignored.len())?;
        match self.waiting.remove(answered)?.0 {
            Asker::Ourselves => None,
            Asker::Master(ask) => Some(ask),
        }
    }

    /// The master wants a ping. `None` where too many are without an answer. The flag: will there
    /// be a pong?
    pub fn order(
        &mut self,
        ask: u64,
        length: u16,
        pong_bytes: u16,
        now: Instant,
    ) -> Option<(Vec<u8>, bool)> {
        let answered = pong_bytes < NO_PONG;
        if answered {
            if self.waiting.len() >= MAX_PINGS {
                return None;
            }
            self.waiting.push_back((Asker::Master(ask), pong_bytes, now));
        }
        Some((ping(length, pong_bytes), answered))
    }

    /// The action that is due now. `deaf`: we are not reading the peer at the moment, so that its
    /// silence means nothing.
    pub fn due(&mut self, now: Instant, deaf: bool) -> Due {
        if deaf {
            self.heard = now;
            for (_, _, since) in &mut self.waiting {
                *since = now;
            }
        }
        if let Some((_, _, since)) = self.waiting.front() {
            // Whatever it says shows that it lives; the pong itself may be behind megabytes.
            let deadline = (*since).max(self.heard) + self.times.pong;
            return if now >= deadline { Due::Silent } else { Due::At(deadline) };
        }
        let idle = self.heard + self.times.ping_idle;
        if now < idle {
            return Due::At(idle);
        }
        self.waiting.push_back((Asker::Ourselves, OUR_PONG_BYTES, now));
        Due::Ping(ping(0, OUR_PONG_BYTES))
    }

    /// Are pings and pongs within their bounds?
    #[cfg(feature = "fuzzing")]
    pub(crate) fn check(&self) {
        assert!(self.owed.len() <= MAX_OWED_PONGS);
        // The master's, and one of our own.
        assert!(self.waiting.len() <= MAX_PINGS + 1);
    }
}

fn ping(length: u16, num_pong_bytes: u16) -> Vec<u8> {
    // A message is 65535 bytes at most: two for its type, two for each number.
    let length = usize::from(length).min(65535 - 6);
    Ping { num_pong_bytes, ignored: vec![0; length] }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{PING_IDLE, PONG_DEADLINE};
    use std::time::Duration;

    fn pings() -> (Pings, Instant) {
        let now = Instant::now();
        (Pings::new(now, Times::default()), now)
    }
    fn ping_for(num_pong_bytes: u16) -> Ping {
        Ping { num_pong_bytes, ignored: vec![] }
    }

    #[test]
    fn ping_below_65532_gets_the_bytes_it_asks_for_others_none() {
        let (mut pings, now) = pings();
        for (asked, pong) in
            [(0, Some(4)), (1, Some(5)), (65531, Some(65535)), (65532, None), (65535, None)]
        {
            pings.on_ping(&ping_for(asked)).unwrap();
            assert_eq!(pings.next_pong(now).map(|m| m.len()), pong, "{asked}");
        }
    }

    #[test]
    fn pongs_that_are_not_read_are_owed_within_a_bound() {
        let (mut pings, _) = pings();
        for _ in 0..MAX_OWED_PONGS {
            pings.on_ping(&ping_for(65531)).unwrap();
        }
        assert_eq!(pings.on_ping(&ping_for(1)), Err(Flood));
    }

    #[test]
    fn pongs_go_out_one_a_second_after_a_burst() {
        let (mut pings, start) = pings();
        let (mut bytes, mut flooded) = (0, None);
        // A ping each millisecond for two minutes.
        for ms in 0..120_000 {
            let now = start + Duration::from_millis(ms);
            if flooded.is_none() && pings.on_ping(&ping_for(65531)).is_err() {
                flooded = Some(ms);
            }
            bytes += std::iter::from_fn(|| pings.next_pong(now)).map(|m| m.len()).sum::<usize>();
        }
        let (burst, owed) = (PONG_BURST as usize, MAX_OWED_PONGS);
        assert_eq!(flooded, Some((burst + owed) as u64), "the peer is hung up on");
        assert_eq!(bytes, (burst + owed) * 65535, "what was owed by then is paid");
        // At the rate that is answered a peer may go on for ever.
        let (mut pings, start) = self::pings();
        for s in 0..100_000 {
            let now = start + PONG_EVERY * s;
            pings.on_ping(&ping_for(1)).unwrap();
            assert_eq!(pings.pong_due(now), Some((now, 1)));
            assert!(pings.next_pong(now).is_some());
        }
    }

    #[test]
    fn idle_peer_is_pinged_and_a_silent_one_hung_up_on() {
        let (mut pings, start) = pings();
        assert_eq!(pings.due(start, false), Due::At(start + PING_IDLE));
        let now = start + PING_IDLE;
        assert_eq!(pings.due(now, false), Due::Ping(vec![0, 18, 0, 1, 0, 0]));
        assert_eq!(pings.due(now, false), Due::At(now + PONG_DEADLINE));
        assert_eq!(pings.due(now + PONG_DEADLINE, false), Due::Silent);
    }

    #[test]
    fn pong_or_any_other_word_keeps_the_connection() {
        let (mut pings, start) = pings();
        let now = start + PING_IDLE;
        pings.due(now, false);
        pings.heard(now + Duration::from_secs(50));
        let deadline = now + Duration::from_secs(50) + PONG_DEADLINE;
        assert_eq!(pings.due(now + PONG_DEADLINE, false), Due::At(deadline));
        assert_eq!(pings.on_pong(&Pong { ignored: vec![0] }), None);
        pings.heard(now + PONG_DEADLINE);
        let next = now + PONG_DEADLINE + PING_IDLE;
        assert_eq!(pings.due(now + PONG_DEADLINE, false), Due::At(next));
    }

    #[test]
    fn silence_of_a_peer_that_is_not_read_means_nothing() {
        let (mut pings, start) = pings();
        pings.due(start + PING_IDLE, false);
        let late = start + PING_IDLE + 10 * PONG_DEADLINE;
        assert_eq!(pings.due(late, true), Due::At(late + PONG_DEADLINE));
    }

    #[test]
    fn masters_ping_is_answered_with_its_own_number() {
        let (mut pings, now) = pings();
        let (message, answered) = pings.order(7, 10, 100, now).unwrap();
        assert_eq!((message.len(), answered), (6 + 10, true));
        assert!(!pings.order(8, 0, NO_PONG, now).unwrap().1);
        assert_eq!(pings.order(9, 65535, 5, now).unwrap().0.len(), 65535);
        assert_eq!(pings.on_pong(&Pong { ignored: vec![0; 3] }), None, "answers nothing");
        assert_eq!(pings.on_pong(&Pong { ignored: vec![0; 100] }), Some(7));
        assert_eq!(pings.on_pong(&Pong { ignored: vec![0; 100] }), None, "only once");
        assert_eq!(pings.on_pong(&Pong { ignored: vec![0; 5] }), Some(9));
        for ask in 0..MAX_PINGS as u64 {
            assert!(pings.order(ask, 0, 1, now).is_some());
        }
        assert_eq!(pings.order(99, 0, 1, now), None);
    }
}
