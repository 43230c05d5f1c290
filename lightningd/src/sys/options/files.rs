//! CLN's configuration files: a `name` or `name=value` a line, comments, `include`.

use crate::sys::fatal::Fatal;
use crate::sys::options::said::{Occurrences, Said};
use std::path::{Path, PathBuf};

/// As deep as includes may go.
const MAX_DEPTH: usize = 100;

/// The options of a file and of what it includes, in order. A file that need not exist may be
/// missing.
pub(super) fn read(path: &Path, must_exist: bool) -> Result<Occurrences, Fatal> {
    let mut out = Vec::new();
    read_into(path, must_exist, 0, &mut out)?;
    Ok(out)
}

fn read_into(
    path: &Path,
    must_exist: bool,
    depth: usize,
    out: &mut Occurrences,
) -> Result<(), Fatal> {
    if depth > MAX_DEPTH {
        return Err(Fatal(format!(
            "Config file {}: includes go deeper than {MAX_DEPTH}",
            path.display()
        )));
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(()),
        Err(e) => return Err(Fatal(format!("Config file {}: {e}", path.display()))),
    };
    for line in lines(path, bytes)? {
        match line {
            Line::Include(included) => read_into(&included, true, depth + 1, out)?,
            Line::Option(name, said) => out.push((name, said)),
        }
    }
    Ok(())
}

/// A line that is neither empty nor a comment.
pub(super) enum Line {
    /// `include`: the lines of that file come before those behind it.
    Include(PathBuf),
    /// Its name, and its value with the place.
    Option(String, Said),
}

/// The lines of a file that say something.
pub(super) fn lines(path: &Path, bytes: Vec<u8>) -> Result<Vec<Line>, Fatal> {
    let text = String::from_utf8(bytes).map_err(|e| {
        Fatal(format!(
            "Config file {}: not text at byte {}",
            path.display(),
            e.utf8_error().valid_up_to()
        ))
    })?;
    let lines = text.split(['\n', '\r']).enumerate();
    Ok(lines.filter_map(|(number, line)| read_line(path, number + 1, line)).collect())
}

fn read_line(path: &Path, number: usize, line: &str) -> Option<Line> {
    let trimmed = line.trim_end();
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return None;
    }
    if let Some(included) = trimmed.strip_prefix("include ") {
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        return Some(Line::Include(base.join(included.trim())));
    }
    let (name, value) = match trimmed.split_once('=') {
        // Trailing blanks are part of a name that people see.
        Some((name @ ("alias" | "log-prefix"), _)) => {
            (name, line.split_once('=').map(|(_, v)| v.to_owned()))
        }
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (trimmed, None),
    };
    let source = format!("{}:{number}", path.display());
    Some(Line::Option(name.trim().to_owned(), Said { value, source, is_next_word: false }))
}
