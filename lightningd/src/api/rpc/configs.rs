//! `listconfigs`: every option with its value, and where it comes from.

use crate::kernel::plugins::manifest::PluginOption;
use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError};
use crate::sys::json::put;
use crate::sys::options::Listed;
use crate::sys::options::said::Said;
use crate::sys::options::takes::{Form, Shown};
use serde_json::{Map, Value, json};

/// `listconfigs [config]`.
pub fn listconfigs(node: &Node, _: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let only = args.text("config");
    match (list(node, only.as_deref()), only) {
        (Some(configs), _) => Ok(Answer::Now(json!({"configs": configs}))),
        (None, name) => {
            let name = name.unwrap_or_default();
            let text = format!("config: should be a name of a configuration, not '{name}'");
            Err(RpcError::params(text).into())
        }
    }
}

/// Every option, or one; `None` if there is none of that name.
fn list(node: &Node, only: Option<&str>) -> Option<Map<String, Value>> {
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let mut configs = Map::new();
    let mut known = false;
    for mut option in node.config.list().filter(|option| wanted(option.spec.name)) {
        known = true;
        add_decided(node, &mut option);
        if let Some(item) = of_ours(&option, node.config.developer()) {
            configs.insert(option.spec.name.to_owned(), item);
        }
    }
    for plugin in node.plugins.plugins.values() {
        for option in plugin.manifest.options.iter().filter(|o| wanted(&o.name)) {
            known = true;
            if let Some(mut item) = of_plugin(option, node.config.of_plugin(&option.name)) {
                put(&mut item, "plugin", Some(plugin.path.display().to_string()));
                configs.insert(option.name.clone(), item);
            }
        }
    }
    known.then_some(configs)
}

/// Defaults that the node's id or its directory decides.
fn add_decided(node: &Node, option: &mut Listed<'_>) {
    let [r, g, b] = node.rgb;
    let text = match option.spec.name {
        "alias" => node.alias.clone(),
        "rgb" => format!("{r:02x}{g:02x}{b:02x}"),
        "pid-file" => node.config.pid_file().display().to_string(),
        _ => return,
    };
    option.values = vec![Shown::Text(text)];
}

/// CLN's form: `value_` or `values_` and the type; a flag is `set` or not. `None` for what is not
/// shown: options without a value, those that end lightningd at once, and those that are for
/// developers, unless this node is one's.
fn of_ours(option: &Listed<'_>, developer: bool) -> Option<Value> {
    let Listed { spec, values, said } = option;
    if matches!(spec.name, "help" | "version") || (spec.developer && !developer) {
        return None;
    }
    let mut item = json!({});
    if spec.multi && !spec.shows_last {
        put(&mut item, "values_str", Some(values.iter().map(Shown::to_string).collect::<Vec<_>>()));
        let sources: Vec<_> = said.iter().map(|s| s.source.clone()).collect();
        put(&mut item, "sources", Some(sources));
    } else {
        let value = match values.last()? {
            Shown::Set(is) | Shown::Bool(is) => json!(is),
            Shown::Int(number) => json!(number),
            Shown::Msat(amount) => json!(amount),
            Shown::Text(text) => json!(text),
        };
        put(&mut item, member(spec.form), Some(value));
        put(&mut item, "source", Some(source(said)));
    }
    put(&mut item, "dynamic", spec.dynamic.then_some(true));
    Some(item)
}

fn member(form: Form) -> &'static str {
    match form {
        Form::Flag => "set",
        Form::Bool => "value_bool",
        Form::Int => "value_int",
        Form::Msat => "value_msat",
        Form::Text => "value_str",
    }
}

/// Where the value that holds comes from.
fn source(said: &[Said]) -> String {
    said.last().map_or_else(|| "default".to_owned(), |said| said.source.clone())
}

fn is_true(text: &str) -> bool {
    text.is_empty() || text == "true" || text == "1"
}

/// The same for an option of a plugin.
fn of_plugin(option: &PluginOption, said: &[Said]) -> Option<Value> {
    let kind = match option.kind.as_str() {
        "flag" => {
            return Some(json!({"set": !said.is_empty(), "source": source(said)}));
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
        put(&mut item, "source", Some(source(said)));
    }
    Some(item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::options::Config;
    use crate::sys::options::table::OPTIONS;

    #[test]
    fn listconfigs_shows_every_option_with_a_value() {
        let mut rig = crate::testing::Rig::new("listconfigs", &[]);
        let words = ["--lightning-dir=/nonexistent", "--regtest", "--developer", "--addr=::1"];
        rig.node.config = Config::load(&words.map(str::to_owned), None).unwrap();
        let all = list(&rig.node, None).unwrap();
        for spec in OPTIONS {
            let one = list(&rig.node, Some(spec.name)).unwrap();
            assert_eq!(one.get(spec.name), all.get(spec.name), "{}", spec.name);
            let Some(item) = all.get(spec.name) else {
                let has_default = (spec.preset)().is_some();
                let is_decided = ["sandbox", "dev-stale-tip", "dev-peer-close-seconds"];
                let is_decided =
                    is_decided.contains(&spec.name) || spec.name == "dev-restart-pause";
                let is_last_word = matches!(spec.name, "help" | "version");
                assert!(!has_default || is_decided || is_last_word, "{} is missing", spec.name);
                continue;
            };
            let is_list = spec.multi && !spec.shows_last;
            let name = if is_list { "values_str" } else { member(spec.form) };
            assert!(item[name] != Value::Null, "{}: {item}", spec.name);
        }
        for (name, shown) in [
            ("fee-base", json!({"value_int": 1, "source": "default"})),
            ("fee-per-satoshi", json!({"value_int": 10, "source": "default"})),
            ("cltv-final", json!({"value_int": 10, "source": "default"})),
            ("htlc-maximum-msat", json!({"value_msat": u64::MAX, "source": "default"})),
            ("offline", json!({"set": false, "source": "default"})),
            ("regtest", json!({"set": true, "source": "cmdline"})),
            ("network", json!({"value_str": "regtest", "source": "default"})),
            ("always-use-proxy", json!({"value_bool": false, "source": "default"})),
            ("log-level", json!({"value_str": "info", "source": "default"})),
            ("rpc-file-mode", json!({"value_str": "0600", "source": "default"})),
            ("wallet", json!({"value_str": "sqlite3://lightningd.sqlite3", "source": "default"})),
            ("lightning-dir", json!({"value_str": "/nonexistent", "source": "cmdline"})),
            ("addr", json!({"values_str": ["::1"], "sources": ["cmdline"]})),
            ("plugin", json!({"values_str": [], "sources": []})),
            ("dev-bitcoind-poll", json!({"value_int": 30, "source": "default"})),
        ] {
            assert_eq!(all.get(name), Some(&shown), "{name}");
        }
        assert_eq!(list(&rig.node, Some("nonsense")), None);
        // A node that is no developer's hides what only developers may set.
        rig.node.config = Config::for_network(primitives::Network::Regtest);
        assert_eq!(list(&rig.node, Some("dev-bitcoind-poll")), Some(Map::new()));
    }
}
