//! A plugin's manifest and a backend's fee estimates: any JSON.

pub fn run(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice(data) {
        lightningd::fuzzing::plugin(&value);
    }
}
