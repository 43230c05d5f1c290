//! Whose commitment spent the funding, and what each of its outputs is. This follows from the rows
//! and that transaction alone: it is found once.
//!
//! A commitment that our rows can build is known by its txid. The outputs of an older one, and of
//! one that our rows never knew, are compared with the scripts (and HTLCs also with the amounts)
//! that they could have.

use bitcoin::Transaction;
use channel::commitment::{Commitment, build, delayed_script};
use channel::keys::{CommitmentKeys, Shachain, index_of};
use channel::{Channel, Constants, Unbuildable, scripts};
use primitives::*;
use secp256k1::SECP256K1;
use std::collections::{HashMap, HashSet};
use wire::channel_data::{ChannelState, CommitmentState, Htlc, LiveHtlc, Removal};
use wire::onchaind::{CloseKind, OnchaindInit};

/// The close of one channel, as far as it never changes.
#[derive(Debug)]
pub(crate) struct Close {
    pub(crate) peer: NodeId,
    pub(crate) channel: ChannelNumber,
    pub(crate) constants: Constants,
    pub(crate) txid: Txid,
    pub(crate) height: BlockHeight,
    pub(crate) view: CommitmentOwner,
    /// One for each output.
    pub(crate) parts: Vec<CommitmentOutput>,
    /// Every HTLC that we offered and that is not settled.
    pub(crate) offered: Vec<Offered>,
}

/// The owner of the commitment, with the values that claims from it need.
#[derive(Debug)]
pub(crate) enum CommitmentOwner {
    Ours {
        number: CommitmentNumber,
        delayed: ScriptBuf,
    },
    Theirs {
        number: CommitmentNumber,
        point: Point,
    },
    Revoked {
        number: CommitmentNumber,
        secret: SecretKey,
        delayed: ScriptBuf,
    },
    /// `delayed`: if it is an old one of ours. `point`: if it is one of theirs whose point we have.
    Unknown {
        number: CommitmentNumber,
        delayed: Option<ScriptBuf>,
        point: Option<Point>,
    },
}

impl CommitmentOwner {
    pub(crate) fn kind(&self) -> CloseKind {
        match self {
            Self::Ours { .. } => CloseKind::Ours {},
            Self::Theirs { number, .. } => CloseKind::Theirs { number: *number },
            Self::Revoked { number, .. } => CloseKind::Revoked { number: *number },
            Self::Unknown { number, .. } => CloseKind::Unknown { number: *number },
        }
    }
}

/// An output with what we know of its script.
#[derive(Debug)]
pub(crate) struct CommitmentOutput {
    pub(crate) amount: Sat,
    pub(crate) script: ScriptBuf,
    pub(crate) what: OutputKind,
}

/// The kind of an output, seen from us.
#[derive(Debug)]
pub(crate) enum OutputKind {
    /// Our own, after the delay of our own commitment.
    OurToLocal,
    /// Our own, in the peer's commitment.
    OurToRemote,
    /// The peer's own, delayed: ours if it was revoked.
    TheirToLocal,
    /// The peer's own, in our commitment.
    TheirToRemote,
    Anchor(Side),
    Htlc(HtlcOutput),
    /// A script of no known kind.
    Unknown,
}

/// An HTLC's output.
#[derive(Debug)]
pub(crate) struct HtlcOutput {
    pub(crate) htlc: Htlc,
    /// The witness script.
    pub(crate) script: ScriptBuf,
    /// Of our own commitment: what the HTLC transaction pays, and the peer's signature on it.
    pub(crate) second: Option<(Sat, Signature)>,
}

/// An HTLC that we offered: it must come to an end here.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) id: HtlcId,
    pub(crate) amount: Sat,
    pub(crate) payment_hash: PaymentHash,
    pub(crate) expiry: BlockHeight,
    /// When the HTLC expires that it forwards.
    pub(crate) upstream: Option<BlockHeight>,
    /// Where its output is, if it has one here.
    pub(crate) output: Option<usize>,
    /// Has it one in any commitment that counts?
    pub(crate) valid_output: bool,
}

impl Close {
    pub(crate) fn new(init: &OnchaindInit) -> Result<Self, Unbuildable> {
        let channel = Channel::new(init.state.clone())?;
        let tx = &init.spend.transaction;
        let txid = tx.compute_txid();
        let (view, whats) = ours(&channel, init, txid)
            .or_else(|| theirs(&channel, init.number, txid))
            .or_else(|| revoked(&channel, init))
            .unwrap_or_else(|| unknown(&channel, init));
        let parts: Vec<_> = tx
            .output
            .iter()
            .zip(whats)
            .map(|(out, what)| CommitmentOutput {
                amount: Sat(out.value.to_sat()),
                script: out.script_pubkey.clone(),
                what,
            })
            .collect();
        let offered = offered(&channel, init, &parts);
        Ok(Self {
            peer: init.peer,
            channel: init.channel,
            constants: channel.constants().clone(),
            txid,
            height: init.spend.height,
            view,
            parts,
            offered,
        })
    }

    /// What our money, or the peer's, waits for: the script that HTLC transactions of this
    /// commitment pay to, if they concern us.
    pub(crate) const fn second_stage(&self) -> Option<&ScriptBuf> {
        match &self.view {
            CommitmentOwner::Ours { delayed, .. } | CommitmentOwner::Revoked { delayed, .. } => {
                Some(delayed)
            }
            CommitmentOwner::Theirs { .. } | CommitmentOwner::Unknown { .. } => None,
        }
    }
}

fn offered(channel: &Channel, init: &OnchaindInit, parts: &[CommitmentOutput]) -> Vec<Offered> {
    let upstream: HashMap<_, _> = init.upstream.0.iter().copied().collect();
    let outputs: HashMap<_, _> = parts
        .iter()
        .enumerate()
        .filter_map(|(at, part)| {
            let OutputKind::Htlc(h) = &part.what else { return None };
            (h.htlc.offered_by == Side::Local).then_some((h.htlc.id, at))
        })
        .collect();
    channel
        .htlcs()
        .filter(|live| live.htlc.offered_by == Side::Local)
        .map(|live| Offered {
            id: live.htlc.id,
            amount: live.htlc.amount.sat_floor(),
            payment_hash: live.htlc.payment_hash,
            expiry: live.htlc.expiry,
            upstream: upstream.get(&live.htlc.id).copied(),
            output: outputs.get(&live.htlc.id).copied(),
            valid_output: channel.has_valid_output(live),
        })
        .collect()
}

/// Preimages that were said before the end: of HTLCs offered by `side`.
pub(crate) fn said_preimages(
    state: &ChannelState,
    side: Side,
) -> impl Iterator<Item = (HtlcId, Preimage)> {
    let of_side = state.htlcs.0.iter().filter(move |live| live.htlc.offered_by == side);
    of_side.filter_map(|live| match &live.removed.as_ref()?.removal {
        Removal::Fulfilled { preimage } => Some((live.htlc.id, *preimage)),
        Removal::Failed { .. } | Removal::Malformed { .. } => None,
    })
}

/// Our newest.
fn ours(
    channel: &Channel,
    init: &OnchaindInit,
    txid: Txid,
) -> Option<(CommitmentOwner, Vec<OutputKind>)> {
    let point = init.local_point.filter(|_| init.number == channel.commitment().local)?;
    let built = built(channel.constants(), &channel.local_commitment(point), txid)?;
    let delayed = delayed_script(channel.constants(), &built.keys, Side::Local);
    let signatures = &channel.local_signatures().htlcs;
    let seconds = built.htlcs.iter().zip(signatures).map(|(htlc, signature)| {
        let pays = htlc.tx.output.first().map_or(0, |out| out.value.to_sat());
        (Sat(pays), *signature)
    });
    let seconds: Vec<_> = seconds.map(Some).collect();
    let number = init.number;
    Some((CommitmentOwner::Ours { number, delayed }, whats(channel.constants(), &built, &seconds)))
}

/// One of the peer's that is not revoked.
fn theirs(
    channel: &Channel,
    number: CommitmentNumber,
    txid: Txid,
) -> Option<(CommitmentOwner, Vec<OutputKind>)> {
    let state = channel.remote_commitment(number)?;
    let built = built(channel.constants(), &state, txid)?;
    let whats = whats(channel.constants(), &built, &[]);
    Some((CommitmentOwner::Theirs { number, point: state.point }, whats))
}

/// A commitment that we cannot build is treated as one that our rows do not know.
fn built(constants: &Constants, state: &CommitmentState, txid: Txid) -> Option<Commitment> {
    let keys = CommitmentKeys::derive(&constants.params.basepoints, state.side, &state.point);
    build(constants, keys, state).ok().filter(|built| built.tx.compute_txid() == txid)
}

/// The outputs of a commitment that was built.
fn whats(
    constants: &Constants,
    built: &Commitment,
    seconds: &[Option<(Sat, Signature)>],
) -> Vec<OutputKind> {
    let templates = Templates::new(constants, built.side, Some(&built.keys), std::iter::empty());
    let mut whats: Vec<_> =
        built.tx.output.iter().map(|out| templates.plain(&out.script_pubkey)).collect();
    for (at, htlc) in built.htlcs.iter().enumerate() {
        if let Some(what) = whats.get_mut(htlc.index) {
            *what = OutputKind::Htlc(HtlcOutput {
                htlc: htlc.htlc.clone(),
                script: htlc.script.clone(),
                second: seconds.get(at).copied().flatten(),
            });
        }
    }
    whats
}

/// One of the peer's that is revoked: the rows have its secret.
fn revoked(channel: &Channel, init: &OnchaindInit) -> Option<(CommitmentOwner, Vec<OutputKind>)> {
    let (constants, number) = (channel.constants(), init.number);
    if number >= channel.revoked().remote {
        return None;
    }
    let secret = Shachain::from_stored(&init.state.remote_secrets.0)?.get(index_of(number))?;
    let secret = SecretKey::from_slice(secret.expose()).ok()?;
    // An old one of our own has such a number too. The peer cannot make a commitment of its own
    // look like that: no money in it waits for a key that is derived from our own delayed one.
    if own_to_local(constants, init).is_some() {
        return None;
    }
    let point = Point::from_secret_key(SECP256K1, &secret);
    let keys = CommitmentKeys::derive(&constants.params.basepoints, Side::Remote, &point);
    let delayed = delayed_script(constants, &keys, Side::Remote);
    let htlcs = htlcs_in_revoked(init);
    let mut templates = Templates::new(constants, Side::Remote, Some(&keys), htlcs.iter().copied());
    let whats = templates.all(&init.spend.transaction);
    let of_theirs = |w: &OutputKind| {
        matches!(w, OutputKind::TheirToLocal | OutputKind::OurToRemote | OutputKind::Htlc(_))
    };
    if !whats.iter().any(of_theirs) && own_to_remote(constants, &init.spend.transaction) {
        return None;
    }
    Some((CommitmentOwner::Revoked { number, secret, delayed }, whats))
}

/// What may be in it: what the master has found, and what is still under way.
fn htlcs_in_revoked(init: &OnchaindInit) -> Vec<&Htlc> {
    let number = init.number;
    let contains = |live: &&LiveHtlc| {
        live.in_remote_from.is_some_and(|from| from <= number)
            && live.in_remote_until.is_none_or(|until| number < until)
    };
    let live = init.state.htlcs.0.iter().filter(contains).map(|live| &live.htlc);
    let mut known = HashSet::new();
    let all = live.chain(&init.revoked_htlcs.0);
    all.filter(|htlc| known.insert((htlc.offered_by, htlc.id))).collect()
}

/// Anything else: only what pays our own keys can be told.
fn unknown(channel: &Channel, init: &OnchaindInit) -> (CommitmentOwner, Vec<OutputKind>) {
    let (constants, number, tx) = (channel.constants(), init.number, &init.spend.transaction);
    if let Some(keys) = own_to_local(constants, init) {
        let delayed = Some(delayed_script(constants, &keys, Side::Local));
        let mut templates = Templates::new(constants, Side::Local, Some(&keys), std::iter::empty());
        return (CommitmentOwner::Unknown { number, delayed, point: None }, templates.all(tx));
    }
    let state = &init.state;
    let point = if number == state.revoked.remote {
        Some(state.remote_point)
    } else {
        state.remote_next_point.filter(|_| number == state.revoked.remote.next())
    };
    let keys = point
        .map(|point| CommitmentKeys::derive(&constants.params.basepoints, Side::Remote, &point));
    let htlcs = state.htlcs.0.iter().map(|live| &live.htlc);
    let mut templates = Templates::new(constants, Side::Remote, keys.as_ref(), htlcs);
    (CommitmentOwner::Unknown { number, delayed: None, point }, templates.all(tx))
}

/// The keys of our commitment of this number, if the transaction has its to_local.
fn own_to_local(constants: &Constants, init: &OnchaindInit) -> Option<CommitmentKeys> {
    let point = init.local_point?;
    let keys = CommitmentKeys::derive(&constants.params.basepoints, Side::Local, &point);
    let script = delayed_script(constants, &keys, Side::Local).to_p2wsh();
    init.spend.transaction.output.iter().any(|out| out.script_pubkey == script).then_some(keys)
}

/// Does it pay the peer as our commitments do?
fn own_to_remote(constants: &Constants, tx: &Transaction) -> bool {
    let script = to_remote(constants, Side::Local);
    tx.output.iter().any(|out| out.script_pubkey == script)
}

/// The script of to_remote in commitments of `owner`.
fn to_remote(constants: &Constants, owner: Side) -> ScriptBuf {
    let payment = &constants.params.basepoints[!owner].payment;
    if constants.format.has_anchors() {
        scripts::to_remote_anchors(payment).to_p2wsh()
    } else {
        scripts::to_remote_plain(payment)
    }
}

/// An HTLC with its witness script.
type Candidate = (Htlc, ScriptBuf);

/// The scripts that outputs of a commitment of `owner` can have.
struct Templates {
    owner: Side,
    to_local: Option<ScriptBuf>,
    to_remote: ScriptBuf,
    anchors: Sides<ScriptBuf>,
    /// By script and amount; the one that comes first in the outputs is last here.
    htlcs: HashMap<(ScriptBuf, Sat), Vec<Candidate>>,
}

impl Templates {
    /// Without keys nothing that depends on the commitment's point can be told.
    fn new<'a>(
        constants: &Constants,
        owner: Side,
        keys: Option<&CommitmentKeys>,
        htlcs: impl Iterator<Item = &'a Htlc>,
    ) -> Self {
        let anchors = constants.format.has_anchors();
        let mut candidates: HashMap<_, Vec<Candidate>> = HashMap::new();
        if let Some((keys, htlc_keys)) = keys.and_then(|keys| Some((keys, keys.htlc.as_ref()?))) {
            for htlc in htlcs {
                let script = scripts::htlc(&keys.revocation, htlc_keys, owner, htlc, anchors);
                let place = (script.to_p2wsh(), htlc.amount.sat_floor());
                candidates.entry(place).or_default().push((htlc.clone(), script));
            }
        }
        for alike in candidates.values_mut() {
            // BOLT 3, "Transaction Output Ordering": those that differ in nothing else are in the
            // order of their expiries.
            alike.sort_by_key(|(htlc, _)| std::cmp::Reverse((htlc.expiry, htlc.id)));
        }
        let funding =
            |side: Side| scripts::anchor(&constants.params.basepoints[side].funding).to_p2wsh();
        Self {
            owner,
            to_local: keys.map(|keys| delayed_script(constants, keys, owner).to_p2wsh()),
            to_remote: to_remote(constants, owner),
            anchors: Sides::from_fn(funding),
            htlcs: candidates,
        }
    }

    /// The kind of an output with this script, unless it is an HTLC's.
    fn plain(&self, script: &ScriptBuf) -> OutputKind {
        if self.to_local.as_ref() == Some(script) {
            return match self.owner {
                Side::Local => OutputKind::OurToLocal,
                Side::Remote => OutputKind::TheirToLocal,
            };
        }
        if self.to_remote == *script {
            return match self.owner {
                Side::Local => OutputKind::TheirToRemote,
                Side::Remote => OutputKind::OurToRemote,
            };
        }
        let anchor = Side::BOTH.iter().find(|side| self.anchors[**side] == *script);
        anchor.map_or(OutputKind::Unknown, |side| OutputKind::Anchor(*side))
    }

    /// Every output of the transaction. An HTLC is found once.
    fn all(&mut self, tx: &Transaction) -> Vec<OutputKind> {
        let mut whats = Vec::with_capacity(tx.output.len());
        for out in &tx.output {
            let place = (out.script_pubkey.clone(), Sat(out.value.to_sat()));
            let found = self.htlcs.get_mut(&place).and_then(Vec::pop);
            whats.push(match found {
                Some((htlc, script)) => OutputKind::Htlc(HtlcOutput { htlc, script, second: None }),
                None => self.plain(&out.script_pubkey),
            });
        }
        whats
    }
}
