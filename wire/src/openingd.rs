//! Between the master and openingd: one negotiation.

use crate::channel_data::*;
use crate::daemon::{Failed, Log, Status};
use primitives::*;

crate::data! {
    /// The terms that this node asks of a channel, and the limits of those that it accepts. Made of
    /// options; checked by `channel::opening`.
    pub struct OpeningPolicy {
        /// Our side of the terms. `reserve` is what we ask the other to keep.
        terms: Terms,
        /// minimum_depth as accepter: confirmations before `channel_ready`.
        minimum_depth: u32,
        /// Lowest feerate we bear on a commitment that cannot be bumped.
        min_feerate: FeeratePerKw,
        /// Lowest feerate we bear on one with anchors.
        min_anchors_feerate: FeeratePerKw,
        /// Highest feerate we bear on a commitment.
        max_feerate: FeeratePerKw,
        /// The longest that our own money may be made to wait.
        max_to_self_delay: u16,
        /// After reserves and fee, both sides together must be able to send this much.
        min_capacity: Sat,
        /// The highest dust limit that we take.
        max_dust_limit: Sat,
        /// The most that trimming may cost us. Dust limits above what this allows are refused.
        max_dust_exposure: Msat,
        /// May the funding be 2^24 sat and more?
        large_channels: bool,
    }
}

crate::internal! {
    /// openingd's init when we open. Descriptors: hsmd, peer.
    3000 => OpenInit {
        network: Network,
        local_features: Features,
        remote_features: Features,
        temporary_id: ChannelId,
        policy: OpeningPolicy,
        amount: Sat,
        push: Msat,
        feerate: FeeratePerKw,
        announce: bool,
        /// What to propose.
        channel_type: Features,
        /// Where to be paid on a mutual close, if that is fixed from the start.
        upfront_script: Option<ScriptBuf>,
    }
    /// openingd's init when the peer opens: its `open_channel` waits in the socket. Descriptors:
    /// hsmd, peer.
    3001 => AcceptInit {
        network: Network,
        local_features: Features,
        remote_features: Features,
        temporary_id: ChannelId,
        policy: OpeningPolicy,
        /// Where to be paid on a mutual close, if that is fixed from the start.
        upfront_script: Option<ScriptBuf>,
    }
    /// Opener: the funding transaction is built; this output of it is the channel.
    3002 => CompleteFunding { funding: OutPoint }
    /// Give up: tell the peer this.
    3003 => CancelOpening { why: String }
    /// Accepter: the answer to [`OpenProposed`].
    3004 => AcceptProposed { upfront_script: Option<ScriptBuf>, minimum_depth: Option<u32>, reserve: Option<Sat> }

    /// Opener: the peer accepted. The funding must pay `amount` to this script.
    3100 => Accepted { funding_script: ScriptBuf, channel_type: Features, minimum_depth: u32, remote_upfront_script: Option<ScriptBuf> }
    /// Accepter: the peer proposes, and our own rules do not object. The master (and its plugins)
    /// decide.
    3101 => OpenProposed {
        amount: Sat,
        push: Msat,
        feerate: FeeratePerKw,
        remote_terms: Terms,
        channel_flags: u8,
        channel_type: Features,
        remote_upfront_script: Option<ScriptBuf>,
    }
    /// Both first commitments are signed. Descriptor: the peer socket, handed over. As accepter,
    /// `funding_signed` has not been sent: channeld does, with `funding_signed`.
    3102 => Opened {
        channel: ChannelId,
        state: ChannelState,
        announce: bool,
        /// Accepter only: our signature for the peer.
        funding_signed: Option<Signature>,
        /// The accepter's minimum_depth: confirmations before `channel_ready`.
        minimum_depth: u32,
        /// Fixed from the start by each side, if at all.
        upfront_script: Sides<Option<ScriptBuf>>,
        /// What this channel began with.
        feerate: FeeratePerKw,
    }
}

crate::message_set! {
    /// Orders to openingd.
    pub enum ToOpeningd { OpenInit, AcceptInit, CompleteFunding, CancelOpening, AcceptProposed }
}
crate::message_set! {
    /// Reports of openingd.
    pub enum FromOpeningd { Log, Status, Failed, Accepted, OpenProposed, Opened }
}
