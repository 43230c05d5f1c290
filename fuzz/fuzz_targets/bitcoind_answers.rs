//! What comes from where a bitcoind should be: HTTP, JSON-RPC, amounts.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bcli::reads_answer(data));
