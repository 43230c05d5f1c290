//! Every source and every document of the tree, read once.

use std::path::{Path, PathBuf};

/// A file of Rust, tests included.
pub(super) struct Source {
    /// Relative to the top of the tree.
    pub path: String,
    pub text: String,
    pub ast: syn::File,
}

/// Everything that is written by us.
pub(super) struct Tree {
    pub sources: Vec<Source>,
    /// Documents: path and text.
    pub documents: Vec<(String, String)>,
}

/// Folders that hold no source of ours.
const LEFT_OUT: &[&str] = &["target", "bitcoind-src", "corpus", "artifacts"];

/// Sources and documents of the whole tree, whatever crate they belong to.
pub(super) fn read(root: &Path) -> Result<Tree, String> {
    let mut tree = Tree { sources: Vec::new(), documents: Vec::new() };
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        for path in entries(&folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') || LEFT_OUT.contains(&name.as_str()) || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            tree.take(root, &path)?;
        }
    }
    tree.sources.sort_by(|a, b| a.path.cmp(&b.path));
    tree.documents.sort();
    Ok(tree)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(entries.filter_map(|e| Some(e.ok()?.path())).collect())
}

impl Tree {
    fn take(&mut self, root: &Path, path: &Path) -> Result<(), String> {
        let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if kind != "rs" && kind != "md" {
            return Ok(());
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let shown = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        if kind == "md" {
            self.documents.push((shown, text));
        } else {
            self.sources.push(source(&shown, text)?);
        }
        Ok(())
    }
}

/// A file as it is checked.
pub(super) fn source(path: &str, text: String) -> Result<Source, String> {
    let ast =
        syn::parse_file(&text).map_err(|e| format!("{path}:{}: {e}", e.span().start().line))?;
    Ok(Source { path: path.to_owned(), text, ast })
}
