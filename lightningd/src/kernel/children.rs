//! Children: what they are, which roles they have, and how they are born, heard, answered and ended.
//!
//! Two halves. [`Supervisor`] is the node's knowledge of who does what, changed by installs. [`Nursery`] holds the processes
//! and sockets; only the loop touches it.

use crate::sys::children::{ChildId, Daemon};
use crate::sys::executables::Executables;
use crate::sys::fatal::Fatal;
use crate::sys::log::said;
use primitives::ChannelNumber;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wire::daemon::Log;

/// What a child is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one and only.
    Hsmd,
    /// The one and only.
    Connectd,
    /// This channel, before it is one.
    Opening(ChannelNumber),
    /// This channel, alive.
    Channel(ChannelNumber),
    /// This channel, closing.
    Closing(ChannelNumber),
    /// This channel, on chain.
    Onchain(ChannelNumber),
}

/// Who does what.
#[derive(Debug, Default)]
pub struct Supervisor {
    next: Cell<ChildId>,
    roles: BTreeMap<ChildId, Role>,
    /// What the machine lacks for the boxes of children, for `getinfo`.
    pub sandbox_warning: Option<String>,
}

impl Supervisor {
    /// A number nobody had. One that a refused event took is simply never used.
    pub fn next_id(&self) -> ChildId {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }
    /// What this child is for; `None` once it is over.
    pub fn role(&self, child: ChildId) -> Option<Role> {
        self.roles.get(&child).copied()
    }
    /// A child has this role from now on.
    pub fn assign(&mut self, child: ChildId, role: Role) {
        self.roles.insert(child, role);
    }
    /// It is gone, or what it still says does not count.
    pub fn forget(&mut self, child: ChildId) {
        self.roles.remove(&child);
    }
}

impl Executables {
    /// Beside lightningd (a cargo target directory works as it is), else under libexec, else where `--subdaemon` says.
    pub fn find(overrides: &[(String, PathBuf)]) -> Result<Self, Fatal> {
        let mine = std::env::current_exe()
            .map_err(|e| Fatal(format!("cannot tell where lightningd is: {e}")))?;
        let dir = mine.parent().unwrap_or_else(|| Path::new(".")).to_path_buf();
        let libexec = dir.join("../libexec/fulmen");
        let mut paths = BTreeMap::new();
        for daemon in Daemon::ALL {
            let name = daemon.executable();
            let overridden = overrides
                .iter()
                .rev()
                .find(|(n, _)| n == daemon.name() || *n == name)
                .map(|(_, p)| p.clone());
            let candidates = [overridden.clone(), Some(dir.join(&name)), Some(libexec.join(&name))];
            let found =
                candidates.into_iter().flatten().find(|p| p.is_file()).ok_or_else(|| {
                    Fatal(format!(
                        "{name} is missing: looked in {} and {}; install the whole suite",
                        dir.display(),
                        libexec.display()
                    ))
                })?;
            paths.insert(daemon, overridden.unwrap_or(found));
        }
        let plugin_dir =
            if libexec.join("plugins").is_dir() { libexec.join("plugins") } else { dir };
        Ok(Self { paths, plugin_dir })
    }
    /// This one's.
    pub fn path(&self, daemon: Daemon) -> &Path {
        self.paths.get(&daemon).expect("find looked for all of them")
    }
    /// Where our own plugins are.
    pub fn plugin_dir(&self) -> &Path {
        &self.plugin_dir
    }

    /// Every daemon must speak the messages that we speak. All are asked at once.
    pub fn check_versions(&self) -> Result<(), Fatal> {
        let mine = format!("{:016x}", wire::VERSION);
        let mut asked = Vec::new();
        for (daemon, path) in &self.paths {
            let child = std::process::Command::new(path)
                .arg("--version")
                .env_clear()
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .map_err(|e| Fatal(format!("{} cannot be started: {e}", path.display())))?;
            asked.push((daemon, path, child));
        }
        for (daemon, path, child) in asked {
            let out =
                child.wait_with_output().map_err(|e| Fatal(format!("{}: {e}", path.display())))?;
            let theirs = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            if theirs != mine {
                return Err(Fatal(format!(
                    "{} ({}) speaks version '{theirs}' of the suite's messages, lightningd {mine}: install both from one build",
                    daemon.executable(),
                    path.display()
                )));
            }
        }
        Ok(())
    }
}

/// A line of a child's, under its name.
pub fn log_line(role: Role, peer: Option<primitives::NodeId>, line: &Log) {
    said(line.level, peer, &source(role), &line.text);
}

pub fn source(role: Role) -> String {
    match role {
        Role::Hsmd => "hsmd".to_owned(),
        Role::Connectd => "connectd".to_owned(),
        Role::Opening(n) => format!("openingd-chan#{n}"),
        Role::Channel(n) => format!("channeld-chan#{n}"),
        Role::Closing(n) => format!("closingd-chan#{n}"),
        Role::Onchain(n) => format!("onchaind-chan#{n}"),
    }
}
