//! The top of the stairs: every room.

use crate::kernel::floor::scope;
use crate::rooms::onchain;
use primitives::{Features, feature};

scope! {
    /// All rooms. For flows, api and what is above them: no room takes it, and it has no room of
    /// its own to change.
    pub struct Node {} on onchain::Scope
}

/// What this node says it can do, in `init`. A bit has its code, or it is not here.
pub fn our_features() -> Features {
    let compulsory = [
        feature::DATA_LOSS_PROTECT,
        feature::VAR_ONION_OPTIN,
        feature::STATIC_REMOTEKEY,
        feature::PAYMENT_SECRET,
        feature::CHANNEL_TYPE,
    ];
    let optional = [
        feature::UPFRONT_SHUTDOWN_SCRIPT,
        feature::BASIC_MPP,
        feature::LARGE_CHANNELS,
        feature::ANCHORS,
        feature::SHUTDOWN_ANYSEGWIT,
        feature::SCID_ALIAS,
    ];
    Features::compulsory(&compulsory).union(&Features::optional(&optional))
}

/// What this node says in its invoices.
pub fn our_invoice_features() -> Features {
    Features::compulsory(&[feature::VAR_ONION_OPTIN, feature::PAYMENT_SECRET])
        .union(&Features::optional(&[feature::BASIC_MPP]))
}
