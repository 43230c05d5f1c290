//! JSON-RPC on the socket: framing, ids, errors, parameters. CLN's rules.

use serde_json::{Value, json};
use std::io::{Read, Write};
use tests::{Bitcoind, Node, Scratch};

fn node() -> (Scratch, Bitcoind, Node) {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[]);
    (scratch, bitcoind, node)
}

/// Everything that comes back for these bytes, until the other end closes or as many answers came.
fn answers(node: &Node, bytes: &[u8], count: usize) -> Vec<Value> {
    let mut socket = node.socket().unwrap();
    socket.write_all(bytes).unwrap();
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while text.windows(2).filter(|w| w == b"\n\n").count() < count {
        match socket.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8(text)
        .unwrap()
        .split("\n\n")
        .filter(|s| !s.is_empty())
        .map(|s| serde_json::from_str(s).unwrap())
        .collect()
}

#[test]
fn requests_need_no_separator_and_may_come_in_pieces() {
    let (_scratch, _bitcoind, node) = node();
    let one = r#"{"jsonrpc":"2.0","id":1,"method":"getinfo","params":[]}"#;
    let two = r#"{"jsonrpc":"2.0","id":"two","method":"listpeers","params":{}}"#;
    let got = answers(&node, format!("{one}{two} \n {one}").as_bytes(), 3);
    let ids: Vec<&Value> = got.iter().map(|a| &a["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!("two"), &json!(1)]);
    let mut socket = node.socket().unwrap();
    for piece in one.as_bytes().chunks(7) {
        socket.write_all(piece).unwrap();
    }
    let mut answer = vec![0; 10];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer, b"{\"jsonrpc\"");
}

#[test]
fn invalid_request_is_answered_and_the_node_runs_on() {
    let (_scratch, _bitcoind, node) = node();
    for (bytes, code) in [
        (&b"}{"[..], -32600),
        (b"[1,2]", -32600),
        (b"\xff\xfe\x00", -32600),
        (br#"{"id":1,"method":"getinfo","params":[]}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"getinfo"}"#, -32600),
        (br#"{"jsonrpc":"2.0","id":1,"method":"no-such","params":[]}"#, -32601),
        (br#"{"jsonrpc":"2.0","id":1,"method":"getinfo","params":[1]}"#, -32602),
        (br#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"id":"xyz"}}"#, -32602),
    ] {
        let got = answers(&node, bytes, 1);
        assert_eq!(
            got.first().map(|a| a["error"]["code"].clone()),
            Some(json!(code)),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
    node.rpc("getinfo", &json!({}));
}

/// Everything until the other end closes, and how that came.
fn until_closed(socket: &mut std::os::unix::net::UnixStream) -> Vec<Value> {
    let mut text = String::new();
    socket.read_to_string(&mut text).expect("the end is an end, and no error");
    text.split_terminator("\n\n").map(|s| serde_json::from_str(s).unwrap()).collect()
}

#[test]
fn invalid_json_closes_the_socket_after_earlier_answers() {
    let (_scratch, bitcoind, node) = node();
    let waits = json!({"jsonrpc": "2.0", "id": "w", "method": "waitblockheight", "params": [bitcoind.height() + 1]});
    let later = json!({"jsonrpc": "2.0", "id": "l", "method": "getinfo", "params": []});
    for nonsense in
        ["}{", r#"{"id": 1}"#, r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"stop","params":[]}"#]
    {
        let mut socket = node.socket().unwrap();
        socket.write_all(format!("{nonsense}{later}").as_bytes()).unwrap();
        let said = until_closed(&mut socket);
        let codes: Vec<_> = said.iter().map(|a| (&a["id"], a["error"]["code"].clone())).collect();
        assert_eq!(codes, [(&Value::Null, json!(-32600))], "{nonsense}");
    }
    let mut socket = node.socket().unwrap();
    socket.write_all(format!("{waits}[]{later}").as_bytes()).unwrap();
    let mut byte = [0; 1];
    socket.read_exact(&mut byte).unwrap();
    socket.write_all(later.to_string().as_bytes()).unwrap();
    bitcoind.mine(1);
    let mut rest = String::new();
    socket.read_to_string(&mut rest).unwrap();
    let answers: Vec<&str> = rest.split_terminator("\n\n").collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[1].contains(r#""id":"w","result""#), "{}", answers[1]);
}

#[test]
fn duplicate_parameter_name_is_refused() {
    let (_scratch, _bitcoind, node) = node();
    let twice = r#"{"jsonrpc":"2.0","id":7,"method":"invoice","params":{"amount_msat":1,"label":"l","description":"d","amount_msat":1000}}"#;
    let got = answers(&node, twice.as_bytes(), 1);
    assert_eq!((&got[0]["id"], &got[0]["error"]["code"]), (&json!(7), &json!(-32602)));
    assert!(got[0]["error"]["message"].as_str().unwrap().contains("amount_msat"), "{}", got[0]);
}

#[test]
fn client_that_does_not_read_is_not_read_and_blocks_no_other() {
    let (_scratch, _bitcoind, node) = node();
    let mut socket = node.socket().unwrap();
    socket.set_nonblocking(true).unwrap();
    let one = r#"{"jsonrpc":"2.0","id":1,"method":"help","params":[]}"#.repeat(100);
    let mut written = 0;
    // Far more than every buffer on the way holds.
    for _ in 0..20_000 {
        match socket.write(one.as_bytes()) {
            Ok(n) => written += n,
            Err(_) => break,
        }
        if written > 64 * 1024 * 1024 {
            panic!("the node took {written} bytes of requests whose answers nobody reads");
        }
    }
    node.rpc("getinfo", &json!({}));
}

#[test]
fn check_and_help_cover_every_method() {
    let (_scratch, _bitcoind, node) = node();
    let help = node.rpc("help", &json!({}));
    let names: Vec<&str> = help["help"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["command"].as_str().unwrap().split(' ').next().unwrap())
        .collect();
    for method in [
        "getinfo",
        "invoice",
        "pay",
        "listpays",
        "fundchannel",
        "close",
        "getchaininfo",
        "waitanyinvoice",
    ] {
        assert!(names.contains(&method), "{method}: {names:?}");
    }
    assert!(names.windows(2).all(|w| w[0] <= w[1]));
    let usage = node.rpc("help", &json!({"command": "invoice"}));
    assert!(usage["help"][0]["command"].as_str().unwrap().contains("deschashonly"));
    assert_eq!(node.refused("help", &json!(["nonsense"])).code, -32601);
    assert_eq!(
        node.rpc("check", &json!(["invoice", 1, "l", "d"])),
        json!({"command_to_check": "invoice"})
    );
    assert_eq!(node.refused("check", &json!(["invoice", 1])).code, -32602);
    assert_eq!(node.refused("check", &json!({"command_to_check": "nonsense"})).code, -32601);
}

#[test]
fn listconfigs_names_the_source_of_each_option() {
    let (_scratch, _bitcoind, node) = node();
    let configs = node.rpc("listconfigs", &json!({}))["configs"].clone();
    assert_eq!(configs["network"], json!({"value_str": "regtest", "source": "cmdline"}));
    assert_eq!(configs["developer"], json!({"set": true, "source": "cmdline"}));
    assert_eq!(configs["dev-bitcoind-poll"], json!({"value_int": 1, "source": "cmdline"}));
    assert_eq!(
        configs["bitcoin-rpcpassword"]["plugin"].as_str().map(|p| p.ends_with("/bcli")),
        Some(true)
    );
    assert_eq!(node.rpc("listconfigs", &json!(["alias"]))["configs"]["alias"]["source"], "default");
    assert_eq!(node.refused("listconfigs", &json!(["nonsense"])).code, -32602);
}

#[test]
fn log_is_kept_and_shown_by_level() {
    let (_scratch, _bitcoind, node) = node();
    let log = node.rpc("getlog", &json!(["debug"]));
    let lines = log["log"].as_array().unwrap();
    assert!(
        lines.iter().any(|l| l["log"].as_str().is_some_and(|t| t.starts_with("Server started")))
    );
    assert_eq!(node.refused("getlog", &json!(["loud"])).code, -32602);
}

#[test]
fn lightning_cli_calls_the_node() {
    let (_scratch, _bitcoind, node) = node();
    let cli = |args: &[&str]| {
        let dir = format!("--lightning-dir={}", node.network_dir().parent().unwrap().display());
        let out = std::process::Command::new(tests::bin_dir().join("lightning-cli"))
            .args([dir.as_str(), "--network=regtest"])
            .args(args)
            .output()
            .unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    let (code, text) = cli(&["getinfo"]);
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["id"], node.id.as_str());
    let (code, text) = cli(&["-k", "invoice", "amount_msat=1000", "label=l", "description=d"]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = cli(&["-o", "invoice", "1000", "l", "d"]);
    assert_eq!((code, text.contains("Duplicate label")), (Some(1), true), "{text}");
    assert_eq!(cli(&["--rpc-file=/nonexistent", "getinfo"]).0, Some(2));
    assert_eq!(cli(&["--nonsense"]).0, Some(3));
}
