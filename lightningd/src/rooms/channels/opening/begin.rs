//! How an attempt begins: ours by a proposal, a peer's by its `open_channel`. Each gets an openingd
//! with all it may know.

use super::{Attempt, Opening, Proposed, Told};
use crate::kernel::births;
use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::channels::Scope;
use crate::rooms::channels::budgets::Proposer;
use crate::rooms::channels::numbers;
use crate::rooms::channels::scripts::upfront_script;
use crate::rooms::channels::strangers::{MAX_ATTEMPTS, MAX_UNFUNDED_PER_PEER, SILENCE};
use crate::rooms::peers::Connection;
use crate::sys::fatal::Stop;
use crate::sys::form::RpcError;
use crate::sys::form::code;
use ::channel::RESERVE_PART;
use ::channel::opening::Refusal;
use ::channel::opening::judge::Negotiated;
use channel::MAX_TO_SELF_DELAY;
use primitives::*;
use std::time::Instant;
use wire::channel_data::*;
use wire::connectd::Spoke;
use wire::daemon::LogLevel;
use wire::hsm::Capability;
use wire::openingd::*;
use wire::{Error, Message, OpenChannel};

/// BOLT 2, open_channel: what both must be able to pay on chain is ours to choose; these are CLN's.
const OUR_DUST_LIMIT: Sat = Sat(546);
/// The peer's dust limit is at most this. An HTLC or a balance of ours below it goes to miners with
/// the peer's commitment. All implementations have 354 or 546, the dust of P2PKH; LND takes three
/// times the former, which leaves room for both.
const MAX_DUST_LIMIT: Sat = Sat(3 * 354);

/// What we want of a channel of our own.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// With whom.
    pub peer: NodeId,
    /// How much.
    pub amount: Sat,
    /// Given to the peer at once.
    pub push: Msat,
    /// To be announced?
    pub announce: bool,
    /// Of the commitment.
    pub feerate: FeeratePerKw,
    /// To be paid here on closing.
    pub close_to: Option<ScriptBuf>,
    /// What the peer must keep, if not 1%.
    pub reserve: Option<Sat>,
    /// Bits that the caller insists on.
    pub channel_type: Option<Features>,
    /// Our own depth.
    pub minimum_depth: Option<u32>,
}

fn policy(node: &Scope, amount: Sat, reserve: Option<Sat>) -> OpeningPolicy {
    let htlcs = crate::rooms::channels::seed::htlc_policy(node);
    let (min_feerate, max_feerate) = node.feerate_bounds(false);
    let (min_anchors_feerate, _) = node.feerate_bounds(true);
    let options = &node.config.options;
    // BOLT 2, "recommended": a hundredth, and never below what dust needs.
    let reserve = reserve.unwrap_or(Sat((amount.0 / RESERVE_PART).max(OUR_DUST_LIMIT.0)));
    OpeningPolicy {
        terms: Terms {
            dust_limit: OUR_DUST_LIMIT,
            max_in_flight: Msat(u64::MAX),
            reserve,
            htlc_minimum: options.htlc_minimum_msat,
            to_self_delay: options.watchtime_blocks,
            max_accepted_htlcs: htlcs.max_offered,
        },
        minimum_depth: options.funding_confirms,
        min_feerate,
        min_anchors_feerate,
        max_feerate,
        max_to_self_delay: MAX_TO_SELF_DELAY,
        min_capacity: options.min_capacity_sat,
        max_dust_limit: MAX_DUST_LIMIT,
        max_dust_exposure: htlcs.max_dust_exposure,
        large_channels: true,
    }
}

/// The channel type to propose: anchors where the peer has them.
fn channel_type(
    node: &Scope,
    remote: &Features,
    wanted: Option<&Features>,
) -> Result<Features, RpcError> {
    if let Some(wanted) = wanted {
        let missing = wanted.bits().find(|b| !remote.offers(*b) || !node.features.offers(*b));
        return match missing {
            None => Ok(wanted.clone()),
            Some(bit) => {
                let text = format!("channel_type: bit {bit} is not offered by both sides");
                Err(RpcError::new(code::FUNDING_STATE_INVALID, text))
            }
        };
    }
    let mut bits = vec![feature::STATIC_REMOTEKEY];
    if remote.offers(feature::ANCHORS) {
        bits.push(feature::ANCHORS);
    }
    Ok(Features::compulsory(&bits))
}

/// Gives birth to an openingd for a channel of ours.
pub fn propose(
    node: &Scope,
    turn: &mut Turn<'_>,
    p: Proposal,
    attempt: Attempt,
) -> Result<(), Stop> {
    let connection = node
        .peers
        .connection(p.peer)
        .ok_or_else(|| RpcError::new(code::FUNDING_PEER_NOT_CONNECTED, "Peer not connected"))?;
    if node.channels.openings.values().any(|o| o.peer == p.peer) {
        return Err(
            RpcError::new(code::LIGHTNINGD, "Already funding channel with this peer").into()
        );
    }
    let temporary = ChannelId(subdaemon::random());
    let mut policy = policy(node, p.amount, p.reserve);
    if let Some(depth) = p.minimum_depth {
        policy.minimum_depth = depth;
    }
    let channel_type = channel_type(node, &connection.features, p.channel_type.as_ref())?;
    let upfront = upfront_script(connection, p.close_to.as_ref());
    let told = Told {
        policy,
        features: Sides { local: node.features.clone(), remote: connection.features.clone() },
        proposed: Some(Proposed {
            feerate: p.feerate,
            announce: p.announce,
            channel_type: channel_type.clone(),
        }),
    };
    let init = OpenInit {
        network: node.network,
        local_features: node.features.clone(),
        remote_features: connection.features.clone(),
        temporary_id: temporary,
        policy: told.policy.clone(),
        amount: p.amount,
        push: p.push,
        feerate: p.feerate,
        announce: p.announce,
        channel_type,
        upfront_script: upfront.clone(),
    };
    let whom = (p.peer, connection.number);
    let amounts = (p.amount, p.push);
    begin(node, turn, whom, temporary, amounts, attempt, upfront, told, &init.encode())
}

#[allow(clippy::too_many_arguments)] // one call for each of the two ways to begin
fn begin(
    node: &Scope,
    turn: &mut Turn<'_>,
    (peer, connection): (NodeId, u64),
    temporary: ChannelId,
    (amount, push): (Sat, Msat),
    attempt: Attempt,
    close_to: Option<ScriptBuf>,
    told: Told,
    init: &[u8],
) -> Result<(), Stop> {
    let number = numbers::draw(node, turn)?;
    if !matches!(attempt, Attempt::Theirs) {
        // Its row will never be without: a crash may leave a channel of ours with its funding sent,
        // and a peer that never comes.
        turn.say(Outgoing::Revoked { channel: number, count: CommitmentNumber(0) });
    }
    let rights = [Capability::Points, Capability::SignRemote, Capability::Revoke];
    let hsm = turn.hsm.new_client(peer, number, &rights, None)?;
    let (ours, connectds) = subdaemon::peer_pair()
        .map_err(|e| Stop::refused(format!("no socket for openingd: {e}")))?;
    crate::rooms::peers::line::attach(node, turn, peer, connection, temporary, connectds);
    let minimum_depth = match &attempt {
        Attempt::Theirs => node.config.options.funding_confirms,
        Attempt::Funding { .. }
        | Attempt::FundingSigned { .. }
        | Attempt::Start { .. }
        | Attempt::StartAccepted { .. }
        | Attempt::Completing { .. } => 0,
    };
    let child = node.supervisor.next_id();
    births::birth(
        node,
        turn,
        (child, Role::Opening(number)),
        Some(peer),
        init.to_vec(),
        vec![hsm, ours],
    );
    let opening = Opening {
        number,
        peer,
        temporary,
        child,
        amount,
        push,
        attempt,
        close_to,
        minimum_depth,
        told,
    };
    turn.install(node, move |channels| _ = channels.openings.insert(number, opening));
    Ok(())
}

/// A peer sent `open_channel`. Nothing is born or written for one that is refused.
pub fn proposed(node: &Scope, turn: &mut Turn<'_>, s: &Spoke) -> Result<(), Stop> {
    let Some(connection) = node.peers.connection(s.node).filter(|c| c.number == s.connection)
    else {
        crate::rooms::peers::line::refuse(node, turn, s.node, s.connection, s.channel);
        return Ok(());
    };
    let now = Instant::now();
    let features = Sides { local: node.features.clone(), remote: connection.features.clone() };
    // The reserve follows from the amount that the peer names: a hundredth is taken.
    let told = Told { policy: policy(node, Sat::ZERO, None), features, proposed: None };
    if let Err(why) = acceptable(node, s, connection, &told, now) {
        refuse(node, turn, s, &why, now);
        return Ok(());
    }
    let who = proposer(node, s.node, connection);
    if who.is_stranger {
        evict_oldest(node, turn)?;
    }
    turn.install(node, move |channels| channels.budgets.proposes(who, now));
    let init = AcceptInit {
        network: node.network,
        local_features: told.features.local.clone(),
        remote_features: told.features.remote.clone(),
        temporary_id: s.channel,
        policy: told.policy.clone(),
        upfront_script: None,
    };
    let whom = (s.node, s.connection);
    let amounts = (Sat::ZERO, Msat::ZERO);
    begin(node, turn, whom, s.channel, amounts, Attempt::Theirs, None, told, &init.encode())
}

fn proposer(node: &Scope, peer: NodeId, connection: &Connection) -> Proposer {
    let source = connection.address.host.parse().ok().map(Source::of);
    Proposer { peer, source, is_stranger: node.channels.is_stranger(peer) }
}

/// Is this proposal worth an openingd now? `Err`: what the peer
/// hears, [`MAX_TEXT`](::channel::opening::MAX_TEXT) at most. What costs least is asked first.
fn acceptable(
    node: &Scope,
    s: &Spoke,
    connection: &Connection,
    told: &Told,
    now: Instant,
) -> Result<(), String> {
    let channels = &node.channels;
    let who = proposer(node, s.node, connection);
    // Under the same id it is another try at what was refused: that openingd has left, though we
    // may not have heard so yet.
    let rival = |o: &Opening| o.is_theirs() && o.peer == s.node && o.temporary != s.channel;
    let refusal = if !node.trusts_tip() {
        "not in sync with the chain yet, try again later"
    } else if channels.openings.values().any(rival) {
        "one channel at a time, please"
    } else if let Some(refusal) = has_too_many(node, s.node, now) {
        refusal
    } else if !channels.budgets.may_propose(who, now) {
        "too many channels are proposed at the moment, try again later"
    } else {
        let open = judge(node, s, told).map_err(|refusal| refusal.to_string())?;
        let is_extra = open.push_msat > Msat(0) && who.is_stranger;
        if !is_extra || channels.has_room_for_push() {
            return Ok(());
        }
        "too many channels with push_msat wait for their funding, try again later"
    };
    Err(refusal.to_owned())
}

/// Do as many channels of this peer wait for their funding as may, and is none of them forgotten by
/// it?
fn has_too_many(node: &Scope, peer: NodeId, now: Instant) -> Option<&'static str> {
    let connection = node.peers.connection(peer)?;
    let forgotten_at = |at| node.channels.forgotten_by(peer, connection, at).is_some();
    if node.channels.unseen_with(peer) < MAX_UNFUNDED_PER_PEER || forgotten_at(now) {
        None
    } else if forgotten_at(now + SILENCE) {
        Some("your channels that wait for their funding may be reestablished yet, try again later")
    } else {
        Some("too many of your channels wait for their funding")
    }
}

/// What openingd would say of the proposal.
fn judge(node: &Scope, s: &Spoke, told: &Told) -> Result<OpenChannel, Refusal> {
    let body = s.message.0.get(2..).unwrap_or_default();
    let open = OpenChannel::take_body(body).map_err(Refusal::Malformed)?;
    let ground = Negotiated {
        network: node.network,
        features: told.features.clone(),
        policy: told.policy.clone(),
        temporary_id: s.channel,
    };
    ground.judge_proposal(&open)?;
    Ok(open)
}

/// The peer hears why, unless it heard so much already.
fn refuse(node: &Scope, turn: &mut Turn<'_>, s: &Spoke, why: &str, now: Instant) {
    crate::rooms::peers::line::refuse(node, turn, s.node, s.connection, s.channel);
    let peer = s.node;
    if node.channels.budgets.may_hear(peer, now) {
        crate::sys::log::line(LogLevel::Unusual, Some(peer), "opening", &format!("refused: {why}"));
        crate::rooms::peers::line::tell(node, turn, peer, &Error::new(s.channel, why));
        turn.install(node, move |channels| channels.budgets.hears(peer, now));
    }
}

/// Where as many strangers' attempts are under way as may be, the oldest gives way. It has not
/// brought a channel yet: nothing of it is stored, and the peer has no signature of ours, since
/// `funding_signed` is channeld's to send.
fn evict_oldest(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    let of_stranger = |o: &&Opening| o.is_theirs() && node.channels.is_stranger(o.peer);
    let mut waiting = node.channels.openings.values().filter(of_stranger);
    let oldest = waiting.next();
    match oldest.filter(|_| waiting.count() + 1 >= MAX_ATTEMPTS) {
        Some(oldest) => crate::rooms::channels::opening::heard::evict(
            node,
            turn,
            oldest,
            "this opening took too long, try again",
        ),
        None => Ok(()),
    }
}
