//! BOLT 1: what any two nodes say to each other before and beside channels.

use crate::Rest;
use primitives::*;

/// The longest message that BOLT 8 can carry.
pub const MAX_BOLT_MESSAGE: usize = 65535;

crate::messages! {
    /// "Something is odd, and I go on." BOLT 1, "The error and warning Messages".
    1 => Warning { channel_id: ChannelId, data: Vec<u8> }
    /// "Please keep this for me." BOLT 1, "Peer storage".
    7 => PeerStorage { blob: Vec<u8> }
    /// "This is what you gave me to keep."
    9 => PeerStorageRetrieval { blob: Vec<u8> }
    /// The first message of a connection. BOLT 1, "The init Message".
    16 => Init { global_features: Features, features: Features } tlvs {
        1 => networks: Rest,
        3 => remote_addr: Rest,
    }
    /// "This channel (or all of them) is over." BOLT 1, "The error and warning Messages".
    17 => Error { channel_id: ChannelId, data: Vec<u8> }
    /// "Are you there? Answer with so many bytes." BOLT 1, "The ping and pong Messages".
    18 => Ping { num_pong_bytes: u16, ignored: Vec<u8> }
    /// "I am."
    19 => Pong { ignored: Vec<u8> }
}

crate::message_set! {
    /// Messages that connectd itself reads and answers.
    pub enum SetupMessage { Warning, PeerStorage, PeerStorageRetrieval, Init, Error, Ping, Pong }
}

/// Bytes of text in an error or a warning of ours: what a message has room for behind its type,
/// channel id and length. An error may show a transaction.
pub const MAX_TEXT: usize = MAX_BOLT_MESSAGE - 2 - 32 - 2;

impl Error {
    /// BOLT 1: what is said is text for people; more than fits is cut.
    pub fn new(channel_id: ChannelId, text: &str) -> Self {
        Self { channel_id, data: cut(text) }
    }
    /// The text, with everything but printable ASCII replaced. BOLT 1: otherwise it must not be
    /// printed verbatim.
    pub fn text(&self) -> String {
        printable(&self.data)
    }
}
impl Warning {
    /// See [`Error::new`].
    pub fn new(channel_id: ChannelId, text: &str) -> Self {
        Self { channel_id, data: cut(text) }
    }
    /// See [`Error::text`].
    pub fn text(&self) -> String {
        printable(&self.data)
    }
}

fn cut(text: &str) -> Vec<u8> {
    text.bytes().take(MAX_TEXT).collect()
}
fn printable(data: &[u8]) -> String {
    data.iter()
        .take(1024)
        .map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '?' })
        .collect()
}
