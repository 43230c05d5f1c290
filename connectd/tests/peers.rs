//! Two connectds, and one with a peer driven by hand: connecting, talking, parting.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;
use common::*;
use connectd::limits::Times;
use primitives::{ChannelId, Features, Network};
use std::net::TcpListener;
use std::time::Duration;
use subdaemon::Peer;
use wire::connectd::*;
use wire::{Error, Init, Message, Ping, Pong, Rest, Warning};

#[test]
fn connectds_connect_and_their_daemons_talk() {
    let _dog = watchdog();
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    a.dial(b.id(), b.at);
    let (ab, ba) = (a.connected(), b.connected());
    assert_eq!((ab.node, ba.node), (b.id(), a.id()));
    assert_eq!((ab.direction, ba.direction), (Direction::Out, Direction::In));
    assert_eq!((&ab.features, &ba.features), (&features(), &features()));
    assert_eq!((ab.address.port, ab.remote_addr), (b.at.port(), None), "127.0.0.1 is not told");

    let ab = Connected { remote_addr: None, ..ab };
    let (mut da, mut db) = (a.attach(&ab, channel(7)), b.attach(&ba, channel(7)));
    for n in 0..100 {
        da.send_raw(&message(channel(7), n, 40 + 600 * n as usize)).unwrap();
        let got = message_for(&mut db);
        assert_eq!(got, message(channel(7), n, 40 + 600 * n as usize));
        db.send_raw(&got).unwrap();
        assert_eq!(message_for(&mut da), got);
    }
    a.disconnect(&ab);
    let (gone_a, gone_b) = (a.disconnected(), b.disconnected());
    assert_eq!((gone_a.connection, gone_b.connection), (ab.connection, ba.connection));
    assert_eq!((record(&mut da), record(&mut db)), (None, None));
}

#[test]
fn crossed_dials_end_with_one_connection_the_same_on_both_sides() {
    let _dog = watchdog();
    for round in 0..30 {
        let (mut a, mut b) = (Node::start(10 + 2 * round), Node::start(11 + 2 * round));
        a.dial(b.id(), b.at);
        b.dial(a.id(), a.at);
        // Whatever happens on the way: at the end each has one connection on which the other
        // answers.
        let (ca, cb) = (settle(&mut a), settle(&mut b));
        assert_ne!(ca.direction, cb.direction, "the same connection has two ends");
        let (mut da, mut db) = (a.attach(&ca, channel(1)), b.attach(&cb, channel(1)));
        da.send_raw(&message(channel(1), 5, 0)).unwrap();
        db.send_raw(&message(channel(1), 6, 0)).unwrap();
        assert_eq!(number_in(&message_for(&mut db)), 5);
        assert_eq!(number_in(&message_for(&mut da)), 6);
    }
}

#[test]
fn dial_dropped_for_the_peers_own_waits_for_its_outcome() {
    let _dog = watchdog();
    let (low, high) = low_and_high(3, 4);
    // The peer chooses. Its own connection is known to be its own; then it drops ours, in the
    // middle of the handshake.
    let mut node = Node::start(high);
    for fares_well in [true, false] {
        let theirs = TcpListener::bind("127.0.0.1:0").unwrap();
        node.dial(node_id(low), theirs.local_addr().unwrap());
        let (ours, _) = theirs.accept().unwrap();
        let mut peer = Raw::handshake(low, &node);
        assert_eq!(peer.hear().unwrap()[..2], [0, 16], "who follows says init on each");
        drop(ours);
        // Until our end is noticed: this stranger comes after it, and is answered.
        Raw::handshake(5, &node).hear().unwrap();
        if fares_well {
            peer.say(&connectd::init::ours(&features(), Network::Regtest, None));
            let connected = node.connected();
            node.disconnect(&connected);
            node.disconnected();
        } else {
            drop(peer);
            assert_eq!(node.connect_failed().node, node_id(low));
        }
    }
}

/// The connection on which a ping comes back.
fn settle(node: &mut Node) -> Connected {
    let mut current = None;
    loop {
        match node.heard() {
            FromConnectd::Connected(c) => {
                assert!(current.is_none(), "the old one is gone before the new one comes");
                let ping = PingPeer {
                    node: c.node,
                    connection: c.connection,
                    ask: c.connection,
                    length: 0,
                    pong_bytes: 5,
                };
                node.master.order(&ping, vec![]);
                current = Some(c);
            }
            FromConnectd::Disconnected(d) => {
                assert_eq!(current.take().map(|c| c.connection), Some(d.connection));
            }
            FromConnectd::Ponged(p) => {
                if let Some(c) = current.take_if(|c| c.connection == p.ask && p.length == 9) {
                    return c;
                }
            }
            other @ (FromConnectd::Log(_)
            | FromConnectd::Status(_)
            | FromConnectd::Failed(_)
            | FromConnectd::Listening(_)
            | FromConnectd::ConnectFailed(_)
            | FromConnectd::Spoke(_)
            | FromConnectd::PeerComplained(_)
            | FromConnectd::CustomMessage(_)) => unreachable!("{other:?}"),
        }
    }
}

#[test]
fn peer_that_comes_back_replaces_its_dead_connection() {
    let _dog = watchdog();
    let (low, high) = low_and_high(3, 4);
    // Once as the node that chooses, once as the one that follows.
    for (ours, theirs) in [(low, high), (high, low)] {
        let mut node = Node::start(ours);
        let (mut old, first) = Raw::connect(theirs, &mut node);
        let mut daemon = node.attach(&first, channel(1));
        daemon.send_raw(&message(channel(1), 1, 0)).unwrap();
        assert_eq!(number_in(&old.hear().unwrap()), 1);

        // The old one is still open here, as it is when a machine vanished.
        let mut new = Raw::handshake(theirs, &node);
        new.say(&connectd::init::ours(&features(), Network::Regtest, None));
        let gone = node.disconnected();
        assert_eq!(gone.connection, first.connection);
        let second = node.connected();
        assert!(second.connection > first.connection);
        assert_eq!(record(&mut daemon), None, "its socket is closed with its connection");

        // A daemon meant for the old connection does not get the new one.
        let mut late = node.attach(&first, channel(1));
        assert_eq!(record(&mut late), None);
        let mut daemon = node.attach(&second, channel(1));
        daemon.send_raw(&message(channel(1), 2, 0)).unwrap();
        new.hear().unwrap();
        assert_eq!(number_in(&new.hear().unwrap()), 2);
        old.last_words();
    }
}

#[test]
fn messages_for_a_channel_without_a_daemon_are_held_in_order() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    for n in 0..20 {
        peer.say(&message(channel(1), n, 0));
        peer.say(&message(channel(2), 100 + n, 0));
    }
    let (one, two) = (node.spoke(), node.spoke());
    assert_eq!((one.channel, two.channel), (channel(1), channel(2)), "one report each");
    assert_eq!((number_in(&one.message.0), number_in(&two.message.0)), (0, 100));

    let mut daemon = node.attach(&with, channel(1));
    peer.say(&message(channel(1), 20, 0));
    for n in 0..=20 {
        assert_eq!(number_in(&message_for(&mut daemon)), n);
    }
    // Nobody serves the other: it is dropped, and the next word starts anew.
    let Connected { node: id, connection, .. } = with;
    node.master.order(&Refuse { node: id, connection, channel: channel(2) }, vec![]);
    let (sent, asked) = (Ping { num_pong_bytes: 1, ignored: vec![] }, 7);
    let ping = PingPeer { node: id, connection, ask: asked, length: 0, pong_bytes: 0 };
    node.master.order(&ping, vec![]);
    while peer.hear().unwrap()[..2] != sent.encode()[..2] {}
    peer.say(&message(channel(2), 200, 0));
    assert_eq!(number_in(&node.spoke().message.0), 200);
}

#[test]
fn daemon_can_take_a_second_channel_id_but_not_anothers() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    let (mut one, mut two) = both_attached(&node, &with, &mut peer);
    one.control(AlsoRoute { channel: channel(3) }).unwrap();
    one.send_raw(&message(channel(3), 1, 0)).unwrap();
    assert_eq!(number_in(&peer.hear().unwrap()), 1, "the order of a daemon's records is kept");
    peer.say(&message(channel(3), 2, 0));
    peer.say(&message(channel(1), 3, 0));
    assert_eq!(number_in(&message_for(&mut one)), 2);
    assert_eq!(number_in(&message_for(&mut one)), 3);

    two.control(AlsoRoute { channel: channel(3) }).unwrap();
    assert_eq!(record(&mut two), None, "an id in use closes the socket that wants it");
    peer.say(&message(channel(2), 4, 0));
    assert_eq!(node.spoke().channel, channel(2));
    peer.say(&message(channel(1), 5, 0));
    assert_eq!(number_in(&message_for(&mut one)), 5, "the other goes on");
}

#[test]
fn daemon_that_leaves_before_its_last_word_hears_no_answer() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    let (mut one, mut two) = both_attached(&node, &with, &mut peer);
    one.control(Leave {}).unwrap();
    one.send_raw(&message(channel(1), 1, 0)).unwrap();
    assert_eq!(number_in(&peer.hear().unwrap()), 1, "its last word is said");
    // The same id again, while the daemon has not ended yet.
    peer.say(&message(channel(1), 2, 0));
    let spoke = node.spoke();
    assert_eq!((spoke.channel, number_in(&spoke.message.0)), (channel(1), 2));
    let mut another = node.attach(&with, channel(1));
    assert_eq!(number_in(&message_for(&mut another)), 2);
    peer.say(&message(channel(2), 3, 0));
    assert_eq!(number_in(&message_for(&mut two)), 3, "the other goes on");
}

#[test]
fn pings_are_answered_as_bolt_1_says() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    for asked in [0, 10, 65531, 65532, 65535, 3] {
        peer.say(&Ping { num_pong_bytes: asked, ignored: vec![0; 9] }.encode());
    }
    for answered in [0, 10, 65531, 3] {
        assert_eq!(peer.hear().unwrap(), Pong { ignored: vec![0; answered] }.encode());
    }
    let Connected { node: id, connection, .. } = with;
    let ping = PingPeer { node: id, connection, ask: 77, length: 5, pong_bytes: 128 };
    node.master.order(&ping, vec![]);
    assert_eq!(peer.hear().unwrap(), Ping { num_pong_bytes: 128, ignored: vec![0; 5] }.encode());
    peer.say(&Pong { ignored: vec![0; 128] }.encode());
    match node.heard() {
        FromConnectd::Ponged(p) => assert_eq!((p.node, p.ask, p.length), (id, 77, 132)),
        other @ (FromConnectd::Log(_)
        | FromConnectd::Status(_)
        | FromConnectd::Failed(_)
        | FromConnectd::Listening(_)
        | FromConnectd::Connected(_)
        | FromConnectd::ConnectFailed(_)
        | FromConnectd::Disconnected(_)
        | FromConnectd::Spoke(_)
        | FromConnectd::PeerComplained(_)
        | FromConnectd::CustomMessage(_)) => unreachable!("{other:?}"),
    }
}

#[test]
fn idle_peer_is_pinged_and_a_dead_one_given_up() {
    let _dog = watchdog();
    let times = Times {
        ping_idle: Duration::from_millis(50),
        pong: Duration::from_millis(300),
        ..Times::default()
    };
    let mut node = Node::with_times(1, times);
    let (mut peer, with) = Raw::connect(2, &mut node);
    for _ in 0..3 {
        let ping = peer.hear().unwrap();
        assert_eq!(ping, Ping { num_pong_bytes: 1, ignored: vec![] }.encode());
        peer.say(&Pong { ignored: vec![0] }.encode());
    }
    let gone = node.disconnected();
    assert_eq!((gone.connection, gone.why.as_str()), (with.connection, "no pong"));
}

/// Daemons for the channels 1 and 2, known to be in place.
fn both_attached(node: &Node, with: &Connected, peer: &mut Raw) -> (Peer, Peer) {
    let (mut one, mut two) = (node.attach(with, channel(1)), node.attach(with, channel(2)));
    for (daemon, id) in [(&mut one, channel(1)), (&mut two, channel(2))] {
        daemon.send_raw(&message(id, 0, 0)).unwrap();
        peer.hear().unwrap();
    }
    (one, two)
}

#[test]
fn error_to_all_channels_reaches_daemons_and_ends_connection() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    let (mut one, mut two) = both_attached(&node, &with, &mut peer);

    let warning = Warning::new(ChannelId::ALL, "be\x07ware").encode();
    peer.say(&warning);
    match node.heard() {
        FromConnectd::PeerComplained(c) => {
            assert_eq!((c.is_error, c.text.as_str()), (false, "be?ware"));
        }
        other @ (FromConnectd::Log(_)
        | FromConnectd::Status(_)
        | FromConnectd::Failed(_)
        | FromConnectd::Listening(_)
        | FromConnectd::Connected(_)
        | FromConnectd::ConnectFailed(_)
        | FromConnectd::Disconnected(_)
        | FromConnectd::Spoke(_)
        | FromConnectd::Ponged(_)
        | FromConnectd::CustomMessage(_)) => unreachable!("{other:?}"),
    }
    let error = Error::new(channel(1), "only this one").encode();
    peer.say(&error);
    assert_eq!(message_for(&mut one), warning);
    assert_eq!(message_for(&mut one), error);

    let all = Error::new(ChannelId::ALL, "it is over").encode();
    peer.say(&all);
    match node.heard() {
        FromConnectd::PeerComplained(c) => assert!(c.is_error && c.text == "it is over"),
        other @ (FromConnectd::Log(_)
        | FromConnectd::Status(_)
        | FromConnectd::Failed(_)
        | FromConnectd::Listening(_)
        | FromConnectd::Connected(_)
        | FromConnectd::ConnectFailed(_)
        | FromConnectd::Disconnected(_)
        | FromConnectd::Spoke(_)
        | FromConnectd::Ponged(_)
        | FromConnectd::CustomMessage(_)) => unreachable!("{other:?}"),
    }
    assert_eq!(node.disconnected().connection, with.connection);
    assert_eq!(message_for(&mut one), all);
    assert_eq!((message_for(&mut two), message_for(&mut two)), (warning, all));
    assert_eq!((record(&mut one), record(&mut two)), (None, None));
    assert_eq!(peer.last_words(), None);
}

#[test]
fn last_words_are_written_before_we_hang_up() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    // An error to every channel, of a daemon or of the master; and a plain order to hang up.
    for how in 0..4 {
        let (mut peer, with) = Raw::connect(2, &mut node);
        let all = Error::new(ChannelId::ALL, "enough").encode();
        let mut daemon = node.attach(&with, channel(1));
        // What the peer sent and nobody reads must not cost it our last words.
        peer.say(&message(channel(9), 1, 60_000));
        node.spoke();
        match how {
            0 => daemon.send_raw(&all).unwrap(),
            1 => node.send(&with, all),
            2 => {
                node.send(&with, Warning::new(ChannelId::ALL, "enough").encode());
                node.disconnect(&with);
            }
            _ => {
                daemon.send_raw(&Error::new(channel(1), "enough").encode()).unwrap();
                daemon.control(CloseConnection {}).unwrap();
            }
        }
        peer.say(&message(channel(9), 2, 60_000));
        assert_eq!(peer.last_words().as_deref(), Some("enough"), "{how}");
        assert_eq!(node.disconnected().connection, with.connection);
        assert_eq!(record(&mut daemon), None);
    }
}

#[test]
fn daemons_messages_before_a_disconnect_order_are_written() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    for _ in 0..20 {
        let (mut peer, with) = Raw::connect(2, &mut node);
        let mut daemon = node.attach(&with, channel(1));
        daemon.send(&Warning::new(channel(1), "and that is why")).unwrap();
        drop(daemon);
        // The master hears of its end, and may be quicker than the socket.
        node.disconnect(&with);
        assert_eq!(peer.last_words().as_deref(), Some("and that is why"));
        assert_eq!(node.disconnected().connection, with.connection);
    }
}

#[test]
fn batch_is_written_without_interruption() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    let (mut one, mut two) = (node.attach(&with, channel(1)), node.attach(&with, channel(2)));
    let start = wire::StartBatch { channel_id: channel(1), batch_size: 3, message_type: None };
    one.send(&start).unwrap();
    one.send_raw(&message(channel(1), 1, 0)).unwrap();
    assert_eq!(peer.hear().unwrap(), start.encode());
    assert_eq!(number_in(&peer.hear().unwrap()), 1);
    // The batch is open: the other daemon, pongs and the master's words wait.
    two.send_raw(&message(channel(2), 50, 0)).unwrap();
    peer.say(&Ping { num_pong_bytes: 7, ignored: vec![] }.encode());
    node.send(&with, message(channel(3), 60, 0));
    peer.say(&message(channel(4), 0, 0));
    assert_eq!(node.spoke().channel, channel(4), "all of it has been seen");
    one.send_raw(&message(channel(1), 2, 0)).unwrap();
    one.send_raw(&message(channel(1), 3, 0)).unwrap();
    assert_eq!(number_in(&peer.hear().unwrap()), 2);
    assert_eq!(number_in(&peer.hear().unwrap()), 3);
    let mut rest: Vec<Vec<u8>> = (0..3).map(|_| peer.hear().unwrap()).collect();
    rest.sort();
    assert_eq!(rest[0], Pong { ignored: vec![0; 7] }.encode());
    assert_eq!((number_in(&rest[1]), number_in(&rest[2])), (50, 60));
}

#[test]
fn unwelcome_init_is_answered_with_the_reason() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let init = |features: Features, networks: Option<Rest>| {
        let global_features = Features::none();
        Init { global_features, features, networks, remote_addr: None }.encode()
    };
    let chains = |network: Network| Some(Rest(network.chain_hash().to_vec()));
    for (first, reason) in [
        (init(Features::none(), chains(Network::Signet)), "no common network"),
        (init(Features::none().with(100), None), "feature 100 is compulsory and unknown here"),
        (Ping { num_pong_bytes: 1, ignored: vec![] }.encode(), "the first message must be init"),
        (message(channel(1), 1, 0), "the first message must be init"),
        (vec![0, 16, 0], "bad init"),
        (vec![], "bad init"),
    ] {
        let mut peer = Raw::handshake(2, &node);
        peer.say(&first);
        let told = peer.last_words().expect(reason);
        assert!(told.contains(reason), "{told}");
    }
    // None of them was ever reported.
    let (_, with) = Raw::connect(2, &mut node);
    assert_eq!(with.node, node_id(2));
}

#[test]
fn words_that_make_no_sense_end_one_connection_and_no_more() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut good, _) = Raw::connect(9, &mut node);
    for (bad, reason) in [
        (vec![0x80, 0], "unknown message 32768"),
        (message(channel(1), 1, 0).into_iter().take(20).collect(), "too short"),
        (vec![], "too short"),
        (vec![7], "too short"),
        (vec![0, 64, 1, 2, 3], "unknown message 64"),
        (connectd::init::ours(&features(), Network::Regtest, None), "a second init"),
        (vec![0, 18, 0], "Ping"),
        (vec![0, 1, 0], "too short"),
        (message(ChannelId::ALL, 1, 0), "channel 0"),
    ] {
        let (mut peer, with) = Raw::connect(2, &mut node);
        // These are nobody's, and nothing comes of them.
        peer.say(&[0x80, 1, 5]);
        peer.say(&[1, 0, 9]);
        peer.say(&[0, 7, 0, 0]);
        peer.say(&bad);
        let told = peer.last_words().expect(reason);
        assert!(told.contains(reason), "{told}: {bad:?}");
        assert_eq!(node.disconnected().connection, with.connection);
    }
    good.say(&Ping { num_pong_bytes: 2, ignored: vec![] }.encode());
    assert_eq!(good.hear().unwrap(), Pong { ignored: vec![0; 2] }.encode());
    good.say(&message(channel(5), 1, 0));
    assert_eq!(node.spoke().channel, channel(5));
}

#[test]
fn last_words_of_a_daemon_reach_a_peer_that_keeps_sending() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    for round in 1..=60 {
        let mut daemon = node.attach(&with, channel(round));
        for n in 0..20 {
            peer.say(&message(channel(round), n, 0));
        }
        assert_eq!(number_in(&message_for(&mut daemon)), 0);
        daemon.send(&Error::new(channel(round), "too much")).unwrap();
        drop(daemon);
        for n in 20..40 {
            peer.say(&message(channel(round), n, 0));
        }
        let error = Error::new(channel(round), "too much").encode();
        // With the pong everything before the ping is read, and none of it is left to be held after
        // the refusal.
        peer.say(&Ping { num_pong_bytes: 1, ignored: vec![] }.encode());
        let pong = Pong { ignored: vec![0] }.encode();
        let mut awaited = vec![error, pong];
        while !awaited.is_empty() {
            let heard = peer.hear().expect("the connection stays");
            awaited.retain(|message| *message != heard);
        }
        let Connected { node: id, connection, .. } = with;
        node.master.order(&Refuse { node: id, connection, channel: channel(round) }, vec![]);
    }
}
