//! From words to JSON.

use crate::args::{Args, Style, usage};
use crate::exit::Failed;
use serde_json::value::RawValue;

/// What the answer must carry. It says who asked, in lightningd's log.
pub(crate) fn id(method: &str) -> String {
    let plain = method.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    let method = if plain { method } else { "weirdmethod!" };
    format!("cli:{method}#{}", std::process::id())
}

/// The request, ready to be written.
pub(crate) fn build(
    args: &Args,
    id: &str,
    method: &str,
    words: &[String],
) -> Result<String, Failed> {
    let params = params(args.style, words)?;
    let filter = match &args.filter {
        Some(filter) => format!(",\"filter\":{}", valid(filter.clone(), "--filter")?),
        None => String::new(),
    };
    let method = quote(method);
    let call = match &args.commando {
        None => format!("\"method\":{method}{filter},\"params\":{params}"),
        Some((peer, rune)) => {
            let rune = rune.as_ref().map(|rune| format!(",\"rune\":{}", quote(rune)));
            format!(
                "\"method\":\"commando\",\"params\":{{\"peer_id\":{},\"method\":{method}{filter}{},\"params\":{params}}}",
                quote(peer),
                rune.unwrap_or_default()
            )
        }
    };
    Ok(format!("{{\"jsonrpc\":\"2.0\",\"id\":{},{call}}}\n\n", quote(id)))
}

/// The parameters: a list, or an object where they are `key=value`.
pub(crate) fn params(style: Style, words: &[String]) -> Result<String, Failed> {
    let keywords = match style {
        Style::Keywords => true,
        Style::Ordered => false,
        Style::Guess => words.first().is_some_and(|word| word.contains('=')),
    };
    let mut items = Vec::with_capacity(words.len());
    for word in words {
        if keywords {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                usage(format!("Expected key=value, not '{word}' (-o takes params without keys)"))
            })?;
            items.push(format!("{}:{}", quote(key), literal(value)?));
        } else {
            items.push(literal(word)?);
        }
    }
    let items = items.join(",");
    Ok(if keywords { format!("{{{items}}}") } else { format!("[{items}]") })
}

/// A word that is JSON already goes as it is; any other becomes a string.
fn literal(word: &str) -> Result<String, Failed> {
    let wrapped = |open: char, close: char| {
        word.len() >= 2 && word.starts_with(open) && word.ends_with(close)
    };
    if wrapped('{', '}') || wrapped('[', ']') || wrapped('"', '"') {
        return valid(word.to_owned(), "a parameter");
    }
    // Only digits and dots, and JSON: neither 0123 nor 127.0.0.1.
    let number = word.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && serde_json::from_str::<&RawValue>(word).is_ok();
    if number || matches!(word, "true" | "false" | "null") {
        return Ok(word.to_owned());
    }
    Ok(quote(word))
}

fn valid(json: String, what: &str) -> Result<String, Failed> {
    match serde_json::from_str::<&RawValue>(&json) {
        Ok(_) => Ok(json),
        Err(e) => Err(usage(format!("{what} is not valid JSON: {json}: {e}"))),
    }
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
