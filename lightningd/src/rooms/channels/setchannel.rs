//! `setchannel`: what a channel wants of those who forward over it changes.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::rooms::channels::change::update;
use crate::rooms::channels::policy::{bounds, of};
use crate::rooms::channels::view::{set_channel, set_channels};
use crate::rooms::channels::{Channel, Scope, store};
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use crate::sys::json::{now, put};
use primitives::*;
use serde_json::Value;
use wire::channeld::FeesChanged;

/// CLN's: ten minutes, until the network has heard.
const ENFORCE_DELAY_SECONDS: u64 = 600;

/// `setchannel id [feebase] [feeppm] [htlcmin] [htlcmax] [enforcedelay] [ignorefeelimits]`.
pub fn setchannel(
    node: &Scope,
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
    Ok(Answer::Now(set_channels(list)))
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
fn find<'a>(node: &'a Scope, text: &str) -> Result<Vec<&'a Channel>, RpcError> {
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
    node: &Scope,
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
        let fees = crate::rooms::channels::seed::fee_policy(node, &changed);
        crate::rooms::channels::change::order(channel, turn, &FeesChanged { fees });
    }
    turn.also(Event::Channel(
        channel.number,
        crate::kernel::words::rooms::ChannelEvent::TellUpdate,
    ));
    let mut out = set_channel(node, &changed);
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
