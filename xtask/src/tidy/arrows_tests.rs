//! Arrows, circles and floors of small crates.

use super::super::circles::circles;
use super::super::floors::{Floor, floor_of, may_name, may_read_field};
use super::super::sources::Crate;
use super::*;
use std::path::{Path, PathBuf};

/// A crate of these files, the first of which is the library's top.
fn a_crate(files: &[(&str, &str)]) -> Crate {
    let read = |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new("x/src").join(name) == path);
        file.map(|(_, text)| (*text).to_owned()).ok_or_else(|| format!("no {}", path.display()))
    };
    let mut of = Crate::new("x");
    of.read(Path::new(""), &PathBuf::from("x/src").join(files[0].0), true, &read).unwrap();
    of
}

/// Its arrows as `from:line to item`.
fn shown(files: &[(&str, &str)]) -> Vec<String> {
    let of = a_crate(files);
    let name = |file: usize| of.files[file].path.trim_start_matches("x/src/").to_owned();
    let arrows = arrows_of(&of).arrows;
    arrows
        .iter()
        .map(|a| format!("{}:{} {} {}", name(a.from), a.line, name(a.to), a.item))
        .collect()
}

const TWO: (&str, &str) = ("lib.rs", "mod a;\nmod b;");
const B: (&str, &str) =
    ("b.rs", "pub struct B;\nimpl B { pub fn new() -> B { B } }\npub fn run() {}");

#[test]
fn arrow_comes_from_an_import_and_from_a_path_inline() {
    assert_eq!(
        shown(&[TWO, ("a.rs", "use crate::b::B;\nfn f() { crate::b::run() }"), B]),
        ["a.rs:1 b.rs b::B", "a.rs:2 b.rs b::run"]
    );
    assert_eq!(
        shown(&[TWO, ("a.rs", "use super::b;\nfn f() { b::run() }"), B]),
        ["a.rs:2 b.rs b::run"]
    );
    assert_eq!(
        shown(&[TWO, ("a.rs", "fn f() {\nuse crate::b as c;\nc::run() }"), B]),
        ["a.rs:3 b.rs b::run"]
    );
    assert_eq!(
        shown(&[TWO, ("a.rs", "fn f() { vec![crate::b::run()]; }"), B]),
        ["a.rs:1 b.rs b::run"]
    );
    assert_eq!(shown(&[TWO, ("a.rs", "use super::b::*;\nfn f(b: B) {}"), B]), ["a.rs:2 b.rs b::B"]);
}

#[test]
fn arrow_goes_through_re_exports_to_the_definition() {
    let top = ("lib.rs", "mod a;\nmod b;\npub use b::{B, run};");
    assert_eq!(shown(&[top, ("a.rs", "use crate::run;"), B]), ["a.rs:1 b.rs b::run"]);
    let same_name = ("lib.rs", "mod a;\nmod wait;\npub use wait::wait;");
    let wait = ("wait.rs", "pub fn wait() {}");
    assert_eq!(
        shown(&[same_name, ("a.rs", "use crate::wait;"), wait]),
        ["a.rs:1 wait.rs wait::wait"]
    );
}

#[test]
fn arrow_goes_to_the_file_of_a_types_function_too() {
    let far = ("c.rs", "impl crate::b::B { pub fn far() {} }");
    let files =
        [("lib.rs", "mod a;\nmod b;\nmod c;"), ("a.rs", "fn f() { crate::b::B::far() }"), B, far];
    assert_eq!(shown(&files), ["a.rs:1 b.rs b::B", "a.rs:1 c.rs B::far", "c.rs:1 b.rs b::B"]);
}

#[test]
fn tests_other_crates_and_modules_are_no_arrows() {
    let own = "use std::fmt;\nuse crate::b;\nuse super::b as c;\nfn f(b: fmt::Error) {}";
    assert_eq!(shown(&[TWO, ("a.rs", own), B]), [""; 0]);
    let tests = "#[cfg(test)]\nmod t { use crate::b::B; }\n#[cfg(any(test, feature = \"fuzzing\"))]\nfn f() { crate::b::run() }\nimpl A { #[cfg(test)] fn g() { crate::b::run() } }";
    assert_eq!(shown(&[TWO, ("a.rs", tests), B]), [""; 0]);
    let not = "#[cfg(not(test))]\nfn f() { crate::b::run() }";
    assert_eq!(shown(&[TWO, ("a.rs", not), B]), ["a.rs:2 b.rs b::run"]);
}

#[test]
fn imports_that_go_round_end() {
    let files = [
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "pub use super::b::*;\nuse super::b::x;"),
        ("b.rs", "pub use super::a::*;"),
    ];
    assert_eq!(shown(&files), [""; 0]);
}

#[test]
fn names_that_a_macro_makes_are_the_modules() {
    let made = ("b.rs", "table! { Row }");
    assert_eq!(shown(&[TWO, ("a.rs", "use crate::b::Row;"), made]), ["a.rs:1 b.rs b::Row"]);
}

#[test]
fn field_of_the_node_is_a_read() {
    let text = "fn f(node: &Node) { node.wallet.x; g!(node.peers); other.chain; }\nimpl Scope { fn h(&self) { self.htlcs } }\nimpl Wallet { fn h(&self) { self.coins } }";
    let reads = arrows_of(&a_crate(&[("lib.rs", text)])).reads;
    let reads: Vec<(usize, &str)> = reads.iter().map(|r| (r.line, r.field.as_str())).collect();
    assert_eq!(reads, [(1, "peers"), (1, "wallet"), (2, "htlcs")]);
}

#[test]
fn circle_of_files_is_found_with_one_way_round() {
    let top = ("lib.rs", "mod a;\nmod b;\nmod c;");
    let ring = [
        top,
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "use crate::c::C;\npub struct B;"),
        ("c.rs", "use crate::a;\npub struct C(a::A);"),
    ];
    let of = a_crate(&ring);
    let found = circles(of.files.len(), &arrows_of(&of).arrows);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].files, [1, 2, 3]);
    let way: Vec<(usize, usize)> = found[0].way.iter().map(|a| (a.from, a.line)).collect();
    assert_eq!(way, [(1, 1), (2, 1), (3, 2)]);
    let open = a_crate(&[top, ring[1], ring[2], ("c.rs", "pub struct C;")]);
    assert!(circles(open.files.len(), &arrows_of(&open).arrows).is_empty());
}

#[test]
fn floor_is_the_first_folder() {
    let room = |name: &str| Some(Floor::Room(name.to_owned()));
    assert_eq!(floor_of("sys/db/mod.rs"), Some(Floor::Sys));
    assert_eq!(floor_of("rooms/wallet/spend.rs"), room("wallet"));
    assert_eq!(floor_of("rooms/wallet.rs"), room("wallet"));
    assert_eq!(floor_of("api/rpc/peers.rs"), Some(Floor::Api));
    assert_eq!(floor_of("start.rs"), Some(Floor::Top));
    assert_eq!(floor_of("wallet/mod.rs"), None);
}

#[test]
fn floors_may_name_only_what_is_below() {
    let floors = [
        "sys/a.rs",
        "kernel/a.rs",
        "rooms/chain/a.rs",
        "node.rs",
        "flows/a.rs",
        "api/a.rs",
        "main.rs",
    ]
    .map(|p| floor_of(p).unwrap());
    for (from, upper) in floors.iter().enumerate() {
        for (to, lower) in floors.iter().enumerate() {
            assert_eq!(may_name(upper, lower, "x"), to <= from, "{upper} {lower}");
        }
    }
}

#[test]
fn rooms_may_name_and_read_only_their_row() {
    let room = |name: &str| Floor::Room(name.to_owned());
    assert!(may_name(&room("channels"), &room("wallet"), "spend::spend"));
    assert!(!may_name(&room("wallet"), &room("channels"), "Channel"));
    assert!(!may_name(&room("payments"), &room("wallet"), "spend::spend"));
    assert!(may_name(&room("payments"), &room("wallet"), "rooms::wallet::Scope"));
    assert!(!may_name(&room("wallet"), &room("payments"), "rooms::payments::Scope"));
    assert!(
        may_read_field(&room("onchain"), "htlcs") && !may_read_field(&room("htlcs"), "onchain")
    );
    assert!(may_read_field(&room("chain"), "config") && !may_read_field(&Floor::Kernel, "chain"));
}

#[test]
fn macro_text_names_no_test_module_and_no_item_like_a_macro() {
    let tests = ("lib.rs", "mod a;\nmod b;\npub use b::*;\n#[cfg(test)]\nmod sample;");
    let names = ("a.rs", "macro_rules! m { () => { $crate::sample::f() } }");
    assert_eq!(shown(&[tests, names, B]), [""; 0]);
    let two = ("lib.rs", "mod a;\nmod b;\nmod c;\npub use b::*;");
    let calls = ("a.rs", "macro_rules! m { () => { $crate::made!(1) } }\nfn f() { 1 != 2 }");
    let made = ("c.rs", "macro_rules! made { ($n:expr) => {} }");
    assert_eq!(shown(&[two, calls, B, made]), ["a.rs:1 c.rs made!"]);
}
