//! hsmd without its sockets: a master that stores what children tell it, captured clients with any rights, and any
//! questions. A model beside it knows what may never be undone, from the questions and answers alone.

use crate::input::Input;
use bitcoin::hashes::Hash;
use channel::Constants;
use channel::commitment::{Commitment, build};
use channel::keys::CommitmentKeys;
use hsmd::fuzzing::{Answered, Hsm, Keys};
use primitives::*;
use secp256k1::SECP256K1;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;
use wire::channel_data::*;
use wire::hsm::*;
use wire::{Bytes, Long, Request, Wire};

/// The most questions and orders of one execution, and the most clients.
const STEPS: usize = 96;
const CLIENTS: usize = 12;
const CAPACITY: u64 = 1_000_000_000;

/// A channel: both ends' keys, and what both know.
struct Ends {
    peer: NodeId,
    number: ChannelNumber,
    ours: Keys,
    theirs: Keys,
    params: ChannelParams,
    constants: Constants,
    /// As the peer sees it.
    mirrored: Constants,
}

static ENDS: LazyLock<Vec<Ends>> = LazyLock::new(|| {
    let ends = |peer: u8, number: u64, opener: Side, anchors: bool| {
        let (us, them, number) = (Keys::node_id(1), Keys::node_id(peer), ChannelNumber(number));
        let (ours, theirs) = (Keys::new(1, &them, number), Keys::new(peer, &us, number));
        let terms = Terms {
            dust_limit: Sat(546),
            max_in_flight: Msat(u64::MAX),
            reserve: Sat(10_000),
            htlc_minimum: Msat(0),
            to_self_delay: 6,
            max_accepted_htlcs: 483,
        };
        let bits: &[FeatureBit] =
            if anchors { &[feature::STATIC_REMOTEKEY, feature::ANCHORS] } else { &[feature::STATIC_REMOTEKEY] };
        let params = ChannelParams {
            opener,
            funding: OutPoint { txid: Txid::from_byte_array([peer; 32]), vout: 0 },
            amount: Sat(CAPACITY / 1000),
            push: Msat(100_000_000),
            channel_type: Features::compulsory(bits),
            terms: Sides { local: terms.clone(), remote: terms },
            basepoints: Sides { local: ours.points(), remote: theirs.points() },
        };
        let mirrored = ChannelParams {
            opener: !opener,
            terms: params.terms.clone().swap(),
            basepoints: params.basepoints.clone().swap(),
            ..params.clone()
        };
        let constants = Constants::new(params.clone()).expect("a good channel");
        let mirrored = Constants::new(mirrored).expect("a good channel");
        Ends { peer: them, number, ours, theirs, params, constants, mirrored }
    };
    vec![
        ends(2, 7, Side::Local, true),
        ends(2, 8, Side::Remote, false),
        ends(3, 7, Side::Local, true),
    ]
});

impl Ends {
    fn keys(&self, side: Side) -> &Keys {
        if side == Side::Local { &self.ours } else { &self.theirs }
    }
    fn point(&self, side: Side, number: u64) -> Point {
        let secret = self.keys(side).secret(CommitmentNumber(number));
        secret.expect("a small number has a secret").public_key(SECP256K1)
    }
    /// What the peer signs for our commitment.
    fn signed_by_peer(&self, state: &CommitmentState) -> Option<CommitmentSignatures> {
        let htlcs = state.htlcs.0.iter();
        let htlcs = htlcs.map(|h| Htlc { offered_by: !h.offered_by, ..h.clone() }).collect();
        let mirrored = CommitmentState {
            side: !state.side,
            balance: state.balance.swap(),
            htlcs: Long(htlcs),
            ..state.clone()
        };
        self.theirs.sign(&self.mirrored, &mirrored)
    }
    fn built(&self, state: &CommitmentState) -> Option<Commitment> {
        let basepoints = &self.params.basepoints;
        let keys = CommitmentKeys::derive(basepoints, state.side, &state.point);
        build(&self.constants, keys, state).ok()
    }
}

/// What one channel's questions and answers have shown.
#[derive(Default)]
struct Model {
    /// Something was asked about it: orders about a channel that hsmd has never met change nothing.
    met: bool,
    /// hsmd knows its parameters.
    known: bool,
    /// Our newest commitment with good signatures.
    shown: Option<u64>,
    /// How many of ours the master stored as revoked.
    stored: u64,
    /// The first of ours that was signed for broadcast.
    broadcast: Option<u64>,
    /// Secrets of ours that are out.
    out: BTreeSet<u64>,
    remote_signed: Option<u64>,
    remote_revoked: u64,
    remote_points: BTreeMap<u64, Point>,
    /// The newest state of each side that was shown: what is ours in it.
    owed: Sides<Option<Msat>>,
    closing_stored: bool,
    terms: Option<ClosingTerms>,
    forgotten: bool,
}

struct Client {
    of: usize,
    rights: Rights,
    stored: bool,
    waiting: Option<Vec<u8>>,
}

struct World {
    hsm: Hsm,
    channels: Vec<Model>,
    clients: Vec<Client>,
}

fn question<R: Request>(question: &R) -> Vec<u8> {
    let mut bytes = R::NUMBER.to_be_bytes().to_vec();
    question.put(&mut bytes);
    bytes
}
fn answer<R: Request>(answered: &Answered) -> R::Answer {
    R::Answer::from_bytes(&answered.answer).expect("what hsmd answers can be read")
}

/// The right that a question takes.
fn needs(asked: &HsmRequest) -> Capability {
    let row = HsmRequest::ROWS.iter().find(|row| row.name == asked.name());
    row.expect("each question has its row").needs
}

const MASTER: &[Capability] = &[Capability::Master];

impl World {
    fn new() -> Self {
        let channels = ENDS.iter().map(|_| Model::default()).collect();
        Self { hsm: Hsm::new(1), channels, clients: vec![] }
    }

    /// The master asks.
    fn master(&mut self, body: &[u8], fds: usize) -> Option<Answered> {
        self.ask(None, &Rights::of(MASTER), body, fds).ok().flatten()
    }

    /// A client asks; a refusal is its end.
    fn client(&mut self, at: usize, body: Vec<u8>) {
        let Client { of, rights, waiting, .. } = &self.clients[at];
        if waiting.is_some() {
            return;
        }
        let (of, rights) = (*of, rights.clone());
        match self.ask(Some(of), &rights, &body, 0) {
            Ok(Some(_)) => {}
            Ok(None) => self.clients[at].waiting = Some(body),
            Err(_) => drop(self.clients.swap_remove(at)),
        }
    }

    fn order(&mut self, order: &MasterOrder) {
        let id = match order {
            MasterOrder::RevocationStored(o) => (o.peer, o.channel),
            MasterOrder::ClosingStored(o) => (o.peer, o.channel),
        };
        self.hsm.ordered(order);
        if let Some(at) = ENDS.iter().position(|e| (e.peer, e.number) == id) {
            let model = &mut self.channels[at];
            match order {
                _ if !model.met => {}
                MasterOrder::RevocationStored(o) => model.stored = model.stored.max(o.revoked.0),
                MasterOrder::ClosingStored(_) => model.closing_stored = true,
            }
        }
        // Whoever waited asks again.
        for at in (0..self.clients.len()).rev() {
            if let Some(body) = self.clients[at].waiting.take() {
                self.client(at, body);
            }
        }
    }

    /// One question; its answer changes the model, and must fit it.
    fn ask(
        &mut self,
        of: Option<usize>,
        rights: &Rights,
        body: &[u8],
        fds: usize,
    ) -> Result<Option<Answered>, String> {
        let asked = HsmRequest::decode(body);
        // Unlock reads and makes files: it is asked once, before any client is there.
        if matches!(asked, Ok(HsmRequest::Unlock(_))) {
            return Ok(None);
        }
        let who = of.map(|at| (ENDS[at].peer, ENDS[at].number));
        let id = match &asked {
            Ok(HsmRequest::NewClient(q)) => q.seed.as_ref().map(|_| (q.peer, q.channel)),
            Ok(HsmRequest::SignLocalCommitment(q)) => Some((q.peer, q.channel)),
            Ok(HsmRequest::CompleteClosing(q)) => Some((q.peer, q.channel)),
            Ok(HsmRequest::MixEcdh(_) | HsmRequest::PeelOnions(_)) | Err(_) => None,
            Ok(_) => who,
        };
        let allowed = asked.as_ref().is_ok_and(|q| rights.allow(needs(q)));
        if let Some(at) = ENDS.iter().position(|e| Some((e.peer, e.number)) == id) {
            self.channels[at].met |= allowed;
        }
        let null = || std::fs::File::open("/dev/null").expect("it is there").into();
        let fds: VecDeque<_> = (0..fds).map(|_| null()).collect();
        let answered = self.hsm.answer(who, rights, body, fds)?;
        let asked = asked.expect("what is answered can be read");
        assert!(rights.allow(needs(&asked)), "{} without the right", asked.name());
        let Some(answered) = answered else {
            let waits = matches!(asked, HsmRequest::RevokeLocal(_) | HsmRequest::SignClosing(_));
            assert!(waits && of.is_some(), "{} waits", asked.name());
            return Ok(None);
        };
        let at = |peer, number| ENDS.iter().position(|e| (e.peer, e.number) == (peer, number));
        let drops = |client: &Client, id: Option<(NodeId, ChannelNumber)>| {
            id.is_some_and(|(peer, number)| at(peer, number) == Some(client.of))
        };
        self.clients.retain(|c| {
            !drops(c, answered.forgotten) && (c.stored || !drops(c, answered.stored))
        });
        match &asked {
            HsmRequest::NewClient(q) => {
                if let Some(at) = at(q.peer, q.channel) {
                    self.admits(at, q, &answered);
                }
            }
            HsmRequest::ForgetChannel(q) => {
                if let Some(at) = at(q.peer, q.channel) {
                    self.channels[at] = Model { forgotten: true, ..Model::default() };
                }
            }
            HsmRequest::SignLocalCommitment(q) => {
                let signed = answer::<SignLocalCommitment>(&answered);
                if let (Completed::Ready { .. }, Some(at)) = (signed, at(q.peer, q.channel)) {
                    self.channels[at].broadcasts(q.state.number.0);
                }
            }
            HsmRequest::SignWallet(q) => {
                if let Completed::Ready { .. } = answer::<SignWallet>(&answered) {
                    for input in &q.inputs.0 {
                        if let WalletKey::OwnHtlc { peer, channel, number, .. } = &input.key
                            && let Some(at) = at(*peer, *channel)
                        {
                            self.channels[at].broadcasts(number.0);
                        }
                    }
                }
            }
            HsmRequest::CompleteClosing(q) => {
                let signed = answer::<CompleteClosing>(&answered);
                if let (Completed::Ready { .. }, Some(at)) = (signed, at(q.peer, q.channel)) {
                    self.channels[at].closes(&q.state, &ENDS[at]);
                }
            }
            _ => {
                if let Some(at) = of {
                    self.channels[at].answered(&ENDS[at], &asked, &answered);
                }
            }
        }
        Ok(Some(answered))
    }

    fn admits(&mut self, at: usize, q: &NewClient, answered: &Answered) {
        assert!(!answered.admitted || !q.rights.allow(Capability::Master), "a second master");
        if !answered.admitted {
            return;
        }
        if let Some(seed) = &q.seed {
            self.channels[at].seeded(seed);
        }
        let stored = q.seed.is_some();
        self.clients.push(Client { of: at, rights: q.rights.clone(), stored, waiting: None });
        if self.clients.len() > CLIENTS {
            self.clients.remove(0);
        }
    }
}

impl Model {
    fn seeded(&mut self, seed: &ChannelSeed) {
        let number = seed.local_number.0;
        if self.known {
            assert!(number <= self.shown.unwrap_or(0), "a seed raised what was shown");
            assert!(Some(seed.remote_number.0) <= self.remote_signed, "or what was signed");
            assert!(seed.remote_revoked.0 <= self.remote_revoked, "or what was revoked");
        }
        self.known = true;
        self.shown = self.shown.max(Some(number));
        self.stored = self.stored.max(seed.local_revoked.0);
        self.remote_signed = self.remote_signed.max(Some(seed.remote_number.0));
        self.remote_revoked = self.remote_revoked.max(seed.remote_revoked.0);
        self.remote_points.entry(seed.remote_revoked.0).or_insert(seed.remote_point);
        if let Some(first) = seed.broadcast {
            self.broadcast = Some(self.broadcast.map_or(first.0, |b| b.min(first.0)));
        }
        self.owed = Sides { local: Some(seed.local_balance), remote: Some(seed.local_balance) };
        self.closing_stored |= seed.phase >= ChannelPhase::Negotiating;
        if seed.closing.is_some() {
            self.terms.clone_from(&seed.closing);
        }
    }

    fn broadcasts(&mut self, number: u64) {
        assert!(!self.out.contains(&number), "commitment {number} is signed, and its secret out");
        self.broadcast = Some(self.broadcast.map_or(number, |b| b.min(number)));
    }

    fn closes(&self, state: &ClosingState, ends: &Ends) {
        assert!(self.closing_stored, "a closing that the master has not stored");
        let terms = self.terms.as_ref().expect("a closing has terms");
        assert_eq!(state.script.local, terms.script, "a closing that pays elsewhere");
        for side in Side::BOTH {
            assert!(self.owed[side].is_none_or(|owed| state.balance.local >= owed), "paid less");
        }
        assert!(ends.params.opener == Side::Remote || state.fee <= terms.max_fee);
    }

    /// A child's question, answered.
    fn answered(&mut self, ends: &Ends, asked: &HsmRequest, answered: &Answered) {
        match asked {
            HsmRequest::SetupChannel(q) => {
                assert_eq!(q.params.basepoints.local, ends.ours.points(), "of somebody else");
                self.known = true;
            }
            HsmRequest::SignRemoteCommitment(q) => {
                self.signs_remote(ends, &q.state, &answer::<SignRemoteCommitment>(answered));
            }
            HsmRequest::RemoteRevoked(q) => {
                if answer::<RemoteRevoked>(answered) == Verdict::Good {
                    self.remote_revoked = self.remote_revoked.max(q.number.0 + 1);
                }
            }
            HsmRequest::ValidateLocalCommitment(q) => {
                if answer::<ValidateLocalCommitment>(answered) == Verdict::Good {
                    let number = q.state.number.0;
                    assert!(number <= self.shown.map_or(0, |n| n + 1), "a leap to {number}");
                    if self.shown <= Some(number) {
                        self.shown = Some(number);
                        self.owed.local = Some(q.state.balance.local);
                    }
                }
            }
            HsmRequest::RevokeLocal(q) => {
                let (number, out) = (q.number.0, answer::<RevokeLocal>(answered));
                assert!(self.shown > Some(number), "{number} has no successor");
                assert!(number < self.stored, "the master knows no successor of {number}");
                assert!(self.broadcast.is_none_or(|b| b > number), "{number} was broadcast");
                assert_eq!(Some(out.secret), ends.ours.secret(q.number));
                self.out.insert(number);
            }
            HsmRequest::SignClosing(q) => self.closes(&q.state, ends),
            HsmRequest::GetCommitmentPoint(q) => {
                assert!(q.number.0 <= self.shown.map_or(0, |n| n + 1) + 1, "a point too far");
            }
            // Nothing follows from the others that could be undone; which of them are whose, `needs` says.
            _ => assert!(needs(asked) != Capability::Master),
        }
    }

    fn signs_remote(&mut self, ends: &Ends, state: &CommitmentState, signed: &CommitmentSignatures) {
        let number = state.number.0;
        assert_eq!(state.side, Side::Remote);
        assert!(number >= self.remote_revoked, "{number} is revoked");
        assert!(number <= self.remote_revoked + 1, "three of the peer's count");
        let known = *self.remote_points.entry(number).or_insert(state.point);
        assert_eq!(known, state.point, "{number} has two points");
        let closes = self.closing_stored;
        assert!(!closes || state.htlcs.0.is_empty(), "an HTLC after a closing");
        let built = ends.built(state).expect("what is signed can be built");
        let funding = &ends.params.basepoints.local.funding;
        let sighash = built.sighash(&ends.constants);
        SECP256K1.verify_ecdsa(&sighash, &signed.signature, funding).expect("our signature");
        assert_eq!(signed.htlcs.len(), built.htlcs.len());
        if self.remote_signed <= Some(number) {
            self.remote_signed = Some(number);
            self.owed.remote = Some(state.balance.local);
        }
    }
}

fn number(input: &mut Input<'_>, near: u64) -> Option<u64> {
    Some(match input.byte()? {
        // Mostly one that matters.
        byte @ 0..=239 => (near + u64::from(byte % 5)).saturating_sub(2),
        byte @ 240..=253 => u64::from(byte % 7),
        254 => CommitmentNumber::LAST.0 - 1,
        _ => u64::from(u32::MAX),
    })
}

/// A commitment, mostly one that can be built.
fn state(input: &mut Input<'_>, ends: &Ends, side: Side, number: u64) -> Option<CommitmentState> {
    let point = match input.byte()? {
        255 => ends.point(!side, 0),
        254 => ends.point(side, number + 1),
        _ => ends.point(side, number),
    };
    let mut htlcs = vec![];
    for id in 0..u64::from(input.byte()?.saturating_sub(128) % 4) {
        let amount = Msat(1_000_000 * u64::from(input.byte()?));
        let offered_by = if id % 2 == 0 { Side::Local } else { Side::Remote };
        let payment_hash = Preimage([id as u8; 32]).hash();
        let expiry = BlockHeight(500 + id as u32);
        htlcs.push(Htlc { offered_by, id: HtlcId(id), amount, payment_hash, expiry });
    }
    let in_htlcs = |by| htlcs.iter().filter(|h| h.offered_by == by).map(|h| h.amount.0).sum::<u64>();
    let remote = 100_000_000 + 3_000_000 * u64::from(input.byte()? / 4);
    let mut balance = Sides {
        local: Msat((CAPACITY - remote).saturating_sub(in_htlcs(Side::Local))),
        remote: Msat(remote.saturating_sub(in_htlcs(Side::Remote))),
    };
    if input.byte()? == 255 {
        balance.local.0 += 1;
    }
    let feerate = FeeratePerKw(1000);
    let number = CommitmentNumber(number);
    Some(CommitmentState { side, number, point, feerate, balance, htlcs: Long(htlcs) })
}

fn signatures(input: &mut Input<'_>, ends: &Ends, state: &CommitmentState) -> Option<CommitmentSignatures> {
    let other = CommitmentState { number: state.number.next(), ..state.clone() };
    let none = CommitmentSignatures {
        signature: Signature::from_compact(&[1; 64]).expect("any small numbers"),
        htlcs: vec![],
    };
    Some(match input.byte()? {
        255 => none,
        254 => ends.signed_by_peer(&other).unwrap_or(none),
        _ => ends.signed_by_peer(state).unwrap_or(none),
    })
}

fn closing_state(input: &mut Input<'_>, model: &Model) -> Option<ClosingState> {
    let local = match input.byte()? {
        255 => 500_000_000,
        254 => CAPACITY + 1,
        _ => model.owed.local.max(model.owed.remote).map_or(900_000_000, |m| m.0),
    };
    let remote = CAPACITY.saturating_sub(local);
    let script = |byte| ScriptBuf::new_p2wpkh(&Hash::from_byte_array([byte; 20]));
    Some(ClosingState {
        balance: Sides { local: Msat(local), remote: Msat(remote) },
        script: Sides { local: script(1 + u8::from(input.byte()? > 240)), remote: script(3) },
        fee: Sat(u64::from(input.byte()?) * 8),
    })
}

/// Rows of the master's: mostly as the model has them, for a child may have had anything stored.
fn seed(input: &mut Input<'_>, ends: &Ends, model: &Model) -> Option<ChannelSeed> {
    let mut params = ends.params.clone();
    if input.byte()? == 255 {
        params.amount = Sat(2_000_000);
    }
    let near = |input: &mut Input<'_>, value: u64| {
        Some(match input.byte()? {
            byte @ 0..=239 => value + u64::from(byte % 8 == 7),
            byte => value.saturating_sub(u64::from(byte % 4)),
        })
    };
    let local_revoked = near(input, model.stored.min(model.shown.unwrap_or(0)))?;
    let local_number = near(input, model.shown.unwrap_or(0))?;
    let remote_revoked = near(input, model.remote_revoked)?;
    let remote_number = near(input, model.remote_signed.unwrap_or(0))?;
    let phases = [
        ChannelPhase::Opening,
        ChannelPhase::AwaitingLockin,
        ChannelPhase::Normal,
        ChannelPhase::Normal,
        ChannelPhase::Normal,
        ChannelPhase::Normal,
        ChannelPhase::ShuttingDown,
        ChannelPhase::Negotiating,
        ChannelPhase::ClosingAgreed,
        ChannelPhase::AwaitingUnilateral,
        ChannelPhase::ClosingFailed,
        ChannelPhase::Onchain,
        ChannelPhase::DataLoss,
        ChannelPhase::Closed,
    ];
    let phase = input.pick(&phases)?;
    let flags = input.byte()?;
    let script = ScriptBuf::new_p2wpkh(&Hash::from_byte_array([1; 20]));
    Some(ChannelSeed {
        params,
        phase,
        local_number: CommitmentNumber(local_number),
        local_revoked: CommitmentNumber(local_revoked),
        remote_number: CommitmentNumber(remote_number),
        remote_revoked: CommitmentNumber(remote_revoked),
        remote_point: ends.point(Side::Remote, remote_revoked + u64::from(flags >= 250)),
        remote_next_point: (flags % 2 == 0).then(|| ends.point(Side::Remote, remote_revoked + 1)),
        local_balance: model.owed.local.unwrap_or(Msat(900_000_000)),
        broadcast: model.broadcast.map(CommitmentNumber),
        closing: (flags & 6 != 0).then(|| ClosingTerms { script, max_fee: Sat(1000) }),
    })
}

/// An HTLC of our own commitment, taken through its HTLC transaction.
fn own_htlc(input: &mut Input<'_>, ends: &Ends, near: u64) -> Option<SignWallet> {
    let number = number(input, near)?;
    let state = state(input, ends, Side::Local, number)?;
    let built = ends.built(&state)?;
    let signed = ends.signed_by_peer(&state)?;
    let at = input.below(built.htlcs.len().max(1))?;
    let (output, signature) = (built.htlcs.get(at)?, *signed.htlcs.get(at)?);
    let preimage = (output.htlc.offered_by == Side::Remote)
        .then_some(Preimage([output.htlc.id.0 as u8; 32]));
    let key = WalletKey::OwnHtlc {
        peer: ends.peer,
        channel: ends.number,
        number: CommitmentNumber(number),
        htlc: output.htlc.clone(),
        signature,
        preimage,
    };
    let script = output.script.to_p2wsh();
    let input = WalletInput { index: 0, key, amount: output.amount, script: script.clone() };
    Some(SignWallet {
        transaction: output.tx.clone(),
        inputs: Long(vec![input]),
        spent: Long(vec![SpentOutput { amount: output.amount, script }]),
    })
}

fn step(world: &mut World, input: &mut Input<'_>) -> Option<()> {
    let what = input.byte()?;
    let at = input.below(world.clients.len().max(1))?;
    match what % 16 {
        0 | 1 => {
            let of = input.below(ENDS.len())?;
            let (ends, model) = (&ENDS[of], &world.channels[of]);
            if model.forgotten {
                // A number is never used twice.
                return Some(());
            }
            let bits = input.byte()?;
            let all: [Capability; 7] = [
                Capability::Ecdh,
                Capability::Points,
                Capability::SignRemote,
                Capability::Revoke,
                Capability::Peel,
                Capability::SignClosing,
                Capability::SignGossip,
            ];
            let mut rights: Vec<_> = if bits < 192 {
                all[1..].to_vec()
            } else {
                (0..7).filter(|bit| bits >> bit & 1 == 1).map(|bit| all[bit]).collect()
            };
            if bits == 255 {
                rights.push(Capability::Master);
            }
            let seed = if what < 208 { Some(seed(input, ends, model)?) } else { None };
            let rights = Rights::of(&rights);
            let q = NewClient { peer: ends.peer, channel: ends.number, rights, seed };
            world.master(&question(&q), usize::from(what != 255));
        }
        2 => {
            let of = input.below(ENDS.len())?;
            let (peer, channel) = (ENDS[of].peer, ENDS[of].number);
            let near = world.channels[of].stored + 1;
            let revoked = CommitmentNumber(number(input, near)?);
            world.order(&MasterOrder::RevocationStored(RevocationStored { peer, channel, revoked }));
        }
        3 => {
            let of = input.below(ENDS.len())?;
            let (peer, channel) = (ENDS[of].peer, ENDS[of].number);
            if what >= 128 {
                world.order(&MasterOrder::ClosingStored(ClosingStored { peer, channel }));
            } else if what < 16 {
                world.master(&question(&ForgetChannel { peer, channel }), 0);
            }
        }
        4 if what < 128 => master_signs(world, input)?,
        4 if at < world.clients.len() => honest_round(world, input, at)?,
        5 => {
            // Any bytes, of the master or of a client.
            let length = input.byte()?;
            let body = input.bytes(usize::from(length)).to_vec();
            if what >= 128 {
                world.master(&body, 0);
            } else if at < world.clients.len() {
                world.client(at, body);
            }
        }
        _ if at < world.clients.len() => {
            let of = world.clients[at].of;
            let body = child_asks(what, &world.channels[of], &ENDS[of], input)?;
            world.client(at, body);
        }
        _ => {}
    }
    Some(())
}

/// Both sides sign a next commitment and revoke the one before, as far as hsmd lets them.
fn honest_round(world: &mut World, input: &mut Input<'_>, at: usize) -> Option<()> {
    let of = world.clients[at].of;
    let (ends, model) = (&ENDS[of], &world.channels[of]);
    let (remote, local) = (model.remote_revoked, model.shown.unwrap_or(0));
    let theirs = state(input, ends, Side::Remote, remote + 1)?;
    let ours = state(input, ends, Side::Local, local + 1)?;
    let signatures = ends.signed_by_peer(&ours)?;
    let (number, secret) = (CommitmentNumber(remote), ends.theirs.secret(CommitmentNumber(remote))?);
    let questions = [
        question(&SignRemoteCommitment { state: theirs }),
        question(&RemoteRevoked { number, secret }),
        question(&ValidateLocalCommitment { state: ours, signatures }),
        question(&RevokeLocal { number: CommitmentNumber(local) }),
    ];
    let clients = world.clients.len();
    for question in questions {
        if world.clients.len() < clients {
            return Some(());
        }
        world.client(at, question);
    }
    let (peer, channel) = (ends.peer, ends.number);
    let revoked = CommitmentNumber(local + 1);
    world.order(&MasterOrder::RevocationStored(RevocationStored { peer, channel, revoked }));
    Some(())
}

fn master_signs(world: &mut World, input: &mut Input<'_>) -> Option<()> {
    let of = input.below(ENDS.len())?;
    let (ends, model) = (&ENDS[of], &world.channels[of]);
    let (peer, channel) = (ends.peer, ends.number);
    let near = model.shown.unwrap_or(0);
    let body = match input.byte()? % 6 {
        0 | 1 => {
            let number = number(input, near)?;
            let state = state(input, ends, Side::Local, number)?;
            let signatures = signatures(input, ends, &state)?;
            question(&SignLocalCommitment { peer, channel, state, signatures })
        }
        2 => question(&own_htlc(input, ends, near)?),
        3 => {
            let state = closing_state(input, model)?;
            let mirrored = ClosingState {
                balance: state.balance.swap(),
                script: state.script.clone().swap(),
                ..state.clone()
            };
            let signature = ends.theirs.sign_closing(&ends.mirrored, &mirrored)?;
            question(&CompleteClosing { peer, channel, state, signature })
        }
        4 => question(&MakeSecret { info: Bytes(input.bytes(8).to_vec()) }),
        _ => question(&SignChannelUpdate { unsigned: Bytes(input.bytes(140).to_vec()) }),
    };
    world.master(&body, 0);
    Some(())
}

/// What a captured child asks about its channel.
fn child_asks(what: u8, model: &Model, ends: &Ends, input: &mut Input<'_>) -> Option<Vec<u8>> {
    let signature = Signature::from_compact(&[1; 64]).expect("any small numbers");
    Some(match what % 16 {
        6 | 7 => {
            let number = number(input, model.remote_signed.map_or(0, |n| n + 1))?;
            let side = if what > 250 { Side::Local } else { Side::Remote };
            question(&SignRemoteCommitment { state: state(input, ends, side, number)? })
        }
        8 => {
            let number = number(input, model.remote_revoked)?;
            let of = if what > 250 { number + 1 } else { number };
            let secret = ends.theirs.secret(CommitmentNumber(of))?;
            question(&RemoteRevoked { number: CommitmentNumber(number), secret })
        }
        9 | 10 => {
            let number = number(input, model.shown.map_or(0, |n| n + 1))?;
            let side = if what > 250 { Side::Remote } else { Side::Local };
            let state = state(input, ends, side, number)?;
            let signatures = signatures(input, ends, &state)?;
            question(&ValidateLocalCommitment { state, signatures })
        }
        11 | 12 => {
            let number = CommitmentNumber(number(input, model.stored)?);
            question(&RevokeLocal { number })
        }
        13 => question(&SignClosing { state: closing_state(input, model)? }),
        14 => match input.byte()? % 6 {
            0 => question(&SetupChannel { params: ends.params.clone() }),
            1 => question(&GetBasepoints {}),
            2 => {
                let number = number(input, model.shown.unwrap_or(0) + 2)?;
                question(&GetCommitmentPoint { number: CommitmentNumber(number) })
            }
            3 => question(&CheckSecret {
                number: CommitmentNumber(u64::from(what)),
                secret: Secret::new([what; 32]),
            }),
            4 => question(&SignAnnouncement {
                short_channel_id: ShortChannelId(u64::from(what)),
                features: Features::none(),
            }),
            _ => question(&CheckAnnouncement {
                short_channel_id: ShortChannelId(1),
                features: Features::none(),
                node_signature: signature,
                bitcoin_signature: signature,
            }),
        },
        _ => match input.byte()? % 4 {
            0 => question(&CheckClosing { state: closing_state(input, model)?, signature }),
            1 => question(&MixEcdh {
                point: ends.point(Side::Remote, 1),
                chaining_key: Secret::new([input.byte()?; 32]),
            }),
            2 => {
                let onions = usize::from(input.byte()?) * 8;
                let onion = OnionPoint { ephemeral: ends.point(Side::Remote, 1), path_key: None };
                question(&PeelOnions { onions: vec![onion; onions % 12] })
            }
            // What only the master may.
            _ => question(&ForgetChannel { peer: ends.peer, channel: ends.number }),
        },
    })
}

pub fn run(data: &[u8]) {
    let (mut world, mut input) = (World::new(), Input(data));
    for _ in 0..STEPS {
        if step(&mut world, &mut input).is_none() {
            break;
        }
    }
}
