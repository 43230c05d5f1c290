//! `help` and `check`: answered from the table of methods.

use crate::api::rpc::table;
use crate::node::Node;
use crate::sys::args::{Args, Param};
use crate::sys::form::{RpcError, code};
use serde_json::{Map, Value, json};

/// A method's parameters, as `help` shows them.
fn usage(name: &str, params: &[Param]) -> String {
    let list: Vec<String> = params
        .iter()
        .map(|p| if p.required { p.name.to_owned() } else { format!("[{}]", p.name) })
        .collect();
    format!("{name} {}", list.join(" ")).trim_end().to_owned()
}

/// `help [command]`.
pub fn help(node: &Node, args: &Args) -> Result<Value, RpcError> {
    let mut all: Vec<(String, String)> =
        table::METHODS.iter().map(|m| (m.name.to_owned(), usage(m.name, m.params))).collect();
    for plugin in node.plugins.plugins.values() {
        let own = plugin.manifest.methods.iter();
        all.extend(
            own.map(|m| (m.name.clone(), format!("{} {}", m.name, m.usage).trim_end().to_owned())),
        );
    }
    all.sort();
    if let Some(command) = args.text("command") {
        all.retain(|(name, _)| *name == command);
        if all.is_empty() {
            return Err(RpcError::new(
                code::METHOD_NOT_FOUND,
                format!("Unknown command '{command}'"),
            ));
        }
    }
    let list: Vec<Value> = all.into_iter().map(|(_, usage)| json!({"command": usage})).collect();
    Ok(json!({"help": list, "format-hint": "simple"}))
}

/// The parameters of `check` are those of the command it checks: it is handled before they are
/// matched.
pub fn check(node: &Node, params: &Value) -> Result<Value, RpcError> {
    let (command, rest) = match params {
        Value::Array(items) => {
            let name = items.first().and_then(Value::as_str).map(str::to_owned);
            (name, Value::Array(items.iter().skip(1).cloned().collect()))
        }
        Value::Object(members) => {
            let name = members.get("command_to_check").and_then(Value::as_str).map(str::to_owned);
            let rest: Map<String, Value> = members
                .iter()
                .filter(|(k, _)| *k != "command_to_check")
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            (name, Value::Object(rest))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (None, Value::Null),
    };
    let command =
        command.ok_or_else(|| RpcError::params("missing required parameter: command_to_check"))?;
    match table::find(&command) {
        Some(method) if method.developer && !node.config.developer() => {
            return Err(RpcError::new(
                code::METHOD_NOT_FOUND,
                format!("Command \"{command}\" is developer-only"),
            ));
        }
        Some(method) => drop(Args::parse(method.params, &rest)?),
        // A plugin that does not say it can check is believed.
        None if node.plugins.owner_of(&command).is_some() => {}
        None => {
            return Err(RpcError::new(
                code::METHOD_NOT_FOUND,
                format!("Unknown command '{command}'"),
            ));
        }
    }
    Ok(json!({"command_to_check": command}))
}
