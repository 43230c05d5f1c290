//! `cargo xtask release`: the executables as they are given to others. The same source gives the
//! same bytes wherever it lies, which `cargo xtask reproduce` shows: so that whoever does not trust
//! a build can make it again.

use crate::shell::{cargo, root, step};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// As in `.cargo/config.toml`, which a build with flags of its own does not read.
pub(crate) const RUST: &[&str] =
    &["--cfg", "poly1305_backend=\"soft\"", "--cfg", "chacha20_backend=\"soft\""];
const C: &str =
    "-fstack-protector-strong -fstack-clash-protection -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2";

/// Builds all of it, into `target/release`.
pub(crate) fn run() -> Result<(), String> {
    let root = root();
    step(in_place(&root, &root.join("target"))?.args(["--workspace", "--bins"]))
}

/// Writes man pages and completions below `share`.
pub(crate) fn manual(share: &Path) -> Result<(), String> {
    let root = root();
    let target = root.join("target");
    step(in_place(&root, &target)?.args(["-p", "lightningd", "--example", "manual"]))?;
    step(Command::new(target.join("release/examples/manual")).arg(share))
}

/// A release build of the tree in `root`, without a trace of where that is.
fn in_place(root: &Path, target: &Path) -> Result<Command, String> {
    let home = cargo_home()?;
    let places = [(root, "/fulmen"), (target, "/target"), (&home, "/cargo")];
    let mut rust: Vec<String> = RUST.iter().map(|flag| (*flag).to_owned()).collect();
    let mut c = C.to_owned();
    for (from, to) in places {
        rust.push(format!("--remap-path-prefix={}={to}", from.display()));
        c += &format!(" -ffile-prefix-map={}={to}", from.display());
    }
    let mut build = cargo();
    build.current_dir(root).args(["build", "--locked", "--release", "--target-dir"]).arg(target);
    build.env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}")).env("CFLAGS", c);
    Ok(build)
}

fn cargo_home() -> Result<PathBuf, String> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    home.ok_or_else(|| "neither CARGO_HOME nor HOME is set".to_owned())
}

/// Builds hsmd, which has C in it, or all executables, in two folders that have nothing in common,
/// and compares the bytes.
pub(crate) fn reproduce(all: bool) -> Result<(), String> {
    let what: &[&str] = if all { &["--workspace", "--bins"] } else { &["-p", "hsmd", "--bins"] };
    let base = std::env::temp_dir().join(format!("fulmen-reproduce-{}", std::process::id()));
    let folders = [base.join("one"), base.join("another/and/deeper")];
    let built = folders.iter().map(|at| build_in(at, what)).collect::<Result<Vec<_>, _>>();
    let removed = std::fs::remove_dir_all(&base).map_err(|e| format!("{}: {e}", base.display()));
    let built = built?;
    removed?;
    let [one, other] = built.as_slice() else { return Err("two builds are wanted".to_owned()) };
    let names: Vec<&str> = one.keys().map(String::as_str).collect();
    let differ: Vec<&str> =
        names.iter().filter(|name| one.get(**name) != other.get(**name)).copied().collect();
    if names.is_empty() || one.len() != other.len() || !differ.is_empty() {
        return Err(format!("built in another folder, these differ: {}", differ.join(", ")));
    }
    println!("reproduce: two folders, the same bytes of {}", names.join(", "));
    Ok(())
}

/// The executables of a release build of the tree as it is now, by name.
fn build_in(folder: &Path, what: &[&str]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    std::fs::create_dir_all(folder).map_err(failed)?;
    // What is in the tree now, committed or not, and nothing that was built.
    let files = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|e| format!("git ls-files: {e}"))?;
    for name in String::from_utf8_lossy(&files.stdout).split('\0').filter(|n| !n.is_empty()) {
        let (from, to) = (root().join(name), folder.join(name));
        if let Some(dir) = to.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        if from.is_file() {
            std::fs::copy(&from, &to).map_err(failed)?;
        }
    }
    let target = folder.join("out");
    step(in_place(folder, &target)?.args(what))?;
    let mut built = BTreeMap::new();
    for entry in std::fs::read_dir(target.join("release")).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (name, is_file) = (entry.file_name(), entry.path().is_file());
        let name = name.to_string_lossy().into_owned();
        // Beside them are lists of what each was built from.
        if is_file && !name.contains('.') {
            built.insert(name, std::fs::read(entry.path()).map_err(failed)?);
        }
    }
    Ok(built)
}
