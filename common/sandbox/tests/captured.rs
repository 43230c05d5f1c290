//! What a process in each box can still do that no row of one call shows: crash, make threads, touch files, be named for it.
//!
//! No harness: a box holds for a whole process. This program starts itself once for each box and task.
#![allow(unsafe_code)] // raw system calls, which nothing here relies on

use nix::libc;
use sandbox::{Barriers, Box, Calls, Mode};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

const ALL: &[&str] = &["leaf", "threads", "network", "resolver", "hosts", "lightningd"];

fn named(name: &str) -> Box {
    let plugin = |calls| Box::Plugin { reads: vec![], calls };
    match name {
        "leaf" => Box::Leaf,
        "threads" => Box::Threads,
        "network" => Box::Network,
        "resolver" => Box::Resolver,
        "hosts" => plugin(Calls::Hosts),
        "lightningd" => plugin(Calls::Lightningd),
        other => unreachable!("{other}"),
    }
}

/// For the environment: a task and a box.
const INSIDE: &str = "FULMEN_TEST_TASK";

/// This program again, in a box, at a task. One that has not ended after a minute is ended.
fn at(task: &str, name: &str) -> Result<Output, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(me);
    command.env(INSIDE, format!("{task} {name}")).env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let begun = Instant::now();
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().map_err(|e| e.to_string())?;
            return Err(format!("{task} in the box {name}: still running after a minute"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().map_err(|e| e.to_string())
}

fn in_box(name: &str) -> bool {
    match sandbox::enter(&named(name), Mode::Required, Barriers::Off) {
        Ok(_) => true,
        Err(why) => {
            println!("{why}");
            false
        }
    }
}

/// A fault outside the guard page. Rust's handler would have the kernel end the process by a call that a box refuses, and try again.
fn crash(name: &str) {
    if in_box(name) {
        // SAFETY: nothing is mapped at this address, and this process is there to end by that.
        unsafe { std::ptr::without_provenance_mut::<u8>(4096).write_volatile(1) };
    }
}

fn a_crash_in_a_box_ends_with_its_signal() -> Result<(), String> {
    for name in ALL {
        let out = at("crash", name)?;
        if out.status.signal() != Some(libc::SIGSEGV) {
            return Err(format!("{name}: {out:?}"));
        }
    }
    Ok(())
}

type Test = fn() -> Result<(), String>;

fn main() -> ExitCode {
    if let Ok(task) = std::env::var(INSIDE) {
        match task.split_once(' ') {
            Some(("crash", name)) => crash(name),
            other => unreachable!("{other:?}"),
        }
        return ExitCode::SUCCESS;
    }
    let tests: [(&str, Test); 1] =
        [("a_crash_in_a_box_ends_with_its_signal", a_crash_in_a_box_ends_with_its_signal)];
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
