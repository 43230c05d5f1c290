//! What plugins write, sorted: answers to calls, and notifications.

use crate::kernel::plugins::life::init_answered;
use crate::kernel::plugins::{CallFor, Plugin, life};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::{PluginHost, Scope};
use crate::sys::children::{PluginId, PluginMessage};
use crate::sys::fatal::Stop;
use crate::sys::form::{RpcError, code};
use crate::sys::log::line_of::Speaker;
use serde_json::Value;
use wire::daemon::LogLevel;

/// A plugin wrote something.
pub fn heard(
    node: &Scope,
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
    turn.install(node, move |plugins: &mut PluginHost| {
        plugins.calls.remove(&key);
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
    node: &Scope,
    turn: &mut Turn<'_>,
    id: PluginId,
    purpose: CallFor,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    match purpose {
        CallFor::Rpc(caller) => turn.reply(caller, result),
        CallFor::Backend(purpose) => turn.also(Event::Backend(purpose, result)),
        CallFor::Hook(point) => turn.also(Event::HookAnswered(point, id, Some(result))),
        CallFor::Manifest => life::answered(node, turn, id, result)?,
        CallFor::Init => init_answered(node, turn, id, result)?,
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
