//! What lightningd does without once it runs. It starts daemons and plugins, which inherit its
//! filter and make narrower ones of their own: so the filter is a list of what no plugin has any
//! business with, and the walls are theirs.

use crate::boxes::Mode;
use crate::{filter, limits};
use nix::libc;
use seccompiler::SeccompAction;

/// The kernel's own affairs, and other processes' memory.
const SHED: &[libc::c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_open_by_handle_at,
];

/// Sheds it, for lightningd and all that it starts. Says what could not be had, as [`crate::enter`]
/// does.
pub fn enter(mode: Mode) -> Result<Vec<String>, String> {
    let mut missing = Vec::new();
    let mut note = |what: &str, result: Result<(), String>| {
        missing.extend(result.err().map(|why| format!("{what} ({why})")));
    };
    note("no new privileges", limits::no_new_privileges());
    note("no dumps", limits::undumpable());
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let rules = SHED.iter().map(|call| (*call, vec![])).collect();
    note("seccomp", filter::apply(rules, SeccompAction::Allow, refuse).and_then(|()| refuse_x32()));
    match mode {
        Mode::Required if !missing.is_empty() => Err(missing.join(", ")),
        Mode::Required | Mode::BestEffort => Ok(missing),
    }
}

/// x32's calls have other numbers than those that are listed, with this bit, and do the same. No
/// plugin needs them.
#[cfg(target_arch = "x86_64")]
fn refuse_x32() -> Result<(), String> {
    const X32_BIT: u32 = 1 << 30;
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
    const ANSWER: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, jf, k| seccompiler::sock_filter { code, jt, jf, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    // The filter of the list kills a process that calls as another architecture.
    let program = [
        line(LOAD, 0, 0, std::mem::offset_of!(libc::seccomp_data, nr) as u32),
        line(IF_BITS, 0, 1, X32_BIT),
        line(ANSWER, 0, 0, refuse),
        line(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    seccompiler::apply_filter_all_threads(&program).map_err(|e| e.to_string())
}
#[cfg(not(target_arch = "x86_64"))]
fn refuse_x32() -> Result<(), String> {
    Ok(())
}

/// Whatever this process inherited beside its first three descriptors ends with the next `exec`: no
/// child gets it.
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub fn inherit_nothing() -> Result<(), String> {
    // SAFETY: the call marks descriptors, and closes none.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 {
        return Ok(());
    }
    // Before Linux 5.11 each is marked by itself.
    let open = std::fs::read_dir("/proc/self/fd").map_err(|e| format!("/proc/self/fd: {e}"))?;
    for name in open.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if let Some(fd) = name.parse::<i32>().ok().filter(|fd| *fd > 2) {
            // SAFETY: a flag is set on a number, which may be that of the directory that is read
            // here.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}
