//! The layers, as a check: which crate may use which. ARCHITECTURE.md has the picture.

use crate::cargo;
use std::collections::BTreeMap;
use std::process::Stdio;

/// Each crate of ours with those of ours that it may use. Third-party crates that only some may use come below.
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

/// Compares the manifests with the lists above. Dev-dependencies are free: oracles and harnesses are no arrows.
pub(crate) fn run() -> Result<(), String> {
    let out = cargo()
        .args(["metadata", "--format-version=1", "--no-deps", "--locked"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&out.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let uses: BTreeMap<String, Vec<String>> = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata has no packages")?
        .iter()
        .map(|p| {
            let name = p["name"].as_str().unwrap_or_default().to_owned();
            let dependencies = p["dependencies"].as_array().cloned().unwrap_or_default();
            let normal = dependencies.iter().filter(|d| d["kind"].is_null());
            (name, normal.filter_map(|d| d["name"].as_str().map(str::to_owned)).collect())
        })
        .collect();
    let wrong = judge(&uses);
    if wrong.is_empty() {
        println!("tidy: {} crates, no forbidden arrow", uses.len());
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn judge(uses: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, dependencies) in uses {
        let Some((_, may)) = ARROWS.iter().find(|(n, _)| n == name) else {
            wrong.push(format!("{name} is in no layer: give it a row in xtask/src/tidy.rs and a place in ARCHITECTURE.md"));
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
