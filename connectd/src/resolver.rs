//! Host names. `getaddrinfo` waits for whom it likes, so it does that in a process of its own: this
//! executable again, started with `--resolver` before the box closes, with one end of a socket as
//! its stdin. One record asks, one answers.

use crate::limits::MAX_LOOKUPS;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv, send};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use subdaemon::{Sandbox, SandboxMode};
use wire::{Problem, Wire};

/// The argument that makes this executable a resolver.
pub const ARGUMENT: &str = "--resolver";
/// The argument behind it for a kernel that has not all of the box.
const BEST_EFFORT: &str = "--best-effort";
/// The longest host name there is (RFC 1035), generously.
const MAX_HOST: usize = 255;
/// Room for one record.
const RECORD: usize = 4096;
/// Addresses of one host that are worth an answer.
const MAX_ANSWERS: usize = 16;

/// The answer to a lookup.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The question's number.
    pub id: u64,
    /// Where the host is, or why nobody knows.
    pub addresses: Result<Vec<IpAddr>, String>,
}

impl Answer {
    /// As the resolver writes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.id.to_bytes();
        match &self.addresses {
            Ok(ips) => ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().put(&mut out),
            Err(why) => {
                Vec::<String>::new().put(&mut out);
                why.put(&mut out);
            }
        }
        out
    }
    /// As connectd reads it.
    pub fn decode(mut from: &[u8]) -> Result<Self, Problem> {
        let id = u64::take(&mut from)?;
        let texts = Vec::<String>::take(&mut from)?;
        let ips: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        let addresses = if ips.is_empty() { Err(String::take(&mut from)?) } else { Ok(ips) };
        Ok(Self { id, addresses })
    }
}

/// The helper process, seen from connectd.
#[derive(Debug)]
pub struct Resolver {
    process: Child,
    socket: OwnedFd,
}

impl Resolver {
    /// Starts it.
    pub fn spawn(program: &Path, sandbox: SandboxMode) -> io::Result<Self> {
        let (socket, theirs) = subdaemon::peer_pair()?;
        let process = Command::new(program)
            .arg(ARGUMENT)
            .args((sandbox == SandboxMode::BestEffort).then_some(BEST_EFFORT))
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .env_clear()
            .envs([subdaemon::FEW_ARENAS])
            .spawn()?;
        Ok(Self { process, socket })
    }

    /// Asks for a host. False: it cannot be asked.
    pub fn ask(&self, id: u64, host: &str) -> bool {
        if host.len() > MAX_HOST {
            return false;
        }
        let mut record = id.to_bytes();
        record.extend_from_slice(host.as_bytes());
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.socket.as_raw_fd(), &record, flags).is_ok()
    }

    /// The next answer, if there is one. `Err`: the process is gone.
    pub fn answer(&mut self) -> Result<Option<Answer>, String> {
        let mut record = [0; RECORD];
        match recv(self.socket.as_raw_fd(), &mut record, MsgFlags::MSG_DONTWAIT) {
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(None),
            Ok(0) | Err(_) => {
                let ended = self.process.try_wait();
                Err(format!("the resolver process ended: {ended:?}"))
            }
            Ok(n) => Answer::decode(record.get(..n).unwrap_or_default())
                .map(Some)
                .map_err(|e| format!("the resolver process answered nonsense: {e}")),
        }
    }
}

impl AsFd for Resolver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        // Our box lets us signal nobody. Without its socket it ends, once its lookups let it; its
        // zombie ends with us.
        let _ = self.process.try_wait();
    }
}

/// `main` of the helper process: answers until connectd is gone.
pub fn serve() -> ExitCode {
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let busy = Arc::new(AtomicUsize::new(0));
    let (ask, questions) = channel();
    let questions = Arc::new(Mutex::new(questions));
    let start_threads = || {
        for _ in 0..MAX_LOOKUPS {
            beget_thread(&questions, &busy);
        }
    };
    if let Err(why) = enter_box(start_threads) {
        eprintln!("connectd's resolver: {why}");
        return ExitCode::FAILURE;
    }
    let mut record = [0; RECORD];
    loop {
        match recv(0, &mut record, MsgFlags::empty()) {
            Ok(0) => return ExitCode::SUCCESS,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return ExitCode::FAILURE,
            Ok(n) => {
                let mut question = record.get(..n).unwrap_or_default();
                let Ok(id) = u64::take(&mut question) else { return ExitCode::FAILURE };
                let host = String::from_utf8_lossy(question).into_owned();
                if busy.fetch_add(1, Ordering::Relaxed) >= MAX_LOOKUPS {
                    busy.fetch_sub(1, Ordering::Relaxed);
                    reply(&Answer { id, addresses: Err("too many names at once".into()) });
                    continue;
                }
                if ask.send((id, host)).is_err() {
                    return ExitCode::FAILURE;
                }
            }
        }
    }
}

type Question = (u64, String);

/// Starts a thread that looks names up, and waits until it runs: the sandbox allows none later.
/// Where no thread can be made, fewer look up.
fn beget_thread(questions: &Arc<Mutex<Receiver<Question>>>, busy: &Arc<AtomicUsize>) {
    let (questions, busy) = (Arc::clone(questions), Arc::clone(busy));
    let (started, runs) = channel();
    let work = move || {
        let _ = started.send(());
        loop {
            let next = questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((id, host)) = next else { return };
            reply(&Answer { id, addresses: look_up(&host) });
            busy.fetch_sub(1, Ordering::Relaxed);
        }
    };
    if std::thread::Builder::new().spawn(work).is_ok() {
        let _ = runs.recv();
    }
}

/// The first lookup loads what later ones use (`/etc/nsswitch.conf` says which libraries); then the
/// box closes, with its threads.
fn enter_box(start_threads: impl FnOnce()) -> Result<(), String> {
    let _ = look_up("localhost");
    let best_effort = std::env::args().any(|arg| arg == BEST_EFFORT);
    let mode = if best_effort { SandboxMode::BestEffort } else { SandboxMode::Required };
    subdaemon::enter_sandbox_with(&Sandbox::Resolver, mode, start_threads)
        .map_err(|e| e.to_string())
}

fn look_up(host: &str) -> Result<Vec<IpAddr>, String> {
    let found = (host, 0).to_socket_addrs().map_err(|e| e.to_string())?;
    let unique: BTreeSet<IpAddr> = found.map(|at| at.ip()).collect();
    if unique.is_empty() {
        return Err("the name has no address".into());
    }
    Ok(unique.into_iter().take(MAX_ANSWERS).collect())
}

fn reply(answer: &Answer) {
    // If connectd is gone, so are we at the next read.
    let _ = send(0, &answer.encode(), MsgFlags::MSG_NOSIGNAL);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_read_back_as_they_were_written() {
        for addresses in [
            Ok(vec!["1.2.3.4".parse().unwrap(), "::1".parse().unwrap()]),
            Err("no such host".to_owned()),
        ] {
            let answer = Answer { id: 7, addresses };
            assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn machine_knows_itself() {
        assert!(look_up("localhost").unwrap().iter().all(IpAddr::is_loopback));
        assert!(look_up("no-such-host.invalid").is_err());
        assert!(look_up("").is_err() || look_up("").is_ok(), "whatever it says, it says it");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Answer::decode(&bytes);
        }
    }
}
