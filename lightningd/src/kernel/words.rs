//! What can happen to the master, and what it can say.

use crate::api::rpc::{Caller, RpcError, RpcRequest};
use crate::kernel::children::{ChildId, ChildSpec};
use crate::kernel::plugins::{PluginId, PluginMessage};
use crate::rooms::chain::{ChainEvent, Purpose};
use crate::rooms::channels::ChannelEvent;
use crate::rooms::htlcs::HtlcEvent;
use primitives::{ChannelId, ChannelNumber, HtlcId, NodeId};
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::time::Instant;
use subdaemon::Frame;
use wire::connectd::FromConnectd;
use wire::daemon::LogLevel;

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
    PluginDue(PluginId, crate::kernel::plugins::Stage),
    /// A call that the chain room made came back.
    Backend(Purpose, Result<Value, RpcError>),
    /// Something in the chain room.
    Chain(ChainEvent),
    /// Something in the channels room.
    Channel(ChannelNumber, ChannelEvent),
    /// Something in the room of channels on chain.
    Onchain(ChannelNumber, crate::rooms::onchain::OnchainEvent),
    /// Something that the fees of claims and anchor bumps depend on has changed.
    AllocateFees,
    /// A received HTLC is to be decided on.
    Decide(ChannelNumber, HtlcId),
    /// Something in the HTLC switch.
    Htlc(HtlcEvent),
    /// An RPC that waits has waited long enough.
    RpcTimeout(crate::kernel::waits::WaitId),
    /// A client of the socket hung up.
    RpcGone(crate::api::rpc::ConnId),
    /// A peer with channels is to be dialled again.
    Reconnect(primitives::NodeId, Instant),
    /// connectd died, and the pause that ends then is over.
    StartConnectd(Instant),
    /// This connectd listens nowhere: is an address free now?
    ListenAgain(ChildId),
    /// connectd is to be told which peers have funded channels.
    TellFriends,
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
            Self::Channel(
                _,
                ChannelEvent::Serve(peer, connection)
                | ChannelEvent::PeerConnected(peer, connection),
            ) => Blame::Peer(*peer, *connection, None),
            Self::ChildGone(_)
            | Self::Overdue(_)
            | Self::Connectd(_)
            | Self::PeerRefused(..)
            | Self::Plugin(..)
            | Self::PluginGone(..)
            | Self::PluginBorn(_)
            | Self::PluginDue(..)
            | Self::Backend(..)
            | Self::Chain(_)
            | Self::Channel(..)
            | Self::Onchain(..)
            | Self::AllocateFees
            | Self::Decide(..)
            | Self::Htlc(_)
            | Self::Reconnect(..)
            | Self::StartConnectd(_)
            | Self::ListenAgain(_)
            | Self::TellFriends
            | Self::RpcTimeout(_)
            | Self::RpcGone(_)
            | Self::Shutdown(None) => Blame::Log(format!("{self:?}").chars().take(200).collect()),
        }
    }
}
impl Blame {
    /// What is said in place of what was taken back.
    pub fn told(self, refusal: RpcError) -> Option<Outgoing> {
        match self {
            Self::Caller(caller) => Some(Outgoing::Reply { caller, result: Err(refusal) }),
            Self::Child(child) => Some(Outgoing::Kill { child, why: refusal.message }),
            Self::Peer(node, connection, channel) => {
                // With what connectd says: captured, it says this of any peer, as often as it likes.
                let text = format!("what the peer wanted is refused: {}", refusal.message);
                crate::flows::children::said(LogLevel::Broken, Some(node), "connectd", &text);
                Some(Outgoing::Then(Event::PeerRefused(node, connection, channel)))
            }
            Self::Log(what) => {
                log::error!("refused: {} ({what})", refusal.message);
                None
            }
        }
    }
}

/// What leaves after a commit.
#[derive(Debug)]
pub enum Outgoing {
    /// To an RPC client.
    Reply { caller: Caller, result: Result<Value, RpcError> },
    /// A notification about a running command, to a client that wants them.
    Notify { caller: Caller, level: &'static str, text: String },
    /// A child is born, with its init.
    Spawn(ChildSpec),
    /// Written to lightningd-revocations: how many of our commitments are revoked, and whether a closing
    /// transaction was stored to be signed (`watermark::while_closing`). Channel 0: the last channel number.
    Revoked { channel: ChannelNumber, count: primitives::CommitmentNumber },
    /// lightningd-revocations needs no record of this channel any more, unless something of it was revoked.
    Forgotten { channel: ChannelNumber },
    /// To hsmd: something that its clients' questions may wait for is stored.
    OrderHsmd(wire::hsm::MasterOrder),
    /// An order to a child. One that is gone does not hear it.
    Order { child: ChildId, body: Vec<u8>, fds: Vec<OwnedFd> },
    /// The answer to a child's ask.
    Answer { child: ChildId, body: Vec<u8> },
    /// A child's end. `ChildGone` follows when everything it said was read.
    Kill { child: ChildId, why: String },
    /// A JSON-RPC request or notification to a plugin.
    ToPlugin { plugin: PluginId, json: String },
    /// A plugin is to be started.
    StartPlugin { path: std::path::PathBuf, starter: Option<Caller> },
    /// A plugin's end.
    KillPlugin { plugin: PluginId, why: String },
    /// Handle this in a turn of its own.
    Then(Event),
    /// Handle this at that time.
    At(Instant, Event),
    /// The RPC socket may be opened: everything is there.
    OpenRpc,
    /// Everything is to end, in order; then this caller hears that it did.
    ShutDown(Option<Caller>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::connectd::Spoke;

    #[test]
    fn what_a_peer_wants_and_cannot_have_is_not_held_against_connectd() {
        let (node, channel) = (NodeId([2; 33]), ChannelId([3; 32]));
        let message = wire::Bytes(vec![0, 32]);
        let spoke = Spoke { node, connection: 7, channel, message };
        let event = Event::Connectd(FromConnectd::Spoke(spoke));
        let told = event.blame().told(RpcError::new(-1, "no socket for openingd"));
        assert!(
            matches!(told, Some(Outgoing::Then(Event::PeerRefused(n, 7, Some(c)))) if (n, c) == (node, channel)),
            "{told:?}"
        );
    }
}
