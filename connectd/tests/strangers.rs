//! Connections that have not shown who they are: few, not for long, and never in the place of a
//! peer.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;
use common::*;
use connectd::init;
use connectd::limits::*;
use primitives::Network;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use wire::{Message, Ping, Pong};

fn quick() -> Times {
    Times { handshake: Duration::from_millis(200), ..Times::default() }
}

/// Somebody who has said one byte: of one who says none the kernel may not tell connectd.
fn stranger(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(node.at).unwrap();
    stream.write_all(&[0]).unwrap();
    stream
}

/// Has the node hung up?
fn has_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let ended = (&*stream)
        .read(&mut [0])
        .map_or_else(|e| e.kind() != std::io::ErrorKind::WouldBlock, |n| n == 0);
    stream.set_nonblocking(false).unwrap();
    ended
}

#[test]
fn silent_connections_are_kept_from_us_by_the_kernel() {
    let _dog = watchdog();
    let mut node = Node::with_times(1, quick());
    // Beyond the handshake's time, and within the kernel's: nobody had to hang up on them, for
    // nobody saw them.
    let silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(node.at).unwrap()).collect();
    let seen = stranger(&node);
    while !has_ended(&seen) {
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert!(!silent.iter().any(has_ended));
    // Once one of them speaks it is heard.
    let mut late = silent;
    late.truncate(1);
    let mut late = Raw::over(late.remove(0), 2, &node);
    assert!(late.finish_handshake());
    late.say(&init::ours(&features(), Network::Regtest, None));
    assert_eq!(node.connected().node, node_id(2));
}

#[test]
fn strangers_are_few_and_do_not_stay() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let strangers: Vec<TcpStream> = (0..MAX_UNAUTHENTICATED + 3).map(|_| stranger(&node)).collect();
    // Three made room for the newest: whoever it was.
    let mut gone = 0;
    while gone < 3 {
        gone = strangers.iter().filter(|s| has_ended(s)).count();
        std::thread::park_timeout(Duration::from_millis(10));
    }
    assert_eq!(gone, 3);
    // A friend still gets in.
    let (_friend, with) = Raw::connect(2, &mut node);
    assert_eq!(with.node, node_id(2));

    let node = Node::with_times(1, quick());
    for says in [&[0][..], &[0; 49], &[0, 2, 3]] {
        let mut silent = TcpStream::connect(node.at).unwrap();
        silent.write_all(says).unwrap();
        assert_eq!(silent.read(&mut [0; 100]).unwrap_or(0), 0, "without a word");
    }
    let mut no_init = Raw::handshake(2, &node);
    assert_eq!(no_init.hear().unwrap()[..2], [0, 16]);
    assert_eq!(no_init.hear(), None);
}

#[test]
fn crowd_of_strangers_never_pushes_out_who_is_connected() {
    let _dog = watchdog();
    let mut node = Node::start(1);
    let (mut friend, _) = Raw::connect(3, &mut node);
    let crowd: Vec<TcpStream> = (0..2 * MAX_UNAUTHENTICATED).map(|_| stranger(&node)).collect();
    friend.say(&Ping { num_pong_bytes: 3, ignored: vec![] }.encode());
    assert_eq!(friend.hear().unwrap(), Pong { ignored: vec![0; 3] }.encode());
    drop(crowd);
}

#[test]
fn full_house_makes_room_by_ending_what_is_idle() {
    let _dog = watchdog();
    let settings = connectd::Settings { max_descriptors: 4, ..connectd::Settings::default() };
    let mut node = Node::with_settings(init_of(1), 1, settings);
    // Two connections, of which the older serves a channel: three descriptors.
    let (mut served, to) = Raw::connect(2, &mut node);
    let mut daemon = node.attach(&to, channel(1));
    daemon.send_raw(&message(channel(1), 1, 0)).unwrap();
    served.hear().unwrap();
    let (_idle, idle) = Raw::connect(3, &mut node);
    // A fourth fits; the next takes the place of the idle one, and not of a stranger who may be
    // about to say who it is.
    let mut friend = Raw::first_act(4, &node);
    let _crowd = [(); 3].map(|()| stranger(&node));
    assert_eq!(node.disconnected().connection, idle.connection);
    // Where strangers are all there is, one goes that has shown less than the friend, who goes on.
    assert!(friend.finish_handshake());
    served.say(&Ping { num_pong_bytes: 3, ignored: vec![] }.encode());
    assert_eq!(served.hear().unwrap(), Pong { ignored: vec![0; 3] }.encode());
}
