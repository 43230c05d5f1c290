//! Parts of channels as JSON.

use primitives::*;
use serde_json::{Value, json};

/// Bits and names of a channel type.
pub fn channel_type_json(features: &Features) -> Value {
    let bits: Vec<usize> = features.bits().collect();
    let names: Vec<String> = bits
        .iter()
        .map(|bit| {
            let name = feature::name_in_type(*bit).unwrap_or("unknown");
            format!("{name}/{}", if bit % 2 == 0 { "even" } else { "odd" })
        })
        .collect();
    json!({"bits": bits, "names": names})
}

pub fn feature_names(channel_type: &Features) -> Vec<&'static str> {
    let shown = [feature::STATIC_REMOTEKEY, feature::ANCHORS].into_iter();
    shown.filter(|bit| channel_type.offers(*bit)).filter_map(feature::name).collect()
}
