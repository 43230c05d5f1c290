//! Plugins as JSON: what `plugin` answers.

use crate::kernel::Scope;
use crate::kernel::plugins::Plugin;
use crate::kernel::words::rooms::Stage;
use crate::sys::children::PluginId;
use serde_json::{Value, json};

fn list(node: &Scope, extra: Option<(PluginId, &Plugin)>) -> Value {
    let mut all: Vec<_> = node.plugins.plugins.iter().map(|(id, p)| (*id, p)).collect();
    if let Some((id, plugin)) = extra.filter(|(id, _)| !node.plugins.plugins.contains_key(id)) {
        all.push((id, plugin));
    }
    all.iter()
        .map(|(id, p)| {
            let active = p.stage == Stage::Active || extra.is_some_and(|(e, _)| e == *id);
            json!({"name": p.path.display().to_string(), "active": active, "dynamic": p.manifest.dynamic})
        })
        .collect()
}

pub fn list_after(node: &Scope, command: &str, now_active: Option<PluginId>) -> Value {
    let extra = now_active.and_then(|id| node.plugins.plugins.get(&id).map(|p| (id, p)));
    json!({"command": command, "plugins": list(node, extra)})
}
