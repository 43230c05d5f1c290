//! `close`.

use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::channels::closing::fees;
use crate::rooms::channels::state::State;
use crate::rooms::channels::{Channel, closing};
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use primitives::*;
use serde_json::json;

/// The channel that a caller names by its id, its short id, its alias, or its peer where that has
/// only one.
pub fn find<'a>(node: &'a Node, text: &str) -> Result<&'a Channel, RpcError> {
    let by_peer = text.parse::<NodeId>().ok();
    let by_id = text.parse::<ChannelId>().ok();
    let by_scid = text.parse::<ShortChannelId>().ok();
    if by_peer.is_none() && by_id.is_none() && by_scid.is_none() {
        return Err(RpcError::params(
            "id: should be a channel ID or short channel ID: invalid token (see logs for details)",
        ));
    }
    let mut found = node.channels.all.values().filter(|c| {
        by_peer == Some(c.peer)
            || by_id == Some(c.id)
            || by_scid.is_some_and(|s| c.scid == Some(s) || c.alias_local == s)
    });
    let Some(first) = found.next() else {
        return Err(RpcError::new(
            code::LIGHTNINGD,
            format!("no channel {text}, and no peer with one"),
        ));
    };
    if found.next().is_some() {
        return Err(RpcError::new(
            code::LIGHTNINGD,
            "Peer has multiple channels: use channel_id or short_channel_id",
        ));
    }
    Ok(first)
}

/// `close id [unilateraltimeout] [destination] [fee_negotiation_step] [wrong_funding]
/// [force_lease_closed] [feerange]`.
pub fn close(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let text = args.need_text("id")?;
    if let Ok(peer) = text.parse::<NodeId>()
        && let Some(opening) = node.channels.openings.values().find(|o| o.peer == peer)
    {
        crate::rooms::channels::opening::heard::cancel(turn, opening, "closed by us");
        return Ok(Answer::Now(json!({"type": "unopened"})));
    }
    fees::refuse_unfit(args)?;
    let feerange = fees::asked(node, args)?;
    let channel = find(node, &text)?;
    let destination = args
        .text("destination")
        .map(|t| crate::sys::args::parse_address(node.network, "destination", &t))
        .transpose()?;
    match channel.state {
        State::AwaitingLockin | State::Normal | State::ShuttingDown | State::ClosingSigExchange => {
        }
        State::ClosingComplete
        | State::AwaitingUnilateral
        | State::FundingSpendSeen
        | State::Onchain
        | State::Closed => {
            return Err(RpcError::new(
                code::LIGHTNINGD,
                format!("Channel is in state {}", channel.state.name()),
            )
            .into());
        }
    }
    let wanted =
        closing::Wanted { destination, seconds: args.number("unilateraltimeout"), feerange };
    closing::close(node, turn, channel, wanted, caller)?;
    Ok(Answer::Later)
}
