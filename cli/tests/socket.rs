//! The program, in front of a lightningd that a script plays.
#![allow(clippy::unwrap_used)] // a test that cannot go on says where

use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A network directory of its own, gone with the test.
struct Dir(PathBuf);
impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("cli-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("regtest")).unwrap();
        Self(dir)
    }
    /// A lightningd that answers each request with the next of these, in which `$ID` is the
    /// request's id. Returns what it was asked.
    fn serve(&self, answers: &[&str]) -> std::thread::JoinHandle<Vec<Value>> {
        let listener = UnixListener::bind(self.0.join("regtest/lightning-rpc")).unwrap();
        let answers: Vec<String> = answers.iter().map(|a| (*a).to_owned()).collect();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            for answer in answers {
                let mut text = String::new();
                while !text.ends_with("\n\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap() == 0 {
                        return asked;
                    }
                    text.push(char::from(byte[0]));
                }
                let request: Value = serde_json::from_str(&text).unwrap();
                let id = request["id"].to_string();
                asked.push(request);
                stream.write_all(answer.replace("$ID", &id).as_bytes()).unwrap();
            }
            asked
        })
    }
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_lightning-cli"))
            .arg(format!("--lightning-dir={}", self.0.display()))
            .arg("--regtest")
            .args(args)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }
}
impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const ENABLED: &str = "{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"enabled\":true}}\n\n";

#[test]
fn a_result_is_printed_with_what_happened_meanwhile() {
    let dir = Dir::new("result");
    let served = dir.serve(&[
        ENABLED,
        "{\"jsonrpc\":\"2.0\",\"method\":\"message\",\"params\":{\"id\":$ID,\"level\":\"info\",\"message\":\"on\\u001b it\"}}\n\n\
         {\"jsonrpc\":\"2.0\",\"method\":\"message\",\"params\":{\"id\":$ID,\"level\":\"debug\",\"message\":\"details\"}}\n\n\
         {\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"z\":123456789012345678901234567890,\"a\":\n\n[]}}\n\n",
    ]);
    let (code, out, err) = dir.run(&["fundchannel", "id=02ab", "amount=1000sat", "announce=false"]);
    let expected = "# on it\n{\n   \"z\": 123456789012345678901234567890,\n   \"a\": []\n}\n";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    let asked = served.join().unwrap();
    assert_eq!(asked[0]["method"], "notifications");
    assert_eq!(asked[1]["method"], "fundchannel");
    assert_eq!(
        asked[1]["params"],
        serde_json::json!({ "id": "02ab", "amount": "1000sat", "announce": false })
    );
    assert!(asked[1]["id"].as_str().unwrap().starts_with("cli:fundchannel#"));
}

#[test]
fn an_error_is_printed_on_stdout_with_code_1() {
    let dir = Dir::new("error");
    let served = dir.serve(&["{\"jsonrpc\":\"2.0\",\"id\":$ID,\"error\":{\"code\":-32601,\"message\":\"Unknown command 'x'\"}}\n\n"]);
    let (code, out, err) = dir.run(&["-N", "none", "x"]);
    let expected = "{\n   \"code\": -32601,\n   \"message\": \"Unknown command 'x'\"\n}\n";
    assert_eq!((code, out.as_str(), err.as_str()), (1, expected, ""));
    assert_eq!(served.join().unwrap()[0]["params"], serde_json::json!([]));
}

#[test]
fn an_answer_that_is_none_ends_with_code_2() {
    for (name, answer) in [
        ("other", "{\"jsonrpc\":\"2.0\",\"id\":\"other\",\"result\":{}}\n\n"),
        ("garbage", "garbage\n\n"),
        ("empty", "{\"jsonrpc\":\"2.0\",\"id\":$ID}\n\n"),
        ("cut", "{\"jsonrpc\":\"2.0\","),
    ] {
        let dir = Dir::new(name);
        let served = dir.serve(&[answer]);
        let (code, out, err) = dir.run(&["-N", "none", "getinfo"]);
        assert_eq!((code, out.as_str()), (2, ""), "{name}");
        assert!(err.starts_with("lightning-cli: "), "{name}: {err}");
        served.join().unwrap();
    }
    let dir = Dir::new("nobody");
    let (code, _, err) = dir.run(&["getinfo"]);
    assert_eq!(code, 2);
    assert!(err.contains("Is lightningd running?"), "{err}");
    let (code, _, err) = dir.run(&["--signet", "getinfo"]);
    assert!(code == 2 && err.contains("--network"), "{err}");
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_code_3() {
    let dir = Dir::new("usage");
    for line in [&["--what"][..], &["-k", "pay", "x"], &["pay", "{x}"], &["-l", "{", "getinfo"]] {
        let (code, out, err) = dir.run(line);
        assert_eq!((code, out.as_str()), (3, ""), "{line:?}: {err}");
    }
}

#[test]
fn without_a_command_it_tells_how_and_what() {
    let dir = Dir::new("help");
    let served = dir.serve(&[
        ENABLED,
        "{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{\"help\":[{\"command\":\"stop\"}]}}\n\n",
    ]);
    let (code, out, _) = dir.run(&[]);
    assert_eq!(code, 0);
    assert!(out.starts_with("Usage: lightning-cli"));
    assert!(out.contains("\nstop\n\n---\n"), "{out}");
    served.join().unwrap();
    let (code, out, _) = dir.run(&["--version"]);
    assert_eq!((code, out.starts_with("v26.06-fulmen-")), (0, true));
    assert_eq!(dir.run(&["-h"]).0, 0);
}
