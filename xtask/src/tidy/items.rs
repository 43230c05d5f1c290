//! Small questions about a piece of syntax: its attributes, its name, what it imports.

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, ImplItem, Item, Meta, UseTree};

/// Whether `#[cfg(..)]` keeps this out of what operators run: tests and fuzzing.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| match &a.meta {
        Meta::List(list) if list.path.is_ident("cfg") => names_tests(list.tokens.clone()),
        _ => a.path().is_ident("test"),
    })
}

fn names_tests(tokens: TokenStream) -> bool {
    let mut negated = false;
    for token in tokens {
        match token {
            TokenTree::Ident(i) if i == "test" => return true,
            TokenTree::Ident(i) => negated = i == "not",
            TokenTree::Literal(l) if l.to_string() == "\"fuzzing\"" => return true,
            TokenTree::Group(g) if !negated && names_tests(g.stream()) => return true,
            TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    false
}

/// The text of `#[path = ".."]`.
pub(super) fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|a| match &a.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => text_of(&pair.value),
        _ => None,
    })
}

/// A string literal's text.
pub(super) fn text_of(value: &syn::Expr) -> Option<String> {
    match value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::ExternCrate(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::ForeignMod(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::TraitAlias(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

pub(super) fn impl_attributes(item: &ImplItem) -> &[Attribute] {
    match item {
        ImplItem::Const(i) => &i.attrs,
        ImplItem::Fn(i) => &i.attrs,
        ImplItem::Type(i) => &i.attrs,
        ImplItem::Macro(i) => &i.attrs,
        _ => &[],
    }
}

/// The name that an item gives its module, if it gives one.
pub(super) fn item_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(i) => &i.ident,
        Item::Enum(i) => &i.ident,
        Item::Fn(i) => &i.sig.ident,
        Item::Static(i) => &i.ident,
        Item::Struct(i) => &i.ident,
        Item::Trait(i) => &i.ident,
        Item::TraitAlias(i) => &i.ident,
        Item::Type(i) => &i.ident,
        Item::Union(i) => &i.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// One name of a `use`.
pub(super) struct Leaf {
    /// As it is called here; `None` for `*`.
    pub name: Option<String>,
    pub path: Vec<String>,
    pub line: usize,
}

/// Every name of a `use`, with its whole path.
pub(super) fn uses_of(tree: &UseTree) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    collect(tree, &mut Vec::new(), &mut leaves);
    leaves
}

fn collect(tree: &UseTree, prefix: &mut Vec<String>, leaves: &mut Vec<Leaf>) {
    match tree {
        UseTree::Path(p) => {
            prefix.push(p.ident.to_string());
            collect(&p.tree, prefix, leaves);
            prefix.pop();
        }
        UseTree::Name(n) if n.ident == "self" => {
            let line = n.ident.span().start().line;
            leaves.push(Leaf { name: prefix.last().cloned(), path: prefix.clone(), line });
        }
        UseTree::Name(n) => leaves.push(leaf(&n.ident, &n.ident, prefix)),
        UseTree::Rename(r) if r.ident == "self" => {
            let line = r.ident.span().start().line;
            leaves.push(Leaf { name: Some(r.rename.to_string()), path: prefix.clone(), line });
        }
        UseTree::Rename(r) => leaves.push(leaf(&r.ident, &r.rename, prefix)),
        UseTree::Glob(g) => {
            let line = g.star_token.spans[0].start().line;
            leaves.push(Leaf { name: None, path: prefix.clone(), line });
        }
        UseTree::Group(g) => g.items.iter().for_each(|t| collect(t, prefix, leaves)),
    }
}

fn leaf(ident: &syn::Ident, called: &syn::Ident, prefix: &[String]) -> Leaf {
    let mut path = prefix.to_vec();
    path.push(ident.to_string());
    Leaf { name: Some(called.to_string()), path, line: ident.span().start().line }
}
