//! What both programs without a harness share: the boxes by name, and how tests are run and
//! reported.

use sandbox::{Calls, Sandbox};
use std::process::ExitCode;

/// Every box.
pub const ALL: &[&str] = &["leaf", "signer", "network", "resolver", "hosts", "given", "lightningd"];

/// The box of this name.
pub fn named(name: &str) -> Sandbox {
    let plugin = |calls| Sandbox::Plugin { reads: vec![], calls };
    match name {
        "leaf" => Sandbox::Leaf,
        "signer" => Sandbox::Signer,
        "network" => Sandbox::Network,
        "resolver" => Sandbox::Resolver,
        "hosts" => plugin(Calls::Hosts),
        "given" => plugin(Calls::Given),
        "lightningd" => plugin(Calls::Lightningd),
        other => unreachable!("{other}"),
    }
}

/// `Err`: why it failed.
pub type Test = fn() -> Result<(), String>;

/// Runs each, and says so as the harness does.
pub fn run(tests: &[(&str, Test)]) -> ExitCode {
    let mut failed = 0;
    for (name, test) in tests {
        match test() {
            Ok(()) => println!("test {name} ... ok"),
            Err(why) => {
                failed += 1;
                println!("test {name} ... FAILED\n{why}");
            }
        }
    }
    let (word, passed) = (if failed == 0 { "ok" } else { "FAILED" }, tests.len() - failed);
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
