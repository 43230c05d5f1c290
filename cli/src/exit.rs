//! How the program ends, and what it prints on the way.

use std::io::Write;

/// CLN's version that this program behaves like, and its own.
pub(crate) const VERSION: &str = concat!("v26.06-fulmen-", env!("CARGO_PKG_VERSION"));

/// How it ends. CLN's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// There is a result.
    Fine = 0,
    /// lightningd says no.
    Refused = 1,
    /// lightningd cannot be talked to.
    NoTalk = 2,
    /// The command line makes no sense.
    Usage = 3,
}

/// Why there is nothing to print: said on stderr.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) Exit, pub(crate) String);

/// Prints on stdout. A reader that closed it has seen enough: that is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
