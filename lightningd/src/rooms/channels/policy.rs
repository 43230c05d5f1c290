//! What we want of those who forward over our channels: the node's options, and what `setchannel`
//! set for one channel.

use crate::rooms::channels::terms::Policy;
use crate::rooms::channels::{Channel, Scope};
use crate::sys::json::put;
use primitives::*;
use serde_json::Value;

/// Blocks before its expiry at which a received HTLC is too late to be fulfilled: its channel would
/// be failed at once.
pub fn fulfilment_margin(node: &Scope) -> CltvDelta {
    super::deadline::fulfilment_margin(node.cltv_delta())
}

/// What a channel wants now.
pub fn of(node: &Scope, channel: &Channel) -> Policy {
    let own = &channel.own_policy;
    let options = &node.config.options;
    let (least, most) = bounds(channel);
    let min = own.htlc_min.unwrap_or(options.htlc_minimum_msat);
    let max = own.htlc_max.unwrap_or(options.htlc_maximum_msat);
    Policy {
        fee_base: own.fee_base.unwrap_or(Msat(options.fee_base.into())),
        fee_ppm: own.fee_ppm.unwrap_or(options.fee_per_satoshi),
        htlc_min: min.max(least).min(Sat::MAX_MONEY.msat()),
        htlc_max: max.min(most),
    }
}

/// The smallest that the peer takes, and the largest that it takes and the channel can hold. BOLT
/// 7, channel_update: htlc_maximum_msat is above neither.
pub fn bounds(channel: &Channel) -> (Msat, Msat) {
    let params = &channel.live.params;
    let terms = &params.terms.remote;
    (terms.htlc_minimum, params.amount.msat().min(terms.max_in_flight))
}

/// What it wanted before, while that is good enough.
pub fn before(channel: &Channel, now: u64) -> Option<Policy> {
    channel.own_policy.before.filter(|(_, until)| now < *until).map(|(policy, _)| policy)
}

/// Does it bear any feerate of the peer's?
pub fn ignores_fee_limits(node: &Scope, channel: &Channel) -> bool {
    channel.own_policy.ignore_fee_limits.unwrap_or_else(|| node.bears_any_feerate())
}

/// BOLT 7's names, as `setchannel` and `listpeerchannels` show them.
pub fn put_policy(out: &mut Value, policy: &Policy) {
    put(out, "fee_base_msat", Some(policy.fee_base.0));
    put(out, "fee_proportional_millionths", Some(policy.fee_ppm));
    put(out, "minimum_htlc_out_msat", Some(policy.htlc_min.0));
    put(out, "maximum_htlc_out_msat", Some(policy.htlc_max.0));
}
