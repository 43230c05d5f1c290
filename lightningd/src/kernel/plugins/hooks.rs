//! Which plugins are asked at a hook, in which order, and calls to them.

use crate::kernel::Scope;
use crate::kernel::plugins::calls::call;
use crate::kernel::plugins::{CallFor, OpenHook, PluginHost};
use crate::kernel::turn::Turn;
use crate::kernel::words::hooks::HookPoint;
use crate::kernel::words::rooms::Stage;
use crate::sys::children::PluginId;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

impl PluginHost {
    /// The plugins at work that are asked at this hook, in the order of their `before` and `after`,
    /// else in that of their start. Plugins whose constraints contradict each other come last:
    /// `conflicts` refuses such a plugin at its start.
    pub fn hooked(&self, hook: &str) -> Vec<PluginId> {
        let (order, cyclic) = self.hook_order(hook, |stage| *stage == Stage::Active);
        order.into_iter().chain(cyclic).collect()
    }

    /// Do `before` and `after` of the plugins at this hook contradict each other?
    pub fn conflicts(&self, hook: &str) -> bool {
        !self.hook_order(hook, |_| true).1.is_empty()
    }

    /// Those in order, and those that no order fits.
    fn hook_order(
        &self,
        hook: &str,
        is: impl Fn(&Stage) -> bool,
    ) -> (Vec<PluginId>, Vec<PluginId>) {
        let mut earlier: BTreeMap<PluginId, BTreeSet<PluginId>> = BTreeMap::new();
        let mut uses = Vec::new();
        for (id, plugin) in self.plugins.iter().filter(|(_, p)| is(&p.stage)) {
            if let Some(wanted) = plugin.manifest.hooks.iter().find(|h| h.name == hook) {
                earlier.insert(*id, BTreeSet::new());
                uses.push((*id, plugin.name(), wanted));
            }
        }
        for (id, _, wanted) in &uses {
            for (other, name, _) in uses.iter().filter(|(other, ..)| other != id) {
                // A name of a plugin may be written without the end of its file's.
                let names = |list: &[String]| {
                    list.iter().any(|n| n == name || name.split('.').next() == Some(n.as_str()))
                };
                if names(&wanted.before) {
                    earlier.entry(*other).or_default().insert(*id);
                }
                if names(&wanted.after) {
                    earlier.entry(*id).or_default().insert(*other);
                }
            }
        }
        let mut order = Vec::new();
        while let Some(next) = earlier.iter().find(|(_, e)| e.is_empty()).map(|(id, _)| *id) {
            earlier.remove(&next);
            earlier.values_mut().for_each(|e| _ = e.remove(&next));
            order.push(next);
        }
        (order, earlier.into_keys().collect())
    }
}

/// Asks the first of these plugins about a hook point; the rest are asked after it.
pub fn ask(
    node: &Scope,
    turn: &mut Turn<'_>,
    point: HookPoint,
    (hook, params): (&str, &Value),
    open: OpenHook,
) {
    call(node, turn, open.plugin, hook, params, CallFor::Hook(point));
    turn.install(node, move |plugins: &mut PluginHost| _ = plugins.open_hooks.insert(point, open));
}

/// A hook point is decided: an answer that still comes counts no more.
pub fn close(node: &Scope, turn: &mut Turn<'_>, point: HookPoint) {
    turn.install(node, move |plugins: &mut PluginHost| _ = plugins.open_hooks.remove(&point));
}
