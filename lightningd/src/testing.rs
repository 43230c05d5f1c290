//! A node without processes, for tests of its rooms: real rows, real turns, real frames; what would
//! leave is looked at. A crash is the same rows in a new node.

use crate::kernel::children::{Role, Supervisor};
use crate::kernel::turn;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::ChannelEvent;
use crate::node::Node;
use crate::rooms::chain::Backend;
use crate::rooms::channels;
use crate::rooms::channels::state::{Cause, State};
use crate::rooms::channels::{Owner, testing as channel};
use crate::sys::children::ChildId;
use crate::sys::disk::Space;
use crate::sys::fatal::Stop;
use crate::sys::hsm::HsmClient;
use crate::sys::options::Config;
use bitcoin::bip32::{Xpriv, Xpub};
use bitcoin::hashes::Hash;
use primitives::*;
use rusqlite::Connection;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use subdaemon::Frame;
use wire::channeld::*;
use wire::hsm::{
    CompleteClosing, Completed, ForgetChannel, HsmRequest, NewClient, SignLocalCommitment,
    SignWallet,
};
use wire::{Message, Request};

/// The test's hsmd does not sign the claim of an HTLC with this preimage.
pub const UNSIGNED: Preimage = Preimage([0xee; 32]);

fn is_unsigned(question: &SignWallet) -> bool {
    let keys = question.inputs.0.iter().map(|i| &i.key);
    let mut all = keys.filter_map(|key| match key {
        wire::hsm::WalletKey::OwnHtlc { preimage, .. } => *preimage,
        _ => None,
    });
    all.any(|preimage| preimage == UNSIGNED)
}

/// What left, as far as the switch says it.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// To this channel's daemon.
    Offer(u64, Offer),
    /// To this channel's daemon.
    Fulfil(u64, HtlcId, Preimage),
    /// To this channel's daemon.
    Fail(u64, HtlcId, Vec<u8>),
    /// To this channel's daemon.
    Malformed(u64, HtlcId, u16),
    /// This channel's daemon is killed.
    Kill(u64),
    /// Our commitment is to be published.
    Publish(u64),
    /// This channel's close is looked at in so many seconds.
    CloseTimeout(u64, u64),
}

/// Has the test with this name go on in a process of its own, with other limits, as a user who has
/// no other process and no capabilities (without being root: as the same user). False in the
/// process that the test began in: that one has ended well.
///
/// # Panics
/// If it has not.
pub fn as_somebody_else(name: &str) -> bool {
    use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
    const THERE: &str = "FULMEN_TEST_SOMEBODY";
    if std::env::var_os(THERE).is_none() {
        let me = std::env::current_exe().unwrap();
        let out = std::process::Command::new(me).arg(name).env(THERE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && said.contains("1 passed"), "{said}");
        return false;
    }
    if geteuid().is_root() {
        let id = 60_000 + std::process::id() % 5000;
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        setgroups(&[]).unwrap();
        setresgid(gid, gid, gid).unwrap();
        setresuid(uid, uid, uid).unwrap();
    }
    true
}

/// As many descriptors of this user on their way, between two sockets, as its limit allows.
/// For [`as_somebody_else`].
pub fn descriptors_on_their_way() -> (OwnedFd, OwnedFd) {
    use nix::sys::resource::{Resource, setrlimit};
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::AsRawFd;
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let (from, to) = subdaemon::stream_pair().unwrap();
    let copies = [from.as_raw_fd(); 253];
    let (bytes, rights) =
        ([std::io::IoSlice::new(&[0])], [ControlMessage::ScmRights(copies.as_slice())]);
    let refused = loop {
        let flags = MsgFlags::MSG_DONTWAIT;
        if let Err(e) = sendmsg::<()>(from.as_raw_fd(), &bytes, &rights, flags, None) {
            break e;
        }
    };
    assert_eq!(refused, nix::errno::Errno::ETOOMANYREFS);
    (from, to)
}

/// A node, its rows, and daemons that the test speaks for.
pub struct Rig {
    path: PathBuf,
    /// The rows.
    pub db: Connection,
    /// The rooms.
    pub node: Node,
    hsm: HsmClient,
}

/// Every transaction of the wallet comes back as it is.
pub(crate) fn sign_wallet(q: SignWallet) -> Completed {
    if is_unsigned(&q) {
        return Completed::Refused { why: "a test".to_owned() };
    }
    let mut transaction = q.transaction;
    for input in &mut transaction.input {
        // As large as a signature and what it is for: an input of the wallet has 66 to 107 weight
        // units.
        input.witness = bitcoin::Witness::from_slice(&[[0; 64]]);
    }
    Completed::Ready { transaction }
}

/// An hsmd that signs for the wallet, and refuses every channel's seed: it knows better.
pub fn hsmd(fd: OwnedFd) {
    let mut line = subdaemon::Conn::new(fd);
    while let Ok(frame) = line.recv() {
        let answer = match HsmRequest::decode(&frame.body) {
            Ok(HsmRequest::SignWallet(q)) => subdaemon::answer_frame::<SignWallet>(&sign_wallet(q)),
            Ok(HsmRequest::NewClient(_)) => subdaemon::answer_frame::<NewClient>(&()),
            Ok(HsmRequest::ForgetChannel(_)) => subdaemon::answer_frame::<ForgetChannel>(&()),
            Ok(HsmRequest::SignLocalCommitment(_)) => {
                let refused = Completed::Refused { why: "a test".to_owned() };
                subdaemon::answer_frame::<SignLocalCommitment>(&refused)
            }
            Ok(HsmRequest::CompleteClosing(_)) => {
                let refused = Completed::Refused { why: "a test".to_owned() };
                subdaemon::answer_frame::<CompleteClosing>(&refused)
            }
            Ok(_) | Err(_) => return,
        };
        drop(frame.fds);
        if line.send(&answer, &[]).is_err() {
            return;
        }
    }
}

impl Rig {
    /// With these channels: number, and which peer.
    pub fn new(name: &str, channels: &[(u64, u8)]) -> Self {
        let path =
            std::env::temp_dir().join(format!("fulmen-rig-{}-{name}.sqlite3", std::process::id()));
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", path.display()));
        }
        Self::over(path, channels, hsmd)
    }

    /// The same, with nothing on any disk, and this hsmd.
    pub fn in_memory(channels: &[(u64, u8)], hsmd: fn(OwnedFd)) -> Self {
        Self::over(PathBuf::from(":memory:"), channels, hsmd)
    }

    fn over(path: PathBuf, channels: &[(u64, u8)], hsmd: fn(OwnedFd)) -> Self {
        let db = crate::sys::db::open(&path).unwrap();
        // What is tested is what is written, not the disk.
        db.pragma_update(None, "synchronous", "OFF").unwrap();
        for (number, peer) in channels {
            channel::insert(&db, *number, *peer);
        }
        let (ours, theirs) = subdaemon::stream_pair().unwrap();
        let node = Self::load(&db);
        std::thread::spawn(move || hsmd(theirs));
        let mut rig = Self { path, db, node, hsm: HsmClient::new(ours).unwrap() };
        rig.serve();
        rig
    }

    fn load(db: &Connection) -> Node {
        let config = Config::for_network(Network::Regtest);
        let key = Xpriv::new_master(bitcoin::Network::Regtest, &[1; 32]).unwrap();
        let xpub = Xpub::from_priv(secp256k1::SECP256K1, &key);
        let id = channel::peer(9);
        let mut node = crate::start::load(config, id, xpub, Supervisor::default(), db).unwrap();
        if node.chain.headers.is_empty() {
            node.chain.headers.push_back((BlockHeight(100), bitcoin::BlockHash::all_zeros()));
        }
        node.chain.caught_up = true;
        node.chain.backend = Some(Backend { blocks: 100, headers: 100, syncing: false });
        node
    }

    /// The process dies here, and is there again with what is on its disk. What that says at once.
    pub fn crash(&mut self) -> Vec<Said> {
        self.node = Self::load(&self.db);
        let mut said = self.turn(crate::flows::begin::resume);
        self.serve();
        // Goes without saying, for each channel that waits for it.
        said.retain(|s| !matches!(s, Said::Publish(_)));
        said
    }

    /// Every channel that lives gets a daemon, and is reestablished without anybody saying so.
    fn serve(&mut self) {
        let numbers: Vec<_> = self.node.channels.all.keys().copied().collect();
        for number in numbers {
            let child = self.child(number.0);
            self.node.supervisor.assign(child, Role::Channel(number));
            let channel = self.node.channels.all.get_mut(&number).unwrap();
            if channel.state.wants_peer() {
                channel.owner = Owner::Channeld(child);
                channel.reestablished = true;
            }
        }
    }

    fn child(&self, number: u64) -> ChildId {
        // Far from those that the node gives.
        number + 1000
    }

    /// One turn of whatever this does.
    pub fn turn(&mut self, what: impl Fn(&Node, &mut Turn<'_>) -> Result<(), Stop>) -> Vec<Said> {
        let outbox = self.outbox(what);
        self.said(outbox)
    }

    /// One turn of whatever this does, and all that it would say.
    pub fn outbox(
        &mut self,
        what: impl Fn(&Node, &mut Turn<'_>) -> Result<(), Stop>,
    ) -> Vec<Outgoing> {
        let event = Event::Reconnect(channel::peer(1), std::time::Instant::now());
        let handle = |node: &Node, turn: &mut Turn<'_>, event: Event| match event {
            Event::Reconnect(..) => what(node, turn),
            other => crate::dispatch::handle(node, turn, other),
        };
        self.one_turn(event, handle)
    }

    fn one_turn(
        &mut self,
        event: Event,
        handle: impl Fn(&Node, &mut Turn<'_>, Event) -> Result<(), Stop>,
    ) -> Vec<Outgoing> {
        let events = (vec![event], self.node.space != Space::Exhausted);
        let (outbox, wrote) =
            turn::run(&mut self.node, &self.db, &mut self.hsm, events, handle).unwrap();
        self.node.counters.commits += u64::from(wrote);
        outbox.0
    }

    /// One turn of one event.
    pub fn run(&mut self, event: Event) -> Vec<Said> {
        let outbox = self.outgoing(event);
        self.said(outbox)
    }

    /// The same, and all that it would say.
    pub fn outgoing(&mut self, event: Event) -> Vec<Outgoing> {
        let handle = crate::dispatch::handle;
        self.one_turn(event, handle)
    }

    fn said(&self, outbox: Vec<Outgoing>) -> Vec<Said> {
        outbox.into_iter().filter_map(|o| self.one(o)).collect()
    }
    fn one(&self, what: Outgoing) -> Option<Said> {
        match what {
            // Other children are the node's own.
            Outgoing::Kill { child, .. } => Some(Said::Kill(child.checked_sub(1000)?)),
            Outgoing::Then(Event::Channel(number, ChannelEvent::Broadcast)) => {
                Some(Said::Publish(number.0))
            }
            Outgoing::At(when, Event::Channel(number, ChannelEvent::CloseTimeout)) => {
                let left = when.saturating_duration_since(std::time::Instant::now());
                Some(Said::CloseTimeout(number.0, left.as_millis().div_ceil(1000) as u64))
            }
            Outgoing::Order { child, body, .. } => {
                let number = child.checked_sub(1000)?;
                if !matches!(self.node.supervisor.role(child)?, Role::Channel(_)) {
                    return None;
                }
                match ToChanneld::decode_known(&body).unwrap() {
                    ToChanneld::Offer(offer) => Some(Said::Offer(number, offer)),
                    ToChanneld::Fulfil(f) => Some(Said::Fulfil(number, f.id, f.preimage)),
                    ToChanneld::FailHtlc(f) => Some(Said::Fail(number, f.id, f.reason)),
                    ToChanneld::FailMalformed(f) => {
                        Some(Said::Malformed(number, f.id, f.failure_code))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A daemon reports.
    pub fn report<M: Message>(&mut self, number: u64, message: &M) -> Vec<Said> {
        self.say(number, message.encode())
    }
    /// A daemon says this, whatever it is.
    pub fn say(&mut self, number: u64, body: Vec<u8>) -> Vec<Said> {
        let frame = Frame { body, fds: Default::default() };
        self.run(Event::Child(self.child(number), frame))
    }
    /// A daemon asks for these steps to be stored.
    pub fn persist(&mut self, number: u64, ask: &Persist) -> Vec<Said> {
        let mut body = Persist::NUMBER.to_be_bytes().to_vec();
        wire::Wire::put(ask, &mut body);
        self.run(Event::Child(self.child(number), Frame { body, fds: Default::default() }))
    }
    /// A daemon dies.
    pub fn lose(&mut self, number: u64) -> Vec<Said> {
        self.run(Event::ChildGone(self.child(number)))
    }
    /// A channel's value.
    pub fn channel(&self, number: u64) -> &channels::Channel {
        &self.node.channels.all[&ChannelNumber(number)]
    }
    /// A channel goes to the chain.
    pub fn go_to_chain(&mut self, number: u64) -> Vec<Said> {
        self.turn(|node, turn| {
            let channel = &node.channels.all[&ChannelNumber(number)];
            channels::change::set_state(
                channel,
                turn,
                State::AwaitingUnilateral,
                Cause::User,
                "a test",
            )?;
            turn.install_as::<crate::rooms::channels::Scope, _>(move |channels| {
                let channel = channels.all.get_mut(&ChannelNumber(number)).unwrap();
                channel.owner = Owner::Nobody;
                channel.reestablished = false;
            });
            Ok(())
        })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.path.display()));
        }
    }
}
