//! What an onchaind reports, held against the rows: it reads what strangers put on the chain, and
//! is not believed where a lie could reach beyond its channel.

use super::{Case, Seen, allocate_fees, claims, store};
use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::HtlcEvent;
use crate::rooms::channels::Channel;
use crate::rooms::onchain::Scope;
use crate::rooms::{channels, htlcs};
use crate::sys::children::ChildId;
use crate::sys::fatal::Stop;
use primitives::*;
use serde_json::json;
use std::collections::BTreeSet;
use subdaemon::Frame;
use wire::daemon::LogLevel;
use wire::onchaind::*;

/// Entries of each list in a resolution. BOLT 2 lets a commitment have 966 HTLCs, each of which has
/// an output and one of its second stage.
const MAX_LISTED: usize = 4_000;

/// onchaind said something.
pub fn heard(
    node: &Scope,
    turn: &mut Turn<'_>,
    child: ChildId,
    number: ChannelNumber,
    frame: &Frame,
) -> Result<(), Stop> {
    let (Some(case), Some(channel)) =
        (node.onchain.cases.get(&number), node.channels.all.get(&number))
    else {
        return Ok(());
    };
    if case.child != Some(child) {
        return Ok(());
    }
    let said = FromOnchaind::decode_known(&frame.body)
        .map_err(|e| Stop::refused(format!("onchaind sent what it should not: {e}")))?;
    match said {
        FromOnchaind::Log(line) => {
            crate::kernel::children::log_line(Role::Onchain(number), Some(channel.peer), &line);
        }
        FromOnchaind::Status(s) => channels::change::update(turn, number, move |c| {
            crate::rooms::channels::seed::set_status(c, s)
        }),
        FromOnchaind::Failed(f) => {
            channel.log_said(LogLevel::Broken, &format!("onchaind failed: {}", f.text));
        }
        FromOnchaind::Resolved(r) => resolved(node, turn, channel, case, r.resolution)?,
        FromOnchaind::OnchainHeeded(heeded) => {
            // Of a block that left the chain meanwhile nothing is believed.
            let height = node.chain.height();
            if heeded.tip <= height && case.heeded.is_none_or(|before| before < heeded.tip) {
                turn.install(node, move |onchain| {
                    if let Some(case) = onchain.cases.get_mut(&number) {
                        case.heeded = Some(heeded.tip);
                    }
                });
                if heeded.tip == height {
                    // HTLCs may have waited for this.
                    turn.also(Event::Htlc(HtlcEvent::CheckExpiring));
                }
            }
        }
    }
    Ok(())
}

/// What the chain means has changed. Whatever is new of it is stored before anything is said.
fn resolved(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    case: &Case,
    now: Resolution,
) -> Result<(), Stop> {
    let number = channel.number;
    check(channel, case, &now)?;
    let before = case.resolution.as_ref();
    for (id, preimage) in &now.learned.0 {
        if before.is_none_or(|b| !b.learned.0.contains(&(*id, *preimage))) {
            htlcs::resolve::learned_preimage(node, turn, number, *id, *preimage)?;
        }
    }
    for id in &now.failed.0 {
        if before.is_none_or(|b| !b.failed.0.contains(id)) {
            htlcs::resolve::failed_on_chain(node, turn, number, *id)?;
        }
    }
    if before.is_none_or(|b| b.close != now.close) {
        found_out(turn, channel, case, &now.close)?;
        if node.chain.caught_up && has_our_htlcs(&now.close) {
            htlcs::decide::decide_received(turn, channel);
        }
    }
    turn.install(node, move |onchain| {
        if let Some(case) = onchain.cases.get_mut(&number) {
            case.resolution = Some(now);
            case.resolutions_due = case.resolutions_due.saturating_sub(1);
        }
    });
    if node.chain.caught_up {
        allocate_fees(turn);
    }
    Ok(())
}

/// Can an honest onchaind have said this? `Err` says what it cannot have.
fn check(channel: &Channel, case: &Case, now: &Resolution) -> Result<(), Stop> {
    let refuse = |why: String| Err(Stop::refused(format!("onchaind {why}")));
    if case.resolutions_due == 0 {
        return refuse("says more than one thing about one order".to_owned());
    }
    let lists = [now.claims.0.len(), now.outputs.0.len(), now.learned.0.len()];
    let lists = lists.into_iter().chain([now.failed.0.len(), now.overdue.0.len()]);
    if lists.max().is_some_and(|most| most > MAX_LISTED) {
        return refuse(format!("lists more than {MAX_LISTED} entries"));
    }
    let mut listed = BTreeSet::new();
    if let Some(twice) = now.outputs.0.iter().find(|o| !listed.insert(o.outpoint)) {
        return refuse(format!("lists {} twice", twice.outpoint));
    }
    let mut claimed = BTreeSet::new();
    for claim in &now.claims.0 {
        if !claimed.insert(claim.outpoint) {
            return refuse(format!("claims {} twice", claim.outpoint));
        }
        claims::may_be_of(channel, case, claim)?;
    }
    for (id, preimage) in &now.learned.0 {
        match channel.htlc(Side::Local, *id) {
            Some(live) if live.htlc.payment_hash == preimage.hash() => {}
            Some(_) => return refuse(format!("learned a preimage that does not open HTLC {id}")),
            None => return refuse(format!("learned a preimage of HTLC {id}, which is not there")),
        }
    }
    let strange = |id: &&HtlcId| channel.htlc(Side::Local, **id).is_none();
    if let Some(id) = now.failed.0.iter().chain(&now.overdue.0).find(strange) {
        return refuse(format!("failed HTLC {id}, which is not there"));
    }
    match now.settled {
        Some(height) if height < case.spend.height => {
            refuse(format!("settled the close in block {height}, before it was there"))
        }
        Some(_) => check_ended(channel, now),
        None => Ok(()),
    }
}

/// Has every HTLC of ours an end? Once the channel is forgotten nobody looks for one any more.
fn check_ended(channel: &Channel, now: &Resolution) -> Result<(), Stop> {
    let learned = now.learned.0.iter().map(|(id, _)| id);
    let ended: BTreeSet<HtlcId> = learned.chain(&now.failed.0).copied().collect();
    let mut ours = channel.live.htlcs.0.iter().filter(|l| l.htlc.offered_by == Side::Local);
    match ours.find(|l| !ended.contains(&l.htlc.id)) {
        Some(open) => Err(Stop::refused(format!(
            "onchaind settled the close while HTLC {} has no end",
            open.htlc.id
        ))),
        None => Ok(()),
    }
}

/// Claims of transactions that were in no block when they were made could not be compared with
/// anything. `seen` is in one now: is any of those claims another than it said?
pub(super) fn is_belied_by(channel: &Channel, case: &Case, seen: &[Seen]) -> bool {
    let claims = case.resolution.iter().flat_map(|r| &r.claims.0);
    let here: BTreeSet<Txid> = seen.iter().map(|s| s.txid).collect();
    let mut coming = claims.filter(|c| here.contains(&c.outpoint.txid)).peekable();
    if coming.peek().is_none() {
        return false;
    }
    let now = Case { later: seen.to_vec(), ..Case::new(case.spend.clone()) };
    coming.any(|claim| claims::may_be_of(channel, &now, claim).is_err())
}

/// Is it a commitment that our rows know, with the HTLCs that are in them?
pub(super) const fn has_our_htlcs(close: &CloseKind) -> bool {
    match close {
        CloseKind::Ours {} | CloseKind::Theirs { .. } => true,
        CloseKind::Revoked { .. } | CloseKind::Unknown { .. } => false,
    }
}

/// Whose commitment it was: logged, and kept as evidence.
fn found_out(
    turn: &mut Turn<'_>,
    channel: &Channel,
    case: &Case,
    close: &CloseKind,
) -> Result<(), Stop> {
    let (word, number, level) = match close {
        CloseKind::Ours {} => ("local_unilateral", channel.live.commitment.local, LogLevel::Info),
        CloseKind::Theirs { number } => ("remote_unilateral", *number, LogLevel::Info),
        CloseKind::Revoked { number } => ("remote_revoked", *number, LogLevel::Unusual),
        CloseKind::Unknown { number } => ("unknown_unilateral", *number, LogLevel::Broken),
    };
    let text = match close {
        CloseKind::Ours {} => "our own commitment",
        CloseKind::Theirs { .. } => "the peer's commitment",
        CloseKind::Revoked { .. } => "a revoked commitment of the peer's: everything in it is ours",
        CloseKind::Unknown { .. } => {
            "a commitment that we do not know: our data is older than the channel. What pays our keys is taken"
        }
    };
    let Seen { txid, height, .. } = case.spend;
    channel.log(level, &format!("{txid} in block {height} is {text} (number {number})"));
    let evidence = json!({
        "close": word,
        "commitment_number": number.0,
        "txid": txid.to_string(),
        "blockheight": height.0,
    });
    if matches!(close, CloseKind::Unknown { .. }) {
        // Should its block leave the chain, ours may be revoked.
        channels::change::lose_state(channel, turn)?;
    }
    store::set_evidence(turn.db, channel.number, &evidence)?;
    let key = channel.number;
    turn.install_as::<Scope, _>(move |onchain| drop(onchain.evidence.insert(key, evidence)));
    Ok(())
}
