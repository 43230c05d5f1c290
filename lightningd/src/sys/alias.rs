//! The node's alias and colour, as the options say, else as its id makes them.

use crate::sys::fatal::Fatal;
use crate::sys::options::Config;
use primitives::NodeId;

const ADJECTIVES: [&str; 16] = [
    "SILENT", "ORANGE", "NIMBLE", "COPPER", "AMBER", "LUCID", "RAPID", "STEADY", "VIVID", "POLAR",
    "QUIET", "BRIGHT", "HIDDEN", "SOLAR", "BRAVE", "CLEVER",
];

const NOUNS: [&str; 16] = [
    "FALCON", "ANVIL", "LANTERN", "HARBOR", "COMET", "THUNDER", "MEADOW", "BEACON", "OTTER",
    "SUMMIT", "RIVER", "FLINT", "SPARROW", "GLACIER", "EMBER", "ORCHID",
];

/// `--alias`: 32 bytes at most, else `Err`.
pub fn alias(config: &Config, id: NodeId) -> Result<String, Fatal> {
    if let Some(alias) = config.text("alias") {
        if alias.len() > 32 {
            return Err(Fatal(format!(
                "--alias: '{alias}' has {} bytes, of 32 at most",
                alias.len()
            )));
        }
        return Ok(alias.to_owned());
    }
    let pick = |words: &[&'static str; 16], at: usize| {
        words.get(usize::from(id.0.get(at).copied().unwrap_or(0)) % 16).copied().unwrap_or_default()
    };
    Ok(format!("{}{}", pick(&ADJECTIVES, 3), pick(&NOUNS, 11)))
}

/// `--rgb`: six hexadecimal digits, else `Err`.
pub fn colour(config: &Config, id: NodeId) -> Result<[u8; 3], Fatal> {
    let Some(text) = config.text("rgb") else {
        let [a, b, c, ..] = id.0;
        return Ok([a, b, c]);
    };
    crate::sys::json::from_hex(text.trim_start_matches('#'))
        .and_then(|b| b.try_into().ok())
        .ok_or_else(|| Fatal(format!("--rgb: '{text}' is no colour: six hexadecimal digits")))
}
