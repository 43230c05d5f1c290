//! `cargo xtask deny`: what the suite is built from, held against `deny.toml` by cargo-deny: known
//! flaws, licences, more than one version of a crate, sources other than the registry.
//!
//! The database of flaws is a git repository that a build machine may not reach.
//! `deny-advisories.tsv` has what it says of the crates in our locks; here it becomes a repository
//! in the form that cargo-deny reads.

use crate::shell::{self, root, step};
use crate::{advisories, cache};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "0.20.2";
/// As cargo-deny names the folder of its usual database.
const DATABASE: &str = "advisory-db-3157b0e258782691";
/// Everything with a lock of its own, and what of `deny.toml` it is held against: what only tests
/// use may come in two versions.
const LOCKS: &[(&str, &[&str])] = &[
    ("Cargo.toml", &["advisories", "bans", "licenses", "sources"]),
    ("fuzz/Cargo.toml", &["advisories", "licenses", "sources"]),
    ("tests/ldk-peer/Cargo.toml", &["advisories", "sources"]),
    ("tests/clients/rust/Cargo.toml", &["advisories", "sources"]),
];

fn locks() -> Vec<PathBuf> {
    LOCKS.iter().map(|(manifest, _)| root().join(manifest).with_file_name("Cargo.lock")).collect()
}

/// Makes the rows anew from a checkout of the database.
pub(crate) fn refresh(database: &str) -> Result<(), String> {
    let mut git = Command::new("git");
    git.args(["-C", database, "log", "-1", "--format=%cs"]);
    let said = git.output().map_err(|e| format!("git: {e}"))?;
    let day = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    if day.len() != 10 {
        return Err(format!("{database} is no checkout of a git repository"));
    }
    advisories::refresh(Path::new(database), &day, &locks())
}

pub(crate) fn run() -> Result<(), String> {
    let facts = advisories::file();
    let facts = std::fs::read_to_string(&facts).map_err(|e| format!("{}: {e}", facts.display()))?;
    advisories::covers(&facts, &locks())?;
    let program = install()?;
    let databases = cache::dir("advisories")?;
    make_database(&databases.join(DATABASE), &facts)?;
    let rules = root().join("deny.toml");
    let rules = std::fs::read_to_string(&rules).map_err(|e| format!("{}: {e}", rules.display()))?;
    let config = databases.join("deny.toml");
    let rules = rules.replace("DATABASES", &databases.to_string_lossy());
    std::fs::write(&config, rules).map_err(|e| format!("{}: {e}", config.display()))?;
    for (manifest, checks) in LOCKS {
        // Crates for other systems than ours are in the locks, too.
        step(shell::cargo().args(["fetch", "--quiet", "--locked", "--manifest-path", manifest]))?;
        let mut check = Command::new(&program);
        check.current_dir(root()).args(["--locked", "--offline", "--log-level=error"]);
        check.arg("--manifest-path").arg(manifest).arg("--config").arg(&config);
        step(check.args(["check", "--hide-inclusion-graph"]).args(*checks))?;
    }
    Ok(())
}

fn install() -> Result<PathBuf, String> {
    let at = cache::dir(&format!("cargo-deny-{VERSION}"))?;
    let program = at.join("bin/cargo-deny");
    if !program.is_file() {
        eprintln!("installing cargo-deny {VERSION}: some minutes, once");
        let mut install = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        install.args(["install", "--locked", "--quiet", "--no-default-features", "--version"]);
        step(install.args([VERSION, "cargo-deny", "--root"]).arg(&at))?;
    }
    Ok(program)
}

/// One file for each flaw, committed: cargo-deny asks git how old the database is.
fn make_database(at: &Path, facts: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", at.display());
    if at.exists() {
        std::fs::remove_dir_all(at).map_err(failed)?;
    }
    for line in facts.lines().filter(|line| !line.starts_with('#')) {
        let (path, text) = advisory(line)?;
        let path = at.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(at)).map_err(failed)?;
        std::fs::write(path, text).map_err(failed)?;
    }
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        step(git.arg("-C").arg(at).args(["-c", "user.name=x", "-c", "user.email=x"]).args(args))
    };
    git(&["init", "--quiet"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message=facts"])?;
    // How old the facts are: cargo-deny takes none that are older than `deny.toml` says.
    std::fs::write(at.join(".git/FETCH_HEAD"), "").map_err(failed)?;
    let mut touch = Command::new("touch");
    step(touch.arg("-d").arg(advisories::date(facts)?).arg(at.join(".git/FETCH_HEAD")))
}

/// A row as a file: where, and its text.
fn advisory(line: &str) -> Result<(String, String), String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [id, package, date, kind, good, unaffected] = columns[..] else {
        return Err(format!("deny-advisories.tsv: a row of {} columns: {line}", columns.len()));
    };
    let list = |column: &str| {
        let items = column.split(" | ").filter(|item| *item != "-");
        items.map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
    };
    let mut text =
        format!("```toml\n[advisory]\nid = {id:?}\npackage = {package:?}\ndate = {date:?}\n");
    if kind != "-" {
        let _ = writeln!(text, "informational = {kind:?}");
    }
    let (good, unaffected) = (list(good), list(unaffected));
    let _ = write!(text, "\n[versions]\npatched = [{good}]\nunaffected = [{unaffected}]\n```\n\n");
    let _ = write!(text, "# {id}\n\nSee the advisory of this number.\n");
    Ok((format!("crates/{package}/{id}.md"), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advisories_are_rows_of_facts() {
        let facts = include_str!("../../deny-advisories.tsv");
        let rows: Vec<_> = facts.lines().filter(|l| !l.starts_with('#')).map(advisory).collect();
        assert!(rows.len() > 50 && rows.iter().all(Result::is_ok));
        let row = "RUSTSEC-1\tx\t2026-01-01\t-\t>= 1.2 | ^0.9.3\t-";
        let (path, text) = advisory(row).unwrap();
        assert_eq!(path, "crates/x/RUSTSEC-1.md");
        assert!(text.contains("patched = [\">= 1.2\", \"^0.9.3\"]\nunaffected = []"), "{text}");
        assert!(advisory("too\tfew").is_err());
    }
}
