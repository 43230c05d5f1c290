//! `fundchannel`, `fundchannel_start`, `fundchannel_complete`, `fundchannel_cancel`.

use crate::kernel::plugins::backend::Question;
use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::Purpose;
use crate::node::Node;
use crate::rooms::chain::feerates::Use;
use crate::rooms::channels::opening::begin::{Proposal, propose};
use crate::rooms::channels::opening::cancel::{BROADCAST, may_cancel};
use crate::rooms::channels::opening::heard::{cancel_for, complete, goes_on};
use crate::rooms::channels::opening::psbt::funding_output;
use crate::rooms::channels::opening::{Attempt, Opening};
use crate::rooms::wallet;
use crate::rooms::wallet::coins::Wanted;
use crate::sys::args::{Args, Asked};
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use primitives::*;
use serde_json::Value;

/// What the funding output's script will be as long as: a P2WSH of anything.
fn placeholder() -> ScriptBuf {
    let hash = bitcoin::hashes::Hash::all_zeros();
    ScriptBuf::new_p2wsh(&hash)
}

/// The bits of `channel_type`, if it was given.
fn channel_type(args: &Args) -> Result<Option<Features>, RpcError> {
    match args.raw("channel_type") {
        None => Ok(None),
        Some(Value::Array(bits)) => {
            let mut features = Features::none();
            for bit in bits {
                let bit = bit.as_u64().filter(|b| *b < 1000);
                let bit = bit.ok_or_else(|| {
                    RpcError::params("channel_type: should be an array of feature bits")
                })?;
                features = features.with(bit as usize);
            }
            Ok(Some(features))
        }
        Some(_) => Err(RpcError::params("channel_type: should be an array of feature bits")),
    }
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
        .map(|text| crate::sys::args::parse_address(node.network, "close_to", &text))
        .transpose()?;
    let channel_type = channel_type(args)?;
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
        let text = format!(
            "Requested to push_msat of {} is greater than available funding amount {}",
            p.push, p.amount
        );
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
        && crate::api::rpc::peers::connect_to_fund(node, turn, peer, args, caller)?
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
        utxos: crate::api::rpc::wallet::parse_utxos(args, "utxos")?,
        emergency: crate::api::rpc::wallet::emergency_reserve(node, true),
        replaceable: crate::rooms::onchain::attempts_under_way(node),
    };
    let funded = wallet::coins::build(node, turn, &wanted)?;
    p.amount = funded.amount;
    check_push(&p)?;
    wallet::spend::reserve(
        node,
        turn,
        &funded.inputs,
        wallet::coins::reservation_end(node.chain.height()),
    )?;
    propose(node, turn, p, Attempt::Funding { caller: caller.clone(), funded })?;
    Ok(Answer::Later)
}

/// `fundchannel_start id amount [feerate] [announce] [close_to] [push_msat] [mindepth]
/// [reserve] [channel_type]`.
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
    goes_on(node, turn, opening, next);
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
        cancel_for(node, turn, opening, caller);
        return Ok(Answer::Later);
    }
    if node.peers.connection(peer).is_none() && node.channels.count_with(peer) == 0 {
        return Err(RpcError::new(code::FUNDING_UNKNOWN_PEER, "Unknown peer").into());
    }
    let waits = |c: &&crate::rooms::channels::Channel| {
        c.state == crate::rooms::channels::state::State::AwaitingLockin && c.opener() == Side::Local
    };
    match node.channels.with(peer).find(waits) {
        Some(c) if !may_cancel(node, c) => {
            Err(RpcError::new(code::FUNDING_CANCEL_NOT_SAFE, BROADCAST).into())
        }
        // What confirmed and was spent in blocks that we have not read looks like what never was.
        Some(_) if !node.trusts_tip() => {
            let text = "Cannot cancel: still syncing with the bitcoin network, and the funding may be in a block that was not read yet";
            Err(RpcError::new(code::FUNDING_CANCEL_NOT_SAFE, text).into())
        }
        // Somebody else may hold the funding: bitcoind knows whether it was published, in a block
        // or not.
        Some(c) => {
            let question = Question::Unspent(c.live.params.funding);
            call_backend(node, turn, &question, Purpose::FundingSeen(c.number, caller.clone()));
            Ok(Answer::Later)
        }
        None => {
            Err(RpcError::new(code::FUNDING_NOTHING_TO_CANCEL, "No channel funding in progress.")
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::words::rooms::BroadcastFor;
    use crate::rooms::chain;
    use crate::rooms::channels::opening::cancel::funding_seen;
    use crate::testing::Rig;
    use bitcoin::{Amount, Transaction, TxIn, TxOut};
    use serde_json::json;

    const NUMBER: ChannelNumber = ChannelNumber(1);

    fn coin() -> (OutPoint, wallet::Output) {
        let coin = wallet::Output {
            amount: Sat(100_000),
            script: placeholder(),
            key_index: 1,
            coinbase: false,
            confirmed: Some(BlockHeight(50)),
            spent: None,
            reserved_until: BlockHeight(0),
        };
        (OutPoint { txid: bitcoin::hashes::Hash::all_zeros(), vout: 0 }, coin)
    }

    /// A channel of ours whose funding is signed and on its way to bitcoind.
    fn sent(name: &str) -> (Rig, Txid) {
        let mut rig = Rig::new(name, &[(1, 1)]);
        let (spent, output) = coin();
        let funding = Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn { previous_output: spent, ..TxIn::default() }],
            output: vec![TxOut { value: Amount::from_sat(90_000), script_pubkey: placeholder() }],
        };
        let txid = funding.compute_txid();
        rig.node.wallet.outputs.insert(spent, output);
        rig.turn(|node, turn| {
            let channel = &node.channels.all[&NUMBER];
            let state = crate::rooms::channels::state::State::AwaitingLockin;
            crate::rooms::channels::change::set_state(
                channel,
                turn,
                state,
                crate::rooms::channels::state::Cause::User,
                "a test",
            )?;
            crate::rooms::channels::store::set_funding_tx(turn.db, NUMBER, &funding)?;
            let copy = funding.clone();
            crate::rooms::channels::change::update(turn, NUMBER, move |c| {
                c.funding_tx = Some(copy)
            });
            wallet::spend::spend(node, turn, &funding)?;
            chain::broadcast::keep(turn.db, &funding)?;
            chain::broadcast::sent_first(turn, txid)?;
            turn.install_as::<crate::rooms::chain::Scope, _>(move |chain| {
                _ = chain.never_accepted.insert(txid, 1)
            });
            Ok(())
        });
        (rig, txid)
    }
    fn bitcoind_says(rig: &mut Rig, txid: Txid, answer: &Result<Value, RpcError>) {
        rig.turn(|node, turn| {
            let purpose = Purpose::Broadcast(txid, BroadcastFor::Funding(NUMBER));
            crate::flows::backend::answered(node, turn, purpose, answer.clone())
        });
    }
    /// Is the channel gone after `fundchannel_cancel`, and bitcoind's word that there is no such
    /// output?
    fn cancelled(rig: &mut Rig) -> bool {
        let missing = json!({"amount": null, "script": null});
        let caller = Caller { conn: 1, id: "1".into(), filter: None, notify: false };
        rig.turn(|node, turn| funding_seen(node, turn, NUMBER, &caller, Ok(missing.clone())));
        !rig.node.channels.all.contains_key(&NUMBER)
    }
    fn coin_is_free(rig: &Rig) -> bool {
        rig.node.wallet.outputs[&coin().0].spent.is_none()
    }
    fn refusal() -> Result<Value, RpcError> {
        Ok(json!({"success": false, "errmsg": "mempool min fee not met"}))
    }

    #[test]
    fn funding_rejected_by_bitcoind_is_cancelled_freeing_its_utxos() {
        let (mut rig, txid) = sent("cancel-refused");
        bitcoind_says(&mut rig, txid, &refusal());
        assert!(!coin_is_free(&rig));
        // It is so after a restart, which sends it again.
        rig.crash();
        assert!(!coin_is_free(&rig));
        rig.node.chain.never_accepted.insert(txid, 1);
        assert!(!cancelled(&mut rig), "that sending is not answered");
        bitcoind_says(&mut rig, txid, &refusal());
        assert!(cancelled(&mut rig) && coin_is_free(&rig));
        assert!(
            chain::store::sent_to_spend(&rig.db, coin().0).unwrap().is_none(),
            "it is sent no more"
        );
        rig.crash();
        assert!(rig.node.channels.all.is_empty() && coin_is_free(&rig));
    }

    #[test]
    fn a_funding_that_bitcoind_may_have_is_not_taken_back() {
        let no_verdict = Err(RpcError::new(code::LIGHTNINGD, "gone"));
        for (name, first) in [("taken", Ok(json!({"success": true}))), ("unknown", no_verdict)] {
            let (mut rig, txid) = sent(&format!("cancel-{name}"));
            bitcoind_says(&mut rig, txid, &first);
            // Evicted, and refused when it was sent again.
            bitcoind_says(&mut rig, txid, &refusal());
            assert!(!cancelled(&mut rig) && !coin_is_free(&rig), "{name}");
        }
        // Nor while bitcoind has not answered.
        let (mut rig, _) = sent("cancel-under-way");
        assert!(!cancelled(&mut rig));
        // A process died before it heard what bitcoind answered.
        let (mut rig, txid) = sent("cancel-before");
        rig.crash();
        rig.node.chain.never_accepted.insert(txid, 2);
        bitcoind_says(&mut rig, txid, &refusal());
        assert!(!cancelled(&mut rig));
        // An older version wrote nothing of it.
        let (mut rig, txid) = sent("cancel-older");
        bitcoind_says(&mut rig, txid, &refusal());
        rig.db.execute("UPDATE transactions SET untaken = NULL", []).unwrap();
        rig.crash();
        assert!(!cancelled(&mut rig));
    }
}
