//! The incoming HTLC of a forward.

use crate::rooms::channels::Channel;
use crate::rooms::htlcs::{Forward, Scope};
use primitives::*;
use wire::channel_data::LiveHtlc;
use wire::channeld::Peeled;

/// The received HTLC of a forward, while its channel remembers it.
pub(super) struct Received<'a> {
    pub channel: &'a Channel,
    pub live: &'a LiveHtlc,
    pub peeled: Option<&'a Peeled>,
}

/// Where a forward came from.
pub(super) fn incoming<'a>(node: &'a Scope, forward: &Forward) -> Option<Received<'a>> {
    let channel = node.channels.all.get(&forward.incoming)?;
    let live = channel.htlc(Side::Remote, forward.in_id)?;
    let peeled = channel.peeled.get(&forward.in_id).map(|p| &p.peeled);
    Some(Received { channel, live, peeled })
}
