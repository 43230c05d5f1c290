//! Every bound of this process, by name. What is fed from outside stops at one of these: a source
//! whose queue is full is not read until there is room, or is hung up on.

use primitives::Bucket;
use std::time::Duration;

/// Connections in all, whoever opened them. Beyond it an inbound one without a daemon makes room,
/// of the source that has most of them ([`crate::unauthenticated`]).
pub const MAX_CONNECTIONS: usize = 1500;
/// Descriptors in use, connections and daemons' sockets together, above which nobody is let in and
/// nobody dialled: the process may have 4096, and the master's attachments must always find room.
/// Where the machine allows fewer, so do we.
pub const MAX_DESCRIPTORS: usize = 3500;
/// Descriptors kept free for everything else: listeners, sockets to lightningd and hsmd, lingering
/// connections, attachments under way.
pub const SPARE_DESCRIPTORS: usize = 300;
/// Connections let in per turn of the loop.
pub const ACCEPT_QUANTUM: usize = 64;
/// Strangers served per turn of the loop.
pub const HANDSHAKE_QUANTUM: usize = 8;
/// Connections that were told something last and are read to their end.
pub const MAX_LINGERING: usize = 64;
/// Inbound connections that have not shown who they are. For a further one another makes room, of
/// the source that has most of them ([`crate::unauthenticated`]). Several hundred, so that a peer
/// with a funded channel that comes from the flood's own address has a chance.
pub const MAX_UNAUTHENTICATED: usize = 512;
/// Strangers from one address that, where they are more than the idle peers of any, make room
/// before an idle peer does.
pub const MANY_UNAUTHENTICATED: usize = 32;
/// Connections that the kernel keeps for us until we let them in, first in, first out: more would
/// let a flood that is faster than we are delay a peer with a funded channel.
pub const BACKLOG: i32 = 512;
/// Seconds that the kernel waits for a connection's first bytes before it shows it to us: BOLT 8
/// has the initiator speak first.
pub const DEFER_ACCEPT: u8 = 5;
/// Connections with one peer that are authenticated and have not brought `init`; see
/// [`crate::duplicates`].
pub const MAX_DUPLICATES: usize = 4;
/// Dials under way. A further one waits for a free place.
pub const MAX_DIALS: usize = 128;
/// Orders to dial that wait for a free place; a further one fails.
pub const MAX_WAITING_DIALS: usize = 4096;
/// Addresses tried for one peer.
pub const MAX_ADDRESSES: usize = 16;
/// Host names under way at the resolver; a further one fails.
pub const MAX_LOOKUPS: usize = 64;

/// From the TCP connection to the end of the peer's `init`.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// From our SYN to their SYN-ACK, for one address.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// For the name server's answer.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);
/// A peer that takes not one byte for so long, while there are some for it, is hung up on.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection that was told something last (a warning, an error) has to take it.
pub const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(10);
/// After so much silence we ping.
pub const PING_IDLE: Duration = Duration::from_secs(30);
/// A pong, or anything else, is due so long after our ping.
pub const PONG_DEADLINE: Duration = Duration::from_secs(60);
/// Pings of ours that may be unanswered at a time; a further order to ping fails.
pub const MAX_PINGS: usize = 8;
/// Pongs that a peer gets as fast as it asks for them.
pub const PONG_BURST: u32 = 32;
/// After those it gets one in so much time.
pub const PONG_EVERY: Duration = Duration::from_secs(1);
/// Kibibytes of pongs that all peers without a daemon together get at once, however many they are
/// and however often they come anew; and how long the next one takes.
pub const IDLE_PONGS_BURST: u32 = 4096;
/// See [`IDLE_PONGS_BURST`]: 256 kB a second.
pub const IDLE_PONGS_EVERY: Duration = Duration::from_micros(3906);
/// Pongs that may be owed, because the peer does not read or asks for them too often; one that
/// wants more is told so and hung up on.
pub const MAX_OWED_PONGS: usize = 32;

/// Sealed bytes that may wait for one peer's TCP before its daemons are no longer read.
pub const PEER_OUT_HIGH: usize = 256 * 1024;
/// Sealed bytes that may ever wait for one peer: the mark above, one message more, and what this
/// process says itself.
pub const PEER_OUT_MAX: usize = PEER_OUT_HIGH + 3 * noise::sealed_len(noise::MAX_MESSAGE);
/// Sealed bytes read from one peer and not yet opened: one message and the beginning of the next.
pub const PEER_IN_MAX: usize = noise::sealed_len(noise::MAX_MESSAGE) + READ_CHUNK;
/// Bytes read from a peer at a time, unless its message is longer.
pub const READ_CHUNK: usize = 16 * 1024;
/// Sealed bytes that may wait for all peers together. Above it nothing more is said to whoever has
/// its share of that waiting; others are talked to as ever, so that peers that do not read silence
/// nobody but themselves.
pub const TOTAL_OUT_HIGH: usize = 64 * 1024 * 1024;
/// Bytes that the master may say to a peer that has not read what it said before. A peer that
/// speaks of channels that are nobody's is answered by the master each time: beyond this it is hung
/// up on.
pub const MAX_WORDS: usize = 256 * 1024;

/// Bytes of messages held for one peer's channels without a daemon. Above it the peer is not read.
pub const PEER_HELD_HIGH: usize = 128 * 1024;
/// Channels of one peer without a daemon for which messages are held; a peer that speaks of more is
/// hung up on.
pub const MAX_HELD_CHANNELS: usize = 64;
/// Channels that lightningd serves none of, of which a peer may speak on one connection, and how
/// often beyond that. Each costs the master an event; a node that lost its database knows no
/// channel of its peers.
pub const REFUSALS: Bucket = Bucket::new(1000, Duration::from_millis(100));
/// Messages held for one peer. Above it the peer is not read.
pub const MAX_HELD_MESSAGES: usize = 256;
/// Held bytes of all peers together. Above it a peer that would add to them is hung up on.
pub const TOTAL_HELD_MAX: usize = 64 * 1024 * 1024;
/// How long a message is held for a daemon that does not come.
pub const HELD_TIMEOUT: Duration = Duration::from_secs(60);

/// Sockets of daemons per connection.
pub const MAX_DAEMONS: usize = 1024;
/// Channel ids one daemon may answer to: its temporary and its final one, and one spare for each
/// more funding attempt.
pub const MAX_ROUTES_PER_DAEMON: usize = 4;

/// Bytes of reports that may wait for the master before nobody is let in, and peers without a
/// channel here are no longer read.
pub const REPORTS_HIGH: usize = 4 * 1024 * 1024;

/// Complaints about no channel in particular that one connection may report.
pub const MAX_COMPLAINTS: u32 = 16;

/// Messages taken from one source before the next has its turn.
pub const QUANTUM: usize = 32;

/// The durations above; a test has less time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// [`HANDSHAKE_TIMEOUT`].
    pub handshake: Duration,
    /// [`DIAL_TIMEOUT`].
    pub dial: Duration,
    /// [`LOOKUP_TIMEOUT`].
    pub lookup: Duration,
    /// [`STALL_TIMEOUT`].
    pub stall: Duration,
    /// [`LAST_WORDS_TIMEOUT`].
    pub last_words: Duration,
    /// [`PING_IDLE`].
    pub ping_idle: Duration,
    /// [`PONG_DEADLINE`].
    pub pong: Duration,
    /// [`HELD_TIMEOUT`].
    pub held: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            handshake: HANDSHAKE_TIMEOUT,
            dial: DIAL_TIMEOUT,
            lookup: LOOKUP_TIMEOUT,
            stall: STALL_TIMEOUT,
            last_words: LAST_WORDS_TIMEOUT,
            ping_idle: PING_IDLE,
            pong: PONG_DEADLINE,
            held: HELD_TIMEOUT,
        }
    }
}
