//! Dialling and listening, names, failures with their reasons, and the real executable in its box.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;
use common::*;
use connectd::limits::Times;
use primitives::NodeId;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;
use subdaemon::{Conn, send_frame};
use wire::Message;
use wire::connectd::*;
use wire::daemon::{LogLevel, Start};

fn address(host: &str, port: u16) -> Address {
    Address { host: host.into(), port }
}
fn order(node: &Node, to: NodeId, addresses: Vec<Address>) {
    node.master.order(&Connect { node: to, addresses }, vec![]);
}

#[test]
fn connections_are_numbered_on_from_the_last_connectds() {
    let _dog = watchdog();
    let last_connection = 300 << 40;
    let init = ConnectdInit { last_connection, ..init_of(1) };
    let mut a = Node::with(init, 1, Times::default());
    let mut b = Node::start(2);
    order(&a, b.id(), vec![address("127.0.0.1", b.at.port())]);
    assert_eq!(a.connected().connection, last_connection + 1);
    b.connected();
    order(&b, a.id(), vec![address("127.0.0.1", a.at.port())]);
    // One that comes in, and is heard.
    let (mut peer, with) = Raw::connect(3, &mut a);
    peer.say(&message(channel(1), 1, 0));
    assert_eq!((a.spoke().connection, with.connection), (last_connection + 2, last_connection + 2));
}

#[test]
fn addresses_are_all_tried_and_failures_have_reasons() {
    let _dog = watchdog();
    let times = Times { dial: Duration::from_millis(300), ..Times::default() };
    let mut a = Node::with_times(1, times);
    let mut b = Node::start(2);
    // A port where nobody listens.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wrong = [
        address("127.0.0.1", nobody),
        address("127.0.0.1", b.at.port()),
        address("abcdefgh.onion", 9735),
        address("no-such-host.invalid", 9735),
    ];
    // Node 3 lives at none of these.
    order(&a, node_id(3), wrong.to_vec());
    let failed = a.connect_failed();
    assert_eq!(failed.node, node_id(3));
    let why: Vec<&str> = failed.failures.iter().map(|f| f.why.as_str()).collect();
    assert_eq!(why.len(), 4, "{why:?}");
    assert!(why[0].starts_with("Connection establishment: Connection refused"), "{why:?}");
    assert_eq!(why[1], "Cryptographic handshake: peer closed connection (wrong key?)");
    assert!(why[2].contains("Tor"), "{why:?}");
    assert_eq!(failed.failures[0].address, format!("127.0.0.1:{nobody}"));
    assert_eq!(failed.failures[3].address, "no-such-host.invalid:9735");

    // The right one is found behind wrong ones.
    let mut mixed = wrong[..3].to_vec();
    mixed.push(address("127.0.0.1", b.at.port()));
    order(&a, b.id(), mixed);
    assert_eq!(a.connected().node, b.id());
    assert_eq!(b.connected().node, a.id());

    order(&a, a.id(), vec![address("127.0.0.1", a.at.port())]);
    assert!(a.connect_failed().failures[0].why.contains("our own"));
    order(&a, NodeId([5; 33]), vec![]);
    assert!(a.connect_failed().failures[0].why.contains("no valid key"));
    order(&a, node_id(7), vec![]);
    assert_eq!(a.connect_failed().failures, []);
}

#[test]
fn names_are_looked_up_by_the_process_beside() {
    let _dog = watchdog();
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    order(&a, b.id(), vec![address("localhost", b.at.port())]);
    assert_eq!(a.connected().node, b.id());
    assert_eq!(b.connected().direction, Direction::In);

    let mut init = init_of(3);
    init.disable_dns = true;
    let mut c = Node::with(init, 3, Times::default());
    order(&c, b.id(), vec![address("localhost", b.at.port())]);
    assert!(c.connect_failed().failures[0].why.contains("disable-dns"));
}

#[test]
fn listener_that_never_answers_is_given_up_in_time() {
    let _dog = watchdog();
    let times = Times { handshake: Duration::from_millis(200), ..Times::default() };
    let mut a = Node::with_times(1, times);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    a.dial(node_id(2), silent.local_addr().unwrap());
    let (mut stream, _) = silent.accept().unwrap();
    let failed = a.connect_failed();
    assert_eq!(failed.failures[0].why, "Cryptographic handshake: timed out");
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said.len(), 50, "act one and no more");
}

#[test]
fn many_orders_for_one_peer_are_one_dial() {
    let _dog = watchdog();
    let (mut a, mut b) = (Node::start(1), Node::start(2));
    for _ in 0..20 {
        a.dial(b.id(), b.at);
    }
    assert_eq!(a.connected().node, b.id());
    b.connected();
    a.dial(b.id(), b.at);
    // Connected already: nothing comes of it. What comes next is what we ask next.
    order(&a, node_id(9), vec![]);
    assert_eq!(a.connect_failed().node, node_id(9));
}

#[test]
fn listen_failure_is_reported_with_the_reason() {
    let _dog = watchdog();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut master, child) = subdaemon::testing::ScriptedMaster::new();
    let port = taken.local_addr().unwrap().port();
    let listen =
        vec![address("127.0.0.1", port), address("127.0.0.1", 0), address("not an address", 1)];
    let settings =
        connectd::Settings { resolver: None, sandbox: false, ..connectd::Settings::default() };
    std::thread::spawn(move || connectd::run(child, &settings));
    master.order(&ConnectdInit { listen, ..init_of(1) }, vec![hsmd(1)]);
    match FromConnectd::decode_known(&master.heard().unwrap().body).unwrap() {
        FromConnectd::Listening(l) => {
            assert_eq!(l.addresses.len(), 1);
            assert_eq!(l.failures.len(), 2);
            assert_eq!(l.failures[0].address, format!("127.0.0.1:{port}"));
            assert!(l.failures[0].why.contains("in use"), "{:?}", l.failures);
        }
        other @ (FromConnectd::Log(_)
        | FromConnectd::Status(_)
        | FromConnectd::Failed(_)
        | FromConnectd::Connected(_)
        | FromConnectd::ConnectFailed(_)
        | FromConnectd::Disconnected(_)
        | FromConnectd::Spoke(_)
        | FromConnectd::Ponged(_)
        | FromConnectd::PeerComplained(_)
        | FromConnectd::CustomMessage(_)) => unreachable!("{other:?}"),
    }
}

#[test]
fn connections_are_not_accepted_before_activate() {
    let _dog = watchdog();
    let (mut master, child) = subdaemon::testing::ScriptedMaster::new();
    let settings =
        connectd::Settings { resolver: None, sandbox: false, ..connectd::Settings::default() };
    std::thread::spawn(move || connectd::run(child, &settings));
    master.order(&init_of(1), vec![hsmd(1)]);
    let heard = FromConnectd::decode_known(&master.heard().unwrap().body).unwrap();
    let FromConnectd::Listening(listening) = heard else { unreachable!("{heard:?}") };
    let at = SocketAddr::new("127.0.0.1".parse().unwrap(), listening.addresses[0].port);
    let mut node = Node { master, secret: 1, at };
    // It dials all the same, and hears the other's act two before anybody is let in here.
    let mut b = Node::start(2);
    b.dial(node.id(), node.at);
    order(&node, node_id(9), vec![]);
    assert_eq!(node.connect_failed().node, node_id(9), "no Connected before it");
    node.master.order(&Activate {}, vec![]);
    assert_eq!(node.connected().node, b.id());
    b.connected();
}

#[test]
fn executable_works_in_its_box() {
    let _dog = watchdog();
    let mut b = Node::start(2);
    let (down, down_child) = subdaemon::stream_pair().unwrap();
    let (up, up_child) = subdaemon::stream_pair().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_lightning_connectd"))
        .stdin(Stdio::from(down_child))
        .spawn()
        .unwrap();
    let start = Start {
        version: wire::VERSION,
        log_level: LogLevel::Debug,
        developer: false,
        sandbox_required: true,
    };
    send_frame(down.as_fd(), &start.encode(), &[up_child.as_fd()]).unwrap();
    drop(up_child);
    let hsm = hsmd(1);
    send_frame(down.as_fd(), &init_of(1).encode(), &[hsm.as_fd()]).unwrap();
    drop(hsm);
    send_frame(down.as_fd(), &Activate {}.encode(), &[]).unwrap();
    let mut up = Conn::new(up);
    let mut log = Vec::new();
    let mut heard = || loop {
        match FromConnectd::decode_known(&up.recv().unwrap().body).unwrap() {
            FromConnectd::Log(line) => log.push(line.text),
            other @ (FromConnectd::Status(_)
            | FromConnectd::Failed(_)
            | FromConnectd::Listening(_)
            | FromConnectd::Connected(_)
            | FromConnectd::ConnectFailed(_)
            | FromConnectd::Disconnected(_)
            | FromConnectd::Spoke(_)
            | FromConnectd::Ponged(_)
            | FromConnectd::PeerComplained(_)
            | FromConnectd::CustomMessage(_)) => return other,
        }
    };
    let FromConnectd::Listening(listening) = heard() else { unreachable!("no Listening") };
    assert_eq!(listening.failures, []);
    // Out by name, through the resolver that was started before the box closed.
    let addresses = vec![address("localhost", b.at.port())];
    let connect = Connect { node: b.id(), addresses }.encode();
    send_frame(down.as_fd(), &connect, &[]).unwrap();
    let FromConnectd::Connected(out) = heard() else { unreachable!("no Connected") };
    assert_eq!((out.node, out.direction), (b.id(), Direction::Out));
    b.connected();
    // And in.
    let c = Node::start(3);
    c.dial(node_id(1), SocketAddr::new("127.0.0.1".parse().unwrap(), listening.addresses[0].port));
    let FromConnectd::Connected(inbound) = heard() else { unreachable!("no Connected") };
    assert_eq!((inbound.node, inbound.direction), (c.id(), Direction::In));
    assert!(log.iter().any(|line| line.starts_with("sandboxed")), "{log:?}");
    // It ends when the master does.
    drop(down);
    process.wait().unwrap();
    assert_eq!(b.disconnected().node, node_id(1));
}
