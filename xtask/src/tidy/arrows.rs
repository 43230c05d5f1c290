//! Arrows from file to file: which definitions of other files each file names. None are `mod x;`,
//! the import of a module, and what a library's top file re-exports (`pub use`): that is the
//! crate's face, no need of the file. Calls of methods cannot be seen; fields of the node can
//! (`node.wallet`), and are kept apart as reads.

use super::items::{attributes, impl_attributes, is_for_tests, uses_of};
use super::sources::Crate;
use proc_macro2::{Spacing, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Expr, ImplItem, Item, Member, Stmt};

/// One file names a definition of another. Files are numbers of `Crate::files`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrow {
    pub from: usize,
    pub to: usize,
    pub line: usize,
    pub item: String,
}

/// One file reads a field of the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FieldRead {
    pub from: usize,
    pub line: usize,
    pub field: String,
}

/// All arrows and reads of a crate.
#[derive(Default)]
pub(super) struct Arrows {
    pub arrows: BTreeSet<Arrow>,
    pub reads: BTreeSet<FieldRead>,
}

pub(super) fn arrows_of(of: &Crate) -> Arrows {
    let mut all = Arrows::default();
    for file in 0..of.files.len() {
        if let Some(module) = of.modules.iter().position(|m| m.file == file) {
            let mut reader =
                Reader { of, module, locals: Vec::new(), in_node: false, all: &mut all };
            reader.items(&of.files[file].ast.items);
        }
    }
    all
}

struct Reader<'a> {
    of: &'a Crate,
    module: usize,
    /// Imports of the functions and blocks around.
    locals: Vec<BTreeMap<String, Vec<String>>>,
    /// Inside of `impl Node` or `impl Scope`, where `self` is the node.
    in_node: bool,
    all: &'a mut Arrows,
}

impl Reader<'_> {
    fn items(&mut self, items: &[Item]) {
        items.iter().for_each(|item| self.visit_item(item));
    }

    fn file(&self) -> usize {
        self.of.modules[self.module].file
    }

    /// A path was read: whatever file defines what it names, there goes an arrow.
    fn path(&mut self, path: &[String], line: usize) {
        let local = path.first().and_then(|f| self.locals.iter().rev().find_map(|l| l.get(f)));
        let found = match local {
            Some(import) => {
                let whole: Vec<String> = import.iter().chain(&path[1..]).cloned().collect();
                self.of.resolve(self.module, &whole)
            }
            None => self.of.resolve(self.module, path),
        };
        for (to, item) in self.of.files_of(&found) {
            self.arrow(to, line, item);
        }
    }

    fn arrow(&mut self, to: usize, line: usize, item: String) {
        let from = self.file();
        if from != to {
            self.all.arrows.insert(Arrow { from, to, line, item });
        }
    }

    fn read(&mut self, base: &str, field: &str, line: usize) {
        if base == "node" || base == "house" || (base == "self" && self.in_node) {
            let from = self.file();
            self.all.reads.insert(FieldRead { from, line, field: field.to_owned() });
        }
    }

    /// `name!` or `crate::name!`: to where the macro is written. Macros have names of their own:
    /// items of the same name are something else.
    fn macro_call(&mut self, path: &[String], line: usize) {
        let is_ours = path.len() == 1 || path.first().is_some_and(|first| first == "crate");
        let Some(name) = path.last().filter(|_| is_ours) else { return };
        if let Some(file) = self.of.macros.get(name) {
            self.arrow(*file, line, format!("{name}!"));
        }
    }

    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let line = first.span().start().line;
                    let (path, end) = path_at(&tokens, at);
                    let after_dot = at > 0 && is_punct(tokens.get(at - 1), '.');
                    let is_call = is_punct(tokens.get(end), '!')
                        && matches!(tokens.get(end + 1), Some(TokenTree::Group(_)));
                    if is_call {
                        self.macro_call(&path, line);
                    } else if !after_dot && path.len() > 1 {
                        self.path(&path, line);
                    } else if let (false, true, Some(TokenTree::Ident(field))) =
                        (after_dot, is_punct(tokens.get(end), '.'), tokens.get(end + 1))
                    {
                        self.read(&first.to_string(), &field.to_string(), line);
                    }
                    at = end;
                    continue;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }
}

fn is_punct(token: Option<&TokenTree>, which: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == which)
}

/// The path that begins with the identifier at `at`, and where it ends.
fn path_at(tokens: &[TokenTree], at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    let mut end = at;
    while let Some(TokenTree::Ident(ident)) = tokens.get(end) {
        path.push(ident.to_string());
        end += 1;
        let colons = matches!(tokens.get(end), Some(TokenTree::Punct(p)) if p.as_char() == ':' && p.spacing() == Spacing::Joint)
            && is_punct(tokens.get(end + 1), ':');
        if !colons || !matches!(tokens.get(end + 2), Some(TokenTree::Ident(_))) {
            break;
        }
        end += 2;
    }
    (path, end)
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        let Item::Mod(m) = item else { return visit::visit_item(self, item) };
        let (Some((_, inner)), name) = (&m.content, m.ident.to_string()) else { return };
        let child = self.of.modules.iter().position(|c| {
            c.parent == Some(self.module) && c.path.last() == Some(&name) && c.file == self.file()
        });
        if let Some(child) = child {
            let back = std::mem::replace(&mut self.module, child);
            self.items(inner);
            self.module = back;
        }
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let is_node = matches!(&*block.self_ty, syn::Type::Path(p) if p.path.segments.last()
            .is_some_and(|s| s.ident == "Node" || s.ident == "Scope"));
        let back = std::mem::replace(&mut self.in_node, is_node);
        visit::visit_item_impl(self, block);
        self.in_node = back;
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !is_for_tests(impl_attributes(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let mut imports = BTreeMap::new();
        for statement in &block.stmts {
            if let Stmt::Item(Item::Use(u)) = statement {
                let leaves = uses_of(&u.tree);
                imports.extend(leaves.into_iter().filter_map(|l| Some((l.name?, l.path))));
            }
        }
        self.locals.push(imports);
        visit::visit_block(self, block);
        self.locals.pop();
    }

    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        let is_face = Some(self.module) == self.of.library
            && matches!(import.vis, syn::Visibility::Public(_));
        if import.leading_colon.is_none() && !is_face {
            for leaf in uses_of(&import.tree) {
                // Resolved as it is written: the local name is this import itself.
                let found = self.of.resolve(self.module, &leaf.path);
                for (to, item) in self.of.files_of(&found) {
                    self.arrow(to, leaf.line, item);
                }
            }
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.path(&names, path.segments[0].ident.span().start().line);
        } else if let (Some(name), false) =
            (path.get_ident(), self.of.modules[self.module].globs.is_empty())
        {
            self.path(&[name.to_string()], name.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_field(&mut self, field: &'ast syn::ExprField) {
        if let (Expr::Path(base), Member::Named(name)) = (&*field.base, &field.member)
            && let Some(base) = base.path.get_ident()
        {
            self.read(&base.to_string(), &name.to_string(), name.span().start().line);
        }
        visit::visit_expr_field(self, field);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let path: Vec<String> = call.path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.macro_call(&path, call.path.segments[0].ident.span().start().line);
        self.tokens(call.tokens.clone());
    }
}

#[cfg(test)]
#[path = "arrows_tests.rs"]
mod tests;
