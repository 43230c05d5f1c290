//! BOLT 2: a channel's life, from the first offer to the closing signature.

use crate::{Error, OnionPacket, Rest, Warning};
use primitives::*;

crate::messages! {
    /// "Quiet, please": opens quiescence.
    2 => Stfu { channel_id: ChannelId, initiator: u8 }
    /// "I would like a channel with you." BOLT 2, "The open_channel Message".
    32 => OpenChannel {
        chain_hash: [u8; 32],
        temporary_channel_id: ChannelId,
        funding_satoshis: Sat,
        push_msat: Msat,
        dust_limit_satoshis: Sat,
        max_htlc_value_in_flight_msat: Msat,
        channel_reserve_satoshis: Sat,
        htlc_minimum_msat: Msat,
        feerate_per_kw: FeeratePerKw,
        to_self_delay: u16,
        max_accepted_htlcs: u16,
        funding_pubkey: Point,
        revocation_basepoint: Point,
        payment_basepoint: Point,
        delayed_payment_basepoint: Point,
        htlc_basepoint: Point,
        first_per_commitment_point: Point,
        channel_flags: u8,
    } tlvs {
        0 => upfront_shutdown_script: Rest,
        1 => channel_type: Rest,
    }
    /// "With pleasure." BOLT 2, "The accept_channel Message".
    33 => AcceptChannel {
        temporary_channel_id: ChannelId,
        dust_limit_satoshis: Sat,
        max_htlc_value_in_flight_msat: Msat,
        channel_reserve_satoshis: Sat,
        htlc_minimum_msat: Msat,
        minimum_depth: u32,
        to_self_delay: u16,
        max_accepted_htlcs: u16,
        funding_pubkey: Point,
        revocation_basepoint: Point,
        payment_basepoint: Point,
        delayed_payment_basepoint: Point,
        htlc_basepoint: Point,
        first_per_commitment_point: Point,
    } tlvs {
        0 => upfront_shutdown_script: Rest,
        1 => channel_type: Rest,
    }
    /// "This output will be the channel; here is my signature on your first commitment
    /// transaction."
    34 => FundingCreated {
        temporary_channel_id: ChannelId,
        funding_txid: Txid,
        funding_output_index: u16,
        signature: Signature,
    }
    /// "And mine on yours: you may broadcast."
    35 => FundingSigned { channel_id: ChannelId, signature: Signature }
    /// "The funding is deep enough for me." BOLT 2, "The channel_ready Message".
    36 => ChannelReady { channel_id: ChannelId, second_per_commitment_point: Point } tlvs {
        1 => short_channel_id: ShortChannelId,
    }
    /// "Let us close, and pay me here." BOLT 2, "Closing Initiation".
    38 => Shutdown { channel_id: ChannelId, scriptpubkey: ScriptBuf }
    /// "I would sign the closing at this fee." BOLT 2, "Legacy Closing Negotiation".
    39 => ClosingSigned { channel_id: ChannelId, fee_satoshis: Sat, signature: Signature } tlvs {
        1 => fee_range: FeeRange,
    }
    /// "I give up this interactive transaction."
    74 => TxAbort { channel_id: ChannelId, data: Vec<u8> }
    /// "The next so many messages belong together." BOLT 2, "Batching channel messages".
    127 => StartBatch { channel_id: ChannelId, batch_size: u16 } tlvs { 1 => message_type: u16 }
    /// "I offer you this HTLC."
    128 => UpdateAddHtlc {
        channel_id: ChannelId,
        id: HtlcId,
        amount: Msat,
        payment_hash: PaymentHash,
        cltv_expiry: BlockHeight,
        onion: OnionPacket,
    } tlvs { 0 => path_key: Point }
    /// "Here is the preimage of one that you offered."
    130 => UpdateFulfillHtlc { channel_id: ChannelId, id: HtlcId, preimage: Preimage } tlvs { 1 => attribution_data: Rest }
    /// "One that you offered came to nothing; why is for its sender's eyes."
    131 => UpdateFailHtlc { channel_id: ChannelId, id: HtlcId, reason: Vec<u8> } tlvs { 1 => attribution_data: Rest }
    /// "Here is my signature on your next commitment transaction."
    132 => CommitmentSigned { channel_id: ChannelId, signature: Signature, htlc_signatures: Vec<Signature> } tlvs {
        1 => funding_txid: Txid,
    }
    /// "I will never publish my last one: here is its secret."
    133 => RevokeAndAck { channel_id: ChannelId, per_commitment_secret: SecretKey, next_per_commitment_point: Point }
    /// "From now on the commitment pays this much."
    134 => UpdateFee { channel_id: ChannelId, feerate: FeeratePerKw }
    /// "I could not even read the onion of one that you offered."
    135 => UpdateFailMalformedHtlc { channel_id: ChannelId, id: HtlcId, sha256_of_onion: Sha256Digest, failure_code: u16 }
    /// "This is where I think we were." BOLT 2, "Message Retransmission".
    136 => ChannelReestablish {
        channel_id: ChannelId,
        next_commitment_number: u64,
        next_revocation_number: u64,
        your_last_per_commitment_secret: [u8; 32],
        my_current_per_commitment_point: Point,
    } tlvs {
        1 => next_funding: FundingAndFlags,
        5 => my_current_funding_locked: FundingAndFlags,
    }
}

crate::data! {
    /// BOLT 2, closing_signed: the fees that the sender would accept.
    pub struct FeeRange {
        /// The least.
        min_fee: Sat,
        /// The most.
        max_fee: Sat,
    }
    /// BOLT 2, channel_reestablish: a funding, and what to send again for it.
    pub struct FundingAndFlags {
        /// Which.
        txid: Txid,
        /// Bit 0: its one message.
        retransmit_flags: u8,
    }
}

crate::message_set! {
    /// Messages of a peer to openingd.
    pub enum OpeningMessage { Warning, Error, OpenChannel, AcceptChannel, FundingCreated, FundingSigned, TxAbort }
}
crate::message_set! {
    /// Messages of a peer to channeld.
    pub enum ChannelMessage {
        Warning, Error, FundingSigned, ChannelReady, Shutdown, ClosingSigned, Stfu, TxAbort, StartBatch, UpdateAddHtlc,
        UpdateFulfillHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc, UpdateFee, CommitmentSigned, RevokeAndAck,
        ChannelReestablish, AnnouncementSignatures,
    }
}
use crate::AnnouncementSignatures;
crate::message_set! {
    /// Messages of a peer to closingd.
    pub enum ClosingMessage { Warning, Error, Shutdown, ClosingSigned, ChannelReestablish, AnnouncementSignatures, ChannelReady }
}

/// The channel that a BOLT message is about, by where each of them carries it. `None` where it is
/// about none, or is too short.
///
/// connectd routes by this without reading further; every message of BOLT 2 begins with its channel
/// id but `open_channel`, which has the chain's hash before.
pub fn channel_of(message: &[u8]) -> Option<ChannelId> {
    let (number, body) = message.split_first_chunk::<2>()?;
    let body = match u16::from_be_bytes(*number) {
        32 | 64 => body.get(32..)?,
        1 | 2 | 17 | 33..=41 | 65..=81 | 127..=136 | 259 => body,
        _ => return None,
    };
    body.first_chunk::<32>().map(|id| ChannelId(*id))
}
