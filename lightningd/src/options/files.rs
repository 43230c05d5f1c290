//! CLN's configuration files: a `name` or `name=value` a line, comments, `include`.

use super::Said;
use crate::turn::Fatal;
use std::path::Path;

/// As deep as includes may go.
const MAX_DEPTH: usize = 100;

/// The options of a file and of what it includes, in order. A file that need not exist may be missing.
pub(super) fn read(path: &Path, must_exist: bool) -> Result<Vec<(String, Said)>, Fatal> {
    let mut out = Vec::new();
    read_into(path, must_exist, 0, &mut out)?;
    Ok(out)
}

fn read_into(
    path: &Path,
    must_exist: bool,
    depth: usize,
    out: &mut Vec<(String, Said)>,
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
    let text = String::from_utf8(bytes).map_err(|e| {
        Fatal(format!(
            "Config file {}: not text at byte {}",
            path.display(),
            e.utf8_error().valid_up_to()
        ))
    })?;
    for (number, line) in text.split(['\n', '\r']).enumerate() {
        let source = format!("{}:{}", path.display(), number + 1);
        let trimmed = line.trim_end();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Some(included) = trimmed.strip_prefix("include ") {
            let base = path.parent().unwrap_or_else(|| Path::new("."));
            read_into(&base.join(included.trim()), true, depth + 1, out)?;
            continue;
        }
        let (name, value) = match trimmed.split_once('=') {
            // Trailing blanks are part of a name that people see.
            Some((name @ ("alias" | "log-prefix"), _)) => {
                (name, line.split_once('=').map(|(_, v)| v.to_owned()))
            }
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (trimmed, None),
        };
        out.push((name.trim().to_owned(), Said { value, source }));
    }
    Ok(())
}
