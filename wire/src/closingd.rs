//! Between the master and closingd: one negotiation of a closing fee.

use crate::channel_data::*;
use crate::daemon::{Failed, Log, Status};
use crate::hsm::ClosingState;
use primitives::*;

crate::internal! {
    /// closingd's init. Descriptors: hsmd (right: SignClosing), peer.
    5000 => ClosingdInit {
        channel: ChannelId,
        params: ChannelParams,
        /// Each side's balance in the last commitments, which agree.
        balance: Sides<Msat>,
        /// Where each is paid.
        script: Sides<ScriptBuf>,
        /// The least we accept.
        min_fee: Sat,
        /// The most we accept; as opener, the most we pay.
        max_fee: Sat,
        /// The fee that we prefer.
        ideal_fee: Sat,
        /// Was the channel handed over by channeld on this connection? (Always: there is a channeld
        /// first.)
        local_features: Features,
        remote_features: Features,
    }
    /// Both have signed this: it is final. The connection stays; late messages of the peer are
    /// refused.
    5100 => ClosingAgreed { state: ClosingState, signature: Signature }
}
crate::message_set! {
    /// Orders to closingd.
    pub enum ToClosingd { ClosingdInit }
}
crate::message_set! {
    /// Reports of closingd.
    pub enum FromClosingd { Log, Status, Failed, ClosingAgreed }
}

crate::requests! {
    /// Questions of closingd to lightningd. An answer means: it is on disk.
    pub enum ClosingAsk {
        /// We are about to sign at this fee: the peer may broadcast that from now on.
        5200 => PersistOffer { state: ClosingState } -> ();
        /// The peer signed this: the best we have so far.
        5201 => PersistPeerSignature { state: ClosingState, signature: Signature } -> ();
    }
}
