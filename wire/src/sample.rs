//! For tests: a random value of every type that travels.

use crate::*;
use primitives::*;

/// A small generator of numbers that a seed decides, and how many damaged strings were made with
/// it.
pub(crate) struct Rng {
    state: u64,
    pub(crate) damaged: usize,
}

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed, damaged: 0 }
    }
    /// The next number. (splitmix64)
    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

/// A random value.
pub(crate) trait Sample {
    /// One.
    fn sample(r: &mut Rng) -> Self;
}

macro_rules! ints { ($($t:ty),*) => { $( impl Sample for $t {
    // Small and large, edges included.
    fn sample(r: &mut Rng) -> Self { match r.below(4) { 0 => 0, 1 => <$t>::MAX, 2 => r.below(300) as $t, _ => r.next() as $t } }
} )* } }
ints!(u8, u16, u32, u64, i64);

macro_rules! wrapped { ($($t:ident),* $(,)?) => { $( impl Sample for $t {
    fn sample(r: &mut Rng) -> Self { Self(Sample::sample(r)) }
} )* } }
wrapped!(
    ChannelId,
    PaymentHash,
    Sha256Digest,
    Preimage,
    PaymentSecret,
    NodeId,
    HtlcId,
    ChannelNumber,
    CommitmentNumber,
    ShortChannelId,
    BlockHeight,
    CltvDelta,
    FeeratePerKw,
    Sat,
    Msat,
    BigSize,
    Tu16,
    Tu32,
    Tu64,
);

impl Sample for () {
    fn sample(_: &mut Rng) -> Self {}
}
impl Sample for bool {
    fn sample(r: &mut Rng) -> Self {
        r.below(2) == 0
    }
}
impl<const N: usize> Sample for [u8; N] {
    fn sample(r: &mut Rng) -> Self {
        r.bytes(N).try_into().unwrap()
    }
}
impl<const N: usize> Sample for Secret<N> {
    fn sample(r: &mut Rng) -> Self {
        Secret::new(Sample::sample(r))
    }
}
impl Sample for SecretKey {
    fn sample(r: &mut Rng) -> Self {
        SecretKey::from_slice(&r.bytes(32)).unwrap_or(SecretKey::from_slice(&[1; 32]).unwrap())
    }
}
impl Sample for Point {
    fn sample(r: &mut Rng) -> Self {
        SecretKey::sample(r).public_key(secp256k1::SECP256K1)
    }
}
impl Sample for Signature {
    fn sample(r: &mut Rng) -> Self {
        secp256k1::SECP256K1
            .sign_ecdsa(&secp256k1::Message::from_digest(Sample::sample(r)), &SecretKey::sample(r))
    }
}
impl Sample for Txid {
    fn sample(r: &mut Rng) -> Self {
        bitcoin::hashes::Hash::from_byte_array(Sample::sample(r))
    }
}
impl Sample for OutPoint {
    fn sample(r: &mut Rng) -> Self {
        OutPoint { txid: Sample::sample(r), vout: Sample::sample(r) }
    }
}
impl Sample for ScriptBuf {
    fn sample(r: &mut Rng) -> Self {
        let n = r.below(40);
        ScriptBuf::from_bytes(r.bytes(n))
    }
}
impl Sample for Features {
    fn sample(r: &mut Rng) -> Self {
        let n = r.below(10);
        Features::from_be_bytes(&r.bytes(n))
    }
}
impl Sample for Network {
    fn sample(r: &mut Rng) -> Self {
        Network::ALL[r.below(5)]
    }
}
impl Sample for Transaction {
    fn sample(r: &mut Rng) -> Self {
        use bitcoin::{
            Amount, Sequence, TxIn, TxOut, Witness, absolute::LockTime, transaction::Version,
        };
        let input = TxIn {
            previous_output: Sample::sample(r),
            script_sig: ScriptBuf::new(),
            sequence: Sequence(r.next() as u32),
            witness: Witness::from_slice(&[r.bytes(5)]),
        };
        let output =
            TxOut { value: Amount::from_sat(r.next() >> 14), script_pubkey: Sample::sample(r) };
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(7),
            input: vec![input],
            output: vec![output],
        }
    }
}
impl Sample for String {
    fn sample(r: &mut Rng) -> Self {
        let n = r.below(20);
        (0..n).map(|_| char::from(b' ' + r.below(90) as u8)).chain(std::iter::once('é')).collect()
    }
}
impl Sample for Bytes {
    fn sample(r: &mut Rng) -> Self {
        let n = r.below(50);
        Self(r.bytes(n))
    }
}
impl Sample for SecretBytes {
    fn sample(r: &mut Rng) -> Self {
        Self::new(Bytes::sample(r).0)
    }
}
impl Sample for Rest {
    fn sample(r: &mut Rng) -> Self {
        let n = r.below(300);
        Self(r.bytes(n))
    }
}
impl Sample for OnionPacket {
    fn sample(r: &mut Rng) -> Self {
        Self(Box::new(Sample::sample(r)))
    }
}
impl Sample for Side {
    fn sample(r: &mut Rng) -> Self {
        Side::BOTH[r.below(2)]
    }
}
impl<T: Sample> Sample for Vec<T> {
    fn sample(r: &mut Rng) -> Self {
        (0..r.below(4)).map(|_| T::sample(r)).collect()
    }
}
impl<T: Sample> Sample for Long<T> {
    fn sample(r: &mut Rng) -> Self {
        Self(Sample::sample(r))
    }
}
impl<T: Sample> Sample for Option<T> {
    fn sample(r: &mut Rng) -> Self {
        (r.below(2) == 0).then(|| T::sample(r))
    }
}
impl<T: Sample> Sample for Sides<T> {
    fn sample(r: &mut Rng) -> Self {
        Sides { local: T::sample(r), remote: T::sample(r) }
    }
}
impl<A: Sample, B: Sample> Sample for (A, B) {
    fn sample(r: &mut Rng) -> Self {
        (A::sample(r), B::sample(r))
    }
}

/// Checks of every message: it survives the wire, and no damage to it makes its reader panic or
/// lie.
pub(crate) fn check_message<M: Message + Sample + PartialEq + std::fmt::Debug>(r: &mut Rng) {
    let message = M::sample(r);
    let bytes = message.encode();
    assert_eq!(bytes[..2], M::NUMBER.to_be_bytes());
    assert_eq!(M::take_body(&bytes[2..]).as_ref(), Ok(&message), "{}", M::NAME);
    damage(&bytes[2..], r, |body| {
        // A message that is read of damaged bytes must survive the wire, too.
        if let Ok(read) = M::take_body(body) {
            assert_eq!(M::take_body(&read.encode()[2..]), Ok(read), "{}", M::NAME);
        }
    });
}

/// The same for a question and its answer.
pub(crate) fn check_value<T: Wire + Sample + PartialEq + std::fmt::Debug>(r: &mut Rng) {
    let value = T::sample(r);
    let bytes = value.to_bytes();
    assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(&value));
    damage(&bytes, r, |bytes| {
        if let Ok(read) = T::from_bytes(bytes) {
            assert_eq!(T::from_bytes(&read.to_bytes()), Ok(read));
        }
    });
}

/// Each value makes so many damaged strings: to make one costs more, since it has points and
/// signatures.
pub(crate) const DAMAGED: usize = 240;

/// Cut, flipped, longer, and nothing but noise.
fn damage(bytes: &[u8], r: &mut Rng, check: impl Fn(&[u8])) {
    for _ in 0..DAMAGED / 4 {
        let cut = r.below(bytes.len() + 1);
        check(&bytes[..cut]);
        let mut flipped = bytes.to_vec();
        if !flipped.is_empty() {
            for _ in 0..=r.below(3) {
                let at = r.below(flipped.len());
                flipped[at] ^= 1 << r.below(8);
            }
        }
        check(&flipped);
        let extra = r.below(40);
        flipped.extend(r.bytes(extra));
        check(&flipped);
        let noise = r.below(200);
        check(&r.bytes(noise));
    }
    r.damaged += DAMAGED;
}
