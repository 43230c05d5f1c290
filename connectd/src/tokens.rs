//! The tokens that poll reports: whose descriptor each is.

use crate::conn::ConnId;
use crate::mux::DaemonId;
use mio::Token;

/// Wakes for the master's orders.
pub(crate) const ORDERS: Token = Token(0);
/// Wakes when the master reads our reports.
pub(crate) const REPORTS: Token = Token(1);
/// Wakes for names looked up.
pub(crate) const RESOLVER: Token = Token(2);
/// The first listener's; the others follow.
pub(crate) const LISTENERS: usize = 16;
/// Above this: connections and, right behind each, its daemons.
pub(crate) const CONNECTIONS: usize = 1 << 24;
/// The two parts of such a token.
const DAEMON_BITS: u32 = 24;
/// What of a connection's number is in its token: the high bits tell one connectd from another, the
/// master says which (`ConnectdInit`).
pub(crate) const LOW_ID: ConnId = (1 << (usize::BITS - DAEMON_BITS)) - 1;

/// The token of a connection, or of its daemon: the low bits of its number, and which daemon.
pub(crate) const fn token_of(id: ConnId, daemon: Option<DaemonId>) -> Token {
    let low = match daemon {
        None => 0,
        // A connection that has had 16 million daemons starts again at 1: those before are long
        // gone.
        Some(n) => 1 + (n as usize) % ((1 << DAEMON_BITS) - 1),
    };
    Token((id as usize) << DAEMON_BITS | low)
}

/// The low bits of the connection's number, and which of its daemons.
pub(crate) const fn source_of(token: Token) -> (ConnId, Option<DaemonId>) {
    let low = token.0 & ((1 << DAEMON_BITS) - 1);
    let daemon = if low == 0 { None } else { Some(low as DaemonId - 1) };
    ((token.0 >> DAEMON_BITS) as ConnId, daemon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_the_low_bits_of_the_number_and_the_daemon() {
        for high in [0, 1 << 40, 255 << 40, 256 << 40, 70_000 << 40] {
            for low in [1, 2, 1 << 24, LOW_ID] {
                for daemon in [None, Some(0), Some(1), Some((1 << 24) - 2)] {
                    assert_eq!(source_of(token_of(high | low, daemon)), (low, daemon));
                }
            }
        }
    }
}
