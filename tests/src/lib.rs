//! The black-box tests' harness: real lightningd suites on a real bitcoind, each test in a folder
//! and on ports of its own.
//!
//! It waits on conditions, and never for a time. What does not happen within [`PATIENCE`] fails the
//! test, with the log.

mod backend;
mod basics;
mod bitcoind;
mod clients;
pub mod crash;
mod ldk;
mod line;
mod node;
mod pair;
pub mod stranger;

pub use backend::plain_backend;
pub use basics::{PATIENCE, Scratch, bin_dir, free_port, wait_for};
pub use bitcoind::Bitcoind;
pub use clients::{Client, pyln_python, pyln_script, rust_client};
pub use ldk::LdkPeer;
pub use line::{LINE_SAT, Line, hop};
pub use node::{Node, Options, RpcError};
pub use pair::Pair;
