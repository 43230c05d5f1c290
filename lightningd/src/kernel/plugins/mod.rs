//! Plugins: CLN's protocol over stdin/stdout. Here: manifest, init, options, methods, log; the backend is one of them.
//!
//! Like the supervisor in two halves: [`PluginHost`] is what the node knows, [`Kennel`] holds the processes.

pub mod manifest;

use crate::kernel::plugins::manifest::Manifest;
use crate::kernel::words::rooms::Stage;
use crate::sys::children::{PluginId, PluginMessage};
use crate::sys::form::code;

use crate::kernel::turn::{Stop, Turn};
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::Purpose;
use crate::node::Node;
use crate::sys::fatal::Fatal;
use crate::sys::form::{Caller, RpcError};
use crate::sys::log::Speaker;
use serde_json::{Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wire::daemon::LogLevel;

/// A plugin that lives.
#[derive(Debug, Clone)]
pub struct Plugin {
    /// Its executable.
    pub path: PathBuf,
    /// How far it is.
    pub stage: Stage,
    /// Does the node end with it?
    pub important: bool,
    /// What it said it is.
    pub manifest: Manifest,
    /// Who waits for `plugin start`.
    pub starter: Option<Caller>,
    /// Was it started with the node?
    pub at_startup: bool,
}

impl Plugin {
    /// Its short name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// What a call to a plugin is for.
#[derive(Debug, Clone)]
pub enum CallFor {
    /// Its manifest.
    Manifest,
    /// Its beginning.
    Init,
    /// A client of the socket.
    Rpc(Caller),
    /// The chain room.
    Backend(Purpose),
}

/// A call under way.
#[derive(Debug, Clone)]
pub struct Call {
    plugin: PluginId,
    purpose: CallFor,
}

/// What the node knows of its plugins.
#[derive(Debug, Default)]
pub struct PluginHost {
    next_plugin: Cell<PluginId>,
    next_call: Cell<u64>,
    /// Those that live.
    pub plugins: BTreeMap<PluginId, Plugin>,
    calls: BTreeMap<String, Call>,
    /// True once the first ones are at work.
    pub started: bool,
}

/// CLN's: a plugin has so long for its manifest, and again for its init.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The methods of a Bitcoin backend; each must be covered by exactly one plugin.
pub const BACKEND_METHODS: [&str; 5] =
    ["getchaininfo", "estimatefees", "getrawblockbyheight", "sendrawtransaction", "getutxout"];

impl PluginHost {
    /// A number nobody had.
    pub fn next_id(&self) -> PluginId {
        self.next_plugin.set(self.next_plugin.get() + 1);
        self.next_plugin.get()
    }
    /// The active plugin with this method.
    pub fn owner_of(&self, method: &str) -> Option<(PluginId, &Plugin)> {
        let owns = |p: &Plugin| p.manifest.methods.iter().any(|m| m.name == method);
        self.plugins.iter().find(|(_, p)| owns(p)).map(|(id, p)| (*id, p))
    }
    /// Is this option some plugin's?
    pub fn has_option(&self, name: &str) -> bool {
        self.plugins.values().any(|p| p.manifest.options.iter().any(|o| o.name == name))
    }
    pub fn call_id(&self, prefix: Option<&str>, method: &str) -> String {
        let n = self.next_call.get();
        self.next_call.set(n + 1);
        match prefix {
            Some(p) => format!("{p}/cln:{method}#{n}"),
            None => format!("cln:{method}#{n}"),
        }
    }
    /// A plugin was born.
    pub fn born(&mut self, id: PluginId, plugin: Plugin) {
        self.plugins.insert(id, plugin);
    }
}

/// Asks a plugin for its manifest: the first thing said to it.
pub fn ask_manifest(node: &Node, turn: &mut Turn<'_>, plugin: PluginId) {
    let params =
        json!({"allow-deprecated-apis": node.config.bool_or("allow-deprecated-apis", true)});
    call(node, turn, plugin, "getmanifest", &params, CallFor::Manifest);
    turn.at(Instant::now() + ANSWER_WITHIN, Event::PluginDue(plugin, Stage::AwaitingManifest));
}

/// A plugin that still is at this stage hangs: nobody waits for it any longer.
pub fn due(node: &Node, turn: &mut Turn<'_>, id: PluginId, stage: &Stage) {
    if node.plugins.plugins.get(&id).is_some_and(|p| p.stage == *stage) {
        let asked = if *stage == Stage::AwaitingInit { "init" } else { "getmanifest" };
        let why = format!("did not answer {asked} within {} seconds", ANSWER_WITHIN.as_secs());
        turn.say(Outgoing::KillPlugin { plugin: id, why });
    }
}

fn call(
    node: &Node,
    turn: &mut Turn<'_>,
    plugin: PluginId,
    method: &str,
    params: &Value,
    purpose: CallFor,
) {
    let id = node.plugins.call_id(None, method);
    let json = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string();
    send_call(turn, plugin, id, json, purpose);
}

pub fn send_call(
    turn: &mut Turn<'_>,
    plugin: PluginId,
    id: String,
    json: String,
    purpose: CallFor,
) {
    turn.say(Outgoing::ToPlugin { plugin, json });
    turn.install(move |node| {
        node.plugins.calls.insert(id, Call { plugin, purpose });
    });
}

/// Asks the backend.
pub fn call_backend(
    node: &Node,
    turn: &mut Turn<'_>,
    method: &str,
    params: &Value,
    purpose: Purpose,
) {
    match node.plugins.owner_of(method) {
        Some((plugin, _)) => call(node, turn, plugin, method, params, CallFor::Backend(purpose)),
        None => {
            let error =
                RpcError::new(code::PLUGIN_TERMINATED, format!("no plugin answers {method}"));
            turn.also(Event::Backend(purpose, Err(error)));
        }
    }
}

/// A plugin wrote something.
pub fn heard(
    node: &Node,
    turn: &mut Turn<'_>,
    id: PluginId,
    message: PluginMessage,
) -> Result<(), Stop> {
    let Some(plugin) = node.plugins.plugins.get(&id) else { return Ok(()) };
    if message.get("jsonrpc").is_none() {
        turn.say(Outgoing::KillPlugin {
            plugin: id,
            why: "wrote JSON that is no JSON-RPC 2.0".to_owned(),
        });
        return Ok(());
    }
    if message.get("method").is_some() && message.get("id").is_none() {
        notification(plugin, &message);
        return Ok(());
    }
    let Some(key) = message.get("id").and_then(Value::as_str) else {
        turn.say(Outgoing::KillPlugin {
            plugin: id,
            why: "answered with an id that is no string".to_owned(),
        });
        return Ok(());
    };
    let Some(call) = node.plugins.calls.get(key).filter(|c| c.plugin == id).cloned() else {
        log::debug!("{} answered '{key}', which nobody asked", plugin.name());
        return Ok(());
    };
    let key = key.to_owned();
    turn.install(move |node| {
        node.plugins.calls.remove(&key);
    });
    answered(node, turn, id, call.purpose, result_of(message))
}

/// The result or the error of a response.
fn result_of(mut message: Value) -> Result<Value, RpcError> {
    if let Some(error) = message.get("error") {
        return Err(RpcError {
            code: error.get("code").and_then(Value::as_i64).unwrap_or(code::PLUGIN_ERROR),
            message: error
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or("the plugin gave no reason")
                .to_owned(),
            data: error.get("data").cloned(),
        });
    }
    match message.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(RpcError::new(
            code::PLUGIN_ERROR,
            "the plugin's answer has neither result nor error",
        )),
    }
}

fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    id: PluginId,
    purpose: CallFor,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    match purpose {
        CallFor::Rpc(caller) => turn.reply(caller, result),
        CallFor::Backend(purpose) => turn.also(Event::Backend(purpose, result)),
        CallFor::Manifest => manifest::answered(node, turn, id, result)?,
        CallFor::Init => init_answered(node, turn, id, result)?,
    }
    Ok(())
}

/// Every first plugin has shown its manifest: options can be judged, and work begins.
pub fn init_all(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    node.config.check_all_known(|name| node.plugins.has_option(name))?;
    for (id, plugin) in node.plugins.plugins.iter().filter(|(_, p)| p.stage == Stage::HasManifest) {
        send_init(node, turn, *id, plugin, true);
    }
    Ok(())
}

fn send_init(node: &Node, turn: &mut Turn<'_>, id: PluginId, plugin: &Plugin, startup: bool) {
    let options = manifest::option_values(node, &plugin.manifest);
    let params = json!({
        "options": options,
        "configuration": {
            "lightning-dir": node.config.network_dir().display().to_string(),
            "rpc-file": node.rpc_file(),
            "startup": startup,
            "network": node.network.name(),
            "feature_set": {
                "init": node.features.to_string(),
                "node": node.features.to_string(),
                "channel": "",
                "invoice": node.invoice_features.to_string(),
            },
        },
    });
    call(node, turn, id, "init", &params, CallFor::Init);
    turn.at(Instant::now() + ANSWER_WITHIN, Event::PluginDue(id, Stage::AwaitingInit));
    turn.install(move |node| {
        if let Some(p) = node.plugins.plugins.get_mut(&id) {
            p.stage = Stage::AwaitingInit;
        }
    });
}

fn init_answered(
    node: &Node,
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
    turn.install(move |node| {
        if let Some(p) = node.plugins.plugins.get_mut(&id) {
            p.stage = Stage::Active;
        }
    });
    if let Some(caller) = plugin.starter.clone() {
        turn.reply(caller, Ok(crate::api::rpc::plugins::list_after(node, "start", Some(id))));
    }
    let others_wait = node
        .plugins
        .plugins
        .iter()
        .any(|(i, p)| *i != id && p.at_startup && p.stage != Stage::Active);
    if !others_wait && !node.plugins.started {
        turn.install(|node| node.plugins.started = true);
        turn.also(Event::Chain(crate::kernel::words::rooms::ChainEvent::Begin));
    }
    Ok(())
}

fn notification(plugin: &Plugin, message: &Value) {
    let method = message.get("method").and_then(Value::as_str).unwrap_or_default();
    if method != "log" {
        log::debug!("plugin {}: notification {method} has no listener", plugin.name());
        return;
    }
    let params = message.get("params");
    let field = |name: &str| params.and_then(|p| p.get(name)).and_then(Value::as_str);
    let level = match field("level").unwrap_or("info").to_lowercase().as_str() {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "unusual" | "warn" => LogLevel::Unusual,
        "broken" | "error" => LogLevel::Broken,
        _ => LogLevel::Info,
    };
    let source = format!("plugin-{}", plugin.name());
    let text = field("message").unwrap_or_default();
    crate::sys::log::line_of(Speaker::Plugin, level, None, &source, text);
}

/// A plugin's stdout ended.
pub fn gone(node: &Node, turn: &mut Turn<'_>, id: PluginId, why: &str) -> Result<(), Stop> {
    let Some(plugin) = node.plugins.plugins.get(&id) else { return Ok(()) };
    let text = format!("plugin {} ended: {why}", plugin.name());
    if plugin.important && !node.shutting_down {
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
            CallFor::Manifest | CallFor::Init => {}
        }
    }
    if let Some(caller) = plugin.starter.clone().filter(|_| plugin.stage != Stage::Active) {
        turn.reply(caller, Err(RpcError::new(code::PLUGIN_ERROR, text)));
    }
    let blocked_start = plugin.at_startup && !node.plugins.started;
    turn.install(move |node| {
        node.plugins.plugins.remove(&id);
        node.plugins.calls.retain(|_, c| c.plugin != id);
    });
    if blocked_start {
        turn.also(Event::Chain(crate::kernel::words::rooms::ChainEvent::PluginsChanged));
    }
    Ok(())
}

/// At start, after one of the first plugins fell: are the rest ready for the next step?
pub fn continue_start(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if node.plugins.started {
        return Ok(());
    }
    let first: Vec<_> = node.plugins.plugins.values().filter(|p| p.at_startup).collect();
    if first.iter().all(|p| p.stage == Stage::HasManifest) {
        init_all(node, turn)?;
    } else if first.iter().all(|p| p.stage == Stage::Active) {
        turn.install(|node| node.plugins.started = true);
        turn.also(Event::Chain(crate::kernel::words::rooms::ChainEvent::Begin));
    }
    Ok(())
}
