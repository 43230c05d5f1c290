//! Fences inside lightningd: who may touch descriptors and processes, write SQL, and write JSON.

use super::floors::Floor;
use super::items::{attributes, impl_attributes, is_for_tests, uses_of};
use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{ImplItem, Item};

/// What stands behind a fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fenced {
    /// `mio`, `nix`, files and processes: sys and top.
    Descriptors,
    /// SQL: `store*`, `sys/db`, `turn.rs`.
    Sql,
    /// `json!`: what clients see.
    Json,
}

/// Files beside the floors' own where `json!` is let in, as beginnings of paths below
/// `lightningd/src`.
const JSON: &[&str] =
    &["kernel/plugins", "flows/hooks", "rooms/payments/failure", "rooms/onchain/report"];

/// The paths that only sys and top may name.
const DESCRIPTORS: &[&[&str]] = &[&["mio"], &["nix"], &["std", "fs"], &["std", "process"]];

/// Methods of rusqlite that take SQL.
const SQL_METHODS: &[&str] =
    &["prepare", "prepare_cached", "execute", "execute_batch", "query_row", "query_one"];

/// How SQL begins.
const SQL_WORDS: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "DROP",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "REPLACE",
    "PRAGMA",
    "VACUUM",
];

impl Fenced {
    /// What is said of a breach.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Fenced::Descriptors => "mio, nix, std::fs and std::process are for sys and top",
            Fenced::Sql => "SQL is for store*, sys/db and turn.rs",
            Fenced::Json => "json! is for api, view.rs, sys, kernel/plugins and flows/hooks",
        }
    }

    /// Whether a file, by its path below `lightningd/src`, is inside of the fence.
    pub(super) fn lets(self, path: &str, floor: &Floor) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        match self {
            Fenced::Descriptors => matches!(floor, Floor::Sys | Floor::Top),
            Fenced::Sql => {
                path.split('/').any(|part| part.starts_with("store"))
                    || path.starts_with("sys/db")
                    || name == "turn.rs"
            }
            Fenced::Json => {
                matches!(floor, Floor::Sys | Floor::Api)
                    || name == "view.rs"
                    || JSON.iter().any(|begin| path.starts_with(begin))
            }
        }
    }
}

/// Everything in a file that stands behind a fence, with its line.
pub(super) fn fenced_in(file: &syn::File) -> Vec<(Fenced, usize)> {
    let mut finder = Finder { found: Vec::new() };
    file.items.iter().for_each(|item| finder.visit_item(item));
    finder.found.sort();
    finder.found.dedup();
    finder.found
}

struct Finder {
    found: Vec<(Fenced, usize)>,
}

impl Finder {
    fn path(&mut self, path: &[String], line: usize) {
        let begins = |with: &&[&str]| {
            path.len() >= with.len() && path.iter().zip(*with).all(|(a, b)| a == b)
        };
        if DESCRIPTORS.iter().any(begins) {
            self.found.push((Fenced::Descriptors, line));
        }
    }

    fn text(&mut self, text: &str, line: usize) {
        // A word alone is a name, like `COMMIT` of a stage; as SQL it is a method's argument.
        let first = text.trim_start().split_once(char::is_whitespace).map(|(first, _)| first);
        if first.is_some_and(|first| SQL_WORDS.contains(&first)) {
            self.found.push((Fenced::Sql, line));
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    let line = literal.span().start().line;
                    if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string()) {
                        self.text(&text.value(), line);
                    }
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !is_for_tests(impl_attributes(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        for leaf in uses_of(&import.tree) {
            self.path(&leaf.path, leaf.line);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.path(&names, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.text(&text.value(), text.span().start().line);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if SQL_METHODS.contains(&call.method.to_string().as_str()) {
            self.found.push((Fenced::Sql, call.method.span().start().line));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(last) = call.path.segments.last()
            && last.ident == "json"
        {
            self.found.push((Fenced::Json, last.ident.span().start().line));
        }
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(source: &str) -> Vec<(Fenced, usize)> {
        fenced_in(&syn::parse_file(source).unwrap())
    }

    #[test]
    fn descriptors_are_found_in_imports_and_inline() {
        let found = breaches(
            "use std::{fs, io};\nuse mio::Token;\nfn f() { std::process::exit(1) }\nfn g(n: nix::libc::pid_t) {}",
        );
        assert_eq!(found, [1, 2, 3, 4].map(|line| (Fenced::Descriptors, line)));
    }

    #[test]
    fn sql_is_found_as_text_in_macros_and_as_a_call() {
        let found = breaches(
            "const A: &str = \"SELECT 1\";\nfn f() { g!(\"DELETE FROM x\"); }\nfn h(c: &C) { c.execute(A); }",
        );
        assert_eq!(found, [1, 2, 3].map(|line| (Fenced::Sql, line)));
    }

    #[test]
    fn sql_is_no_sentence_and_no_test() {
        let found = breaches(
            "const A: &str = \"Select one\";\nconst B: &str = \"COMMIT\";\n#[cfg(test)]\nmod tests { const A: &str = \"SELECT 1\"; }",
        );
        assert_eq!(found, []);
    }

    #[test]
    fn json_is_found_by_either_path() {
        let found = breaches("fn f() { json!({}) }\nfn g() { serde_json::json!(1) }");
        assert_eq!(found, [(Fenced::Json, 1), (Fenced::Json, 2)]);
    }

    #[test]
    fn fence_lets_in_by_floor_and_by_name() {
        let room = Floor::Room("wallet".into());
        assert!(Fenced::Sql.lets("rooms/wallet/store/list.rs", &room));
        assert!(Fenced::Sql.lets("kernel/turn.rs", &Floor::Kernel));
        assert!(!Fenced::Sql.lets("rooms/wallet/spend.rs", &room));
        assert!(Fenced::Json.lets("rooms/wallet/view.rs", &room));
        assert!(!Fenced::Json.lets("rooms/wallet/mod.rs", &room));
        assert!(Fenced::Descriptors.lets("sys/fds.rs", &Floor::Sys));
        assert!(!Fenced::Descriptors.lets("flows/peer.rs", &Floor::Flows));
    }
}
