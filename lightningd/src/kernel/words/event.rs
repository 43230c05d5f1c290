//! What can happen to the master.

use crate::kernel::words::hooks::{HookPoint, Verdict};
use crate::kernel::words::rooms::{AbandonedChannel, ChainEvent, ChannelEvent, HtlcEvent, Purpose};
use crate::sys::children::{ChildId, PluginId, PluginMessage};
use crate::sys::form::{Caller, RpcError, RpcRequest};
use primitives::{BlockHeight, ChannelId, ChannelNumber, HtlcId, NodeId};
use serde_json::Value;
use std::time::Instant;
use subdaemon::Frame;
use wire::connectd::FromConnectd;

/// One thing that is ready to be handled.
#[derive(Debug)]
pub enum Event {
    /// A client asks.
    Rpc(Caller, RpcRequest),
    /// A child said something.
    Child(ChildId, Frame),
    /// connectd said something that can be read.
    Connectd(FromConnectd),
    /// What a peer wanted by this channel id, or by connecting, came to nothing on our side.
    PeerRefused(NodeId, u64, Option<ChannelId>),
    /// A child's upward socket ended, after everything it said was handled.
    ChildGone(ChildId),
    /// A child that has said its last word had its time to end.
    Overdue(ChildId),
    /// A plugin said something.
    Plugin(PluginId, PluginMessage),
    /// A plugin's stdout ended.
    PluginGone(PluginId, String),
    /// A plugin's process was started.
    PluginBorn(PluginId),
    /// A plugin had its time to show its manifest, or to begin.
    PluginDue(PluginId, crate::kernel::words::rooms::Stage),
    /// A call that the chain room made came back.
    Backend(Purpose, Result<Value, RpcError>),
    /// A plugin showed its manifest, or fell, at start.
    PluginsChanged,
    /// Every plugin that was started with the node is at work.
    PluginsReady,
    /// Something about our view of the chain.
    Chain(ChainEvent),
    /// There are new fee estimates.
    FeesChanged,
    /// A block was taken in by every room: it is our tip.
    NewTip(BlockHeight),
    /// A peer connected: its channels want daemons.
    PeerConnected(NodeId, u64),
    /// The daemons of this peer's channels were to come later on this connection: now.
    ServePeer(NodeId, u64),
    /// These channels came to nothing, each for its reason: more of them than one turn may forget.
    ForgetChannels(Vec<AbandonedChannel>),
    /// The rows of this channel of this peer's are gone: hsmd has to hear so.
    ChannelForgotten(ChannelNumber, NodeId),
    /// Something about a channel.
    Channel(ChannelNumber, ChannelEvent),
    /// Something in the room of channels on chain.
    Onchain(ChannelNumber, crate::kernel::words::rooms::OnchainEvent),
    /// Something that the fees of claims and anchor bumps depend on has changed.
    AllocateFees,
    /// A received HTLC is to be decided on.
    Decide(ChannelNumber, HtlcId),
    /// A plugin answered to a hook call; `None`: it ended without an answer.
    HookAnswered(HookPoint, PluginId, Option<Result<Value, RpcError>>),
    /// Every plugin that was asked has decided, or none was to be asked.
    Decided(Verdict),
    /// Something in the HTLC switch.
    Htlc(HtlcEvent),
    /// A part of a payment of ours has waited for its commitment: its caller hears that it is
    /// pending.
    StorePayment(u64),
    /// An RPC that waits has waited long enough.
    RpcTimeout(crate::kernel::words::rooms::WaitId),
    /// A client of the socket hung up.
    RpcGone(crate::sys::form::ConnId),
    /// A peer with channels is to be dialled again.
    Reconnect(primitives::NodeId, Instant),
    /// connectd died, and the pause that ends then is over.
    StartConnectd(Instant),
    /// This connectd listens nowhere: is an address free now?
    ListenAgain(ChildId),
    /// Another connectd is there: tell it to accept.
    ActivateConnectd,
    /// connectd is to be told which peers have funded channels.
    TellFundedPeers,
    /// SIGTERM, or the `stop` command.
    Shutdown(Option<Caller>),
}

/// Who is told when an event is refused.
#[derive(Debug)]
pub enum Blame {
    /// The RPC caller.
    Caller(Caller),
    /// The child: it is killed, since what it asked cannot be answered.
    Child(ChildId),
    /// The peer, on this connection: connectd only passed it on.
    Peer(NodeId, u64, Option<ChannelId>),
    /// Nobody but the log.
    Log(String),
}
impl Event {
    /// Who is told if this is refused.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Rpc(caller, _) | Self::Shutdown(Some(caller)) => Blame::Caller(caller.clone()),
            Self::Child(id, _) => Blame::Child(*id),
            Self::Connectd(FromConnectd::Spoke(s)) => {
                Blame::Peer(s.node, s.connection, Some(s.channel))
            }
            Self::Connectd(FromConnectd::Connected(c)) => Blame::Peer(c.node, c.connection, None),
            // Its daemons did not start: on another connection they may.
            Self::ServePeer(peer, connection) | Self::PeerConnected(peer, connection) => {
                Blame::Peer(*peer, *connection, None)
            }
            Self::ChildGone(_)
            | Self::Overdue(_)
            | Self::Connectd(_)
            | Self::PeerRefused(..)
            | Self::Plugin(..)
            | Self::PluginGone(..)
            | Self::PluginBorn(_)
            | Self::PluginDue(..)
            | Self::Backend(..)
            | Self::PluginsChanged
            | Self::PluginsReady
            | Self::Chain(_)
            | Self::FeesChanged
            | Self::NewTip(_)
            | Self::ForgetChannels(_)
            | Self::ChannelForgotten(..)
            | Self::StorePayment(_)
            | Self::ActivateConnectd
            | Self::Channel(..)
            | Self::Onchain(..)
            | Self::AllocateFees
            | Self::Decide(..)
            | Self::HookAnswered(..)
            | Self::Decided(_)
            | Self::Htlc(_)
            | Self::Reconnect(..)
            | Self::StartConnectd(_)
            | Self::ListenAgain(_)
            | Self::TellFundedPeers
            | Self::RpcTimeout(_)
            | Self::RpcGone(_)
            | Self::Shutdown(None) => Blame::Log(format!("{self:?}").chars().take(200).collect()),
        }
    }
}
