//! The plugin `pay`. See the library.

fn main() -> std::process::ExitCode {
    sdk::run(&pay::PLUGIN)
}
