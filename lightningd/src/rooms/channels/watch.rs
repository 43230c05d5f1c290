//! Channels and the chain: fundings that confirm, fundings that are spent, and depths.

use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::{AbandonedChannel, ChannelEvent, HtlcEvent, OnchainEvent};
use crate::rooms::channels::change::{order, set_state, update};
use crate::rooms::channels::forget::forget_all;
use crate::rooms::channels::state::{Cause, State, StateTrust};
use crate::rooms::channels::{Channel, Scope, store};
use crate::sys::fatal::Stop;
use crate::sys::form::{RpcError, code};
use bitcoin::{Block, Transaction, Txid};
use channel::{FORGET_UNFUNDED_BLOCKS, IRREVOCABLE_DEPTH};
use primitives::*;
use std::collections::HashMap;
use wire::Error;
use wire::channel_data::ChannelParams;
use wire::channeld::{Announceable, FundingDeep, HeightChanged};
use wire::daemon::LogLevel;

/// With so many blocks on top a double spend of a funding ends the HTLCs that we offered over it:
/// as many as any other end without a preimage must have. As onchaind has it.
const HOPELESS: u32 = 6;

/// At start: fundings that are not signed, and everything else that follows from the rows.
pub(super) fn resume(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    if channel.opener() == Side::Local
        && channel.funding_height.is_none()
        && channel.funding_tx.is_some()
        && !channel.withheld
    {
        turn.then(Event::Channel(channel.number, ChannelEvent::SignFunding));
    }
    crate::rooms::channels::closing::limit::resume_limit(node, turn, channel);
    match channel.state {
        State::AwaitingUnilateral if channel.trust != StateTrust::Lost => {
            turn.then(Event::Channel(channel.number, ChannelEvent::Broadcast));
        }
        State::AwaitingLockin
        | State::Normal
        | State::ShuttingDown
        | State::ClosingSigExchange
        | State::ClosingComplete
        | State::AwaitingUnilateral
        | State::FundingSpendSeen
        | State::Onchain
        | State::Closed => {}
    }
    let _ = node;
    Ok(())
}

/// A block joined the chain.
pub fn joined(
    node: &Scope,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    let waiting: HashMap<Txid, Vec<&Channel>> =
        node.channels.all.values().filter(|c| c.funding_height.is_none()).fold(
            HashMap::new(),
            |mut map, c| {
                map.entry(c.live.params.funding.txid).or_default().push(c);
                map
            },
        );
    let mut missing = missing_fundings(node, turn)?;
    let mut over = Vec::new();
    for (index, tx) in block.txdata.iter().enumerate() {
        let txid = if waiting.is_empty() { None } else { Some(tx.compute_txid()) };
        for channel in txid.and_then(|t| waiting.get(&t)).into_iter().flatten() {
            over.extend(funding_confirmed(node, turn, channel, tx, height, index)?);
        }
        for input in &tx.input {
            for channel in missing.remove(&input.previous_output).into_iter().flatten() {
                double_spent(node, turn, channel, tx, height)?;
            }
            if let Some(number) = node.channels.by_funding.get(&input.previous_output)
                && let Some(channel) = node.channels.all.get(number)
            {
                crate::rooms::chain::store::confirmed(turn.db, tx, height, index)?;
                spent(node, turn, channel, tx, height)?;
            }
        }
    }
    forget_all(node, turn, over)
}

/// What is spent by fundings whose blocks left the chain. They come again, or something else spends
/// it.
fn missing_fundings<'a>(
    node: &'a Scope,
    turn: &Turn<'_>,
) -> Result<HashMap<OutPoint, Vec<&'a Channel>>, Stop> {
    let mut missing: HashMap<OutPoint, Vec<&Channel>> = HashMap::new();
    // Of one that was never in a block no coins are known, and there may be thousands of them.
    let was_there = |c: &&Channel| c.lacks_funding() && c.spend.is_none() && !c.is_unseen();
    for channel in node.channels.all.values().filter(was_there) {
        let funding = channel.live.params.funding.txid;
        for input in crate::rooms::chain::store::on_its_way(turn.db, funding)?
            .into_iter()
            .flat_map(|t| t.input)
        {
            missing.entry(input.previous_output).or_default().push(channel);
        }
    }
    Ok(missing)
}

/// In which transaction, and block, the funding or its coins went.
fn set_spend(
    turn: &mut Turn<'_>,
    channel: &Channel,
    spend: Option<(Txid, BlockHeight)>,
) -> Result<(), Stop> {
    store::set_spend(turn.db, channel.number, spend)?;
    update(turn, channel.number, move |c| c.spend = spend);
    Ok(())
}

/// The coins of a funding that was in a block, and is in none, went somewhere else: there is no
/// channel any more. Should that block leave the chain too, our commitment is sent with every
/// block, and good for whatever the funding is.
fn double_spent(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    tx: &Transaction,
    height: BlockHeight,
) -> Result<(), Stop> {
    let (txid, funding) = (tx.compute_txid(), channel.live.params.funding.txid);
    if txid == funding {
        return Ok(());
    }
    let text = format!(
        "its funding {funding} was double-spent by {txid} in block {height}: nothing that is in it can be had"
    );
    channel.log(LogLevel::Unusual, &text);
    set_spend(turn, channel, Some((txid, height)))?;
    crate::rooms::peers::line::tell(node, turn, channel.peer, &Error::new(channel.id, &text));
    if let Some(child) = channel.owner.child() {
        turn.say(crate::kernel::words::outgoing::Outgoing::Kill { child, why: text.clone() });
    }
    set_state(channel, turn, State::Onchain, Cause::Onchain, &text)?;
    crate::rooms::channels::closers::refuse_closers(node, turn, channel.number, &text);
    Ok(())
}

/// A channel whose funding was double-spent: what was offered over it comes back to whoever it is
/// from, and the rest is memory.
fn hopeless(
    turn: &mut Turn<'_>,
    channel: &Channel,
    depth: u32,
    lost: &mut Vec<(ChannelNumber, HtlcId)>,
) -> Result<(), Stop> {
    if depth == HOPELESS + 1 {
        let ours = channel.live.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Local);
        lost.extend(ours.map(|live| (channel.number, live.htlc.id)));
    }
    if depth >= IRREVOCABLE_DEPTH {
        turn.also(Event::Onchain(channel.number, OnchainEvent::ChannelForgotten));
        crate::rooms::chain::store::give_up(turn.db, channel.live.params.funding.txid)?;
        close_for_good(channel, turn, "the double spend of its funding is buried")?;
    }
    Ok(())
}

/// After the block was taken in: depths, and what they bring. Returns HTLCs that we offered over
/// channels whose funding was double-spent: they come back to whoever they are from.
pub fn new_tip(
    node: &Scope,
    turn: &mut Turn<'_>,
    height: BlockHeight,
) -> Result<Vec<(ChannelNumber, HtlcId)>, Stop> {
    let mut lost = Vec::new();
    store::onions::forget_expired_onions(turn.db, height)?;
    // In whatever state: a peer that says `shutdown` or an error before its funding is there gains
    // nothing by it.
    let is_over = |c: &&Channel| {
        let waits = c.funding_height.is_none() && c.spend.is_none();
        waits && c.opener() == Side::Remote && (height - c.first_height).0 >= FORGET_UNFUNDED_BLOCKS
    };
    let why = format!("its funding did not confirm within {FORGET_UNFUNDED_BLOCKS} blocks");
    let over =
        node.channels.all.values().filter(is_over).map(|c| AbandonedChannel::new(c, why.clone()));
    forget_all(node, turn, over.collect())?;
    for channel in node.channels.all.values() {
        order(channel, turn, &HeightChanged { height });
        depth_changed(turn, channel, height, &mut lost)?;
        crate::rooms::channels::closing::limit::limit_peer_close(node, turn, channel)?;
        // Only at the tip: a peer has had no chance while we were away.
        if node.chain.caught_up && channel.state.is_open() {
            let delta = node.cltv_delta();
            let live = &channel.live.htlcs.0;
            if let Some(why) = super::deadline::missed(live, &channel.decided, height, delta) {
                super::fail::fail_channel(node, turn, channel, Cause::Protocol, &why)?;
                if channel.trust == StateTrust::Unverified {
                    // It is not failed: the peer is asked to close.
                    crate::rooms::peers::line::tell(
                        node,
                        turn,
                        channel.peer,
                        &Error::new(channel.id, &why),
                    );
                }
            }
        }
    }
    Ok(lost)
}

/// The funding's output is what was agreed on, or there is no channel: it, and why.
/// (CVE-2019-12998.)
fn funding_confirmed(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    tx: &Transaction,
    height: BlockHeight,
    index: usize,
) -> Result<Option<AbandonedChannel>, Stop> {
    let params = &channel.live.params;
    if let Err(why) = funds(params, tx) {
        let text = format!("the funding transaction is not what was agreed: {why}");
        crate::rooms::peers::line::tell(node, turn, channel.peer, &Error::new(channel.id, &text));
        return Ok(Some(AbandonedChannel::new(channel, text)));
    }
    let scid = u32::try_from(index).ok().zip(u16::try_from(params.funding.vout).ok());
    let scid = scid.and_then(|(tx, out)| ShortChannelId::new(height.0, tx, out));
    let scid =
        scid.ok_or_else(|| Stop::refused(format!("no short channel id fits {height}, {index}")))?;
    store::set_funding_height(turn.db, channel.number, Some((height, scid)))?;
    crate::rooms::chain::store::confirmed(turn.db, tx, height, index)?;
    update(turn, channel.number, move |c| {
        c.funding_height = Some(height);
        c.was_in_block = true;
        c.scid = Some(scid);
    });
    channel.log(LogLevel::Info, &format!("funding confirmed in block {height}: {scid}"));
    turn.also(Event::Channel(channel.number, ChannelEvent::FundingSeen));
    Ok(None)
}

/// Is the output that these parameters name what they say?
pub(super) fn funds(params: &ChannelParams, tx: &Transaction) -> Result<(), String> {
    let expected = channel::keys::funding_script(
        &params.basepoints.local.funding,
        &params.basepoints.remote.funding,
    )
    .to_p2wsh();
    match tx.output.get(params.funding.vout as usize) {
        None => Err(format!("it has no output {}", params.funding.vout)),
        Some(o) if o.script_pubkey != expected => Err("its output pays another script".to_owned()),
        Some(o) if o.value.to_sat() != params.amount.0 => {
            Err(format!("its output has {}sat, and {} was agreed", o.value.to_sat(), params.amount))
        }
        Some(_) => Ok(()),
    }
}

fn depth_changed(
    turn: &mut Turn<'_>,
    channel: &Channel,
    tip: BlockHeight,
    lost: &mut Vec<(ChannelNumber, HtlcId)>,
) -> Result<(), Stop> {
    let Some(confirmed) = channel.funding_height else {
        if let Some((_, height)) = channel.spend {
            return hopeless(turn, channel, (tip - height).0 + 1, lost);
        }
        return Ok(());
    };
    let depth = (tip - confirmed).0 + 1;
    if !channel.ready.local && depth >= channel.minimum_depth {
        order(channel, turn, &FundingDeep {});
    }
    if channel.announce
        && depth >= crate::rooms::channels::seed::ANNOUNCE_DEPTH
        && let Some(scid) = channel.scid
    {
        order(channel, turn, &Announceable { short_channel_id: scid });
    }
    // Only a mutual close leaves nothing to resolve: any other is kept for as long as it takes.
    if let Some((txid, height)) = channel.spend
        && (tip - height).0 + 1 >= IRREVOCABLE_DEPTH
        && channel.state == State::Onchain
        && channel.close_tx.as_ref().is_some_and(|c| c.compute_txid() == txid)
    {
        turn.also(Event::Onchain(channel.number, OnchainEvent::ChannelForgotten));
        close_for_good(channel, turn, &format!("its close {txid} is buried"))?;
    }
    Ok(())
}

/// A channel whose end is buried: it is kept in the list of those. No other close of it can ever
/// confirm.
pub fn close_for_good(channel: &Channel, turn: &mut Turn<'_>, why: &str) -> Result<(), Stop> {
    set_state(channel, turn, State::Closed, Cause::Onchain, why)?;
    crate::rooms::chain::store::give_up_spends(turn.db, channel.live.params.funding)?;
    turn.also(Event::Htlc(HtlcEvent::ChannelClosed(channel.number)));
    let (number, funding) = (channel.number, channel.live.params.funding);
    turn.install_as::<Scope, _>(move |channels| {
        channels.by_funding.remove(&funding);
        if let Some(c) = channels.all.remove(&number) {
            channels.closed.insert(number, c);
        }
    });
    Ok(())
}

/// Which channel this transaction ends by a commitment, if this output is a funding that it spends.
/// A mutual close is none.
pub fn ended_by(node: &Scope, spent: &OutPoint, tx: &Transaction) -> Option<ChannelNumber> {
    let number = node.channels.by_funding.get(spent)?;
    let channel = node.channels.all.get(number)?;
    (!is_mutual_close(&channel.shutdown, tx)).then_some(*number)
}

/// Something spent the funding.
fn spent(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    tx: &Transaction,
    height: BlockHeight,
) -> Result<(), Stop> {
    let txid = tx.compute_txid();
    set_spend(turn, channel, Some((txid, height)))?;
    if let Some(child) = channel.owner.child() {
        turn.say(crate::kernel::words::outgoing::Outgoing::Kill {
            child,
            why: "the funding was spent".to_owned(),
        });
    }
    let mutual = is_mutual_close(&channel.shutdown, tx);
    if channel.trust == StateTrust::Unverified && !mutual {
        // Should this block leave the chain: what the peer closed with proves nothing, and ours may
        // be revoked.
        crate::rooms::channels::change::lose_state(channel, turn)?;
    }
    if mutual && channel.close_tx.as_ref().is_none_or(|c| c.compute_txid() != txid) {
        // Another of the closings that were signed, at another fee: that is the one now.
        store::set_close_tx(turn.db, channel.number, tx)?;
        let copy = tx.clone();
        update(turn, channel.number, move |c| c.close_tx = Some(copy));
    }
    let (cause, text) = if mutual {
        (channel.cause, format!("mutual close {txid} confirmed in block {height}"))
    } else {
        (Cause::Onchain, format!("the funding was spent by {txid} in block {height}"))
    };
    set_state(channel, turn, State::FundingSpendSeen, cause, &text)?;
    let reached = Channel { state: State::FundingSpendSeen, ..channel.clone() };
    set_state(&reached, turn, State::Onchain, cause, &text)?;
    if mutual {
        crate::rooms::channels::closers::answer_closers(node, turn, channel.number, "mutual", tx);
        // What was to bump a commitment can never confirm: its UTXOs are free again, once the
        // wallet heard of this block.
        turn.also(Event::Onchain(channel.number, OnchainEvent::GiveUp));
        return Ok(());
    }
    channel.log(LogLevel::Unusual, &text);
    let result = Err(RpcError::new(code::LIGHTNINGD, format!("Channel closed on chain: {text}")));
    crate::kernel::waiting::answer_all(node, turn, |f| *f == For::Close(channel.number), &result);
    Ok(())
}

/// Does this spend of a funding pay nobody but the scripts that both named in `shutdown`? A
/// commitment never looks like it: BOLT 3, "Commitment Transaction": its input's sequence begins
/// with 0x80.
fn is_mutual_close(shutdown: &Sides<Option<ScriptBuf>>, tx: &Transaction) -> bool {
    let (Some(local), Some(remote)) = (&shutdown.local, &shutdown.remote) else { return false };
    let named = |script: &ScriptBuf| script == local || script == remote;
    tx.output.iter().all(|o| named(&o.script_pubkey))
        && tx.input.iter().all(|i| i.sequence.0 >> 24 != 0x80)
}

/// The highest block below this height in which a channel's funding is, or is spent.
pub fn confirmed_below(node: &Scope, height: BlockHeight) -> Option<BlockHeight> {
    let channels = node.channels.all.values();
    let heights = channels.flat_map(|c| [c.funding_height, c.spend.map(|(_, height)| height)]);
    heights.flatten().filter(|h| *h < height).max()
}

/// A block left the chain. `is_case`: is this channel's end being resolved on chain?
pub fn left(
    node: &Scope,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    is_case: impl Fn(ChannelNumber) -> bool,
) -> Result<(), Stop> {
    for channel in node.channels.all.values() {
        if channel.funding_height == Some(height) {
            channel.log(LogLevel::Unusual, &format!("the funding's block {height} left the chain"));
            store::set_funding_height(turn.db, channel.number, None)?;
            // The time to come back in begins anew: it was there, and is not to be forgotten for
            // its age.
            store::set_first_height(turn.db, channel.number, height)?;
            update(turn, channel.number, move |c| {
                c.funding_height = None;
                c.first_height = height;
                c.scid = None;
            });
        }
        if channel.spend.is_some_and(|(_, h)| h == height) {
            set_spend(turn, channel, None)?;
            let back = if channel.close_tx.is_some() {
                State::ClosingComplete
            } else {
                State::AwaitingUnilateral
            };
            set_state(
                channel,
                turn,
                back,
                channel.cause,
                &format!("the close's block {height} left the chain"),
            )?;
            let is_double_spend = channel.lacks_funding() && !is_case(channel.number);
            if is_double_spend && channel.trust != StateTrust::Lost && channel.close_tx.is_none() {
                // The funding may come, and then this is ours to send.
                turn.then(Event::Channel(channel.number, ChannelEvent::Broadcast));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{Amount, OutPoint, Sequence, TxIn, TxOut, Witness};

    fn spend(sequence: u32, scripts: &[&ScriptBuf]) -> Transaction {
        let out =
            |s: &&ScriptBuf| TxOut { value: Amount::from_sat(1000), script_pubkey: (*s).clone() };
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::new(),
                sequence: Sequence(sequence),
                witness: Witness::new(),
            }],
            output: scripts.iter().map(out).collect(),
        }
    }

    #[test]
    fn spend_to_shutdown_scripts_alone_is_a_mutual_close_at_any_fee() {
        let (local, remote) = (ScriptBuf::from(vec![0x51]), ScriptBuf::from(vec![0x52]));
        let other = ScriptBuf::from(vec![0x53]);
        let both = Sides { local: Some(local.clone()), remote: Some(remote.clone()) };
        for (said, scripts, sequence, is) in [
            (&both, &[&local, &remote][..], 0xffff_ffff, true),
            (&both, &[&remote], 0xffff_fffd, true),
            (&both, &[&local, &other], 0xffff_ffff, false),
            (&both, &[&local, &remote], 0x8012_3456, false),
            (&Sides { local: Some(local.clone()), remote: None }, &[&local], 0xffff_ffff, false),
        ] {
            assert_eq!(is_mutual_close(said, &spend(sequence, scripts)), is, "{scripts:?}");
        }
    }
}
