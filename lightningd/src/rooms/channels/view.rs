//! Parts of channels as JSON.

use primitives::*;
use serde_json::{Value, json};

/// Bits and names of a channel type.
pub fn channel_type_json(features: &Features) -> Value {
    let bits: Vec<usize> = features.bits().collect();
    let names: Vec<String> = bits
        .iter()
        .map(|bit| {
            let name = match bit & !1 {
                feature::STATIC_REMOTEKEY => "static_remotekey",
                feature::ANCHORS => "anchors",
                feature::SCID_ALIAS => "scid_alias",
                feature::ZEROCONF => "zeroconf",
                _ => "unknown",
            };
            format!("{name}/{}", if bit % 2 == 0 { "even" } else { "odd" })
        })
        .collect();
    json!({"bits": bits, "names": names})
}

pub fn feature_names(channel_type: &Features) -> Vec<&'static str> {
    let mut names = Vec::new();
    if channel_type.offers(feature::STATIC_REMOTEKEY) {
        names.push("option_static_remotekey");
    }
    if channel_type.offers(feature::ANCHORS) {
        names.push("option_anchors");
    }
    names
}
