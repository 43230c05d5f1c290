//! A plugin's manifest and a backend's fee estimates: any JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = serde_json::from_slice(data) {
        lightningd::fuzzing::plugin(&value);
    }
});
