//! Which system calls each box allows, with which arguments. Whatever is not here is refused.
//!
//! Made by running every daemon through its life under a filter that names what it lacks;
//! `tests/boxes.rs` tries each row of a table of calls in each box.

use crate::boxes::{Barriers, Calls, Sandbox};
use nix::libc;
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use std::collections::BTreeMap;

/// Numbers, each with the arguments for which it counts; without any it counts always.
pub(crate) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A box's list.
#[derive(Debug, Default)]
pub(crate) struct List {
    /// These succeed as far as the kernel goes.
    pub(crate) allowed: Rules,
    /// Of these, these fail with EPERM and are not counted: libraries try them, and do without.
    pub(crate) quiet: Rules,
    /// Of these, these fail with ENOSYS, as on an older kernel.
    pub(crate) absent: Rules,
}

/// A condition on an argument. The kernel shows 64 bits; of a number that it takes for an `int` 32
/// count.
#[derive(Clone, Copy)]
enum Arg {
    /// This one has this value.
    Is(u8, u64),
    /// It has another.
    IsNot(u8, u64),
    /// Of these bits, it has these.
    Bits(u8, u64, u64),
    /// It points nowhere: all 64 bits count.
    Null(u8),
}

impl List {
    fn any(&mut self, calls: &[libc::c_long]) {
        self.allowed.extend(calls.iter().map(|call| (*call, vec![])));
    }
    fn when(&mut self, call: libc::c_long, args: &[Arg]) {
        self.allowed.entry(call).or_default().extend(rule(args));
    }
    fn quietly_refused(&mut self, calls: &[libc::c_long]) {
        self.any(calls);
        self.quiet.extend(calls.iter().map(|call| (*call, vec![])));
    }
    /// Of this call's kinds this one fails quietly.
    fn quietly_refused_kind(&mut self, call: libc::c_long, args: &[Arg]) {
        self.when(call, args);
        self.quiet.entry(call).or_default().extend(rule(args));
    }
    /// All of this call is allowed but this, which fails quietly.
    fn quietly_refused_when(&mut self, call: libc::c_long, args: &[Arg]) {
        self.any(&[call]);
        self.quiet.entry(call).or_default().extend(rule(args));
    }
}

fn rule(args: &[Arg]) -> Option<SeccompRule> {
    let conditions = args.iter().map(|arg| {
        use SeccompCmpArgLen::{Dword, Qword};
        let (at, len, op, value) = match *arg {
            Arg::Is(at, value) => (at, Dword, SeccompCmpOp::Eq, value),
            Arg::IsNot(at, value) => (at, Dword, SeccompCmpOp::Ne, value),
            Arg::Bits(at, mask, value) => (at, Dword, SeccompCmpOp::MaskedEq(mask), value),
            Arg::Null(at) => (at, Qword, SeccompCmpOp::Eq, 0),
        };
        SeccompCondition::new(at, len, op, value)
    });
    SeccompRule::new(conditions.collect::<Result<_, _>>().ok()?).ok()
}

const fn bits(flags: i32) -> u64 {
    flags.unsigned_abs() as u64
}

/// What every process needs that talks and remembers. Not `sendmsg`, which attaches descriptors:
/// those on their way are counted for a user, and what one process holds there the others miss.
const TALK: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
#[cfg(target_arch = "x86_64")]
const TALK_LEGACY: &[libc::c_long] = &[libc::SYS_poll, libc::SYS_time];
#[cfg(not(target_arch = "x86_64"))]
const TALK_LEGACY: &[libc::c_long] = &[];

/// What libraries try on the way to what they do without: whether a file is there, and who else is.
/// Not to open one: what they would is opened before the box closes (`refused::look_before`), so
/// that whoever tries is captured, and is named.
const TRIED: &[libc::c_long] = &[
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_getaffinity,
];
#[cfg(target_arch = "x86_64")]
const TRIED_LEGACY: &[libc::c_long] =
    &[libc::SYS_stat, libc::SYS_lstat, libc::SYS_readlink, libc::SYS_access];
#[cfg(not(target_arch = "x86_64"))]
const TRIED_LEGACY: &[libc::c_long] = &[];

/// What accepts, dials and waits for many. An epoll more would be watches more, which the kernel
/// counts for a user.
const NETWORK: &[libc::c_long] = &[
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    // For the end of the resolver, a child.
    libc::SYS_wait4,
    libc::SYS_waitid,
];
#[cfg(target_arch = "x86_64")]
const NETWORK_LEGACY: &[libc::c_long] = &[libc::SYS_epoll_wait];
#[cfg(not(target_arch = "x86_64"))]
const NETWORK_LEGACY: &[libc::c_long] = &[];

/// What name lookups and HTTP clients need beside a socket. glibc asks for both kinds of address by
/// one `sendmmsg`.
const CLIENT: &[libc::c_long] = &[
    libc::SYS_connect,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_sendmmsg,
    libc::SYS_uname,
];

/// The list of a box.
pub(crate) fn list(which: &Sandbox, barriers: Barriers) -> List {
    let mut list = List::default();
    talk(&mut list);
    if barriers == Barriers::On {
        count_barriers(&mut list);
    }
    match which {
        Sandbox::Leaf => {}
        Sandbox::Signer => {
            // Pages with keys, where not all of them may be.
            list.any(&[libc::SYS_mlock]);
        }
        Sandbox::Network => {
            list.any(NETWORK);
            list.any(NETWORK_LEGACY);
            sockets(&mut list, &[libc::AF_INET, libc::AF_INET6], &[libc::SOCK_STREAM]);
        }
        Sandbox::Resolver => {
            read_files(&mut list);
            client(&mut list);
        }
        Sandbox::Plugin { reads, calls } => {
            threads(&mut list);
            if !reads.is_empty() {
                read_files(&mut list);
            }
            match calls {
                Calls::Hosts => {
                    read_files(&mut list);
                    client(&mut list);
                }
                Calls::Given => {}
                Calls::Lightningd => {
                    list.any(&[libc::SYS_connect, libc::SYS_getsockopt, libc::SYS_setsockopt]);
                    sockets(&mut list, &[libc::AF_UNIX], &[libc::SOCK_STREAM]);
                }
            }
        }
    }
    list
}

fn talk(list: &mut List) {
    list.any(TALK);
    list.any(TALK_LEGACY);
    list.quietly_refused(TRIED);
    list.quietly_refused(TRIED_LEGACY);
    // Nothing that was written is ever run.
    list.when(libc::SYS_mmap, &[Arg::Bits(2, bits(libc::PROT_EXEC), 0)]);
    list.when(libc::SYS_mprotect, &[Arg::Bits(2, bits(libc::PROT_EXEC), 0)]);
    // No copy of a descriptor: an epoll keeps a watch for each number that an open file ever had.
    for command in [libc::F_GETFL, libc::F_SETFL, libc::F_GETFD, libc::F_SETFD] {
        list.when(libc::SYS_fcntl, &[Arg::Is(1, bits(command))]);
    }
    list.when(libc::SYS_ioctl, &[Arg::Is(1, libc::FIONBIO)]);
    list.when(libc::SYS_prctl, &[Arg::Is(0, bits(libc::PR_SET_NAME))]);
    // To look at a limit of its own, not to set one.
    list.when(libc::SYS_prlimit64, &[Arg::Is(0, 0), Arg::Null(2)]);
    // abort.
    let me = u64::from(std::process::id());
    list.when(libc::SYS_tgkill, &[Arg::Is(0, me), Arg::Is(2, bits(libc::SIGABRT))]);
}

fn count_barriers(list: &mut List) {
    list.any(&[libc::SYS_pread64, libc::SYS_pwrite64]);
    for signal in [libc::SIGKILL, libc::SIGSTOP] {
        let me = u64::from(std::process::id());
        list.when(libc::SYS_kill, &[Arg::Is(0, me), Arg::Is(1, bits(signal))]);
    }
}

fn threads(list: &mut List) {
    // No process: what shares no memory with us is no thread of ours.
    let thread = bits(libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND);
    list.when(libc::SYS_clone, &[Arg::Bits(0, thread, thread)]);
    list.any(&[libc::SYS_clone3, libc::SYS_set_robust_list, libc::SYS_rseq]);
    list.absent.insert(libc::SYS_clone3, vec![]);
    not_quiet(list, &[libc::SYS_sched_getaffinity]);
}

fn read_files(list: &mut List) {
    not_quiet(list, &[libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_statx]);
    not_quiet(list, &[libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_getcwd]);
    not_quiet(list, TRIED_LEGACY);
    list.any(&[libc::SYS_lseek, libc::SYS_pread64, libc::SYS_getdents64]);
    let writes = bits(libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC);
    let reads = bits(libc::O_RDONLY);
    list.when(libc::SYS_openat, &[Arg::Bits(2, writes, reads)]);
    #[cfg(target_arch = "x86_64")]
    list.when(libc::SYS_open, &[Arg::Bits(1, writes, reads)]);
    // A library for another way of looking up names may be loaded when it is first asked for: from
    // a file, and not to be written.
    let (run, anonymous) = (libc::PROT_EXEC | libc::PROT_WRITE, bits(libc::MAP_ANONYMOUS));
    list.when(
        libc::SYS_mmap,
        &[Arg::Bits(2, bits(run), bits(libc::PROT_EXEC)), Arg::Bits(3, anonymous, 0)],
    );
}

fn client(list: &mut List) {
    list.any(CLIENT);
    list.any(&[libc::SYS_ioctl]);
    not_quiet(list, &[libc::SYS_uname]);
    // How many bytes a name server's answer has; the number of the interface of a link-local one
    // (`nameserver fe80::1%eth0`).
    let asked = [libc::FIONBIO, libc::FIONREAD, libc::SIOCGIFINDEX];
    list.quietly_refused_when(libc::SYS_ioctl, &asked.map(|request| Arg::IsNot(1, request)));
    // Neither raw sockets nor protocols that hardly anybody has looked at.
    sockets(list, &[libc::AF_INET, libc::AF_INET6], &[libc::SOCK_STREAM, libc::SOCK_DGRAM]);
    // nscd's socket, and the kernel's list of interfaces: glibc asks for them with a lookup every
    // so often, and goes on without. So does whoever has an interface numbered, by a socket of any
    // family.
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
        let kind = Arg::Bits(1, TYPE, bits(kind));
        list.quietly_refused_kind(libc::SYS_socket, &[Arg::Is(0, bits(libc::AF_UNIX)), kind]);
    }
    let raw = Arg::Bits(1, TYPE, bits(libc::SOCK_RAW));
    list.quietly_refused_kind(libc::SYS_socket, &[Arg::Is(0, bits(libc::AF_NETLINK)), raw]);
}

/// Sockets of these families and types, with the usual protocols; the flags beside the type do not
/// count.
fn sockets(list: &mut List, families: &[i32], types: &[i32]) {
    for family in families {
        for kind in types {
            for protocol in [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
                let (family, kind) = (bits(*family), bits(*kind));
                let protocol = Arg::Is(2, bits(protocol));
                list.when(
                    libc::SYS_socket,
                    &[Arg::Is(0, family), Arg::Bits(1, TYPE, kind), protocol],
                );
            }
        }
    }
}
/// The type among the flags of `socket`.
const TYPE: u64 = 0xf;

fn not_quiet(list: &mut List, calls: &[libc::c_long]) {
    for call in calls {
        list.quiet.remove(call);
    }
}

/// Has this kernel seccomp with traps?
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub(crate) fn is_there() -> bool {
    let trap = libc::SECCOMP_RET_TRAP;
    // SAFETY: the call reads four bytes at the address of `trap`, and changes nothing.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const trap)
    };
    answer == 0
}
