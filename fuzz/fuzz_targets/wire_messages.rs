//! Every set of messages, of the BOLTs and of the suite: bytes are refused or read, and what was
//! read is written as it was read. The first byte chooses the set, so that a corpus keeps them
//! apart.

use wire::{Decoded, Message};

/// What is read once must be read again from what it is written as, and be the same.
macro_rules! rereads {
    ($set:ty, $bytes:expr) => {
        if let Ok(Decoded::Known(message)) = <$set>::decode($bytes) {
            let written = message.encode();
            let again = <$set>::decode(&written).expect("what we write we read");
            assert_eq!(again, Decoded::Known(message), "{}", stringify!($set));
        }
    };
}

pub fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let _ = wire::channel_of(bytes);
    match which % 22 {
        0 => rereads!(wire::SetupMessage, bytes),
        1 => rereads!(wire::OpeningMessage, bytes),
        2 => rereads!(wire::ChannelMessage, bytes),
        3 => rereads!(wire::ClosingMessage, bytes),
        4 => rereads!(wire::GossipMessage, bytes),
        5 => rereads!(wire::channeld::ToChanneld, bytes),
        6 => rereads!(wire::channeld::FromChanneld, bytes),
        7 => rereads!(wire::closingd::ToClosingd, bytes),
        8 => rereads!(wire::closingd::FromClosingd, bytes),
        9 => rereads!(wire::connectd::ToConnectd, bytes),
        10 => rereads!(wire::connectd::FromConnectd, bytes),
        11 => rereads!(wire::connectd::PeerControl, bytes),
        12 => rereads!(wire::openingd::ToOpeningd, bytes),
        13 => rereads!(wire::openingd::FromOpeningd, bytes),
        14 => rereads!(wire::hsm::FromHsmd, bytes),
        15 => rereads!(wire::hsm::ToHsmd, bytes),
        16 => rereads!(wire::onchaind::ToOnchaind, bytes),
        17 => rereads!(wire::onchaind::FromOnchaind, bytes),
        // What stands alone at a child's birth, and questions.
        18 => {
            let _ = wire::daemon::Start::take_body(bytes);
            let _ = wire::hsm::HsmdInit::take_body(bytes);
        }
        19 => drop(wire::hsm::HsmRequest::decode(bytes)),
        20 => drop(wire::channeld::ChannelAsk::decode(bytes)),
        _ => drop(wire::closingd::ClosingAsk::decode(bytes)),
    }
}
