//! What a mutual close may pay: our bounds for closingd, and those that `close` was given.

use crate::rooms::chain::feerates::Use;
use crate::rooms::channels::terms::FeerateRange;
use crate::rooms::channels::{Channel, Scope};
use crate::sys::args::{Args, Asked};
use crate::sys::form::RpcError;
use primitives::*;
use serde_json::Value;

/// A closing that pays less than this at most may not be relayed: 1000 units of weight at the
/// lowest feerate, four times.
const LEAST_MAX_FEE: Sat = Sat(1000);
/// What a fee of an old peer's is answered with: halfway. The one step there is.
const HALFWAY: &str = "50%";
/// The longest script that a `shutdown` of ours or of a peer with `option_shutdown_anysegwit` may
/// name is 42 bytes long.
const LONGEST_SCRIPT: usize = 42;

/// The most that a closing may cost us, whatever the peer wants: what the last commitment would, or
/// what `close` allowed. Without anchors the last commitment is the limit of that, too.
pub fn max_fee(channel: &Channel) -> Sat {
    let anchors = channel.live.params.channel_type.offers(feature::ANCHORS);
    let weight = if anchors { 1124 } else { 724 };
    let rate = channel.live.fees.0.last().map_or(FeeratePerKw::FLOOR, |f| f.feerate);
    // Where feerates fell since the last update_fee, what is relayed at all may be more than that.
    let usual = rate.fee(weight).max(LEAST_MAX_FEE);
    match channel.close_feerange {
        None => usual,
        Some(range) => {
            let script = |s: &Option<ScriptBuf>| {
                s.clone().unwrap_or_else(|| ScriptBuf::from(vec![0; LONGEST_SCRIPT]))
            };
            let scripts = Sides {
                local: script(&channel.shutdown.local),
                remote: script(&channel.shutdown.remote),
            };
            let own = range.max.fee(channel::closing::weight(&scripts));
            if anchors { own } else { own.min(usual) }
        }
    }
}

/// What we pay at most for a closing as opener. With anchors the last commitment pays little by
/// design, and says nothing about what a closing costs now: the peer may rightly want what gets it
/// into a block.
fn most_of_ours(node: &Scope, channel: &Channel, weight: u64) -> Sat {
    let usual = max_fee(channel);
    let anchors = channel.live.params.channel_type.offers(feature::ANCHORS);
    if !anchors || channel.close_feerange.is_some() {
        return usual;
    }
    let market =
        [Use::UnilateralClose, Use::MutualClose].into_iter().filter_map(|u| node.feerate(u));
    market.map(|rate| rate.fee(weight)).fold(usual, Sat::max)
}

/// The least, the best and the most that closingd agrees to.
pub(super) fn of(node: &Scope, channel: &Channel, script: &Sides<ScriptBuf>) -> (Sat, Sat, Sat) {
    let weight = channel::closing::weight(script);
    let rate = node.feerate(Use::MutualClose).unwrap_or_else(|| node.feerate_floor());
    let most = match (channel.opener(), channel.close_feerange) {
        (Side::Local, _) => most_of_ours(node, channel, weight),
        // The peer pays. BOLT 2, closing_signed: our own proposals end there; what it offers beyond
        // it may.
        (Side::Remote, Some(range)) => {
            range.max.fee(weight).min(channel.live.balance.remote.sat_floor())
        }
        (Side::Remote, None) => channel.live.balance.remote.sat_floor(),
    };
    if let Some(agreed) = agreed_fee(channel) {
        return (agreed, agreed, agreed);
    }
    let least = channel.close_feerange.map_or_else(|| node.feerate_floor(), |range| range.min);
    let least = least.fee(weight).min(most);
    (least, rate.fee(weight).clamp(least, most), most)
}

/// What both have signed for already: a peer that died before it knew hears of no other fee.
fn agreed_fee(channel: &Channel) -> Option<Sat> {
    let tx = channel.close_tx.as_ref()?;
    let paid = tx.output.iter().map(|o| o.value.to_sat()).sum();
    Some(Sat(channel.live.params.amount.0.saturating_sub(paid)))
}

/// What `close` says in `feerange`: two feerates, each as anywhere else.
pub fn asked(node: &Scope, args: &Args) -> Result<Option<FeerateRange>, RpcError> {
    let shape = || {
        RpcError::params(
            "feerange: should be an array of two feerates, the lowest and the highest, such as [\"slow\", \"2000perkw\"]",
        )
    };
    let items = match args.raw("feerange") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) => items.clone(),
        // As people write it on a command line.
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| shape())?,
        Some(Value::Bool(_) | Value::Number(_) | Value::Object(_)) => return Err(shape()),
    };
    let [low, high] = items.as_slice() else { return Err(shape()) };
    let rate = |value: &Value| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(shape());
            }
        };
        let asked = Asked::parse(&text)
            .ok_or_else(|| RpcError::params(format!("feerange: '{text}' is no feerate")))?;
        node.feerate_asked(asked).ok_or_else(|| {
            RpcError::params(format!(
                "feerange: there are no estimates for '{text}' yet: give numbers such as 253perkw"
            ))
        })
    };
    let range = FeerateRange { min: rate(low)?, max: rate(high)? };
    if range.min > range.max {
        let text =
            format!("feerange: the lowest, {}, is above the highest, {}", range.min, range.max);
        return Err(RpcError::params(text));
    }
    Ok(Some(range))
}

/// What CLN's `close` takes and we cannot do.
pub fn refuse_unfit(args: &Args) -> Result<(), RpcError> {
    let given = |name: &str| args.raw(name).filter(|v| !v.is_null());
    if given("wrong_funding").is_some() {
        return Err(RpcError::params(
            "wrong_funding: not supported: it takes the experimental feature shutdown_wrong_funding on both sides",
        ));
    }
    // With fee ranges there are no steps; with a peer that has none we meet it halfway.
    if let Some(step) = given("fee_negotiation_step")
        && step.as_str() != Some(HALFWAY)
    {
        return Err(RpcError::params(format!(
            "fee_negotiation_step: {step} is not supported, only its default \"{HALFWAY}\": peers with fee ranges know no steps. \
             Use feerange to say what the close may pay"
        )));
    }
    // Nobody leases channels here, so that nothing is there to be forced.
    match given("force_lease_closed") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::String(s)) if s == "true" || s == "false" => Ok(()),
        Some(_) => Err(RpcError::params("force_lease_closed: should be 'true' or 'false'")),
    }
}

#[cfg(test)]
#[path = "fees_tests.rs"]
mod tests;
