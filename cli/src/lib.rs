//! `lightning-cli`: a command line turned into one JSON-RPC request, and its answer into text.
//!
//! It knows no command of lightningd's but `help`: what a method takes and answers passes through
//! as it is. Numbers and the order of members stay as lightningd wrote them.
#![deny(clippy::indexing_slicing)]

mod args;
mod client;
mod config;
mod exit;
mod format;
mod json;
mod program;
mod request;

pub use args::command;
pub use program::run;

/// For fuzz/: text from where a lightningd should be, in every form that it is shown in.
#[cfg(feature = "fuzzing")]
pub fn shows(text: &str) {
    use args::Format;
    let _ = json::parse(text);
    for format in [Format::Default, Format::Json, Format::Raw, Format::Human, Format::Flat] {
        let _ = (format::result(text, format, "help", &[]), format::error(text, format));
    }
}

#[cfg(test)]
mod tests;
