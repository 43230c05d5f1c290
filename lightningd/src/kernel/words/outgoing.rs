//! What leaves the master after a commit.

use crate::kernel::words::event::{Blame, Event};
use crate::kernel::words::news::News;
use crate::sys::children::{ChildId, ChildSpec, PluginId};
use crate::sys::form::{Caller, RpcError};
use primitives::ChannelNumber;
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::time::Instant;
use wire::daemon::LogLevel;

/// Calls of the backend that come by the clock, and say nothing about a channel.
const BY_THE_CLOCK: [&str; 3] = ["\"getchaininfo\"", "\"estimatefees\"", "\"mempoolspends\""];

/// What leaves after a commit.
#[derive(Debug)]
pub enum Outgoing {
    /// To an RPC client.
    Reply { caller: Caller, result: Result<Value, RpcError> },
    /// A notification about a running command, to a client that wants them.
    Notify { caller: Caller, level: &'static str, text: String },
    /// A fact, to the plugins that subscribed to its topic.
    News(News),
    /// A child is born, with its init.
    Spawn(ChildSpec),
    /// Written to lightningd-revocations: how many of our commitments are revoked, and whether a
    /// closing transaction was stored to be signed (`revocation_log::while_closing`).
    Revoked { channel: ChannelNumber, count: primitives::CommitmentNumber },
    /// Written to lightningd-revocations: channels may have got numbers up to this one.
    Reserved { last: ChannelNumber },
    /// lightningd-revocations needs no record of this channel any more, unless something of it was
    /// revoked.
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

impl Outgoing {
    /// Is there a barrier before and after this is said? Clients of the socket are the test itself,
    /// and the clock has no order.
    pub fn has_barriers(&self) -> bool {
        match self {
            Self::Spawn(_)
            | Outgoing::Revoked { .. }
            | Outgoing::Reserved { .. }
            | Outgoing::OrderHsmd(_)
            | Outgoing::Order { .. }
            | Outgoing::Answer { .. }
            | Outgoing::Kill { .. } => true,
            Outgoing::ToPlugin { json, .. } => !BY_THE_CLOCK.iter().any(|m| json.contains(m)),
            Outgoing::Reply { .. }
            | Outgoing::Notify { .. }
            | Outgoing::News(_)
            | Outgoing::StartPlugin { .. }
            | Outgoing::KillPlugin { .. }
            | Outgoing::Forgotten { .. }
            | Outgoing::Then(_)
            | Outgoing::At(..)
            | Outgoing::OpenRpc
            | Outgoing::ShutDown(_) => false,
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
                // With what connectd says: captured, it says this of any peer, as often as it
                // likes.
                let text = format!("what the peer wanted is refused: {}", refusal.message);
                crate::sys::log::said(LogLevel::Broken, Some(node), "connectd", &text);
                Some(Outgoing::Then(Event::PeerRefused(node, connection, channel)))
            }
            Self::Log(what) => {
                log::error!("refused: {} ({what})", refusal.message);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::{ChannelId, NodeId};
    use wire::connectd::{FromConnectd, Spoke};

    #[test]
    fn connectd_is_not_blamed_for_a_refused_wish_of_its_peer() {
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
