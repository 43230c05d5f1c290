//! The node's alias and colour, as the options say, else as its id makes them.

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

/// `--alias`, or two words from the node id.
pub fn alias(config: &Config, id: NodeId) -> String {
    if let Some(alias) = &config.options.alias {
        return alias.clone();
    }
    let pick = |words: &[&'static str; 16], at: usize| {
        words.get(usize::from(id.0.get(at).copied().unwrap_or(0)) % 16).copied().unwrap_or_default()
    };
    format!("{}{}", pick(&ADJECTIVES, 3), pick(&NOUNS, 11))
}

/// `--rgb`, or the first three bytes of the node id.
pub fn colour(config: &Config, id: NodeId) -> [u8; 3] {
    let [a, b, c, ..] = id.0;
    config.options.rgb.unwrap_or([a, b, c])
}
