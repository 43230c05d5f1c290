//! Where lightningd's socket is: the command line, and what lightningd's own configuration files
//! say about that.

use crate::args::{Args, network_flag, usage};
use crate::exit::Failed;
use primitives::Network;
use std::path::{Path, PathBuf};

/// Files that include each other deeper than this do so in a circle.
const MAX_DEPTH: usize = 100;

/// The network's directory, and the socket as seen from there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) socket: PathBuf,
}

/// What a configuration file can say about it.
#[derive(Debug, Default)]
struct Found {
    lightning_dir: Option<PathBuf>,
    network: Option<Network>,
    rpc_file: Option<PathBuf>,
}

pub(crate) fn find(args: &Args) -> Result<Place, Failed> {
    let mut found = Found::default();
    if let Some(conf) = &args.conf {
        read(conf, &mut found, 0)?;
    }
    let base = args.lightning_dir.clone().or_else(|| found.lightning_dir.take());
    let base = base.unwrap_or_else(default_dir);
    if args.conf.is_none() {
        read_if_there(&base.join("config"), &mut found)?;
    }
    let network = args.network.or(found.network).unwrap_or(Network::Bitcoin);
    let directory = base.join(network.name());
    if args.conf.is_none() {
        read_if_there(&directory.join("config"), &mut found)?;
    }
    let socket = args.rpc_file.clone().or(found.rpc_file);
    Ok(Place { directory, socket: socket.unwrap_or_else(|| "lightning-rpc".into()) })
}

/// CLN's: without a home, the current directory.
fn default_dir() -> PathBuf {
    match std::env::var_os("HOME") {
        Some(home) => PathBuf::from(home).join(".lightning"),
        None => PathBuf::from("."),
    }
}

fn read_if_there(file: &Path, found: &mut Found) -> Result<(), Failed> {
    if file.exists() { read(file, found, 0) } else { Ok(()) }
}

fn read(file: &Path, found: &mut Found, depth: usize) -> Result<(), Failed> {
    if depth > MAX_DEPTH {
        return Err(usage(format!("{}: includes itself", file.display())));
    }
    let text = std::fs::read_to_string(file)
        .map_err(|e| usage(format!("configuration file {}: {e}", file.display())))?;
    for line in text.split(['\r', '\n']).map(str::trim_end) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(included) = line.strip_prefix("include ") {
            let directory = file.parent().unwrap_or(Path::new("."));
            read(&directory.join(included.trim()), found, depth + 1)?;
            continue;
        }
        match line.split_once('=') {
            Some(("network", name)) => {
                let network =
                    name.parse().map_err(|e| usage(format!("{}: {e}", file.display())))?;
                found.network = Some(network);
            }
            Some(("rpc-file", path)) => found.rpc_file = Some(path.into()),
            Some(("lightning-dir", path)) => found.lightning_dir = Some(path.into()),
            // All others are lightningd's.
            Some(_) => {}
            None => found.network = network_flag(line).or(found.network),
        }
    }
    Ok(())
}
