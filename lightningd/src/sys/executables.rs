//! Where the suite's executables are, and whether they fit together.

use crate::sys::children::Daemon;
use crate::sys::fatal::Fatal;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the executables are.
#[derive(Debug, Clone)]
pub struct Executables {
    pub paths: BTreeMap<Daemon, PathBuf>,
    pub plugin_dir: PathBuf,
}

impl Executables {
    /// Beside lightningd (a cargo target directory works as it is), else under libexec, else where
    /// `--subdaemon` says.
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
