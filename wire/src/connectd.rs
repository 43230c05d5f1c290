//! Between the master and connectd, and between connectd and the per-peer daemons' sockets.

use crate::Bytes;
use crate::daemon::{Failed, Log, Status};
use primitives::*;

crate::data! {
    /// Which side dialled.
    pub tag Direction {
        /// The peer.
        0 => In,
        /// We.
        1 => Out,
    }

    /// Where a node is reached. As text so that CLN's forms stay what they are; connectd parses and
    /// resolves.
    pub struct Address {
        /// An IPv4 or IPv6 address, or a hostname.
        host: String,
        /// TCP.
        port: u16,
    }

    /// Why a dial failed, for one address.
    pub struct DialFailure {
        /// The address, or what was given for one.
        address: String,
        /// What happened.
        why: String,
    }
}

crate::internal! {
    /// connectd's init. Descriptors: its hsmd socket (right: Ecdh).
    2000 => ConnectdInit {
        node_id: NodeId,
        network: Network,
        features: Features,
        /// Addresses to listen on. connectd binds them at once, and accepts once told to
        /// [`Activate`].
        listen: Vec<Address>,
        /// False: an address that cannot be bound (IPv6 on a machine without) is reported and
        /// skipped.
        must_listen: bool,
        /// Hostnames are not resolved (--disable-dns).
        disable_dns: bool,
        /// The number before the first connection's: none that a connectd before this one gave is
        /// given again. Its last 40 bits are 0.
        last_connection: u64,
    }
    /// The chain is caught up: accept peers now.
    2001 => Activate {}
    /// Dial, trying the addresses in order. Answered by `Connected` or `ConnectFailed`, whichever
    /// comes.
    2002 => Connect { node: NodeId, addresses: Vec<Address> }
    /// Close this peer's connection once its queue is written.
    2003 => Disconnect { node: NodeId, connection: u64 }
    /// Serve this channel id by the socket that comes along. Messages held for it are delivered
    /// first. Descriptor: the socket. If the connection is no more the socket is closed: its owner
    /// reads the end.
    2004 => Attach { node: NodeId, connection: u64, channel: ChannelId }
    /// Send this BOLT message.
    2005 => Send { node: NodeId, connection: u64, message: Bytes }
    /// Drop what is held for this channel id: nobody will serve it.
    2006 => Refuse { node: NodeId, connection: u64, channel: ChannelId }
    /// Ping, and report the answer. `pong_bytes` of 65532 and more gets none.
    2007 => PingPeer { node: NodeId, connection: u64, ask: u64, length: u16, pong_bytes: u16 }
    /// These peers have funded channels with us, in place of those said before: their connections
    /// make room for no others.
    2008 => FundedPeers { nodes: Vec<NodeId> }

    /// Bound and listening on these.
    2100 => Listening { addresses: Vec<Address>, failures: Vec<DialFailure> }
    /// A connection that has exchanged `init`. Its number is new in the life of this connectd.
    2101 => Connected {
        node: NodeId,
        connection: u64,
        direction: Direction,
        address: Address,
        /// Where the peer says it sees us (BOLT 1, init: remote_addr).
        remote_addr: Option<Address>,
        features: Features,
    }
    /// Every address failed.
    2102 => ConnectFailed { node: NodeId, failures: Vec<DialFailure> }
    /// The connection is gone, and with it every socket attached to it.
    2103 => Disconnected { node: NodeId, connection: u64, why: String }
    /// A message came for a channel id that no socket serves. It is held, with those that follow,
    /// until `Attach` or `Refuse`. Said once per channel id.
    2104 => Spoke { node: NodeId, connection: u64, channel: ChannelId, message: Bytes }
    /// The pong to a `PingPeer`: its length with header, 0 if none was asked for.
    2105 => Ponged { node: NodeId, ask: u64, length: u16 }
    /// The peer sent an error or warning about no channel in particular.
    2106 => PeerComplained { node: NodeId, connection: u64, is_error: bool, text: String }
    /// A message of an odd type that nobody here knows, for whoever subscribed.
    2107 => CustomMessage { node: NodeId, connection: u64, message: Bytes }
}

crate::message_set! {
    /// Orders to connectd.
    pub enum ToConnectd { ConnectdInit, Activate, Connect, Disconnect, Attach, Send, Refuse, PingPeer, FundedPeers }
}
crate::message_set! {
    /// Reports of connectd.
    pub enum FromConnectd {
        Log, Status, Failed, Listening, Connected, ConnectFailed, Disconnected, Spoke, Ponged, PeerComplained, CustomMessage,
    }
}

/// The first byte of every record on a peer socket: a BOLT message follows.
pub const PEER_RECORD_MESSAGE: u8 = 0;
/// The first byte of every record on a peer socket: one of [`PeerControl`] follows.
pub const PEER_RECORD_CONTROL: u8 = 1;

crate::internal! {
    /// Daemon to connectd: from here on this channel id is mine too. Sent before the message that
    /// gives the peer the new id. An id in use by another socket closes this one.
    2200 => AlsoRoute { channel: ChannelId }
    /// Daemon to connectd: once everything before this is written, close the connection.
    2201 => CloseConnection {}
    /// Connectd to daemon: everything you wrote has left for the kernel. Sent after the queue had
    /// been full.
    2202 => Drained {}
    /// Daemon to connectd: no channel id is mine any more. Sent before a last word, so that what
    /// the peer answers to that finds no daemon, and can begin anew.
    2203 => Leave {}
}
crate::message_set! {
    /// Control records beside BOLT messages on a peer socket.
    pub enum PeerControl { AlsoRoute, CloseConnection, Drained, Leave }
}
