//! Debian packages: installed where that is allowed, else named.

use crate::shell::step;
use std::process::{Command, Stdio};

/// Is this program there?
pub(crate) fn have(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Installs these as root; anybody else hears the line that does.
pub(crate) fn install(why: &str, packages: &str) -> Result<(), String> {
    let line = format!("apt-get install -y {packages}");
    let say = || format!("{why}. As root:\n    {line}");
    let root = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout == b"0\n");
    if !root || !have("apt-get") {
        return Err(say());
    }
    eprintln!("{why}: {line}");
    step(Command::new("apt-get").args(["update", "-qq"]).stdout(Stdio::null()))
        .map_err(|e| format!("{e}\n{}", say()))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq"]).args(packages.split(' '));
    install.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    step(&mut install).map_err(|e| format!("{e}\n{}", say()))
}
