//! What comes from where a lightningd should be, in every form in which `lightning-cli` shows it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        cli::shows(text);
    }
});
