//! What rooms are told, and what they ask the backend for.

use crate::sys::form::Caller;
use bitcoin::{Transaction, Txid};
use primitives::{BlockHeight, ChannelNumber, *};
use serde_json::Value;
use std::time::Instant;
use wire::channel_data::LiveHtlc;
use wire::channeld::OfferRefusal;
/// Number of one wait, new for each: clients use the same id again and again.
pub type WaitId = u64;

/// How far a plugin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Asked for its manifest.
    AwaitingManifest,
    /// It gave it; `init` waits until every first plugin did.
    HasManifest,
    /// Asked to begin.
    AwaitingInit,
    /// At work.
    Active,
}

/// What a question to the backend was for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// getchaininfo.
    ChainInfo,
    /// getrawblockbyheight of this one.
    Block(BlockHeight),
    /// getrawblockbyheight of this one, which was there before; since when no tip was looked at.
    Again(BlockHeight, Instant),
    /// estimatefees.
    Fees,
    /// sendrawtransaction.
    Broadcast(Txid, BroadcastFor),
    /// mempoolspends.
    MempoolSpends,
    /// getutxout of a channel's funding, for `fundchannel_cancel`.
    FundingSeen(ChannelNumber, Caller),
}

/// What happens to our view of the chain, beside answers of the backend.
#[derive(Debug)]
pub enum ChainEvent {
    /// Time to look.
    Poll,
    /// No header is left of the chain that our rows were made from: nothing that is in blocks below
    /// this height is certain any more.
    Forget(BlockHeight),
}

/// Who waits to hear how it went.
#[derive(Debug, Clone)]
pub enum BroadcastFor {
    /// Nobody: it is sent again with the next block.
    Nobody,
    /// `withdraw`: if it is refused, its inputs are free again.
    Withdrawal(Caller, Value),
    /// A channel's funding.
    Funding(ChannelNumber),
    /// A channel's closing.
    Closing(ChannelNumber),
    /// A channel's commitment of ours: if it is refused, an anchor bump may be needed at once.
    Commitment(ChannelNumber),
    /// A claim of a channel on chain.
    Attempt(ChannelNumber),
}

/// What happens to a channel beside what its child says.
#[derive(Debug)]
pub enum ChannelEvent {
    /// The peer is to hear what this channel wants of forwards.
    TellUpdate,
    /// A channel was just opened by us: sign its funding and send it.
    SignFunding,
    /// `close` waited for as long as it was told to.
    CloseTimeout,
    /// Publish our newest commitment.
    Broadcast,
    /// The funding of this channel is in a block now: its peer wants to hear of it.
    FundingSeen,
    /// Its child is gone; look whether it needs another.
    ChildGone,
}

/// A channel that came to nothing, and why.
#[derive(Debug, Clone)]
pub struct AbandonedChannel {
    pub number: ChannelNumber,
    pub why: String,
    /// From when its funding was waited for.
    pub since: BlockHeight,
}

/// What happens in this room.
#[derive(Debug, Clone)]
pub enum OnchainEvent {
    /// The channel wants an onchaind.
    Begin,
    /// A transaction of its end left the chain with its block.
    Left(Txid),
    /// All claims and anchor bumps of the channel are dropped: its end is buried, its block left
    /// the chain, or a mutual close confirmed.
    GiveUp,
    /// Everything was resolved a hundred blocks ago.
    Bury,
    /// Our commitment is about to be broadcast.
    CommitmentSent(Transaction),
    /// A received HTLC of the channel is to be claimed with this preimage.
    Decided(HtlcId, Preimage),
    /// The channel's commitment can never confirm: its funding was double-spent or never came, or a
    /// mutual close is buried.
    ChannelForgotten,
}

/// What happens in the switch.
#[derive(Debug)]
pub enum HtlcEvent {
    /// channeld did not offer it.
    Refused {
        /// Which channel's.
        channel: ChannelNumber,
        /// The master's key.
        key: u64,
        /// What forbids it: a limit, the funds, the state of the channel.
        why: OfferRefusal,
    },
    /// The peer showed the preimage of one that we offered.
    Fulfilled {
        /// Over which the HTLC was offered.
        channel: ChannelNumber,
        /// Which of ours.
        id: HtlcId,
        /// What opens it.
        preimage: Preimage,
    },
    /// Its removal is irrevocable.
    Settled {
        /// Over which the HTLC was offered.
        channel: ChannelNumber,
        /// As it was before it left.
        htlc: Box<LiveHtlc>,
    },
    /// A channel's daemon is gone, and with it what it had not offered yet.
    Lost(ChannelNumber),
    /// A channel is over, and its end buried.
    ChannelClosed(ChannelNumber),
    /// Parts of this payment have waited long enough.
    SetTimeout(PaymentHash, Instant),
    /// The parts of this payment are worth an invoice with the last block.
    SetComplete(PaymentHash),
    /// We have the tip, or waited long enough for it: whatever came since the start is decided on.
    DecideAll,
    /// Look for forwards whose incoming HTLC expires before the outgoing one is resolved.
    CheckExpiring,
}
