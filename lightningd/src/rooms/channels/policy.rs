//! What we want of those who forward over our channels: the node's options, and what `setchannel` set for one channel.

use super::{Channel, store, update};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::node::Node;
use crate::rooms::channels::terms::Policy;
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use crate::sys::json::{now, put};
use primitives::*;
use serde_json::{Value, json};
use wire::channeld::FeesChanged;

/// CLN's: ten minutes, until the network has heard.
const ENFORCE_DELAY_SECONDS: u64 = 600;
/// BOLT 4, expiry_too_far: two weeks.
const MAX_LOCKTIME: u32 = 2016;

/// What `setchannel` said of one channel. What it did not say follows the options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnPolicy {
    /// For each HTLC.
    pub fee_base: Option<Msat>,
    /// In millionths.
    pub fee_ppm: Option<u32>,
    /// The smallest that leaves.
    pub htlc_min: Option<Msat>,
    /// The largest that leaves.
    pub htlc_max: Option<Msat>,
    /// Bear any feerate of the peer's.
    pub ignore_fee_limits: Option<bool>,
    /// What held before, and until when it is good enough, in seconds since 1970.
    pub before: Option<(Policy, u64)>,
}

/// Blocks between the two expiries of a forward.
pub fn cltv_delta(node: &Node) -> CltvDelta {
    CltvDelta(node.config.u32_or("cltv-delta", if node.network.is_test() { 6 } else { 34 }))
}

/// Blocks before its expiry at which a received HTLC is too late to be fulfilled: its channel would be failed at once.
pub fn fulfilment_margin(node: &Node) -> CltvDelta {
    super::deadline::fulfilment_margin(cltv_delta(node))
}

/// Blocks from now that an outgoing HTLC may last.
pub fn max_locktime(node: &Node) -> CltvDelta {
    CltvDelta(node.config.u32_or("max-locktime-blocks", MAX_LOCKTIME))
}

/// What a channel wants now.
pub fn of(node: &Node, channel: &Channel) -> Policy {
    let (own, params) = (&channel.own_policy, &channel.live.params);
    let base = node.config.u32_or("fee-base", if node.network.is_test() { 1 } else { 1000 });
    let (least, most) = bounds(channel);
    let min = own.htlc_min.unwrap_or_else(|| node.config.msat_or("htlc-minimum-msat", Msat(0)));
    let max = own.htlc_max;
    let max = max.unwrap_or_else(|| node.config.msat_or("htlc-maximum-msat", params.amount.msat()));
    Policy {
        fee_base: own.fee_base.unwrap_or(Msat(base.into())),
        fee_ppm: own.fee_ppm.unwrap_or_else(|| node.config.u32_or("fee-per-satoshi", 10)),
        htlc_min: min.max(least).min(Sat::MAX_MONEY.msat()),
        htlc_max: max.min(most),
    }
}

/// The smallest that the peer takes, and the largest that it takes and the channel can hold. BOLT 7, channel_update:
/// htlc_maximum_msat is above neither.
fn bounds(channel: &Channel) -> (Msat, Msat) {
    let params = &channel.live.params;
    let terms = &params.terms.remote;
    (terms.htlc_minimum, params.amount.msat().min(terms.max_in_flight))
}

/// What it wanted before, while that is good enough.
pub fn before(channel: &Channel, now: u64) -> Option<Policy> {
    channel.own_policy.before.filter(|(_, until)| now < *until).map(|(policy, _)| policy)
}

/// Does it bear any feerate of the peer's?
pub fn ignores_fee_limits(node: &Node, channel: &Channel) -> bool {
    channel.own_policy.ignore_fee_limits.unwrap_or_else(|| bears_any_feerate(node))
}

/// And channels that were told nothing?
pub fn bears_any_feerate(node: &Node) -> bool {
    node.config.bool_or("ignore-fee-limits", node.network.is_test())
}

/// `setchannel id [feebase] [feeppm] [htlcmin] [htlcmax] [enforcedelay] [ignorefeelimits]`.
pub fn setchannel(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let wanted = Wanted {
        fee_base: args.msat("feebase"),
        fee_ppm: args.number32("feeppm")?,
        htlc_min: args.msat("htlcmin"),
        htlc_max: args.msat("htlcmax"),
        ignore_fee_limits: args.bool("ignorefeelimits"),
        delay: args.number("enforcedelay").unwrap_or(ENFORCE_DELAY_SECONDS),
    };
    for (name, amount) in
        [("feebase", wanted.fee_base), ("htlcmin", wanted.htlc_min), ("htlcmax", wanted.htlc_max)]
    {
        // BOLT 7: fee_base_msat is a u32, and the others are of this world.
        let most = if name == "feebase" { Msat(u32::MAX.into()) } else { Sat::MAX_MONEY.msat() };
        if amount.is_some_and(|a| a > most) {
            return Err(RpcError::params(format!("{name}: should be {most} at most")).into());
        }
    }
    let text = args.need_text("id")?;
    let channels: Vec<&Channel> = if text == "all" {
        node.channels.all.values().filter(|c| c.state.is_open()).collect()
    } else {
        find(node, &text)?
    };
    let mut list = Vec::new();
    for channel in channels {
        list.push(set(node, turn, channel, &wanted)?);
    }
    Ok(Answer::Now(json!({"channels": list})))
}

struct Wanted {
    fee_base: Option<Msat>,
    fee_ppm: Option<u32>,
    htlc_min: Option<Msat>,
    htlc_max: Option<Msat>,
    ignore_fee_limits: Option<bool>,
    delay: u64,
}

/// By short id, alias or channel id; by peer, all of them.
fn find<'a>(node: &'a Node, text: &str) -> Result<Vec<&'a Channel>, RpcError> {
    let (peer, id) = (text.parse::<NodeId>().ok(), text.parse::<ChannelId>().ok());
    let scid = text.parse::<ShortChannelId>().ok();
    if peer.is_none() && id.is_none() && scid.is_none() {
        return Err(RpcError::params(
            "id: should be a channel ID or short channel ID: invalid token (see logs for details)",
        ));
    }
    let is_it = |c: &&Channel| {
        peer == Some(c.peer)
            || id == Some(c.id)
            || scid.is_some_and(|s| c.scid == Some(s) || c.alias_local == s)
    };
    let found: Vec<_> = node.channels.all.values().filter(is_it).collect();
    if let Some(dead) = found.iter().find(|c| !c.state.is_open())
        && found.len() == 1
    {
        let text = format!("Channel is in state {}", dead.state.name());
        return Err(RpcError::new(code::LIGHTNINGD, text));
    }
    if found.is_empty() {
        return Err(RpcError::params(format!("id: no channel {text}, and no peer with one")));
    }
    Ok(found.into_iter().filter(|c| c.state.is_open()).collect())
}

fn set(
    node: &Node,
    turn: &mut Turn<'_>,
    channel: &Channel,
    wanted: &Wanted,
) -> Result<Value, Stop> {
    let (least, most) = bounds(channel);
    let old = of(node, channel);
    let mut own = channel.own_policy;
    own.fee_base = wanted.fee_base.or(own.fee_base);
    own.fee_ppm = wanted.fee_ppm.or(own.fee_ppm);
    own.htlc_min = wanted.htlc_min.map(|m| m.max(least)).or(own.htlc_min);
    own.htlc_max = wanted.htlc_max.map(|m| m.min(most)).or(own.htlc_max);
    own.ignore_fee_limits = wanted.ignore_fee_limits.or(own.ignore_fee_limits);
    own.before = Some((old, now().saturating_add(wanted.delay).min(i64::MAX as u64)));
    store::policies::set_policy(turn.db, channel.number, &own)?;
    update(turn, channel.number, move |c| c.own_policy = own);
    let changed = Channel { own_policy: own, ..channel.clone() };
    if wanted.ignore_fee_limits.is_some() {
        let fees = super::live::fee_policy(node, &changed);
        super::order(channel, turn, &FeesChanged { fees });
    }
    turn.also(Event::Channel(
        channel.number,
        crate::kernel::words::rooms::ChannelEvent::TellUpdate,
    ));
    let mut out = json!({
        "peer_id": channel.peer.to_string(),
        "channel_id": channel.id.to_string(),
    });
    put(&mut out, "short_channel_id", channel.scid.map(|s| s.to_string()));
    put_policy(&mut out, &of(node, &changed));
    put(&mut out, "ignore_fee_limits", Some(ignores_fee_limits(node, &changed)));
    if wanted.htlc_min.is_some_and(|m| m < least) {
        let text = format!("Set minimum_htlc_out_msat to {least}, the minimum the peer allows");
        put(&mut out, "warning_htlcmin_too_low", Some(text));
    }
    if wanted.htlc_max.is_some_and(|m| m > most) {
        let text = format!(
            "Set maximum_htlc_out_msat to {most}, the most that the channel and its peer allow"
        );
        put(&mut out, "warning_htlcmax_too_high", Some(text));
    }
    Ok(out)
}

/// BOLT 7's names, as `setchannel` and `listpeerchannels` show them.
pub fn put_policy(out: &mut Value, policy: &Policy) {
    put(out, "fee_base_msat", Some(policy.fee_base.0));
    put(out, "fee_proportional_millionths", Some(policy.fee_ppm));
    put(out, "minimum_htlc_out_msat", Some(policy.htlc_min.0));
    put(out, "maximum_htlc_out_msat", Some(policy.htlc_max.0));
}
