//! What a plugin says it is: `getmanifest`.

use serde_json::Value;

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

pub fn text(value: &Value, name: &str) -> Result<String, String> {
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
