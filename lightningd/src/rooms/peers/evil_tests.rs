//! A captured connectd is every peer at once. ARCHITECTURE, "Captured daemons": it can have
//! channels closed and refuse all service; it moves no balance, and what it says of strangers
//! leaves nothing behind.

use super::*;
use crate::kernel::children::Role;
use crate::kernel::words::event::Event;
use crate::rooms::channels::state::State;
use crate::rooms::channels::testing::peer;
use crate::rooms::peers::address::MAX_HOST;
use crate::rooms::peers::connections::MAX_CONNECTIONS;
use crate::rooms::peers::line::dial;
use crate::sys::children::ChildId;
use crate::testing::{Rig, Said};
use primitives::{ChannelId, ChannelNumber};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use subdaemon::Frame;
use wire::channel_data::ChannelState;
use wire::{Bytes, Error, Message, OpenChannel, Warning};

/// A number that the test can see being killed.
const CONNECTD: ChildId = 5000;

/// One word of connectd's, or of those around it.
#[derive(Clone, Debug)]
enum Word {
    Connected {
        who: u8,
        connection: u64,
        out: bool,
        host: u8,
    },
    Disconnected {
        who: u8,
        connection: u64,
    },
    Complained {
        who: u8,
        connection: u64,
        is_error: bool,
    },
    Spoke {
        who: u8,
        connection: u64,
        of: u8,
        kind: u8,
        bytes: Vec<u8>,
    },
    Failed {
        who: u8,
    },
    Listening {
        many: usize,
    },
    Ponged {
        who: u8,
        ask: u64,
    },
    Custom {
        who: u8,
        bytes: Vec<u8>,
    },
    Bytes(Vec<u8>),
    /// The operator wants a connection.
    Dial {
        who: u8,
        host: u8,
    },
    Restart,
}

fn word() -> impl Strategy<Value = Word> {
    let who = || 0u8..8;
    let connection = || prop_oneof![3 => 0u64..4, 1 => any::<u64>()];
    let bytes = || prop::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        6 => (who(), connection(), any::<bool>(), 0u8..4)
            .prop_map(|(who, connection, out, host)| Word::Connected { who, connection, out, host }),
        3 => (who(), connection()).prop_map(|(who, connection)| Word::Disconnected { who, connection }),
        2 => (who(), connection(), any::<bool>())
            .prop_map(|(who, connection, is_error)| Word::Complained { who, connection, is_error }),
        6 => (who(), connection(), 0u8..5, 0u8..4, bytes())
            .prop_map(|(who, connection, of, kind, bytes)| Word::Spoke { who, connection, of, kind, bytes }),
        1 => who().prop_map(|who| Word::Failed { who }),
        1 => (0usize..50).prop_map(|many| Word::Listening { many }),
        1 => (who(), any::<u64>()).prop_map(|(who, ask)| Word::Ponged { who, ask }),
        1 => (who(), bytes()).prop_map(|(who, bytes)| Word::Custom { who, bytes }),
        1 => bytes().prop_map(Word::Bytes),
        1 => (who(), 0u8..2).prop_map(|(who, host)| Word::Dial { who, host }),
        1 => Just(Word::Restart),
    ]
}

/// No point at all, a peer with a channel (1 and 2), strangers, and ourselves.
fn node_of(who: u8) -> NodeId {
    match who {
        0 => NodeId([7; 33]),
        who => peer(who + who / 7 * 2),
    }
}

/// What the operator dials has a small number; the last one is no address that any peer can have.
fn address(host: u8) -> Address {
    let host = if host == 3 { "h".repeat(300) } else { format!("10.0.0.{host}") };
    Address { host, port: 9735 }
}

fn connected(who: NodeId, connection: u64, out: bool, address: Address) -> Connected {
    Connected {
        node: who,
        connection,
        direction: if out { Direction::Out } else { Direction::In },
        address,
        remote_addr: None,
        features: Features::none(),
    }
}

/// The word as a frame, if it is one of connectd's.
fn frame_of(word: &Word) -> Option<Vec<u8>> {
    let text = "text".to_owned();
    Some(match word.clone() {
        Word::Connected { who, connection, out, host } => {
            self::connected(node_of(who), connection, out, address(host)).encode()
        }
        Word::Disconnected { who, connection } => {
            Disconnected { node: node_of(who), connection, why: text }.encode()
        }
        Word::Complained { who, connection, is_error } => {
            PeerComplained { node: node_of(who), connection, is_error, text }.encode()
        }
        Word::Spoke { who, connection, of, kind, mut bytes } => {
            let number = match kind {
                0 => Some(OpenChannel::NUMBER),
                1 => Some(Error::NUMBER),
                2 => Some(Warning::NUMBER),
                _ => None,
            };
            bytes.splice(..0, number.into_iter().flat_map(u16::to_be_bytes));
            let (channel, message) = (ChannelId([of; 32]), Bytes(bytes));
            Spoke { node: node_of(who), connection, channel, message }.encode()
        }
        Word::Failed { who } => ConnectFailed { node: node_of(who), failures: vec![] }.encode(),
        Word::Listening { many } => {
            Listening { addresses: vec![address(9); many], failures: vec![] }.encode()
        }
        Word::Ponged { who, ask } => Ponged { node: node_of(who), ask, length: 1 }.encode(),
        Word::Custom { who, bytes } => {
            CustomMessage { node: node_of(who), connection: 1, message: Bytes(bytes) }.encode()
        }
        Word::Bytes(bytes) => bytes,
        Word::Dial { .. } | Word::Restart => return None,
    })
}

/// connectd is there, and captured.
fn enter(rig: &mut Rig) {
    rig.node.peers.connectd.run(CONNECTD);
    rig.node.supervisor.assign(CONNECTD, Role::Connectd);
}

fn hears(rig: &mut Rig, body: Vec<u8>) -> Vec<Said> {
    rig.run(Event::Child(CONNECTD, Frame { body, fds: Default::default() }))
}

fn happens(rig: &mut Rig, word: &Word) -> Vec<Said> {
    if let Some(body) = frame_of(word) {
        let said = hears(rig, body);
        if said.contains(&Said::Kill(CONNECTD - 1000)) {
            // However often it dies, the node goes on.
            rig.run(Event::ChildGone(CONNECTD));
            enter(rig);
        }
        return said;
    }
    if let Word::Dial { who, host } = word {
        let (who, host) = (node_of(*who), *host);
        return rig.turn(move |node, turn| {
            dial(node, turn, who, vec![address(host)]);
            Ok(())
        });
    }
    let said = rig.crash();
    enter(rig);
    said
}

/// Those that a channel or the operator brought in.
fn rows(rig: &Rig) -> Vec<(NodeId, String)> {
    let mut rows = rig.db.prepare("SELECT node_id, host FROM peers").unwrap();
    let rows = rows.query_map([], |row| Ok((NodeId(row.get(0)?), row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

fn lives(rig: &Rig) -> Vec<ChannelState> {
    rig.node.channels.all.values().map(|c| c.live.clone()).collect()
}

/// Another database for each case.
fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("evil-connectd-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Channels live on or are failed by an error that their peer is said to have sent; no HTLC
    /// moves; and no row tells later of a peer or an address that was not dialled.
    #[test]
    fn captured_connectd_closes_channels_and_no_more(
        words in prop::collection::vec(word(), 1..40),
        serves in any::<bool>(),
    ) {
        let mut rig = Rig::new(&name(), &[(1, 1), (2, 2)]);
        enter(&mut rig);
        for (number, channel) in &mut rig.node.channels.all {
            // One whose daemon hears its peer itself, perhaps, and one without a daemon.
            if *number != ChannelNumber(1) || !serves {
                channel.owner = crate::rooms::channels::Owner::Nobody;
                channel.reestablished = false;
            }
        }
        let before = lives(&rig);
        let (mut dialled, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for word in words.iter().chain([&Word::Restart]) {
            match word {
                Word::Dial { who, host } => _ = dialled.insert((node_of(*who), address(*host).host)),
                Word::Complained { who, is_error: true, .. } => _ = failed.insert(node_of(*who)),
                _ => {}
            }
            let said = happens(&mut rig, word);
            let moves = |s: &Said| !matches!(s, Said::Kill(_) | Said::Publish(_));
            prop_assert!(!said.iter().any(moves), "{:?}", said);
            prop_assert_eq!(&lives(&rig), &before);
            for channel in rig.node.channels.all.values() {
                let state = if failed.contains(&channel.peer) {
                    State::AwaitingUnilateral
                } else {
                    State::Normal
                };
                prop_assert!(channel.state <= state, "{:?} is {}", word, channel.state.name());
            }
            let known = rows(&rig);
            prop_assert!(known.iter().all(|row| dialled.contains(row)), "{:?}", known);
            let remembered = |(id, p): (&NodeId, &Peer)| {
                p.connection.is_none() && !known.iter().any(|(k, _)| k == id)
            };
            let strangers = rig.node.peers.all.iter().filter(|p| remembered(*p));
            let strangers = strangers.filter(|(id, _)| rig.node.channels.count_with(**id) == 0);
            prop_assert_eq!(strangers.count(), 0);
            for (id, peer) in &rig.node.peers.all {
                let Some(connection) = &peer.connection else { continue };
                prop_assert!(id.point().is_some() && *id != rig.node.id, "{} is no peer", id);
                prop_assert!(connection.address.host.len() <= MAX_HOST);
            }
            // One at a time for each peer.
            prop_assert!(rig.node.channels.openings.len() < 8);
        }
    }
}

/// An id of somebody who does not exist.
fn stranger(n: u16) -> NodeId {
    let secret = primitives::SecretKey::from_slice(&[&[1; 30][..], &n.to_be_bytes()].concat());
    NodeId(primitives::Point::from_secret_key(secp256k1::SECP256K1, &secret.unwrap()).serialize())
}

#[test]
fn features_of_65_kb_are_not_kept() {
    let mut rig = Rig::new("long-features", &[]);
    enter(&mut rig);
    let address = Address { host: "10.0.0.1".to_owned(), port: 9735 };
    let mut word = connected(peer(5), 1, false, address);
    word.features = Features::from_be_bytes(&[0xaa; 60_000]);
    hears(&mut rig, word.encode());
    let kept = &rig.node.peers.connection(peer(5)).unwrap().features;
    assert_eq!(kept.as_be_bytes(), [0xaa; 256]);
}

#[test]
fn connections_above_their_limit_are_refused() {
    let mut rig = Rig::new("connections", &[(1, 1)]);
    enter(&mut rig);
    let address = Address { host: "10.0.0.1".to_owned(), port: 9735 };
    let connection = Connection {
        number: 1,
        since: Instant::now(),
        direction: Direction::In,
        address: address.clone(),
        remote_addr: None,
        features: Features::none(),
    };
    for n in 0..MAX_CONNECTIONS as u16 {
        let known = Peer { connection: Some(connection.clone()), ..Peer::default() };
        rig.node.peers.all.insert(stranger(n), known);
    }
    let many = rig.node.peers.all.len();
    hears(&mut rig, connected(stranger(60_000), 9, false, address.clone()).encode());
    assert_eq!(rig.node.peers.all.len(), many);
    // One that is there already connects anew.
    hears(&mut rig, connected(stranger(0), 10, false, address).encode());
    assert_eq!(rig.node.peers.connection(stranger(0)).unwrap().number, 10);
}
