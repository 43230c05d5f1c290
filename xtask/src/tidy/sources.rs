//! The sources of each crate: its files, the tree of its modules, and the names that each module
//! has.
//!
//! Test code is left out here: modules and items under `#[cfg(test)]`, and what only fuzzing
//! compiles.

use super::items::{attributes, is_for_tests, item_name, path_attribute, uses_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::{Item, ItemImpl};

/// A file of a crate, parsed.
pub(super) struct File {
    /// Relative to the top of the tree.
    pub path: String,
    pub ast: syn::File,
}

/// What a name in a module stands for.
pub(super) enum Def {
    Item,
    Module(usize),
    /// An import, as written in its module.
    Use(Vec<String>),
    /// A module for tests alone. A macro's text may name it: it leads nowhere here.
    TestModule,
}

/// A module: a file's, or one written inline.
pub(super) struct Module {
    pub file: usize,
    pub parent: Option<usize>,
    /// The module at the top of its target.
    pub root: usize,
    /// Its path from there: `["channels", "live"]`.
    pub path: Vec<String>,
    pub names: BTreeMap<String, Vec<Def>>,
    pub globs: Vec<Vec<String>>,
    /// Functions and constants of `impl Type` blocks: the type as written, and their names.
    pub impls: Vec<(Vec<String>, Vec<String>)>,
}

/// A crate: its library and its executables.
pub(super) struct Crate {
    pub name: String,
    pub files: Vec<File>,
    pub modules: Vec<Module>,
    /// The library's top module.
    pub library: Option<usize>,
    /// `macro_rules!` and the file of each.
    pub macros: BTreeMap<String, usize>,
}

impl Crate {
    /// A crate without files yet. Its name is that of its library.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.replace('-', "_"),
            files: Vec::new(),
            modules: Vec::new(),
            library: None,
            macros: BTreeMap::new(),
        }
    }

    /// Reads a target: its top file and all that is below.
    pub(super) fn read(
        &mut self,
        root: &Path,
        top: &Path,
        library: bool,
        read: &Read<'_>,
    ) -> Result<(), String> {
        let module = self.file_module(root, top, None, &[], read)?;
        if library {
            self.library = Some(module);
        }
        Ok(())
    }

    fn file_module(
        &mut self,
        root: &Path,
        path: &Path,
        parent: Option<usize>,
        name: &[String],
        read: &Read<'_>,
    ) -> Result<usize, String> {
        let text = read(path)?;
        let ast = syn::parse_file(&text)
            .map_err(|e| format!("{}:{}: {e}", path.display(), e.span().start().line))?;
        let shown = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        self.files.push(File { path: shown, ast });
        let file = self.files.len() - 1;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = path.parent().unwrap_or(root).to_owned();
        let below = if parent.is_none() || stem == "mod" { folder } else { folder.join(stem) };
        let module = self.module(file, parent, name);
        let items = std::mem::take(&mut self.files[file].ast.items);
        self.fill(root, module, &items, &Place { file: path, below: &below }, read)?;
        self.files[file].ast.items = items;
        Ok(module)
    }

    fn module(&mut self, file: usize, parent: Option<usize>, path: &[String]) -> usize {
        let id = self.modules.len();
        let root = parent.map_or(id, |p| self.modules[p].root);
        self.modules.push(Module {
            file,
            parent,
            root,
            path: path.to_vec(),
            names: BTreeMap::new(),
            globs: Vec::new(),
            impls: Vec::new(),
        });
        id
    }

    fn fill(
        &mut self,
        root: &Path,
        module: usize,
        items: &[Item],
        place: &Place<'_>,
        read: &Read<'_>,
    ) -> Result<(), String> {
        for item in items {
            match item {
                Item::Mod(m) if is_for_tests(&m.attrs) => {
                    self.define(module, m.ident.to_string(), Def::TestModule);
                }
                test if is_for_tests(attributes(test)) => {}
                Item::Mod(m) => {
                    let name = m.ident.to_string();
                    let mut path = self.modules[module].path.clone();
                    path.push(name.clone());
                    let child = if let Some((_, inner)) = &m.content {
                        let child = self.module(self.modules[module].file, Some(module), &path);
                        let below = place.below.join(&name);
                        self.fill(
                            root,
                            child,
                            inner,
                            &Place { file: place.file, below: &below },
                            read,
                        )?;
                        child
                    } else {
                        let file = place
                            .of_module(&name, path_attribute(&m.attrs), read)
                            .ok_or_else(|| {
                                format!(
                                    "{}:{}: no file of mod {name}",
                                    place.file.display(),
                                    m.span().start().line
                                )
                            })?;
                        self.file_module(root, &file, Some(module), &path, read)?
                    };
                    self.define(module, name, Def::Module(child));
                }
                Item::Use(u) => self.note_uses(module, &u.tree),
                Item::Macro(m) => {
                    if let Some(name) = &m.ident {
                        self.macros.insert(name.to_string(), self.modules[module].file);
                    }
                }
                Item::Impl(i) => self.remember_impl(module, i),
                other => {
                    if let Some(name) = item_name(other) {
                        self.define(module, name, Def::Item);
                    }
                }
            }
        }
        Ok(())
    }

    fn note_uses(&mut self, module: usize, tree: &syn::UseTree) {
        for leaf in uses_of(tree) {
            match leaf.name {
                Some(name) => self.define(module, name, Def::Use(leaf.path)),
                None => self.modules[module].globs.push(leaf.path),
            }
        }
    }

    fn define(&mut self, module: usize, name: String, def: Def) {
        self.modules[module].names.entry(name).or_default().push(def);
    }

    fn remember_impl(&mut self, module: usize, block: &ItemImpl) {
        if block.trait_.is_some() {
            return;
        }
        let syn::Type::Path(of) = &*block.self_ty else { return };
        let names = block.items.iter().filter_map(|i| match i {
            syn::ImplItem::Fn(f) => Some(f.sig.ident.to_string()),
            syn::ImplItem::Const(c) => Some(c.ident.to_string()),
            _ => None,
        });
        let of = of.path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.modules[module].impls.push((of, names.collect()));
    }
}

/// How a file is read: from disk, or from a test's list.
pub(super) type Read<'a> = dyn Fn(&Path) -> Result<String, String> + 'a;

struct Place<'a> {
    file: &'a Path,
    /// The folder of child modules.
    below: &'a Path,
}

impl Place<'_> {
    fn of_module(&self, name: &str, given: Option<String>, read: &Read<'_>) -> Option<PathBuf> {
        if let Some(given) = given {
            return Some(self.file.parent()?.join(given));
        }
        let flat = self.below.join(format!("{name}.rs"));
        let folder = self.below.join(name).join("mod.rs");
        [flat, folder].into_iter().find(|p| read(p).is_ok())
    }
}
