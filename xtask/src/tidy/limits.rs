//! Limits on every file, tests included: length of files and functions, width of comments, reasons
//! of `allow`, doc comments that say more than the name.

use super::items::{attributes, impl_attributes, text_of};
use super::tree::Source;
use super::violation::Violation;
use super::wrap::{WIDEST_COMMENT, is_table};
use std::collections::BTreeSet;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Meta};

/// The longest function, in lines, from `fn` to its brace.
const LONGEST_FUNCTION: usize = 60;
/// The longest file, in lines.
const LONGEST_FILE: usize = 500;
/// In characters, without its module.
const LONGEST_TEST_NAME: usize = 60;

/// What a file has beyond the limits.
pub(super) fn breaches(source: &Source) -> Vec<Violation> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut reader = Reader {
        lines: &lines,
        path: &source.path,
        owner: String::new(),
        found: Vec::new(),
        bare: Vec::new(),
        repeats: Vec::new(),
        long_names: Vec::new(),
    };
    reader.visit_file(&source.ast);
    let mut found = std::mem::take(&mut reader.found);
    if lines.len() > LONGEST_FILE {
        let what = format!("longer than {LONGEST_FILE} lines");
        found.push(Violation {
            count: lines.len(),
            ..Violation::new("long-file", &source.path, what)
        });
    }
    let is_wide = |l: &&str| {
        l.trim_start().starts_with("//") && l.chars().count() > WIDEST_COMMENT && !is_table(l)
    };
    let wide: Vec<usize> =
        (1..).zip(&lines).filter(|(_, l)| is_wide(l)).map(|(at, _)| at).collect();
    let counted = [
        ("comment-width", format!("lines of comment wider than {WIDEST_COMMENT} columns"), wide),
        ("allow", "allow or expect without a reason".to_owned(), reader.bare),
        ("doc", "doc comments that only repeat the name".to_owned(), reader.repeats),
        (
            "test-name",
            format!("names of tests longer than {LONGEST_TEST_NAME} characters"),
            reader.long_names,
        ),
    ];
    for (kind, what, at) in counted.into_iter().filter(|(_, _, at)| !at.is_empty()) {
        let detail = vec![format!(
            "lines {}",
            at.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
        )];
        found.push(Violation {
            count: at.len(),
            detail,
            ..Violation::new(kind, &source.path, what)
        });
    }
    found
}

struct Reader<'a> {
    lines: &'a [&'a str],
    path: &'a str,
    /// The type whose methods are read, with `::`.
    owner: String,
    found: Vec<Violation>,
    bare: Vec<usize>,
    repeats: Vec<usize>,
    long_names: Vec<usize>,
}

impl Reader<'_> {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let length = block.span().end().line + 1 - first;
        if length > LONGEST_FUNCTION {
            let what = format!(
                "fn {}{} is longer than {LONGEST_FUNCTION} lines",
                self.owner, signature.ident
            );
            let detail = vec![format!("line {first}")];
            self.found.push(Violation {
                count: length,
                detail,
                ..Violation::new("long-function", self.path, what)
            });
        }
    }

    /// A line of comment that is no documentation, on this line or the one above.
    fn has_comment_beside(&self, line: usize) -> bool {
        let is_comment = |l: &str| {
            l.contains("//")
                && !l.trim_start().starts_with("///")
                && !l.trim_start().starts_with("//!")
        };
        let at = |line: usize| line.checked_sub(1).and_then(|at| self.lines.get(at));
        at(line).is_some_and(|l| is_comment(l))
            || line
                .checked_sub(1)
                .and_then(at)
                .is_some_and(|l| l.trim_start().starts_with("//") && is_comment(l))
    }

    fn documented(&mut self, attributes: &[Attribute], ident: &syn::Ident) {
        let docs: Vec<&Attribute> =
            attributes.iter().filter(|a| a.path().is_ident("doc")).collect();
        let [only] = docs.as_slice() else { return };
        let Meta::NameValue(pair) = &only.meta else { return };
        if text_of(&pair.value).is_some_and(|text| repeats(&text, &ident.to_string())) {
            self.repeats.push(only.span().start().line);
        }
    }
}

/// Words that add nothing to a name.
const EMPTY_WORDS: &[&str] = &[
    "a", "an", "the", "its", "our", "their", "this", "of", "is", "what", "which", "that", "it",
    "all", "and", "for", "to", "in",
];

/// Whether a doc comment has no word that the name does not have.
fn repeats(text: &str, name: &str) -> bool {
    let of_name: BTreeSet<String> = words(name).into_iter().collect();
    let said: Vec<String> =
        words(text).into_iter().filter(|w| !EMPTY_WORDS.contains(&w.as_str())).collect();
    !text.contains('`') && !said.is_empty() && said.iter().all(|w| of_name.contains(w))
}

/// Words in lower case, without a plural's s: of text, `snake_case` and `CamelCase`.
fn words(text: &str) -> Vec<String> {
    let mut spaced = String::new();
    for c in text.chars() {
        if c.is_uppercase() && spaced.ends_with(|b: char| b.is_lowercase()) {
            spaced.push(' ');
        }
        spaced.push(if c.is_alphanumeric() { c } else { ' ' });
    }
    let words = spaced.split_whitespace().map(str::to_lowercase);
    words
        .map(|w| w.strip_suffix('s').filter(|short| short.len() > 2).unwrap_or(&w).to_owned())
        .collect()
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if let Some(ident) = ident_of(item) {
            self.documented(attributes(item), ident);
        }
        let back = self.owner.clone();
        if let Item::Impl(block) = item
            && let syn::Type::Path(of) = &*block.self_ty
        {
            self.owner =
                of.path.segments.last().map(|s| format!("{}::", s.ident)).unwrap_or_default();
        }
        visit::visit_item(self, item);
        self.owner = back;
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
        let is_test = function.attrs.iter().any(|a| a.path().is_ident("test"));
        if is_test && function.sig.ident.to_string().len() > LONGEST_TEST_NAME {
            self.long_names.push(function.sig.ident.span().start().line);
        }
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if let ImplItem::Fn(f) = item {
            self.function(&f.sig, &f.block);
            self.documented(impl_attributes(item), &f.sig.ident);
        }
        visit::visit_impl_item(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident {
            self.documented(&field.attrs, ident);
        }
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.documented(&variant.attrs, &variant.ident);
        visit::visit_variant(self, variant);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let Meta::List(list) = &attribute.meta else { return };
        let tokens = list.tokens.to_string();
        let lets = list.path.is_ident("allow") || list.path.is_ident("expect");
        let lets = lets
            || (list.path.is_ident("cfg_attr")
                && (tokens.contains("allow (") || tokens.contains("allow(")));
        // What is unsafe has its reason beside the block: `SAFETY`, by a lint of clippy.
        let lets = lets && tokens != "unsafe_code";
        let line = attribute.span().start().line;
        if lets && !tokens.contains("reason") && !self.has_comment_beside(line) {
            self.bare.push(line);
        }
    }
}

fn ident_of(item: &Item) -> Option<&syn::Ident> {
    match item {
        Item::Const(i) => Some(&i.ident),
        Item::Enum(i) => Some(&i.ident),
        Item::Fn(i) => Some(&i.sig.ident),
        Item::Mod(i) => Some(&i.ident),
        Item::Static(i) => Some(&i.ident),
        Item::Struct(i) => Some(&i.ident),
        Item::Trait(i) => Some(&i.ident),
        Item::Type(i) => Some(&i.ident),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::source;
    use super::*;

    fn kinds(text: &str) -> Vec<(&'static str, usize)> {
        breaches(&source("x.rs", text.to_owned()).unwrap())
            .iter()
            .map(|v| (v.kind, v.count))
            .collect()
    }

    #[test]
    fn function_of_61_lines_is_too_long() {
        let of = |lines: usize| format!("fn f() {{\n{}}}\n", "g();\n".repeat(lines - 2));
        assert_eq!(kinds(&of(60)), []);
        assert_eq!(kinds(&of(61)), [("long-function", 61)]);
        assert_eq!(kinds(&format!("impl A {{\n{}}}", of(70))), [("long-function", 70)]);
    }

    #[test]
    fn file_of_501_lines_is_too_long() {
        assert_eq!(kinds(&"\n".repeat(500)), []);
        assert_eq!(kinds(&"\n".repeat(501)), [("long-file", 501)]);
    }

    #[test]
    fn comment_of_101_columns_is_too_wide() {
        assert_eq!(kinds(&format!("//{}\n", "é".repeat(98))), []);
        assert_eq!(kinds(&format!("    //{}\n", "x".repeat(95))), [("comment-width", 1)]);
    }

    #[test]
    fn allow_needs_a_reason_or_a_comment() {
        assert_eq!(kinds("#[allow(dead_code)]\nfn f() {}"), [("allow", 1)]);
        assert_eq!(kinds("/// Words.\n#[allow(dead_code)]\nfn f() {}"), [("allow", 1)]);
        assert_eq!(kinds("#[cfg_attr(not(test), allow(dead_code))]\nfn f() {}"), [("allow", 1)]);
        assert_eq!(kinds("#[allow(unsafe_code)]\nfn f() {}"), []);
        assert_eq!(kinds("// Why.\n#[allow(dead_code)]\nfn f() {}"), []);
        assert_eq!(kinds("#[allow(dead_code)] // Why.\nfn f() {}"), []);
        assert_eq!(kinds("#[expect(dead_code, reason = \"why\")]\nfn f() {}"), []);
    }

    #[test]
    fn doc_comment_that_repeats_its_name_is_found() {
        assert_eq!(
            kinds("/// The wallet.\nstruct Wallet {\n/// All of the coins.\ncoin: u8 }"),
            [("doc", 2)]
        );
        assert_eq!(
            kinds(
                "enum E {\n/// What funding is: `Funding`.\nFunding,\n/// Unknown peer.\nUnknownPeer }"
            ),
            [("doc", 1)]
        );
        assert_eq!(kinds("/// The wallet's rows.\nstruct Wallet;"), []);
    }

    #[test]
    fn test_name_of_61_characters_is_too_long() {
        let of = |length: usize| format!("#[test]\nfn {}() {{}}", "x".repeat(length));
        assert_eq!(kinds(&of(60)), []);
        assert_eq!(kinds(&of(61)), [("test-name", 1)]);
    }
}
