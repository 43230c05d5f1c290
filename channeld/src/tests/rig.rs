//! Two nodes with a channel between them, each without its lightningd.

use super::link::{Filter, Link};
use super::master::{Master, Rows};
use channel::Constants;
use primitives::*;
use secp256k1::SECP256K1;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Failure, Hsm, stream_pair};
use wire::channel_data::*;
use wire::channeld::*;
use wire::hsm::*;
use wire::{Long, OnionPacket};

pub(crate) const CHANNEL: ChannelNumber = ChannelNumber(7);
pub(crate) const HEIGHT: BlockHeight = BlockHeight(100);
pub(crate) const FEERATE: FeeratePerKw = FeeratePerKw(1000);

/// A running hsmd.
pub(crate) struct Secrets {
    _script: ScriptedMaster,
    master: Arc<Mutex<Option<Hsm>>>,
    pub(crate) id: NodeId,
    thread: Option<JoinHandle<Result<(), Failure>>>,
    folder: PathBuf,
}

impl Secrets {
    fn new(byte: u8) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("fulmen-channeld-{}-{n}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("hsm_secret");
        std::fs::write(&path, [byte; 32]).unwrap();
        let (script, child) = ScriptedMaster::new();
        let (ours, theirs) = stream_pair().unwrap();
        script.order(&HsmdInit {}, vec![theirs]);
        let thread = std::thread::spawn(|| hsmd::run(child, || Ok(())));
        let mut master = Hsm::new(ours);
        let path = path.to_str().unwrap().to_owned();
        let unlock = Unlock { network: Network::Regtest, path, passphrase: None };
        let UnlockAnswer::Open { unlocked } = master.ask(&unlock).unwrap() else { panic!() };
        let id = unlocked.node_id;
        let master = Arc::new(Mutex::new(Some(master)));
        Self { _script: script, master, id, thread: Some(thread), folder }
    }
    /// What a master does once it has stored that so many of its commitments are revoked.
    fn tells(&self, peer: NodeId) -> impl FnMut(CommitmentNumber) + Send + 'static {
        let master = Arc::clone(&self.master);
        move |revoked| {
            if let Some(hsm) = master.lock().unwrap().as_mut() {
                hsm.order(&RevocationStored { peer, channel: CHANNEL, revoked }).unwrap();
            }
        }
    }
    pub(crate) fn client(&mut self, peer: NodeId, seed: Option<ChannelSeed>) -> OwnedFd {
        let rights = Rights::of(&[
            Capability::Points,
            Capability::SignRemote,
            Capability::Revoke,
            Capability::Peel,
            Capability::SignGossip,
        ]);
        let (ours, theirs) = stream_pair().unwrap();
        let question = NewClient { peer, channel: CHANNEL, rights, seed };
        let mut master = self.master.lock().unwrap();
        master.as_mut().unwrap().ask_with(&question, &[theirs.as_fd()]).unwrap();
        ours
    }
}
impl Drop for Secrets {
    fn drop(&mut self) {
        drop(self.master.lock().unwrap().take());
        let ended = self.thread.take().unwrap().join().unwrap();
        if !std::thread::panicking() {
            assert_eq!(ended, Ok(()));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One end: its secrets, its rows, its channeld while it has one.
pub(crate) struct Node {
    pub(crate) secrets: Secrets,
    pub(crate) peer: NodeId,
    pub(crate) master: Master,
    pub(crate) child: Option<JoinHandle<Result<(), Failure>>>,
    /// What its next channeld is born with, but for what is in the rows.
    pub(crate) init: ChanneldInit,
    pub(crate) patience: Duration,
}

impl Node {
    fn seed(&self) -> ChannelSeed {
        let s = self.master.rows().state.clone();
        ChannelSeed {
            params: s.params,
            phase: self.init.phase,
            local_number: s.commitment.local,
            local_revoked: s.revoked.local,
            remote_number: s.commitment.remote,
            remote_revoked: s.revoked.remote,
            remote_point: s.remote_point,
            remote_next_point: s.remote_next_point,
            local_balance: s.balance.local,
            broadcast: None,
            closing: None,
        }
    }

    /// What channeld is born with now.
    pub(crate) fn init(&self, birth: Birth) -> ChanneldInit {
        let rows = self.master.rows();
        ChanneldInit {
            birth,
            state: rows.state.clone(),
            ready: rows.ready,
            have_announcement: rows.announcement.is_some(),
            shutdown: rows.shutdown.clone(),
            ..self.init.clone()
        }
    }

    /// A line to its hsmd with the rights of its channeld.
    pub(crate) fn client(&mut self) -> OwnedFd {
        let seed = self.seed();
        self.secrets.client(self.peer, Some(seed))
    }
    /// Gives birth to a channeld on this socket.
    pub(crate) fn start(&mut self, birth: Birth, peer: OwnedFd) {
        assert!(self.child.is_none());
        let hsm = self.client();
        let (mut script, child) = ScriptedMaster::new();
        script.order_and_keep(&self.init(birth), vec![hsm, peer]);
        let patience = self.patience;
        let thread = std::thread::spawn(move || crate::run_patiently(child, patience));
        self.child = Some(self.master.serve(script.into_sockets(), thread));
    }
    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> Result<(), Failure> {
        self.child.take().unwrap().join().unwrap()
    }
}

/// Two nodes and what is between them.
pub(crate) struct Pair {
    pub(crate) nodes: Sides<Node>,
    pub(crate) link: Option<Link>,
}

/// What a channel is to be like.
#[derive(Clone)]
pub(crate) struct Wish {
    pub(crate) anchors: bool,
    pub(crate) push: Msat,
    pub(crate) terms: Terms,
}
impl Default for Wish {
    fn default() -> Self {
        Self { anchors: true, push: Msat(400_000_000), terms: terms() }
    }
}

pub(crate) fn terms() -> Terms {
    Terms {
        dust_limit: Sat(546),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(10_000),
        htlc_minimum: Msat(1),
        to_self_delay: 6,
        max_accepted_htlcs: 483,
    }
}

pub(crate) fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array([byte; 20]))
}

/// A channel with only its first commitments.
fn first_state(
    params: ChannelParams,
    remote_point: Point,
    local_signatures: CommitmentSignatures,
) -> ChannelState {
    ChannelState {
        balance: Constants::new(params.clone()).unwrap().first_balance(),
        params,
        next_htlc_id: Sides::default(),
        htlcs: Long(vec![]),
        fees: Long(vec![FeeChange { feerate: FEERATE, stage: Stage::Irrevocable }]),
        commitment: Sides::default(),
        revoked: Sides::default(),
        remote_point,
        remote_next_point: None,
        remote_secrets: Long(vec![]),
        local_signatures,
        last_sent: LastSent::Neither,
    }
}

fn number(n: u64) -> CommitmentNumber {
    CommitmentNumber(n)
}

impl Pair {
    /// A channel as two openingds leave it: the first node opened it.
    pub(crate) fn opened(wish: &Wish) -> Self {
        let mut secrets = Sides { local: Secrets::new(1), remote: Secrets::new(2) };
        let ids = Sides { local: secrets.local.id, remote: secrets.remote.id };
        let mut hsm = Sides::from_fn(|s| Hsm::new(secrets[s].client(ids[!s], None)));
        let basepoints = Sides::from_fn(|s| hsm[s].ask(&GetBasepoints {}).unwrap());
        let points =
            Sides::from_fn(|s| hsm[s].ask(&GetCommitmentPoint { number: number(0) }).unwrap());
        let mut features = vec![feature::STATIC_REMOTEKEY];
        features.extend(wish.anchors.then_some(feature::ANCHORS));
        let params = ChannelParams {
            opener: Side::Local,
            funding: OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([5; 32]), vout: 0 },
            amount: Sat(1_000_000),
            push: wish.push,
            channel_type: Features::compulsory(&features),
            terms: Sides { local: wish.terms.clone(), remote: wish.terms.clone() },
            basepoints,
        };
        let of = |side: Side| match side {
            Side::Local => params.clone(),
            Side::Remote => ChannelParams {
                opener: !params.opener,
                terms: params.terms.clone().swap(),
                basepoints: params.basepoints.clone().swap(),
                ..params.clone()
            },
        };
        let first = |side: Side| CommitmentState {
            side: Side::Remote,
            number: number(0),
            point: points[!side],
            feerate: FEERATE,
            balance: Constants::new(of(side)).unwrap().first_balance(),
            htlcs: Long(vec![]),
        };
        let signed = Sides::from_fn(|s| {
            hsm[s].ask(&SetupChannel { params: of(s) }).unwrap();
            hsm[s].ask(&SignRemoteCommitment { state: first(s) }).unwrap()
        });
        let mut secrets = secrets.map(Some);
        let nodes = Sides::from_fn(|s| {
            let state = first_state(of(s), points[!s], signed[!s].clone());
            let byte = if s == Side::Local { 0xa1 } else { 0xb2 };
            let init = init(&state, byte);
            let master = Master::new(Rows::new(state, script(byte)));
            let secrets = secrets[s].take().unwrap();
            master.rows().revocation_stored = Box::new(secrets.tells(ids[!s]));
            let patience = crate::live::REVOCATION_TIMEOUT;
            Node { secrets, peer: ids[!s], master, child: None, init, patience }
        });
        Self { nodes, link: None }
    }

    /// The same, with `channel_ready` exchanged on a first connection that is over.
    pub(crate) fn ready(wish: &Wish) -> Self {
        let mut pair = Self::opened(wish);
        pair.connect_just_opened();
        pair.until_normal();
        pair.disconnect();
        pair
    }
    /// A channel on which traffic may go.
    pub(crate) fn normal(wish: &Wish) -> Self {
        let mut pair = Self::opened(wish);
        pair.connect_just_opened();
        pair.until_normal();
        pair
    }

    pub(crate) fn connect_just_opened(&mut self) {
        let births = Sides::from_fn(|_| Birth::JustOpened { funding_signed: None });
        self.connect_as(births, pass());
    }
    pub(crate) fn reconnect(&mut self) {
        self.reconnect_over(pass());
    }
    pub(crate) fn reconnect_over(&mut self, filter: Filter) {
        self.connect_as(Sides::from_fn(|_| Birth::Reconnected), filter);
    }
    pub(crate) fn connect_as(&mut self, births: Sides<Birth>, filter: Filter) {
        let (a, a_wire) = subdaemon::peer_pair().unwrap();
        let (b, b_wire) = subdaemon::peer_pair().unwrap();
        self.link = Some(Link::new(a_wire, b_wire, filter));
        self.nodes.local.start(births.local, a);
        self.nodes.remote.start(births.remote, b);
    }
    /// Both channelds lose their masters, one after the other; what they asked before is stored.
    pub(crate) fn disconnect(&mut self) {
        for side in Side::BOTH {
            self.nodes[side].master.hang_up();
        }
        self.await_end();
    }
    /// Both channelds end by themselves.
    pub(crate) fn await_end(&mut self) -> Sides<Result<(), Failure>> {
        let ended = Sides::from_fn(|side| self.nodes[side].ended());
        self.link.take().unwrap().join();
        ended
    }

    pub(crate) fn master(&self, side: Side) -> &Master {
        &self.nodes[side].master
    }
    pub(crate) fn until_normal(&self) {
        for side in Side::BOTH {
            self.master(side).until("traffic may go", |rows| rows.is_normal());
        }
    }
    /// Nothing is under way on either side, and both have the same numbers.
    pub(crate) fn until_quiet(&self) {
        loop {
            for side in Side::BOTH {
                self.master(side).until("nothing is under way", |rows| rows.is_quiet());
            }
            let quiet = Side::BOTH.iter().all(|side| self.master(*side).rows().is_quiet());
            if quiet && self.mirrored() {
                return;
            }
            std::thread::yield_now();
        }
    }
    /// Do both have the same on disk?
    pub(crate) fn mirrored(&self) -> bool {
        let a = self.master(Side::Local).rows().state.clone();
        let b = self.master(Side::Remote).rows().state.clone();
        a.balance == b.balance.swap()
            && a.commitment == b.commitment.swap()
            && a.next_htlc_id == b.next_htlc_id.swap()
            && a.fees == b.fees
    }

    /// Offers an HTLC of `amount` from `side`, whose preimage the other knows.
    pub(crate) fn pay(&self, side: Side, key: u64, amount: Msat) {
        self.know(side, key);
        self.offer(side, key, amount);
    }
    /// The payee of payment `key` by `side` learns its preimage.
    pub(crate) fn know(&self, side: Side, key: u64) {
        let preimage = preimage(key);
        self.master(!side).rows().known.insert(preimage.hash(), preimage);
    }
    pub(crate) fn offer(&self, side: Side, key: u64, amount: Msat) {
        self.master(side).order(&self.an_offer(side, key, amount));
    }
    pub(crate) fn an_offer(&self, side: Side, key: u64, amount: Msat) -> Offer {
        let payment_hash = preimage(key).hash();
        let payload = vec![2, 1, key as u8];
        let onion = onion_to(&self.nodes[!side].secrets.id, payload, key, &payment_hash);
        Offer { key, amount, payment_hash, expiry: BlockHeight(500), onion, path_key: None }
    }
}
impl Drop for Pair {
    fn drop(&mut self) {
        for side in Side::BOTH {
            self.nodes[side].master.hang_up();
        }
    }
}

fn init(state: &ChannelState, byte: u8) -> ChanneldInit {
    let features = Features::optional(&[feature::SHUTDOWN_ANYSEGWIT]);
    ChanneldInit {
        channel: ChannelId::from_funding(&state.params.funding),
        birth: Birth::Reconnected,
        phase: ChannelPhase::AwaitingLockin,
        state: state.clone(),
        local_features: features.clone(),
        remote_features: features,
        fees: FeePolicy { target: FEERATE, min: FeeratePerKw(253), max: FeeratePerKw(50_000) },
        policy: HtlcPolicy {
            max_dust_exposure: Msat(50_000_000),
            max_offered: 483,
            commit_time_ms: 10,
        },
        height: HEIGHT,
        ready: Sides { local: false, remote: false },
        funding_deep: true,
        alias: ShortChannelId(u64::from(byte)),
        announce: false,
        announceable: None,
        have_announcement: false,
        shutdown: Sides { local: None, remote: None },
        upfront_script: Sides { local: None, remote: None },
        failed: None,
    }
}

pub(crate) fn preimage(key: u64) -> Preimage {
    let mut bytes = [0x77; 32];
    bytes[..8].copy_from_slice(&key.to_be_bytes());
    Preimage(bytes)
}

pub(crate) fn onion_to(
    node: &NodeId,
    payload: Vec<u8>,
    key: u64,
    payment_hash: &PaymentHash,
) -> OnionPacket {
    let mut session = [0x33; 32];
    session[24..].copy_from_slice(&key.to_be_bytes());
    let session = SecretKey::from_slice(&session).unwrap();
    let hop = onion::Hop { node: node.point().unwrap(), payload };
    let built = onion::build(&session, &[hop], &payment_hash.0, onion::ROUTING_INFO_LEN).unwrap();
    built.onion_packet().unwrap()
}

/// Everything passes.
pub(crate) fn pass() -> Filter {
    Box::new(|_, message| Some(vec![message]))
}

/// A point that nobody knows the secret of.
pub(crate) fn some_point(byte: u8) -> Point {
    Point::from_secret_key(SECP256K1, &SecretKey::from_slice(&[byte; 32]).unwrap())
}
