//! The stranger's half of a channel's announcement. BOLT 7, "The announcement_signatures Message".

use super::{Live, World};
use bitcoin::hashes::{Hash, sha256d};
use primitives::*;
use secp256k1::{Message as Digest, SECP256K1};
use wire::{AnnouncementSignatures, ChannelAnnouncement, Message};

impl Live {
    /// What it says of a public channel that is deep enough, as it should be.
    pub fn announcement_signatures(&self, world: &World) -> AnnouncementSignatures {
        let short_channel_id = self.scid(world);
        let points = &self.channel.constants().params.basepoints;
        let mut ends = [
            (NodeId::from(self.stranger.point()), NodeId::from(points.local.funding)),
            (NodeId::from(world.node_point()), NodeId::from(points.remote.funding)),
        ];
        ends.sort_by_key(|(id, _)| id.0);
        let [(node_id_1, bitcoin_key_1), (node_id_2, bitcoin_key_2)] = ends;
        let any = super::sign_anything();
        let announcement = ChannelAnnouncement {
            node_signature_1: any,
            node_signature_2: any,
            bitcoin_signature_1: any,
            bitcoin_signature_2: any,
            features: Features::none(),
            chain_hash: Network::Regtest.chain_hash(),
            short_channel_id,
            node_id_1,
            node_id_2,
            bitcoin_key_1,
            bitcoin_key_2,
        };
        // All that follows the type and the four signatures.
        let digest = sha256d::Hash::hash(&announcement.encode()[2 + 4 * 64..]).to_byte_array();
        let digest = Digest::from_digest(digest);
        AnnouncementSignatures {
            channel_id: self.id,
            short_channel_id,
            node_signature: SECP256K1.sign_ecdsa(&digest, &self.stranger.secret),
            bitcoin_signature: SECP256K1.sign_ecdsa(&digest, &self.keys.funding),
        }
    }
}
