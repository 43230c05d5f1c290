//! The layers, as a check: which crate may use which. ARCHITECTURE.md has the picture.

use crate::shell::cargo;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

/// Each crate of ours with those of ours that it may use. Third-party crates that only some may use
/// come below.
const ARROWS: &[(&str, &[&str])] = &[
    ("primitives", &[]),
    ("wire", &["primitives"]),
    ("channel", &["primitives", "wire"]),
    ("noise", &["primitives", "wire"]),
    ("onion", &["primitives", "wire"]),
    ("invoice", &["primitives", "wire"]),
    ("sandbox", &[]),
    ("subdaemon", &["primitives", "sandbox", "wire"]),
    ("hsmd", &["primitives", "wire", "channel", "noise", "onion", "invoice", "subdaemon"]),
    ("connectd", &["primitives", "wire", "noise", "subdaemon"]),
    ("openingd", &["primitives", "wire", "channel", "subdaemon"]),
    ("channeld", &["primitives", "wire", "channel", "onion", "subdaemon"]),
    ("closingd", &["primitives", "wire", "channel", "subdaemon"]),
    ("onchaind", &["primitives", "wire", "channel", "subdaemon"]),
    ("lightningd", &["primitives", "wire", "channel", "onion", "invoice", "sandbox", "subdaemon"]),
    ("sdk", &["primitives", "sandbox"]),
    ("bcli", &["primitives", "sandbox", "sdk"]),
    ("pay", &["primitives", "sandbox", "sdk", "invoice"]),
    ("cli", &["primitives"]),
    ("tests", &["primitives", "wire", "channel", "noise", "onion", "invoice", "subdaemon"]),
    ("benches", &["tests"]),
    ("xtask", &[]),
];

/// Third-party crates with a fence around them: only these of ours may use them.
const FENCED: &[(&str, &[&str])] = &[
    // benches makes databases of a thousand channels.
    ("rusqlite", &["lightningd", "tests", "benches"]),
    ("mio", &["lightningd", "connectd"]),
    ("nix", &["sandbox", "subdaemon", "lightningd", "connectd", "hsmd", "channeld", "tests"]),
    ("getrandom", &["subdaemon", "hsmd", "connectd"]),
    ("landlock", &["sandbox"]),
    ("seccompiler", &["sandbox"]),
    ("bip39", &["hsmd"]),
    ("chacha20poly1305", &["noise", "onion"]),
];

/// A crate of ours: its name, what it depends on, and the top file of each of its targets.
pub(super) struct Package {
    pub name: String,
    pub uses: Vec<String>,
    pub targets: Vec<Target>,
}

/// A library, executable or test of a crate.
pub(super) struct Target {
    pub kind: String,
    pub name: String,
    pub top: PathBuf,
}

/// The crates of the workspace, as cargo sees them. Dev-dependencies are left out: oracles and
/// harnesses are no arrows.
pub(super) fn packages() -> Result<Vec<Package>, String> {
    let out = cargo()
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    let metadata: Value =
        serde_json::from_slice(&out.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let list = metadata["packages"].as_array().ok_or("cargo metadata has no packages")?;
    Ok(list.iter().map(package).collect())
}

fn package(from: &Value) -> Package {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    Package {
        name: text(&from["name"]),
        uses: list(&from["dependencies"])
            .iter()
            .filter(|d| d["kind"].is_null())
            .map(|d| text(&d["name"]))
            .collect(),
        targets: list(&from["targets"])
            .iter()
            .map(|t| Target {
                kind: text(&t["kind"][0]),
                name: text(&t["name"]),
                top: text(&t["src_path"]).into(),
            })
            .collect(),
    }
}

/// What the manifests have that the lists above forbid.
pub(super) fn wrong_dependencies(packages: &[Package]) -> Vec<String> {
    judge(&packages.iter().map(|p| (p.name.clone(), p.uses.clone())).collect())
}

fn judge(uses: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, dependencies) in uses {
        let Some((_, may)) = ARROWS.iter().find(|(n, _)| n == name) else {
            wrong.push(format!("{name} is in no layer: give it a row in xtask/src/tidy/crates.rs and a place in ARCHITECTURE.md"));
            continue;
        };
        for used in dependencies {
            if uses.contains_key(used) && !may.contains(&used.as_str()) {
                wrong.push(format!("{name} must not use {used}: import only downward"));
            }
            if let Some((_, may)) = FENCED.iter().find(|(n, _)| n == used)
                && !may.contains(&name.as_str())
            {
                wrong.push(format!("{name} must not use {used}: only {} may", may.join(", ")));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrows(list: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        list.iter()
            .map(|(n, d)| ((*n).to_owned(), d.iter().map(|x| (*x).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn an_arrow_upward_is_found() {
        let uses = arrows(&[("primitives", &["wire"]), ("wire", &["primitives"])]);
        assert_eq!(judge(&uses), ["primitives must not use wire: import only downward"]);
    }

    #[test]
    fn a_crate_without_a_layer_and_a_fenced_library_are_found() {
        let uses = arrows(&[("stranger", &[]), ("channeld", &["rusqlite"])]);
        assert_eq!(judge(&uses).len(), 2);
    }

    #[test]
    fn every_arrow_in_the_list_points_downward() {
        for (place, (_, may)) in ARROWS.iter().enumerate() {
            for used in *may {
                let at = ARROWS.iter().position(|(n, _)| n == used);
                assert!(at.is_some_and(|at| at < place), "{used}");
            }
        }
    }
}
