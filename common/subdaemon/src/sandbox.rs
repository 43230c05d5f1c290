//! The box a daemon works in once it has what it needs: no new privileges, no files, no new sockets.
//!
//! seccomp answers EPERM rather than kills: a library that tries a file and can do without goes on.

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::collections::BTreeMap;

/// What a daemon may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Box {
    /// Talk on the sockets it has. openingd, channeld, closingd, hsmd.
    Leaf,
    /// Also make sockets, listen and dial. connectd.
    Network,
}

/// A child that passes descriptors needs this many: those in flight count against it.
const MAX_FDS: u64 = 4096;

const NO_FILES: &[libc::c_long] = &[
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_chmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_truncate,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_fork,
    libc::SYS_vfork,
];
const NO_SOCKETS: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Goes in, for good. What could not be had is said in the log; a daemon works all the same.
pub fn enter(which: Box) {
    let mut done = Vec::new();
    let mut failed = Vec::new();
    let mut note = |what: &str, result: Result<(), String>| match result {
        Ok(()) => done.push(what.to_owned()),
        Err(e) => failed.push(format!("{what} ({e})")),
    };
    note("no-new-privileges", nix::sys::prctl::set_no_new_privs().map_err(|e| e.to_string()));
    note("no core dumps", setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|e| e.to_string()));
    note("descriptor limit", limit_descriptors());
    note("landlock", landlock());
    note("seccomp", seccomp(which));
    if failed.is_empty() {
        log::debug!("sandboxed: {}", done.join(", "));
    } else {
        log::info!("sandboxed: {}; not on this kernel: {}", done.join(", "), failed.join(", "));
    }
}

fn limit_descriptors() -> Result<(), String> {
    let (_, hard) =
        nix::sys::resource::getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| e.to_string())?;
    let limit = hard.min(MAX_FDS);
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).map_err(|e| e.to_string())
}

fn landlock() -> Result<(), String> {
    use landlock::{ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetStatus};
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))
        .and_then(|r| r.create())
        .and_then(|r| r.restrict_self())
        .map_err(|e| e.to_string())?;
    match status.ruleset {
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
        RulesetStatus::NotEnforced => Err("the kernel has none".to_owned()),
    }
}

fn seccomp(which: Box) -> Result<(), String> {
    let calls = NO_FILES.iter().chain(match which {
        Box::Leaf => NO_SOCKETS,
        Box::Network => &[],
    });
    let rules: BTreeMap<i64, Vec<_>> = calls.map(|call| (*call, vec![])).collect();
    let arch = std::env::consts::ARCH.try_into().map_err(|e| format!("{e:?}"))?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).map_err(|e| e.to_string())?;
    let program: BpfProgram =
        filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    seccompiler::apply_filter(&program).map_err(|e| e.to_string())
}
