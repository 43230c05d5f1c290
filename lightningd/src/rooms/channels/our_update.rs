//! Our `channel_update`, told to the peer of the channel: what it must know to be paid through us,
//! whether the channel is announced or not. BOLT 7, "The `channel_update` Message".

use crate::kernel::turn::Turn;
use crate::rooms::channels::state::State;
use crate::rooms::channels::{Channel, Scope, policy};
use crate::sys::fatal::Stop;
use primitives::*;
use wire::{Bytes, ChannelUpdate, Message};

/// BOLT 7: this bit is always one.
const MUST_BE_ONE: u8 = 1;
/// BOLT 7: not for others, since the channel is not announced.
const DONT_FORWARD: u8 = 2;
/// Of the encoded message: its number and the signature that the rest is signed with.
const SIGNED_FROM: usize = 2 + 64;

/// Tells the peer what this channel wants of payments that come out of it. Without a confirmed
/// funding, or before both are ready, there is nothing to tell.
pub(super) fn tell_peer(node: &Scope, turn: &mut Turn<'_>, channel: &Channel) -> Result<(), Stop> {
    let Some(scid) = channel.scid else { return Ok(()) };
    let ready = channel.ready.local && channel.ready.remote && channel.state == State::Normal;
    if !ready || node.peers.connection(channel.peer).is_none() {
        return Ok(());
    }
    let wants = policy::of(node, channel);
    let narrow = |amount: Msat| u32::try_from(amount.0).unwrap_or(u32::MAX);
    let mut update = ChannelUpdate {
        signature: Signature::from_compact(&[1; 64])
            .expect("one is a number below the curve's order"),
        chain_hash: node.network.chain_hash(),
        // BOLT 7: where the channel is not announced, by the name that the peer gave it.
        short_channel_id: if channel.announce {
            scid
        } else {
            channel.alias_remote.unwrap_or(scid)
        },
        timestamp: u32::try_from(crate::sys::json::now()).unwrap_or(u32::MAX),
        message_flags: MUST_BE_ONE | if channel.announce { 0 } else { DONT_FORWARD },
        channel_flags: u8::from(node.id > channel.peer),
        cltv_expiry_delta: u16::try_from(node.cltv_delta().0).unwrap_or(u16::MAX),
        htlc_minimum: wants.htlc_min,
        fee_base_msat: narrow(wants.fee_base),
        fee_proportional_millionths: wants.fee_ppm,
        htlc_maximum: wants.htlc_max,
    };
    let unsigned = update.encode().get(SIGNED_FROM..).unwrap_or_default().to_vec();
    update.signature = turn.hsm.ask(&wire::hsm::SignChannelUpdate { unsigned: Bytes(unsigned) })?;
    crate::rooms::peers::line::tell(node, turn, channel.peer, &update);
    Ok(())
}
