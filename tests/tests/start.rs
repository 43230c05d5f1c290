//! Start-up: what a node refuses, with a sentence that tells the operator what to do.

use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use tests::{Bitcoind, Node, Options, Scratch, free_port, wait_for};

/// A node that must not start, and what it says.
fn refuses(options: &Options, code: i32) -> String {
    let (status, said) = options.run_to_end();
    assert_eq!(status.code(), Some(code), "{said}");
    said
}

#[test]
fn node_starts_serves_and_stops_in_order() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let node =
        Node::start(&scratch.path().join("node"), &bitcoind, &["--alias=tester", "--rgb=010203"]);
    let info = node.rpc("getinfo", &json!([]));
    assert_eq!((info["alias"].as_str(), info["color"].as_str()), (Some("tester"), Some("010203")));
    assert_eq!(info["network"], "regtest");
    assert!(info["version"].as_str().unwrap().starts_with("v26.06-fulmen-"));
    assert!(node.logged(&format!(
        "Server started with public key {}, alias tester (color #010203)",
        node.id
    )));
    let mode = |file: &str| {
        std::fs::metadata(node.network_dir().join(file)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("hsm_secret"), mode("lightning-rpc")), (0o400, 0o600));
    node.stop();
    assert!(!node.network_dir().join("lightning-rpc").exists());
    let id = node.id.clone();
    node.start_again();
    assert_eq!(node.rpc("getinfo", &json!([]))["id"], id.as_str());
    assert_eq!(node.terminate().code(), Some(0));
}

#[test]
fn node_on_mainnet_warns_that_it_is_new_software() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let mut options = Options::usual(&scratch.path().join("node"), &bitcoind, free_port());
    for arg in &mut options.args {
        if arg == "--network=regtest" {
            *arg = "--network=bitcoin".into();
        }
    }
    let said = refuses(&options, 1);
    assert!(said.contains("this software is young"), "{said}");
    assert!(said.contains("'regtest'") && said.contains("'main'"), "{said}");
}

#[test]
fn second_lightningd_on_the_same_directory_is_refused() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[]);
    assert!(refuses(node.options(), 11).contains("is lightningd already running"));
    node.rpc("getinfo", &json!([]));
}

#[test]
fn occupied_port_is_named_in_the_error() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = Options::usual(&scratch.path().join("node"), &bitcoind, port);
    let said = refuses(&options, 1);
    assert!(said.contains("cannot listen") && said.contains(&port.to_string()), "{said}");
}

#[test]
fn bitcoind_of_another_chain_is_refused() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let mut options = Options::usual(&scratch.path().join("node"), &bitcoind, free_port());
    for arg in &mut options.args {
        if arg == "--network=regtest" {
            *arg = "--network=signet".into();
        }
    }
    let said = refuses(&options, 1);
    assert!(said.contains("'regtest'") && said.contains("'signet'"), "{said}");
}

#[test]
fn hsm_secret_of_wrong_length_is_refused_with_its_length() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let options = Options::usual(&scratch.path().join("node"), &bitcoind, free_port());
    let dir = options.dir.join("regtest");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("hsm_secret"), [7; 31]).unwrap();
    let said = refuses(&options, 20);
    assert!(said.contains("31"), "{said}");
    assert_eq!(std::fs::read(dir.join("hsm_secret")).unwrap(), [7; 31]);
}

#[test]
fn raw_hsm_secret_gives_the_node_id_of_cln() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let dir = scratch.path().join("node");
    std::fs::create_dir_all(dir.join("regtest")).unwrap();
    let secret: Vec<u8> = (1..=32).collect();
    std::fs::write(dir.join("regtest/hsm_secret"), secret).unwrap();
    let node = Node::start(&dir, &bitcoind, &[]);
    assert_eq!(node.id, "037d8d1109836a88daf2b86d6e52e12351f9c274f597b78eca941525b309096ca8");
    let address = node.rpc("newaddr", &json!({"addresstype": "all"}));
    assert_eq!(address["bech32"], "bcrt1q9vvn4cz74j5alyrfrt3swx0qszjkl89v9mpcth");
    assert_eq!(address["p2tr"], "bcrt1p639dph680ugyyeyskckpageaupxlql5vdk4gcctgtj6yvtpkd30sflj3vu");
}

#[test]
fn hsm_secret_of_another_node_is_refused() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[]);
    node.stop();
    std::fs::remove_file(node.network_dir().join("hsm_secret")).unwrap();
    std::fs::write(node.network_dir().join("hsm_secret"), [9; 32]).unwrap();
    let said = refuses(node.options(), 30);
    assert!(said.contains(&node.id), "{said}");
}

#[test]
fn database_of_a_newer_version_is_refused() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[]);
    node.stop();
    let db = rusqlite::Connection::open(node.network_dir().join("lightningd.sqlite3")).unwrap();
    db.pragma_update(None, "user_version", 999).unwrap();
    drop(db);
    let said = refuses(node.options(), 1);
    assert!(said.contains("999") && said.contains("newer"), "{said}");
}

#[test]
fn unknown_option_and_bad_config_line_are_named_with_place() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let mut options = Options::usual(&scratch.path().join("node"), &bitcoind, free_port());
    std::fs::write(options.dir.join("config"), "alias=x\nfee-base=many\n").unwrap();
    let said = refuses(&options, 1);
    assert!(said.contains("line 2") && said.contains("'many' is not a number"), "{said}");
    std::fs::write(options.dir.join("config"), "alias=x\n").unwrap();
    options.args.push("--no-such-option=1".into());
    assert!(refuses(&options, 1).contains("--no-such-option: unrecognized option"));
}

#[test]
fn node_waits_for_a_bitcoind_that_is_briefly_gone() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[]);
    bitcoind.kill();
    node.rpc("getinfo", &json!([]));
    bitcoind.restart();
    bitcoind.mine(3);
    node.sync(&bitcoind);
}

#[test]
fn arbitrary_bytes_as_configuration_give_a_readable_error() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let options = Options::usual(&scratch.path().join("node"), &bitcoind, free_port());
    std::fs::write(options.dir.join("config"), [0xff, 0xfe, 0x00, b'=']).unwrap();
    assert!(refuses(&options, 1).contains("not text at byte 0"));
}

/// The same node, told this on stdin.
fn asked(options: &Options, stdin: &str) -> Options {
    let mut options = options.clone();
    options.args.push("--hsm-passphrase".into());
    options.stdin = stdin.as_bytes().to_vec();
    options
}

#[test]
fn hsm_secret_with_passphrase_opens_only_with_it() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let port = free_port();
    let options = Options::usual(&scratch.path().join("node"), &bitcoind, port);
    let secret = options.dir.join("regtest/hsm_secret");
    // A new one is confirmed; where that fails there is none.
    let said = refuses(&asked(&options, "correct horse\nbattery\n"), 22);
    assert!(said.contains("differ"), "{said}");
    let said = refuses(&asked(&options, ""), 23);
    assert!(said.contains("stdin ended before the passphrase"), "{said}");
    let said = refuses(&asked(&options, "\n"), 23);
    assert!(said.contains("empty"), "{said}");
    assert!(!secret.exists());

    let node = Node::start_as(asked(&options, "correct horse\ncorrect horse\n"), port);
    let id = node.id.clone();
    node.stop();
    let file = std::fs::read(&secret).unwrap();
    assert_ne!(file[..32], [0; 32], "the form of a secret with a passphrase");
    let said = refuses(&options, 21);
    assert!(said.contains("start with --hsm-passphrase"), "{said}");
    let said = refuses(&asked(&options, "battery staple\n"), 22);
    assert!(said.contains("not the passphrase"), "{said}");
    let node = Node::start_as(asked(&options, "correct horse\n"), port);
    assert_eq!(node.id, id);
    node.stop();
    assert_eq!(std::fs::read(&secret).unwrap(), file);
}

#[test]
fn passphrase_for_an_hsm_secret_without_one_is_refused() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let options = Options::usual(&scratch.path().join("node"), &bitcoind, free_port());
    std::fs::create_dir_all(options.dir.join("regtest")).unwrap();
    std::fs::write(options.dir.join("regtest/hsm_secret"), [7; 32]).unwrap();
    let said = refuses(&asked(&options, "correct horse\n"), 22);
    assert!(said.contains("has no passphrase"), "{said}");
}

#[test]
fn unread_stdout_blocks_nothing() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    // Two logs: a file for this test, and a pipe that holds a few dozen lines, of which nobody
    // reads one.
    let port = free_port();
    let mut options = Options::usual(&scratch.path().join("node"), &bitcoind, port);
    options.args.push("--log-file=-".to_owned());
    options.unread = true;
    let node = Node::start_as(options, port);
    wait_for("more than any pipe holds", || {
        bitcoind.mine(20);
        node.sync(&bitcoind);
        (node.log_size() > 20_000).then_some(())
    });
    node.stop();
}

#[test]
fn c_code_is_built_with_stack_protector_and_fortify() {
    let binary = std::fs::read(tests::bin_dir().join("lightningd")).unwrap();
    // Named by the linker where the compiler put a check: SQLite and libsecp256k1 are in there.
    for symbol in [&b"__stack_chk_fail"[..], b"__memcpy_chk"] {
        assert!(binary.windows(symbol.len()).any(|at| at == symbol), "{}", symbol.escape_ascii());
    }
}
