//! JSON as a tree of the text it was: numbers, strings and keys stay as they were written.

use serde_json::value::RawValue;

/// How deep values may stand in each other. Answers of lightningd are flat.
const MAX_DEPTH: usize = 500;

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Json<'a> {
    /// A number, string, or word; strings with their quotes.
    Scalar(&'a str),
    Array(Vec<Json<'a>>),
    /// Keys without quotes, not unescaped.
    Object(Vec<(&'a str, Json<'a>)>),
}

/// Reads a value; `None` if it is no JSON, or too deep.
pub(crate) fn parse(text: &str) -> Option<Json<'_>> {
    // What serde_json accepts is JSON: the reader below only has to take it apart.
    serde_json::from_str::<&RawValue>(text).ok()?;
    let mut rest = text;
    let value = value(&mut rest, 0)?;
    rest.trim_start().is_empty().then_some(value)
}

fn value<'a>(rest: &mut &'a str, depth: usize) -> Option<Json<'a>> {
    if depth > MAX_DEPTH {
        return None;
    }
    *rest = rest.trim_start();
    match rest.chars().next()? {
        '{' => {
            skip(rest, 1)?;
            let mut members = Vec::new();
            while !ends(rest, '}')? {
                let key = string(rest)?;
                *rest = rest.trim_start();
                skip(rest, 1)?;
                members.push((key.get(1..key.len().checked_sub(1)?)?, value(rest, depth + 1)?));
            }
            Some(Json::Object(members))
        }
        '[' => {
            skip(rest, 1)?;
            let mut items = Vec::new();
            while !ends(rest, ']')? {
                items.push(value(rest, depth + 1)?);
            }
            Some(Json::Array(items))
        }
        '"' => string(rest).map(Json::Scalar),
        _ => {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
            skip(rest, end.unwrap_or(rest.len())).map(Json::Scalar)
        }
    }
}

/// Takes `len` bytes off the front.
fn skip<'a>(rest: &mut &'a str, len: usize) -> Option<&'a str> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

/// Takes a comma, or the closing bracket, after which it is true.
fn ends(rest: &mut &str, close: char) -> Option<bool> {
    *rest = rest.trim_start();
    let next = rest.chars().next()?;
    if next == close || next == ',' {
        skip(rest, 1)?;
        *rest = rest.trim_start();
    }
    Some(next == close)
}

/// Takes a string with its quotes.
fn string<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let mut escaped = true; // the opening quote ends nothing
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return skip(rest, at + 1),
            _ => {}
        }
    }
    None
}
