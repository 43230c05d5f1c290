//! What a Bitcoin backend answers lightningd: the chain's state, blocks, spends in the mempool, outputs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(value) = serde_json::from_slice(data) {
        lightningd::fuzzing::backend(&value);
    }
});
