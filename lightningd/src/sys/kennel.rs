//! The plugins' processes and pipes.

use super::saved::Saved;
use super::stderr::Stderr;
use crate::sys::children::{PluginId, PluginMessage};
use crate::sys::nursery::set_nonblocking;
use crate::sys::objects::Objects;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What may wait for one plugin before it counts as hanging.
const MAX_QUEUED: usize = 64 * 1024 * 1024;
/// One message of a plugin: a block in hexadecimal fits many times.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// What is read of one plugin in one round.
const MAX_READ_PER_ROUND: usize = 1024 * 1024;
/// Its stdout, stdin and stderr.
const TOKENS_PER_PLUGIN: usize = 3;
/// Those of our own plugins that call lightningd, by a connection that they are born with.
const CALLERS: [&str; 1] = ["pay"];
/// Variables of this beginning are between lightningd and its own processes.
const INTERNAL: &str = "FULMEN_";
/// What a service manager tells lightningd alone: its sockets, its credentials, where it says that
/// it is ready.
const OF_SERVICE: [&str; 8] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "CREDENTIALS_DIRECTORY",
    "JOURNAL_STREAM",
];

struct Process {
    name: String,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: Stderr,
    out: Vec<u8>,
    written: usize,
    input: Objects,
    saved: Option<Saved>,
}

/// Is this variable between lightningd and whoever started it, or its own processes? Of the others
/// a user's plugin may need any.
fn is_ours_alone(name: &OsStr) -> bool {
    name.as_bytes().starts_with(INTERNAL.as_bytes()) || OF_SERVICE.iter().any(|of| name == *of)
}

impl Process {
    /// It, and whatever it started and did not set free.
    fn kill(&mut self) {
        // Nobody else can have its number: it has not been waited for.
        let group = i32::try_from(self.child.id()).map(Pid::from_raw);
        if let Ok(Err(e)) = group.map(|group| killpg(group, Signal::SIGKILL)) {
            log::debug!("kill {}: {e}", self.name);
        }
        // Should it have joined another group.
        if let Err(e) = self.child.kill() {
            log::debug!("kill {}: {e}", self.name);
        }
    }
}

/// Every live plugin's process.
#[derive(Default)]
pub struct Kennel {
    plugins: BTreeMap<PluginId, Process>,
    save_in: Option<PathBuf>,
    /// Our own, which enter a box by themselves, and whether they must.
    ours: Option<(sandbox::Mode, BTreeSet<PathBuf>)>,
}

impl Kennel {
    fn token(id: PluginId, which: usize, base: usize) -> Token {
        Token(
            base + usize::try_from(id).expect("plugin numbers fit the machine's words")
                * TOKENS_PER_PLUGIN
                + which,
        )
    }
    /// Whose token is this?
    pub fn plugin_of(token: Token, base: usize) -> PluginId {
        ((token.0 - base) / TOKENS_PER_PLUGIN) as PluginId
    }

    /// From now on what each plugin hears and says is saved in this directory.
    pub fn save_io_in(&mut self, dir: &Path) {
        self.save_in = Some(dir.to_path_buf());
    }

    /// These are our own.
    pub fn box_ours(&mut self, mode: sandbox::Mode, ours: impl IntoIterator<Item = PathBuf>) {
        self.ours = Some((mode, ours.into_iter().collect()));
    }

    fn is_ours(&self, path: &Path) -> bool {
        self.ours.as_ref().is_some_and(|(_, ours)| ours.contains(path))
    }

    /// Is a plugin of ours with this path to be born with a connection to the RPC?
    pub fn is_caller(&self, path: &Path) -> bool {
        self.is_ours(path) && CALLERS.iter().any(|name| path.ends_with(name))
    }

    /// What a plugin finds in its environment: ours nothing that it does not need; anybody else's
    /// what the operator gave to lightningd, without what lightningd tells its own processes.
    fn set_environment(&self, command: &mut Command, path: &Path, version: &str) {
        match &self.ours {
            Some((mode, ours)) if ours.contains(path) => {
                command.env_clear().envs([sandbox::FEW_ARENAS]);
                command.envs(std::env::vars_os().filter(|(name, _)| name == "HOME"));
                if *mode == sandbox::Mode::Required {
                    command.env(sandbox::REQUIRED, "1");
                }
            }
            Some(_) | None => {
                for (name, _) in std::env::vars_os().filter(|(name, _)| is_ours_alone(name)) {
                    command.env_remove(name);
                }
            }
        }
        command.env("LIGHTNINGD_PLUGIN", "1").env("LIGHTNINGD_VERSION", version);
    }

    /// Starts one, with its end of a connection to the RPC where it is one of ours that calls.
    pub fn spawn(
        &mut self,
        id: PluginId,
        path: &Path,
        rpc: Option<OwnedFd>,
        (developer, version): (bool, &str),
        registry: &Registry,
        base: usize,
    ) -> std::io::Result<()> {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let saved = self.save_in.as_deref().map(|dir| Saved::open(dir, &name, id)).transpose()?;
        let mut command = Command::new(path);
        if developer {
            command.arg("--developer");
        }
        subdaemon::unblock_signals(&mut command);
        self.set_environment(&mut command, path, version);
        if let Some(rpc) = &rpc {
            // Its number is the same there. No other process is started before it is closed here
            // again.
            fcntl(rpc, FcntlArg::F_SETFD(FdFlag::empty()))?;
            command.env(sandbox::RPC_SOCKET, rpc.as_raw_fd().to_string());
        }
        // With a wrapper around it, it ends as a whole.
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        drop(rpc);
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        watch(&stdout, Interest::READABLE, registry, Self::token(id, 0, base))?;
        watch(&stdin, Interest::WRITABLE, registry, Self::token(id, 1, base))?;
        watch(&stderr, Interest::READABLE, registry, Self::token(id, 2, base))?;
        let stderr = Stderr::new(stderr, &name, self.is_ours(path));
        let process = Process {
            name,
            child,
            stdin,
            stdout,
            stderr,
            out: vec![],
            written: 0,
            input: Objects::default(),
            saved,
        };
        self.plugins.insert(id, process);
        Ok(())
    }

    /// Queues a message and writes what goes.
    pub fn send(&mut self, id: PluginId, json: &str) {
        let Some(process) = self.plugins.get_mut(&id) else { return };
        process.out.extend_from_slice(json.as_bytes());
        process.out.extend_from_slice(b"\n\n");
        if process.out.len() - process.written > MAX_QUEUED {
            let name = process.name.clone();
            self.kill(
                id,
                &format!("{name} does not read: more than {MAX_QUEUED} bytes wait for it"),
            );
            return;
        }
        self.flush(id);
    }

    /// Writes what goes.
    pub fn flush(&mut self, id: PluginId) {
        let Some(process) = self.plugins.get_mut(&id) else { return };
        while process.written < process.out.len() {
            let rest = process.out.get(process.written..).unwrap_or_default();
            match process.stdin.write(rest) {
                Ok(n) => {
                    if let Some(saved) = &mut process.saved {
                        saved.heard(rest.get(..n).unwrap_or_default());
                    }
                    process.written += n;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Full: the pipe is watched. Broken: its stdout ends, and that is handled.
                Err(_) => {
                    if process.written > process.out.len() / 2 {
                        process.out.drain(..process.written);
                        process.written = 0;
                    }
                    return;
                }
            }
        }
        process.out.clear();
        process.written = 0;
    }

    /// Reads messages. Ok(true): there may be more. Err: it is over, and why.
    pub fn read(&mut self, id: PluginId, heard: &mut Vec<PluginMessage>) -> Result<bool, String> {
        let Some(process) = self.plugins.get_mut(&id) else { return Ok(false) };
        let mut chunk = [0; 65536];
        let mut total = 0;
        let ended = loop {
            if total > MAX_READ_PER_ROUND {
                break None;
            }
            match process.stdout.read(&mut chunk) {
                Ok(0) => break Some("its stdout was closed".to_owned()),
                Ok(n) => {
                    total += n;
                    let said = chunk.get(..n).unwrap_or_default();
                    if let Some(saved) = &mut process.saved {
                        saved.said(said);
                    }
                    process.input.push(said);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break None,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => break Some(format!("its stdout failed: {e}")),
            }
        };
        take_messages(process, heard)?;
        match ended {
            Some(why) => Err(why),
            None => Ok(total > MAX_READ_PER_ROUND),
        }
    }

    /// Logs what a plugin wrote to its stderr, if this is that token. `Some(true)`: there may be
    /// more.
    pub fn read_stderr(&mut self, id: PluginId, token: Token, base: usize) -> Option<bool> {
        let is_stderr = token == Self::token(id, 2, base);
        is_stderr.then(|| self.plugins.get_mut(&id).is_some_and(|process| process.stderr.read()))
    }

    /// Ends one.
    pub fn kill(&mut self, id: PluginId, why: &str) {
        if let Some(process) = self.plugins.get_mut(&id) {
            log::warn!("Killing plugin {}: {why}", process.name);
            process.kill();
        }
    }

    /// Forgets one that ended, and takes leave of its process.
    pub fn bury(&mut self, id: PluginId) {
        if let Some(mut process) = self.plugins.remove(&id) {
            process.kill();
            if let Err(e) = process.child.wait() {
                log::debug!("wait for {}: {e}", process.name);
            }
            process.stderr.last_words();
        }
    }

    /// All of them, at the end of the node.
    pub fn end_all(&mut self) {
        let ids: Vec<_> = self.plugins.keys().copied().collect();
        ids.into_iter().for_each(|id| self.bury(id));
    }
}

/// Has poll watch a pipe, which never blocks from now on.
fn watch(
    pipe: &(impl AsRawFd + AsFd),
    interest: Interest,
    registry: &Registry,
    token: Token,
) -> std::io::Result<()> {
    set_nonblocking(pipe)?;
    registry.register(&mut SourceFd(&pipe.as_raw_fd()), token, interest)
}

/// The messages that are whole.
fn take_messages(process: &mut Process, heard: &mut Vec<PluginMessage>) -> Result<(), String> {
    let (objects, broken) = process.input.take();
    for object in objects {
        heard.push(serde_json::from_str(object.get()).map_err(|e| format!("wrote bad JSON: {e}"))?);
    }
    if let Some(e) = broken {
        return Err(format!("wrote something that is no JSON: {e}"));
    }
    if process.input.len() > MAX_MESSAGE {
        return Err(format!("wrote a message of more than {MAX_MESSAGE} bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugin_does_not_inherit_our_or_systemd_variables() {
        for (name, ours) in [
            ("FULMEN_BARRIERS", true),
            ("NOTIFY_SOCKET", true),
            ("LISTEN_FDS", true),
            ("CREDENTIALS_DIRECTORY", true),
            ("PATH", false),
            ("CLNREST_PORT", false),
            ("LISTEN_ADDRESS", false),
        ] {
            assert_eq!(is_ours_alone(OsStr::new(name)), ours, "{name}");
        }
    }
}
