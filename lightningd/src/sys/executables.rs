//! Where the suite's executables are, and whether they fit together.

use crate::sys::children::Daemon;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the executables are.
#[derive(Debug, Clone)]
pub struct Executables {
    pub paths: BTreeMap<Daemon, PathBuf>,
    pub plugin_dir: PathBuf,
}
