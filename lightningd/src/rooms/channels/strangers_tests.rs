//! What peers without a funded channel may cost, and what is never taken from them.

use super::*;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::channels::budgets::Proposer;
use crate::rooms::channels::state::{Cause, StateTrust};
use crate::rooms::channels::store;
use crate::rooms::peers::Connection;
use crate::testing::{Rig, Said};
use bitcoin::Txid;
use bitcoin::hashes::Hash as _;
use primitives::*;
use wire::channeld::{GetShutdownScript, PersistShutdown};
use wire::connectd::Refuse;
use wire::{Message, Request};

const SECOND: Duration = Duration::from_secs(1);

fn id(n: u64) -> NodeId {
    let mut id = [2; 33];
    id[..8].copy_from_slice(&n.to_be_bytes());
    NodeId(id)
}

/// A channel of this stranger's that waits for its funding.
fn unseen(rig: &Rig, number: u64, peer: NodeId) -> Channel {
    let mut channel = rig.channel(1).clone();
    channel.number = ChannelNumber(number);
    channel.peer = peer;
    channel.id = ChannelId(peer.0[..32].try_into().unwrap());
    channel.state = State::AwaitingLockin;
    channel.live.params.opener = Side::Remote;
    channel.live.params.funding.vout = number as u32;
    channel.ready = Sides::default();
    channel.funding_height = None;
    channel.live.balance.remote.0 += std::mem::take(&mut channel.live.balance.local.0);
    channel.owner = Owner::Nobody;
    channel
}

#[test]
fn unfunded_channels_give_way_to_newer_ones_oldest_first() {
    let mut rig = Rig::new("unfunded", &[(1, 1)]);
    let friend = rig.channel(1).peer;
    rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap().funding_height =
        Some(BlockHeight(50));
    // The oldest is a friend's, and gives way to nobody.
    let mut channels = vec![unseen(&rig, 2, friend)];
    channels.extend((3..3 + MAX_UNFUNDED as u64).map(|n| unseen(&rig, n, id(n))));
    let newest = channels.pop().unwrap();
    for channel in channels {
        rig.node.channels.insert(channel);
    }
    let store = |rig: &mut Rig, channel: &Channel| {
        rig.turn(|node, turn| {
            make_room(node, turn, channel)?;
            let channel = channel.clone();
            turn.install_as::<crate::rooms::channels::Scope, _>(move |channels| {
                channels.insert(channel)
            });
            Ok(())
        });
        let waiting: Vec<u64> = rig.node.channels.all.keys().map(|n| n.0).collect();
        waiting
    };
    let all = store(&mut rig, &newest);
    assert_eq!((all.len(), &all[..3]), (MAX_UNFUNDED + 2, &[1, 2, 3][..]));
    let another = unseen(&rig, 9_000, id(9_000));
    let all = store(&mut rig, &another);
    assert_eq!((all.len(), &all[..4]), (MAX_UNFUNDED + 2, &[1, 2, 4, 5][..]));
    // Nothing is left of it in any index.
    assert_eq!(rig.node.channels.count_with(id(3)), 0);
    assert!(!rig.node.channels.by_peer.contains_key(&id(3)));
    assert_eq!(rig.node.channels.by_funding.len(), all.len());
    let of_friend = unseen(&rig, 9_001, friend);
    assert_eq!(store(&mut rig, &of_friend).len(), MAX_UNFUNDED + 3);
}

#[test]
fn daemon_of_unfunded_channel_gives_way_oldest_first() {
    let mut rig = Rig::new("unfunded-daemons", &[(1, 1)]);
    for n in 0..MAX_UNFUNDED_DAEMONS as u64 {
        assert!(rig.node.channels.daemon_gives_way(id(999)).is_none());
        let mut channel = unseen(&rig, 10 + n, id(n));
        channel.owner = Owner::Channeld(500 - n);
        rig.node.channels.insert(channel);
    }
    let last = 10 + MAX_UNFUNDED_DAEMONS as u64 - 1;
    assert_eq!(rig.node.channels.daemon_gives_way(id(999)).map(|c| c.number.0), Some(last));
    // One that is funded is served whoever else is.
    let funded = rig.node.channels.all.get_mut(&ChannelNumber(last)).unwrap();
    funded.funding_height = Some(BlockHeight(50));
    assert!(rig.node.channels.daemon_gives_way(id(999)).is_none());
}

/// The rig's channel 1 as one that a stranger opened and whose funding nobody has seen, served by
/// its channeld.
fn made_up(rig: &mut Rig) {
    let (peer, owner) = (rig.channel(1).peer, rig.channel(1).owner);
    let mut channel = unseen(rig, 1, peer);
    store::forget(&rig.db, channel.number).unwrap();
    store::insert(&rig.db, &channel).unwrap();
    channel.owner = owner;
    rig.node.channels.remove(channel.number);
    rig.node.channels.insert(channel);
}

fn ask<R: Request>(rig: &mut Rig, question: &R) -> Vec<Said> {
    let mut body = R::NUMBER.to_be_bytes().to_vec();
    question.put(&mut body);
    rig.say(1, body)
}

#[test]
fn close_that_peer_begins_waits_until_funding_is_seen() {
    let mut rig = Rig::new("made-up-close", &[(1, 1)]);
    made_up(&mut rig);
    let script = ScriptBuf::from(vec![0; 22]);
    let said = PersistShutdown { by: Side::Remote, script: script.clone() };
    let before = rig.db.total_changes();
    assert_eq!(ask(&mut rig, &said), [Said::Kill(1)]);
    assert_eq!(ask(&mut rig, &GetShutdownScript {}), [Said::Kill(1)]);
    // Nor where both scripts are stored.
    let both = Sides { local: Some(script.clone()), remote: Some(script.clone()) };
    rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap().shutdown = both;
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let said_again = rig.turn(|node, turn| {
        let fd = ours.try_clone().unwrap().into();
        crate::rooms::channels::closing::begin(
            node,
            turn,
            &node.channels.all[&ChannelNumber(1)],
            fd,
        )
    });
    assert_eq!(said_again, [Said::Kill(1)]);
    assert_eq!(rig.db.total_changes(), before, "nothing is stored");
    assert_eq!(rig.channel(1).state, State::AwaitingLockin);
    // Its funding is seen: the peer says it again.
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap();
    channel.shutdown = Sides::default();
    channel.funding_height = Some(BlockHeight(100));
    assert_eq!(ask(&mut rig, &said), []);
    assert_eq!(rig.channel(1).shutdown.remote, Some(script));
    assert_eq!(rig.channel(1).state, State::ShuttingDown);
    assert_eq!(ask(&mut rig, &GetShutdownScript {}), []);
}

#[test]
fn close_that_user_asks_for_begins_before_funding_is_seen() {
    let mut rig = Rig::new("close-of-ours", &[(1, 1)]);
    made_up(&mut rig);
    rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap().closer = Some(Side::Local);
    let script = ScriptBuf::from(vec![0; 22]);
    assert_eq!(ask(&mut rig, &PersistShutdown { by: Side::Remote, script }), []);
    assert_eq!(rig.channel(1).state, State::ShuttingDown);
    assert_eq!(rig.channel(1).closer, Some(Side::Local));
}

#[test]
fn channels_without_funding_are_forgotten_fifty_in_a_turn() {
    let mut rig = Rig::new("forgotten", &[(1, 1)]);
    for n in 2..122 {
        let channel = unseen(&rig, n, id(n));
        store::insert(&rig.db, &channel).unwrap();
        rig.node.channels.insert(channel);
    }
    let rows = |rig: &Rig| -> i64 {
        rig.db.query_row("SELECT count(*) FROM channels", [], |row| row.get(0)).unwrap()
    };
    let later = |outbox: Vec<Outgoing>| {
        outbox.into_iter().find_map(|o| match o {
            Outgoing::Then(Event::ForgetChannels(over)) => Some(over),
            _ => None,
        })
    };
    // One of those that wait was in a block meanwhile, whose place another block took.
    let came_back = ChannelNumber(121);
    let mut waiting =
        later(rig.outbox(|node, turn| crate::flows::block::is_tip(node, turn, BlockHeight(2017))));
    let mut left = vec![rows(&rig)];
    let channel = rig.node.channels.all.get_mut(&came_back).unwrap();
    (channel.was_in_block, channel.first_height) = (true, BlockHeight(2017));
    while let Some(over) = waiting {
        waiting = later(rig.outbox(|node, turn| {
            crate::rooms::channels::forget::forget_some(node, turn, over.clone())
        }));
        left.push(rows(&rig));
    }
    assert_eq!(left, [71, 21, 2]);
    assert!(rig.node.channels.all.contains_key(&came_back));
    assert_eq!(rig.node.channels.all.len(), 2);
}

#[test]
fn transactions_of_forgotten_channel_leave_no_row() {
    let mut rig = Rig::new("forgotten-close", &[(1, 1)]);
    made_up(&mut rig);
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap();
    let input =
        bitcoin::TxIn { previous_output: channel.live.params.funding, ..Default::default() };
    let close = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![input],
        output: vec![],
    };
    channel.close_tx = Some(close.clone());
    crate::rooms::chain::broadcast::keep(&rig.db, &close).unwrap();
    rig.turn(|node, turn| {
        crate::rooms::channels::forget::forget(
            node,
            turn,
            &node.channels.all[&ChannelNumber(1)],
            "a test",
        )
    });
    let rows: i64 =
        rig.db.query_row("SELECT count(*) FROM transactions", [], |row| row.get(0)).unwrap();
    assert_eq!((rows, rig.node.channels.all.len()), (0, 0));
}

#[test]
fn channel_with_push_or_once_in_a_block_gives_way_to_none() {
    let mut rig = Rig::new("unfunded-ours", &[(1, 1)]);
    // The three oldest: `push_msat` gave us something in one, a reorganisation took another's
    // block, the third may go.
    for n in 2..2 + MAX_UNFUNDED as u64 {
        let mut channel = unseen(&rig, n, id(n));
        channel.live.balance.local = Msat(u64::from(n == 2));
        channel.was_in_block = n == 3;
        rig.node.channels.insert(channel);
    }
    // The second does not count.
    assert_eq!(rig.node.channels.gives_way(), None);
    let another = unseen(&rig, 9000, id(9000));
    rig.node.channels.insert(another);
    assert_eq!(rig.node.channels.gives_way(), Some(ChannelNumber(4)));
}

#[test]
fn channels_with_push_that_wait_for_their_funding_are_bounded() {
    let mut rig = Rig::new("unfunded-push", &[(1, 1)]);
    for n in 2..2 + MAX_UNFUNDED_WITH_PUSH as u64 {
        assert!(rig.node.channels.has_room_for_push());
        let mut channel = unseen(&rig, n, id(n));
        channel.live.balance.local = Msat(1);
        rig.node.channels.insert(channel);
    }
    assert!(!rig.node.channels.has_room_for_push());
}

#[test]
fn funding_once_in_a_block_is_known_after_reorg_and_restart() {
    let mut rig = Rig::new("was-in-block", &[(1, 1)]);
    made_up(&mut rig);
    assert!(rig.channel(1).is_unseen());
    let scid = ShortChannelId::new(100, 1, 0).unwrap();
    store::set_funding_height(&rig.db, ChannelNumber(1), Some((BlockHeight(100), scid))).unwrap();
    rig.crash();
    rig.turn(|node, turn| {
        crate::rooms::channels::watch::left(node, turn, BlockHeight(100), |_| false)
    });
    assert_eq!(rig.channel(1).funding_height, None);
    assert!(!rig.channel(1).is_unseen());
    rig.crash();
    assert!(!rig.channel(1).is_unseen());
}

/// The rig's only peer, its connection, and `count` channels of its that wait for their funding.
fn waiting(rig: &mut Rig, count: u64, since: Instant) -> (NodeId, Connection) {
    let peer = rig.channel(1).peer;
    let connection = Connection {
        number: 7,
        since,
        direction: wire::connectd::Direction::In,
        address: wire::connectd::Address { host: "10.0.0.1".to_owned(), port: 9735 },
        remote_addr: None,
        features: Features::none(),
    };
    rig.node.peers.all.entry(peer).or_default().connection = Some(connection.clone());
    let channels: Vec<_> = (1..=count).map(|n| unseen(rig, n, peer)).collect();
    rig.node.channels.remove(ChannelNumber(1));
    for channel in channels {
        rig.node.channels.insert(channel);
    }
    (peer, connection)
}

#[test]
fn word_held_for_a_daemon_that_does_not_come_is_released() {
    let mut rig = Rig::new("put-off-word", &[(1, 1)]);
    let (_, connection) = waiting(&mut rig, 1, Instant::now());
    rig.node.peers.run_connectd(9);
    let daemon = 1001;
    rig.node.supervisor.assign(daemon, crate::kernel::children::Role::Channel(ChannelNumber(1)));
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap();
    channel.owner = Owner::Channeld(daemon);
    channel.served_connection = Some(connection.number);
    channel.put_off_on = Some(connection.number);
    let said = rig.outgoing(Event::ChildGone(daemon));
    let refused = said.iter().any(|o| match o {
        Outgoing::Order { child: 9, body, .. } => body.starts_with(&Refuse::NUMBER.to_be_bytes()),
        _ => false,
    });
    assert!(refused, "{said:?}");
}

#[test]
fn silence_about_a_channel_counts_once_the_peer_had_time() {
    let start = Instant::now();
    let mut rig = Rig::new("silence", &[(1, 1)]);
    let (peer, connection) = waiting(&mut rig, 4, start);
    let forgotten =
        |rig: &Rig, now| rig.node.channels.forgotten_by(peer, &connection, now).map(|c| c.number.0);
    assert_eq!(forgotten(&rig, start), None);
    assert_eq!(forgotten(&rig, start + SILENCE - SECOND), None);
    assert_eq!(forgotten(&rig, start + SILENCE), Some(1));
    // One that was opened on this connection tells nothing of the others.
    let opened = rig.node.channels.all.get_mut(&ChannelNumber(4)).unwrap();
    opened.served_connection = Some(7);
    opened.reestablished = true;
    assert_eq!(forgotten(&rig, start), None);
    rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap().spoken_on = Some(7);
    assert_eq!(forgotten(&rig, start), Some(2));
}

#[test]
fn all_channels_of_peer_are_resumed_for_one_birth_a_connection() {
    let mut rig = Rig::new("resumed", &[(1, 1)]);
    let (peer, _) = waiting(&mut rig, 4, Instant::now());
    // Others have used up all but one of what strangers may bear on reconnects.
    for n in 0..19 {
        rig.node.channels.budgets.reconnects(id(n), Instant::now());
    }
    for n in 1..=4 {
        rig.turn(|node, turn| start_for_peer(node, turn, &node.channels.all[&ChannelNumber(n)]));
    }
    let served = rig.node.channels.with(peer).filter(|c| c.owner.child().is_some());
    assert_eq!(served.count(), 4);
    assert!(!rig.node.channels.budgets.may_reconnect(peer, Instant::now()));
}

#[test]
fn pending_channel_resumes_whatever_strangers_propose() {
    let mut rig = Rig::new("resumed-in-crowd", &[(1, 1)]);
    let (peer, _) = waiting(&mut rig, 1, Instant::now());
    // A crowd, and the peer itself, have used up what proposals may bear.
    let strangers = &mut rig.node.channels.budgets;
    let proposer = |peer| Proposer { peer, source: None, is_stranger: true };
    (0..1000).for_each(|_| strangers.proposes(proposer(peer), Instant::now()));
    (0..1000).for_each(|n| strangers.proposes(proposer(id(n)), Instant::now()));
    assert!(!strangers.may_propose(proposer(peer), Instant::now()));
    rig.turn(|node, turn| start_for_peer(node, turn, &node.channels.all[&ChannelNumber(1)]));
    assert!(rig.node.channels.all[&ChannelNumber(1)].owner.child().is_some());
}

#[test]
fn daemon_of_peer_that_asks_does_not_give_way() {
    let mut rig = Rig::new("asking", &[(1, 1)]);
    for n in 0..MAX_UNFUNDED_DAEMONS as u64 {
        let mut channel = unseen(&rig, 10 + n, id(n / 4));
        channel.owner = Owner::Channeld(500 + n);
        rig.node.channels.insert(channel);
    }
    let gives_way = |peer| rig.node.channels.daemon_gives_way(peer).map(|c| c.number.0);
    assert_eq!((gives_way(id(0)), gives_way(id(1))), (Some(14), Some(10)));
}

#[test]
fn failed_channel_is_kept_unless_its_rows_prove_nothing_is_ours() {
    type Change = fn(&mut Channel);
    let cases: [(&str, Change, bool); 6] = [
        ("made up", |_| {}, false),
        ("pushed", |c| c.live.balance.local = Msat(1), true),
        ("was in a block", |c| c.was_in_block = true, true),
        ("a database put back", |c| c.trust = StateTrust::Unverified, true),
        ("old data", |c| c.trust = StateTrust::Lost, true),
        ("double-spent", |c| c.spend = Some((Txid::all_zeros(), BlockHeight(9))), true),
    ];
    for (what, change, is_kept) in cases {
        let mut rig = Rig::new("failed-unseen", &[(1, 1)]);
        made_up(&mut rig);
        change(rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap());
        rig.turn(|node, turn| {
            let channel = &node.channels.all[&ChannelNumber(1)];
            crate::rooms::channels::fail::fail_channel(
                node,
                turn,
                channel,
                Cause::Remote,
                "unknown channel",
            )
        });
        assert_eq!(rig.node.channels.all.contains_key(&ChannelNumber(1)), is_kept, "{what}");
    }
}

#[test]
fn peer_that_we_open_a_channel_with_is_no_stranger() {
    let mut rig = Rig::new("opening-of-ours", &[(1, 1)]);
    let peer = id(5);
    let pending = unseen(&rig, 2, peer);
    rig.node.channels.insert(pending);
    assert!(rig.node.channels.is_stranger(peer));
    let mut ours = unseen(&rig, 3, peer);
    ours.live.params.opener = Side::Local;
    rig.node.channels.insert(ours);
    assert!(!rig.node.channels.is_stranger(peer));
    // Whatever strangers do: its connection, with our opening on it, stays.
    let budgets = &mut rig.node.channels.budgets;
    (0..1000).for_each(|n| budgets.reconnects(id(n), Instant::now()));
    rig.node.peers.all.entry(peer).or_default().connection = Some(Connection {
        number: 7,
        since: Instant::now(),
        direction: wire::connectd::Direction::In,
        address: wire::connectd::Address { host: "10.0.0.1".to_owned(), port: 9735 },
        remote_addr: None,
        features: Features::none(),
    });
    rig.turn(|node, turn| start_for_peer(node, turn, &node.channels.all[&ChannelNumber(2)]));
    assert!(rig.node.channels.all[&ChannelNumber(2)].owner.child().is_some());
}
