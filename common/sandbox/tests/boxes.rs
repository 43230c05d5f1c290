//! Every box from the inside: this program starts itself once for each, goes in, and tries each row
//! of a table of calls.
//!
//! No harness: a box holds for a whole process, with the threads of whoever runs the tests.
#![allow(unsafe_code, reason = "raw system calls, which nothing here relies on")]

mod common;

use common::{ALL, Test, named, run};
use nix::errno::Errno;
use nix::libc;
use sandbox::{Barriers, Mode, Sandbox};
use std::process::{Command, ExitCode, Stdio};

/// A call that may hurt somebody, or must go on working.
#[derive(Clone)]
struct Row {
    what: &'static str,
    call: i64,
    args: [i64; 4],
    /// The boxes in which it is not refused.
    allowed: &'static [&'static str],
}

const NONE: &[&str] = &[];
const THREADED: &[&str] = &["hosts", "given", "lightningd"];
const DIALS: &[&str] = &["network", "resolver", "hosts"];
const CONNECTS: &[&str] = &["network", "resolver", "hosts", "lightningd"];
const READS: &[&str] = &["resolver", "hosts"];

const fn row(
    what: &'static str,
    call: i64,
    args: [i64; 4],
    allowed: &'static [&'static str],
) -> Row {
    Row { what, call, args, allowed }
}

/// Where paths, structures and lengths stand, nothing does: a call that is let through fails for
/// that.
fn table() -> Vec<Row> {
    let mut rows = [talking(), files(), processes(), the_kernels_own()].concat();
    #[cfg(target_arch = "x86_64")]
    rows.extend(old_numbers());
    rows
}

fn parent() -> i64 {
    i64::from(std::os::unix::process::parent_id())
}
fn path() -> i64 {
    c"/etc/hostname".as_ptr() as i64
}
const CWD: i64 = libc::AT_FDCWD as i64;

fn prot(p: i32) -> [i64; 4] {
    [0, 4096, i64::from(p), i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS)]
}

fn talking() -> Vec<Row> {
    let thread = i64::from(libc::CLONE_THREAD | libc::CLONE_VM);
    let socket = |family: i32, kind: i32| [i64::from(family), i64::from(kind), 0, 0];
    vec![
        row("talk", libc::SYS_write, [2, path(), 0, 0], ALL),
        row("look at the time", libc::SYS_clock_gettime, [0, 0, 0, 0], ALL),
        row("take memory", libc::SYS_mmap, prot(libc::PROT_READ | libc::PROT_WRITE), ALL),
        row("look at an own limit", libc::SYS_prlimit64, [0, 7, 0, 0], ALL),
        row("make a thread (flags that make none)", libc::SYS_clone, [thread, 0, 0, 0], NONE),
        row("attach descriptors", libc::SYS_sendmsg, [0, 0, 0, 0], NONE),
        row("attach descriptors to many messages", libc::SYS_sendmmsg, [-1, 0, 0, 0], READS),
        row("listen", libc::SYS_listen, [0, 1, 0, 0], NONE),
        row("bind", libc::SYS_bind, [0, 0, 0, 0], NONE),
        row("accept", libc::SYS_accept4, [0, 0, 0, 0], &["network"]),
        row("connect", libc::SYS_connect, [0, 0, 0, 0], CONNECTS),
        row("ask about a socket", libc::SYS_getpeername, [0, 0, 0, 0], DIALS),
        row(
            "socket: IPv4, stream",
            libc::SYS_socket,
            socket(libc::AF_INET, libc::SOCK_STREAM),
            DIALS,
        ),
        row(
            "socket: IPv6, stream",
            libc::SYS_socket,
            socket(libc::AF_INET6, libc::SOCK_STREAM),
            DIALS,
        ),
        row(
            "socket: IPv4, datagrams",
            libc::SYS_socket,
            socket(libc::AF_INET, libc::SOCK_DGRAM),
            READS,
        ),
        row(
            "socket: path",
            libc::SYS_socket,
            socket(libc::AF_UNIX, libc::SOCK_STREAM),
            &["lightningd"],
        ),
        row(
            "socket: path(), datagrams",
            libc::SYS_socket,
            socket(libc::AF_UNIX, libc::SOCK_DGRAM),
            NONE,
        ),
        row("socket: netlink", libc::SYS_socket, socket(libc::AF_NETLINK, libc::SOCK_RAW), NONE),
        row("socket: packets", libc::SYS_socket, socket(libc::AF_PACKET, libc::SOCK_RAW), NONE),
        row("socket: vsock", libc::SYS_socket, socket(libc::AF_VSOCK, libc::SOCK_STREAM), NONE),
        row("socket pair", libc::SYS_socketpair, socket(libc::AF_UNIX, libc::SOCK_STREAM), NONE),
    ]
}

fn files() -> Vec<Row> {
    vec![
        row("open to read", libc::SYS_openat, [CWD, path(), 0, 0], READS),
        row("open to write", libc::SYS_openat, [CWD, path(), libc::O_WRONLY as i64, 0], NONE),
        row("open to make", libc::SYS_openat, [CWD, path(), libc::O_CREAT as i64, 0o600], NONE),
        row("open (new form)", libc::SYS_openat2, [CWD, path(), 0, 0], NONE),
        row("chmod", libc::SYS_fchmodat, [CWD, path(), 0o644, 0], NONE),
        row("chmod (new form)", FCHMODAT2, [CWD, path(), 0o644, 0], NONE),
        row("chown", libc::SYS_fchownat, [CWD, path(), 0, 0], NONE),
        row("unlink", libc::SYS_unlinkat, [CWD, 0, 0, 0], NONE),
        row("rename", libc::SYS_renameat2, [CWD, 0, CWD, 0], NONE),
        row("link", libc::SYS_linkat, [CWD, 0, CWD, 0], NONE),
        row("symlink", libc::SYS_symlinkat, [0, CWD, 0, 0], NONE),
        row("make a device", libc::SYS_mknodat, [CWD, 0, 0, 0], NONE),
        row("make a directory", libc::SYS_mkdirat, [CWD, 0, 0, 0], NONE),
        row("truncate", libc::SYS_truncate, [0, 0, 0, 0], NONE),
        row("change directory", libc::SYS_chdir, [path(), 0, 0, 0], NONE),
        row("change the root", libc::SYS_chroot, [path(), 0, 0, 0], NONE),
        row("execute", libc::SYS_execve, [0, 0, 0, 0], NONE),
        row("execute a descriptor", libc::SYS_execveat, [0, 0, 0, 0], NONE),
    ]
}

fn processes() -> Vec<Row> {
    let me = i64::from(std::process::id());
    vec![
        row("fork by clone", libc::SYS_clone, [i64::from(libc::SIGCHLD), 0, 0, 0], NONE),
        row("signal lightningd", libc::SYS_kill, [parent(), 0, 0, 0], NONE),
        row("stop everybody", libc::SYS_kill, [0, 0, 0, 0], NONE),
        row("signal a thread", libc::SYS_tkill, [parent(), 0, 0, 0], NONE),
        row("signal a thread of a process", libc::SYS_tgkill, [parent(), parent(), 0, 0], NONE),
        row("signal oneself otherwise", libc::SYS_tgkill, [me, me, 0, 0], NONE),
        row("queue a signal", libc::SYS_rt_sigqueueinfo, [parent(), 0, 0, 0], NONE),
        row("a process as a descriptor", libc::SYS_pidfd_open, [parent(), 0, 0, 0], NONE),
        row("signal it", libc::SYS_pidfd_send_signal, [0, 0, 0, 0], NONE),
        row("take its descriptors", libc::SYS_pidfd_getfd, [0, 0, 0, 0], NONE),
        row("trace", libc::SYS_ptrace, [16, parent(), 0, 0], NONE),
        row("read another's memory", libc::SYS_process_vm_readv, [parent(), 0, 0, 0], NONE),
        row("write another's memory", libc::SYS_process_vm_writev, [parent(), 0, 0, 0], NONE),
        row("limit lightningd", libc::SYS_prlimit64, [parent(), 7, 0, 0], NONE),
        row("set an own limit, from high memory", libc::SYS_prlimit64, [0, 7, 1 << 32, 0], NONE),
        row("open to empty", libc::SYS_openat, [CWD, path(), libc::O_TRUNC as i64, 0], NONE),
        row("socket: SCTP", libc::SYS_socket, [libc::AF_INET.into(), 1, 132, 0], NONE),
        row("socket: MPTCP", libc::SYS_socket, [libc::AF_INET.into(), 1, 262, 0], NONE),
        row("socket: raw", libc::SYS_socket, [libc::AF_INET.into(), 3, 0, 0], NONE),
        row("set an own limit", libc::SYS_prlimit64, [0, 7, path(), 0], NONE),
        row("priority of lightningd", libc::SYS_setpriority, [0, parent(), 19, 0], NONE),
        row("scheduling of lightningd", libc::SYS_sched_setaffinity, [parent(), 0, 0, 0], NONE),
        row("unlock the shared lock", libc::SYS_flock, [0, i64::from(libc::LOCK_UN), 0, 0], NONE),
        row("record locks", libc::SYS_fcntl, [0, i64::from(libc::F_OFD_SETLK), 0, 0], NONE),
        row("leave the process group", libc::SYS_setpgid, [0, 0, 0, 0], NONE),
        row("leave the session", libc::SYS_setsid, [0, 0, 0, 0], NONE),
        row(
            "outlive lightningd",
            libc::SYS_prctl,
            [i64::from(libc::PR_SET_PDEATHSIG), 0, 0, 0],
            NONE,
        ),
        row("be dumped", libc::SYS_prctl, [i64::from(libc::PR_SET_DUMPABLE), 1, 0, 0], NONE),
        row("be another user", libc::SYS_setuid, [0, 0, 0, 0], NONE),
    ]
}

fn the_kernels_own() -> Vec<Row> {
    vec![
        row("keep memory out of swap", libc::SYS_mlock, [0, 0, 0, 0], &["signer"]),
        row("memory to run", libc::SYS_mprotect, prot(libc::PROT_EXEC), NONE),
        row("a file in memory", libc::SYS_memfd_create, [path(), 0, 0, 0], NONE),
        row("io_uring", libc::SYS_io_uring_setup, [1, 0, 0, 0], NONE),
        row("bpf", libc::SYS_bpf, [0, 0, 0, 0], NONE),
        row("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0], NONE),
        row("perf", libc::SYS_perf_event_open, [0, 0, 0, 0], NONE),
        row("keys", libc::SYS_keyctl, [0, 0, 0, 0], NONE),
        row("namespaces", libc::SYS_unshare, [0, 0, 0, 0], NONE),
        row("mount", libc::SYS_mount, [0, 0, 0, 0], NONE),
        row("another filter", libc::SYS_seccomp, [0, 0, 0, 0], NONE),
        // The kernel counts what they watch for a user, not for a process.
        row("another epoll", libc::SYS_epoll_create1, [0, 0, 0, 0], NONE),
        // A watch stays while its file is open, by whichever number: one for each that the file
        // ever had.
        row("another number", libc::SYS_fcntl, [0, libc::F_DUPFD_CLOEXEC.into(), 9, 0], NONE),
        row("another number, old form", libc::SYS_fcntl, [0, libc::F_DUPFD.into(), 9, 0], NONE),
        row("another number, older form", libc::SYS_dup, [0, 0, 0, 0], NONE),
        row("this number", libc::SYS_dup3, [0, 9, 0, 0], NONE),
        row("a timer as a descriptor", libc::SYS_timerfd_create, [0, 0, 0, 0], NONE),
        row("a timer with a signal", libc::SYS_timer_create, [0, 0, 0, 0], NONE),
        row("a counter as a descriptor", libc::SYS_eventfd2, [0, 0, 0, 0], NONE),
        row("a pipe", libc::SYS_pipe2, [0, 0, 0, 0], NONE),
        row("a message queue", libc::SYS_mq_open, [0, 0, 0, 0], NONE),
        row("shared memory", libc::SYS_shmget, [0, 4096, 0o1600, 0], NONE),
        row("watch files", libc::SYS_inotify_init1, [0, 0, 0, 0], NONE),
        row("terminals", libc::SYS_ioctl, [0, 0x5412, 0, 0], NONE),
        row("number of an interface", libc::SYS_ioctl, [0, 0x8933, 0, 0], READS),
        row("name of an interface", libc::SYS_ioctl, [0, 0x8910, 0, 0], NONE),
        row("list of interfaces", libc::SYS_ioctl, [0, 0x8912, 0, 0], NONE),
        row("hardware address of an interface", libc::SYS_ioctl, [0, 0x8927, 0, 0], NONE),
        row("interface down", libc::SYS_ioctl, [0, 0x8914, 0, 0], NONE),
        row("memory to run, mapped", libc::SYS_mmap, prot(libc::PROT_EXEC | libc::PROT_READ), NONE),
        row("own threads' marks", libc::SYS_set_robust_list, [0, 0, 0, 0], THREADED),
    ]
}

#[cfg(target_arch = "x86_64")]
fn old_numbers() -> Vec<Row> {
    vec![
        row("fork", libc::SYS_fork, [0, 0, 0, 0], NONE),
        row("fork as vfork", libc::SYS_vfork, [0, 0, 0, 0], NONE),
        row("x32: who am I", X32 | libc::SYS_getpid, [0, 0, 0, 0], NONE),
        row("x32: kill", X32 | libc::SYS_kill, [parent(), 0, 0, 0], NONE),
        row("old: open to read", libc::SYS_open, [path(), 0, 0, 0], READS),
        row("old: open to write", libc::SYS_open, [path(), libc::O_WRONLY as i64, 0, 0], NONE),
        row("old: chmod", libc::SYS_chmod, [path(), 0o644, 0, 0], NONE),
        row("old: accept", libc::SYS_accept, [0, 0, 0, 0], NONE),
        row("old: modify segments", libc::SYS_modify_ldt, [0, 0, 0, 0], NONE),
    ]
}

/// What lightningd and users' plugins are refused, and some of what they are not.
fn master_table() -> Vec<Row> {
    const MASTER: &[&str] = &["master"];
    let parent = i64::from(std::os::unix::process::parent_id());
    let cwd = i64::from(libc::AT_FDCWD);
    let path = c"/etc/hostname".as_ptr() as i64;
    let mut rows = vec![
        row("open to read", libc::SYS_openat, [cwd, path, 0, 0], MASTER),
        row("signal a child", libc::SYS_kill, [parent, 0, 0, 0], MASTER),
        row("a number that no call has", 0x0fff_ffff, [0, 0, 0, 0], MASTER),
        row("trace", libc::SYS_ptrace, [16, parent, 0, 0], NONE),
        row("read another's memory", libc::SYS_process_vm_readv, [parent, 0, 0, 0], NONE),
        row("io_uring", libc::SYS_io_uring_setup, [1, 0, 0, 0], NONE),
        row("bpf", libc::SYS_bpf, [0, 0, 0, 0], NONE),
        row("keys", libc::SYS_keyctl, [0, 0, 0, 0], NONE),
        row("mount", libc::SYS_mount, [0, 0, 0, 0], NONE),
    ];
    #[cfg(target_arch = "x86_64")]
    rows.extend([
        row("x32: who am I", X32 | libc::SYS_getpid, [0, 0, 0, 0], NONE),
        row("x32: trace", X32 | 521, [16, parent, 0, 0], NONE),
        row("x32: read another's memory", X32 | 539, [parent, 0, 0, 0], NONE),
        row("x32: bpf", X32 | libc::SYS_bpf, [0, 0, 0, 0], NONE),
        row("x32: the last number", 0x7fff_ffff, [0, 0, 0, 0], NONE),
    ]);
    rows
}

/// Newer than the constants.
const FCHMODAT2: i64 = 452;
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

fn table_of(name: &str) -> Vec<Row> {
    if name == "master" { master_table() } else { table() }
}

/// Goes into the box and says of each row whether it was refused.
fn inside(name: &str) -> ExitCode {
    let rows = table_of(name);
    let entered = if name == "master" {
        sandbox::enter_master(Mode::Required)
    } else {
        sandbox::enter(&named(name), Mode::Required, Barriers::Off)
    };
    if let Err(why) = entered {
        println!("{why}");
        return ExitCode::FAILURE;
    }
    for row in rows {
        let [a, b, c, d] = row.args;
        // SAFETY: none of the calls is given memory of ours to write to.
        let result = unsafe { libc::syscall(row.call, a, b, c, d, 0i64, 0i64) };
        let refused = result == -1 && Errno::last() == Errno::EPERM;
        println!("{}: {}", row.what, if refused { "refused" } else { "allowed" });
    }
    ExitCode::SUCCESS
}

/// The same program in a box, with what it says.
fn entered(name: &str) -> (bool, String, String) {
    let me = std::env::current_exe().expect("the program that runs has a path");
    let mut command = Command::new(me);
    // As every process of the suite has it that enters one.
    command.env(INSIDE, name).envs([sandbox::FEW_ARENAS]).stdin(Stdio::null());
    let out = command.output().expect("this program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}

fn each_box_refuses_what_its_table_says() -> Result<(), String> {
    for name in ALL.iter().chain(&["master"]) {
        let (ended_well, said, complained) = entered(name);
        if !ended_well {
            return Err(format!("{name}: {said}{complained}"));
        }
        let mut lines = said.lines();
        for row in table_of(name) {
            let allowed = row.allowed.contains(name);
            let wanted = format!("{}: {}", row.what, if allowed { "allowed" } else { "refused" });
            if lines.next() != Some(&wanted) {
                return Err(format!("in the box {name}, not so: {wanted}\n{said}"));
            }
        }
    }
    Ok(())
}

fn refused_calls_are_named_once_and_counted() -> Result<(), String> {
    let (_, _, complained) = entered("count");
    let kill = format!("refused system call {} (so far ", libc::SYS_kill);
    let named: Vec<_> = complained.lines().filter(|line| line.contains(&kill)).collect();
    let counts: Vec<_> =
        named.iter().filter_map(|l| l.split("(so far ").nth(1)?.split(')').next()).collect();
    if counts == ["1", "10", "100", "1000"] {
        Ok(())
    } else {
        Err(format!("1,000 refused calls were named so: {complained}"))
    }
}

/// 1,000 calls that are refused.
fn count() -> ExitCode {
    let entered = sandbox::enter(&Sandbox::Leaf, Mode::Required, Barriers::Off);
    for _ in 0..1000 {
        // SAFETY: a signal of number 0 is none.
        unsafe { libc::syscall(libc::SYS_kill, 1, 0) };
    }
    if entered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// In every box that makes threads, they work: made, joined, and with memory of their own.
fn threads_live_in_the_boxes_that_make_them() -> Result<(), String> {
    for name in THREADED {
        let (_, said, complained) = entered(&format!("make {name}"));
        if said.trim() != "4950" || !complained.is_empty() {
            return Err(format!("{name}: {said}{complained}"));
        }
    }
    let (ended_well, ..) = entered("make leaf");
    if ended_well { Err("a leaf made a thread".to_owned()) } else { Ok(()) }
}

fn make_threads(name: &str) -> ExitCode {
    if sandbox::enter(&named(name), Mode::Required, Barriers::Off).is_err() {
        return ExitCode::FAILURE;
    }
    let mut hands = Vec::new();
    for n in 0..100u64 {
        match std::thread::Builder::new().spawn(move || vec![n; 10_000].iter().max().copied()) {
            Ok(hand) => hands.push(hand),
            Err(_) => return ExitCode::FAILURE,
        }
    }
    let sum: u64 = hands.into_iter().filter_map(|h| h.join().ok().flatten()).sum();
    println!("{sum}");
    ExitCode::SUCCESS
}

/// What the C library asks for a name server with a link-local address: `nameserver fe80::1%lo`.
fn interface_has_a_number_in_boxes_that_look_up_names() -> Result<(), String> {
    for name in READS {
        let (_, said, complained) = entered(&format!("lo {name}"));
        if said.trim() != "1" || !complained.is_empty() {
            return Err(format!("{name}: {said}{complained}"));
        }
    }
    let (_, said, _) = entered("lo network");
    if said.trim() == "0" { Ok(()) } else { Err(format!("network: {said}")) }
}

/// Says the number of the interface `lo`, which is the first of each machine.
fn number_interface(name: &str) -> ExitCode {
    if sandbox::enter(&named(name), Mode::Required, Barriers::Off).is_err() {
        return ExitCode::FAILURE;
    }
    // SAFETY: the name is a C string that lives as long as the program.
    println!("{}", unsafe { libc::if_nametoindex(c"lo".as_ptr()) });
    ExitCode::SUCCESS
}

/// An abort is an abort, not a crash that looks like another.
fn a_panic_in_a_box_ends_with_sigabrt() -> Result<(), String> {
    use std::os::unix::process::ExitStatusExt;
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(me);
    command.env(INSIDE, "abort").env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    let out = command.output().map_err(|e| e.to_string())?;
    match out.status.signal() {
        Some(libc::SIGABRT) => Ok(()),
        other => Err(format!("{other:?}: {}", String::from_utf8_lossy(&out.stderr))),
    }
}

const INSIDE: &str = "FULMEN_TEST_BOX";

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(INSIDE) {
        return match name.split_once(' ') {
            Some(("lo", name)) => number_interface(name),
            Some((_, name)) => make_threads(name),
            None if name == "count" => count(),
            None if name == "abort" => {
                let _ = sandbox::enter(&Sandbox::Leaf, Mode::Required, Barriers::Off);
                std::process::abort();
            }
            None => inside(&name),
        };
    }
    let tests: [(&str, Test); 5] = [
        ("each_box_refuses_what_its_table_says", each_box_refuses_what_its_table_says),
        ("refused_calls_are_named_once_and_counted", refused_calls_are_named_once_and_counted),
        ("threads_live_in_the_boxes_that_make_them", threads_live_in_the_boxes_that_make_them),
        (
            "interface_has_a_number_in_boxes_that_look_up_names",
            interface_has_a_number_in_boxes_that_look_up_names,
        ),
        ("a_panic_in_a_box_ends_with_sigabrt", a_panic_in_a_box_ends_with_sigabrt),
    ];
    run(&tests)
}
