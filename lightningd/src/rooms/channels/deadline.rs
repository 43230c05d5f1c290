//! HTLCs that run out of time: what no peer resolves the chain must. BOLT 2, "cltv_expiry_delta
//! Selection".

use primitives::*;
use std::collections::BTreeMap;
use wire::channel_data::{LiveHtlc, Removal, Stage, StagedRemoval};

/// Blocks that the peer has beyond the expiry of one that we offered, before we go to the chain.
/// CLN's.
const GRACE: u32 = 1;

/// The evidence that a channel cannot wait for its peer any longer, if it cannot. `delta` is the
/// node's cltv-delta.
pub fn missed(
    htlcs: &[LiveHtlc],
    decided: &BTreeMap<HtlcId, Removal>,
    tip: BlockHeight,
    delta: CltvDelta,
) -> Option<String> {
    htlcs.iter().find_map(|l| {
        let (id, expiry) = (l.htlc.id, l.htlc.expiry);
        let (kind, deadline) = match l.htlc.offered_by {
            Side::Local => match &l.removed {
                None => ("Offered", expiry.0.saturating_add(GRACE)),
                // Its preimage is known: there is nothing to win on the chain.
                Some(StagedRemoval { removal: Removal::Fulfilled { .. }, .. }) => return None,
                // Until that is irrevocable the peer can still publish a commitment with it and
                // take it with the preimage, after whoever it came from took it back. Half of the
                // delta is left to prevent that.
                Some(StagedRemoval {
                    removal: Removal::Failed { .. } | Removal::Malformed { .. },
                    ..
                }) => ("Failing", expiry.0.saturating_add(GRACE.max(delta.0 / 2))),
            },
            Side::Remote if !fulfilled(decided.get(&id)) || is_out_of_theirs(l) => return None,
            Side::Remote => ("Fulfilled", expiry.0.saturating_sub(fulfilment_margin(delta).0)),
        };
        (tip.0 >= deadline)
            .then(|| format!("{kind} HTLC {id} cltv {expiry} hit deadline at block {tip}"))
    })
}

/// Blocks between the deadline by which a received HTLC must be fulfilled and its expiry: half of
/// the delta, for the transaction that claims it. BOLT 2, "cltv_expiry_delta Selection",
/// fulfillment deadline.
pub const fn fulfilment_margin(delta: CltvDelta) -> CltvDelta {
    CltvDelta(delta.0.div_ceil(2))
}

fn fulfilled(decision: Option<&Removal>) -> bool {
    matches!(decision, Some(Removal::Fulfilled { .. }))
}

/// The peer revoked its last commitment with it: whatever it publishes now, this one's value is
/// ours.
fn is_out_of_theirs(l: &LiveHtlc) -> bool {
    match l.removed {
        None | Some(StagedRemoval { stage: Stage::PendingOnReceiver | Stage::InReceivers, .. }) => {
            false
        }
        Some(StagedRemoval {
            stage: Stage::PendingOnSender | Stage::InSenders | Stage::Irrevocable,
            ..
        }) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::OnionPacket;
    use wire::channel_data::Htlc;

    fn htlc(offered_by: Side, removed: Option<(Removal, Stage)>) -> LiveHtlc {
        LiveHtlc {
            htlc: Htlc {
                offered_by,
                id: HtlcId(7),
                amount: Msat(1),
                payment_hash: PaymentHash([1; 32]),
                expiry: BlockHeight(100),
            },
            onion: OnionPacket(Box::new([0; 1366])),
            path_key: None,
            key: 0,
            added: Stage::Irrevocable,
            removed: removed.map(|(removal, stage)| StagedRemoval { removal, stage }),
            in_remote_from: None,
            in_remote_until: None,
        }
    }

    /// The first block at which the channel is failed.
    fn deadline(l: LiveHtlc, decision: Option<Removal>) -> Option<u32> {
        let decided = decision.map(|d| (HtlcId(7), d)).into_iter().collect();
        (0..200).find(|tip| {
            missed(std::slice::from_ref(&l), &decided, BlockHeight(*tip), CltvDelta(6)).is_some()
        })
    }

    #[test]
    fn what_the_peer_does_not_resolve_in_time_the_chain_must() {
        let paid = Removal::Fulfilled { preimage: Preimage([2; 32]) };
        let failed = Removal::Failed { reason: vec![] };
        for (l, decision, at) in [
            (htlc(Side::Local, None), None, Some(101)),
            (htlc(Side::Local, Some((paid.clone(), Stage::InReceivers))), None, None),
            (htlc(Side::Local, Some((failed.clone(), Stage::PendingOnReceiver))), None, Some(103)),
            (htlc(Side::Local, Some((failed.clone(), Stage::InSenders))), None, Some(103)),
            (htlc(Side::Remote, None), Some(paid.clone()), Some(97)),
            (htlc(Side::Remote, None), Some(failed), None),
            (htlc(Side::Remote, None), None, None),
            (
                htlc(Side::Remote, Some((paid.clone(), Stage::InReceivers))),
                Some(paid.clone()),
                Some(97),
            ),
            (htlc(Side::Remote, Some((paid.clone(), Stage::PendingOnSender))), Some(paid), None),
        ] {
            assert_eq!(deadline(l.clone(), decision), at, "{l:?}");
        }
    }
}
