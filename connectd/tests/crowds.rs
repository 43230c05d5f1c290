//! What many can do that one cannot: use up what all share. Whoever reads and is served is served
//! on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;
use common::*;
use connectd::Settings;
use connectd::limits::*;
use nix::sys::socket::{setsockopt, sockopt};
use primitives::ChannelId;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use subdaemon::send_record;
use wire::connectd::*;
use wire::{Message, Ping, Pong, Warning};

/// What the kernel may keep on its own account, per socket: generously.
const KERNEL: usize = 12 * 1024 * 1024;

/// Takes little before somebody reads.
fn narrow(peer: &Raw) {
    setsockopt(&peer.stream, sockopt::RcvBuf, &4096).unwrap();
}

/// A channel that nobody has.
fn unheard_of(n: u32) -> ChannelId {
    let mut id = channel(0);
    id.0[..4].copy_from_slice(&(n + 1).to_be_bytes());
    id
}

#[test]
fn peer_that_does_not_read_silences_nobody_but_itself() {
    let _dog = watchdog();
    let times = Times { ping_idle: Duration::from_secs(600), ..Times::default() };
    // What one peer may leave unread is what all of them may.
    let settings = Settings { max_out: PEER_OUT_HIGH, times, ..Settings::default() };
    let mut node = Node::with_settings(init_of(1), 1, settings);
    let (mut friend, with) = Raw::connect(2, &mut node);
    let mut daemon = node.attach(&with, channel(1));
    let (_mute, with) = Raw::connect(3, &mut node);
    let flood = node.attach(&with, channel(2));
    let record = [&[PEER_RECORD_MESSAGE], &message(channel(2), 0, 60_000)[..]].concat();
    let mut refused = 0;
    while refused < 50 {
        if send_record(flood.as_fd(), &record).unwrap() {
            refused = 0;
        } else {
            refused += 1;
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
    for n in 0..100 {
        daemon.send_raw(&message(channel(1), n, 1000)).unwrap();
        assert_eq!(number_in(&friend.hear().unwrap()), n);
    }
    friend.say(&Ping { num_pong_bytes: 1, ignored: vec![] }.encode());
    assert_eq!(friend.hear().unwrap(), Pong { ignored: vec![0] }.encode());
}

#[test]
fn peer_that_asks_and_does_not_read_is_hung_up_on() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    narrow(&peer);
    let writer = aside(move || {
        let mut n = 0;
        while peer.tries_to_say(&message(unheard_of(n), n, 0)) {
            n += 1;
        }
    });
    let mut said = 0;
    loop {
        match node.heard() {
            FromConnectd::Spoke(Spoke { node: id, connection, channel, .. }) => {
                let error = wire::Error::new(channel, &"x".repeat(60_000)).encode();
                said += error.len();
                assert!(said < KERNEL + MAX_WORDS, "no bound on what waits for a peer");
                node.master.order(&Refuse { node: id, connection, channel }, vec![]);
                node.send(&with, error);
            }
            FromConnectd::Disconnected(gone) => {
                assert!(gone.why.contains("more than it reads"), "{}", gone.why);
                break;
            }
            other @ (FromConnectd::Log(_)
            | FromConnectd::Status(_)
            | FromConnectd::Failed(_)
            | FromConnectd::Listening(_)
            | FromConnectd::Connected(_)
            | FromConnectd::ConnectFailed(_)
            | FromConnectd::Ponged(_)
            | FromConnectd::PeerComplained(_)
            | FromConnectd::CustomMessage(_)) => unreachable!("{other:?}"),
        }
    }
    writer.recv().unwrap();
}

/// How often the log was told of a warning.
static WARNINGS: AtomicUsize = AtomicUsize::new(0);

struct Counting;
impl log::Log for Counting {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("warning about channel") {
            WARNINGS.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn flush(&self) {}
}

#[test]
fn peer_cannot_fill_our_log_with_its_warnings() {
    let _dog = watchdog();
    log::set_logger(&Counting).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let mut node = Node::start(1);
    let (mut peer, _) = Raw::connect(2, &mut node);
    for n in 0..1000 {
        peer.say(&Warning::new(unheard_of(n), "all is lost").encode());
    }
    peer.say(&Ping { num_pong_bytes: 1, ignored: vec![] }.encode());
    assert_eq!(peer.hear().unwrap(), Pong { ignored: vec![0] }.encode());
    assert_eq!(WARNINGS.load(Ordering::Relaxed), MAX_COMPLAINTS as usize);
}

#[test]
fn served_peers_are_read_while_the_report_queue_is_full() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut friend, with) = Raw::connect(2, &mut node);
    let mut daemon = node.attach(&with, channel(1));
    let mut crowd: Vec<Raw> = (0..60).map(|n| Raw::connect(3 + n, &mut node).0).collect();
    // Far more than may wait for the master, who reads none of it.
    for (at, peer) in crowd.iter_mut().enumerate() {
        for n in 0..2 {
            peer.say(&message(unheard_of(n), n, 65_000));
        }
        if (at + 1) * 2 * 65_000 < REPORTS_HIGH {
            // Below that everybody is heard.
            peer.say(&Ping { num_pong_bytes: 1, ignored: vec![] }.encode());
            assert_eq!(peer.hear().unwrap(), Pong { ignored: vec![0] }.encode());
        }
    }
    for n in 0..2000 {
        friend.say(&message(channel(1), n, 1000));
        assert_eq!(number_in(&message_for(&mut daemon)), n);
    }
    for _ in 0..2 * crowd.len() {
        node.spoke();
    }
}

#[test]
fn full_house_of_the_idle_lets_in_who_is_about_to_say_its_name() {
    let _dog = watchdog();
    let settings = Settings { max_descriptors: 4, ..Settings::default() };
    let mut node = Node::with_settings(init_of(1), 1, settings);
    let _idle: Vec<Raw> = (0..4).map(|n| Raw::connect(3 + n, &mut node).0).collect();
    let mut friend = Raw::first_act(2, &node);
    node.disconnected();
    let _crowd = [(); 3].map(|()| {
        let mut stranger = std::net::TcpStream::connect(node.at).unwrap();
        std::io::Write::write_all(&mut stranger, &[0]).unwrap();
        node.disconnected();
        stranger
    });
    assert!(friend.finish_handshake());
}

#[test]
fn many_identities_from_one_address_push_out_each_other() {
    let _dog = watchdog();
    let settings = Settings { max_descriptors: 8, ..Settings::default() };
    let mut node = Node::with_settings(init_of(1), 1, settings);
    let mut come = |secret: u8, from: [u8; 4]| {
        let mut peer = Raw::over(connect_from(from, node.at), secret, &node);
        assert!(peer.finish_handshake());
        peer.say(&connectd::init::ours(&features(), primitives::Network::Regtest, None));
        loop {
            match node.heard() {
                FromConnectd::Connected(c) if c.node == node_id(secret) => return peer,
                FromConnectd::Disconnected(d) => {
                    assert_ne!(d.node, node_id(2), "the friend, who came first, is pushed out");
                }
                other @ (FromConnectd::Log(_)
                | FromConnectd::Status(_)
                | FromConnectd::Failed(_)
                | FromConnectd::Listening(_)
                | FromConnectd::Connected(_)
                | FromConnectd::ConnectFailed(_)
                | FromConnectd::Spoke(_)
                | FromConnectd::Ponged(_)
                | FromConnectd::PeerComplained(_)
                | FromConnectd::CustomMessage(_)) => unreachable!("{other:?}"),
            }
        }
    };
    let mut friend = come(2, [127, 0, 0, 3]);
    let _crowd: Vec<Raw> = (3..100).map(|n| come(n, [127, 0, 0, 2])).collect();
    friend.say(&Ping { num_pong_bytes: 1, ignored: vec![] }.encode());
    while friend.hear().unwrap() != (Pong { ignored: vec![0] }).encode() {}
}

/// Of two peers with a connection without a daemon, a crowd of others pushes out the one without a
/// funded channel.
#[test]
fn friend_keeps_its_place_from_its_handshake_to_its_daemon() {
    let _dog = watchdog();
    let settings = Settings { max_descriptors: 8, ..Settings::default() };
    let mut node = Node::with_settings(init_of(1), 1, settings);
    node.master.order(&FundedPeers { nodes: vec![node_id(2)] }, vec![]);
    let crowd = |node: &mut Node, first: u8| -> Vec<Raw> {
        let one = |n: u8| {
            let mut peer = Raw::handshake(n, node);
            peer.say(&connectd::init::ours(&features(), primitives::Network::Regtest, None));
            loop {
                match node.heard() {
                    FromConnectd::Connected(c) if c.node == node_id(n) => return peer,
                    FromConnectd::Connected(_) => {}
                    FromConnectd::Disconnected(d) => assert_ne!(d.node, node_id(2), "{}", d.why),
                    other @ (FromConnectd::Log(_)
                    | FromConnectd::Status(_)
                    | FromConnectd::Failed(_)
                    | FromConnectd::Listening(_)
                    | FromConnectd::ConnectFailed(_)
                    | FromConnectd::Spoke(_)
                    | FromConnectd::Ponged(_)
                    | FromConnectd::PeerComplained(_)
                    | FromConnectd::CustomMessage(_)) => unreachable!("{other:?}"),
                }
            }
        };
        (first..first + 60).map(one).collect()
    };
    // Its id is known, its `init` is not there yet: lightningd knows nothing of it.
    let mut friend = Raw::handshake(2, &node);
    let init = friend.hear().unwrap();
    assert_eq!(init[..2], [0, 16]);
    let _others = crowd(&mut node, 10);
    friend.say(&connectd::init::ours(&features(), primitives::Network::Regtest, None));
    let with = node.connected();
    assert_eq!(with.node, node_id(2));
    // lightningd has heard of it, and connectd of no daemon yet.
    let _more = crowd(&mut node, 80);
    let mut daemon = node.attach(&with, channel(1));
    daemon.send_raw(&message(channel(1), 7, 100)).unwrap();
    assert_eq!(number_in(&friend.hear().unwrap()), 7);
}

#[test]
fn channels_that_nobody_serves_are_heard_of_a_thousand_times() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    std::thread::spawn(move || {
        let mut n = 0;
        // Until it is hung up on.
        while peer.tries_to_say(&message(unheard_of(n), n, 0)) {
            n += 1;
        }
    });
    let (mut heard, begun) = (0, Instant::now());
    let gone = loop {
        match node.heard() {
            FromConnectd::Spoke(s) => {
                heard += 1;
                let (connection, channel) = (s.connection, s.channel);
                node.master.order(&Refuse { node: s.node, connection, channel }, vec![]);
            }
            FromConnectd::Disconnected(gone) => break gone,
            FromConnectd::Log(_)
            | FromConnectd::Status(_)
            | FromConnectd::Failed(_)
            | FromConnectd::Listening(_)
            | FromConnectd::Connected(_)
            | FromConnectd::ConnectFailed(_)
            | FromConnectd::Ponged(_)
            | FromConnectd::PeerComplained(_)
            | FromConnectd::CustomMessage(_) => {}
        }
    };
    assert_eq!(gone.connection, with.connection);
    assert!(gone.why.contains("nobody serves"), "{}", gone.why);
    // Some were under way.
    let most = 1001 + MAX_HELD_CHANNELS as u128 + begun.elapsed().as_millis() / 100;
    assert!((1000..=most).contains(&heard), "{heard}");
}
