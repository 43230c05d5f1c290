//! A master that keeps a channel's rows, and decides about HTLCs as it is told to.

use primitives::*;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use subdaemon::{Conn, Failure, answer_frame};
use wire::Message;
use wire::channel_data::*;
use wire::channeld::*;
use wire::daemon::{Failed, Fault};

/// How long a test waits for what must come.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// What becomes of a received HTLC that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decide {
    /// Fulfilled if its preimage is known, otherwise failed.
    AsKnown,
    /// Nothing, until the test says so.
    Hold,
}

/// Where the master dies, counting its answers from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// It reads this ask and stores nothing of it.
    Before(usize),
    /// It stores what was asked and dies before it answers.
    After(usize),
}

/// What a lightningd would have on disk, and what it was told.
pub(crate) struct Rows {
    pub(crate) state: ChannelState,
    pub(crate) ready: Sides<bool>,
    pub(crate) alias: Option<ShortChannelId>,
    pub(crate) shutdown: Sides<Option<ScriptBuf>>,
    pub(crate) announcement: Option<PersistAnnouncement>,
    pub(crate) peeled: BTreeMap<HtlcId, Peeled>,
    pub(crate) decided: BTreeMap<HtlcId, Removal>,
    pub(crate) settled: Vec<LiveHtlc>,
    /// Not on disk: what children said.
    pub(crate) known: HashMap<PaymentHash, Preimage>,
    pub(crate) decide: Decide,
    pub(crate) learned: Vec<(HtlcId, Preimage)>,
    pub(crate) refused: Vec<OfferRefused>,
    pub(crate) feerates: Vec<FeeratePerKw>,
    pub(crate) behind: Vec<&'static str>,
    pub(crate) established: bool,
    /// The peer's socket, on its way to closingd.
    pub(crate) handed_over: Option<OwnedFd>,
    pub(crate) failed: Option<Failed>,
    pub(crate) statuses: Vec<String>,
    /// How many `Persist`s there were, at each preimage too.
    pub(crate) persists: usize,
    pub(crate) persists_before_preimage: Vec<usize>,
    pub(crate) death: Option<Death>,
    /// Where we are paid if nobody fixed it.
    pub(crate) script: ScriptBuf,
    /// Tells hsmd how many of our commitments are stored as revoked.
    pub(crate) revocation_stored: Box<dyn FnMut(CommitmentNumber) + Send>,
    /// Orders on their way: a master never waits for a child to read.
    down: Option<mpsc::Sender<Vec<u8>>>,
}

impl Rows {
    pub(crate) fn new(state: ChannelState, script: ScriptBuf) -> Self {
        Self {
            state,
            ready: Sides { local: false, remote: false },
            alias: None,
            shutdown: Sides { local: None, remote: None },
            announcement: None,
            peeled: BTreeMap::new(),
            decided: BTreeMap::new(),
            settled: vec![],
            known: HashMap::new(),
            decide: Decide::AsKnown,
            learned: vec![],
            refused: vec![],
            feerates: vec![],
            behind: vec![],
            established: false,
            handed_over: None,
            failed: None,
            statuses: vec![],
            persists: 0,
            persists_before_preimage: vec![],
            death: None,
            script,
            revocation_stored: Box::new(|_| ()),
            down: None,
        }
    }

    /// Both said channel_ready, and the connection is as far as the last one.
    pub(crate) fn is_normal(&self) -> bool {
        self.established && self.ready.local && self.ready.remote
    }
    pub(crate) fn is_quiet(&self) -> bool {
        let s = &self.state;
        s.htlcs.0.is_empty() && s.fees.0.len() == 1 && s.commitment == s.revoked
    }

    pub(crate) fn order<M: Message>(&self, message: &M) {
        if let Some(down) = &self.down {
            // A child that ended meanwhile is told again when it is born anew.
            let _ = down.send(message.encode());
        }
    }

    pub(crate) fn order_removal(&self, id: HtlcId, removal: &Removal) {
        match removal.clone() {
            Removal::Fulfilled { preimage } => self.order(&Fulfil { id, preimage }),
            Removal::Failed { reason } => self.order(&FailHtlc { id, reason }),
            Removal::Malformed { sha256_of_onion, failure_code } => {
                self.order(&FailMalformed { id, sha256_of_onion, failure_code })
            }
        }
    }

    fn decide(&mut self, id: HtlcId) {
        let live = self
            .state
            .htlcs
            .0
            .iter()
            .find(|l| (l.htlc.offered_by, l.htlc.id) == (Side::Remote, id));
        let hash = live.expect("what was peeled is stored").htlc.payment_hash;
        let removal = match (&self.peeled[&id], self.known.get(&hash)) {
            (Peeled::Unreadable { sha256_of_onion, failure_code }, _) => Removal::Malformed {
                sha256_of_onion: *sha256_of_onion,
                failure_code: *failure_code,
            },
            (Peeled::Refused { removal }, _) => removal.clone(),
            (Peeled::Payload { .. }, _) if self.decide == Decide::Hold => return,
            (Peeled::Payload { .. }, Some(preimage)) => Removal::Fulfilled { preimage: *preimage },
            (Peeled::Payload { keys, .. }, None) => Removal::Failed {
                reason: onion::begin_error(keys, &onion::Failure::UnknownNextPeer),
            },
        };
        self.order_removal(id, &removal);
        self.decided.insert(id, removal);
    }

    fn persist(&mut self, ask: Persist) {
        self.persists += 1;
        for change in &ask.changes {
            for key in &change.settled.0 {
                let live =
                    self.state.htlcs.0.iter().find(|l| (l.htlc.offered_by, l.htlc.id) == *key);
                self.settled.push(live.expect("what settles was there").clone());
                if key.0 == Side::Remote {
                    self.decided.remove(&key.1);
                    self.peeled.remove(&key.1);
                }
            }
            self.state = channel::apply(self.state.clone(), change);
            channel::Channel::new(self.state.clone()).expect("what is stored makes a channel");
        }
        (self.revocation_stored)(self.state.revoked.local);
        for peeled in ask.peeled.0 {
            let id = peeled.id;
            assert!(self.peeled.insert(id, peeled.peeled).is_none(), "HTLC {id} is peeled twice");
            self.decide(id);
        }
        for live in &self.state.htlcs.0 {
            let waits = live.htlc.offered_by == Side::Remote
                && live.added == Stage::Irrevocable
                && live.removed.is_none();
            assert!(!waits || self.peeled.contains_key(&live.htlc.id), "never peeled: {live:?}");
        }
    }

    /// Stores what is asked. `None`: dead.
    fn asked(&mut self, ask: ChannelAsk) -> Option<Vec<u8>> {
        let count = |death: &mut usize| {
            let now = *death == 0;
            *death = death.saturating_sub(1);
            now
        };
        if let Some(Death::Before(left)) = &mut self.death
            && count(left)
        {
            return None;
        }
        let answer = match ask {
            ChannelAsk::Persist(p) => {
                self.persist(p);
                answer_frame::<Persist>(&())
            }
            ChannelAsk::PersistPeerReady(p) => {
                self.ready.remote = true;
                self.alias = p.alias;
                self.state.remote_next_point = self.state.remote_next_point.or(Some(p.next_point));
                answer_frame::<PersistPeerReady>(&())
            }
            ChannelAsk::PersistReady(_) => {
                self.ready.local = true;
                answer_frame::<PersistReady>(&())
            }
            ChannelAsk::PersistShutdown(s) => {
                self.shutdown[s.by] = Some(s.script);
                answer_frame::<PersistShutdown>(&())
            }
            ChannelAsk::PersistAnnouncement(a) => {
                self.announcement = Some(a);
                answer_frame::<PersistAnnouncement>(&())
            }
            ChannelAsk::GetShutdownScript(_) => answer_frame::<GetShutdownScript>(&self.script),
        };
        if let Some(Death::After(left)) = &mut self.death
            && count(left)
        {
            return None;
        }
        Some(answer)
    }

    fn told(&mut self, report: FromChanneld, mut fds: VecDeque<OwnedFd>) {
        match report {
            FromChanneld::Log(_) => {}
            FromChanneld::Status(s) => self.statuses.extend(s.lasting),
            FromChanneld::Failed(f) => self.failed = Some(f),
            FromChanneld::Reestablished(_) => {
                self.established = true;
                for live in self.state.htlcs.0.clone() {
                    let id = live.htlc.id;
                    if live.htlc.offered_by == Side::Local
                        || live.added != Stage::Irrevocable
                        || live.removed.is_some()
                    {
                        continue;
                    }
                    match self.decided.get(&id) {
                        Some(removal) => self.order_removal(id, &removal.clone()),
                        None => self.decide(id),
                    }
                }
            }
            FromChanneld::OfferRefused(r) => self.refused.push(r),
            FromChanneld::PreimageLearned(p) => {
                self.learned.push((p.id, p.preimage));
                self.persists_before_preimage.push(self.persists);
            }
            FromChanneld::ReadyToClose(_) => {
                self.handed_over = fds.pop_front();
                assert!(self.handed_over.is_some() && self.is_quiet());
            }
            FromChanneld::WeAreBehind(_) => self.behind.push("us"),
            FromChanneld::TheyAreBehind(_) => self.behind.push("them"),
            FromChanneld::FeerateNow(f) => self.feerates.push(f.feerate),
        }
    }
}

/// Shared between the test and the thread that listens.
#[derive(Clone)]
pub(crate) struct Master(Arc<(Mutex<Rows>, Condvar)>);

impl Master {
    pub(crate) fn new(rows: Rows) -> Self {
        Self(Arc::new((Mutex::new(rows), Condvar::new())))
    }
    pub(crate) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.0.lock().unwrap()
    }
    pub(crate) fn order<M: Message>(&self, message: &M) {
        self.rows().order(message);
    }
    /// Waits until this holds.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut(&mut Rows) -> bool) {
        let until = Instant::now() + TEST_TIMEOUT;
        let mut rows = self.rows();
        while !holds(&mut rows) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "never: {what}; {:?} {:?} {:?}",
                rows.failed,
                rows.statuses,
                summary(&rows.state)
            );
            rows = self.0.1.wait_timeout(rows, left).unwrap().0;
        }
    }
    /// Takes its orders away from the child, which ends.
    pub(crate) fn hang_up(&self) {
        self.rows().down = None;
    }
    /// Something outside the rows changed that someone may wait for.
    pub(crate) fn nudge(&self) {
        self.0.1.notify_all();
    }

    /// Listens to a newborn child until it is gone, or until the master dies.
    pub(crate) fn serve(
        &self,
        (down, mut up): (Conn, Conn),
        child: JoinHandle<Result<(), Failure>>,
    ) -> JoinHandle<Result<(), Failure>> {
        {
            let mut rows = self.rows();
            let (sender, orders) = mpsc::channel::<Vec<u8>>();
            rows.down = Some(sender);
            std::thread::spawn(move || {
                let _ = orders.iter().try_for_each(|order| down.send(&order, &[]));
            });
            (rows.established, rows.handed_over, rows.failed) = (false, None, None);
        }
        let master = self.clone();
        std::thread::spawn(move || {
            while let Ok(frame) = up.recv() {
                let mut rows = master.rows();
                let number = u16::from_be_bytes(*frame.body.first_chunk().unwrap());
                if ChannelAsk::has(number) {
                    let Some(answer) = rows.asked(ChannelAsk::decode(&frame.body).unwrap()) else {
                        rows.down = None;
                        break;
                    };
                    // Its child may have been cut off meanwhile.
                    let _ = up.send(&answer, &[]);
                } else {
                    rows.told(FromChanneld::decode_known(&frame.body).unwrap(), frame.fds);
                }
                drop(rows);
                master.nudge();
            }
            drop(up);
            master.rows().down = None;
            let ended = child.join().unwrap();
            // What `subdaemon::main` would have reported.
            let mut rows = master.rows();
            rows.failed = ended.as_ref().err().map(Failure::report);
            rows.death = None;
            drop(rows);
            master.nudge();
            ended
        })
    }
}

/// A state in a line.
pub(crate) fn summary(s: &ChannelState) -> impl Debug {
    let htlcs: Vec<_> = s
        .htlcs
        .0
        .iter()
        .map(|l| (l.htlc.offered_by, l.htlc.id.0, l.added, l.removed.as_ref().map(|r| r.stage)))
        .collect();
    let numbers =
        (s.commitment.local.0, s.revoked.local.0, s.commitment.remote.0, s.revoked.remote.0);
    (s.balance, numbers, s.last_sent, htlcs)
}

/// The words of a failure that a peer caused or spoke.
pub(crate) fn words(failed: &Option<Failed>) -> String {
    match failed.as_ref().map(|f| f.fault.clone()) {
        Some(Fault::PeerWarned { told }) => format!("warned: {told}"),
        Some(Fault::PeerErred { told }) => format!("error: {told}"),
        Some(Fault::PeerSaidError { said }) => format!("they said: {said}"),
        other => format!("{other:?}"),
    }
}
