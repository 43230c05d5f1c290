//! What the daemons of a channel are told: hsmd its seed, channeld its fee and HTLC policy and how
//! HTLCs end.

use crate::kernel::turn::Turn;
use crate::rooms::chain::feerates::Use;
use crate::rooms::channels::change::order;
use crate::rooms::channels::state::StateTrust;
use crate::rooms::channels::{Channel, Scope};
use crate::sys::fatal::Stop;
use primitives::*;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use wire::channel_data::*;
use wire::channeld::*;
use wire::hsm::{ChannelSeed, ClosingTerms};

/// New fee estimates: channeld of each channel hears what they mean.
pub fn fees_changed(node: &Scope, turn: &mut Turn<'_>) {
    for channel in node.channels.all.values() {
        let fees = crate::rooms::channels::seed::fee_policy(node, channel);
        order(channel, turn, &wire::channeld::FeesChanged { fees });
    }
}

/// Of the funding, before a public channel is announced. BOLT 7.
pub const ANNOUNCE_DEPTH: u32 = 6;

/// What the fee estimates mean for this channel. BOLT 2, update_fee.
pub fn fee_policy(node: &Scope, channel: &Channel) -> FeePolicy {
    let anchors = channel.live.params.channel_type.offers(feature::ANCHORS);
    let what = if anchors { Use::UnilateralAnchorClose } else { Use::UnilateralClose };
    let any = crate::rooms::channels::policy::ignores_fee_limits(node, channel);
    let (min, max) = node.feerate_bounds_or_any(anchors, any);
    // Without an estimate the feerate stays where it is.
    let now = channel.live.fees.0.last().map_or(channel.initial_feerate, |f| f.feerate);
    FeePolicy { target: node.feerate(what).unwrap_or(now), min, max }
}

/// Our own bounds on HTLCs.
pub fn htlc_policy(node: &Scope) -> HtlcPolicy {
    let options = &node.config.options;
    HtlcPolicy {
        max_dust_exposure: options.max_dust_htlc_exposure_msat,
        max_offered: options.max_concurrent_htlcs,
        commit_time_ms: options.commit_time,
    }
}

/// What hsmd is told of a channel when a client for it is made.
pub fn hsm_seed(channel: &Channel) -> ChannelSeed {
    let live = &channel.live;
    ChannelSeed {
        params: live.params.clone(),
        phase: channel.phase(),
        local_number: live.commitment.local,
        local_revoked: live.revoked.local,
        remote_number: live.commitment.remote,
        remote_revoked: live.revoked.remote,
        remote_point: live.remote_point,
        remote_next_point: live.remote_next_point,
        local_balance: live.balance.local,
        broadcast: (channel.state.is_unilateral() && channel.trust != StateTrust::Lost)
            .then_some(live.commitment.local),
        closing: channel.shutdown.local.clone().map(|script| ClosingTerms {
            script,
            max_fee: crate::rooms::channels::closing::fees::max_fee(channel),
        }),
    }
}

/// The descriptor that a hand-over brings.
pub fn fd(mut fds: VecDeque<OwnedFd>) -> Result<OwnedFd, Stop> {
    fds.pop_front().ok_or_else(|| Stop::refused("a hand-over without a socket"))
}

pub fn set_status(channel: &mut Channel, status: wire::daemon::Status) {
    if let Some(lasting) = status.lasting {
        channel.status = (lasting, None);
    }
    if status.passing.is_some() {
        channel.status.1 = status.passing;
    }
}

/// Tells channeld how a received HTLC ends. A second time changes nothing there.
pub fn order_removal(channel: &Channel, turn: &mut Turn<'_>, id: HtlcId, removal: &Removal) {
    match removal {
        Removal::Fulfilled { preimage } => {
            order(channel, turn, &Fulfil { id, preimage: *preimage })
        }
        Removal::Failed { reason } => {
            order(channel, turn, &FailHtlc { id, reason: reason.clone() })
        }
        Removal::Malformed { sha256_of_onion, failure_code } => {
            order(
                channel,
                turn,
                &FailMalformed {
                    id,
                    sha256_of_onion: *sha256_of_onion,
                    failure_code: *failure_code,
                },
            );
        }
    }
}
