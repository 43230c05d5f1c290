//! Landlock: which files a box leaves, and what else it forbids where the kernel knows how.

use crate::boxes::{Calls, Sandbox};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::path::{Path, PathBuf};

/// The newest that the crate knows: an older kernel takes what it knows of it.
const NEWEST: ABI = ABI::V9;

/// Directories that name lookups read: the system's, none of the user's. A file that is replaced in
/// one of them is read anew.
const NAMES: &[&str] = &[
    "/etc",
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/connman",
    "/run/netconfig",
];
/// Links may lead from these to anywhere.
const LINKS: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// Shuts everything but what the box reads. In force for the whole process only while it has one
/// thread.
pub(crate) fn restrict(which: &Sandbox) -> Result<(), String> {
    let (reads, is_caller) = match which {
        Sandbox::Leaf | Sandbox::Signer | Sandbox::Network => (vec![], false),
        Sandbox::Resolver => (names(canonical), false),
        Sandbox::Plugin { reads, calls: Calls::Hosts } => {
            (names(canonical).into_iter().chain(reads.iter().cloned()).collect(), false)
        }
        Sandbox::Plugin { reads, calls: Calls::Given } => (reads.clone(), false),
        Sandbox::Plugin { reads, calls: Calls::Lightningd } => (reads.clone(), true),
    };
    let mut files = AccessFs::from_all(NEWEST);
    if is_caller {
        // Its one call goes to a path.
        files.remove(AccessFs::ResolveUnix);
    }
    let dials = match which {
        Sandbox::Network | Sandbox::Resolver | Sandbox::Plugin { calls: Calls::Hosts, .. } => true,
        Sandbox::Leaf
        | Sandbox::Signer
        | Sandbox::Plugin { calls: Calls::Given | Calls::Lightningd, .. } => false,
    };
    let net = if dials { AccessNet::BindTcp.into() } else { AccessNet::from_all(NEWEST) };
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(files)
        .and_then(|r| r.handle_access(net))
        .and_then(|r| r.scope(Scope::from_all(NEWEST)))
        .and_then(|r| r.create())
        .map_err(|e| e.to_string())?;
    for path in reads.iter().filter(|p| p.exists()) {
        let fd = PathFd::new(path).map_err(|e| e.to_string())?;
        let allowed = if path.is_dir() { read } else { AccessFs::ReadFile.into() };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, allowed)).map_err(|e| e.to_string())?;
    }
    match ruleset.restrict_self().map_err(|e| e.to_string())?.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err("the kernel has none".to_owned()),
    }
}

/// The system's directories, and the file that each link leads to, without those beside it. (If
/// such a file is replaced, and not in one of the directories, the new one is read after the next
/// start of the process.)
fn names(real: impl Fn(&Path) -> Option<PathBuf>) -> Vec<PathBuf> {
    let files = LINKS.iter().filter_map(|link| real(Path::new(link)));
    NAMES.iter().map(PathBuf::from).chain(files).collect()
}

fn canonical(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()
}

/// Has this kernel Landlock at all? What older versions of it lack, seccomp refuses.
pub(crate) fn is_there() -> bool {
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))
        .and_then(|r| r.create())
        .is_ok()
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
