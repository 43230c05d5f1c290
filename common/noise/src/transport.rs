//! Messages under way: `length || tag || body || tag`, each direction with a key and a counter of
//! its own. Neither direction allocates: the caller owns the buffers.

pub use crate::symmetric::TAG_LEN;
use crate::symmetric::{decrypt, encrypt, hkdf2};
use primitives::Secret;
use std::fmt;

/// The longest message. BOLT 8: the length has two bytes.
pub const MAX_MESSAGE: usize = 65535;
/// A sealed length.
pub const HEADER_LEN: usize = 2 + TAG_LEN;
/// After this many uses a key is replaced. BOLT 8, "Lightning Message Key Rotation".
const ROTATE_AT: u64 = 1000;

/// Bytes on the wire of a message of `len` bytes.
pub const fn sealed_len(len: usize) -> usize {
    HEADER_LEN + len + TAG_LEN
}

/// Both directions of one connection; they know nothing of each other and can be taken apart.
#[derive(Debug)]
pub struct Transport {
    /// For what we send.
    pub sealer: Sealer,
    /// For what we receive.
    pub opener: Opener,
}

impl Transport {
    pub(crate) fn new(chaining_key: &Secret<32>, send: Secret<32>, receive: Secret<32>) -> Self {
        let rotor = |key| Rotor { chaining_key: chaining_key.clone(), key, nonce: 0 };
        Self {
            sealer: Sealer(rotor(send)),
            opener: Opener { rotor: rotor(receive), next: NextRead::Header },
        }
    }

    /// `sk` and `rk`, for the vectors.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> [[u8; 32]; 2] {
        [*self.sealer.0.key.expose(), *self.opener.rotor.key.expose()]
    }
}

/// A message longer than [`MAX_MESSAGE`]: ours, and a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong(
    /// Its length.
    pub usize,
);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message of {} bytes: {MAX_MESSAGE} is the most that can be sent", self.0)
    }
}
impl std::error::Error for TooLong {}

/// The sending direction.
#[derive(Debug)]
pub struct Sealer(Rotor);

impl Sealer {
    /// Appends the sealed message to `out`: [`sealed_len`] bytes.
    pub fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
        let len = u16::try_from(message.len()).map_err(|_| TooLong(message.len()))?;
        out.reserve(sealed_len(message.len()));

        let mut length = len.to_be_bytes();
        let tag = self.0.encrypt(&mut length);
        out.extend_from_slice(&length);
        out.extend_from_slice(&tag);

        let start = out.len();
        out.extend_from_slice(message);
        let body = out.get_mut(start..).unwrap_or_default();
        let tag = self.0.encrypt(body);
        out.extend_from_slice(&tag);
        Ok(())
    }
}

/// Why nothing more can be read from a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenError {
    /// The sealed length does not decrypt.
    Header,
    /// The sealed message does not decrypt.
    Body,
    /// The caller brought a body of the wrong length, a body before its header, or a header before
    /// its body.
    OutOfStep,
    /// An earlier error ended this direction.
    Ended,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "a message's length has a bad tag",
            Self::Body => "a message has a bad tag",
            Self::OutOfStep => "length and message were read out of step",
            Self::Ended => "the connection's cipher has already failed",
        })
    }
}
impl std::error::Error for OpenError {}

/// The receiving direction. After an error it stays shut.
#[derive(Debug)]
pub struct Opener {
    rotor: Rotor,
    next: NextRead,
}

/// The part of a message that the opener decrypts next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextRead {
    Header,
    Body(u16),
    Nothing,
}

impl Opener {
    /// Reads a sealed length. The body to come is that long, plus [`TAG_LEN`].
    pub fn open_header(&mut self, header: &[u8; HEADER_LEN]) -> Result<u16, OpenError> {
        let (length, tag) = header.split_first_chunk::<2>().ok_or(OpenError::OutOfStep)?;
        let tag = tag.try_into().map_err(|_| OpenError::OutOfStep)?;
        match self.next {
            NextRead::Header => {}
            NextRead::Body(_) => return self.fail(OpenError::OutOfStep),
            NextRead::Nothing => return Err(OpenError::Ended),
        }
        let mut length = *length;
        if !self.rotor.decrypt(&mut length, tag) {
            return self.fail(OpenError::Header);
        }
        let length = u16::from_be_bytes(length);
        self.next = NextRead::Body(length);
        Ok(length)
    }

    /// Reads the body in place: `body` is the sealed message with its tag, and what comes back is
    /// its front.
    pub fn open_body<'a>(&mut self, body: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let announced = match self.next {
            NextRead::Body(length) => usize::from(length),
            NextRead::Header => return self.fail(OpenError::OutOfStep),
            NextRead::Nothing => return Err(OpenError::Ended),
        };
        let Some((message, tag)) = body.split_last_chunk_mut::<TAG_LEN>() else {
            return self.fail(OpenError::OutOfStep);
        };
        if message.len() != announced {
            return self.fail(OpenError::OutOfStep);
        }
        if !self.rotor.decrypt(message, tag) {
            return self.fail(OpenError::Body);
        }
        self.next = NextRead::Header;
        Ok(message)
    }

    fn fail<T>(&mut self, why: OpenError) -> Result<T, OpenError> {
        self.next = NextRead::Nothing;
        Err(why)
    }
}

/// One direction's key, how often it was used, and what the next key grows from.
#[derive(Debug)]
struct Rotor {
    chaining_key: Secret<32>,
    key: Secret<32>,
    nonce: u64,
}

impl Rotor {
    fn encrypt(&mut self, buffer: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = encrypt(&self.key, self.nonce, &[], buffer);
        self.step();
        tag
    }
    fn decrypt(&mut self, buffer: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        let fits = decrypt(&self.key, self.nonce, &[], buffer, tag).is_ok();
        self.step();
        fits
    }
    fn step(&mut self) {
        self.nonce += 1;
        if self.nonce == ROTATE_AT {
            (self.chaining_key, self.key) = hkdf2(self.chaining_key.expose(), self.key.expose());
            self.nonce = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (Sealer, Opener) {
        let [ck, key] = [[1; 32], [2; 32]].map(Secret::new);
        let t = Transport::new(&ck, key.clone(), key);
        (t.sealer, t.opener)
    }
    fn open(opener: &mut Opener, wire: &mut [u8]) -> Result<Vec<u8>, OpenError> {
        let (header, body) = wire.split_first_chunk_mut::<HEADER_LEN>().unwrap();
        opener.open_header(header)?;
        opener.open_body(body).map(|m| m.to_vec())
    }

    #[test]
    fn longest_message_passes_and_a_longer_one_is_refused() {
        let (mut sealer, mut opener) = pair();
        let mut wire = Vec::new();
        let longest = vec![7; MAX_MESSAGE];
        assert_eq!(sealer.seal(&vec![7; MAX_MESSAGE + 1], &mut wire), Err(TooLong(65536)));
        assert!(wire.is_empty(), "a refused message leaves no bytes");
        sealer.seal(&longest, &mut wire).unwrap();
        assert_eq!(wire.len(), sealed_len(MAX_MESSAGE));
        assert_eq!(wire.len(), 65569);
        assert_eq!(open(&mut opener, &mut wire), Ok(longest));
    }

    #[test]
    fn sealing_into_a_roomy_buffer_does_not_move_it() {
        let (mut sealer, _) = pair();
        let mut wire = Vec::with_capacity(sealed_len(1000));
        let before = (wire.as_ptr(), wire.capacity());
        sealer.seal(&[0; 1000], &mut wire).unwrap();
        assert_eq!((wire.as_ptr(), wire.capacity()), before);
    }

    #[test]
    fn header_and_body_must_alternate() {
        let (mut sealer, mut opener) = pair();
        let mut wire = Vec::new();
        sealer.seal(b"x", &mut wire).unwrap();
        let header = *wire.first_chunk::<HEADER_LEN>().unwrap();
        assert_eq!(opener.open_body(&mut wire[18..].to_vec()), Err(OpenError::OutOfStep));
        assert_eq!(opener.open_header(&header), Err(OpenError::Ended));

        let (_, mut opener) = pair();
        assert_eq!(opener.open_header(&header), Ok(1));
        assert_eq!(opener.open_header(&header), Err(OpenError::OutOfStep));

        for body in [0, 16, 18] {
            let (_, mut opener) = pair();
            assert_eq!(opener.open_header(&header), Ok(1));
            assert_eq!(opener.open_body(&mut vec![0; body]), Err(OpenError::OutOfStep), "{body}");
        }
    }

    #[test]
    fn keys_rotate_at_the_same_message_on_both_ends() {
        let (mut sealer, mut opener) = pair();
        let mut wire = Vec::new();
        for n in 0..2500u32 {
            wire.clear();
            sealer.seal(&n.to_be_bytes(), &mut wire).unwrap();
            assert_eq!(open(&mut opener, &mut wire), Ok(n.to_be_bytes().to_vec()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn arbitrary_bytes_never_open(header: [u8; 18], body in prop::collection::vec(any::<u8>(), 0..64)) {
            let (mut sealer, mut opener) = pair();
            prop_assert_eq!(opener.open_header(&header), Err(OpenError::Header));
            prop_assert_eq!(opener.open_header(&header), Err(OpenError::Ended));
            prop_assert_eq!(opener.open_body(&mut body.clone()).unwrap_err(), OpenError::Ended);

            // A good header before a bad body of the length it announces.
            let (_, mut opener) = pair();
            let mut wire = Vec::new();
            sealer.seal(&vec![0; body.len().saturating_sub(TAG_LEN)], &mut wire).unwrap();
            opener.open_header(wire.first_chunk().unwrap()).unwrap();
            prop_assert!(opener.open_body(&mut body.clone()).is_err());
            prop_assert_eq!(opener.open_header(wire.first_chunk().unwrap()), Err(OpenError::Ended));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn any_messages_come_back_and_any_flipped_bit_is_seen(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
            flip: prop::sample::Index,
        ) {
            let (mut sealer, mut opener) = pair();
            for message in &messages {
                let mut wire = Vec::new();
                sealer.seal(message, &mut wire).unwrap();
                prop_assert_eq!(&open(&mut opener, &mut wire).unwrap(), message);
            }
            let mut wire = Vec::new();
            sealer.seal(&messages[0], &mut wire).unwrap();
            let bit = flip.index(wire.len() * 8);
            wire[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(open(&mut opener, &mut wire).is_err());
        }
    }
}
