//! The commitment transactions of a channel that may stand in a mempool, with our anchor on each.
//! BOLT 3, "Commitment Transaction Outputs": with option_anchors each side has an anchor on both
//! sides' commitments, so that each can pay for either.
//!
//! The signature of the peer on its own commitment is never ours to have: we cannot broadcast that
//! transaction, but its txid follows from our rows, and so does the outpoint that a child of ours
//! spends.

use crate::rooms::channels::Channel;
use crate::rooms::onchain::Scope;
use bitcoin::{Transaction, Txid};
use channel::commitment::build;
use channel::keys::CommitmentKeys;
use primitives::*;
use wire::channel_data::CommitmentState;

/// Weight of what opens the funding, more than an unsigned commitment weighs: segwit's two bytes,
/// two signatures, two keys.
const FUNDING_WITNESS_WEIGHT: u64 = 2 + 222;

/// A commitment transaction with an anchor of ours.
#[derive(Debug, Clone)]
pub struct Bumpable {
    /// Its id.
    pub txid: Txid,
    /// Our anchor on it.
    pub anchor: OutPoint,
    /// What it pays by itself.
    pub fee: Sat,
    /// What it weighs with its witness.
    pub weight: u64,
    /// Whose it is, as far as we know; a revoked one, or one that our rows do not know, is the
    /// peer's.
    pub owner: Side,
}

impl Bumpable {
    /// `None` if we have no anchor on this transaction.
    fn new(channel: &Channel, owner: Side, tx: &Transaction, weight: u64) -> Option<Self> {
        let params = &channel.live.params;
        let script = channel::scripts::anchor(&params.basepoints.local.funding).to_p2wsh();
        let vout = tx.output.iter().position(|o| o.script_pubkey == script)?;
        let txid = tx.compute_txid();
        let paid: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
        Some(Self {
            txid,
            anchor: OutPoint { txid, vout: u32::try_from(vout).ok()? },
            fee: Sat(params.amount.0.saturating_sub(paid)),
            weight,
            owner,
        })
    }
    /// Does it pay less than this feerate by itself?
    pub fn pays_less_than(&self, feerate: FeeratePerKw) -> bool {
        feerate.fee(self.weight) > self.fee
    }
}

/// All of a channel's commitments that may stand in a mempool and that we can bump: ours, which is
/// `published`, the peer's that are not revoked, the newest first, and whatever commitment the
/// backend has seen beside these.
pub(super) fn bumpable(node: &Scope, channel: &Channel, published: &Transaction) -> Vec<Bumpable> {
    let ours = Bumpable::new(channel, Side::Local, published, published.weight().to_wu());
    let mut all: Vec<Bumpable> = ours.into_iter().collect();
    if let Ok(value) = channel::Channel::new(channel.live.clone()) {
        let (newest, oldest) = (value.commitment().remote, value.revoked().remote);
        // Two at most are signed and not revoked. BOLT 2, "Normal Operation".
        let numbers = if newest == oldest { vec![newest] } else { vec![newest, oldest] };
        for state in numbers.into_iter().filter_map(|number| value.remote_commitment(number)) {
            all.extend(remote(channel, value.constants(), &state));
        }
    }
    if let Some(seen) = node.onchain.funding_spends.get(&channel.number)
        && !all.iter().any(|b| b.txid == seen.compute_txid())
    {
        all.extend(Bumpable::new(channel, Side::Remote, seen, seen.weight().to_wu()));
    }
    all
}

fn remote(
    channel: &Channel,
    constants: &channel::Constants,
    state: &CommitmentState,
) -> Option<Bumpable> {
    let tx = transaction(constants, state)?;
    let weight = tx.weight().to_wu() + FUNDING_WITNESS_WEIGHT;
    Bumpable::new(channel, Side::Remote, &tx, weight)
}

/// The unsigned transaction of a commitment that our rows describe.
pub(super) fn transaction(
    constants: &channel::Constants,
    state: &CommitmentState,
) -> Option<Transaction> {
    let keys = CommitmentKeys::derive(&constants.params.basepoints, state.side, &state.point);
    Some(build(constants, keys, state).ok()?.tx)
}
