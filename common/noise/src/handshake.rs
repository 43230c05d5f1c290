//! The acts. Each step takes the machine by value and gives back the next one, so that no act can
//! come twice or early; a refused act leaves nothing behind to go on with.

use crate::symmetric::{TAG_LEN, decrypt, encrypt, hkdf2, mix};
use crate::transport::Transport;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use primitives::Secret;
use secp256k1::ecdh::SharedSecret;
use secp256k1::{PublicKey, SecretKey};
use std::fmt;
use wire::hsm::{MixEcdh, MixedKeys};
use zeroize::Zeroize;

/// Bytes of act one: version, ephemeral key, tag.
pub const ACT_ONE_LEN: usize = 50;
/// Bytes of act two: version, ephemeral key, tag.
pub const ACT_TWO_LEN: usize = 50;
/// Bytes of act three: version, sealed static key with its tag, tag.
pub const ACT_THREE_LEN: usize = 66;

/// The only version there is. BOLT 8, "Handshake Versioning".
const VERSION: u8 = 0;

/// One of the handshake's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Initiator to responder.
    One,
    /// Responder to initiator.
    Two,
    /// Initiator to responder, with the initiator's identity.
    Three,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "act one",
            Self::Two => "act two",
            Self::Three => "act three",
        })
    }
}

/// Why a handshake is over. BOLT 8: the connection ends, and the other side is told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// Not the act's exact length.
    Length {
        /// Which.
        act: Act,
        /// How many bytes there were.
        got: usize,
    },
    /// A version we do not speak.
    Version {
        /// Which.
        act: Act,
        /// Its first byte, the version.
        version: u8,
    },
    /// The key in it is no point of the curve.
    BadPoint {
        /// Which.
        act: Act,
    },
    /// The closing tag does not fit. In act one: the initiator does not know our key.
    BadTag {
        /// Which.
        act: Act,
    },
    /// Act three's static key does not decrypt.
    BadStaticKey,
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { act, got } => write!(f, "{act} has {got} bytes"),
            Self::Version { act, version } => write!(f, "{act} has unknown version {version}"),
            Self::BadPoint { act } => write!(f, "{act} carries a key that is no point"),
            Self::BadTag { act } => write!(f, "{act} has a bad tag"),
            Self::BadStaticKey => write!(f, "act three: the static key does not decrypt"),
        }
    }
}
impl std::error::Error for HandshakeError {}

/// A dialling node that has sent act one and waits for act two.
#[derive(Debug)]
pub struct Initiator {
    state: State,
    ephemeral: Ephemeral,
    our_id: PublicKey,
}

impl Initiator {
    /// Begins. `ephemeral` must be fresh from a strong generator; it is never used again.
    pub fn start(
        our_id: PublicKey,
        their_id: PublicKey,
        ephemeral: SecretKey,
    ) -> (Self, [u8; ACT_ONE_LEN]) {
        let ephemeral = Ephemeral(ephemeral);
        let mut state = State::new(&their_id);
        let e = ephemeral.point();
        state.absorb(&e.serialize());
        let key = state.mix(&ephemeral.ecdh(&their_id));
        let act = keyed_act(&e, &state.seal_nothing(&key));
        (Self { state, ephemeral, our_id }, act)
    }

    /// Reads act two; what comes back waits for the node's ECDH.
    pub fn act_two(mut self, act: &[u8]) -> Result<InitiatorAsks, HandshakeError> {
        let (re, tag) = read_keyed_act(Act::Two, act)?;
        self.state.absorb(&re.serialize());
        let key = self.state.mix(&self.ephemeral.ecdh(&re));
        self.state.open_nothing(Act::Two, &key, &tag)?;
        Ok(InitiatorAsks { state: self.state, key, our_id: self.our_id, re })
    }
}

/// A dialling node that needs its own secret for act three.
#[derive(Debug)]
pub struct InitiatorAsks {
    state: State,
    key: Secret<32>,
    our_id: PublicKey,
    re: PublicKey,
}

impl InitiatorAsks {
    /// The question to hsmd, which holds the node's secret.
    pub fn question(&self) -> MixEcdh {
        MixEcdh { point: self.re, chaining_key: self.state.chaining_key.clone() }
    }

    /// With the question's answer: act three, and the ciphers. The peer is who it should be already
    /// now.
    pub fn answer(mut self, mixed: MixedKeys) -> ([u8; ACT_THREE_LEN], Transport) {
        let mut sealed_id = self.our_id.serialize();
        let id_tag = encrypt(&self.key, 1, &self.state.digest, &mut sealed_id);
        self.state.absorb_all(&[&sealed_id, &id_tag]);
        let key = self.state.mixed(mixed);
        let tag = self.state.seal_nothing(&key);

        let mut act = [VERSION; ACT_THREE_LEN];
        let parts = sealed_id.iter().chain(&id_tag).chain(&tag);
        for (to, from) in act.iter_mut().skip(1).zip(parts) {
            *to = *from;
        }
        // Step 6: the first key is the initiator's to send with.
        let (send, receive) = hkdf2(self.state.chaining_key.expose(), &[]);
        (act, Transport::new(&self.state.chaining_key, send, receive))
    }
}

/// A listening node that waits for act one.
#[derive(Debug)]
pub struct Responder {
    state: State,
    ephemeral: Ephemeral,
}

impl Responder {
    /// Begins. `ephemeral` must be fresh from a strong generator; it is never used again.
    pub fn new(our_id: PublicKey, ephemeral: SecretKey) -> Self {
        Self { state: State::new(&our_id), ephemeral: Ephemeral(ephemeral) }
    }

    /// Reads act one; what comes back waits for the node's ECDH. Nothing is proved yet.
    pub fn act_one(mut self, act: &[u8]) -> Result<ResponderAsks, HandshakeError> {
        let (re, tag) = read_keyed_act(Act::One, act)?;
        self.state.absorb(&re.serialize());
        Ok(ResponderAsks { state: self.state, ephemeral: self.ephemeral, re, tag })
    }
}

/// A listening node that needs its own secret to judge act one.
#[derive(Debug)]
pub struct ResponderAsks {
    state: State,
    ephemeral: Ephemeral,
    re: PublicKey,
    tag: [u8; TAG_LEN],
}

impl ResponderAsks {
    /// The question to hsmd, which holds the node's secret.
    pub fn question(&self) -> MixEcdh {
        MixEcdh { point: self.re, chaining_key: self.state.chaining_key.clone() }
    }

    /// With the question's answer: does the initiator know us? If so, act two.
    pub fn answer(
        mut self,
        mixed: MixedKeys,
    ) -> Result<(ResponderWaits, [u8; ACT_TWO_LEN]), HandshakeError> {
        let key = self.state.mixed(mixed);
        self.state.open_nothing(Act::One, &key, &self.tag)?;

        let e = self.ephemeral.point();
        self.state.absorb(&e.serialize());
        let key = self.state.mix(&self.ephemeral.ecdh(&self.re));
        let act = keyed_act(&e, &self.state.seal_nothing(&key));
        Ok((ResponderWaits { state: self.state, ephemeral: self.ephemeral, key }, act))
    }
}

/// A listening node that has sent act two and waits for act three.
#[derive(Debug)]
pub struct ResponderWaits {
    state: State,
    ephemeral: Ephemeral,
    key: Secret<32>,
}

impl ResponderWaits {
    /// Reads act three: who the initiator is, proved, and the ciphers.
    pub fn act_three(mut self, act: &[u8]) -> Result<(PublicKey, Transport), HandshakeError> {
        let wrong_length = HandshakeError::Length { act: Act::Three, got: act.len() };
        let act: &[u8; ACT_THREE_LEN] = act.try_into().map_err(|_| wrong_length)?;
        let (version, rest) = act.split_first().ok_or(wrong_length)?;
        known_version(Act::Three, *version)?;
        let (sealed_id, rest) = rest.split_first_chunk::<33>().ok_or(wrong_length)?;
        let (id_tag, rest) = rest.split_first_chunk::<TAG_LEN>().ok_or(wrong_length)?;
        let tag: &[u8; TAG_LEN] = rest.try_into().map_err(|_| wrong_length)?;

        let mut id = *sealed_id;
        decrypt(&self.key, 1, &self.state.digest, &mut id, id_tag)
            .map_err(|_| HandshakeError::BadStaticKey)?;
        self.state.absorb_all(&[sealed_id, id_tag]);
        let rs = point(Act::Three, &id)?;
        let key = self.state.mix(&self.ephemeral.ecdh(&rs));
        self.state.open_nothing(Act::Three, &key, tag)?;

        // Step 9: the first key is the initiator's to send with, so ours to receive with.
        let (receive, send) = hkdf2(self.state.chaining_key.expose(), &[]);
        Ok((rs, Transport::new(&self.state.chaining_key, send, receive)))
    }
}

/// `h` and `ck`. BOLT 8, "Handshake State".
#[derive(Debug)]
struct State {
    digest: [u8; 32],
    chaining_key: Secret<32>,
}

impl State {
    /// BOLT 8, "Handshake State Initialization": both ends begin with the responder's key.
    fn new(responder: &PublicKey) -> Self {
        let name = sha256::Hash::hash(b"Noise_XK_secp256k1_ChaChaPoly_SHA256").to_byte_array();
        let mut state = Self { digest: name, chaining_key: Secret::new(name) };
        state.absorb(b"lightning");
        state.absorb(&responder.serialize());
        state
    }
    fn absorb(&mut self, bytes: &[u8]) {
        self.absorb_all(&[bytes]);
    }
    /// `h = SHA256(h || parts)`.
    fn absorb_all(&mut self, parts: &[&[u8]]) {
        let mut engine = sha256::Hash::engine();
        engine.input(&self.digest);
        parts.iter().for_each(|part| engine.input(part));
        self.digest = sha256::Hash::from_engine(engine).to_byte_array();
    }
    /// `ck, temp_k = HKDF(ck, shared)`.
    fn mix(&mut self, shared: &Secret<32>) -> Secret<32> {
        self.mixed(mix(&self.chaining_key, shared))
    }
    /// The same, done elsewhere.
    fn mixed(&mut self, mixed: MixedKeys) -> Secret<32> {
        self.chaining_key = mixed.chaining_key;
        mixed.key
    }
    /// The tag that closes an act we send, itself absorbed.
    fn seal_nothing(&mut self, key: &Secret<32>) -> [u8; TAG_LEN] {
        let tag = encrypt(key, 0, &self.digest, &mut []);
        self.absorb(&tag);
        tag
    }
    /// The tag that closes an act we read, checked and absorbed.
    fn open_nothing(
        &mut self,
        act: Act,
        key: &Secret<32>,
        tag: &[u8; TAG_LEN],
    ) -> Result<(), HandshakeError> {
        decrypt(key, 0, &self.digest, &mut [], tag).map_err(|_| HandshakeError::BadTag { act })?;
        self.absorb(tag);
        Ok(())
    }
}

/// A key for one handshake; wiped as well as the library lets us.
struct Ephemeral(SecretKey);

impl Ephemeral {
    fn point(&self) -> PublicKey {
        self.0.public_key(secp256k1::SECP256K1)
    }
    fn ecdh(&self, point: &PublicKey) -> Secret<32> {
        let mut shared = SharedSecret::new(point, &self.0);
        let mut bytes = shared.secret_bytes();
        let secret = Secret::new(bytes);
        bytes.zeroize();
        shared.non_secure_erase();
        secret
    }
}
impl Drop for Ephemeral {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}
impl fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ephemeral(..)")
    }
}

/// Acts one and two: `0 || key || tag`.
fn keyed_act(key: &PublicKey, tag: &[u8; TAG_LEN]) -> [u8; ACT_ONE_LEN] {
    let mut act = [VERSION; ACT_ONE_LEN];
    for (to, from) in act.iter_mut().skip(1).zip(key.serialize().iter().chain(tag)) {
        *to = *from;
    }
    act
}

fn read_keyed_act(act: Act, bytes: &[u8]) -> Result<(PublicKey, [u8; TAG_LEN]), HandshakeError> {
    let wrong_length = HandshakeError::Length { act, got: bytes.len() };
    let exact: &[u8; ACT_ONE_LEN] = bytes.try_into().map_err(|_| wrong_length)?;
    let (version, rest) = exact.split_first().ok_or(wrong_length)?;
    known_version(act, *version)?;
    let (key, tag) = rest.split_first_chunk::<33>().ok_or(wrong_length)?;
    let tag = tag.try_into().map_err(|_| wrong_length)?;
    Ok((point(act, key)?, tag))
}

fn known_version(act: Act, version: u8) -> Result<(), HandshakeError> {
    if version == VERSION { Ok(()) } else { Err(HandshakeError::Version { act, version }) }
}

fn point(act: Act, bytes: &[u8; 33]) -> Result<PublicKey, HandshakeError> {
    PublicKey::from_slice(bytes).map_err(|_| HandshakeError::BadPoint { act })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }
    fn public(byte: u8) -> PublicKey {
        key(byte).public_key(secp256k1::SECP256K1)
    }
    /// The answer of a holder of this secret.
    fn answer(byte: u8, question: &MixEcdh) -> MixedKeys {
        let shared = SharedSecret::new(&question.point, &key(byte)).secret_bytes();
        mix(&question.chaining_key, &Secret::new(shared))
    }
    /// A dialler that sent act one, and a listener that answered it.
    fn after_act_two() -> (Initiator, ResponderWaits, [u8; ACT_TWO_LEN]) {
        let (initiator, one) = Initiator::start(public(1), public(2), key(3));
        let asks = Responder::new(public(2), key(4)).act_one(&one).unwrap();
        let mixed = answer(2, &asks.question());
        let (responder, two) = asks.answer(mixed).unwrap();
        (initiator, responder, two)
    }

    #[test]
    fn handshake_ends_with_each_others_keys() {
        let (initiator, responder, two) = after_act_two();
        let asks = initiator.act_two(&two).unwrap();
        let mixed = answer(1, &asks.question());
        let (three, mut dialler) = asks.answer(mixed);
        let (who, mut listener) = responder.act_three(&three).unwrap();
        assert_eq!(who, public(1));

        let mut wire = Vec::new();
        dialler.sealer.seal(b"hello", &mut wire).unwrap();
        let (header, body) = wire.split_first_chunk_mut::<18>().unwrap();
        assert_eq!(listener.opener.open_header(header).unwrap(), 5);
        assert_eq!(listener.opener.open_body(body).unwrap(), b"hello");

        let mut wire = Vec::new();
        listener.sealer.seal(b"", &mut wire).unwrap();
        let (header, body) = wire.split_first_chunk_mut::<18>().unwrap();
        assert_eq!(dialler.opener.open_header(header).unwrap(), 0);
        assert_eq!(dialler.opener.open_body(body).unwrap(), b"");
    }

    #[test]
    fn dialling_the_wrong_node_fails_at_act_one() {
        let (_, one) = Initiator::start(public(1), public(9), key(3));
        let asks = Responder::new(public(2), key(4)).act_one(&one).unwrap();
        let mixed = answer(2, &asks.question());
        assert_eq!(asks.answer(mixed).unwrap_err(), HandshakeError::BadTag { act: Act::One });
    }

    #[test]
    fn stranger_who_claims_anothers_id_fails_at_act_three() {
        let (one_id, other_secret) = (public(1), 7);
        let (initiator, one) = Initiator::start(one_id, public(2), key(3));
        let asks = Responder::new(public(2), key(4)).act_one(&one).unwrap();
        let mixed = answer(2, &asks.question());
        let (responder, two) = asks.answer(mixed).unwrap();
        let asks = initiator.act_two(&two).unwrap();
        let wrong = answer(other_secret, &asks.question());
        let (three, _) = asks.answer(wrong);
        let refused = responder.act_three(&three).unwrap_err();
        assert_eq!(refused, HandshakeError::BadTag { act: Act::Three });
    }

    #[test]
    fn secrets_are_not_printed() {
        let (initiator, responder, _) = after_act_two();
        let shown = format!("{initiator:?} {responder:?}");
        assert!(shown.contains("Ephemeral(..)") && shown.contains("Secret(..)"), "{shown}");
    }

    /// Any bytes of about the right length, mostly with the version and key prefix that get past
    /// the first checks.
    fn act_bytes(len: usize) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..=len + 8),
            prop::collection::vec(any::<u8>(), len).prop_map(|mut bytes| {
                bytes[0] = 0;
                bytes[1] = 2 | (bytes[1] & 1);
                bytes
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn arbitrary_bytes_never_pass_for_act_one(bytes in act_bytes(ACT_ONE_LEN)) {
            if let Ok(asks) = Responder::new(public(2), key(4)).act_one(&bytes) {
                let point = asks.question().point.serialize();
                let any = Secret::new(*point.first_chunk::<32>().unwrap());
                let mixed = MixedKeys { chaining_key: any.clone(), key: any };
                prop_assert!(asks.answer(mixed).is_err());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn arbitrary_bytes_never_pass_for_act_two(bytes in act_bytes(ACT_TWO_LEN)) {
            let initiator = Initiator {
                state: State::new(&public(2)),
                ephemeral: Ephemeral(key(3)),
                our_id: public(1),
            };
            prop_assert!(initiator.act_two(&bytes).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn arbitrary_bytes_never_pass_for_act_three(bytes in act_bytes(ACT_THREE_LEN)) {
            let responder = ResponderWaits {
                state: State { digest: [1; 32], chaining_key: Secret::new([2; 32]) },
                ephemeral: Ephemeral(key(4)),
                key: Secret::new([3; 32]),
            };
            prop_assert!(responder.act_three(&bytes).is_err());
        }
    }
}
