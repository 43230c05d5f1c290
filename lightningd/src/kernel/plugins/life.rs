//! The life of a plugin: its manifest is asked for, it is told to begin, it ends.

use crate::kernel::plugins::calls::call;
use crate::kernel::plugins::manifest::Manifest;
use crate::kernel::plugins::{CallFor, Plugin};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::Stage;
use crate::kernel::{PluginHost, Scope};
use crate::sys::children::PluginId;
use crate::sys::fatal::{Fatal, Stop};
use crate::sys::form::{RpcError, code};
use primitives::feature::{self, Context};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// CLN's: a plugin has so long for its manifest, and again for its init.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Asks a plugin for its manifest: the first thing said to it.
pub fn ask_manifest(node: &Scope, turn: &mut Turn<'_>, plugin: PluginId) {
    let params = json!({"allow-deprecated-apis": node.config.options.allow_deprecated_apis});
    call(node, turn, plugin, "getmanifest", &params, CallFor::Manifest);
    turn.at(Instant::now() + ANSWER_WITHIN, Event::PluginDue(plugin, Stage::AwaitingManifest));
}

/// A plugin that still is at this stage hangs: nobody waits for it any longer.
pub fn due(node: &Scope, turn: &mut Turn<'_>, id: PluginId, stage: &Stage) {
    if node.plugins.plugins.get(&id).is_some_and(|p| p.stage == *stage) {
        let asked = if *stage == Stage::AwaitingInit { "init" } else { "getmanifest" };
        let why = format!("did not answer {asked} within {} seconds", ANSWER_WITHIN.as_secs());
        turn.say(Outgoing::KillPlugin { plugin: id, why });
    }
}

/// Every first plugin has shown its manifest: options can be judged, and work begins.
pub fn init_all(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    node.config.check_all_known(&node.plugins.options())?;
    for (id, plugin) in node.plugins.plugins.iter().filter(|(_, p)| p.stage == Stage::HasManifest) {
        send_init(node, turn, *id, plugin, true);
    }
    Ok(())
}

pub fn send_init(node: &Scope, turn: &mut Turn<'_>, id: PluginId, plugin: &Plugin, startup: bool) {
    let options = crate::kernel::plugins::life::option_values(node, &plugin.manifest);
    let params = json!({
        "options": options,
        "configuration": {
            "lightning-dir": node.config.network_dir().display().to_string(),
            "rpc-file": node.rpc_file(),
            "startup": startup,
            "network": node.network.name(),
            "feature_set": {
                "init": node.features.to_string(),
                "node": feature::ours(Context::Node).to_string(),
                "channel": feature::ours(Context::Channel).to_string(),
                "invoice": node.invoice_features.to_string(),
            },
        },
    });
    call(node, turn, id, "init", &params, CallFor::Init);
    turn.at(Instant::now() + ANSWER_WITHIN, Event::PluginDue(id, Stage::AwaitingInit));
    turn.install(node, move |plugins: &mut PluginHost| {
        if let Some(p) = plugins.plugins.get_mut(&id) {
            p.stage = Stage::AwaitingInit;
        }
    });
}

pub fn init_answered(
    node: &Scope,
    turn: &mut Turn<'_>,
    id: PluginId,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let Some(plugin) = node.plugins.plugins.get(&id) else { return Ok(()) };
    let disabled = result.as_ref().ok().and_then(|r| r.get("disable")).and_then(Value::as_str);
    if let Err(e) = &result {
        turn.say(Outgoing::KillPlugin { plugin: id, why: format!("refused init: {}", e.message) });
        return Ok(());
    }
    if let Some(reason) = disabled {
        log::info!("plugin {} disabled itself: {reason}", plugin.name());
        turn.say(Outgoing::KillPlugin { plugin: id, why: format!("disabled itself: {reason}") });
    }
    turn.install(node, move |plugins: &mut PluginHost| {
        if let Some(p) = plugins.plugins.get_mut(&id) {
            p.stage = Stage::Active;
        }
    });
    if let Some(caller) = plugin.starter.clone() {
        turn.reply(caller, Ok(crate::kernel::plugins::view::list_after(node, "start", Some(id))));
    }
    let others_wait = node
        .plugins
        .plugins
        .iter()
        .any(|(i, p)| *i != id && p.at_startup && p.stage != Stage::Active);
    if !others_wait && !node.plugins.started {
        turn.install(node, |plugins: &mut PluginHost| plugins.started = true);
        turn.also(Event::PluginsReady);
    }
    Ok(())
}

/// A plugin's stdout ended.
pub fn gone(node: &Scope, turn: &mut Turn<'_>, id: PluginId, why: &str) -> Result<(), Stop> {
    let Some(plugin) = node.plugins.plugins.get(&id) else { return Ok(()) };
    let text = format!("plugin {} ended: {why}", plugin.name());
    if plugin.important && !node.life.shutting_down {
        return Err(Fatal(format!(
            "{text}. Plugin marked as important, shutting down lightningd!"
        ))
        .into());
    }
    log::info!("{text}");
    for call in node.plugins.calls.values().filter(|c| c.plugin == id) {
        let died = RpcError::new(
            code::PLUGIN_TERMINATED,
            "Plugin terminated before replying to RPC call.",
        );
        match &call.purpose {
            CallFor::Rpc(caller) => turn.reply(caller.clone(), Err(died)),
            CallFor::Backend(purpose) => turn.also(Event::Backend(purpose.clone(), Err(died))),
            CallFor::Hook(point) => turn.also(Event::HookAnswered(*point, id, None)),
            CallFor::Manifest | CallFor::Init => {}
        }
    }
    if let Some(caller) = plugin.starter.clone().filter(|_| plugin.stage != Stage::Active) {
        turn.reply(caller, Err(RpcError::new(code::PLUGIN_ERROR, text)));
    }
    let blocked_start = plugin.at_startup && !node.plugins.started;
    turn.install(node, move |plugins: &mut PluginHost| {
        plugins.plugins.remove(&id);
        plugins.calls.retain(|_, c| c.plugin != id);
    });
    if blocked_start {
        turn.also(Event::PluginsChanged);
    }
    Ok(())
}

/// At start, after one of the first plugins fell: are the rest ready for the next step?
pub fn continue_start(node: &Scope, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if node.plugins.started {
        return Ok(());
    }
    let first: Vec<_> = node.plugins.plugins.values().filter(|p| p.at_startup).collect();
    if first.iter().all(|p| p.stage == Stage::HasManifest) {
        init_all(node, turn)?;
    } else if first.iter().all(|p| p.stage == Stage::Active) {
        turn.install(node, |plugins: &mut PluginHost| plugins.started = true);
        turn.also(Event::PluginsReady);
    }
    Ok(())
}

/// The manifest that a plugin answered. `Err` says why the plugin is ended instead.
fn accepted(
    node: &Scope,
    turn: &mut Turn<'_>,
    id: PluginId,
    result: Result<Value, RpcError>,
) -> Result<Manifest, String> {
    let value = result.map_err(|e| format!("refused getmanifest: {}", e.message))?;
    if let Some(reason) = value.get("disable").and_then(Value::as_str) {
        turn.install(node, move |plugins: &mut PluginHost| {
            if let Some(p) = plugins.plugins.get_mut(&id) {
                p.important = false;
            }
        });
        return Err(format!("disabled itself: {reason}"));
    }
    let manifest = Manifest::parse(&value, &node.plugins.own_hooks)
        .map_err(|e| format!("its manifest is wrong: {e}"))?;
    let clash = manifest.methods.iter().find(|m| {
        node.plugins.own_methods.contains(&m.name.as_str())
            || node.plugins.owner_of(&m.name).is_some_and(|(owner, _)| owner != id)
    });
    match clash {
        Some(clash) => Err(format!("method {} exists already", clash.name)),
        None => Ok(manifest),
    }
}

pub(super) fn answered(
    node: &Scope,
    turn: &mut Turn<'_>,
    id: PluginId,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let Some(plugin) = node.plugins.plugins.get(&id) else { return Ok(()) };
    let name = plugin.name();
    let kill = |turn: &mut Turn<'_>, why: String| {
        log::warn!("plugin {name}: {why}");
        turn.say(Outgoing::KillPlugin { plugin: id, why });
    };
    let manifest = match accepted(node, turn, id, result) {
        Ok(manifest) => manifest,
        Err(why) => {
            kill(turn, why);
            return Ok(());
        }
    };
    let at_startup = plugin.at_startup;
    let mut with = plugin.clone();
    with.manifest = manifest;
    with.stage = Stage::HasManifest;
    if let Some(hook) = conflicting_hook(node, id, &with) {
        kill(turn, format!("no order of plugins at hook {hook} fits its 'before' and 'after'"));
        return Ok(());
    }
    if at_startup {
        turn.install(node, move |plugins: &mut PluginHost| plugins.born(id, with));
        turn.also(Event::PluginsChanged);
    } else {
        send_init(node, turn, id, &with, false);
        turn.install(node, move |plugins: &mut PluginHost| {
            let mut with = with;
            with.stage = Stage::AwaitingInit;
            plugins.born(id, with);
        });
    }
    Ok(())
}

/// What `init` tells a plugin of its options: real JSON types, what is unset and has no default
/// left out.
pub(super) fn option_values(node: &Scope, manifest: &Manifest) -> Value {
    let mut out = Map::new();
    for option in &manifest.options {
        let said = node.config.of_plugin(&option.name);
        let typed = |text: Option<&str>| match option.kind.as_str() {
            "flag" => json!(true),
            "bool" => json!(text.is_none_or(|t| t == "true" || t == "1")),
            "int" => text.and_then(|t| t.parse::<i64>().ok()).map_or(Value::Null, |n| json!(n)),
            _ => json!(text.unwrap_or_default()),
        };
        let value = if said.is_empty() {
            match &option.default {
                Some(default) if option.kind != "flag" => {
                    if option.multi && !default.is_array() {
                        Some(json!([default]))
                    } else {
                        Some(default.clone())
                    }
                }
                _ => None,
            }
        } else if option.multi {
            Some(said.iter().map(|s| typed(s.value.as_deref())).collect())
        } else {
            said.last().map(|s| typed(s.value.as_deref()))
        };
        if let Some(value) = value {
            out.insert(option.name.clone(), value);
        }
    }
    Value::Object(out)
}

/// The `plugin` command stops a plugin: even an important one does not take the node with it.
pub fn stop(node: &Scope, turn: &mut Turn<'_>, id: PluginId) {
    turn.install(node, move |plugins: &mut PluginHost| {
        if let Some(p) = plugins.plugins.get_mut(&id) {
            p.important = false;
        }
    });
    turn.say(Outgoing::KillPlugin { plugin: id, why: "stopped by the plugin command".to_owned() });
}

/// A hook at which no order of plugins would fit, if this one were among them.
fn conflicting_hook(node: &Scope, id: PluginId, plugin: &Plugin) -> Option<String> {
    let mut with = PluginHost::default();
    with.plugins.clone_from(&node.plugins.plugins);
    with.plugins.insert(id, plugin.clone());
    plugin.manifest.hooks.iter().find(|h| with.conflicts(&h.name)).map(|h| h.name.clone())
}
