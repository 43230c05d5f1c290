//! Results and errors as text.

use crate::args::Format;
use crate::exit::{Exit, Failed};
use crate::json::{self, Json};

/// A result in the format that was asked for, or that it asks for itself.
pub(crate) fn result(
    text: &str,
    format: Format,
    method: &str,
    params: &[String],
) -> Result<String, Failed> {
    if format == Format::Raw {
        return Ok(format!("{text}\n"));
    }
    let mut value = parse(text)?;
    let mut out = String::new();
    match format {
        Format::Json | Format::Raw => pretty(&value, 0, &mut out),
        Format::Flat => flat("", &value, &mut out),
        Format::Human => human(&value, &mut out),
        Format::Default if method == "help" && params.is_empty() => help_list(&value, &mut out),
        Format::Default => {
            let hinted = take_simple_hint(&mut value);
            if hinted || method == "help" {
                human(&value, &mut out)
            } else {
                pretty(&value, 0, &mut out)
            }
        }
    }
    if !out.ends_with('\n') && !out.is_empty() {
        out.push('\n');
    }
    Ok(out)
}

/// An error, as JSON or as it was written.
pub(crate) fn error(text: &str, format: Format) -> Result<String, Failed> {
    if format == Format::Raw {
        return Ok(format!("{text}\n"));
    }
    let mut out = String::new();
    pretty(&parse(text)?, 0, &mut out);
    out.push('\n');
    Ok(out)
}

fn parse(text: &str) -> Result<Json<'_>, Failed> {
    json::parse(text)
        .ok_or_else(|| Failed(Exit::NoTalk, "lightningd's answer cannot be read".to_owned()))
}

/// Removes `"format-hint": "simple"`; was it there?
fn take_simple_hint(value: &mut Json<'_>) -> bool {
    let Json::Object(members) = value else { return false };
    let simple = members.contains(&("format-hint", Json::Scalar("\"simple\"")));
    members.retain(|(key, _)| *key != "format-hint");
    simple
}

/// Three spaces a level, as CLN prints it.
fn pretty(value: &Json<'_>, depth: usize, out: &mut String) {
    let indent = |depth: usize, out: &mut String| {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str("   "));
    };
    match value {
        Json::Scalar(text) => out.push_str(text),
        Json::Array(items) if items.is_empty() => out.push_str("[]"),
        Json::Object(members) if members.is_empty() => out.push_str("{}"),
        Json::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                indent(depth + 1, out);
                pretty(item, depth + 1, out);
            }
            indent(depth, out);
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (i, (key, member)) in members.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                indent(depth + 1, out);
                out.extend(["\"", key, "\": "]);
                pretty(member, depth + 1, out);
            }
            indent(depth, out);
            out.push('}');
        }
    }
}

/// `a.b[0].c=value`, strings without quotes and as they were escaped.
fn flat(path: &str, value: &Json<'_>, out: &mut String) {
    match value {
        Json::Scalar(text) => out.extend([path, "=", unquoted(text), "\n"]),
        Json::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                flat(&format!("{path}[{i}]"), item, out);
            }
        }
        Json::Object(members) => {
            for (key, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                flat(&format!("{path}{dot}{key}"), member, out);
            }
        }
    }
}

/// Values; an object of one member is that member's value.
fn human(value: &Json<'_>, out: &mut String) {
    match value {
        Json::Scalar(text) => {
            unescape(unquoted(text), out);
            out.push('\n');
        }
        Json::Array(items) => items.iter().for_each(|item| human(item, out)),
        Json::Object(members) => match members.as_slice() {
            [(_, only)] => human(only, out),
            members => {
                for (key, member) in members {
                    out.extend([key, "="]);
                    match member {
                        Json::Array(items) if items.is_empty() => out.push('\n'),
                        Json::Object(members) if members.is_empty() => out.push('\n'),
                        Json::Array(_) | Json::Object(_) | Json::Scalar(_) => human(member, out),
                    }
                }
            }
        },
    }
}

/// The commands that lightningd knows, each with its parameters.
fn help_list(value: &Json<'_>, out: &mut String) {
    let text = |command: &Json<'_>, key: &str| -> String {
        let Json::Object(members) = command else { return String::new() };
        let member = members.iter().find(|(name, _)| *name == key);
        let mut text = String::new();
        if let Some((_, Json::Scalar(value))) = member {
            unescape(unquoted(value), &mut text);
        }
        text
    };
    let member = match value {
        Json::Object(members) => members.iter().find(|(key, _)| *key == "help"),
        Json::Array(_) | Json::Scalar(_) => None,
    };
    let commands = match member {
        Some((_, Json::Array(commands))) => commands.as_slice(),
        Some((_, Json::Object(_) | Json::Scalar(_))) | None => &[],
    };
    let mut lines: Vec<_> = commands
        .iter()
        .map(|command| (text(command, "category"), text(command, "command")))
        .collect();
    if lines.iter().any(|(category, _)| !category.is_empty()) {
        lines.sort();
    }
    for (_, command) in lines {
        out.extend([command.as_str(), "\n\n"]);
    }
    out.push_str(
        "---\nrun `lightning-cli help <command>` for more information on a specific command\n",
    );
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// Line ends and tabs become what they stand for. Of other escapes only the backslash goes: what a
/// stranger wrote must not reach the terminal as a control character.
fn unescape(text: &str, out: &mut String) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            c => out.push(c),
        }
    }
}
