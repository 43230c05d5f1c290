//! Plugins that other people wrote, in whatever language: methods, options, and what they do wrong.

use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tests::{Bitcoind, Node, Scratch, wait_for};

/// A plugin without any library: it answers line by line what the protocol asks.
const PLUGIN: &str = r#"#!/usr/bin/env python3
import json, sys
options = {}
def answer(request, result=None, error=None):
    reply = {"jsonrpc": "2.0", "id": request["id"]}
    reply.update({"error": error} if error else {"result": result})
    sys.stdout.write(json.dumps(reply) + "\n\n")
    sys.stdout.flush()
decoder, text = json.JSONDecoder(), ""
for line in sys.stdin:
    text += line
    text = text.lstrip()
    try:
        request, end = decoder.raw_decode(text)
    except ValueError:
        continue
    text = text[end:]
    method, params = request["method"], request.get("params")
    if method == "getmanifest":
        answer(request, {"dynamic": True, "options": [
            {"name": "greeting", "type": "string", "default": "Hello", "description": "what to say"},
            {"name": "times", "type": "int", "description": "how often"}],
            "rpcmethods": [{"name": "greet", "usage": "[name]", "description": "says hello"},
                           {"name": "fail", "usage": "", "description": "fails"},
                           {"name": "babble", "usage": "", "description": "writes nonsense"},
                           {"name": "shout", "usage": "", "description": "fills stderr"},
                           {"name": "die", "usage": "", "description": "ends"}]})
    elif method == "init":
        options = params["options"]
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "method": "log", "params": {"level": "info", "message": "plugin ready"}}) + "\n\n")
        answer(request, {})
    elif method == "greet":
        name = params[0] if isinstance(params, list) and params else "you"
        answer(request, {"said": options["greeting"] + " " + name, "options": options})
    elif method == "fail":
        answer(request, error={"code": 4242, "message": "as you wish", "data": {"why": "asked"}})
    elif method == "babble":
        sys.stdout.write("this is no JSON\n\n")
        sys.stdout.flush()
    elif method == "shout":
        sys.stderr.write("all is lost\n")
        for n in range(20000):
            sys.stderr.write("x" * 1000 + "\n")
        sys.stderr.write("y" * 1000000 + "\nlast words")
        sys.stderr.flush()
        answer(request, {})
    elif method == "die":
        sys.exit(0)
"#;

fn write_plugin(dir: &Path) -> PathBuf {
    let path = dir.join("greeter.py");
    std::fs::write(&path, PLUGIN).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn node(options: &[&str]) -> (Scratch, Bitcoind, Node) {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let plugin = format!("--plugin={}", write_plugin(scratch.path()).display());
    let all: Vec<&str> = options.iter().copied().chain([plugin.as_str()]).collect();
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &all);
    (scratch, bitcoind, node)
}

#[test]
fn plugin_adds_methods_and_options() {
    let (_scratch, _bitcoind, node) = node(&["--greeting=Moin", "--times=3"]);
    let said = node.rpc("greet", &json!(["Bob"]));
    assert_eq!(said, json!({"said": "Moin Bob", "options": {"greeting": "Moin", "times": 3}}));
    let failed = node.refused("fail", &json!([]));
    assert_eq!(
        (failed.code, failed.message.as_str(), failed.data),
        (4242, "as you wish", json!({"why": "asked"}))
    );
    let help = node.rpc("help", &json!(["greet"]));
    assert_eq!(help["help"][0]["command"], "greet [name]");
    let configs = node.rpc("listconfigs", &json!(["times"]))["configs"].clone();
    assert_eq!(configs["times"]["value_int"], 3);
    node.wait_log("plugin-greeter.py: plugin ready");
}

/// 21 MB, on what would be lightningd's own stderr: a file, perhaps, that nobody rotates.
#[test]
fn stderr_of_plugin_goes_to_the_log_within_its_limit() {
    let (_scratch, _bitcoind, node) = node(&[]);
    let before = node.log_size();
    node.rpc("shout", &json!([]));
    node.wait_log("plugin-greeter.py: stderr: all is lost");
    node.wait_log("more lines of plugin-greeter.py");
    let grown = node.log_size() - before;
    assert!((500_000..2_000_000).contains(&grown), "{grown} bytes of log");
    assert_eq!(node.rpc("greet", &json!([]))["said"], "Hello you");
}

#[test]
fn plugin_that_dies_or_sends_garbage_takes_no_other_down() {
    let (scratch, _bitcoind, node) = node(&[]);
    let path = scratch.path().join("greeter.py");
    for method in ["babble", "die"] {
        assert_eq!(node.refused(method, &json!([])).code, -4, "{method}");
        wait_for("the plugin to be gone", || {
            let list = node.rpc("plugin", &json!(["list"]));
            (!list["plugins"].as_array()?.iter().any(|p| p["name"] == path.display().to_string()))
                .then_some(())
        });
        assert_eq!(node.refused("greet", &json!([])).code, -32601);
        let started = node
            .rpc("plugin", &json!({"subcommand": "start", "plugin": path.display().to_string()}));
        assert!(
            started["plugins"]
                .as_array()
                .unwrap()
                .iter()
                .any(|p| p["name"] == path.display().to_string() && p["active"] == true)
        );
        assert_eq!(node.rpc("greet", &json!([]))["said"], "Hello you");
    }
    let stopped = node.rpc("plugin", &json!(["stop", "greeter.py"]));
    assert_eq!(stopped["result"], "Successfully stopped greeter.py.");
    assert_eq!(node.refused("plugin", &json!(["start", "/nonexistent"])).code, -32602);
    node.rpc("getinfo", &json!({}));
}

#[test]
fn plugin_behind_a_wrapper_ends_with_it() {
    let (scratch, _bitcoind, node) = node(&[]);
    node.rpc("plugin", &json!(["stop", "greeter.py"]));
    wait_for("the plugin to be gone", || {
        (node.refused("greet", &json!([])).code == -32601).then_some(())
    });
    let wrapper = scratch.path().join("wrapper.sh");
    let inner = scratch.path().join("greeter.py");
    // No exec: the shell waits for what does the work.
    std::fs::write(&wrapper, format!("#!/bin/sh\n{}\nexit 3\n", inner.display())).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        let start = json!({"subcommand": "start", "plugin": wrapper.display().to_string()});
        node.rpc("plugin", &start);
        assert_eq!(node.rpc("greet", &json!([]))["said"], "Hello you");
        node.rpc("plugin", &json!(["stop", "wrapper.sh"]));
        wait_for("its methods to be gone", || {
            (node.refused("greet", &json!([])).code == -32601).then_some(())
        });
    }
}
