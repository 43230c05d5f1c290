//! The lines of `status` in `listpeerchannels`: CLN's, since people know them and tools match on
//! them.

use channel::IRREVOCABLE_DEPTH;
use primitives::*;
use wire::hsm::WalletKey;
use wire::onchaind::*;

/// Which transaction is tracked.
pub(crate) const fn lasting(close: &CloseKind) -> &'static str {
    match close {
        CloseKind::Ours {} => "Tracking our own unilateral close",
        CloseKind::Theirs { .. } => "Tracking their unilateral close",
        CloseKind::Revoked { .. } => "Tracking their illegal close",
        CloseKind::Unknown { .. } => {
            "Tracking an unknown commitment: funds may be lost, only our own output can be taken"
        }
    }
}

/// The event that is awaited.
pub(crate) fn passing(resolution: &Resolution, tip: BlockHeight) -> String {
    if let Some(settled) = resolution.settled {
        let left = (settled + CltvDelta(IRREVOCABLE_DEPTH)) - tip;
        return format!(
            "All outputs resolved: waiting {left} more blocks before forgetting channel"
        );
    }
    let unresolved = resolution.outputs.0.iter().filter(|output| !output.done).count();
    let next = resolution.claims.0.iter().min_by_key(|claim| claim.ready);
    let Some(claim) = next else {
        return format!("{unresolved} outputs unresolved: waiting for the other side's HTLCs");
    };
    let (kind, with) = names(&claim.key);
    let blocks = claim.ready - tip;
    if blocks > CltvDelta(1) {
        format!(
            "{unresolved} outputs unresolved: in {blocks} blocks will spend {kind} ({}) using {with}",
            claim.outpoint
        )
    } else {
        format!(
            "{unresolved} outputs unresolved: waiting confirmation that we spent {kind} ({}) using {with}",
            claim.outpoint
        )
    }
}

/// CLN's names of outputs and of what takes them.
const fn names(key: &WalletKey) -> (&'static str, &'static str) {
    match key {
        WalletKey::ToRemote { .. } => ("OUTPUT_TO_US", "OUR_WALLET_SPEND"),
        WalletKey::Delayed { .. } => ("DELAYED_OUTPUT_TO_US", "OUR_DELAYED_RETURN_TO_WALLET"),
        WalletKey::OwnHtlc { preimage: None, .. } => ("OUR_HTLC", "OUR_HTLC_TIMEOUT_TX"),
        WalletKey::OwnHtlc { preimage: Some(_), .. } => ("THEIR_HTLC", "OUR_HTLC_SUCCESS_TX"),
        WalletKey::TheirHtlc { preimage: None, .. } => ("OUR_HTLC", "OUR_HTLC_TIMEOUT_TO_US"),
        WalletKey::TheirHtlc { preimage: Some(_), .. } => ("THEIR_HTLC", "OUR_HTLC_FULFILL_TO_US"),
        WalletKey::RevokedDelayed { .. } => ("DELAYED_CHEAT_OUTPUT_TO_THEM", "OUR_PENALTY_TX"),
        WalletKey::RevokedHtlc { htlc, .. } => match htlc.offered_by {
            Side::Local => ("OUR_HTLC", "OUR_PENALTY_TX"),
            Side::Remote => ("THEIR_HTLC", "OUR_PENALTY_TX"),
        },
        WalletKey::Anchor { .. } | WalletKey::Address { .. } => {
            ("OUTPUT_TO_US", "OUR_WALLET_SPEND")
        }
    }
}
