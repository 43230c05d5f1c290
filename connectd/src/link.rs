//! One connection as bytes: the handshake first, messages after. No socket, no clock, no
//! randomness.
//!
//! The owner reads into [`Link::room`], steps until it says [`LinkStep::Wait`], and writes what
//! [`Link::out`] holds. Where the node's secret is needed the link stops with [`LinkStep::Mix`], to
//! be resumed by [`Link::mixed`].

use crate::bytes::{InQueue, OutQueue};
use crate::limits::READ_CHUNK;
use noise::{
    ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, HEADER_LEN, HandshakeError, Initiator, InitiatorAsks,
    OpenError, Opener, Responder, ResponderAsks, ResponderWaits, Sealer, TAG_LEN, TooLong,
    Transport,
};
use primitives::{Point, SecretKey};
use std::fmt;
use wire::hsm::{MixEcdh, MixedKeys};

/// The next event in the bytes that have come so far.
#[derive(Debug)]
pub enum LinkStep<'a> {
    /// More bytes are needed.
    Wait,
    /// The handshake needs hsmd's answer to this; go on with [`Link::mixed`].
    Mix(MixEcdh),
    /// The peer has proved who it is. As responder: act three was good. As initiator: act two was;
    /// act three has not been written yet and will be with [`Link::mixed`]. So a dial can still be
    /// dropped without the peer ever knowing.
    Authenticated(Point),
    /// A message. It is gone with the next step.
    Message(&'a [u8]),
}

/// Why a connection's bytes make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkError {
    /// Before the first message: BOLT 8's acts.
    Handshake(HandshakeError),
    /// After it.
    Cipher(OpenError),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(e) => write!(f, "handshake: {e}"),
            Self::Cipher(e) => e.fmt(f),
        }
    }
}
impl std::error::Error for LinkError {}

/// A connection's ciphers and what waits on either side of them.
#[derive(Debug)]
pub struct Link {
    phase: Phase,
    incoming: InQueue,
    out: OutQueue,
}

#[derive(Debug)]
enum Phase {
    AwaitsActOne(Box<Responder>),
    /// Asked for the ECDH of act one.
    ListenerAsks(Box<ResponderAsks>),
    AwaitsActThree(Box<ResponderWaits>),
    AwaitsActTwo(Box<Initiator>, Point),
    /// Said who the peer is; about to ask for the ECDH of act three.
    DialerKnows(Box<InitiatorAsks>),
    /// Asked for the ECDH of act three.
    DialerAsks(Box<InitiatorAsks>),
    Header(Box<Ciphers>),
    Body(Box<Ciphers>, u16),
    Broken,
}

#[derive(Debug)]
struct Ciphers {
    sealer: Sealer,
    opener: Opener,
}

impl Ciphers {
    fn new(transport: Transport) -> Box<Self> {
        Box::new(Self { sealer: transport.sealer, opener: transport.opener })
    }
}

impl Link {
    /// For a connection that somebody opened to us. `ephemeral` must be fresh.
    pub fn listener(our_id: Point, ephemeral: SecretKey) -> Self {
        Self::new(Phase::AwaitsActOne(Box::new(Responder::new(our_id, ephemeral))))
    }

    /// For a connection that we opened; act one waits in [`Link::out`]. `ephemeral` must be fresh.
    pub fn dialler(our_id: Point, their_id: Point, ephemeral: SecretKey) -> Self {
        let (initiator, act) = Initiator::start(our_id, their_id, ephemeral);
        let mut link = Self::new(Phase::AwaitsActTwo(Box::new(initiator), their_id));
        link.out.tail().extend_from_slice(&act);
        link
    }

    fn new(phase: Phase) -> Self {
        Self { phase, incoming: InQueue::default(), out: OutQueue::default() }
    }

    /// How many more bytes complete what is awaited.
    fn missing(&self) -> usize {
        let whole = match &self.phase {
            Phase::AwaitsActOne(_) => ACT_ONE_LEN,
            Phase::AwaitsActTwo(..) => ACT_TWO_LEN,
            Phase::AwaitsActThree(_) => ACT_THREE_LEN,
            Phase::Header(_) => HEADER_LEN,
            Phase::Body(_, len) => usize::from(*len) + TAG_LEN,
            Phase::ListenerAsks(_)
            | Phase::DialerKnows(_)
            | Phase::DialerAsks(_)
            | Phase::Broken => 0,
        };
        whole.saturating_sub(self.incoming.len())
    }

    /// Where to read the peer's bytes into. A stranger gets no more room than its act takes.
    pub fn room(&mut self) -> &mut [u8] {
        let missing = self.missing();
        let wanted = if self.is_open() { missing.max(READ_CHUNK) } else { missing };
        let room = self.incoming.room(wanted);
        let len = room.len().min(wanted);
        room.split_at_mut(len).0
    }
    /// So many bytes of the room were read.
    pub fn filled(&mut self, n: usize) {
        self.incoming.filled(n);
    }
    /// Bytes of memory that the queue of incoming bytes holds.
    pub fn incoming_capacity(&self) -> usize {
        self.incoming.capacity()
    }
    /// Is the handshake over?
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Header(_) | Phase::Body(..))
    }
    /// Bytes to write.
    pub const fn out(&mut self) -> &mut OutQueue {
        &mut self.out
    }
    /// How much that is.
    pub fn out_len(&self) -> usize {
        self.out.len()
    }

    /// The next event. After an error the link is broken and only waits.
    pub fn step(&mut self) -> Result<LinkStep<'_>, LinkError> {
        if self.missing() > 0 {
            self.incoming.rest();
            return Ok(LinkStep::Wait);
        }
        match std::mem::replace(&mut self.phase, Phase::Broken) {
            phase @ (Phase::ListenerAsks(_) | Phase::DialerAsks(_) | Phase::Broken) => {
                self.phase = phase;
                Ok(LinkStep::Wait)
            }
            Phase::AwaitsActOne(responder) => {
                let act = self.incoming.take(ACT_ONE_LEN).unwrap_or_default();
                let asks = responder.act_one(act).map_err(LinkError::Handshake)?;
                let question = asks.question();
                self.phase = Phase::ListenerAsks(Box::new(asks));
                Ok(LinkStep::Mix(question))
            }
            Phase::AwaitsActTwo(initiator, their_id) => {
                let act = self.incoming.take(ACT_TWO_LEN).unwrap_or_default();
                let asks = initiator.act_two(act).map_err(LinkError::Handshake)?;
                self.phase = Phase::DialerKnows(Box::new(asks));
                Ok(LinkStep::Authenticated(their_id))
            }
            Phase::DialerKnows(asks) => {
                let question = asks.question();
                self.phase = Phase::DialerAsks(asks);
                Ok(LinkStep::Mix(question))
            }
            Phase::AwaitsActThree(responder) => {
                let act = self.incoming.take(ACT_THREE_LEN).unwrap_or_default();
                let (who, transport) = responder.act_three(act).map_err(LinkError::Handshake)?;
                self.phase = Phase::Header(Ciphers::new(transport));
                Ok(LinkStep::Authenticated(who))
            }
            Phase::Header(mut ciphers) => {
                let header = self.incoming.take(HEADER_LEN).unwrap_or_default();
                let exact = (&*header).try_into().map_err(|_| OpenError::OutOfStep);
                let opened = exact.and_then(|header| ciphers.opener.open_header(header));
                self.phase = Phase::Body(ciphers, opened.map_err(LinkError::Cipher)?);
                self.step()
            }
            Phase::Body(mut ciphers, len) => {
                let body = self.incoming.take(usize::from(len) + TAG_LEN).unwrap_or_default();
                let message = ciphers.opener.open_body(body).map_err(LinkError::Cipher)?;
                self.phase = Phase::Header(ciphers);
                Ok(LinkStep::Message(message))
            }
        }
    }

    /// The answer to [`LinkStep::Mix`].
    pub fn mixed(&mut self, mixed: MixedKeys) -> Result<(), LinkError> {
        match std::mem::replace(&mut self.phase, Phase::Broken) {
            Phase::ListenerAsks(asks) => {
                let (responder, act) = asks.answer(mixed).map_err(LinkError::Handshake)?;
                self.out.tail().extend_from_slice(&act);
                self.phase = Phase::AwaitsActThree(Box::new(responder));
            }
            Phase::DialerAsks(asks) => {
                let (act, transport) = asks.answer(mixed);
                self.out.tail().extend_from_slice(&act);
                self.phase = Phase::Header(Ciphers::new(transport));
            }
            other @ (Phase::AwaitsActOne(_)
            | Phase::AwaitsActTwo(..)
            | Phase::AwaitsActThree(_)
            | Phase::DialerKnows(_)
            | Phase::Header(_)
            | Phase::Body(..)
            | Phase::Broken) => self.phase = other,
        }
        Ok(())
    }

    /// Seals a message behind what waits already. Before the handshake is over there is nobody to
    /// say it to, and it is dropped.
    pub fn say(&mut self, message: &[u8]) -> Result<(), TooLong> {
        match &mut self.phase {
            Phase::Header(ciphers) | Phase::Body(ciphers, _) => {
                ciphers.sealer.seal(message, self.out.tail())
            }
            Phase::AwaitsActOne(_)
            | Phase::ListenerAsks(_)
            | Phase::AwaitsActThree(_)
            | Phase::AwaitsActTwo(..)
            | Phase::DialerKnows(_)
            | Phase::DialerAsks(_)
            | Phase::Broken => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::limits::PEER_IN_MAX;
    use primitives::Secret;
    use proptest::prelude::*;
    use secp256k1::ecdh::SharedSecret;
    use std::sync::LazyLock;

    pub(crate) fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }
    pub(crate) fn public(byte: u8) -> Point {
        key(byte).public_key(secp256k1::SECP256K1)
    }
    /// hsmd's answer.
    fn answer(secret: u8, question: &MixEcdh) -> MixedKeys {
        let shared = SharedSecret::new(&question.point, &key(secret)).secret_bytes();
        noise::mix(&question.chaining_key, &Secret::new(shared))
    }

    /// Node 1 dials node 2.
    fn pair() -> (Link, Link) {
        (Link::dialler(public(1), public(2), key(3)), Link::listener(public(2), key(4)))
    }

    #[derive(Debug, PartialEq)]
    enum Seen {
        Peer(Point),
        Message(Vec<u8>),
        Error(LinkError),
    }

    /// Everything a link does with what it has.
    fn drain(link: &mut Link, secret: u8) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            match link.step() {
                Ok(LinkStep::Wait) => return seen,
                Ok(LinkStep::Authenticated(who)) => seen.push(Seen::Peer(who)),
                Ok(LinkStep::Message(m)) => seen.push(Seen::Message(m.to_vec())),
                Ok(LinkStep::Mix(question)) => {
                    if let Err(e) = link.mixed(answer(secret, &question)) {
                        seen.push(Seen::Error(e));
                        return seen;
                    }
                }
                Err(e) => {
                    seen.push(Seen::Error(e));
                    return seen;
                }
            }
        }
    }

    /// Gives `bytes` in pieces of at most `piece`.
    fn feed(link: &mut Link, secret: u8, mut bytes: &[u8], piece: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        while !bytes.is_empty() {
            let room = link.room();
            let n = room.len().min(bytes.len()).min(piece);
            if n == 0 {
                break;
            }
            room[..n].copy_from_slice(&bytes[..n]);
            link.filled(n);
            bytes = &bytes[n..];
            seen.extend(drain(link, secret));
            assert!(link.incoming_capacity() <= 2 * PEER_IN_MAX);
        }
        seen
    }
    fn written(link: &mut Link) -> Vec<u8> {
        let bytes = link.out().waiting().to_vec();
        link.out().sent(bytes.len());
        bytes
    }
    fn connected(piece: usize) -> (Link, Link) {
        let (mut dialler, mut listener) = pair();
        let one = written(&mut dialler);
        assert_eq!(feed(&mut listener, 2, &one, piece), []);
        let two = written(&mut listener);
        assert_eq!(feed(&mut dialler, 1, &two, piece), [Seen::Peer(public(2))]);
        let three = written(&mut dialler);
        assert_eq!(feed(&mut listener, 2, &three, piece), [Seen::Peer(public(1))]);
        (dialler, listener)
    }

    #[test]
    fn handshake_and_messages_pass_byte_by_byte() {
        let (mut dialler, mut listener) = connected(1);
        for len in [0, 1, 2, 1000, 65535] {
            dialler.say(&vec![7; len]).unwrap();
        }
        let bytes = written(&mut dialler);
        let seen = feed(&mut listener, 2, &bytes, 999);
        assert_eq!(seen.len(), 5);
        assert_eq!(seen[4], Seen::Message(vec![7; 65535]));
        listener.say(b"back").unwrap();
        let bytes = written(&mut listener);
        assert_eq!(feed(&mut dialler, 1, &bytes, 1), [Seen::Message(b"back".to_vec())]);
    }

    #[test]
    fn message_right_behind_act_three_is_not_lost() {
        let (mut dialler, mut listener) = pair();
        let one = written(&mut dialler);
        feed(&mut listener, 2, &one, 50);
        let two = written(&mut listener);
        feed(&mut dialler, 1, &two, 50);
        dialler.say(b"init").unwrap();
        let bytes = written(&mut dialler);
        let seen = feed(&mut listener, 2, &bytes, usize::MAX);
        assert_eq!(seen, [Seen::Peer(public(1)), Seen::Message(b"init".to_vec())]);
    }

    #[test]
    fn initiator_can_be_dropped_before_the_listener_knows_of_it() {
        let (mut dialler, mut listener) = pair();
        let one = written(&mut dialler);
        feed(&mut listener, 2, &one, 50);
        let two = written(&mut listener);
        dialler.room()[..50].copy_from_slice(&two);
        dialler.filled(50);
        assert!(matches!(dialler.step(), Ok(LinkStep::Authenticated(_))));
        assert!(dialler.out().is_empty(), "act three waits for the ECDH");
    }

    #[test]
    fn stranger_gets_no_room_beyond_its_act() {
        let (_, mut listener) = pair();
        assert_eq!(listener.room().len(), ACT_ONE_LEN);
        assert!(listener.incoming_capacity() <= ACT_ONE_LEN);
    }

    #[test]
    fn nothing_is_said_before_the_handshake_is_over() {
        let (mut dialler, mut listener) = pair();
        listener.say(b"too early").unwrap();
        assert!(listener.out().is_empty());
        dialler.say(b"too early").unwrap();
        assert_eq!(dialler.out().len(), ACT_ONE_LEN);
    }

    fn ends(link: &mut Link, secret: u8, mut bytes: Vec<u8>, piece: usize, version_zero: bool) {
        if version_zero && bytes.len() > 2 {
            bytes[0] = 0;
            bytes[1] = 2;
        }
        let seen = feed(link, secret, &bytes, piece);
        if bytes.len() >= 50 {
            assert!(matches!(seen[..], [Seen::Error(_)]), "{seen:?}");
            assert!(matches!(link.step(), Ok(LinkStep::Wait)));
            assert_eq!(link.room().len(), 0, "a broken link reads no more");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn arbitrary_bytes_end_a_listener_and_nothing_else(
            bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1..100usize, version_zero: bool,
        ) {
            static NODE: LazyLock<Point> = LazyLock::new(|| public(2));
            ends(&mut Link::listener(*NODE, key(4)), 2, bytes, piece, version_zero);
        }
    }

    // A dialler begins with two multiplications of points, a quarter of a millisecond: 10,000. What
    // it reads is an act two, which the crate of the handshake tries 100,000 of.
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn arbitrary_bytes_end_a_dialler_and_nothing_else(
            bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1..100usize, version_zero: bool,
        ) {
            ends(&mut pair().0, 1, bytes, piece, version_zero);
        }
    }

    // A handshake for each case: more than a millisecond, so 2,000. What follows it is opened by
    // the crate of the cipher, which tries 100,000.
    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn arbitrary_bytes_after_the_handshake_end_it(
            bytes in prop::collection::vec(any::<u8>(), 18..300), piece in 1..100usize, good: u8,
        ) {
            let (mut dialler, mut listener) = connected(50);
            let good = usize::from(good % 4);
            for n in 0..good {
                dialler.say(&[n as u8]).unwrap();
            }
            let mut wire = written(&mut dialler);
            wire.extend(bytes);
            let seen = feed(&mut listener, 2, &wire, piece);
            prop_assert_eq!(seen.len(), good + 1);
            prop_assert_eq!(&seen[good], &Seen::Error(LinkError::Cipher(OpenError::Header)));
        }
    }
}
