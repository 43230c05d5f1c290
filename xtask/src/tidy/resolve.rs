//! Which file defines what a path names: imports and re-exports are followed to the definition.

use super::sources::{Crate, Def};

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An item of this module. `rest` follows it in the path: a variant, or a function of the type.
    Item {
        module: usize,
        name: String,
        rest: Vec<String>,
    },
    Module(usize),
    /// A module that has no such name as far as its text shows: a macro makes it.
    Unknown {
        module: usize,
        name: String,
    },
    /// Another crate, or a name that is local to a function.
    Outside,
}

/// Which names of which modules are being looked up: imports may lead to imports, but not round.
type Open = Vec<(usize, String, usize)>;

/// A path longer than this goes round: `use wait::wait` in a module that has a `mod wait`.
const LONGEST_PATH: usize = 8;

impl Crate {
    /// What `path` names where it stands in `module`.
    pub(super) fn resolve(&self, module: usize, path: &[String]) -> Found {
        self.resolve_within(module, path, &mut Vec::new())
    }

    fn resolve_within(&self, module: usize, path: &[String], open: &mut Open) -> Found {
        let Some((first, rest)) = path.split_first() else { return Found::Outside };
        let here = &self.modules[module];
        match (first.as_str(), self.library) {
            ("crate", _) => self.walk(here.root, rest, open),
            ("self", _) => self.walk(module, rest, open),
            ("super", _) => here.parent.map_or(Found::Outside, |parent| {
                let again = rest.first().is_some_and(|r| r == "super");
                if again {
                    self.resolve_within(parent, rest, open)
                } else {
                    self.walk(parent, rest, open)
                }
            }),
            (name, Some(library)) if name == self.name && here.root != library => {
                self.walk(library, rest, open)
            }
            _ => match self.walk(module, path, open) {
                Found::Unknown { module: at, name } if at == module && name == *first => {
                    Found::Outside
                }
                found @ (Found::Item { .. }
                | Found::Module(_)
                | Found::Unknown { .. }
                | Found::Outside) => found,
            },
        }
    }

    /// What `path` names inside of `module`.
    fn walk(&self, module: usize, path: &[String], open: &mut Open) -> Found {
        let Some((name, rest)) = path.split_first() else { return Found::Module(module) };
        let looked_up = (module, name.clone(), rest.len());
        if rest.len() > LONGEST_PATH || open.contains(&looked_up) {
            return Found::Outside;
        }
        open.push(looked_up);
        let found = self.look_up(module, name, rest, open);
        open.pop();
        found
    }

    fn look_up(&self, module: usize, name: &String, rest: &[String], open: &mut Open) -> Found {
        let here = &self.modules[module];
        let mut all = Vec::new();
        for def in here.names.get(name).into_iter().flatten() {
            all.push(match def {
                Def::Item => Found::Item { module, name: name.clone(), rest: rest.to_vec() },
                Def::Module(child) => self.walk(*child, rest, open),
                Def::TestModule => Found::Outside,
                Def::Use(import) => {
                    let whole: Vec<String> = import.iter().chain(rest).cloned().collect();
                    self.resolve_within(module, &whole, open)
                }
            });
        }
        if all.is_empty() {
            let path: Vec<String> = std::iter::once(name).chain(rest).cloned().collect();
            for glob in &here.globs {
                if let Found::Module(other) = self.resolve_within(module, glob, open)
                    && other != module
                {
                    all.push(self.walk(other, &path, open));
                }
            }
        }
        let best = all.into_iter().min_by_key(rank);
        best.unwrap_or_else(|| Found::Unknown { module, name: name.clone() })
    }

    /// The files that a path leads to, each with the item's name: where it is defined, and where
    /// its function is.
    pub(super) fn files_of(&self, found: &Found) -> Vec<(usize, String)> {
        match found {
            Found::Item { module, name, rest } => {
                let mut files = vec![(self.modules[*module].file, self.shown(*module, name))];
                if let Some(function) = rest.first() {
                    files.extend(self.file_of_function(*module, name, function));
                }
                files
            }
            Found::Unknown { module, name } => {
                vec![(self.modules[*module].file, self.shown(*module, name))]
            }
            Found::Module(_) | Found::Outside => Vec::new(),
        }
    }

    fn file_of_function(
        &self,
        module: usize,
        name: &str,
        function: &str,
    ) -> Option<(usize, String)> {
        let of = Found::Item { module, name: name.to_owned(), rest: Vec::new() };
        let (at, _) = self.modules.iter().enumerate().find(|(at, m)| {
            m.impls.iter().any(|(of_type, functions)| {
                functions.iter().any(|f| f == function) && self.resolve(*at, of_type) == of
            })
        })?;
        Some((self.modules[at].file, format!("{name}::{function}")))
    }

    fn shown(&self, module: usize, name: &str) -> String {
        let mut path = self.modules[module].path.clone();
        path.push(name.to_owned());
        path.join("::")
    }
}

/// A name may be a function's and a module's at once: the definition nearest to the path's end is
/// meant.
fn rank(found: &Found) -> usize {
    match found {
        Found::Item { rest, .. } => rest.len(),
        Found::Module(_) => 100,
        Found::Unknown { .. } => 101,
        Found::Outside => 102,
    }
}
