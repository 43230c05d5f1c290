//! Calls to plugins.

use crate::kernel::plugins::backend::Question;
use crate::kernel::plugins::{Call, CallFor};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::Purpose;
use crate::kernel::{PluginHost, Scope};
use crate::sys::children::PluginId;
use crate::sys::form::{RpcError, code};
use serde_json::{Value, json};

pub fn call(
    node: &Scope,
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
    turn.install_as::<Scope, _>(move |plugins: &mut PluginHost| {
        plugins.calls.insert(id, Call { plugin, purpose });
    });
}

/// Asks the backend.
pub fn call_backend(node: &Scope, turn: &mut Turn<'_>, question: &Question<'_>, purpose: Purpose) {
    let method = question.method();
    match node.plugins.owner_of(method) {
        Some((plugin, _)) => {
            let params = question.params();
            call(node, turn, plugin, method, &params, CallFor::Backend(purpose));
        }
        None => {
            let error =
                RpcError::new(code::PLUGIN_TERMINATED, format!("no plugin answers {method}"));
            turn.also(Event::Backend(purpose, Err(error)));
        }
    }
}
