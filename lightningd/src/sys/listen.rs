//! Whether an address could be listened on.

use nix::sys::socket::{Backlog, listen};

/// True if nobody listens there now, and this process may.
pub fn is_free(host: &str, port: u16) -> bool {
    subdaemon::bind_tcp(host, port)
        .is_ok_and(|socket| listen(&socket, Backlog::MAXALLOWABLE).is_ok())
}
