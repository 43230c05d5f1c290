//! What a plugin says it is: `getmanifest`.

use crate::kernel::plugins::send_init;
use crate::kernel::turn::{Stop, Turn};
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::Stage;
use crate::node::Node;
use crate::sys::children::PluginId;
use crate::sys::form::RpcError;
use serde_json::{Map, Value, json};

/// An option of a plugin.
#[derive(Debug, Clone)]
pub struct PluginOption {
    /// Without dashes.
    pub name: String,
    /// string, string-conceal, int, bool or flag.
    pub kind: String,
    /// If it is not given.
    pub default: Option<Value>,
    /// May be given more than once.
    pub multi: bool,
}

/// A method of a plugin.
#[derive(Debug, Clone)]
pub struct PluginMethod {
    /// As callers write it.
    pub name: String,
    /// Its parameters, for `help`.
    pub usage: String,
}

/// All of it that we use.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// Options.
    pub options: Vec<PluginOption>,
    /// Methods.
    pub methods: Vec<PluginMethod>,
    /// Can be started and stopped at run time.
    pub dynamic: bool,
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    value
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("'{name}' is missing or no string"))
}

impl Manifest {
    /// Reads it; what is wrong ends the plugin.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let list = |name: &str| value.get(name).and_then(Value::as_array).cloned();
        let mut manifest = Self {
            dynamic: value.get("dynamic").and_then(Value::as_bool).unwrap_or(false),
            ..Self::default()
        };
        for option in list("options").unwrap_or_default() {
            let name = text(&option, "name")?;
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
            {
                return Err(format!("option name '{name}' has characters other than 0-9a-z_-"));
            }
            let kind = text(&option, "type")?;
            if !matches!(kind.as_str(), "string" | "string-conceal" | "int" | "bool" | "flag") {
                return Err(format!("option {name} has the unknown type '{kind}'"));
            }
            let flag = |f: &str| option.get(f).and_then(Value::as_bool).unwrap_or(false);
            let default = option.get("default").filter(|v| !v.is_null()).cloned();
            manifest.options.push(PluginOption { name, kind, default, multi: flag("multi") });
        }
        for method in list("rpcmethods").ok_or("'rpcmethods' is missing")? {
            let (name, usage) = (text(&method, "name")?, text(&method, "usage")?);
            manifest.methods.push(PluginMethod { name, usage });
        }
        for hook in list("hooks").unwrap_or_default() {
            let name = hook.as_str().map(str::to_owned).or_else(|| text(&hook, "name").ok());
            log::warn!(
                "hook {} is not there yet: the plugin will not be asked",
                name.as_deref().unwrap_or("?")
            );
        }
        Ok(manifest)
    }
}

pub(super) fn answered(
    node: &Node,
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
    let value = match result {
        Ok(value) => value,
        Err(e) => {
            kill(turn, format!("refused getmanifest: {}", e.message));
            return Ok(());
        }
    };
    if let Some(reason) = value.get("disable").and_then(Value::as_str) {
        turn.install(move |node| {
            if let Some(p) = node.plugins.plugins.get_mut(&id) {
                p.important = false;
            }
        });
        kill(turn, format!("disabled itself: {reason}"));
        return Ok(());
    }
    let manifest = match Manifest::parse(&value) {
        Ok(manifest) => manifest,
        Err(e) => {
            kill(turn, format!("its manifest is wrong: {e}"));
            return Ok(());
        }
    };
    let clash = manifest.methods.iter().find(|m| {
        crate::api::rpc::table::find(&m.name).is_some()
            || node.plugins.owner_of(&m.name).is_some_and(|(owner, _)| owner != id)
    });
    if let Some(clash) = clash {
        kill(turn, format!("method {} exists already", clash.name));
        return Ok(());
    }
    let at_startup = plugin.at_startup;
    let mut with = plugin.clone();
    with.manifest = manifest;
    with.stage = Stage::HasManifest;
    if at_startup {
        turn.install(move |node| node.plugins.born(id, with));
        turn.also(crate::kernel::words::event::Event::Chain(
            crate::kernel::words::rooms::ChainEvent::PluginsChanged,
        ));
    } else {
        send_init(node, turn, id, &with, false);
        turn.install(move |node| {
            let mut with = with;
            with.stage = Stage::AwaitingInit;
            node.plugins.born(id, with);
        });
    }
    Ok(())
}

/// What `init` tells a plugin of its options: real JSON types, what is unset and has no default left out.
pub(super) fn option_values(node: &Node, manifest: &Manifest) -> Value {
    let mut out = Map::new();
    for option in &manifest.options {
        let said = node.config.all(&option.name);
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
