//! `fundchannel`, `fundchannel_start`, `fundchannel_complete`, `fundchannel_cancel`.

use super::opening::psbt::funding_output;
use super::opening::{Attempt, Opening, Proposal, cancel, complete, propose};
use crate::chain::feerates::{Asked, Use};
use crate::node::Node;
use crate::rpc::args::Args;
use crate::rpc::{Answer, Caller, RpcError, code};
use crate::turn::{Stop, Turn};
use crate::wallet::{self, Wanted};
use primitives::*;
use serde_json::{Value, json};

/// What the funding output's script will be as long as: a P2WSH of anything.
fn placeholder() -> ScriptBuf {
    let hash = bitcoin::hashes::Hash::all_zeros();
    ScriptBuf::new_p2wsh(&hash)
}

fn common(node: &Node, args: &Args) -> Result<Proposal, RpcError> {
    let peer = args.need_node("id")?;
    if !node.chain.is_synced() {
        return Err(RpcError::new(
            code::FUNDING_STILL_SYNCING_BITCOIN,
            "Still syncing with bitcoin network",
        ));
    }
    if let Some(text) = node.stale_warning() {
        return Err(RpcError::new(code::FUNDING_STILL_SYNCING_BITCOIN, text));
    }
    if node.peers.connection(peer).is_none() {
        let known = node.peers.all.contains_key(&peer);
        return Err(if known {
            RpcError::new(code::FUNDING_PEER_NOT_CONNECTED, "Peer not connected")
        } else {
            RpcError::new(code::FUNDING_UNKNOWN_PEER, "Unknown peer")
        });
    }
    let close_to = args
        .text("close_to")
        .map(|text| wallet::rpc::parse_address(node, "close_to", &text))
        .transpose()?;
    let channel_type = match args.raw("channel_type") {
        None => None,
        Some(Value::Array(bits)) => {
            let mut features = Features::none();
            for bit in bits {
                let bit = bit.as_u64().filter(|b| *b < 1000);
                let bit = bit.ok_or_else(|| {
                    RpcError::params("channel_type: should be an array of feature bits")
                })?;
                features = features.with(bit as usize);
            }
            Some(features)
        }
        Some(_) => {
            return Err(RpcError::params("channel_type: should be an array of feature bits"));
        }
    };
    let what = if node.peers.connection(peer).is_some_and(|c| c.features.offers(feature::ANCHORS)) {
        Use::UnilateralAnchorClose
    } else {
        Use::UnilateralClose
    };
    let feerate = node.feerate(what).ok_or_else(|| {
        RpcError::new(
            code::LIGHTNINGD,
            "Cannot estimate fees: give --force-feerates, or wait for bitcoind",
        )
    })?;
    let reserve = args.msat("reserve").map(Msat::sat_ceil);
    Ok(Proposal {
        peer,
        amount: Sat::ZERO,
        push: push(args)?,
        announce: args.bool("announce").unwrap_or(true),
        feerate,
        close_to,
        reserve,
        channel_type,
        minimum_depth: args.number32("mindepth")?,
    })
}

fn push(args: &Args) -> Result<Msat, RpcError> {
    Ok(args.msat("push_msat").unwrap_or(Msat::ZERO))
}

fn check_push(p: &Proposal) -> Result<(), RpcError> {
    if p.push > p.amount.msat() {
        let text = format!("push_msat: {} is more than the channel's {}", p.push, p.amount);
        return Err(RpcError::new(code::FUND_CANNOT_AFFORD, text));
    }
    Ok(())
}

/// `fundchannel id amount [feerate] [announce] [minconf] [utxos] [push_msat] [close_to] ...`.
pub fn fundchannel(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let peer = args.need_node("id")?;
    if node.trusts_tip()
        && node.peers.connection(peer).is_none()
        && crate::peers::rpc::connect_to_fund(node, turn, peer, args, caller)
    {
        return Ok(Answer::Later);
    }
    let mut p = common(node, args)?;
    let asked = args.feerate("feerate").unwrap_or(Asked::Within(12));
    let feerate = node.feerate_asked(asked).ok_or_else(|| {
        RpcError::new(code::LIGHTNINGD, "Cannot estimate fees: give a feerate such as 253perkw")
    })?;
    let amount = args.sat_or_all("amount")?;
    let wanted = Wanted {
        script: placeholder(),
        amount,
        feerate,
        minconf: args.number32("minconf")?.unwrap_or(1),
        utxos: wallet::rpc::parse_utxos(args, "utxos")?,
        emergency: wallet::rpc::emergency_reserve(node, true),
    };
    let funded = wallet::build(node, turn, &wanted)?;
    p.amount = funded.amount;
    check_push(&p)?;
    wallet::reserve(node, turn, &funded.inputs, wallet::reservation_end(node.chain.height()))?;
    propose(node, turn, p, Attempt::Funding { caller: caller.clone(), funded })?;
    Ok(Answer::Later)
}

/// `fundchannel_start id amount [feerate] [announce] [close_to] [push_msat] [mindepth] [reserve] [channel_type]`.
pub fn start(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let mut p = common(node, args)?;
    let asked = args.sat_or_all("amount")?;
    p.amount = asked
        .ok_or_else(|| RpcError::params("amount: 'all' needs our own coins: use fundchannel"))?;
    if let Some(asked) = args.feerate("feerate")
        && let Some(rate) = node.feerate_asked(asked)
    {
        p.feerate = rate;
    }
    check_push(&p)?;
    propose(node, turn, p, Attempt::Start { caller: caller.clone() })?;
    Ok(Answer::Later)
}

fn attempt_with(node: &Node, peer: NodeId) -> Result<&Opening, RpcError> {
    let ours = |o: &&Opening| o.peer == peer && !matches!(o.attempt, Attempt::Theirs);
    node.channels.openings.values().find(ours).ok_or_else(|| {
        RpcError::new(code::FUNDING_NOTHING_TO_CANCEL, "No channel funding in progress.")
    })
}

/// `fundchannel_complete id psbt [withhold]`.
pub fn complete_rpc(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let peer = args.need_node("id")?;
    let opening = attempt_with(node, peer)?;
    let Attempt::StartAccepted { funding_script } = &opening.attempt else {
        return Err(RpcError::new(
            code::LIGHTNINGD,
            "fundchannel_start is not that far, or this is already completing",
        )
        .into());
    };
    let funding = funding_output(&args.need_text("psbt")?, funding_script, opening.amount)?;
    if node.channels.all.values().any(|c| c.live.params.funding == funding) {
        let text = format!("the output {funding} is another channel's already");
        return Err(RpcError::new(code::FUNDING_PSBT_INVALID, text).into());
    }
    complete(turn, opening, funding);
    let next = Attempt::Completing {
        caller: caller.clone(),
        withhold: args.bool("withhold").unwrap_or(false),
        funding,
        funding_script: funding_script.clone(),
    };
    let number = opening.number;
    turn.install(move |node| {
        if let Some(o) = node.channels.openings.get_mut(&number) {
            o.attempt = next;
        }
    });
    Ok(Answer::Later)
}

/// `fundchannel_cancel id`.
pub fn cancel_rpc(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let peer = args.need_node("id")?;
    if let Ok(opening) = attempt_with(node, peer) {
        cancel(turn, opening, "Channel open canceled by us");
        let entry = (opening.number, caller.clone());
        turn.install(move |node| node.channels.cancellers.push(entry));
        return Ok(Answer::Later);
    }
    if node.peers.connection(peer).is_none() && node.channels.count_with(peer) == 0 {
        return Err(RpcError::new(code::FUNDING_UNKNOWN_PEER, "Unknown peer").into());
    }
    let waits =
        |c: &&super::Channel| c.state == super::State::AwaitingLockin && c.opener() == Side::Local;
    match node.channels.with(peer).find(waits) {
        // Both have signed: whoever holds the funding may publish it at any time.
        Some(c) if c.funding_tx.is_some() || c.funding_height.is_some() => {
            let text = "Cannot cancel: the funding transaction has been broadcast";
            Err(RpcError::new(code::FUNDING_CANCEL_NOT_SAFE, text).into())
        }
        // What confirmed and was spent in blocks that we have not read looks like what never was.
        Some(_) if !node.trusts_tip() => {
            let text = "Cannot cancel: still syncing with the bitcoin network, and the funding may be in a block that was not read yet";
            Err(RpcError::new(code::FUNDING_CANCEL_NOT_SAFE, text).into())
        }
        // Somebody else holds the funding: bitcoind knows whether it was published, in a block or not.
        Some(c) => {
            let funding = c.live.params.funding;
            crate::plugin_host::call_backend(
                node,
                turn,
                "getutxout",
                &json!({"txid": funding.txid.to_string(), "vout": funding.vout}),
                crate::chain::Purpose::FundingSeen(c.number, caller.clone()),
            );
            Ok(Answer::Later)
        }
        None => {
            Err(RpcError::new(code::FUNDING_NOTHING_TO_CANCEL, "No channel funding in progress.")
                .into())
        }
    }
}

/// bitcoind said whether it knows the funding of a channel that is to be cancelled.
pub fn funding_seen(
    node: &Node,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    caller: &Caller,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let unsafe_now = |text: String| Err(RpcError::new(code::FUNDING_CANCEL_NOT_SAFE, text));
    let gone = RpcError::new(code::FUNDING_NOTHING_TO_CANCEL, "No channel funding in progress.");
    let seen =
        result.map_err(|e| e.message).and_then(|answer| crate::chain::answers::is_unspent(&answer));
    let answer = match (node.channels.all.get(&number), seen) {
        (None, _) => Err(gone),
        (Some(_), Err(why)) => unsafe_now(format!(
            "Cannot cancel: bitcoind does not say whether the funding transaction was broadcast: {why}"
        )),
        (Some(c), Ok(seen)) if c.funding_height.is_some() || seen => {
            unsafe_now("Cannot cancel: the funding transaction has been broadcast".to_owned())
        }
        (Some(c), Ok(_)) => {
            let text = "Channel open canceled by RPC(fundchannel_cancel)";
            crate::peers::tell(node, turn, c.peer, &wire::Error::new(c.id, text));
            super::watch::forget(node, turn, c, "cancelled before its funding was broadcast")?;
            Ok(json!({"cancelled": text}))
        }
    };
    turn.reply(caller.clone(), answer);
    Ok(())
}
