//! `listpeerchannels`, `listclosedchannels`, and the channels of `listfunds`.

use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::channels::key::Origin;
use crate::rooms::channels::state::{State, StateTrust};
use crate::rooms::channels::view::{channel_type_json, feature_names};
use crate::rooms::channels::{Channel, Owner, policy};
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller};
use crate::sys::json::put;
use primitives::*;
use serde_json::{Value, json};
use wire::channel_data::{Htlc, LiveHtlc, Stage};

const fn side_name(side: Side) -> &'static str {
    match side {
        Side::Local => "local",
        Side::Remote => "remote",
    }
}

/// CLN's word for where an update is: who sent what last.
fn htlc_state(offered_by: Side, (added, removed): (Stage, Option<Stage>)) -> String {
    let (sender_is_us, stage, kind) = match removed {
        None => (offered_by == Side::Local, added, "ADD"),
        Some(removed) => (offered_by == Side::Remote, removed, "REMOVE"),
    };
    let (we, step) = match stage {
        Stage::PendingOnReceiver => (sender_is_us, "HTLC"),
        Stage::InReceivers => (sender_is_us, "COMMIT"),
        Stage::PendingOnSender => (!sender_is_us, "REVOCATION"),
        Stage::InSenders => (!sender_is_us, "ACK_COMMIT"),
        Stage::Irrevocable => (sender_is_us, "ACK_REVOCATION"),
    };
    format!("{}_{kind}_{step}", if we { "SENT" } else { "RCVD" })
}

/// An HTLC whose addition and removal have come so far.
pub fn htlc_json(htlc: &Htlc, state: (Stage, Option<Stage>)) -> Value {
    json!({
        "direction": if htlc.offered_by == Side::Local { "out" } else { "in" },
        "id": htlc.id.0,
        "amount_msat": htlc.amount.0,
        "expiry": htlc.expiry.0,
        "payment_hash": htlc.payment_hash.to_string(),
        "state": htlc_state(htlc.offered_by, state),
    })
}

fn live_json(node: &Node, l: &LiveHtlc) -> Value {
    let mut out = htlc_json(&l.htlc, (l.added, l.removed.as_ref().map(|r| r.stage)));
    let key = (node.config.developer() && l.key != 0).then(|| format!("{:?}", Origin::of(l.key)));
    put(&mut out, "status", key);
    out
}

/// What each side could send now: balance less reserve, less fees if it pays them.
fn sendable(channel: &Channel) -> Sides<Msat> {
    channel::Channel::new(channel.live.clone())
        .map(|c| Sides { local: c.spendable(), remote: c.receivable() })
        .unwrap_or_default()
}

fn direction(node: &Node, channel: &Channel) -> u8 {
    u8::from(node.id > channel.peer)
}

/// Who has it, and what it is called.
fn put_identity(out: &mut Value, node: &Node, channel: &Channel) {
    let p = &channel.live.params;
    let owner = match channel.owner {
        Owner::Nobody => None,
        Owner::Channeld(_) => Some("lightning_channeld"),
        Owner::Closingd(_) => Some("lightning_closingd"),
    };
    put(out, "owner", owner);
    put(out, "short_channel_id", channel.scid.map(|s| s.to_string()));
    put(out, "direction", Some(direction(node, channel)));
    put(out, "channel_id", Some(channel.id.to_string()));
    put(out, "funding_txid", Some(p.funding.txid.to_string()));
    put(out, "funding_outnum", Some(p.funding.vout));
    let close_to = channel.upfront.local.as_ref().or(channel.shutdown.local.as_ref());
    put(
        out,
        "close_to_addr",
        close_to.and_then(|s| crate::rooms::wallet::address(s, node.network)),
    );
    put(out, "close_to", close_to.map(|s| s.to_hex_string()));
    put(out, "private", Some(!channel.announce));
    put(out, "opener", Some(side_name(p.opener)));
    put(out, "closer", channel.closer.map(side_name));
    put(out, "features", Some(feature_names(&p.channel_type)));
}

/// Who put how much in, and what is ours of it.
fn put_funding(out: &mut Value, channel: &Channel) {
    let p = &channel.live.params;
    let pushed = p.push.0;
    let ours = p.opener == Side::Local;
    let whole = p.amount.msat().0;
    let mut funding = json!({
        "local_funds_msat": if ours { whole } else { 0 },
        "remote_funds_msat": if ours { 0 } else { whole },
    });
    put(&mut funding, "pushed_msat", (pushed > 0).then_some(pushed));
    put(&mut funding, "withheld", Some(channel.withheld));
    put(out, "funding", Some(funding));
    put(out, "to_us_msat", Some(channel.live.balance.local.0));
    put(out, "min_to_us_msat", Some(channel.to_us_range.0.0));
    put(out, "max_to_us_msat", Some(channel.to_us_range.1.0));
    put(out, "total_msat", Some(whole));
}

/// Limits of either side, aliases, and what they leave to be sent.
fn put_terms(out: &mut Value, channel: &Channel) {
    let p = &channel.live.params;
    let whole = p.amount.msat().0;
    let (ours, theirs) = (&p.terms.local, &p.terms.remote);
    put(out, "dust_limit_msat", Some(ours.dust_limit.msat().0));
    put(out, "their_max_htlc_value_in_flight_msat", Some(theirs.max_in_flight.0));
    put(out, "our_max_htlc_value_in_flight_msat", Some(ours.max_in_flight.0.min(whole)));
    put(out, "their_reserve_msat", Some(ours.reserve.msat().0));
    put(out, "our_reserve_msat", Some(theirs.reserve.msat().0));
    let sendable = sendable(channel);
    put(out, "spendable_msat", Some(sendable.local.0));
    put(out, "receivable_msat", Some(sendable.remote.0));
    put(out, "minimum_htlc_in_msat", Some(ours.htlc_minimum.0));
    put(out, "their_to_self_delay", Some(ours.to_self_delay));
    put(out, "our_to_self_delay", Some(theirs.to_self_delay));
    put(out, "max_accepted_htlcs", Some(ours.max_accepted_htlcs));
    let mut alias = json!({"local": channel.alias_local.to_string()});
    put(&mut alias, "remote", channel.alias_remote.map(|a| a.to_string()));
    put(out, "alias", Some(alias));
}

fn one(node: &Node, channel: &Channel) -> Value {
    let p = &channel.live.params;
    let connected = node.peers.connection(channel.peer).is_some();
    let mut out = json!({
        "peer_id": channel.peer.to_string(),
        "peer_connected": connected,
        "reestablished": channel.reestablished,
        "state": channel.state.name(),
    });
    put(&mut out, "lost_state", (channel.trust == StateTrust::Lost).then_some(true));
    put(&mut out, "channel_type", Some(channel_type_json(&p.channel_type)));
    put(&mut out, "ignore_fee_limits", Some(policy::ignores_fee_limits(node, channel)));
    if let Some(rate) = channel.live.fees.0.first().map(|f| f.feerate) {
        put(&mut out, "feerate", Some(json!({"perkw": rate.0, "perkb": rate.per_kvb()})));
    }
    put_identity(&mut out, node, channel);
    put_funding(&mut out, channel);
    let policy = policy::of(node, channel);
    policy::put_policy(&mut out, &policy);
    // What the peer wants of us comes with its gossip.
    let local = json!({
        "htlc_minimum_msat": policy.htlc_min.0,
        "htlc_maximum_msat": policy.htlc_max.0,
        "cltv_expiry_delta": node.cltv_delta().0,
        "fee_base_msat": policy.fee_base.0,
        "fee_proportional_millionths": policy.fee_ppm,
    });
    put(&mut out, "updates", Some(json!({"local": local})));
    put_terms(&mut out, channel);
    let changes: Vec<Value> = channel
        .changes
        .iter()
        .map(|c| {
            json!({"timestamp": c.timestamp, "old_state": c.old.name(), "new_state": c.new.name(), "cause": c.cause.name(),
                "message": c.message})
        })
        .collect();
    put(&mut out, "state_changes", Some(changes));
    put(&mut out, "status", Some(status(node, channel)));
    put_totals(&mut out, channel);
    put(&mut out, "last_stable_connection", channel.last_stable);
    let htlcs: Vec<Value> = channel.live.htlcs.0.iter().map(|l| live_json(node, l)).collect();
    put(&mut out, "htlcs", Some(htlcs));
    crate::api::rpc::onchain::put_reason(&mut out, node, channel);
    crate::api::rpc::onchain::put_outputs(&mut out, node, channel);
    out
}

fn put_totals(out: &mut Value, channel: &Channel) {
    let t = &channel.totals;
    for (count_name, msat_name, (count, msat)) in [
        ("in_payments_offered", "in_offered_msat", t.in_offered),
        ("in_payments_fulfilled", "in_fulfilled_msat", t.in_fulfilled),
        ("out_payments_offered", "out_offered_msat", t.out_offered),
        ("out_payments_fulfilled", "out_fulfilled_msat", t.out_fulfilled),
    ] {
        put(out, count_name, Some(count));
        put(out, msat_name, Some(msat.0));
    }
}

/// What a channel is waiting for, for people: one lasting line, one passing line, and the evidence
/// for its end.
fn status(node: &Node, channel: &Channel) -> Vec<String> {
    let mut lines = Vec::new();
    let (lasting, passing) = &channel.status;
    if lasting.is_empty() {
        lines.push(default_status(node, channel));
    } else {
        lines.push(format!("{}:{lasting}", channel.state.name()));
    }
    lines.extend(passing.clone());
    if channel.trust == StateTrust::Unverified {
        lines.push(
            "Nothing of ours is published before the peer has shown where we are: nobody knows whether this database is old."
                .to_owned(),
        );
        let (delta, live) = (node.cltv_delta(), &channel.live.htlcs.0);
        lines.extend(crate::rooms::channels::deadline::missed(
            live,
            &channel.decided,
            node.chain.height(),
            delta,
        ));
    }
    if !channel.state.is_open() && !channel.reason.is_empty() {
        lines.push(format!("{}: {}", channel.cause.name(), channel.reason));
    }
    lines
}

fn default_status(node: &Node, channel: &Channel) -> String {
    let text = match channel.state {
        State::AwaitingLockin => match channel.funding_height {
            None => "Funding has not confirmed yet.".to_owned(),
            Some(h) => {
                let depth = (node.chain.height() - h).0 + 1;
                if depth < channel.minimum_depth {
                    format!(
                        "Funding needs {} more confirmations to be ready.",
                        channel.minimum_depth - depth
                    )
                } else {
                    "Channel ready for us, awaiting the peer's channel_ready.".to_owned()
                }
            }
        },
        State::Normal if !channel.has_min_depth(node.chain.height()) => {
            "Its funding's block left the chain: nothing is accepted or forwarded before it is back."
                .to_owned()
        }
        State::Normal if channel.reestablished => "Channel ready for use.".to_owned(),
        State::Normal => "Will attempt reconnect".to_owned(),
        State::ShuttingDown => "Shutdown: HTLCs end before the closing is negotiated.".to_owned(),
        State::ClosingSigExchange => "Negotiating the closing fee.".to_owned(),
        State::ClosingComplete => {
            "The closing transaction is signed by both, and waits to be in a block.".to_owned()
        }
        State::AwaitingUnilateral if channel.trust == StateTrust::Lost => {
            "Our data is old: awaiting the peer's commitment.".to_owned()
        }
        State::AwaitingUnilateral => "Our commitment waits to be in a block.".to_owned(),
        State::FundingSpendSeen | State::Onchain => "The funding was spent.".to_owned(),
        State::Closed => "Closed and buried.".to_owned(),
    };
    format!("{}:{text}", channel.state.name())
}

/// `listpeerchannels [id] [short_channel_id] [channel_id]`.
pub fn listpeerchannels(
    node: &Node,
    _: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let (peer, scid) = (args.node("id"), args.scid("short_channel_id"));
    let id = args.hash("channel_id").map(ChannelId);
    let wanted = |c: &&Channel| {
        peer.is_none_or(|p| p == c.peer)
            && scid.is_none_or(|s| c.scid == Some(s) || c.alias_local == s)
            && id.is_none_or(|i| i == c.id)
    };
    let mut list: Vec<Value> =
        node.channels.all.values().filter(wanted).map(|c| one(node, c)).collect();
    if scid.is_none() && id.is_none() {
        for o in node.channels.openings.values().filter(|o| peer.is_none_or(|p| p == o.peer)) {
            list.push(json!({
                "peer_id": o.peer.to_string(),
                "peer_connected": true,
                "reestablished": false,
                "state": "OPENINGD",
                "owner": "lightning_openingd",
                "features": [],
                "opener": if matches!(o.attempt, crate::rooms::channels::opening::Attempt::Theirs) { "remote" } else { "local" },
                "total_msat": o.amount.msat().0,
                "status": [format!("OPENINGD:{}", match &o.attempt {
                    crate::rooms::channels::opening::Attempt::Funding { .. } | crate::rooms::channels::opening::Attempt::Start { .. } => "Awaiting accept_channel.",
                    crate::rooms::channels::opening::Attempt::StartAccepted { .. } => "Awaiting fundchannel_complete.",
                    crate::rooms::channels::opening::Attempt::FundingSigned { .. } | crate::rooms::channels::opening::Attempt::Completing { .. } => "Awaiting funding_signed.",
                    crate::rooms::channels::opening::Attempt::Theirs => "The peer opens a channel.",
                })],
            }));
        }
    }
    Ok(Answer::Now(json!({"channels": list})))
}

/// `listclosedchannels [id]`.
pub fn listclosedchannels(
    node: &Node,
    _: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let peer = args.node("id");
    let list: Vec<Value> = node
        .channels
        .closed
        .values()
        .filter(|c| peer.is_none_or(|p| p == c.peer))
        .map(|c| {
            let p = &c.live.params;
            let mut out = json!({
                "peer_id": c.peer.to_string(),
                "channel_id": c.id.to_string(),
            });
            put(&mut out, "short_channel_id", c.scid.map(|s| s.to_string()));
            let mut alias = json!({"local": c.alias_local.to_string()});
            put(&mut alias, "remote", c.alias_remote.map(|a| a.to_string()));
            put(&mut out, "alias", Some(alias));
            put(&mut out, "opener", Some(side_name(p.opener)));
            put(&mut out, "closer", c.closer.map(side_name));
            put(&mut out, "private", Some(!c.announce));
            put(&mut out, "channel_type", Some(channel_type_json(&p.channel_type)));
            put(&mut out, "total_local_commitments", Some(c.live.commitment.local.0 + 1));
            put(&mut out, "total_remote_commitments", Some(c.live.commitment.remote.0 + 1));
            put(&mut out, "total_htlcs_sent", Some(c.live.next_htlc_id.local.0));
            put(&mut out, "funding_txid", Some(p.funding.txid.to_string()));
            put(&mut out, "funding_outnum", Some(p.funding.vout));
            put(&mut out, "leased", Some(false));
            put(&mut out, "funding_withheld", Some(c.withheld));
            put(&mut out, "funding_pushed_msat", (p.push.0 > 0).then_some(p.push.0));
            put(&mut out, "total_msat", Some(p.amount.msat().0));
            put(&mut out, "final_to_us_msat", Some(c.live.balance.local.0));
            put(&mut out, "min_to_us_msat", Some(c.to_us_range.0.0));
            put(&mut out, "max_to_us_msat", Some(c.to_us_range.1.0));
            put(&mut out, "close_cause", Some(c.cause.name()));
            crate::api::rpc::onchain::put_reason(&mut out, node, c);
            put(&mut out, "last_stable_connection", c.last_stable);
            out
        })
        .collect();
    Ok(Answer::Now(json!({"closedchannels": list})))
}

/// The channels of `listfunds`.
pub fn funds(node: &Node) -> Vec<Value> {
    node.channels
        .all
        .values()
        .map(|c| {
            let p = &c.live.params;
            let mut out = json!({
                "peer_id": c.peer.to_string(),
                "connected": node.peers.connection(c.peer).is_some(),
                "state": c.state.name(),
                "channel_id": c.id.to_string(),
            });
            put(&mut out, "short_channel_id", c.scid.map(|s| s.to_string()));
            put(&mut out, "our_amount_msat", Some(c.live.balance.local.0));
            put(&mut out, "amount_msat", Some(p.amount.msat().0));
            put(&mut out, "funding_txid", Some(p.funding.txid.to_string()));
            put(&mut out, "funding_output", Some(p.funding.vout));
            out
        })
        .collect()
}
