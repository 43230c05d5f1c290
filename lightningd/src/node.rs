//! The node: its rooms, and what it is.

use crate::kernel::children::Supervisor;
use crate::kernel::plugins::PluginHost;
use crate::kernel::turn::Counters;
use crate::kernel::waits::Waits;
use crate::rooms::chain::Chain;
use crate::rooms::channels::Channels;
use crate::rooms::htlcs::Htlcs;
use crate::rooms::invoices::Invoices;
use crate::rooms::onchain::Onchain;
use crate::rooms::payments::Payments;
use crate::rooms::peers::Peers;
use crate::rooms::wallet::Wallet;
use crate::sys::disk::Space;
use crate::sys::options::Config;
use primitives::{Features, Network, NodeId, feature};

/// Everything in memory. Handlers see it as it is and change it by installs.
pub struct Node {
    /// What was asked of it.
    pub config: Config,
    /// Which chain.
    pub network: Network,
    /// Who it is.
    pub id: NodeId,
    /// What it is called.
    pub alias: String,
    /// Its colour.
    pub rgb: [u8; 3],
    /// What it tells peers that it can do.
    pub features: Features,
    /// What it tells payers.
    pub invoice_features: Features,
    /// The chain.
    pub chain: Chain,
    /// Coins.
    pub wallet: Wallet,
    /// Connections.
    pub peers: Peers,
    /// Channels, and attempts at them.
    pub channels: Channels,
    /// Channels on chain.
    pub onchain: Onchain,
    /// The HTLC switch.
    pub htlcs: Htlcs,
    /// What others are to pay.
    pub invoices: Invoices,
    /// What we pay.
    pub payments: Payments,
    /// Plugins.
    pub plugins: PluginHost,
    /// Which child does what.
    pub supervisor: Supervisor,
    /// Callers that wait.
    pub waits: Waits,
    /// For benchmarks.
    pub counters: Counters,
    /// How much room the disk has.
    pub space: Space,
    /// The same, for `getinfo`.
    pub space_warning: Option<&'static str>,
    /// True once the end has begun.
    pub shutting_down: bool,
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

impl Node {
    /// The JSON-RPC socket, as given or relative to the network directory (which is the current one).
    pub fn rpc_file(&self) -> String {
        self.config.text("rpc-file").unwrap_or("lightning-rpc").to_owned()
    }
}
