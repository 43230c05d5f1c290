//! The master and one captured role: real rows in memory, real turns, and frames that say anything.

mod agrees;
mod blocks;
mod says;

use crate::kernel::children::Role;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::OnchainEvent;
use crate::rooms::channels::Owner;
use crate::rooms::channels::key::Origin;
use crate::rooms::channels::state::State;
use crate::rooms::channels::testing::{adds, htlc, peer};
use crate::rooms::onchain::{Case, Seen};
use crate::sys::children::ChildId;
use crate::testing::Rig;
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, TxIn, TxOut};
use primitives::*;
use says::*;
use std::collections::VecDeque;
use subdaemon::Frame;
use wire::channel_data::Stage;
use wire::channeld::*;
use wire::connectd::*;
use wire::{Bytes, Long, Message, Request};

/// The captured daemon's channel, and the one over which its HTLCs go on.
const CAPTURED: ChannelNumber = ChannelNumber(1);
const HONEST: ChannelNumber = ChannelNumber(2);
const CAPACITY: u64 = 1_000_000_000;
/// Who has no channel yet.
const STRANGER: u8 = 5;

/// Frames and other steps of one run, turns that may follow from one step, events that wait for
/// their time.
const STEPS: usize = 40;
const TURNS: usize = 200;
const DUE: usize = 64;
/// Rows that one step may add at most.
const ROWS: u64 = 64;

#[derive(Clone, Copy, Debug)]
enum Captured {
    Connectd,
    Openingd,
    Channeld,
    Closingd,
    Onchaind,
    /// All daemons of the channels that a stranger opens, one after the other: from `open_channel`
    /// to their end on chain.
    Each,
}

/// How far a stranger's channel came, in a run of [`hears`]: CLN's name of the state, and its place
/// among them.
pub type Reached = Option<(&'static str, u64)>;

struct World {
    rig: Rig,
    captured: Captured,
    /// The captured process. 0: none is there now.
    child: ChildId,
    due: Vec<Event>,
    /// Paid over the honest channel.
    paid: u64,
    /// Fundings that were agreed on with openingd, and how much of theirs is in blocks.
    fundings: Vec<Transaction>,
    funded: u64,
    reached: Reached,
}

/// The bytes of one run, read as choices.
struct Input<'a>(&'a [u8]);
impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
    /// Small ones, round ones, and the largest.
    fn number(&mut self) -> Option<u64> {
        Some(match self.byte()? {
            byte @ 0..=199 => u64::from(byte),
            byte @ 200..=230 => u64::from(byte - 199) * 20_000_000,
            byte @ 231..=250 => 1 << (byte - 200),
            251 => 1_000_000_000,
            252 => 2_100_000_000_000_000,
            253 => i64::MAX.unsigned_abs(),
            254 => u64::MAX,
            _ => u64::from_be_bytes(self.bytes(8).try_into().ok()?),
        })
    }
}

/// Feeds the master. The first byte chooses the role.
///
/// # Panics
/// Where a captured process makes money, rows without bound, or the end of the master.
pub fn hears(bytes: &[u8]) -> Reached {
    let mut input = Input(bytes);
    let captured = match input.byte()? % 6 {
        0 => Captured::Connectd,
        1 => Captured::Openingd,
        2 => Captured::Channeld,
        3 => Captured::Closingd,
        4 => Captured::Onchaind,
        _ => Captured::Each,
    };
    let rig = Rig::in_memory(&[(CAPTURED.0, 1), (HONEST.0, 2)], agrees::hsmd);
    let mut world = World {
        rig,
        captured,
        child: 0,
        due: vec![],
        paid: 0,
        fundings: vec![],
        funded: 0,
        reached: None,
    };
    world.enter();
    let (before, honest) = (world.rows(), world.rig.channel(HONEST.0).live.balance);
    let mut steps = 0;
    while steps < STEPS && world.step(&mut input).is_some() {
        steps += 1;
        for channel in world.rig.node.channels.all.values() {
            let (balance, amount) = (channel.live.balance, channel.live.params.amount);
            let sum = balance.local.0.checked_add(balance.remote.0);
            assert_eq!(sum, Some(amount.0 * 1000), "money is made or lost");
        }
        let most = CAPACITY / 2 + world.funded;
        assert!(world.paid <= most, "{} was paid for a captured channel", world.paid);
        world.note();
        assert!(world.rig.node.channels.openings.len() < STEPS);
    }
    if let Some(channel) = world.rig.node.channels.all.get(&HONEST) {
        assert_eq!(channel.live.balance, honest);
    }
    let rows = world.rows();
    assert!(rows <= before + ROWS * (steps as u64 + 1), "{rows} rows of {before}");
    world.reached
}

fn asked<R: Request>(ask: &R) -> Vec<u8> {
    let mut body = R::NUMBER.to_be_bytes().to_vec();
    ask.put(&mut body);
    body
}
fn signature() -> Signature {
    Signature::from_compact(&[1; 64]).expect("any small numbers")
}
fn preimage(id: u64) -> Preimage {
    Preimage([id as u8; 32])
}
fn transaction(input: OutPoint, outputs: u32) -> Transaction {
    let script_pubkey = ScriptBuf::from(vec![0x51]);
    let output = TxOut { value: Amount::from_sat(90_000), script_pubkey };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn { previous_output: input, ..TxIn::default() }],
        output: vec![output; outputs as usize],
    }
}

impl World {
    /// Takes the place of the process, as it would be born.
    fn enter(&mut self) {
        let node = &mut self.rig.node;
        let child = CAPTURED.0 + 1000;
        match self.captured {
            Captured::Connectd => {
                let out =
                    self.rig.outbox(|node, turn| crate::rooms::peers::connectd::begin(node, turn));
                self.settle(out.into());
            }
            Captured::Openingd => {
                let out =
                    self.rig.outbox(|node, turn| crate::rooms::peers::connectd::begin(node, turn));
                self.settle(out.into());
                self.proposes(2_000_000);
            }
            Captured::Each => self.comes(),
            Captured::Channeld | Captured::Closingd => {
                let Some(channel) = node.channels.all.get_mut(&CAPTURED) else { return };
                let closes = matches!(self.captured, Captured::Closingd);
                if closes && channel.state.is_open() {
                    channel.state = State::ClosingSigExchange;
                    channel.closing_begun = true;
                } else if !channel.state.wants_peer() {
                    return;
                }
                channel.owner =
                    if closes { Owner::Closingd(child) } else { Owner::Channeld(child) };
                channel.reestablished = !closes;
                let role = if closes { Role::Closing(CAPTURED) } else { Role::Channel(CAPTURED) };
                node.supervisor.assign(child, role);
                self.child = child;
            }
            Captured::Onchaind => {
                let Some(channel) = node.channels.all.get(&CAPTURED) else { return };
                if channel.state < State::AwaitingUnilateral {
                    let spend = transaction(channel.live.params.funding, 10);
                    self.rig.go_to_chain(CAPTURED.0);
                    let case = Case::new(Seen::new(spend, BlockHeight(99), 0));
                    self.rig.node.onchain.cases.insert(CAPTURED, case);
                    self.rig.node.onchain.watch_all();
                }
                self.happens(Event::Onchain(CAPTURED, OnchainEvent::Begin));
            }
        }
    }

    /// The stranger comes, or comes again: it proposes a channel, or speaks of the one that it has.
    fn comes(&mut self) {
        if self.connectd().is_none() {
            let out =
                self.rig.outbox(|node, turn| crate::rooms::peers::connectd::begin(node, turn));
            self.settle(out.into());
        }
        let theirs = self.rig.node.channels.all.values().find(|c| c.peer == peer(STRANGER));
        match theirs.map(|c| c.id) {
            Some(channel) => {
                // `channel_reestablish`: what it says of numbers and points is the daemon's.
                let message = [&[0, 136], &channel.0[..], &[0; 16 + 32 + 33]].concat();
                self.speaks(channel, message);
            }
            None => self.proposes(2_000_000),
        }
    }

    fn connectd(&self) -> Option<ChildId> {
        let role = |id| self.rig.node.supervisor.role(id);
        (1..100).find(|id| matches!(role(*id), Some(Role::Connectd)))
    }

    /// A stranger's proposal, so that an openingd is born.
    fn proposes(&mut self, amount: u64) {
        let channel = ChannelId([7; 32]);
        self.speaks(channel, open_channel(channel, amount).encode());
    }

    /// The stranger connects, and says this.
    fn speaks(&mut self, channel: ChannelId, message: Vec<u8>) {
        let Some(connectd) = self.connectd() else { return };
        let node = peer(STRANGER);
        let features = primitives::feature::ours(primitives::feature::Context::Init);
        let address = Address { host: "10.0.0.1".to_owned(), port: 9735 };
        let connected = Connected {
            node,
            connection: 1,
            direction: Direction::In,
            address,
            remote_addr: None,
            features,
        };
        let spoke = Spoke { node, connection: 1, channel, message: Bytes(message) };
        for body in [connected.encode(), spoke.encode()] {
            self.happens(Event::Child(connectd, Frame { body, fds: Default::default() }));
        }
    }

    /// One event, and all that follows at once.
    fn happens(&mut self, event: Event) {
        self.settle([Outgoing::Then(event)].into());
    }

    fn settle(&mut self, mut out: VecDeque<Outgoing>) {
        let mut turns = 0;
        while let Some(one) = out.pop_front() {
            let event = match one {
                Outgoing::Kill { child, .. } => Event::ChildGone(child),
                Outgoing::Then(event) => event,
                Outgoing::At(_, event) => {
                    if self.due.len() < DUE {
                        self.due.push(event);
                    }
                    continue;
                }
                Outgoing::Spawn(spec) => {
                    self.born(spec.id);
                    continue;
                }
                Outgoing::Order { child, body, .. } if child == HONEST.0 + 1000 => {
                    out.extend(self.honest(&body));
                    continue;
                }
                _ => continue,
            };
            turns += 1;
            assert!(turns < TURNS, "turns without end: {event:?}");
            out.extend(self.rig.outgoing(event));
        }
    }

    fn born(&mut self, id: ChildId) {
        let captured = match (self.captured, self.rig.node.supervisor.role(id)) {
            (Captured::Connectd, Some(Role::Connectd)) => true,
            (Captured::Openingd, Some(Role::Opening(_))) => true,
            (Captured::Channeld, Some(Role::Channel(of))) => of == CAPTURED,
            (Captured::Closingd, Some(Role::Closing(of))) => of == CAPTURED,
            (Captured::Onchaind, Some(Role::Onchain(of))) => of == CAPTURED,
            (Captured::Each, Some(Role::Opening(_))) => true,
            (Captured::Each, Some(Role::Channel(of) | Role::Closing(of) | Role::Onchain(of))) => {
                of != CAPTURED && of != HONEST
            }
            _ => false,
        };
        if captured {
            self.child = id;
        }
    }

    /// The honest channel's daemon and peer do as they are told: an HTLC is offered, and fulfilled
    /// at once.
    fn honest(&mut self, order: &[u8]) -> Vec<Outgoing> {
        let Ok(ToChanneld::Offer(offer)) = ToChanneld::decode_known(order) else { return vec![] };
        let live = &self.rig.channel(HONEST.0).live;
        let id = live.next_htlc_id.local.0;
        let Origin::Forward(index) = Origin::of(offer.key) else { return vec![] };
        let it = htlc(
            Side::Local,
            (id, Origin::Forward(index).key()),
            (offer.amount.0, offer.expiry.0),
            offer.payment_hash,
            Stage::InReceivers,
        );
        let persist = Persist { changes: vec![adds(live, it)], peeled: Long(vec![]) };
        let known = (0..=255).map(preimage).find(|p| p.hash() == offer.payment_hash);
        let mut bodies = vec![asked(&persist)];
        if let Some(preimage) = known {
            self.paid += offer.amount.0;
            bodies.push(PreimageLearned { id: HtlcId(id), preimage }.encode());
        }
        let frames = bodies.into_iter().map(|body| Frame { body, fds: Default::default() });
        let child = HONEST.0 + 1000;
        frames.flat_map(|frame| self.rig.outgoing(Event::Child(child, frame))).collect()
    }

    fn rows(&self) -> u64 {
        let db = &self.rig.db;
        let mut tables = db
            .prepare_cached(
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
            )
            .expect("a schema");
        let tables = tables.query_map([], |row| row.get::<_, String>(0)).expect("a schema");
        let count = |table: String| {
            let query = format!("SELECT count(*) FROM {table}");
            db.query_row(&query, [], |row| row.get::<_, i64>(0)).expect("a count").unsigned_abs()
        };
        tables.map(|table| count(table.expect("a name"))).sum()
    }

    fn step(&mut self, input: &mut Input<'_>) -> Option<()> {
        let what = input.byte()?;
        if self.rig.node.supervisor.role(self.child).is_none() {
            self.enter();
        }
        match what % 16 {
            0 => {
                self.happens(Event::ChildGone(self.child));
            }
            1 if what < 64 => {
                self.rig.crash();
                self.due.clear();
                self.child = 0;
            }
            2 if !self.due.is_empty() => {
                let at = usize::from(what / 16) % self.due.len();
                let event = self.due.swap_remove(at);
                self.happens(event);
            }
            3 => {
                let length = usize::from(input.byte()?);
                let body = input.bytes(length);
                self.says(body, usize::from(what / 64));
            }
            1 if what >= 64 => self.mines(input.byte()?),
            4 if matches!(self.captured, Captured::Openingd | Captured::Each) => {
                let amount = input.number()?;
                self.proposes(amount);
            }
            _ => {
                let Some((captured, channel)) = self.now() else { return Some(()) };
                let mut body = match captured {
                    Captured::Connectd => connectd_says(input)?,
                    Captured::Openingd => openingd_says(&self.rig, &mut self.fundings, input)?,
                    Captured::Channeld => channeld_says(&self.rig, channel, input)?,
                    Captured::Closingd => closingd_says(&self.rig, channel, input)?,
                    Captured::Onchaind => onchaind_says(&self.rig, channel, input)?,
                    Captured::Each => return Some(()),
                };
                if what >= 208 {
                    // Some of its bytes are others.
                    let at = usize::from(u16::from_be_bytes([input.byte()?, input.byte()?]));
                    let at = at % body.len();
                    let new = input.bytes(usize::from(what % 7) + 1);
                    let end = (at + new.len()).min(body.len());
                    body.splice(at..end, new);
                }
                let hands_over = matches!(self.captured, Captured::Openingd | Captured::Each);
                self.says(body, usize::from(hands_over && what < 224));
            }
        }
        Some(())
    }

    /// Who speaks, and of which channel.
    fn now(&self) -> Option<(Captured, ChannelNumber)> {
        match (self.captured, self.rig.node.supervisor.role(self.child)) {
            (Captured::Each, Some(Role::Opening(of))) => Some((Captured::Openingd, of)),
            (Captured::Each, Some(Role::Channel(of))) => Some((Captured::Channeld, of)),
            (Captured::Each, Some(Role::Closing(of))) => Some((Captured::Closingd, of)),
            (Captured::Each, Some(Role::Onchain(of))) => Some((Captured::Onchaind, of)),
            (Captured::Each, _) => None,
            (captured, _) => Some((captured, CAPTURED)),
        }
    }

    /// How far the stranger's channels came.
    fn note(&mut self) {
        let theirs = self.rig.node.channels.all.values().filter(|c| c.peer == peer(STRANGER));
        let furthest = theirs.map(|c| c.state).max();
        let reached = furthest.map(|state| (state.name(), u64::from(state.number()) + 1));
        if reached.map(|(_, n)| n) > self.reached.map(|(_, n)| n) {
            self.reached = reached;
        }
    }

    fn says(&mut self, body: Vec<u8>, fds: usize) {
        let null = || std::fs::File::open("/dev/null").expect("it is there").into();
        let fds = (0..fds).map(|_| null()).collect();
        self.happens(Event::Child(self.child, Frame { body, fds }));
    }
}

#[cfg(test)]
mod tests {
    /// A channel opens, becomes usable, closes, and its close is seen: without that, little of what
    /// follows `Opened` is fed.
    #[test]
    fn stranger_channel_comes_from_its_opening_to_its_close() {
        let open = vec![5, 6, 0, 1, 0, 0, 1, 0, 0, 1];
        // channel_reestablish, PersistPeerReady, the funding's block, PersistReady.
        let ready = [6, 6, 0, 0, 6, 6, 7, 5, 65, 1, 6, 6, 8, 0];
        // Both shutdowns, ReadyToClose; an offer, the peer's signature, ClosingAgreed.
        let shutdown = [&[6, 6, 9, 1, 6, 6, 139, 2, 0x51, 0x51][..], &[6, 6, 4, 0]].concat();
        let signed = [6, 0, 0, 5, 6, 3, 0, 5, 6, 6, 0, 5];
        let mut input = open;
        for (more, state) in [
            (&[][..], "CHANNELD_AWAITING_LOCKIN"),
            (&ready, "CHANNELD_NORMAL"),
            (&shutdown, "CLOSINGD_SIGEXCHANGE"),
            (&signed, "CLOSINGD_COMPLETE"),
            (&[65, 130], "ONCHAIN"),
        ] {
            input.extend(more);
            assert_eq!(super::hears(&input).map(|(name, _)| name), Some(state));
        }
    }

    #[test]
    fn captured_role_says_anything_and_the_master_goes_on() {
        for role in 0..6u8 {
            for start in [0, 3, 77, 200] {
                let bytes = (0..400u32).map(|n| (n * n % 251) as u8 ^ start);
                super::hears(&[vec![role], bytes.collect()].concat());
            }
        }
    }
}
