//! BOLT 7: what nodes tell everyone about channels.

use crate::{BigSize, Rest};
use primitives::*;

crate::messages! {
    /// Proof, by four signatures, that a channel exists.
    256 => ChannelAnnouncement {
        node_signature_1: Signature,
        node_signature_2: Signature,
        bitcoin_signature_1: Signature,
        bitcoin_signature_2: Signature,
        features: Features,
        chain_hash: [u8; 32],
        short_channel_id: ShortChannelId,
        node_id_1: NodeId,
        node_id_2: NodeId,
        bitcoin_key_1: NodeId,
        bitcoin_key_2: NodeId,
    }
    /// A node's name, colour and addresses.
    257 => NodeAnnouncement {
        signature: Signature,
        features: Features,
        timestamp: u32,
        node_id: NodeId,
        rgb_color: [u8; 3],
        alias: [u8; 32],
        addresses: Vec<u8>,
    }
    /// The forwarding policy of one end of a channel.
    258 => ChannelUpdate {
        signature: Signature,
        chain_hash: [u8; 32],
        short_channel_id: ShortChannelId,
        timestamp: u32,
        message_flags: u8,
        channel_flags: u8,
        cltv_expiry_delta: u16,
        htlc_minimum: Msat,
        fee_base_msat: u32,
        fee_proportional_millionths: u32,
        htlc_maximum: Msat,
    }
    /// One end's half of a channel_announcement, between the two ends.
    259 => AnnouncementSignatures {
        channel_id: ChannelId,
        short_channel_id: ShortChannelId,
        node_signature: Signature,
        bitcoin_signature: Signature,
    }
    /// "Tell me about these."
    261 => QueryShortChannelIds { chain_hash: [u8; 32], encoded_short_ids: Vec<u8> } tlvs { 1 => query_flags: Rest }
    /// "That was all."
    262 => ReplyShortChannelIdsEnd { chain_hash: [u8; 32], full_information: u8 }
    /// "Which channels do you know from these blocks?"
    263 => QueryChannelRange { chain_hash: [u8; 32], first_blocknum: u32, number_of_blocks: u32 } tlvs { 1 => query_option: BigSize }
    /// "These."
    264 => ReplyChannelRange {
        chain_hash: [u8; 32],
        first_blocknum: u32,
        number_of_blocks: u32,
        sync_complete: u8,
        encoded_short_ids: Vec<u8>,
    } tlvs {
        1 => timestamps: Rest,
        3 => checksums: Rest,
    }
    /// "From now on, send me what is dated in this range."
    265 => GossipTimestampFilter { chain_hash: [u8; 32], first_timestamp: u32, timestamp_range: u32 }
}

crate::message_set! {
    /// What gossip is made of.
    pub enum GossipMessage {
        ChannelAnnouncement, NodeAnnouncement, ChannelUpdate, QueryShortChannelIds, ReplyShortChannelIdsEnd,
        QueryChannelRange, ReplyChannelRange, GossipTimestampFilter,
    }
}
