//! A channel's channeld is started.

use crate::kernel::births;
use crate::kernel::children::Role;
use crate::kernel::turn::Turn;
use crate::rooms::channels::change::update;
use crate::rooms::channels::seed::{ANNOUNCE_DEPTH, fee_policy, hsm_seed, htlc_policy};
use crate::rooms::channels::{Channel, Owner, PLEASE_CLOSE, Scope};
use crate::sys::fatal::Stop;
use std::os::fd::OwnedFd;
use wire::Message;
use wire::channeld::*;
use wire::hsm::Capability;

/// Gives birth to a channel's channeld on its peer's live connection.
pub fn start(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    birth: Birth,
) -> Result<(), Stop> {
    let Some(connection) = node.peers.connection(channel.peer) else { return Ok(()) };
    let sockets = subdaemon::peer_pair()
        .map_err(|e| Stop::refused(format!("no socket for channeld: {e}")))?;
    let (ours, connectds) = sockets;
    crate::rooms::peers::line::attach(
        node,
        turn,
        channel.peer,
        connection.number,
        channel.id,
        connectds,
    );
    start_with(node, turn, channel, birth, ours)
}

/// The same with the peer socket that openingd handed over.
pub fn start_with(
    node: &Scope,
    turn: &mut Turn<'_>,
    channel: &Channel,
    birth: Birth,
    peer: OwnedFd,
) -> Result<(), Stop> {
    let Some(connection) = node.peers.connection(channel.peer) else { return Ok(()) };
    let rights = [
        Capability::Points,
        Capability::SignRemote,
        Capability::Revoke,
        Capability::Peel,
        Capability::SignGossip,
    ];
    let hsm =
        turn.hsm.new_client(channel.peer, channel.number, &rights, Some(hsm_seed(channel)))?;
    let depth = channel.funding_height.map_or(0, |h| (node.chain.height() - h).0 + 1);
    let number = channel.number;
    let init = ChanneldInit {
        channel: channel.id,
        birth,
        phase: channel.phase(),
        state: channel.live.clone(),
        local_features: node.features.clone(),
        remote_features: connection.features.clone(),
        fees: fee_policy(node, channel),
        policy: htlc_policy(node),
        height: node.chain.height(),
        ready: channel.ready,
        funding_deep: channel.scid.is_some() && depth >= channel.minimum_depth,
        alias: channel.alias_local,
        announce: channel.announce,
        announceable: channel.scid.filter(|_| depth >= ANNOUNCE_DEPTH),
        have_announcement: channel.announcement_remote.is_some(),
        shutdown: channel.shutdown.clone(),
        upfront_script: channel.upfront.clone(),
        failed: channel.asks_peer_to_close().then(|| PLEASE_CLOSE.to_owned()),
    };
    let child = node.supervisor.next_id();
    births::birth(
        node,
        turn,
        (child, Role::Channel(number)),
        Some(channel.peer),
        init.encode(),
        vec![hsm, peer],
    );
    let served = connection.number;
    update(turn, number, move |c| {
        c.owner = Owner::Channeld(child);
        c.served_connection = Some(served);
        c.reestablished = false;
    });
    Ok(())
}
