//! connectd's loop between a scripted master, an hsmd, peers and daemons; and what its reports,
//! pongs and turns must hold to. One peer, the friend, is honest and has a daemon: whatever others
//! do, the two can talk.

use super::peer::Peer;
use crate::noise_keys::{id, mixed, node_id};
use connectd::fuzzing::Board;
use connectd::init;
use connectd::limits::{
    IDLE_PONGS_BURST, IDLE_PONGS_EVERY, MAX_COMPLAINTS, PONG_BURST, PONG_EVERY,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use primitives::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Conn, answer_frame, peer_pair, recv_record, send_record, stream_pair};
use wire::Message;
use wire::connectd::*;
use wire::hsm::{HsmRequest, MixEcdh};

/// Turns after which the loop must have come to rest, where nobody else moves: a few strangers are
/// served in each.
const TURNS: usize = 2000;
/// Silent connections whose other ends the rig keeps, peers that it speaks for, and daemons.
const CROWD: usize = 700;
const PEERS: usize = 10;
const DAEMONS: usize = 8;
/// A peer that is idle must be able to answer our ping within a leap of time.
const LEAP: Duration = Duration::from_secs(20);
/// For as long a dial may go on: its addresses one after the other, each with its handshake.
const DIAL: Duration = Duration::from_secs(100 * 60);

/// The friend's key, and the key of the first other.
pub const FRIEND: u8 = 2;
pub const OTHERS: u8 = 3;
const CHANNEL: ChannelId = ChannelId([2; 32]);

pub struct Daemon {
    pub socket: OwnedFd,
    pub reads: bool,
}

pub struct World {
    board: Board,
    down: Conn,
    up: Conn,
    now: Instant,
    start: Instant,
    friend: Peer,
    friends_daemon: Option<OwnedFd>,
    /// Messages that the friend and its daemon exchanged.
    exchanged: u32,
    pub peers: Vec<Peer>,
    /// Bytes that a peer may write each time that it is pumped.
    pub drip: usize,
    crowd: VecDeque<OwnedFd>,
    pub daemons: Vec<Daemon>,
    pub master_reads: bool,
    /// What the master heard: who is connected, which channels were spoken of.
    pub connected: Vec<(NodeId, u64)>,
    pub spoken: Vec<(NodeId, u64, ChannelId)>,
    complaints: BTreeMap<u64, u32>,
    /// Pings that the master ordered and was not told of, dials under way, and all that ever were.
    asked: BTreeSet<u64>,
    dials: BTreeSet<NodeId>,
    dialled: BTreeSet<NodeId>,
    /// Peers that ever had a daemon, KiB of pongs of those that had none and that the rig let go
    /// of.
    served: BTreeSet<NodeId>,
    gone_kibibytes: u64,
    ephemeral: u8,
    record: Vec<u8>,
}

pub fn features() -> Features {
    Features::compulsory(&[feature::STATIC_REMOTEKEY])
        .union(&Features::optional(&[feature::ANCHORS, feature::SHUTDOWN_ANYSEGWIT]))
}

/// Plays hsmd until its client is gone.
fn hsmd(socket: OwnedFd) {
    let mut line = Conn::new(socket);
    while let Ok(frame) = line.recv() {
        let Ok(HsmRequest::MixEcdh(question)) = HsmRequest::decode(&frame.body) else {
            unreachable!("connectd asks for nothing else")
        };
        if line.send(&answer_frame::<MixEcdh>(&mixed(1, &question)), &[]).is_err() {
            return;
        }
    }
}

impl World {
    /// A node that lets peers in, and a friend with its daemon. `max_descriptors`, `max_out`:
    /// connectd's settings.
    pub fn new(max_descriptors: usize, max_out: usize) -> Self {
        let (master, child) = ScriptedMaster::new();
        let (hsm, theirs) = stream_pair().expect("two sockets");
        // It ends with the board.
        std::thread::spawn(move || hsmd(theirs));
        let init = ConnectdInit {
            node_id: node_id(1),
            network: Network::Regtest,
            features: features(),
            listen: vec![],
            must_listen: false,
            last_connection: 0,
            disable_dns: false,
        };
        master.order(&init, vec![hsm]);
        master.order(&Activate {}, vec![]);
        let board = Board::new(child, max_descriptors, max_out).expect("a good init");
        let (down, up) = master.into_sockets();
        for line in [&down, &up] {
            fcntl(line.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag");
        }
        let now = board.now();
        let (socket, theirs) = stream_pair().expect("two sockets");
        let mut world = Self {
            board,
            down,
            up,
            now,
            start: now,
            friend: Peer::dials(socket, FRIEND, FRIEND, now),
            friends_daemon: None,
            exchanged: 0,
            peers: vec![],
            drip: usize::MAX,
            crowd: VecDeque::new(),
            daemons: vec![],
            master_reads: true,
            connected: vec![],
            spoken: vec![],
            complaints: BTreeMap::new(),
            asked: BTreeSet::new(),
            dials: BTreeSet::new(),
            dialled: BTreeSet::new(),
            served: BTreeSet::new(),
            gone_kibibytes: 0,
            ephemeral: 100,
            record: vec![],
        };
        world.befriend(theirs);
        world
    }

    /// The friend connects over this socket, and its channel gets a daemon.
    fn befriend(&mut self, theirs: OwnedFd) {
        self.settle();
        let from = SocketAddr::from(([203, 0, 113, 77], 1));
        self.board.welcome(theirs, from).expect("nothing ends it");
        self.settle();
        self.friend.says(&init::ours(&features(), Network::Regtest, None));
        self.settle();
        let (node, connection) = *self.connected.first().expect("the friend is connected");
        let (socket, theirs) = peer_pair().expect("two sockets");
        self.order(&Attach { node, connection, channel: CHANNEL }, Some(theirs));
        self.friends_daemon = Some(socket);
        self.settle();
    }

    /// The friend and its daemon say something to each other.
    pub fn exchange(&mut self) {
        self.exchanged += 1;
        let message = [&[0, 132], &CHANNEL.0[..], &self.exchanged.to_be_bytes()].concat();
        self.friend.says(&message);
        self.settle();
        let daemon = self.friends_daemon.as_ref().expect("it has one");
        let len = recv_record(daemon.as_fd(), &mut self.record).expect("a socket");
        let len = len.expect("the friend's message does not come").expect("the friend was cut off");
        let record = [&[PEER_RECORD_MESSAGE], &message[..]].concat();
        assert_eq!(self.record[..len], record, "the friend's daemon hears something else");
        self.friend.heard.clear();
        assert_eq!(send_record(daemon.as_fd(), &record), Ok(true));
        self.settle();
        assert_eq!(self.friend.heard, [message], "the friend does not hear its daemon");
    }

    /// An order of the master's.
    pub fn order<M: Message>(&self, order: &M, fd: Option<OwnedFd>) {
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        self.down.send(&order.encode(), &fds).expect("connectd takes its orders");
    }
    pub fn attach(&mut self, node: NodeId, connection: u64, channel: ChannelId) {
        let (socket, theirs) = peer_pair().expect("two sockets");
        self.order(&Attach { node, connection, channel }, Some(theirs));
        self.served.insert(node);
        if self.daemons.len() >= DAEMONS {
            self.daemons.remove(0);
        }
        self.daemons.push(Daemon { socket, reads: true });
    }
    pub fn ping(&mut self, node: NodeId, connection: u64, length: u16, pong_bytes: u16) {
        let ask = self.asked.len() as u64 + 1000 * u64::from(self.exchanged);
        if self.asked.insert(ask) {
            self.order(&PingPeer { node, connection, ask, length, pong_bytes }, None);
        }
    }
    pub fn dial(&mut self, node: NodeId, addresses: Vec<Address>) {
        self.dialled.insert(node);
        if self.master_reads && self.connected.iter().all(|(other, _)| *other != node) {
            self.dials.insert(node);
        }
        self.order(&Connect { node, addresses }, None);
    }

    /// Somebody connects, and says act one.
    pub fn comes(&mut self, key: u8, from: SocketAddr) {
        let (socket, theirs) = stream_pair().expect("two sockets");
        let peer = Peer::dials(socket, key, self.ephemeral(), self.now);
        self.adds(peer);
        self.board.welcome(theirs, from).expect("nothing ends it");
    }
    /// So many connect, and say nothing.
    pub fn crowd(&mut self, many: usize, from: impl Fn(u8) -> SocketAddr) {
        for n in 0..many {
            let (socket, theirs) = stream_pair().expect("two sockets");
            self.crowd.push_back(socket);
            while self.crowd.len() > CROWD {
                self.crowd.pop_front();
            }
            self.board.welcome(theirs, from(n as u8)).expect("nothing ends it");
        }
    }
    fn adds(&mut self, peer: Peer) {
        if self.peers.len() >= PEERS {
            let gone = self.peers.remove(0);
            self.gone_kibibytes += self.idle_kibibytes(&gone);
            // It says no more, and leaves its end open.
            self.crowd.extend(gone.into_socket());
        }
        self.peers.push(peer);
    }
    fn ephemeral(&mut self) -> u8 {
        // 32 times 255 is no key.
        self.ephemeral = if self.ephemeral < 254 { self.ephemeral + 1 } else { 100 };
        self.ephemeral
    }

    /// Time passes, and nobody does anything else meanwhile.
    pub fn passes(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = (self.now + LEAP).min(end);
            self.settle();
        }
    }

    /// Turns until there is nothing more to do. The loop must come to rest: nothing keeps it busy
    /// for ever.
    pub fn settle(&mut self) {
        let mut alone = 0;
        while alone < TURNS {
            let idle = self.board.turn(self.now).expect("nothing that strangers do ends it");
            let moved = self.moves();
            if idle && !moved {
                self.board.check();
                self.count_pongs();
                return;
            }
            alone = if moved { 0 } else { alone + 1 };
        }
        unreachable!("the loop does not come to rest");
    }

    /// Everybody else reads, and says what it has to say.
    fn moves(&mut self) -> bool {
        for (at, socket) in self.board.dialled() {
            // Whoever is there is named by the port.
            let (key, ephemeral) = (at.port() as u8, self.ephemeral());
            let peer = Peer::answers(socket, key, ephemeral, self.now);
            self.adds(peer);
        }
        let mut moved = self.friend.pump(usize::MAX);
        assert!(!self.friend.is_over(), "the friend is hung up on");
        for peer in &mut self.peers {
            moved |= peer.pump(self.drip);
        }
        let record = &mut self.record;
        self.daemons.retain(|daemon| {
            while daemon.reads {
                match recv_record(daemon.socket.as_fd(), record) {
                    Ok(Some(Some(_))) => moved = true,
                    Ok(None) => break,
                    Ok(Some(None)) | Err(_) => return false,
                }
            }
            true
        });
        while self.master_reads
            && let Ok(frame) = self.up.recv()
        {
            moved = true;
            self.hears(FromConnectd::decode_known(&frame.body).expect("connectd's own words"));
        }
        moved
    }

    fn hears(&mut self, report: FromConnectd) {
        let live = |world: &Self, node, connection| {
            assert!(world.connected.contains(&(node, connection)), "of no connection: {node}");
        };
        match report {
            FromConnectd::Connected(c) => {
                assert!(self.connected.iter().all(|(n, _)| *n != c.node), "twice: {}", c.node);
                self.dials.remove(&c.node);
                self.connected.push((c.node, c.connection));
            }
            FromConnectd::Disconnected(d) => {
                live(self, d.node, d.connection);
                self.connected.retain(|(_, connection)| *connection != d.connection);
            }
            FromConnectd::Spoke(s) => {
                live(self, s.node, s.connection);
                if self.spoken.len() < 16 {
                    self.spoken.push((s.node, s.connection, s.channel));
                }
            }
            FromConnectd::PeerComplained(c) => {
                live(self, c.node, c.connection);
                let count = self.complaints.entry(c.connection).or_default();
                *count += 1;
                assert!(*count <= MAX_COMPLAINTS + 1, "complaints without bound");
            }
            FromConnectd::Ponged(p) => assert!(self.asked.remove(&p.ask), "nobody asked"),
            FromConnectd::ConnectFailed(f) => {
                assert!(self.dialled.contains(&f.node), "nobody dialled {}", f.node);
                self.dials.remove(&f.node);
            }
            FromConnectd::Listening(_) => {}
            FromConnectd::Log(_)
            | FromConnectd::Status(_)
            | FromConnectd::Failed(_)
            | FromConnectd::CustomMessage(_) => unreachable!("connectd does not say this"),
        }
    }

    fn idle_kibibytes(&self, peer: &Peer) -> u64 {
        if self.served.contains(&NodeId::from(id(peer.key))) { 0 } else { peer.kibibytes }
    }
    /// Nobody gets more pongs than its own budget, and those without a daemon no more than all of
    /// them may have.
    fn count_pongs(&self) {
        for peer in &self.peers {
            let most = u64::from(PONG_BURST) + (self.now - peer.since).div_duration_f64(PONG_EVERY) as u64;
            assert!(peer.pongs <= most, "{} pongs, of at most {most}", peer.pongs);
        }
        let paid: u64 = self.peers.iter().map(|peer| self.idle_kibibytes(peer)).sum();
        let more = (self.now - self.start).div_duration_f64(IDLE_PONGS_EVERY) as u64;
        let most = u64::from(IDLE_PONGS_BURST) + more;
        assert!(paid + self.gone_kibibytes <= most, "{paid} KiB of pongs, of at most {most}");
    }

    /// The friend is served, and every dial comes to an end.
    pub fn finish(&mut self) {
        self.master_reads = true;
        self.settle();
        self.exchange();
        let end = self.now + DIAL;
        while !self.dials.is_empty() {
            assert!(self.now < end, "a dial is never answered");
            self.passes(LEAP);
        }
    }
}
