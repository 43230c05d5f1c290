//! A scripted master and hsmd around a connectd, and a peer that we drive by hand.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test file uses its part")]

use connectd::limits::Times;
use connectd::link::{Link, LinkStep};
use connectd::{Settings, init};
use primitives::{ChannelId, Features, Network, NodeId, Point, Secret, SecretKey, feature};
use secp256k1::ecdh::SharedSecret;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Conn, Peer, PeerRecord, answer_frame};
use wire::Bytes;
use wire::connectd::*;
use wire::hsm::{HsmRequest, MixEcdh, MixedKeys};

/// Long beyond anything that should happen: a test that reaches it says so.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the test run where a test hangs.
pub struct Watchdog(Arc<AtomicBool>);
pub fn watchdog() -> Watchdog {
    let done = Arc::new(AtomicBool::new(false));
    let mine = Arc::clone(&done);
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        let start = Instant::now();
        while !mine.load(Ordering::Relaxed) {
            if start.elapsed() > PATIENCE {
                eprintln!("{name} hangs");
                std::process::abort();
            }
            std::thread::park_timeout(Duration::from_millis(200));
        }
    });
    Watchdog(done)
}
impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}
pub fn point(byte: u8) -> Point {
    key(byte).public_key(secp256k1::SECP256K1)
}
pub fn node_id(byte: u8) -> NodeId {
    NodeId::from(point(byte))
}
/// Two keys, that of the lower id first.
pub fn low_and_high(a: u8, b: u8) -> (u8, u8) {
    if node_id(a).0 < node_id(b).0 { (a, b) } else { (b, a) }
}
pub fn features() -> Features {
    Features::compulsory(&[feature::STATIC_REMOTEKEY])
        .union(&Features::optional(&[feature::ANCHORS, feature::SHUTDOWN_ANYSEGWIT]))
}
pub fn channel(byte: u8) -> ChannelId {
    ChannelId([byte; 32])
}
/// A message for a channel, with a number in it.
pub fn message(channel: ChannelId, n: u32, len: usize) -> Vec<u8> {
    // 132 and its like are not looked into by connectd.
    let mut m = [&[0, 132], &channel.0[..], &n.to_be_bytes()].concat();
    m.resize(len.max(m.len()), 0xab);
    m
}
pub fn number_in(message: &[u8]) -> u32 {
    u32::from_be_bytes(*message[34..].first_chunk().unwrap())
}

pub fn mixed(secret: u8, question: &MixEcdh) -> MixedKeys {
    let shared = SharedSecret::new(&question.point, &key(secret)).secret_bytes();
    noise::mix(&question.chaining_key, &Secret::new(shared))
}

/// Plays hsmd for one client until it is gone.
pub fn hsmd(secret: u8) -> OwnedFd {
    let (ours, theirs) = subdaemon::stream_pair().unwrap();
    std::thread::spawn(move || {
        let mut conn = Conn::new(ours);
        while let Ok(frame) = conn.recv() {
            let HsmRequest::MixEcdh(ask) = HsmRequest::decode(&frame.body).unwrap() else {
                unreachable!("connectd asks for nothing else")
            };
            let mixed = mixed(secret, &ask);
            if conn.send(&answer_frame::<MixEcdh>(&mixed), &[]).is_err() {
                return;
            }
        }
    });
    theirs
}

/// A running connectd.
pub struct Node {
    pub master: ScriptedMaster,
    pub secret: u8,
    pub at: SocketAddr,
}

pub fn init_of(secret: u8) -> ConnectdInit {
    ConnectdInit {
        node_id: node_id(secret),
        network: Network::Regtest,
        features: features(),
        listen: vec![Address { host: "127.0.0.1".into(), port: 0 }],
        must_listen: true,
        last_connection: 0,
        disable_dns: false,
    }
}

impl Node {
    pub fn start(secret: u8) -> Self {
        Self::with_times(secret, Times::default())
    }
    pub fn with_times(secret: u8, times: Times) -> Self {
        Self::with(init_of(secret), secret, times)
    }
    pub fn with(init: ConnectdInit, secret: u8, times: Times) -> Self {
        Self::with_settings(init, secret, Settings { times, ..Settings::default() })
    }
    pub fn with_settings(init: ConnectdInit, secret: u8, settings: Settings) -> Self {
        let (mut master, child) = ScriptedMaster::new();
        let resolver = Some(env!("CARGO_BIN_EXE_lightning_connectd").into());
        let settings = Settings { resolver, sandbox: false, ..settings };
        std::thread::spawn(move || {
            let ended = connectd::run(child, &settings);
            // The master going away is the one good reason.
            assert!(matches!(ended, Err(subdaemon::Failure::Cancelled(_))), "{ended:?}");
        });
        master.order(&init, vec![hsmd(secret)]);
        let said = FromConnectd::decode_known(&master.heard().unwrap().body).unwrap();
        let FromConnectd::Listening(listening) = said else { unreachable!("{said:?}") };
        let at = listening.addresses.first().map_or("127.0.0.1:1".parse().unwrap(), |a| {
            SocketAddr::new(a.host.parse().unwrap(), a.port)
        });
        master.order(&Activate {}, vec![]);
        Self { master, secret, at }
    }
    pub fn id(&self) -> NodeId {
        node_id(self.secret)
    }
    pub fn heard(&mut self) -> FromConnectd {
        FromConnectd::decode_known(&self.master.heard().expect("connectd lives").body).unwrap()
    }
    pub fn connected(&mut self) -> Connected {
        let said = self.heard();
        let FromConnectd::Connected(c) = said else { unreachable!("{said:?}") };
        c
    }
    pub fn disconnected(&mut self) -> Disconnected {
        let said = self.heard();
        let FromConnectd::Disconnected(d) = said else { unreachable!("{said:?}") };
        d
    }
    pub fn spoke(&mut self) -> Spoke {
        let said = self.heard();
        let FromConnectd::Spoke(s) = said else { unreachable!("{said:?}") };
        s
    }
    pub fn connect_failed(&mut self) -> ConnectFailed {
        let said = self.heard();
        let FromConnectd::ConnectFailed(f) = said else { unreachable!("{said:?}") };
        f
    }
    pub fn dial(&self, node: NodeId, at: SocketAddr) {
        let address = Address { host: at.ip().to_string(), port: at.port() };
        self.master.order(&Connect { node, addresses: vec![address] }, vec![]);
    }
    /// Gives this channel a daemon, and returns the daemon's end.
    pub fn attach(&self, with: &Connected, channel: ChannelId) -> Peer {
        let (ours, theirs) = subdaemon::peer_pair().unwrap();
        let (node, connection) = (with.node, with.connection);
        self.master.order(&Attach { node, connection, channel }, vec![theirs]);
        Peer::new(ours)
    }
    pub fn send(&self, to: &Connected, message: Vec<u8>) {
        let (node, connection) = (to.node, to.connection);
        self.master.order(&Send { node, connection, message: Bytes(message) }, vec![]);
    }
    pub fn disconnect(&self, from: &Connected) {
        let (node, connection) = (from.node, from.connection);
        self.master.order(&Disconnect { node, connection }, vec![]);
    }
}

/// The next record for a daemon; `None` at the end.
pub fn record(peer: &mut Peer) -> Option<PeerRecord> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    loop {
        match peer.try_recv() {
            Ok(Some(record)) => return Some(record),
            Ok(None) => {
                let mut fds = [PollFd::new(peer.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::NONE).unwrap();
            }
            Err(_) => return None,
        }
    }
}
pub fn message_for(peer: &mut Peer) -> Vec<u8> {
    match record(peer) {
        Some(PeerRecord::Message(m)) => m,
        other => unreachable!("{other:?}"),
    }
}

/// A peer driven by hand.
pub struct Raw {
    pub stream: TcpStream,
    pub link: Link,
    secret: u8,
}

impl Raw {
    /// Dials and makes the handshake; says nothing yet.
    pub fn handshake(secret: u8, node: &Node) -> Self {
        let mut raw = Self::first_act(secret, node);
        assert!(raw.finish_handshake(), "the handshake fails");
        raw
    }
    /// Dials and says the first act.
    pub fn first_act(secret: u8, node: &Node) -> Self {
        Self::over(TcpStream::connect(node.at).unwrap(), secret, node)
    }
    /// Says the first act on a connection that stands.
    pub fn over(stream: TcpStream, secret: u8, node: &Node) -> Self {
        stream.set_nodelay(true).unwrap();
        let link = Link::dialler(point(secret), point(node.secret), random_key());
        let mut raw = Self { stream, link, secret };
        raw.flush();
        raw
    }
    /// The acts that follow. False if the node hangs up.
    pub fn finish_handshake(&mut self) -> bool {
        while !self.link.is_open() {
            if !self.pump() {
                return false;
            }
        }
        self.flush();
        true
    }
    /// Waits until the node hangs up, and says nothing meanwhile.
    pub fn hung_up_on(&mut self) {
        let mut bytes = [0; 100];
        // Zero is its end, an error its reset.
        while self.stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
    }
    /// Also says `init`, reads the other's, and waits until the master hears of it.
    pub fn connect(secret: u8, node: &mut Node) -> (Self, Connected) {
        let mut raw = Self::handshake(secret, node);
        raw.say(&init::ours(&features(), Network::Regtest, None));
        let init = raw.hear().unwrap();
        assert_eq!(init[..2], [0, 16]);
        (raw, node.connected())
    }
    /// Reads once and takes what is no message. False at the end.
    fn pump(&mut self) -> bool {
        let n = match self.stream.read(self.link.room()) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(e) => unreachable!("{e}"),
        };
        self.link.filled(n);
        loop {
            match self.link.step().unwrap() {
                LinkStep::Mix(question) => {
                    self.link.mixed(mixed(self.secret, &question)).unwrap();
                    return n > 0;
                }
                LinkStep::Authenticated(_) => {}
                LinkStep::Wait | LinkStep::Message(_) => return n > 0,
            }
        }
    }
    pub fn flush(&mut self) {
        let bytes = self.link.out().waiting().to_vec();
        self.link.out().sent(bytes.len());
        // A peer that hung up is noticed when reading.
        let _ = self.stream.write_all(&bytes);
    }
    pub fn say(&mut self, message: &[u8]) {
        self.link.say(message).unwrap();
        self.flush();
    }
    /// The same; false once the other side is gone.
    pub fn tries_to_say(&mut self, message: &[u8]) -> bool {
        self.link.say(message).unwrap();
        let bytes = self.link.out().waiting().to_vec();
        self.link.out().sent(bytes.len());
        self.stream.write_all(&bytes).is_ok()
    }
    /// The next message; `None` at the end.
    pub fn hear(&mut self) -> Option<Vec<u8>> {
        loop {
            if let LinkStep::Message(m) = self.link.step().unwrap() {
                return Some(m.to_vec());
            }
            let n = match self.stream.read(self.link.room()) {
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => 0,
                Err(e) => unreachable!("{e}"),
            };
            if n == 0 {
                return None;
            }
            self.link.filled(n);
        }
    }
    /// What it is told before the end, if anything.
    pub fn last_words(&mut self) -> Option<String> {
        let mut last = None;
        while let Some(m) = self.hear() {
            if m.starts_with(&[0, 1]) || m.starts_with(&[0, 17]) {
                last = Some(String::from_utf8_lossy(&m[36..]).into_owned());
            }
        }
        last
    }
}

/// A connection that comes from this address of the machine's own: any of 127.0.0.0/8.
pub fn connect_from(from: [u8; 4], at: SocketAddr) -> TcpStream {
    use nix::sys::socket::*;
    use std::os::fd::AsRawFd;
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((from, 0)))).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(at)).unwrap();
    TcpStream::from(fd)
}

pub fn random_key() -> SecretKey {
    SecretKey::from_slice(&subdaemon::random::<32>()).unwrap()
}

/// Runs something beside the test.
pub fn aside<T: std::marker::Send + 'static>(
    f: impl FnOnce() -> T + std::marker::Send + 'static,
) -> mpsc::Receiver<T> {
    let (tx, rx) = mpsc::channel();
    std::thread::spawn(move || tx.send(f()));
    rx
}
