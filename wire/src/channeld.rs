//! Between the master and channeld: one live channel.

use crate::channel_data::*;
use crate::daemon::{Failed, Log, Status};
use crate::hsm::OnionKeys;
use crate::{Bytes, Long, OnionPacket};
use primitives::*;

crate::data! {
    /// What went before.
    pub enum Birth {
        /// The connection is new: `channel_reestablish` comes first.
        0 => Reconnected,
        /// openingd just ended on this connection. As accepter, this `funding_signed` goes out
        /// first.
        1 => JustOpened { funding_signed: Option<Signature> },
    }

    /// The feerates that this channel proposes and accepts, from lightningd's estimates. BOLT 2,
    /// update_fee.
    pub struct FeePolicy {
        /// As opener: what the commitment should pay.
        target: FeeratePerKw,
        /// As accepter: the lowest we bear.
        min: FeeratePerKw,
        /// As accepter: the highest we bear.
        max: FeeratePerKw,
    }

    /// Our own bounds on what may be under way.
    pub struct HtlcPolicy {
        /// The most that trimmed HTLCs may come to, in either commitment.
        max_dust_exposure: Msat,
        /// How many HTLCs we offer at once, whatever the peer allows.
        max_offered: u16,
        /// Milliseconds to wait for further updates before one is committed, when nothing is
        /// readable.
        commit_time_ms: u32,
    }

    /// Why an HTLC could not be offered. Said before anything was sent.
    pub enum OfferRefusal {
        /// Not enough money on our side: `spendable` is what there is.
        0 => Unaffordable { spendable: Msat },
        /// Below what the peer takes.
        1 => BelowMinimum { minimum: Msat },
        /// Above what the peer lets be in flight.
        2 => AboveMaxInFlight { maximum: Msat },
        /// No room for another: this many are there.
        3 => TooManyHtlcs { maximum: u16 },
        /// Trimmed HTLCs would come to too much.
        4 => DustExposure { maximum: Msat },
        /// The channel is closing, or the peer said so.
        5 => Closing,
        /// Not ready for traffic.
        6 => NotReady,
        /// The expiry is out of bounds.
        7 => BadExpiry,
    }

    /// The payload of one received HTLC's onion.
    pub enum Peeled {
        /// Its payload, for us to read; what goes on, if anything does.
        0 => Payload {
            /// BOLT 4's TLV payload, without its length.
            payload: Bytes,
            /// The packet for the next node; `None` means we are the last.
            next: Option<OnionPacket>,
            /// The key that encrypts a failure that begins here.
            keys: OnionKeys,
        },
        /// It could not be read: it is to be failed as malformed with this.
        1 => Unreadable { sha256_of_onion: Sha256Digest, failure_code: u16 },
        /// channeld fails it, whatever the master thinks: never with a preimage.
        2 => Refused { removal: Removal },
    }

    /// A received HTLC that is now irrevocable, and what its onion said.
    pub struct PeeledHtlc {
        /// Which.
        id: HtlcId,
        /// What.
        peeled: Peeled,
    }
}

crate::internal! {
    /// channeld's init. Descriptors: hsmd (rights: Points, SignRemote, Revoke, Peel, SignGossip),
    /// peer.
    4000 => ChanneldInit {
        channel: ChannelId,
        birth: Birth,
        /// Phase of the channel when channeld is started. channeld advances it when channel_ready
        /// or shutdown is exchanged.
        phase: ChannelPhase,
        state: ChannelState,
        local_features: Features,
        remote_features: Features,
        fees: FeePolicy,
        policy: HtlcPolicy,
        height: BlockHeight,
        /// Did each side send `channel_ready`?
        ready: Sides<bool>,
        /// The funding is deep enough for us: `channel_ready` is to be sent.
        funding_deep: bool,
        /// Our alias of the channel, used before (or instead of) its real short_channel_id.
        alias: ShortChannelId,
        announce: bool,
        /// At six confirmations: where it is, so that it can be announced.
        announceable: Option<ShortChannelId>,
        /// The peer's announcement_signatures are stored already.
        have_announcement: bool,
        /// The scripts in the `shutdown`s that were sent.
        shutdown: Sides<Option<ScriptBuf>>,
        /// The scripts that each side fixed when it opened.
        upfront_script: Sides<Option<ScriptBuf>>,
        /// Never sign or revoke anything: the peer has shown that our data is old, or the channel
        /// failed.
        failed: Option<String>,
    }
    /// The funding is deep enough: send `channel_ready`.
    4001 => FundingDeep {}
    /// The funding has six confirmations, here.
    4002 => Announceable { short_channel_id: ShortChannelId }
    /// Offer an HTLC, under the master's key for it.
    4003 => Offer {
        key: u64,
        amount: Msat,
        payment_hash: PaymentHash,
        expiry: BlockHeight,
        onion: OnionPacket,
        path_key: Option<Point>,
    }
    /// Fulfil a received HTLC. Said again after a restart; a second time changes nothing.
    4004 => Fulfil { id: HtlcId, preimage: Preimage }
    /// Fail a received HTLC with a reason that is ready to be sent.
    4005 => FailHtlc { id: HtlcId, reason: Vec<u8> }
    /// Fail a received HTLC whose onion we could not read.
    4006 => FailMalformed { id: HtlcId, sha256_of_onion: Sha256Digest, failure_code: u16 }
    /// New estimates.
    4007 => FeesChanged { fees: FeePolicy }
    /// A new block.
    4008 => HeightChanged { height: BlockHeight }
    /// Send `shutdown`, to be paid here.
    4009 => StartShutdown { script: ScriptBuf }

    /// The connection is as far as the old one was: traffic may go.
    4100 => Reestablished {}
    /// An HTLC will not be offered.
    4101 => OfferRefused { key: u64, why: OfferRefusal }
    /// The peer showed a preimage. Not in a commitment yet, and good all the same.
    4102 => PreimageLearned { id: HtlcId, preimage: Preimage }
    /// Nothing is pending on either side: closingd's turn. Descriptor: the peer socket.
    4103 => ReadyToClose {}
    /// The peer's channel_reestablish proved that our data is old: never broadcast.
    4104 => WeAreBehind { remote_point: Point, detail: String }
    /// The peer is the one that lost data: it must close, we wait.
    4105 => TheyAreBehind { detail: String }
    /// The feerate of the commitments changed.
    4106 => FeerateNow { feerate: FeeratePerKw }
}

crate::message_set! {
    /// Orders to channeld.
    pub enum ToChanneld {
        ChanneldInit, FundingDeep, Announceable, Offer, Fulfil, FailHtlc, FailMalformed, FeesChanged, HeightChanged, StartShutdown,
    }
}
crate::message_set! {
    /// Reports of channeld.
    pub enum FromChanneld {
        Log, Status, Failed, Reestablished, OfferRefused, PreimageLearned, ReadyToClose, WeAreBehind, TheyAreBehind, FeerateNow,
    }
}

crate::requests! {
    /// Questions of channeld to lightningd. An answer means: it is on disk.
    pub enum ChannelAsk {
        /// These steps were taken, in this order; these HTLCs became irrevocable and were peeled.
        4200 => Persist { changes: Vec<ChannelChange>, peeled: Long<PeeledHtlc> } -> ();
        /// The peer's `channel_ready` came.
        4201 => PersistPeerReady { alias: Option<ShortChannelId>, next_point: Point } -> ();
        /// Our `channel_ready` is about to go out.
        4202 => PersistReady {} -> ();
        /// A `shutdown` came, or is about to go out.
        4203 => PersistShutdown { by: Side, script: ScriptBuf } -> ();
        /// The peer's announcement_signatures came.
        4204 => PersistAnnouncement { short_channel_id: ShortChannelId, node_signature: Signature, bitcoin_signature: Signature } -> ();
        /// The peer wants to close, and where we are paid was never fixed: where to? Asked again,
        /// the same again.
        4205 => GetShutdownScript {} -> ScriptBuf;
    }
}
