//! The data of a channel, as it travels between our processes and is stored. Its behaviour: crate
//! `channel`.

use crate::{Long, OnionPacket};
use primitives::*;

crate::data! {
    /// How far one update (an HTLC added or removed, a new feerate) has come. BOLT 2, "Normal
    /// Operation", counts these five; "sender" is whoever proposed it. How they follow each other:
    /// `channel::stage`.
    pub tag Stage {
        /// Said, and in no commitment yet: forgotten on a disconnect.
        0 => PendingOnReceiver,
        /// In the receiver's newest commitment, whose predecessor is not revoked yet.
        1 => InReceivers,
        /// The receiver revoked the one without it; not in the sender's yet.
        2 => PendingOnSender,
        /// In the sender's newest commitment too, whose predecessor is not revoked yet.
        3 => InSenders,
        /// In both, and nobody can go back.
        4 => Irrevocable,
    }

    /// How far a channel's life is, as far as that decides what may still happen to it:
    /// `channel::phase` has the table. Ordered: code compares phases.
    pub tag ChannelPhase {
        /// No commitment is stored yet.
        0 => Opening,
        /// The funding is to confirm, or `channel_ready` to come.
        1 => AwaitingLockin,
        /// HTLCs may be added.
        2 => Normal,
        /// Either side said `shutdown`, or we are about to: HTLCs end.
        3 => ShuttingDown,
        /// closingd stored a closing transaction once: the peer may hold our signature on it.
        4 => Negotiating,
        /// Both sides signed a closing transaction.
        5 => ClosingAgreed,
        /// Failed: a commitment is, or will be, published.
        6 => AwaitingUnilateral,
        /// A closing was stored, and the channel then failed or its funding output was spent, by
        /// the mutual close too.
        7 => ClosingFailed,
        /// The funding output was spent, and no closing was ever stored.
        8 => Onchain,
        /// The peer, or the record beside the database, has shown that our rows are old.
        9 => DataLoss,
        /// The close is irrevocable: deep enough in the chain.
        10 => Closed,
    }

    /// What one side demanded in its `open_channel` or `accept_channel`. BOLT 2. The dust limit is
    /// for that side's own commitment; everything else binds the *other* side.
    pub struct Terms {
        /// Outputs below are left out of the commitment that this side can publish.
        dust_limit: Sat,
        /// The most the other side may have in flight towards this one.
        max_in_flight: Msat,
        /// The reserve that the other side must keep.
        reserve: Sat,
        /// The smallest HTLC that the other side may offer.
        htlc_minimum: Msat,
        /// How long the other side's own money waits when it publishes its commitment.
        to_self_delay: u16,
        /// How many HTLCs the other side may have in flight towards this one.
        max_accepted_htlcs: u16,
    }

    /// One side's public base keys. BOLT 3, "Key Derivation".
    pub struct Basepoints {
        /// Half of the 2-of-2.
        funding: Point,
        /// Makes the other's revocation keys.
        revocation: Point,
        /// to_remote, as it is.
        payment: Point,
        /// Makes to_local's delayed keys.
        delayed_payment: Point,
        /// Makes the HTLC keys.
        htlc: Point,
    }

    /// Parameters agreed at the opening, which never change (a splice makes others).
    pub struct ChannelParams {
        /// The side that pays the commitment's fee.
        opener: Side,
        /// The output that is the channel.
        funding: OutPoint,
        /// What is in it.
        amount: Sat,
        /// push_msat: the accepter's first balance.
        push: Msat,
        /// BOLT 2, "Defined Channel Types".
        channel_type: Features,
        /// The terms that each side demanded of the other.
        terms: Sides<Terms>,
        /// Each side's keys.
        basepoints: Sides<Basepoints>,
    }

    /// An HTLC as a commitment transaction sees it. Its identity is (channel, `offered_by`, `id`),
    /// nothing else.
    pub struct Htlc {
        /// The side that offered it: it pays if the HTLC is fulfilled.
        offered_by: Side,
        /// Its number among that side's.
        id: HtlcId,
        /// How much.
        amount: Msat,
        /// The hash of the preimage that claims it.
        payment_hash: PaymentHash,
        /// When it can be taken back.
        expiry: BlockHeight,
    }

    /// One commitment transaction as a description: with [`ChannelParams`] and its commitment
    /// point, all that is needed to build it. `side` can publish it.
    pub struct CommitmentState {
        /// The side that can publish it.
        side: Side,
        /// Which of that side's.
        number: CommitmentNumber,
        /// The point of this number, of `side`.
        point: Point,
        /// The feerate of its fee.
        feerate: FeeratePerKw,
        /// Each side's balance without HTLCs, before fees.
        balance: Sides<Msat>,
        /// HTLCs of this commitment, in any order.
        htlcs: Long<Htlc>,
    }

    /// The other side's signatures on a commitment and its HTLC transactions.
    pub struct CommitmentSignatures {
        /// On the commitment transaction itself.
        signature: Signature,
        /// On each HTLC transaction, in the order of BOLT 3, "Transaction Output Ordering".
        htlcs: Vec<Signature>,
    }

    /// How an HTLC ends.
    pub enum Removal {
        /// With the preimage.
        0 => Fulfilled { preimage: Preimage },
        /// With a reason that its first sender can read.
        1 => Failed { reason: Vec<u8> },
        /// With a word to the neighbour alone.
        2 => Malformed { sha256_of_onion: Sha256Digest, failure_code: u16 },
    }

    /// A removal and how far it has come. Its sender is the side that did not offer the HTLC.
    pub struct StagedRemoval {
        /// What it is.
        removal: Removal,
        /// How far.
        stage: Stage,
    }

    /// An HTLC with its life so far.
    pub struct LiveHtlc {
        /// What it is.
        htlc: Htlc,
        /// The packet it came with.
        onion: OnionPacket,
        /// The blinded path's key beside it, if any.
        path_key: Option<Point>,
        /// The master's key for one that we offered, so that it finds what it was for. Zero for
        /// those of the peer.
        key: u64,
        /// How far its addition has come.
        added: Stage,
        /// How far its removal has come, if there is one.
        removed: Option<StagedRemoval>,
        /// The first of the remote's commitments that contains it: what a penalty needs to know.
        in_remote_from: Option<CommitmentNumber>,
        /// The first of the remote's commitments after that without it.
        in_remote_until: Option<CommitmentNumber>,
    }

    /// A feerate and how far it has come. Its sender is the opener.
    pub struct FeeChange {
        /// The feerate.
        feerate: FeeratePerKw,
        /// How far.
        stage: Stage,
    }

    /// What we said last of the two that must come again in their old order. BOLT 2, "Message
    /// Retransmission".
    pub tag LastSent {
        /// Neither yet.
        0 => Neither,
        /// A `commitment_signed`.
        1 => Commitment,
        /// A `revoke_and_ack`.
        2 => Revocation,
    }

    /// One secret of the peer's chain, with the index it came for. BOLT 3, "Efficient
    /// Per-commitment Secret Storage".
    pub struct StoredSecret {
        /// 2^48 - 1 minus the commitment's number.
        index: u64,
        /// The secret.
        secret: Secret<32>,
    }

    /// Everything about a channel that commitments depend on: lightningd stores it, and starts
    /// channeld with it.
    pub struct ChannelState {
        /// Parameters that never change.
        params: ChannelParams,
        /// What each has, every live HTLC counted with the side that offered it: always the whole
        /// channel together, and moved only by fulfilments that are irrevocable.
        balance: Sides<Msat>,
        /// The id that each side's next HTLC gets.
        next_htlc_id: Sides<HtlcId>,
        /// Everything that is under way: ours first, each side's by id.
        htlcs: Long<LiveHtlc>,
        /// The feerate that is in force on both sides, then those under way, oldest first. Never
        /// empty.
        fees: Long<FeeChange>,
        /// The newest commitment of each side that was signed by the other.
        commitment: Sides<CommitmentNumber>,
        /// How many commitments each side has revoked: the number of its oldest one that still
        /// counts.
        revoked: Sides<CommitmentNumber>,
        /// The remote's point for its oldest commitment that still counts (`revoked.remote`).
        remote_point: Point,
        /// The remote's point for the one after, whether we signed that already or not. Unknown
        /// until `channel_ready`.
        remote_next_point: Option<Point>,
        /// The remote side's revocation secrets, one for each number of trailing zeroes that an
        /// index can have.
        remote_secrets: Long<StoredSecret>,
        /// The remote's signatures on our newest commitment.
        local_signatures: CommitmentSignatures,
        /// Which of commitment_signed and revoke_and_ack we sent last.
        last_sent: LastSent,
    }

    /// The difference that one step made in a [`ChannelState`]: `channel::diff` makes it,
    /// `channel::apply` undoes the difference. The master stores it as rows. Updates that are in no
    /// commitment yet are not part of it: nobody has to remember those.
    pub struct ChannelChange {
        /// New value, always given.
        balance: Sides<Msat>,
        /// New value, always given.
        next_htlc_id: Sides<HtlcId>,
        /// HTLCs that were not there before, whole.
        added: Long<LiveHtlc>,
        /// HTLCs that moved: their new stages and nothing else.
        moved: Long<MovedHtlc>,
        /// HTLCs whose removal became irrevocable: they leave the state, and their rows stay.
        settled: Long<(Side, HtlcId)>,
        /// The feerates, if any changed.
        fees: Option<Long<FeeChange>>,
        /// New value, always given.
        commitment: Sides<CommitmentNumber>,
        /// New value, always given.
        revoked: Sides<CommitmentNumber>,
        /// New value, always given.
        remote_point: Point,
        /// New value, always given.
        remote_next_point: Option<Point>,
        /// The secrets that the peer gave since: each takes the place of the one whose index has as
        /// many trailing zeroes.
        remote_secrets: Long<StoredSecret>,
        /// The remote's signatures on our newest commitment, if it is a new one.
        local_signatures: Option<CommitmentSignatures>,
        /// New value, always given.
        last_sent: LastSent,
    }

    /// The difference in a [`LiveHtlc`].
    pub struct MovedHtlc {
        /// Whose.
        offered_by: Side,
        /// Which.
        id: HtlcId,
        /// How far its addition has come.
        added: Stage,
        /// How far its removal has come, if there is one.
        removed: Option<StagedRemoval>,
        /// See [`LiveHtlc`].
        in_remote_from: Option<CommitmentNumber>,
        /// See [`LiveHtlc`].
        in_remote_until: Option<CommitmentNumber>,
    }
}

/// Of a channel that nobody has said anything of.
impl Default for ChannelPhase {
    fn default() -> Self {
        Self::Opening
    }
}
