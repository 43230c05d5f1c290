//! Which boxes there are, and what each process may still do in its own.

use std::path::PathBuf;

/// A sandbox: the actions that a process keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    /// Talk on the sockets it has. openingd, channeld, closingd, onchaind.
    Leaf,
    /// The same for many clients, with the threads it has. hsmd.
    Signer,
    /// Accept on the sockets it has, and dial over IP. connectd.
    Network,
    /// Look up names: read what is not the user's, and ask name servers.
    Resolver,
    /// bcli or pay: read the listed paths, and call whom `calls` names.
    Plugin {
        /// Paths that it may read, with everything below them.
        reads: Vec<PathBuf>,
        /// Whom it may call.
        calls: Calls,
    },
}

/// Whom a plugin of ours may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Hosts over IP, and name servers.
    Hosts,
    /// lightningd over the connection that it was started with ([`rpc_socket`]), and nobody else.
    Given,
    /// lightningd over its socket: a path. For a plugin that another lightningd started.
    Lightningd,
}

/// Whether a process runs where the kernel lacks a wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Then the process ends.
    Required,
    /// Then it goes on with those that there are.
    BestEffort,
}

/// Whether a process counts a test's barriers, for which it writes a file and kills itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barriers {
    /// A node's.
    Off,
    /// A test's.
    On,
}
