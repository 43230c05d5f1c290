//! `listconfigs`: every option that was set or has a default worth showing, and where it comes from.

use crate::kernel::plugins::manifest::PluginOption;
use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError};
use crate::sys::json::put;
use crate::sys::options::said::Said;
use crate::sys::options::table::{Kind, find as find_option};
use serde_json::{Map, Value, json};

/// `listconfigs [config]`.
pub fn listconfigs(node: &Node, _: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let only = args.text("config");
    let wanted = |name: &str| only.as_ref().is_none_or(|o| o == name);
    let mut configs = Map::new();
    for (name, said) in node.config.iter().filter(|(n, _)| wanted(n)) {
        if find_option(name).is_some() {
            configs.insert(name.clone(), ours(name, said));
        }
    }
    for plugin in node.plugins.plugins.values() {
        for option in plugin.manifest.options.iter().filter(|o| wanted(&o.name)) {
            if let Some(mut item) = of_plugin(option, node.config.all(&option.name)) {
                put(&mut item, "plugin", Some(plugin.path.display().to_string()));
                configs.insert(option.name.clone(), item);
            }
        }
    }
    for (name, value) in defaults(node) {
        if wanted(name) && !configs.contains_key(name) {
            let mut item = value;
            put(&mut item, "source", Some("default"));
            configs.insert(name.to_owned(), item);
        }
    }
    let known = |name: &str| find_option(name).is_some() || node.plugins.has_option(name);
    match only.filter(|o| configs.is_empty() && !known(o)) {
        Some(name) => {
            let text = format!("config: should be a name of a configuration, not '{name}'");
            Err(RpcError::params(text).into())
        }
        None => Ok(Answer::Now(json!({"configs": configs}))),
    }
}

fn ours(name: &str, said: &[Said]) -> Value {
    let spec = find_option(name);
    // CLN shows the last level alone, though it takes several.
    if name != "log-level" && spec.is_some_and(|s| s.multi) {
        let values: Vec<_> = said.iter().filter_map(|s| s.value.clone()).collect();
        let sources: Vec<_> = said.iter().map(|s| s.source.clone()).collect();
        return json!({"values_str": values, "sources": sources});
    }
    let Some(last) = said.last() else { return json!({}) };
    let text = last.value.clone().unwrap_or_default();
    let mut item = json!({});
    match spec.map_or(Kind::Text, |s| s.kind) {
        Kind::Flag => put(&mut item, "set", Some(true)),
        Kind::Bool => put(&mut item, "value_bool", Some(is_true(&text))),
        Kind::Int => put(&mut item, "value_int", text.parse::<i64>().ok()),
        Kind::Msat => {
            put(&mut item, "value_msat", primitives::Msat::parse(&text).ok().map(|m| m.0))
        }
        Kind::Text => put(&mut item, "value_str", Some(text)),
    }
    put(&mut item, "source", Some(last.source.clone()));
    item
}

fn is_true(text: &str) -> bool {
    text.is_empty() || text == "true" || text == "1"
}

/// CLN's names: `value_` or `values_` and the type; a flag is `set` or not. What was not set and has no default is not shown.
fn of_plugin(option: &PluginOption, said: &[Said]) -> Option<Value> {
    let kind = match option.kind.as_str() {
        "flag" => {
            let source = said.last().map_or_else(|| json!("default"), |s| json!(s.source));
            return Some(json!({"set": !said.is_empty(), "source": source}));
        }
        kind @ ("int" | "bool") => kind,
        _ => "str",
    };
    let typed = |s: &Said| {
        let text = s.value.as_deref().unwrap_or_default();
        match option.kind.as_str() {
            "int" => text.parse::<i64>().map_or(Value::Null, |n| json!(n)),
            "bool" => json!(is_true(text)),
            "string-conceal" => json!("..."),
            _ => json!(text),
        }
    };
    let default = option.default.clone();
    let mut item = json!({});
    if option.multi {
        let values: Vec<Value> = match default {
            _ if !said.is_empty() => said.iter().map(typed).collect(),
            Some(Value::Array(several)) => several,
            one => one.into_iter().collect(),
        };
        let sources: Vec<Value> = match said {
            [] => values.iter().map(|_| json!("default")).collect(),
            said => said.iter().map(|s| json!(s.source)).collect(),
        };
        put(&mut item, &format!("values_{kind}"), Some(values));
        put(&mut item, "sources", Some(sources));
    } else {
        put(&mut item, &format!("value_{kind}"), Some(said.last().map(typed).or(default)?));
        let source = said.last().map_or_else(|| json!("default"), |s| json!(s.source));
        put(&mut item, "source", Some(source));
    }
    Some(item)
}

fn defaults(node: &Node) -> Vec<(&'static str, Value)> {
    let [r, g, b] = node.rgb;
    vec![
        ("lightning-dir", json!({"value_str": node.config.base.display().to_string()})),
        ("network", json!({"value_str": node.network.name()})),
        ("rpc-file", json!({"value_str": "lightning-rpc"})),
        ("alias", json!({"value_str": node.alias})),
        ("rgb", json!({"value_str": format!("{r:02x}{g:02x}{b:02x}")})),
        ("wallet", json!({"value_str": "sqlite3://lightningd.sqlite3"})),
        ("allow-deprecated-apis", json!({"value_bool": !node.config.developer()})),
    ]
}
