//! What tests start and what has a workspace of its own, since it pins crates that cannot stand
//! beside ours: LDK's node, and CLN's clients.
//!
//! Their dependencies are built once for every checkout of this user, as bitcoind is.

use crate::cache;
use crate::shell::{root, step};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// The folder of each workspace, and where tests look for its executables, under `target`.
const APART: &[(&str, &str)] = &[("tests/ldk-peer", "ldk-peer"), ("tests/clients/rust", "clients")];

/// Builds them, at a low priority: other tests run meanwhile.
pub(crate) fn build() -> Result<(), String> {
    APART.iter().try_for_each(|(workspace, name)| build_one(&root().join(workspace), name))
}

fn build_one(workspace: &Path, name: &str) -> Result<(), String> {
    let lock = workspace.join("Cargo.lock");
    let pinned = fs::read_to_string(&lock).map_err(|e| format!("{}: {e}", lock.display()))?;
    let shared = cache::dir(&format!("{name}-{:08x}", cache::sum(&pinned)))?;
    let failed = |e: std::io::Error| format!("{}: {e}", shared.display());
    // Until the executables are copied: another checkout builds other ones in the same place.
    let held = File::create(shared.join("lock")).map_err(failed)?;
    held.lock().map_err(failed)?;
    let mut build = Command::new("nice");
    build.arg(std::env::var_os("CARGO").unwrap_or("cargo".into())).current_dir(root());
    build
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(workspace.join("Cargo.toml"));
    step(build.arg("--target-dir").arg(&shared))?;
    copy_executables(&shared.join("debug"), &root().join("target").join(name).join("debug"))
}

fn copy_executables(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{} to {}: {e}", from.display(), to.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file() && path.extension().is_none())
        else {
            continue;
        };
        // One that runs is replaced, not written over.
        let fresh = to.join(format!(".{}.new", name.display()));
        fs::copy(&path, &fresh).map_err(failed)?;
        fs::rename(&fresh, to.join(name)).map_err(failed)?;
    }
    Ok(())
}
