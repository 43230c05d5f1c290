//! Breaks comments that are too wide. Tables, code, and comments beside code stay as they are.

use std::path::Path;

/// The widest comment, in columns.
pub(super) const WIDEST_COMMENT: usize = 100;

/// Wraps the comments of a file where it lies.
pub(super) fn file(path: &Path) -> Result<(), String> {
    let shown = |e: std::io::Error| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(shown)?;
    let wrapped = wrapped(&text);
    if wrapped == text { Ok(()) } else { std::fs::write(path, wrapped).map_err(shown) }
}

/// A line that is nothing but a comment.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Comment<'a> {
    indent: usize,
    marker: &'a str,
    text: &'a str,
}

fn comment(line: &str) -> Option<Comment<'_>> {
    let from_marker = line.trim_start();
    let marker = ["///", "//!", "//~", "//"].into_iter().find(|m| from_marker.starts_with(m))?;
    Some(Comment {
        indent: line.len() - from_marker.len(),
        marker,
        text: &from_marker[marker.len()..],
    })
}

/// The text with every paragraph broken anew from its first line that is too wide.
pub(super) fn wrapped(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out: Vec<String> = Vec::new();
    let mut in_code = false;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let fence = comment(line).is_some_and(|c| c.text.trim_start().starts_with("```"));
        in_code = comment(line).is_some() && (in_code != fence);
        let end = if in_code || fence { at + 1 } else { paragraph_end(&lines, at) };
        let paragraph = &lines[at..end];
        let first = paragraph.iter().position(|l| l.chars().count() > WIDEST_COMMENT);
        match (comment(line), first) {
            (Some(_), Some(first)) if !in_code && !fence && !is_table(line) => {
                out.extend(paragraph[..first].iter().map(|l| (*l).to_owned()));
                out.extend(broken(paragraph, first));
            }
            _ => out.extend(paragraph.iter().map(|l| (*l).to_owned())),
        }
        at = end;
    }
    out.join("\n") + if text.ends_with('\n') { "\n" } else { "" }
}

/// A row of a table: it cannot be broken.
pub(super) fn is_table(line: &str) -> bool {
    comment(line).is_some_and(|c| c.text.trim_start().starts_with('|'))
}

/// Where the paragraph ends that begins at `at`: its lines have the same marker and the margin of
/// its text.
fn paragraph_end(lines: &[&str], at: usize) -> usize {
    let Some(begin) = comment(lines[at]) else { return at + 1 };
    let margin = margin_of(begin.text);
    let mut end = at + 1;
    while let Some(next) = lines.get(end).and_then(|l| comment(l)) {
        let same = next.indent == begin.indent && next.marker == begin.marker;
        let text = next.text.trim_start();
        let own_margin = next.text.len() - text.len() == margin;
        if !same || text.is_empty() || begin.text.trim().is_empty() || !own_margin || opens(text) {
            break;
        }
        end += 1;
    }
    end
}

/// The margin of a paragraph's further lines: after the mark, where it is an item of a list.
fn margin_of(text: &str) -> usize {
    let trimmed = text.trim_start();
    let margin = text.len() - trimmed.len();
    let mark = trimmed.split(' ').next().unwrap_or_default();
    if is_mark(mark) { margin + mark.len() + 1 } else { margin }
}

/// Whether a line begins something of its own: an item, a heading, a table, a quotation, code, a
/// visitor's line.
fn opens(text: &str) -> bool {
    let first = text.split(' ').next().unwrap_or_default();
    is_mark(first)
        || first.starts_with(['#', '|', '>', '['])
        || first.starts_with("```")
        || first.starts_with("//~")
}

fn is_mark(word: &str) -> bool {
    let number = word.strip_suffix(['.', ')']).unwrap_or_default();
    matches!(word, "*" | "-" | "+")
        || (!number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

/// The lines of a paragraph from `first` on, broken where they have to be.
fn broken(paragraph: &[&str], first: usize) -> Vec<String> {
    let (Some(head), Some(begin)) = (comment(paragraph[0]), comment(paragraph[first])) else {
        return Vec::new();
    };
    let lead = |margin: usize| " ".repeat(head.indent) + head.marker + &" ".repeat(margin);
    let further = lead(margin_of(head.text));
    let own_margin = begin.text.len() - begin.text.trim_start().len();
    let words: Vec<&str> = paragraph[first..]
        .iter()
        .filter_map(|l| comment(l))
        .flat_map(|c| c.text.split_whitespace())
        .collect();
    let mut lines = Vec::new();
    let mut line = lead(own_margin);
    let mut is_empty = true;
    for (at, word) in words.iter().enumerate() {
        // A word that would open something of its own must not begin a line.
        let next_opens = words.get(at + 1).is_some_and(|next| opens(next));
        let tail = if next_opens { words[at + 1].chars().count() + 1 } else { 0 };
        let width = line.chars().count() + word.chars().count() + usize::from(!is_empty) + tail;
        if !is_empty && width > WIDEST_COMMENT && !opens(word) {
            lines.push(std::mem::replace(&mut line, further.clone()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of ten columns, blank included.
    fn words(many: usize) -> String {
        vec!["ninechars"; many].join(" ")
    }

    #[test]
    fn line_that_is_too_wide_is_broken_and_its_paragraph_follows() {
        let text = format!(
            "fn f() {{\n    /// Short.\n    /// {}\n    /// end.\n    x();\n}}\n",
            words(12)
        );
        let wanted = format!(
            "fn f() {{\n    /// Short.\n    /// {}\n    /// {} end.\n    x();\n}}\n",
            words(9),
            words(3)
        );
        assert_eq!(wrapped(&text), wanted);
    }

    #[test]
    fn paragraphs_without_a_wide_line_code_and_tables_stay() {
        let text = format!(
            "// a\n// b\n\n//! | {0} |\n//!\n//! ```\n//! {0}\n//! ```\nlet x = 1; // {0}\n// end\n",
            words(12)
        );
        assert_eq!(wrapped(&text), text);
    }

    #[test]
    fn item_of_a_list_keeps_its_margin_and_ends_before_the_next() {
        let text = format!("//! * {}\n//! * next\n", words(12));
        assert_eq!(wrapped(&text), format!("//! * {}\n//!   {}\n//! * next\n", words(9), words(3)));
    }

    #[test]
    fn no_line_begins_with_a_mark_of_its_own() {
        let text = format!("// {} eight-ch - {}\n", words(8), words(3));
        assert!(
            wrapped(&text).lines().all(|l| !l.starts_with("// - ") && l.len() <= 100),
            "{}",
            wrapped(&text)
        );
    }

    #[test]
    fn what_was_wrapped_stays() {
        let text = format!("/// {}\n/// and {}\n", words(30), words(11));
        assert_eq!(wrapped(&wrapped(&text)), wrapped(&text));
    }
}
