//! The plugin `bcli`. See the library.

fn main() -> std::process::ExitCode {
    sdk::run(&bcli::PLUGIN)
}
