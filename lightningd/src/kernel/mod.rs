//! What can happen, be said and be changed; the children, the plugins and the callers that wait:
//! the scope on which every room stands.
//!
//! This file names the values. Verbs that take a [`Scope`] are in files of their own: with both in
//! one file, this one and that would form a circle.

pub mod births;
pub mod children;
pub mod floor;
pub mod plugins;
pub mod turn;
pub mod view;
pub mod waiting;
pub mod waits;
pub mod words;

use crate::kernel::children::Supervisor;
use crate::kernel::plugins::PluginHost;
use crate::kernel::turn::{Counters, Holds, House};
use crate::kernel::waits::Waits;
use crate::sys::disk::Space;
use crate::sys::options::Config;
use primitives::{CltvDelta, Features, Network, NodeId};
use std::any::{Any, TypeId};

/// What every room may read. A field without a [`Holds`] is fixed for the life of the process, or
/// the loop's to change.
pub struct Scope {
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
    /// Which child does what.
    pub supervisor: Supervisor,
    /// Which plugins run, and what they offer: methods, options, hooks, topics.
    pub plugins: PluginHost,
    /// Callers that wait.
    pub waits: Waits,
    /// Has its end begun?
    pub life: Life,
    /// For benchmarks. The loop counts.
    pub counters: Counters,
    /// How much room the disk has. The loop looks.
    pub space: Space,
    /// The same, for `getinfo`.
    pub space_warning: Option<&'static str>,
}

/// How far the life of the process is.
#[derive(Debug, Default, Clone, Copy)]
pub struct Life {
    /// True once the end has begun.
    pub shutting_down: bool,
}

impl Scope {
    /// The JSON-RPC socket, as given or relative to the network directory (which is the current
    /// one).
    pub fn rpc_file(&self) -> String {
        self.config.options.rpc_file.clone()
    }
    /// Does a channel bear any feerate of its peer's, unless it was told otherwise?
    pub fn bears_any_feerate(&self) -> bool {
        self.config.options.ignore_fee_limits
    }
    /// Blocks between the two expiries of a forward.
    pub fn cltv_delta(&self) -> CltvDelta {
        self.config.options.cltv_delta
    }
    /// Blocks from now that an outgoing HTLC may last.
    pub fn max_locktime(&self) -> CltvDelta {
        self.config.options.max_locktime_blocks
    }
}

impl Holds<Supervisor> for Scope {}
impl Holds<PluginHost> for Scope {}
impl Holds<Waits> for Scope {}
impl Holds<Life> for Scope {}
impl House for Scope {
    fn room(&mut self, which: TypeId) -> Option<&mut dyn Any> {
        let is = |room: TypeId| which == room;
        Some(match () {
            () if is(TypeId::of::<Supervisor>()) => &mut self.supervisor as &mut dyn Any,
            () if is(TypeId::of::<PluginHost>()) => &mut self.plugins,
            () if is(TypeId::of::<Waits>()) => &mut self.waits,
            () if is(TypeId::of::<Life>()) => &mut self.life,
            () => return None,
        })
    }
}
