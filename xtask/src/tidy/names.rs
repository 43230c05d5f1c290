//! What documents name and what visitors follow: every test of a table exists, and the tour (`//~`)
//! leads through all daemons.

use super::tree::{Source, Tree};
use super::violation::Violation;
use std::collections::BTreeSet;

/// The tour's stops, in order. Each names the one before and the one after.
const TOUR: &[&str] =
    &["lightningd", "hsmd", "connectd", "openingd", "channeld", "closingd", "onchaind"];

/// Tests and files that a table names in a column for tests, and that are not there.
pub(super) fn missing_tests(tree: &Tree) -> Vec<Violation> {
    let tests: BTreeSet<String> = tree.sources.iter().flat_map(|s| tests_of(&s.text)).collect();
    let files: Vec<&str> = tree.sources.iter().map(|s| s.path.as_str()).collect();
    let documents = tree.documents.iter().map(|(path, text)| (path, text.clone()));
    let heads = tree.sources.iter().map(|s| (&s.path, head_of(&s.text)));
    let mut found = Vec::new();
    for (path, text) in documents.chain(heads) {
        for (line, name) in named_tests(&text) {
            if !exists(&name, &tests, &files) {
                let mut violation =
                    Violation::new("named-test", path, format!("`{name}` does not exist"));
                violation.detail.push(format!("line {line}"));
                found.push(violation);
            }
        }
    }
    found
}

/// Names of tests: functions after `#[test]`, those inside of `proptest!` too.
fn tests_of(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        marked |= line.starts_with("#[test]");
        if let Some((_, after)) = line.split_once("fn ").filter(|_| marked) {
            names.push(
                after
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            );
            marked = false;
        }
    }
    names
}

/// A file's head comment, as text; lines that are code stay empty so that line numbers hold.
fn head_of(text: &str) -> String {
    text.lines().map(|l| l.strip_prefix("//! ").unwrap_or_default().to_owned() + "\n").collect()
}

/// What stands in backticks in the columns of tables whose heading says "test", with its line.
fn named_tests(text: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    let mut columns: Vec<bool> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if !line.starts_with('|') {
            columns.clear();
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        if columns.is_empty() {
            columns = cells.iter().map(|c| c.to_lowercase().contains("test")).collect();
            continue;
        }
        for (cell, _) in cells.iter().zip(&columns).filter(|(_, is_test)| **is_test) {
            let quoted = cell.split('`').skip(1).step_by(2);
            names.extend(quoted.filter(|q| is_name(q)).map(|q| (number, q.to_owned())));
        }
    }
    names
}

/// A function, a module's function, or a file; a `*` at the end stands for any end.
fn is_name(quoted: &str) -> bool {
    quoted.ends_with(".rs")
        || (quoted.contains('_') || quoted.contains("::"))
            && quoted
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:*".contains(c))
}

fn exists(name: &str, tests: &BTreeSet<String>, files: &[&str]) -> bool {
    if name.ends_with(".rs") {
        return files.iter().any(|f| *f == name || f.ends_with(&format!("/{name}")));
    }
    let (module, test) = name.rsplit_once("::").unwrap_or(("", name));
    let module_is_there = module.is_empty()
        || module.rsplit("::").next().is_some_and(|m| {
            files
                .iter()
                .any(|f| f.ends_with(&format!("/{m}.rs")) || f.ends_with(&format!("/{m}/mod.rs")))
        });
    let test_is_there = match test.strip_suffix('*') {
        Some(begin) => begin.is_empty() || tests.iter().any(|t| t.starts_with(begin)),
        None => tests.contains(test),
    };
    module_is_there && test_is_there
}

/// Stops that the tour lacks, or that do not name their neighbours.
pub(super) fn broken_tour(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (at, stop) in TOUR.iter().enumerate() {
        let place = format!("{stop}/src");
        let here = sources.iter().filter(|s| s.path.starts_with(&format!("{place}/")));
        let text: String = here
            .flat_map(|s| s.text.lines())
            .filter_map(|l| l.split_once("//~"))
            .map(|(_, t)| t)
            .collect();
        if text.is_empty() {
            found.push(Violation::new("tour", &place, "has no stop of the tour (`//~`)"));
            continue;
        }
        let neighbours = [at.checked_sub(1).and_then(|b| TOUR.get(b)), TOUR.get(at + 1)];
        for neighbour in neighbours.into_iter().flatten().filter(|n| !text.contains(**n)) {
            found.push(Violation::new(
                "tour",
                &place,
                format!("the tour's stop does not name {neighbour}"),
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::tree::source;
    use super::*;

    fn tree(document: &str, sources: &[(&str, &str)]) -> Tree {
        let sources = sources.iter().map(|(path, text)| source(path, (*text).to_owned()).unwrap());
        Tree {
            sources: sources.collect(),
            documents: vec![("A.md".to_owned(), document.to_owned())],
        }
    }

    #[test]
    fn test_in_a_table_must_exist() {
        let table = "| what | tests |\n|---|---|\n| `no_test` | `one_thing`, `other_*`, `evil::*`, `src/evil.rs` |\n";
        let source = ("a/src/evil.rs", "#[test]\nfn one_thing() {}\n#[test]\nfn other_thing() {}");
        assert_eq!(missing_tests(&tree(table, &[source])), []);
        let names: Vec<String> =
            missing_tests(&tree(table, &[])).into_iter().map(|v| v.what).collect();
        assert_eq!(names.len(), 4, "{names:?}");
    }

    #[test]
    fn test_in_a_head_comment_must_exist() {
        let head = "//! | a | tests |\n//! |---|---|\n//! | x | `gone_away` |\nfn f() {}";
        assert_eq!(missing_tests(&tree("", &[("a/src/lib.rs", head)])).len(), 1);
    }

    #[test]
    fn tour_needs_each_stop_and_its_neighbours() {
        let stops = |left_out: &str| {
            let all = TOUR.iter().filter(|s| **s != left_out);
            all.map(|s| {
                source(&format!("{s}/src/lib.rs"), format!("//~ {}\n", TOUR.join(" "))).unwrap()
            })
            .collect::<Vec<_>>()
        };
        assert_eq!(broken_tour(&stops("")), []);
        assert_eq!(broken_tour(&stops("hsmd")).len(), 1);
        let mut alone = stops("");
        alone[1].text = "//~ connectd\n".to_owned();
        assert_eq!(broken_tour(&alone)[0].what, "the tour's stop does not name lightningd");
    }
}
