//! `deny-advisories.tsv`: what the database of flaws says of the crates in our locks, as rows of
//! facts.

use crate::shell::root;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Of how many flaws, and of which crates, the rows are.
const HEAD: &str = "# Which versions of what the suite is built from are known to be bad, by the RustSec advisories up to ";
/// A crate that was looked at.
const LOOKED_AT: &str = "# looked at: ";

/// The file's place.
pub(crate) fn file() -> PathBuf {
    root().join("deny-advisories.tsv")
}

/// Until when the database was, as `YYYY-MM-DD`.
pub(crate) fn date(facts: &str) -> Result<&str, String> {
    let line = facts.lines().next().and_then(|line| line.strip_prefix(HEAD));
    line.and_then(|rest| rest.get(..10)).ok_or_else(|| "deny-advisories.tsv: no date".to_owned())
}

/// Every crate in these locks was looked at: one that is new may have flaws that no row tells.
pub(crate) fn covers(facts: &str, locks: &[PathBuf]) -> Result<(), String> {
    let known: BTreeSet<&str> = facts
        .lines()
        .filter_map(|l| l.strip_prefix(LOOKED_AT))
        .flat_map(str::split_whitespace)
        .collect();
    let unknown: Vec<String> =
        crates_of(locks)?.into_iter().filter(|name| !known.contains(name.as_str())).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(format!(
        "deny-advisories.tsv says nothing of {}: run `cargo xtask deny --refresh DIR` with a checkout of RustSec's advisory-db",
        unknown.join(", ")
    ))
}

/// The names of all crates in these locks that come from elsewhere.
fn crates_of(locks: &[PathBuf]) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for lock in locks {
        let text = std::fs::read_to_string(lock).map_err(|e| format!("{}: {e}", lock.display()))?;
        for package in text.split("[[package]]").filter(|p| p.contains("\nsource = ")) {
            let name = package.lines().find_map(|line| line.strip_prefix("name = "));
            names.extend(name.map(|name| name.trim_matches('"').to_owned()));
        }
    }
    Ok(names)
}

/// Writes the file anew, from a checkout of the database whose last change was on this day.
pub(crate) fn refresh(database: &Path, day: &str, locks: &[PathBuf]) -> Result<(), String> {
    let names = crates_of(locks)?;
    let mut out = format!("{HEAD}{day}. Made by `cargo xtask deny --refresh`;\n");
    out += "# `cargo xtask deny` holds every Cargo.lock of the tree against it where the whole database cannot be fetched.\n";
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    for line in all.chunks(12) {
        let _ = writeln!(out, "{LOOKED_AT}{}", line.join(" "));
    }
    out += "# id\tcrate\tdate\tkind (-: a flaw)\tgood from\tnever affected\n";
    for name in &names {
        for text in advisories_of(&database.join("crates").join(name))? {
            out.extend(row(&text)?);
        }
    }
    std::fs::write(file(), out).map_err(|e| format!("{}: {e}", file().display()))
}

/// The texts in this folder, by name. None where there is no such folder: nothing is known of that
/// crate.
fn advisories_of(folder: &Path) -> Result<Vec<String>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths =
        entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    paths.iter().map(|path| std::fs::read_to_string(path).map_err(failed)).collect()
}

/// An advisory as a row. None for one that was withdrawn.
fn row(text: &str) -> Result<Option<String>, String> {
    let facts = text.split("```").nth(1).unwrap_or_default();
    if value(facts, "withdrawn").is_some() {
        return Ok(None);
    }
    let must = |key| value(facts, key).ok_or_else(|| format!("an advisory without {key}: {facts}"));
    let text = |key| must(key).map(|v| v.trim_matches('"').to_owned());
    let list = |key| match value(facts, key) {
        Some(list) => {
            let items: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
            if items.is_empty() { "-".to_owned() } else { items.join(" | ") }
        }
        None => "-".to_owned(),
    };
    let kind =
        value(facts, "informational").map_or("-".to_owned(), |v| v.trim_matches('"').to_owned());
    let (id, package, date) = (text("id")?, text("package")?, text("date")?);
    let (good, unaffected) = (list("patched"), list("unaffected"));
    Ok(Some(format!("{id}\t{package}\t{date}\t{kind}\t{good}\t{unaffected}\n")))
}

/// What stands behind `key =`, over several lines if it is a list.
fn value<'a>(facts: &'a str, key: &str) -> Option<&'a str> {
    let begins =
        |line: &str| line.strip_prefix(key).is_some_and(|r| r.trim_start().starts_with('='));
    let line = facts.lines().find(|line| begins(line))?;
    let at = facts.find(line)?;
    let rest = facts.get(at..)?.split_once('=')?.1.trim_start();
    let end = if rest.starts_with('[') {
        rest.find(']')? + 1
    } else {
        rest.find('\n').unwrap_or(rest.len())
    };
    rest.get(..end).map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advisory_becomes_a_row_unless_it_was_withdrawn() {
        let text = "```toml\n[advisory]\nid = \"RUSTSEC-1\"\npackage = \"x\"\ndate = \"2026-01-02\"\ninformational = \"unsound\"\n\n[versions]\npatched = [\n  \">= 1.2\",\n  \"0.9.3\",\n]\nunaffected = []\n```\n\n# Title\n";
        let made = row(text).unwrap().unwrap();
        assert_eq!(made, "RUSTSEC-1\tx\t2026-01-02\tunsound\t>= 1.2 | 0.9.3\t-\n");
        let withdrawn = text.replace("package", "withdrawn = \"2026-01-03\"\npackage");
        assert_eq!(row(&withdrawn).unwrap(), None);
        assert!(row("```toml\nid = \"1\"\n```").is_err());
    }

    #[test]
    fn crate_that_nobody_looked_at_is_named() {
        let folder = std::env::temp_dir().join(format!("fulmen-lock-{}", std::process::id()));
        let lock = "[[package]]\nname = \"ours\"\n\n[[package]]\nname = \"new\"\nsource = \"registry\"\n\n[[package]]\nname = \"old\"\nsource = \"registry\"\n";
        std::fs::write(&folder, lock).unwrap();
        let locks = [folder.clone()];
        assert!(covers("# looked at: old other\n# looked at: new\n", &locks).is_ok());
        let named = covers("# looked at: old other\n", &locks).unwrap_err();
        std::fs::remove_file(&folder).unwrap();
        assert!(named.contains("says nothing of new:"), "{named}");
    }

    #[test]
    fn file_has_its_date() {
        let facts = std::fs::read_to_string(file()).unwrap();
        assert_eq!(date(&facts).unwrap().split('-').count(), 3);
        assert!(date("# something").is_err());
    }
}
