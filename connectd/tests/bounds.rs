//! What a peer or a daemon that does not read, does not speak, or speaks nonsense can do: nothing
//! much.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;
use common::*;
use connectd::limits::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use subdaemon::{PeerRecord, send_record};
use wire::connectd::*;
use wire::{Message, Ping, Pong};

/// What the kernel may keep on its own account, per socket: generously.
const KERNEL: usize = 12 * 1024 * 1024;

#[test]
fn daemon_that_does_not_read_stops_its_peer_and_nobody_else() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut flood, with) = Raw::connect(2, &mut node);
    let mut daemon = node.attach(&with, channel(1));
    daemon.send_raw(&message(channel(1), 0, 0)).unwrap();
    flood.hear().unwrap();

    // Until TCP has taken nothing for a while: somebody behind has had enough.
    flood.stream.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut sent = 0;
    let mut rest = Vec::new();
    'stuck: for n in 0.. {
        flood.link.say(&message(channel(1), n, 60_000)).unwrap();
        rest = flood.link.out().waiting().to_vec();
        flood.link.out().sent(rest.len());
        while !rest.is_empty() {
            match flood.stream.write(&rest) {
                Ok(n) => drop(rest.drain(..n)),
                Err(_) => {
                    sent = n;
                    break 'stuck;
                }
            }
        }
        assert!(n as usize * 60_000 < KERNEL + PEER_IN_MAX, "no bound on what is taken in");
    }

    // Others are served as ever.
    let (mut other, to) = Raw::connect(3, &mut node);
    other.say(&Ping { num_pong_bytes: 1, ignored: vec![] }.encode());
    assert_eq!(other.hear().unwrap(), Pong { ignored: vec![0] }.encode());
    node.disconnect(&to);
    node.disconnected();

    // Once the daemon reads, everything comes, in order.
    let writer = aside(move || {
        flood.stream.set_write_timeout(None).unwrap();
        flood.stream.write_all(&rest).unwrap();
        flood
    });
    for n in 0..=sent {
        assert_eq!(number_in(&message_for(&mut daemon)), n);
    }
    writer.recv().unwrap();
}

#[test]
fn peer_that_does_not_read_stops_its_daemons() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    let (mut one, mut two) = (node.attach(&with, channel(1)), node.attach(&with, channel(2)));
    // Two daemons that write until neither socket takes more, each time asked again until that
    // lasts.
    let mut sent = [0u32; 2];
    let mut refused = 0;
    while refused < 50 {
        let mut took = false;
        for (n, (daemon, id)) in [(&one, channel(1)), (&two, channel(2))].into_iter().enumerate() {
            let record = [&[PEER_RECORD_MESSAGE], &message(id, sent[n], 60_000)[..]].concat();
            if send_record(daemon.as_fd(), &record).unwrap() {
                sent[n] += 1;
                took = true;
            }
        }
        if took {
            refused = 0;
        } else {
            refused += 1;
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let total = 60_000 * (sent[0] + sent[1]) as usize;
        assert!(total < KERNEL + PEER_OUT_MAX, "no bound on what is taken from the daemons");
    }
    // Ours is the smaller part of what was taken, but it was taken: the queue is really full.
    assert!(60_000 * (sent[0] + sent[1]) as usize > PEER_OUT_HIGH);

    // The peer is still heard while it does not read: two nodes that both send must not stop each
    // other.
    peer.say(&message(channel(1), 77, 0));
    let drained = || PeerRecord::Control(Drained {}.into());
    let heard = std::iter::from_fn(|| record(&mut one)).find(|record| *record != drained());
    assert_eq!(heard, Some(PeerRecord::Message(message(channel(1), 77, 0))));
    // The peer pings without reading pongs: within a bound they are owed.
    for _ in 0..MAX_OWED_PONGS {
        peer.say(&Ping { num_pong_bytes: 65531, ignored: vec![] }.encode());
    }

    let mut next = [0u32; 2];
    let mut pongs = 0;
    while next != sent || pongs < MAX_OWED_PONGS {
        let m = peer.hear().unwrap();
        if m.starts_with(&[0, 19]) {
            assert_eq!(m.len(), 65535);
            pongs += 1;
            continue;
        }
        let n = if m[2..34] == channel(1).0 { 0 } else { 1 };
        assert_eq!(number_in(&m), next[n], "nothing is lost, nothing out of order");
        next[n] += 1;
    }
    // And who had to wait hears that it is over.
    for daemon in [&mut one, &mut two] {
        assert_eq!(record(daemon), Some(drained()));
    }
}

#[test]
fn ping_flood_costs_a_burst_of_pongs_and_one_a_second() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    let start = Instant::now();
    for _ in 0..10_000 {
        peer.link.say(&Ping { num_pong_bytes: 65531, ignored: vec![] }.encode()).unwrap();
    }
    let (bytes, mut stream) =
        (peer.link.out().waiting().to_vec(), peer.stream.try_clone().unwrap());
    let writer = aside(move || drop(stream.write_all(&bytes)));
    let (mut pongs, mut last) = (0, vec![]);
    while let Some(m) = peer.hear() {
        pongs += u64::from(m.starts_with(&[0, 19]));
        last = m;
    }
    println!("10000 pings of 6 bytes bring {pongs} pongs in {:?}", start.elapsed());
    assert!(pongs <= u64::from(PONG_BURST) + 1 + start.elapsed().as_secs(), "{pongs}");
    assert!(last.starts_with(&[0, 1]), "the peer hears why");
    let gone = node.disconnected();
    assert_eq!(gone.connection, with.connection);
    writer.recv().unwrap();
}

#[test]
fn peers_without_a_channel_share_their_pongs() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let start = Instant::now();
    // Each comes anew, takes its burst, and goes: two megabytes each time.
    let mut bytes = 0;
    for n in 0..8 {
        let (mut peer, _) = Raw::connect(2 + n, &mut node);
        for _ in 0..PONG_BURST {
            peer.say(&Ping { num_pong_bytes: 65531, ignored: vec![] }.encode());
        }
        peer.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut room = vec![0; 1 << 16];
        while let Ok(n @ 1..) = peer.stream.read(&mut room) {
            bytes += n as u64;
        }
        drop(peer);
        node.disconnected();
    }
    // As much as the bucket held, and what came into it since.
    let most = u64::from(IDLE_PONGS_BURST) * 1024 + 257 * start.elapsed().as_millis() as u64;
    println!("{bytes} bytes in {:?}", start.elapsed());
    assert!(bytes <= most + 65536 * 2, "{bytes} bytes, {most} allowed");
    // One with a channel is not concerned.
    let (mut friend, with) = Raw::connect(50, &mut node);
    let mut daemon = node.attach(&with, channel(1));
    daemon.send_raw(&message(channel(1), 7, 0)).unwrap();
    assert_eq!(number_in(&friend.hear().unwrap()), 7);
    for _ in 0..PONG_BURST {
        friend.say(&Ping { num_pong_bytes: 65531, ignored: vec![] }.encode());
        assert_eq!(friend.hear().unwrap().len(), 65535);
    }
}

#[test]
fn peer_that_wants_more_pongs_than_it_reads_is_hung_up_on() {
    let _dog = watchdog();
    let times = Times { last_words: Duration::from_millis(300), ..Times::default() };
    let mut node = Node::with_times(1, times);
    let (mut peer, with) = Raw::connect(2, &mut node);
    let ping = Ping { num_pong_bytes: 65531, ignored: vec![] }.encode();
    let writer = aside(move || {
        // Each asks for 64 kB and none is read: the end comes as a broken pipe.
        for _ in 0..100_000 {
            peer.link.say(&ping).unwrap();
            let bytes = peer.link.out().waiting().to_vec();
            peer.link.out().sent(bytes.len());
            if peer.stream.write_all(&bytes).is_err() {
                return true;
            }
        }
        false
    });
    let gone = node.disconnected();
    assert_eq!(gone.connection, with.connection);
    assert!(gone.why.contains("pongs"), "{}", gone.why);
    assert!(writer.recv().unwrap());
}

#[test]
fn peer_that_takes_nothing_is_given_up() {
    let _dog = watchdog();
    let times = Times { stall: Duration::from_millis(300), ..Times::default() };
    let mut node = Node::with_times(1, times);
    let (_peer, with) = Raw::connect(2, &mut node);
    let daemon = node.attach(&with, channel(1));
    let writer = aside(move || {
        let record = [&[PEER_RECORD_MESSAGE], &message(channel(1), 0, 60_000)[..]].concat();
        while let Ok(_taken) = send_record(daemon.as_fd(), &record) {
            std::thread::yield_now();
        }
    });
    let gone = node.disconnected();
    assert_eq!((gone.connection, gone.why.as_str()), (with.connection, "the peer takes nothing"));
    writer.recv().unwrap();
}

#[test]
fn messages_held_for_channels_without_daemons_are_bounded() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    // Many channels.
    let (mut peer, with) = Raw::connect(2, &mut node);
    let writer = aside(move || {
        for n in 0..200u32 {
            let mut id = channel(0);
            id.0[..4].copy_from_slice(&(n + 1).to_be_bytes());
            peer.say(&message(id, n, 0));
        }
        peer
    });
    let mut spoke: Vec<Spoke> = (0..MAX_HELD_CHANNELS).map(|_| node.spoke()).collect();
    let mut peer = writer.recv().unwrap();
    // No more is heard of this peer until the master says what becomes of those; of others it is.
    let (mut other, to) = Raw::connect(3, &mut node);
    other.say(&message(channel(9), 1, 0));
    assert_eq!(node.spoke().channel, channel(9));
    node.disconnect(&to);
    node.disconnected();
    let refuse = |s: &Spoke| {
        let (node, connection, channel) = (s.node, s.connection, s.channel);
        Refuse { node, connection, channel }
    };
    let mut heard = spoke.len();
    while heard < 200 {
        let next = spoke.pop().unwrap();
        node.master.order(&refuse(&next), vec![]);
        spoke.push(node.spoke());
        spoke.rotate_right(1);
        heard += 1;
    }
    for s in &spoke {
        node.master.order(&refuse(s), vec![]);
    }
    peer.say(&Ping { num_pong_bytes: 1, ignored: vec![] }.encode());
    assert_eq!(peer.hear().unwrap(), Pong { ignored: vec![0] }.encode());

    // One channel, many bytes.
    let (flood, with) = (peer, with);
    let writer = aside(move || {
        let mut flood = flood;
        for n in 0..100 {
            flood.say(&message(channel(1), n, 60_000));
        }
        flood
    });
    assert_eq!(node.spoke().channel, channel(1));
    let mut daemon = node.attach(&with, channel(1));
    for n in 0..100 {
        assert_eq!(number_in(&message_for(&mut daemon)), n);
    }
    writer.recv().unwrap();
}

#[test]
fn message_that_nobody_comes_for_ends_the_connection() {
    let _dog = watchdog();
    let times = Times { held: Duration::from_millis(200), ..Times::default() };
    let mut node = Node::with_times(1, times);
    let (mut peer, with) = Raw::connect(2, &mut node);
    peer.say(&message(channel(1), 1, 0));
    node.spoke();
    let gone = node.disconnected();
    assert_eq!(gone.connection, with.connection);
    assert!(gone.why.contains("nobody serves"), "{}", gone.why);
}

#[test]
fn arbitrary_bytes_at_any_stage_end_only_that_connection() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut witness, _) = Raw::connect(9, &mut node);
    let node = RefCell::new(node);
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    TestRunner::new(ProptestConfig { cases: 150, ..ProptestConfig::default() })
        .run(&(0..4u8, bytes(), bytes()), |(stage, mut first, second)| {
            match stage {
                // Instead of act one.
                0 | 1 => {
                    if stage == 1 && first.len() > 2 {
                        first[0] = 0;
                        first[1] = 2;
                    }
                    let mut stream = TcpStream::connect(node.borrow().at).unwrap();
                    let _ = stream.write_all(&first);
                    let _ = stream.write_all(&second);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let mut said = Vec::new();
                    let _ = stream.read_to_end(&mut said);
                    prop_assert!(said.is_empty());
                }
                // Sealed, instead of init.
                2 => {
                    let mut peer = Raw::handshake(2, &node.borrow());
                    peer.say(&first);
                    peer.say(&second);
                    let _ = peer.stream.shutdown(std::net::Shutdown::Write);
                    peer.last_words();
                }
                // Unsealed, after init.
                _ => {
                    let (mut peer, with) = Raw::connect(2, &mut node.borrow_mut());
                    let _ = peer.stream.write_all(&first);
                    let _ = peer.stream.write_all(&second);
                    let _ = peer.stream.shutdown(std::net::Shutdown::Write);
                    peer.last_words();
                    prop_assert_eq!(node.borrow_mut().disconnected().connection, with.connection);
                }
            }
            Ok(())
        })
        .unwrap();
    witness.say(&Ping { num_pong_bytes: 3, ignored: vec![] }.encode());
    assert_eq!(witness.hear().unwrap(), Pong { ignored: vec![0; 3] }.encode());
}

#[test]
fn arbitrary_messages_of_a_connected_peer_leave_the_node() {
    let _dog = watchdog();
    let node = RefCell::new(Node::start(1));
    let message = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        (0..300u16, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(number, body)| [
            &number.to_be_bytes()[..],
            &body
        ]
        .concat()),
    ];
    TestRunner::new(ProptestConfig { cases: 150, ..ProptestConfig::default() })
        .run(&prop::collection::vec(message, 1..8), |messages| {
            let (mut peer, with) = Raw::connect(2, &mut node.borrow_mut());
            for m in &messages {
                peer.say(m);
            }
            let _ = peer.stream.shutdown(std::net::Shutdown::Write);
            peer.last_words();
            loop {
                match node.borrow_mut().heard() {
                    FromConnectd::Spoke(_) | FromConnectd::PeerComplained(_) => {}
                    FromConnectd::Disconnected(d) => {
                        prop_assert_eq!(d.connection, with.connection);
                        return Ok(());
                    }
                    other @ (FromConnectd::Log(_)
                    | FromConnectd::Status(_)
                    | FromConnectd::Failed(_)
                    | FromConnectd::Listening(_)
                    | FromConnectd::Connected(_)
                    | FromConnectd::ConnectFailed(_)
                    | FromConnectd::Ponged(_)
                    | FromConnectd::CustomMessage(_)) => prop_assert!(false, "{:?}", other),
                }
            }
        })
        .unwrap();
}

#[test]
fn arbitrary_records_of_a_daemon_cost_it_its_socket_at_most() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut peer, with) = Raw::connect(2, &mut node);
    let reader = aside(move || while peer.hear().is_some() {});
    TestRunner::new(ProptestConfig { cases: 300, ..ProptestConfig::default() })
        .run(&prop::collection::vec(any::<u8>(), 1..60), |mut record| {
            // Two that mean something: a message (sent as it is), and the order to hang up.
            record[0] |= 1;
            prop_assume!(record[..] != [1, 0x08, 0x99]);
            let mut daemon = node.attach(&with, channel(1));
            send_record(daemon.as_fd(), &record).unwrap();
            prop_assert_eq!(common::record(&mut daemon), None);
            Ok(())
        })
        .unwrap();
    node.disconnect(&with);
    node.disconnected();
    reader.recv().unwrap();
}
