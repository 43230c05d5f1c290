//! `cargo run --release -p benches`: two suites and one channel, then three in a line, on tmpfs and
//! on disk.
//!
//! Prints payments per second (one after another, and 100 in flight), latency, and what each
//! payment cost: commits that reached the disk, signatures, and the memory of each process. Numbers
//! of one run are to be compared with each other.

mod barriers;
mod disk;
mod forwards;
mod measure;
mod pay;
mod resolve;

use clap::{Parser, ValueEnum};
use std::path::{Path, PathBuf};

/// Measures the suite that lies beside this program.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Asked {
    /// Measure this alone
    suite: Option<Suite>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Payments over one channel, starts, and what a database of a thousand channels costs
    Pay,
    /// Forwards by the middle one of three nodes
    Forward,
    /// A unilateral close full of HTLCs
    Resolve,
}

fn main() {
    env_logger::init();
    let Asked { suite } = Asked::parse();
    if !tests::bin_dir().join("lightningd").is_file() {
        eprintln!("build the suite first: cargo build --release --workspace --bins");
        std::process::exit(1);
    }
    let wanted = |one: Suite| suite.is_none_or(|only| only == one);
    let disk = PathBuf::from("target/bench");
    for (name, base) in [("tmpfs", Path::new("/dev/shm/fulmen-bench")), ("disk", disk.as_path())] {
        println!("{name}:");
        log::info!("nodes live in {}", base.display());
        let _ = std::fs::remove_dir_all(base);
        std::fs::create_dir_all(base).expect("the benchmark can make its folder");
        let base = base.canonicalize().expect("it was just made");
        if wanted(Suite::Pay) {
            pay::run(&base.join("pay"));
        }
        if wanted(Suite::Forward) {
            forwards::run(&base.join("forward"));
        }
        if wanted(Suite::Resolve) {
            resolve::run(&base.join("resolve"));
        }
        std::fs::remove_dir_all(&base).expect("the folder is ours");
    }
}
