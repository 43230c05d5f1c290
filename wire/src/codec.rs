//! Single values on the wire, and why bytes are none. BOLT 1, "Fundamental Types".
//!
//! Lengths are checked against what is there before anything is allocated.

use primitives::*;
use std::fmt;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// More bytes were promised than came.
    TooShort {
        /// How many the value takes.
        needed: u64,
        /// How many were left.
        left: usize,
    },
    /// A number was written longer than it needs. BOLT 1: bigsize and tu64 are minimal.
    NotMinimal,
    /// 33 bytes that are no point of the curve, 32 that are no key.
    NotAKey,
    /// A signature out of range, or with the high S that nobody relays.
    BadSignature,
    /// A number that names nothing here.
    Unknown(u64),
    /// Text that is not UTF-8.
    NotText,
    /// Text of so many bytes, more than [`primitives::MAX_CUT_TEXT`].
    TooLong(usize),
    /// Bytes after the end of a value.
    Trailing(usize),
    /// TLV types must strictly increase; this one did not.
    TlvOrder(u64),
    /// A TLV of an even type that we do not know: we must understand it, and do not.
    UnknownEvenTlv(u64),
    /// An amount above all the money there is.
    TooMuch(u64),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { needed, left } => {
                write!(f, "{needed} bytes are needed, {left} are left")
            }
            Self::NotMinimal => f.write_str("a number is not written in its shortest form"),
            Self::NotAKey => f.write_str("these bytes are no valid key"),
            Self::BadSignature => f.write_str("the signature is out of range or has a high S"),
            Self::Unknown(n) => write!(f, "{n} is no known value"),
            Self::NotText => f.write_str("the text is not UTF-8"),
            Self::TooLong(n) => write!(f, "a text of {n} bytes, {MAX_CUT_TEXT} are the most"),
            Self::Trailing(n) => write!(f, "{n} bytes follow the end"),
            Self::TlvOrder(t) => write!(f, "TLV {t} is out of order or repeated"),
            Self::UnknownEvenTlv(t) => write!(f, "TLV {t} is even and unknown"),
            Self::TooMuch(n) => write!(f, "{n} is more than all the money there is"),
        }
    }
}

/// Where in which message a [`Problem`] was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The message's name, or what it should have been.
    pub message: &'static str,
    /// The field's.
    pub field: &'static str,
    /// What is wrong there.
    pub problem: Problem,
}
impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}: {}", self.message, self.field, self.problem)
    }
}
impl std::error::Error for Malformed {}

/// A value with one form on the wire: `take` reads exactly the bytes that `put` wrote.
pub trait Wire: Sized {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads one value off the front of `from`, and moves `from` past it.
    fn take(from: &mut &[u8]) -> Result<Self, Problem>;

    /// The value alone.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }
    /// Reads a value that must be all there is.
    fn from_bytes(mut bytes: &[u8]) -> Result<Self, Problem> {
        let value = Self::take(&mut bytes)?;
        if bytes.is_empty() { Ok(value) } else { Err(Problem::Trailing(bytes.len())) }
    }
}

/// The next `N` bytes.
pub fn take_array<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], Problem> {
    let (head, rest) = from
        .split_first_chunk::<N>()
        .ok_or(Problem::TooShort { needed: N as u64, left: from.len() })?;
    *from = rest;
    Ok(*head)
}

/// The next `len` bytes, borrowed.
pub fn take_slice<'a>(from: &mut &'a [u8], len: u64) -> Result<&'a [u8], Problem> {
    let short = Problem::TooShort { needed: len, left: from.len() };
    let (head, rest) =
        usize::try_from(len).ok().and_then(|n| from.split_at_checked(n)).ok_or(short)?;
    *from = rest;
    Ok(head)
}

macro_rules! ints { ($($t:ty),*) => { $(
    impl Wire for $t {
        fn put(&self, out: &mut Vec<u8>) { out.extend_from_slice(&self.to_be_bytes()) }
        fn take(from: &mut &[u8]) -> Result<Self, Problem> { Ok(Self::from_be_bytes(take_array(from)?)) }
    } )* } }
ints!(u8, u16, u32, u64, i64);

impl Wire for () {
    fn put(&self, _: &mut Vec<u8>) {}
    fn take(_: &mut &[u8]) -> Result<Self, Problem> {
        Ok(())
    }
}
impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(Problem::Unknown(other.into())),
        }
    }
}
impl<const N: usize> Wire for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        take_array(from)
    }
}
impl<const N: usize> Wire for Secret<N> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.expose());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        take_array(from).map(Secret::new)
    }
}

/// Newtypes that travel as what they hold.
macro_rules! transparent { ($($t:ident($inner:ty)),* $(,)?) => { $(
    impl Wire for $t {
        fn put(&self, out: &mut Vec<u8>) { self.0.put(out) }
        fn take(from: &mut &[u8]) -> Result<Self, Problem> { <$inner>::take(from).map($t) }
    } )* } }
transparent!(
    ChannelId([u8; 32]),
    PaymentHash([u8; 32]),
    Sha256Digest([u8; 32]),
    Preimage([u8; 32]),
    PaymentSecret([u8; 32]),
    NodeId([u8; 33]),
    HtlcId(u64),
    ChannelNumber(u64),
    CommitmentNumber(u64),
    ShortChannelId(u64),
    BlockHeight(u32),
    CltvDelta(u32),
    FeeratePerKw(u32),
    Sat(u64),
    Msat(u64),
);

impl Wire for Point {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        Self::from_slice(&take_array::<33>(from)?).map_err(|_| Problem::NotAKey)
    }
}
impl Wire for SecretKey {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.secret_bytes());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        Self::from_slice(&take_array::<32>(from)?).map_err(|_| Problem::NotAKey)
    }
}
impl Wire for Signature {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.serialize_compact());
    }
    // BOLT 2, funding_created: a signature that is not low-S must fail; a node relays no other.
    // (CVE-2020-26895.)
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        let signature =
            Self::from_compact(&take_array::<64>(from)?).map_err(|_| Problem::BadSignature)?;
        let mut low = signature;
        low.normalize_s();
        if low == signature { Ok(signature) } else { Err(Problem::BadSignature) }
    }
}
impl Wire for Txid {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(AsRef::<[u8; 32]>::as_ref(self));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        take_array::<32>(from).map(bitcoin::hashes::Hash::from_byte_array)
    }
}
impl Wire for bitcoin::BlockHash {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(AsRef::<[u8; 32]>::as_ref(self));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        take_array::<32>(from).map(bitcoin::hashes::Hash::from_byte_array)
    }
}
/// Within the suite only: BOLT 2 spells out a txid and a two-byte index.
impl Wire for OutPoint {
    fn put(&self, out: &mut Vec<u8>) {
        self.txid.put(out);
        self.vout.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        Ok(Self { txid: Txid::take(from)?, vout: u32::take(from)? })
    }
}
impl Wire for ScriptBuf {
    fn put(&self, out: &mut Vec<u8>) {
        put_len16(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        Vec::<u8>::take(from).map(Self::from_bytes)
    }
}
impl Wire for Features {
    fn put(&self, out: &mut Vec<u8>) {
        put_len16(self.as_be_bytes().len(), out);
        out.extend_from_slice(self.as_be_bytes());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        let len = u16::take(from)?;
        take_slice(from, len.into()).map(Self::from_be_bytes)
    }
}
impl Wire for Network {
    fn put(&self, out: &mut Vec<u8>) {
        self.name().to_owned().put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        String::take(from)?.parse().map_err(|_| Problem::Unknown(0))
    }
}
/// Within the suite only: consensus encoding behind a four-byte length.
impl Wire for Transaction {
    fn put(&self, out: &mut Vec<u8>) {
        Bytes(bitcoin::consensus::serialize(self)).put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        bitcoin::consensus::deserialize(&Bytes::take(from)?.0).map_err(|_| Problem::Unknown(0))
    }
}
/// Within the suite only. A text for people: a long one is cut as it is written, and refused as it
/// is read, so that none grows beyond its bound in the memory, rows or log of whoever hears it.
impl Wire for String {
    fn put(&self, out: &mut Vec<u8>) {
        let text = cut_text(self);
        put_len32(text.len(), out);
        out.extend_from_slice(text.as_bytes());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        let len = u32::take(from)? as usize;
        if len > MAX_CUT_TEXT {
            return Err(Problem::TooLong(len));
        }
        let text = take_slice(from, len as u64)?;
        std::str::from_utf8(text).map(str::to_owned).map_err(|_| Problem::NotText)
    }
}

fn put_len16(len: usize, out: &mut Vec<u8>) {
    u16::try_from(len)
        .expect("lists in BOLT messages have at most 65535 entries: the builder bounds them")
        .put(out);
}
fn put_len32(len: usize, out: &mut Vec<u8>) {
    u32::try_from(len).expect("no message of the suite is 4 GB long").put(out);
}

/// BOLT's `u16:len` and that many of them.
impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_len16(self.len(), out);
        self.iter().for_each(|item| item.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        let count = usize::from(u16::take(from)?);
        take_items(from, count)
    }
}

fn take_items<T: Wire>(from: &mut &[u8], count: usize) -> Result<Vec<T>, Problem> {
    // Every item is at least a byte long, so a count beyond what is left is a lie; believe no more
    // than what is there.
    if count > from.len() && std::mem::size_of::<T>() > 0 {
        return Err(Problem::TooShort { needed: count as u64, left: from.len() });
    }
    let mut items = Vec::with_capacity(count.min(from.len() / std::mem::size_of::<T>().max(1) + 1));
    for _ in 0..count {
        items.push(T::take(from)?);
    }
    Ok(items)
}

/// A list with a four-byte count: within the suite only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Long<T>(pub Vec<T>);
impl<T: Wire> Wire for Long<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_len32(self.0.len(), out);
        self.0.iter().for_each(|item| item.put(out));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        let count = u32::take(from)?;
        take_items(from, count as usize).map(Self)
    }
}

/// Bytes with a four-byte length: within the suite only.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Bytes(pub Vec<u8>);
impl Wire for Bytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_len32(self.0.len(), out);
        out.extend_from_slice(&self.0);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        let len = u32::take(from)?;
        take_slice(from, len.into()).map(|b| Self(b.to_vec()))
    }
}
impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} long)", self.0.len())
    }
}

/// Like [`Bytes`].
impl Wire for SecretBytes {
    fn put(&self, out: &mut Vec<u8>) {
        put_len32(self.expose().len(), out);
        out.extend_from_slice(self.expose());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        let len = u32::take(from)?;
        take_slice(from, len.into()).map(|b| Self::new(b.to_vec()))
    }
}

/// All that is left of a TLV: BOLT's `...*byte`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rest(pub Vec<u8>);
impl Wire for Rest {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        Ok(Self(std::mem::take(from).to_vec()))
    }
}

/// There or not: within the suite only.
impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        if bool::take(from)? { T::take(from).map(Some) } else { Ok(None) }
    }
}
impl<T: Wire> Wire for Sides<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.local.put(out);
        self.remote.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        Ok(Self { local: T::take(from)?, remote: T::take(from)? })
    }
}
impl<A: Wire, B: Wire> Wire for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        Ok((A::take(from)?, B::take(from)?))
    }
}
impl Wire for Side {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Local => 0,
            Self::Remote => 1,
        });
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        Ok(if bool::take(from)? { Self::Remote } else { Self::Local })
    }
}

/// BOLT 1, Appendix A: 1, 3, 5 or 9 bytes, always the fewest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BigSize(pub u64);
impl Wire for BigSize {
    fn put(&self, out: &mut Vec<u8>) {
        match self.0 {
            n @ 0..=0xfc => out.push(n as u8),
            n @ 0xfd..=0xffff => {
                out.push(0xfd);
                (n as u16).put(out);
            }
            n @ 0x1_0000..=0xffff_ffff => {
                out.push(0xfe);
                (n as u32).put(out);
            }
            n => {
                out.push(0xff);
                n.put(out);
            }
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        let (value, least) = match u8::take(from)? {
            0xff => (u64::take(from)?, 0x1_0000_0000),
            0xfe => (u64::from(u32::take(from)?), 0x1_0000),
            0xfd => (u64::from(u16::take(from)?), 0xfd),
            n => (u64::from(n), 0),
        };
        if value < least { Err(Problem::NotMinimal) } else { Ok(Self(value)) }
    }
}

macro_rules! truncated { ($($(#[$m:meta])* $name:ident($t:ty)),* $(,)?) => { $(
    $(#[$m])* #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub struct $name(pub $t);
    impl Wire for $name {
        fn put(&self, out: &mut Vec<u8>) {
            let bytes = self.0.to_be_bytes();
            let zeroes = bytes.iter().take_while(|b| **b == 0).count();
            out.extend(bytes.iter().skip(zeroes));
        }
        /// Takes all that is left: the TLV's length is the number's.
        fn take(from: &mut &[u8]) -> Result<Self, Problem> {
            let bytes = std::mem::take(from);
            if bytes.first() == Some(&0) { return Err(Problem::NotMinimal); }
            let mut value: $t = 0;
            if bytes.len() > std::mem::size_of::<$t>() { return Err(Problem::Trailing(bytes.len() - std::mem::size_of::<$t>())); }
            for byte in bytes { value = (value.checked_shl(8).unwrap_or(0)) | <$t>::from(*byte); }
            Ok(Self(value))
        }
    } )* } }
truncated!(
    /// BOLT 1: a u16 without leading zero bytes, at the end of a TLV.
    Tu16(u16),
    /// BOLT 1: a u32 without leading zero bytes, at the end of a TLV.
    Tu32(u32),
    /// BOLT 1: a u64 without leading zero bytes, at the end of a TLV.
    Tu64(u64),
);

/// An onion as `update_add_htlc` carries it: 1366 opaque bytes. BOLT 4, "Packet Structure".
#[derive(Clone, PartialEq, Eq)]
pub struct OnionPacket(pub Box<[u8; 1366]>);
impl Wire for OnionPacket {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_slice());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Problem> {
        take_array(from).map(|bytes| Self(Box::new(bytes)))
    }
}
impl fmt::Debug for OnionPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnionPacket(..)")
    }
}
