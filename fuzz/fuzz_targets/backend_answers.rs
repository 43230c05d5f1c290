//! What a Bitcoin backend answers lightningd: the chain's state, blocks, spends in the mempool,
//! outputs.

pub fn run(data: &[u8]) {
    if let Ok(value) = serde_json::from_slice(data) {
        lightningd::fuzzing::backend(&value);
    }
}
