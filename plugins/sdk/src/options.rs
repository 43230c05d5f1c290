//! A plugin's options: what it declares, and what lightningd gave.

use serde_json::{Map, Value, json};

/// The type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// Text.
    String,
    /// Text that `listconfigs` does not show.
    Secret,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// There or not.
    Flag,
}

/// One option, as `getmanifest` tells it.
#[derive(Debug, Clone, Copy)]
pub struct OptionSpec {
    /// Lower case, digits, `-` and `_`.
    pub name: &'static str,
    /// The type of its value.
    pub kind: OptionKind,
    /// Written as on a command line.
    pub default: Option<&'static str>,
    /// For `--help`.
    pub description: &'static str,
    /// Only with `--developer`.
    pub developer: bool,
}

impl OptionSpec {
    pub(crate) fn manifest(&self) -> Value {
        let kind = match self.kind {
            OptionKind::String => "string",
            OptionKind::Secret => "string-conceal",
            OptionKind::Int => "int",
            OptionKind::Bool => "bool",
            OptionKind::Flag => "flag",
        };
        let mut option =
            json!({ "name": self.name, "type": kind, "description": self.description });
        if let (Some(default), Some(members)) = (self.default, option.as_object_mut()) {
            let default = match self.kind {
                OptionKind::String | OptionKind::Secret => json!(default),
                OptionKind::Int => json!(default.parse::<i64>().unwrap_or_default()),
                OptionKind::Bool | OptionKind::Flag => json!(default == "true"),
            };
            members.insert("default".to_owned(), default);
        }
        option
    }
}

/// The options' values, known after `init`.
#[derive(Debug, Clone, Default)]
pub struct Options(Map<String, Value>);

impl Options {
    /// Checks what lightningd gave against what was declared, and fills in defaults.
    pub(crate) fn read(given: &Map<String, Value>, specs: &[OptionSpec]) -> Result<Self, String> {
        let mut values = Map::new();
        for spec in specs {
            let default = || spec.manifest().get("default").cloned();
            let Some(value) = given.get(spec.name).cloned().or_else(default) else { continue };
            let fits = match spec.kind {
                OptionKind::String | OptionKind::Secret => value.is_string(),
                OptionKind::Int => value.is_i64(),
                OptionKind::Bool | OptionKind::Flag => value.is_boolean(),
            };
            if !fits {
                return Err(format!("option {}: {value} is no {:?}", spec.name, spec.kind));
            }
            values.insert(spec.name.to_owned(), value);
        }
        Ok(Self(values))
    }
    /// A text, if it was given or has a default.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
    /// A number, if it was given or has a default.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.0.get(name)?.as_i64()
    }
    /// A flag or boolean; false if it was not given and has no default.
    pub fn bool(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
}
