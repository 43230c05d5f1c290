//! Hooks: plugins decide between two events, one plugin after the other. A flow comes to a hook
//! point by [`ask`] and goes on at `Event::Decided`, with a plugin or without one; its second half
//! checks everything again.

pub mod htlc_accepted;
pub mod reading;
pub mod table;

use crate::kernel::plugins::{OpenHook, hooks};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::hooks::HookPoint;
use crate::node::Node;
use crate::sys::children::PluginId;
use crate::sys::form::RpcError;
use reading::Reading;
use serde_json::Value;
use table::{Hook, of};

/// A flow reached this point. A point that a plugin is being asked about already waits for that
/// answer.
pub fn ask(node: &Node, turn: &mut Turn<'_>, point: HookPoint) {
    if !node.plugins.open_hooks.contains_key(&point) {
        let hook = of(point);
        ask_next(node, turn, (point, hook), node.plugins.hooked(hook.name), None);
    }
}

/// Asks the first of these plugins; where none is left, what was asked goes on.
fn ask_next(
    node: &Node,
    turn: &mut Turn<'_>,
    (point, hook): (HookPoint, &Hook),
    mut plugins: Vec<PluginId>,
    changed: Option<Vec<u8>>,
) {
    if plugins.is_empty() {
        hooks::close(node, turn, point);
        turn.also(Event::Decided((hook.go_on)(point, changed)));
        return;
    }
    // Its subject may be gone.
    let Some(params) = (hook.question)(node, point, changed.as_deref()) else {
        hooks::close(node, turn, point);
        return;
    };
    let plugin = plugins.remove(0);
    hooks::ask(
        node,
        turn,
        point,
        (hook.name, &params),
        OpenHook { plugin, rest: plugins, changed },
    );
}

/// A plugin answered, or (`None`) ended without an answer: then it counts as if it had said
/// `continue`.
pub fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    point: HookPoint,
    plugin: PluginId,
    answer: Option<Result<Value, RpcError>>,
) {
    let Some(open) = node.plugins.open_hooks.get(&point).filter(|open| open.plugin == plugin)
    else {
        return;
    };
    let hook = of(point);
    let rest = open.rest.iter().copied().filter(|id| node.plugins.plugins.contains_key(id));
    let rest: Vec<PluginId> = rest.collect();
    let reading = match answer {
        None => Reading::Continue(None),
        Some(Ok(answer)) => (hook.read)(point, &answer),
        Some(Err(e)) => Reading::Nonsense(format!("error {}: {}", e.code, e.message)),
    };
    match reading {
        Reading::Continue(changed) => {
            let changed = changed.or_else(|| open.changed.clone());
            ask_next(node, turn, (point, hook), rest, changed);
        }
        Reading::Decided(verdict) => {
            hooks::close(node, turn, point);
            turn.also(Event::Decided(verdict));
        }
        Reading::Nonsense(why) => {
            let name = node.plugins.plugins.get(&plugin).map(|p| p.name()).unwrap_or_default();
            log::error!("plugin {name} answered hook {} with nonsense: {why}", hook.name);
            hooks::close(node, turn, point);
            turn.also(Event::Decided((hook.default)(point)));
        }
    }
}
