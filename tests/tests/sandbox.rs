//! The boxes of a running node: every process is in one, and a captured connectd does not get out
//! of its own.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::Pid;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use subdaemon::testing::start;
use tests::{Bitcoind, Node, Pair, Scratch, bin_dir};
use wire::Message;
use wire::daemon::Log;

/// A line of /proc/PID/status.
fn status(pid: Pid, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.trim_start_matches(field).trim_start_matches(':').trim().to_owned()
}

fn executable(pid: Pid) -> String {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// All processes that descend from this one.
fn descendants(of: Pid) -> Vec<Pid> {
    let parents: BTreeMap<i32, i32> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let descends = |mut pid: i32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == of.as_raw() {
                return true;
            }
            pid = *parent;
        }
        false
    };
    parents.keys().copied().filter(|pid| descends(*pid)).map(Pid::from_raw).collect()
}

/// A limit of a process, as hard as soft.
fn limit(pid: Pid, name: &str) -> String {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut columns = line.split_whitespace();
    let (soft, hard) = (columns.next().unwrap(), columns.next().unwrap());
    assert_eq!(soft, hard, "{name}");
    hard.to_owned()
}

/// Limits, descriptors, folder and environment of a child of lightningd. `inherited` is open in
/// lightningd without close-on-exec.
fn is_confined_child(pid: Pid, name: &str, inherited: &Path) {
    assert_eq!(limit(pid, "Max address space"), (4u64 << 30).to_string(), "{name}");
    assert_eq!(limit(pid, "Max file size"), "0", "{name}");
    let makes_threads = ["bcli", "pay"].contains(&name);
    assert!(makes_threads || limit(pid, "Max processes") == "0", "{name}");
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut files = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    assert!(files.all(|file| file != inherited), "{name} inherited a descriptor");
    let dir = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(dir, Path::new("/"), "{name}");
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let names: Vec<_> =
        environment.split('\0').filter_map(|v| Some(v.split_once('=')?.0)).collect();
    let ours = [
        "MALLOC_ARENA_MAX",
        "HOME",
        "LIGHTNINGD_PLUGIN",
        "LIGHTNINGD_VERSION",
        "FULMEN_SANDBOX_REQUIRED",
    ];
    let calls = name == "pay";
    let is_expected = |n: &&str| ours.contains(n) || (calls && *n == "FULMEN_RPC_SOCKET");
    assert!(names.iter().all(is_expected), "{name}: {names:?}");
}

#[test]
fn sandbox_confines_every_process_of_a_node() {
    // A careless shell leaves this open in lightningd: none of its children has it.
    let scratch = Scratch::new();
    let inherited = scratch.path().join("inherited");
    let left_open = std::fs::File::create(&inherited).unwrap();
    fcntl(&left_open, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let pair = Pair::new();
    pair.open(1_000_000);
    let master = pair.alice.pid();
    let mut seen: Vec<String> = Vec::new();
    let all: Vec<Pid> = descendants(master).into_iter().chain([master]).collect();
    for pid in all {
        let name = executable(pid);
        assert_eq!(status(pid, "NoNewPrivs"), "1", "{name}");
        assert_eq!(status(pid, "Seccomp"), "2", "{name}");
        assert_eq!(limit(pid, "Max core file size"), "0", "{name}");
        if pid != master {
            is_confined_child(pid, &name, &inherited);
        }
        seen.push(name);
    }
    // The second connectd is the one that looks up names.
    seen.sort();
    let expected = [
        "bcli",
        "lightning_channeld",
        "lightning_connectd",
        "lightning_connectd",
        "lightning_hsmd",
        "lightningd",
        "pay",
    ];
    assert_eq!(seen, expected);
    assert_eq!(pair.alice.rpc("getinfo", &json!({})).get("warning_sandbox"), None);
    // Names are looked up in the box, too.
    let name = format!("localhost:{}", pair.bob.port);
    pair.alice.rpc("disconnect", &json!({"id": pair.bob.id, "force": true}));
    pair.alice.rpc("connect", &json!([format!("{}@{name}", pair.bob.id)]));
    assert!(!pair.alice.logged("the sandbox refused"));
}

/// Nor any other: its box has no call that connects.
#[test]
fn pay_needs_no_path_to_the_rpc() {
    let pair = Pair::new();
    pair.open(1_000_000);
    let invoice = pair.bob.rpc("invoice", &json!([1000, "no path", "no path"]));
    let socket = pair.alice.network_dir().join("lightning-rpc");
    let mut stream = UnixStream::connect(&socket).unwrap();
    std::fs::rename(&socket, socket.with_extension("away")).unwrap();
    let request =
        json!({"jsonrpc": "2.0", "id": 1, "method": "pay", "params": [invoice["bolt11"]]});
    stream.write_all(request.to_string().as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n\n") {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).unwrap();
        assert!(n > 0, "the node hung up");
        answer.extend_from_slice(&chunk[..n]);
    }
    std::fs::rename(socket.with_extension("away"), &socket).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["result"]["status"], "complete", "{answer}");
    assert!(!pair.alice.logged("the sandbox refused"));
}

/// Each is started by hand and given an init that no daemon understands: its box is closed before
/// it looks at that.
#[test]
fn leaf_is_sandboxed_before_it_reads_its_init() {
    for name in ["openingd", "channeld", "closingd", "onchaind"] {
        let executable = bin_dir().join(format!("lightning_{name}"));
        let (mut child, down, mut up) = start(&mut Command::new(executable));
        down.send(&[0xff; 8], &[]).unwrap();
        let mut said = Vec::new();
        while let Ok(frame) = up.recv() {
            let log = frame.body.strip_prefix(&Log::NUMBER.to_be_bytes());
            said.extend(log.map(|body| Log::take_body(body).unwrap().text));
        }
        assert!(!child.wait().unwrap().success(), "{name}");
        assert!(said.iter().any(|line| line == "sandboxed"), "{name}: {said:?}");
    }
}

#[test]
fn captured_connectd_does_not_break_out() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let breakout = format!("--subdaemon=connectd:{}", bin_dir().join("breakout").display());
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[&breakout]);
    node.wait_log("tried everything");
    let log = node.log();
    let broke_out: Vec<_> = log.lines().filter(|line| line.contains("broke out")).collect();
    assert!(broke_out.is_empty(), "{broke_out:?}");
    assert_eq!(log.matches("could not ").count(), 15, "{log}");
    // Each kind of call that no honest connectd makes is named once.
    let kill = format!("refused system call {} (so far 1)", nix::libc::SYS_kill);
    assert_eq!(log.matches(&kill).count(), 1, "{log}");
    let secret = std::fs::metadata(node.network_dir().join("hsm_secret")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o077, 0);
    node.rpc("getinfo", &json!({}));
    // Nothing of it is left that would hold up the next lightningd.
    node.kill();
    node.start_again();
    assert!(!node.logged("are still there"));
}
