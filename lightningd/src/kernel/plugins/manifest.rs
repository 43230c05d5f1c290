//! What a plugin says it is: `getmanifest`.

use serde_json::Value;
use std::collections::BTreeSet;

/// One of `options` in a manifest: it may be given on our command line.
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

/// One of `rpcmethods` in a manifest: calls of it go to the plugin.
#[derive(Debug, Clone)]
pub struct PluginMethod {
    /// As callers write it.
    pub name: String,
    /// Its parameters, for `help`.
    pub usage: String,
}

/// A hook that a plugin wants to be asked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookUse {
    /// CLN's name of the hook.
    pub name: String,
    /// Names of plugins that are to be asked after this one.
    pub before: Vec<String>,
    /// Names of plugins that are to be asked before this one.
    pub after: Vec<String>,
}

/// Hooks that plugins of CLN use and that are not there yet: such a plugin runs, and is not asked.
const HOOKS_TO_COME: [&str; 14] = [
    "commitment_revocation",
    "custommsg",
    "db_write",
    "invoice_payment",
    "onion_message_recv",
    "onion_message_recv_secret",
    "openchannel",
    "openchannel2",
    "openchannel2_changed",
    "openchannel2_sign",
    "peer_connected",
    "rbf_channel",
    "recover",
    "rpc_command",
];

/// All of it that we use.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// What it adds to our command line.
    pub options: Vec<PluginOption>,
    /// What it adds to our RPC.
    pub methods: Vec<PluginMethod>,
    /// Hooks that it wants to be asked at.
    pub hooks: Vec<HookUse>,
    /// Topics that it wants to hear of; `*` for all.
    pub subscriptions: Vec<String>,
    /// Can be started and stopped at run time.
    pub dynamic: bool,
}

pub fn text(value: &Value, name: &str) -> Result<String, String> {
    value
        .get(name)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("'{name}' is missing or no string"))
}

impl HookUse {
    /// Reads a hook: its name, or an object with it and the plugins that come before and after.
    fn parse(value: &Value) -> Result<Self, String> {
        let names = |member: &str| -> Vec<String> {
            let all = value.get(member).and_then(Value::as_array).into_iter().flatten();
            all.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let name = match value.as_str() {
            Some(name) => name.to_owned(),
            None => text(value, "name")?,
        };
        Ok(Self { name, before: names("before"), after: names("after") })
    }
}

impl Manifest {
    /// Reads it; what is wrong ends the plugin.
    pub fn parse(value: &Value, hooks: &BTreeSet<&'static str>) -> Result<Self, String> {
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
            let wanted = HookUse::parse(&hook)?;
            if hooks.contains(wanted.name.as_str()) {
                manifest.hooks.push(wanted);
            } else if HOOKS_TO_COME.contains(&wanted.name.as_str()) {
                log::warn!("hook {} is not there yet: the plugin will not be asked", wanted.name);
            } else {
                return Err(format!("hook '{}' does not exist", wanted.name));
            }
        }
        for topic in list("subscriptions").unwrap_or_default() {
            let topic = topic.as_str().ok_or("a subscription is no string")?;
            manifest.subscriptions.push(topic.to_owned());
        }
        Ok(manifest)
    }
}
