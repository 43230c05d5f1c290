//! What comes from where a lightningd should be, in every form in which `lightning-cli` shows it.

pub fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        cli::shows(text);
    }
}
