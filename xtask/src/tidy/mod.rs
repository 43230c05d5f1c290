//! What the compiler does not check: which crate and which file may name which, circles of files,
//! fences, limits.
//!
//! ARCHITECTURE.md has the picture.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "syn's enums are another crate's, and grow with the language"
)]

mod arrows;
mod circles;
mod crates;
mod fences;
mod floors;
mod items;
mod limits;
mod names;
mod resolve;
mod sources;
mod tree;
mod violation;
mod wrap;

use crate::shell::root;
use arrows::Arrows;
use crates::Package;
use sources::Crate;
use std::path::{Path, PathBuf};
use violation::Violation;

/// What to check or print.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(crate) struct Asked {
    /// Print which file of this crate names a definition of which other
    #[arg(long, value_name = "CRATE")]
    arrows: Option<String>,
    /// Break lines of comments that are too wide
    #[arg(long, value_name = "FILE", num_args = 1..)]
    wrap: Vec<PathBuf>,
}

pub(crate) fn run(asked: &Asked) -> Result<(), String> {
    if !asked.wrap.is_empty() {
        return asked.wrap.iter().try_for_each(|file| wrap::file(file));
    }
    let packages = crates::packages()?;
    match &asked.arrows {
        Some(name) => print_arrows(&packages, name),
        None => check(&packages),
    }
}

fn check(packages: &[Package]) -> Result<(), String> {
    let mut wrong = crates::wrong_dependencies(packages);
    let mut found = Vec::new();
    let mut files = 0;
    for package in packages {
        let sources = read(package)?;
        files += sources.files.len();
        found.extend(violations(&sources));
    }
    let tree = tree::read(&root())?;
    found.extend(tree.sources.iter().flat_map(limits::breaches));
    found.extend(names::missing_tests(&tree));
    found.extend(names::broken_tour(&tree.sources));
    found.sort();
    wrong.extend(found.iter().map(Violation::to_string));
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    println!("tidy: {} crates, {files} files, nothing wrong", packages.len());
    Ok(())
}

/// The library and the executables of a crate; tests and benches are free.
fn read(package: &Package) -> Result<Crate, String> {
    let top = root();
    let library = package.targets.iter().find(|t| t.kind == "lib");
    let mut sources = Crate::new(library.map_or(&package.name, |t| &t.name));
    let read =
        |path: &Path| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    if let Some(library) = library {
        sources.read(&top, &library.top, true, &read)?;
    }
    for target in package.targets.iter().filter(|t| t.kind == "bin") {
        sources.read(&top, &target.top, false, &read)?;
    }
    Ok(sources)
}

fn violations(of: &Crate) -> Vec<Violation> {
    let arrows = arrows::arrows_of(of);
    let mut found = circle_breaches(of, &arrows);
    if of.name == "lightningd" {
        found.extend(floor_breaches(of, &arrows));
        found.extend(fence_breaches(of));
    }
    found
}

/// A row for each file that stands in a circle.
fn circle_breaches(of: &Crate, arrows: &Arrows) -> Vec<Violation> {
    let mut found = Vec::new();
    for circle in circles::circles(of.files.len(), &arrows.arrows) {
        for file in &circle.files {
            let mut violation =
                Violation::new("circle", &of.files[*file].path, "reaches itself along the arrows");
            let way = circle.way.iter().map(|a| {
                format!(
                    "{}:{} names {} of {}",
                    of.files[a.from].path, a.line, a.item, of.files[a.to].path
                )
            });
            violation.detail = way.collect();
            violation.detail.push(format!("{} files in this circle", circle.files.len()));
            found.push(violation);
        }
    }
    found
}

fn floor_breaches(of: &Crate, arrows: &Arrows) -> Vec<Violation> {
    let place = |file: usize| below_source(&of.files[file].path);
    let mut found = Vec::new();
    for file in 0..of.files.len() {
        match floors::floor_of(place(file)) {
            None => found.push(Violation::new("floor", &of.files[file].path, "stands on no floor")),
            Some(floor) if !floors::is_known(&floor) => {
                found.push(Violation::new(
                    "floor",
                    &of.files[file].path,
                    format!("{floor} has no row in ROOMS"),
                ));
            }
            Some(_) => {}
        }
    }
    for arrow in &arrows.arrows {
        let (Some(from), Some(to)) =
            (floors::floor_of(place(arrow.from)), floors::floor_of(place(arrow.to)))
        else {
            continue;
        };
        if !floors::may_name(&from, &to, &arrow.item) {
            let what = format!("{from} must not name {} of {to}", arrow.item);
            add(&mut found, Violation::new("arrow", &of.files[arrow.from].path, what), arrow.line);
        }
    }
    for read in &arrows.reads {
        let Some(from) = floors::floor_of(place(read.from)) else { continue };
        if !floors::may_read_field(&from, &read.field) {
            let what = format!("{from} must not read node.{}", read.field);
            add(&mut found, Violation::new("read", &of.files[read.from].path, what), read.line);
        }
    }
    found
}

/// Files that stand on a floor already: the others are in the list anyway.
fn fence_breaches(of: &Crate) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in &of.files {
        let path = below_source(&file.path);
        let Some(floor) = floors::floor_of(path) else { continue };
        for (fenced, line) in fences::fenced_in(&file.ast) {
            if !fenced.lets(path, &floor) {
                add(&mut found, Violation::new("fence", &file.path, fenced.rule()), line);
            }
        }
    }
    found
}

/// One row for the same violation on several lines.
fn add(found: &mut Vec<Violation>, violation: Violation, line: usize) {
    let at = found.iter().position(|f| {
        f.kind == violation.kind && f.place == violation.place && f.what == violation.what
    });
    let at = at.unwrap_or_else(|| {
        found.push(violation);
        found.len() - 1
    });
    found[at].detail.push(format!("line {line}"));
}

fn below_source(path: &str) -> &str {
    path.split_once("/src/").map_or(path, |(_, below)| below)
}

fn print_arrows(packages: &[Package], name: &str) -> Result<(), String> {
    let package =
        packages.iter().find(|p| p.name == name).ok_or_else(|| format!("no crate {name}"))?;
    let sources = read(package)?;
    let arrows = arrows::arrows_of(&sources);
    let path = |file: usize| below_source(&sources.files[file].path);
    let floor = |file: usize| floors::floor_of(path(file));
    for arrow in &arrows.arrows {
        let verdict = match (floor(arrow.from), floor(arrow.to)) {
            (Some(from), Some(to)) if floors::may_name(&from, &to, &arrow.item) => "may",
            (Some(_), Some(_)) => "must not",
            _ => "?",
        };
        println!(
            "names\t{}:{}\t{}\t{}\t{verdict}",
            path(arrow.from),
            arrow.line,
            path(arrow.to),
            arrow.item
        );
    }
    for read in &arrows.reads {
        let verdict = floor(read.from).map_or("?", |from| {
            if floors::may_read_field(&from, &read.field) { "may" } else { "must not" }
        });
        println!("reads\t{}:{}\tnode\t{}\t{verdict}", path(read.from), read.line, read.field);
    }
    for circle in circles::circles(sources.files.len(), &arrows.arrows) {
        let files: Vec<&str> = circle.files.iter().map(|f| path(*f)).collect();
        println!("circle\t{}\t{}", files.len(), files.join(" "));
    }
    Ok(())
}
