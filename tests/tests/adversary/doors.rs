//! The doors of a node: who floods them, who dies behind them, and what cannot be started any more.

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::stranger::*;
use tests::{Node, Pair, Scratch, bin_dir, wait_for};

/// From this address of the machine's own: any of 127.0.0.0/8.
fn connect_from(from: [u8; 4], at: SocketAddr) -> std::io::Result<TcpStream> {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((from, 0))))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    Ok(TcpStream::from(fd))
}

/// Connections of a flood that are kept open at a time: more than the node has places for
/// strangers.
const KEPT: usize = 640;
/// Connections a second of a flood, if the machine makes so many.
const RATE: u32 = 1000;
/// Who makes them: one that the kernel lets wait shall not hold up the flood.
const HANDS: usize = 16;

/// A thousand connections a second from one address, each of which says this and stays for a while.
struct Flood {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    hands: Vec<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn begin(from: [u8; 4], at: SocketAddr, says: &[u8]) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let hand = |_| {
            let (stop, made, says) = (Arc::clone(&stop), Arc::clone(&made), says.to_vec());
            std::thread::spawn(move || one_hand(from, at, &says, &stop, &made))
        };
        let hands = (0..HANDS).map(hand).collect();
        Self { stop, made, hands }
    }
    fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }
}
impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for hand in self.hands.drain(..) {
            let _ = hand.join();
        }
    }
}

fn one_hand(from: [u8; 4], at: SocketAddr, says: &[u8], stop: &AtomicBool, made: &AtomicU64) {
    let mut kept = VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        if let Ok(mut stream) = connect_from(from, at) {
            let _ = stream.write_all(says);
            kept.push_back(stream);
            made.fetch_add(1, Ordering::Relaxed);
        }
        if kept.len() > KEPT / HANDS {
            kept.pop_front();
        }
        std::thread::sleep(Duration::from_secs(1) * HANDS as u32 / RATE);
    }
}

/// A good act one for this node: the same may be said as often as one likes.
fn act_one(node: &Node) -> Vec<u8> {
    let id: primitives::Point = node.id.parse().unwrap();
    let mine = key(77).public_key(secp256k1::SECP256K1);
    noise::Initiator::start(mine, id, key(78)).1.to_vec()
}

/// BOLT 8's acts with so much between the connection, act one and act three. False: the node hung
/// up.
fn handshake_slowly(node: &Node, from: [u8; 4], round_trip: Duration) -> bool {
    let at = SocketAddr::from(([127, 0, 0, 1], node.port));
    let id: primitives::Point = node.id.parse().unwrap();
    let secret = key(500);
    let Ok(mut stream) = connect_from(from, at) else { return false };
    stream.set_read_timeout(Some(tests::PATIENCE)).unwrap();
    let mine = secret.public_key(secp256k1::SECP256K1);
    let (initiator, act) = noise::Initiator::start(mine, id, key(501));
    std::thread::sleep(round_trip);
    let mut answer = [0; noise::ACT_TWO_LEN];
    if stream.write_all(&act).and_then(|()| stream.read_exact(&mut answer)).is_err() {
        return false;
    }
    let asks = initiator.act_two(&answer).unwrap();
    let question = asks.question();
    let shared = onion::shared_secret(&question.point, &secret);
    let (act, _) = asks.answer(noise::mix(&question.chaining_key, &shared));
    std::thread::sleep(round_trip);
    // The first byte of the node's init.
    stream.write_all(&act).and_then(|()| stream.read_exact(&mut [0])).is_ok()
}

/// The friend's way, which it makes while the flood goes on.
const ROUND_TRIP: Duration = Duration::from_millis(800);

#[test]
fn stranger_flood_from_one_address_keeps_no_channel_peer_out() {
    let world = World::new();
    let at = SocketAddr::from(([127, 0, 0, 1], world.node.port));
    for says in [vec![], vec![0], act_one(&world.node)] {
        let bytes = says.len();
        let flood = Flood::begin([127, 0, 0, 2], at, &says);
        wait_for("the flood", || (flood.made() > KEPT as u64).then_some(()));
        let (start, before) = (Instant::now(), flood.made());
        // One try: nobody has to come again.
        assert!(handshake_slowly(&world.node, [127, 0, 0, 3], ROUND_TRIP), "{bytes} bytes each");
        let (took, during) = (start.elapsed(), flood.made() - before);
        println!("{during} connections that say {bytes} bytes; the friend is in after {took:?}");
        assert!(during > 0, "the flood went on");
    }
}

/// How often connectd dies: more often than a node may have lived with.
const DEATHS: usize = 8;

fn kill_one(node: &Node, executable: &str, last: Option<nix::unistd::Pid>) -> nix::unistd::Pid {
    let pid = wait_for(executable, || {
        node.children(executable).into_iter().find(|pid| Some(*pid) != last)
    });
    kill(pid, Signal::SIGKILL).unwrap();
    pid
}

#[test]
fn connectd_that_dies_eight_times_does_not_end_the_node() {
    let pair = Pair::with(&["--dev-restart-pause=1000"], &[]);
    let id = pair.open(1_000_000);
    let (mut last, mut warned) = (None, false);
    for _ in 0..DEATHS {
        last = Some(kill_one(&pair.alice, "lightning_connectd", last));
        pair.bitcoind.mine(1);
        // The chain is followed, and the RPC answers, whether connectd is there or not.
        wait_for("the block", || {
            let info = pair.alice.rpc("getinfo", &json!({}));
            warned |= info.get("warning_connectd").is_some();
            (info["blockheight"] == pair.bitcoind.height()).then_some(())
        });
    }
    let deaths = pair.alice.log().matches("connectd is gone").count();
    assert!(deaths >= DEATHS - 1, "{deaths}");
    // It is down for a second each time, and looked at far oftener.
    assert!(warned, "getinfo says so");
    pair.alice.wait_normal(&id);
    pair.bob.wait_normal(&id);
    pair.alice.pay(&pair.bob.invoice(5_000_000, "after"));
    assert_eq!(pair.alice.rpc("getinfo", &json!({})).get("warning_connectd"), None);
}

/// The executables vanish while the node runs: what a fork that fails for want of processes comes
/// to, too.
#[test]
fn daemon_that_cannot_be_started_does_not_end_the_node() {
    let links = Scratch::new();
    let link = |daemon: &str| links.path().join(format!("lightning_{daemon}"));
    let option = |daemon: &str| format!("--subdaemon={daemon}:{}", link(daemon).display());
    let make = |daemon: &str| {
        let executable = bin_dir().join(format!("lightning_{daemon}"));
        std::os::unix::fs::symlink(executable, link(daemon)).unwrap();
    };
    let daemons = ["openingd", "channeld", "connectd"];
    daemons.iter().for_each(|daemon| make(daemon));
    let options: Vec<String> = daemons.iter().map(|daemon| option(daemon)).collect();
    let mut options: Vec<&str> = options.iter().map(String::as_str).collect();
    options.push("--dev-restart-pause=1000");
    let pair = Pair::with(&[], &options);
    let id = pair.open(1_000_000);
    let params = json!({"id": pair.bob.id, "amount": 1_000_000});

    // The peer proposes a channel, and bob has nothing to negotiate it with.
    std::fs::remove_file(link("openingd")).unwrap();
    pair.alice.refused("fundchannel", &params);
    pair.bob.wait_log("cannot be started");
    make("openingd");

    // The peer comes anew, and bob has nothing to serve its channel with, nor anything to listen
    // with.
    for daemon in ["channeld", "connectd"] {
        std::fs::remove_file(link(daemon)).unwrap();
        let from = pair.bob.log_size();
        kill_one(&pair.bob, &format!("lightning_{daemon}"), None);
        wait_for("the failure to start it", || {
            pair.bob.log_from(from).contains("cannot be started").then_some(())
        });
        pair.bitcoind.mine(1);
        pair.bob.sync(&pair.bitcoind);
        make(daemon);
        pair.alice.wait_normal(&id);
        pair.bob.wait_normal(&id);
    }
    pair.alice.sync(&pair.bitcoind);
    pair.alice.pay(&pair.bob.invoice(5_000_000, "after"));
    let is_open = |v: &Value| v["channels"].as_array().map(Vec::len);
    assert_eq!(is_open(&pair.bob.rpc("listpeerchannels", &json!({}))), Some(1));
}

#[test]
fn connectd_that_finds_its_port_taken_listens_again_later() {
    let pair = Pair::with(&[], &["--dev-restart-pause=300"]);
    let id = pair.open(1_000_000);
    let to = json!({"id": pair.bob.id, "host": "127.0.0.1", "port": pair.bob.port});
    // Between a death and the next start somebody else takes the port. It may take some deaths to
    // be quick enough.
    let mut last = None;
    let thief = wait_for("the port", || {
        last = Some(kill_one(&pair.bob, "lightning_connectd", last));
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            if let Ok(thief) = std::net::TcpListener::bind(("127.0.0.1", pair.bob.port)) {
                return Some(thief);
            }
        }
        None
    });
    wait_for("the warning", || {
        let info = pair.bob.rpc("getinfo", &json!({}));
        info.get("warning_listen").map(|_| ())
    });
    assert!(!pair.bob.is_dead());
    drop(thief);
    wait_for("the connection", || pair.alice.call("connect", &to).ok());
    pair.alice.wait_normal(&id);
    pair.bob.wait_normal(&id);
    assert_eq!(pair.bob.rpc("getinfo", &json!({})).get("warning_listen"), None);
}
