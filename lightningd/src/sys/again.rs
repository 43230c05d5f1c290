//! lightningd as another process: in the background (`--daemon`), or begun anew after a full disk.

use crate::sys::backoff::Backoff;
use crate::sys::disk::Room;
use crate::sys::fatal::Fatal;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use primitives::SecretBytes;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Set for the child of a `--daemon`, which goes on.
const IS_DAEMON: &str = "FULMEN_DAEMON";
/// "<pid> <n>": set across `exec` for a lightningd that restarts after a full disk; n counts
/// restarts in a row. In another process's environment the pid is not its own, and the value says
/// nothing.
const ANEW: &str = "FULMEN_ANEW";
/// Between two that begin anew in a row.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// One that ran for so long ends the row.
const RAN_WELL: Duration = Duration::from_secs(600);
/// How often it is looked whether there is room.
const LOOK_FOR_ROOM_MS: u16 = 500;

/// How this process was started.
#[derive(Debug)]
pub struct Myself {
    /// Its file, before anybody put another in its place.
    program: std::io::Result<PathBuf>,
    arguments: Vec<OsString>,
    /// Where: paths among the arguments may be relative to it.
    from: Option<PathBuf>,
    is_daemon: bool,
    /// Of those that began anew in a row this is the last.
    in_a_row: u32,
    started: Instant,
}

impl Myself {
    /// To be asked for before this process changes its directory.
    pub fn at_start() -> Self {
        let said = std::env::var(ANEW).unwrap_or_default();
        Self {
            program: std::env::current_exe(),
            arguments: std::env::args_os().skip(1).collect(),
            from: std::env::current_dir().ok(),
            is_daemon: std::env::var_os(IS_DAEMON).is_some(),
            in_a_row: in_a_row(&said, std::process::id()),
            started: Instant::now(),
        }
    }

    /// Was this process another lightningd before?
    pub const fn is_anew(&self) -> bool {
        self.in_a_row > 0
    }
    /// Is this the child of a `--daemon`?
    pub const fn is_daemon(&self) -> bool {
        self.is_daemon
    }

    fn command(&self) -> Result<Command, Fatal> {
        let program = self.program.as_ref();
        let program = program.map_err(|e| Fatal(format!("lightningd's own file: {e}")))?;
        let mut command = Command::new(program);
        command.args(&self.arguments);
        if let Some(from) = &self.from {
            command.current_dir(from);
        }
        Ok(command)
    }

    /// In the background: a child with a session of its own goes on, and this process ends.
    pub fn daemonize(&self, passphrase: Option<&SecretBytes>) -> Result<(), Fatal> {
        let failed = |e: std::io::Error| Fatal(format!("--daemon: {e}"));
        if self.is_daemon {
            // One that begins anew leads a session already.
            let leads = nix::unistd::getsid(None) == Ok(nix::unistd::Pid::this());
            if !leads {
                nix::unistd::setsid().map_err(|e| failed(e.into()))?;
            }
            return Ok(());
        }
        let mut child = self
            .command()?
            .env(IS_DAEMON, "1")
            .stdin(if passphrase.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        if let (Some(passphrase), Some(mut stdin)) = (passphrase, child.stdin.take()) {
            stdin
                .write_all(passphrase.expose())
                .and_then(|()| stdin.write_all(b"\n"))
                .map_err(failed)?;
        }
        std::process::exit(0);
    }

    /// Waits for free space and for the pause, then executes the same program with the same
    /// arguments: what is in memory may be ahead of what is on disk, which the new one reads as
    /// after a crash. Returns only on failure, or when SIGTERM or SIGINT arrives meanwhile.
    pub fn begin_anew(&self, room: &Room, why: &Fatal) -> Fatal {
        let ran_well = self.started.elapsed() >= RAN_WELL;
        let in_a_row = if ran_well { 1 } else { self.in_a_row.saturating_add(1) };
        if let Err(told) = wait_for_room(room, pause(in_a_row)) {
            return Fatal(format!("{why}; {told}"));
        }
        let value = format!("{} {in_a_row}", std::process::id());
        let failed = match self.command() {
            Ok(mut command) => command.env(ANEW, value).exec().to_string(),
            Err(e) => e.to_string(),
        };
        Fatal(format!("{why}; and lightningd cannot begin anew: {failed}"))
    }
}

/// What an `exec` left in the environment. What an operator's environment says is about another
/// process.
fn in_a_row(said: &str, pid: u32) -> u32 {
    let (of, count) = said.split_once(' ').unwrap_or_default();
    if of.parse() == Ok(pid) { count.parse().unwrap_or(0) } else { 0 }
}

/// The first begins at once.
fn pause(in_a_row: u32) -> Duration {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, RAN_WELL);
    let now = Instant::now();
    (0..in_a_row.min(32)).map(|_| backoff.fail(now)).last().unwrap_or_default()
}

/// Returns when there is room, and the pause is over. `Err`: the end was asked for.
fn wait_for_room(room: &Room, pause: Duration) -> Result<(), Fatal> {
    let failed = |e: nix::errno::Errno| Fatal(format!("signals: {e}"));
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.thread_block().map_err(failed)?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    let not_before = Instant::now() + pause;
    while Instant::now() < not_before || !room.is_enough() {
        let fd = nix::poll::PollFd::new(signals.as_fd(), nix::poll::PollFlags::POLLIN);
        match nix::poll::poll(&mut [fd], LOOK_FOR_ROOM_MS) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => {
                return Err(Fatal(
                    "stopped by a signal while waiting for free disk space".to_owned(),
                ));
            }
            Err(e) => return Err(failed(e)),
        }
    }
    // Until the new one reads its signals these end it, as they end every process that starts.
    mask.thread_unblock().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightningd_that_began_anew_is_known_by_its_own_process() {
        assert_eq!(in_a_row("17 3", 17), 3);
        assert_eq!(in_a_row("17 3", 18), 0, "another's environment");
        for said in ["", "1", "17", "17 ", "17 x", "x 3"] {
            assert_eq!(in_a_row(said, 17), 0, "{said}");
        }
    }

    #[test]
    fn pause_before_beginning_anew_grows_up_to_a_minute() {
        let seconds = |n| pause(n).as_secs();
        assert_eq!([1, 2, 3, 4, 7, 8, 9, u32::MAX].map(seconds), [0, 1, 2, 4, 32, 60, 60, 60]);
    }
}
