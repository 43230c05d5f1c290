//! `listforwards`, `delforward`, `listhtlcs`.

use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::channels;
use crate::rooms::channels::Channel;
use crate::rooms::htlcs::store::{Filter, Listed, Status};
use crate::rooms::htlcs::{Via, store};
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError};
use crate::sys::json::put;
use onion::Failure;
use primitives::*;
use serde_json::{Value, json};

/// CLN's: there is no such forward.
const NO_SUCH_FORWARD: i64 = 1401;

fn status(args: &Args, active: bool) -> Result<Option<Status>, RpcError> {
    let Some(text) = args.text("status") else { return Ok(None) };
    let found = Status::ALL.into_iter().find(|s| s.name() == text);
    if let Some(status) = found.filter(|s| active || *s != Status::Offered) {
        return Ok(Some(status));
    }
    let words = if active { "'offered', 'settled'" } else { "'settled'" };
    Err(RpcError::params(format!(
        "status: should be {words}, 'local_failed' or 'failed': invalid token (see logs for details)"
    )))
}

/// Seconds, with the milliseconds behind the point.
fn seconds(ms: u64) -> Value {
    json!(ms as f64 / 1000.0)
}

/// `listforwards [status] [in_channel] [out_channel] [index] [start] [limit]`.
pub fn listforwards(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let page = Page::parse(args)?;
    let filter = Filter {
        status: status(args, true)?,
        in_scid: args.scid("in_channel"),
        out_scid: args.scid("out_channel"),
        by_updated: page.by_updated,
        start: page.start,
        limit: page.limit,
    };
    let list: Vec<Value> =
        store::list(turn.db, &filter)?.iter().map(|f| to_json(node, f)).collect();
    Ok(Answer::Now(json!({"forwards": list})))
}

fn to_json(node: &Node, f: &Listed) -> Value {
    let mut out = json!({
        "created_index": f.created_index,
        "in_channel": f.in_scid.to_string(),
        "in_htlc_id": f.in_id,
    });
    put(&mut out, "updated_index", f.updated_index);
    // While it is under way its outgoing HTLC is known to memory and to that HTLC's row.
    let live = node.htlcs.forward(f.created_index);
    let out_id = f.out_id.or_else(|| match live.map(|l| l.via) {
        Some(Via::Bound(_, id)) => Some(id.0),
        Some(Via::Offered(_) | Via::Nowhere) | None => None,
    });
    put(&mut out, "out_channel", Some(live.map_or(f.out_scid, |l| l.out_scid).to_string()));
    put(&mut out, "out_htlc_id", out_id);
    put(&mut out, "in_msat", Some(f.in_amount));
    put(&mut out, "out_msat", f.out_amount);
    put(&mut out, "fee_msat", f.out_amount.map(|o| f.in_amount.saturating_sub(o)));
    put(&mut out, "status", Some(f.status.name()));
    put(&mut out, "style", Some("tlv"));
    put(&mut out, "failcode", f.failcode);
    put(&mut out, "failreason", f.failcode.map(|c| Failure::name_of(c).to_string()));
    put(&mut out, "received_time", Some(seconds(f.received_ms)));
    // As CLN has it: what failed here was resolved when it was received.
    let resolved = matches!(f.status, Status::Settled | Status::Failed);
    put(&mut out, "resolved_time", f.resolved_ms.filter(|_| resolved).map(seconds));
    out
}

/// `delforward in_channel in_htlc_id status`.
pub fn delforward(_: &Node, turn: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let missing = |name: &str| RpcError::params(format!("missing required parameter: {name}"));
    let in_scid = args.scid("in_channel").ok_or_else(|| missing("in_channel"))?;
    let in_id = args.number("in_htlc_id").ok_or_else(|| missing("in_htlc_id"))?;
    let status = status(args, false)?.ok_or_else(|| missing("status"))?;
    if !store::remove(turn.db, in_scid, in_id, status)? {
        return Err(RpcError::new(NO_SUCH_FORWARD, "Could not find that forward").into());
    }
    Ok(Answer::Now(json!({})))
}

/// `listhtlcs [id] [index] [start] [limit]`.
pub fn listhtlcs(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let page = Page::parse(args)?;
    if page.by_updated {
        // A row of an HTLC moves a dozen times in its life, and keeps no number of that.
        return Err(RpcError::params("index: only 'created' is kept for HTLCs").into());
    }
    let all = || node.channels.all.values().chain(node.channels.closed.values());
    let of = match args.text("id") {
        None => None,
        Some(text) => {
            let (scid, id) = (text.parse::<ShortChannelId>().ok(), text.parse::<ChannelId>().ok());
            if scid.is_none() && id.is_none() {
                return Err(RpcError::params(
                    "id: should be a channel ID or short channel ID: invalid token (see logs for details)",
                )
                .into());
            }
            let is_it = |c: &&Channel| {
                id == Some(c.id) || scid.is_some_and(|s| c.scid == Some(s) || c.alias_local == s)
            };
            let found = all().find(is_it);
            let found =
                found.ok_or_else(|| RpcError::params(format!("id: no channel {text} is known")))?;
            Some(found.number)
        }
    };
    let list: Vec<Value> = channels::store::list::list_htlcs(turn.db, of, page.start, page.limit)?
        .iter()
        .map(|h| {
            let channel =
                node.channels.all.get(&h.channel).or(node.channels.closed.get(&h.channel));
            let mut out = crate::api::rpc::channels::htlc_json(&h.htlc, h.state);
            put(&mut out, "created_index", Some(h.created_index));
            put(&mut out, "short_channel_id", channel.map(|c| c.name().to_string()));
            out
        })
        .collect();
    Ok(Answer::Now(json!({"htlcs": list})))
}

/// `index`, `start`, `limit`, for lists that the database pages.
struct Page {
    by_updated: bool,
    start: u64,
    limit: Option<u32>,
}

impl Page {
    fn parse(args: &Args) -> Result<Self, RpcError> {
        let by_updated = match args.text("index").as_deref() {
            None | Some("created") => false,
            Some("updated") => true,
            Some(_) => {
                return Err(RpcError::params(
                    "index: should be 'created' or 'updated': invalid token (see logs for details)",
                ));
            }
        };
        let limit = args.number32("limit")?;
        if args.raw("index").is_none() && (args.raw("start").is_some() || limit.is_some()) {
            return Err(RpcError::params("Can only specify {start} or {limit} with {index}"));
        }
        Ok(Self { by_updated, start: args.number("start").unwrap_or(0), limit })
    }
}
