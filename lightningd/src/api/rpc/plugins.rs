//! `plugin`, and calls that a plugin answers.

use crate::kernel::plugins::calls::send_call;
use crate::kernel::plugins::view::list_after;
use crate::kernel::plugins::{CallFor, life};
use crate::kernel::turn::Turn;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::Stage;
use crate::node::Node;
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, RpcRequest, code};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Passes a request on to the plugin whose method it is: the client's bytes with another id.
pub fn forward(
    node: &Node,
    turn: &mut Turn<'_>,
    caller: Caller,
    request: &RpcRequest,
) -> Result<(), Stop> {
    let Some((id, plugin)) = node.plugins.owner_of(&request.method) else {
        return Err(RpcError::new(
            code::METHOD_NOT_FOUND,
            format!("Unknown command '{}'", request.method),
        )
        .into());
    };
    if plugin.stage != Stage::Active {
        return Err(RpcError::new(
            code::PLUGIN_ERROR,
            format!("plugin {} is not ready yet", plugin.name()),
        )
        .into());
    }
    let plain = caller.id.trim_matches('"');
    let prefix = if plain.contains(['"', '\\']) { "weird-id" } else { plain };
    let call = node.plugins.call_id(Some(prefix), &request.method);
    let mut members: Map<String, Value> = serde_json::from_str(&request.raw)
        .map_err(|e| RpcError::new(code::INVALID_REQUEST, e.to_string()))?;
    members.insert("id".to_owned(), json!(call));
    send_call(turn, id, call, Value::Object(members).to_string(), CallFor::Rpc(caller));
    Ok(())
}

/// `plugin start|stop|startdir|rescan|list`.
pub fn plugin(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let subcommand = args.need_text("subcommand")?;
    match subcommand.as_str() {
        "list" | "rescan" => Ok(Answer::Now(list_after(node, &subcommand, None))),
        "stop" => stop(node, turn, &args.need_text("plugin")?),
        "start" => {
            let given = args.need_text("plugin")?;
            let path = if given.contains('/') {
                PathBuf::from(&given)
            } else {
                node.config.base().join("plugins").join(&given)
            };
            if !path.is_file() {
                return Err(RpcError::params(format!("{}: no such plugin", path.display())).into());
            }
            turn.say(Outgoing::StartPlugin { path, starter: Some(caller.clone()) });
            Ok(Answer::Later)
        }
        "startdir" => {
            let dir = args
                .text("directory")
                .or_else(|| args.text("plugin"))
                .ok_or_else(|| RpcError::params("missing required parameter: directory"))?;
            for path in crate::sys::files::plugins_in(std::path::Path::new(&dir))
                .map_err(|e| RpcError::params(e.0))?
            {
                turn.say(Outgoing::StartPlugin { path, starter: None });
            }
            Ok(Answer::Now(list_after(node, "startdir", None)))
        }
        other => Err(RpcError::params(format!(
            "subcommand: '{other}' is none of start, stop, startdir, rescan, list"
        ))
        .into()),
    }
}

fn stop(node: &Node, turn: &mut Turn<'_>, name: &str) -> Result<Answer, Stop> {
    let found = node
        .plugins
        .plugins
        .iter()
        .find(|(_, p)| p.name() == name || p.path.display().to_string() == name);
    let Some((id, plugin)) = found else {
        return Err(RpcError::params(format!("Could not find plugin {name}")).into());
    };
    if !plugin.manifest.dynamic {
        return Err(RpcError::params(format!(
            "plugin {name} cannot be managed when lightningd is up"
        ))
        .into());
    }
    life::stop(node, turn, *id);
    let text = format!("Successfully stopped {}.", plugin.name());
    Ok(Answer::Now(json!({"command": "stop", "result": text})))
}
