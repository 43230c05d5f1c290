//! What comes from where a bitcoind should be: HTTP, JSON-RPC, amounts.

pub fn run(data: &[u8]) {
    bcli::reads_answer(data);
}
