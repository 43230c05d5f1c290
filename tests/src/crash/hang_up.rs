//! A process stops at a barrier, and the peers of its node hang up before it goes on.

use super::Barriers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a peer may take to hang up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for the stop, in a thread of its own: the scenario may be waiting for an answer of what is
/// stopped.
#[derive(Debug)]
pub(super) struct HangUp {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HangUp {
    /// When this process of the node `target` stops, the nodes behind these RPC sockets disconnect
    /// it.
    pub(super) fn begin(
        barriers: Barriers,
        process: String,
        target: String,
        peers: Vec<PathBuf>,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let watch = move || {
            loop {
                // Once more after the end: it may have stopped just before.
                let is_over = ends.load(Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
                if let Some(pid) = barriers.stopped(&process) {
                    return hang_up(pid, &target, &peers);
                }
                if is_over {
                    return;
                }
            }
        };
        Self { over, thread: Some(std::thread::spawn(watch)) }
    }
}

impl Drop for HangUp {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn hang_up(pid: i32, target: &str, peers: &[PathBuf]) {
    while is_there(pid) && !is_stopped(pid) {
        std::thread::yield_now();
    }
    for peer in peers {
        // Who is not connected has nothing to hang up.
        let _ = disconnect(peer, target);
    }
    let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}
fn is_there(pid: i32) -> bool {
    state(pid).is_some_and(|s| s != 'Z')
}
fn is_stopped(pid: i32) -> bool {
    state(pid) == Some('T')
}

/// Answered once the connection is gone.
fn disconnect(socket: &Path, id: &str) -> std::io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let params = json!({"id": id, "force": true});
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "disconnect", "params": params});
    stream.write_all(request.to_string().as_bytes())?;
    let (mut answer, mut chunk, begun) = (Vec::new(), [0; 4096], Instant::now());
    while !answer.ends_with(b"\n\n") && begun.elapsed() < PATIENCE {
        match stream.read(&mut chunk)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => answer.extend_from_slice(&chunk[..n]),
        }
    }
    Ok(serde_json::from_slice(&answer)?)
}
