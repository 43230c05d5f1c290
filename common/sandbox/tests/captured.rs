//! What a process in each box can still do that no row of one call shows: crash, make threads,
//! touch files, be named for it.
//!
//! No harness: a box holds for a whole process. This program starts itself once for each box and
//! task.
#![allow(unsafe_code, reason = "raw system calls, which nothing here relies on")]

mod common;

use common::{ALL, Test, named, run};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, sendmmsg, sendmsg};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use sandbox::{Barriers, Mode};
use std::io::{BufRead, BufReader, IoSlice, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// For the environment: a task and a box.
const INSIDE: &str = "FULMEN_TEST_TASK";

/// This program again, in a box, at a task. One that has not ended after a minute is ended.
fn at(task: &str, name: &str) -> Result<Output, String> {
    let mut child = begin(task, name)?;
    drop(child.stdin.take());
    let begun = Instant::now();
    while child.try_wait().map_err(|e| e.to_string())?.is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().map_err(|e| e.to_string())?;
            return Err(format!("{task} in the box {name}: still running after a minute"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().map_err(|e| e.to_string())
}

fn begin(task: &str, name: &str) -> Result<Child, String> {
    let me = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(me);
    command.env(INSIDE, format!("{task} {name}")).env_remove("RUST_BACKTRACE");
    // As every process of the suite has it that enters one.
    command.envs([sandbox::FEW_ARENAS]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|e| e.to_string())
}

fn in_box(name: &str) -> bool {
    match sandbox::enter(&named(name), Mode::Required, Barriers::Off) {
        Ok(_) => true,
        Err(why) => {
            println!("{why}");
            false
        }
    }
}

/// A fault outside the guard page. Rust's handler would have the kernel end the process by a call
/// that a box refuses, and try again.
fn crash(name: &str) {
    if in_box(name) {
        // SAFETY: nothing is mapped at this address, and this process is there to end by that.
        unsafe { std::ptr::without_provenance_mut::<u8>(4096).write_volatile(1) };
    }
}

fn a_crash_in_a_box_ends_with_its_signal() -> Result<(), String> {
    for name in ALL {
        let out = at("crash", name)?;
        if out.status.signal() != Some(libc::SIGSEGV) {
            return Err(format!("{name}: {out:?}"));
        }
    }
    Ok(())
}

/// Descriptors on their way are counted for a user, and against the limit of whoever sends: so many
/// can a captured process hold back from the others. Not for root, whom the kernel exempts.
fn hold_back(name: &str) {
    let (here, _there) = UnixStream::pair().expect("two sockets");
    be_somebody_else();
    if !in_box(name) {
        return;
    }
    let copies = [here.as_raw_fd(); 253];
    let rights = [ControlMessage::ScmRights(&copies)];
    let bytes = [IoSlice::new(&[0])];
    let mut sent = 0;
    let attach = || sendmsg::<()>(here.as_raw_fd(), &bytes, &rights, MsgFlags::MSG_DONTWAIT, None);
    while attach().is_ok() {
        sent += copies.len();
    }
    let mut headers = MultiHeaders::<()>::preallocate(1, Some(nix::cmsg_space!([RawFd; 253])));
    let mut attach = || {
        let flags = MsgFlags::MSG_DONTWAIT;
        let sent = sendmmsg(here.as_raw_fd(), &mut headers, [&bytes], [None], rights, flags);
        sent.is_ok_and(|results| results.count() > 0)
    };
    while attach() {
        sent += copies.len();
    }
    println!("{sent}");
}

/// A user who has no other process, and no capabilities.
fn be_somebody_else() {
    if geteuid().is_root() {
        let id = 60_000 + std::process::id() % 5000;
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        setgroups(&[]).and_then(|()| setresgid(gid, gid, gid)).expect("root may");
        setresuid(uid, uid, uid).expect("root may");
    }
}

fn captured_box_holds_few_descriptors_back() -> Result<(), String> {
    let most = usize::try_from(sandbox::MASTER_DESCRIPTORS).map_err(|e| e.to_string())?;
    for name in ALL {
        let out = at("hold_back", name)?;
        let said = String::from_utf8_lossy(&out.stdout);
        let sent: usize = said.trim().parse().map_err(|e| format!("{name}: {said}: {e}"))?;
        let has_the_call = ["resolver", "hosts"].contains(name);
        if (sent > 0) != has_the_call || sent + 253 > most {
            return Err(format!("{name}: {sent} descriptors on their way"));
        }
    }
    Ok(())
}

/// Threads without a number take the user's processes from everybody else.
fn make_threads(name: &str) {
    extern "C" fn sleep(_: *mut libc::c_void) -> libc::c_int {
        let minute = libc::timespec { tv_sec: 60, tv_nsec: 0 };
        loop {
            // SAFETY: it reads `minute`, and touches nothing that the other threads have.
            unsafe { libc::syscall(libc::SYS_nanosleep, &raw const minute, 0) };
        }
    }
    const STACK: usize = 16 * 1024;
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD;
    let mut stacks = vec![[0u128; STACK / 16]; MANY];
    if !in_box(name) {
        return;
    }
    let mut made = 0;
    for stack in &mut stacks {
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: each thread has a stack of its own, which lives as long as this process: it ends
        // by `exit_group`.
        if unsafe { libc::clone(sleep, top, flags, std::ptr::null_mut()) } < 0 {
            break;
        }
        made += 1;
    }
    println!("{made}");
    // SAFETY: ends all threads, among them those that the standard library knows nothing of.
    unsafe { libc::syscall(libc::SYS_exit_group, 0) };
}
const MANY: usize = 100;

/// A plugin alone makes some: `ARCHITECTURE.md` says what that costs.
fn captured_box_makes_no_thread_unless_it_is_a_plugins() -> Result<(), String> {
    for name in ALL {
        let out = at("make_threads", name)?;
        let said = String::from_utf8_lossy(&out.stdout);
        let made = if ["hosts", "given", "lightningd"].contains(name) { MANY } else { 0 };
        if said.trim() != made.to_string() {
            return Err(format!("{name}: {said} threads: {out:?}"));
        }
    }
    Ok(())
}

/// Says what the limits are, and waits to be looked at.
fn be_limited(name: &str) {
    be_somebody_else();
    // A change of user has forbidden dumps, and this is about the box.
    prctl::set_dumpable(true).expect("one's own");
    let entered = match name {
        "master" => sandbox::undumpable().is_ok(),
        name => in_box(name),
    };
    let limits = [
        Resource::RLIMIT_CORE,
        Resource::RLIMIT_AS,
        Resource::RLIMIT_FSIZE,
        Resource::RLIMIT_NPROC,
        Resource::RLIMIT_NOFILE,
    ];
    let all: Vec<_> = limits
        .iter()
        .map(|which| match getrlimit(*which) {
            Ok((soft, hard)) if soft == hard => hard.to_string(),
            other => format!("{other:?}"),
        })
        .collect();
    println!("{entered} {}", all.join(" "));
    let _ = std::io::stdin().read(&mut [0]);
}

/// The limits of each box, and whether anybody but root may look into the process: /proc shows root
/// as the owner of what nobody may.
fn box_has_its_limits_and_is_not_dumpable() -> Result<(), String> {
    const AS: &str = "4294967296";
    for (name, wanted) in [
        ("leaf", format!("true 0 {AS} 0 0 32")),
        ("signer", format!("true 0 {AS} 0 0 4096")),
        ("network", format!("true 0 {AS} 0 0 4096")),
        ("resolver", format!("true 0 {AS} 0 0 256")),
        ("hosts", format!("true 0 {AS} 0 any 512")),
        ("lightningd", format!("true 0 {AS} 0 any 4096")),
        ("master", "true 0 any any any any".to_owned()),
    ] {
        let mut child = begin("be_limited", name)?;
        let mut line = String::new();
        let out = child.stdout.as_mut().ok_or("no stdout")?;
        BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let directory = std::fs::read_link(format!("/proc/{}/cwd", child.id()));
        let owner = std::fs::metadata(format!("/proc/{}/status", child.id())).map(|m| m.uid());
        drop(child.stdin.take());
        child.wait().map_err(|e| e.to_string())?;
        let fits = |(said, wanted): (&str, &str)| wanted == "any" || said == wanted;
        let same = line.split_whitespace().zip(wanted.split_whitespace()).all(fits);
        if !same || line.split_whitespace().count() != 6 {
            return Err(format!("{name}: {line} where {wanted} was awaited"));
        }
        // Only root may look at the directory.
        let elsewhere = directory.is_ok_and(|path| path != Path::new("/"));
        let privileges = status.is_ok_and(|text| text.contains("NoNewPrivs:\t0"));
        if name != "master" && (elsewhere || privileges) {
            return Err(format!(
                "{name}: another directory: {elsewhere}, privileges: {privileges}"
            ));
        }
        if !owner.as_ref().is_ok_and(|uid| *uid == 0) {
            return Err(format!(
                "{name}: it can be dumped, for {owner:?} owns its folder in /proc"
            ));
        }
    }
    Ok(())
}

/// Says how a file that no box reads, and a socket without a path, are refused: seccomp lets these
/// boxes ask for them.
fn be_walled(name: &str) {
    let mine = std::env::current_exe().expect("the program that runs has a path");
    let address = SocketAddr::from_abstract_name(abstract_name(std::process::id()));
    let address = address.expect("a short name");
    let _outside = UnixListener::bind_addr(&address).expect("nobody else has this name");
    if in_box(name) {
        let file = std::fs::File::open(mine).map_err(|e| e.raw_os_error());
        let socket = UnixStream::connect_addr(&address).map_err(|e| e.raw_os_error());
        println!("{:?} {:?}", file.map(drop), socket.map(drop));
    }
}
fn abstract_name(pid: u32) -> String {
    format!("fulmen-captured-{pid}")
}

/// What each wall does by itself is in `files_tests.rs`: here, that it stands.
fn landlock_stands_around_each_box_that_asks_for_files_or_paths() -> Result<(), String> {
    let (denied, refused) = (Some(libc::EACCES), Some(libc::EPERM));
    for (name, file, socket) in [
        ("resolver", denied, refused),
        ("hosts", denied, refused),
        // Seccomp refuses the file.
        ("lightningd", refused, refused),
    ] {
        let out = at("be_walled", name)?;
        let wanted = format!("Err({file:?}) Err({socket:?})");
        if String::from_utf8_lossy(&out.stdout).trim() != wanted {
            return Err(format!("{name}: {out:?} where {wanted} was awaited"));
        }
    }
    Ok(())
}

/// Who tries one of these is captured: each is named once, by its number, and counted.
fn be_refused(name: &str) {
    let path = c"/etc/hostname".as_ptr();
    if !in_box(name) {
        return;
    }
    for (_, family, kind, protocol) in telling_sockets(name) {
        // SAFETY: the call takes numbers.
        unsafe { libc::socket(family, kind, protocol) };
    }
    // SAFETY: the path is a constant; a call that is let through opens a file, or changes what
    // SIGUSR1 does here.
    unsafe {
        if telling_files(name) == "read" {
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY);
        }
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDWR);
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_CREAT, 0o600);
        let none = std::ptr::null::<libc::c_void>();
        libc::syscall(libc::SYS_rt_sigaction, libc::SIGUSR1, none, none, 8);
    }
}

/// Which way of opening a file no honest process in this box takes.
fn telling_files(name: &str) -> &'static str {
    if ["resolver", "hosts"].contains(&name) { "write" } else { "read" }
}

/// Sockets that no honest process in this box asks for. glibc asks for some when it looks names up:
/// those are refused without a word.
fn telling_sockets(name: &str) -> Vec<(&'static str, i32, i32, i32)> {
    let hosts = [
        ("packets", libc::AF_PACKET, libc::SOCK_RAW, 0),
        ("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("raw", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ("SCTP", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        ("path, records", libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
    ];
    match name {
        "resolver" | "hosts" => hosts.to_vec(),
        "lightningd" => vec![("IPv4", libc::AF_INET, libc::SOCK_STREAM, 0)],
        _ => vec![("path", libc::AF_UNIX, libc::SOCK_STREAM, 0)],
    }
}

fn what_only_a_captured_process_tries_is_named() -> Result<(), String> {
    for name in ALL {
        let out = at("be_refused", name)?;
        let complained = String::from_utf8_lossy(&out.stderr);
        let named = |call: i64| {
            let line = format!("refused system call {call} (so far 1)");
            complained.matches(&line).count()
        };
        for call in [libc::SYS_openat, libc::SYS_socket, libc::SYS_rt_sigaction] {
            if named(call) != 1 {
                return Err(format!("{name}: call {call} is not named once: {complained}"));
            }
        }
    }
    // Each kind of socket by itself.
    for name in ["resolver", "hosts"] {
        for (at_place, (what, ..)) in telling_sockets(name).iter().enumerate() {
            let out = at(&format!("ask_for_socket_{at_place}"), name)?;
            let complained = String::from_utf8_lossy(&out.stderr);
            if !complained.contains("(so far 1)") {
                return Err(format!("{name}: {what}: {complained}"));
            }
        }
    }
    Ok(())
}

fn ask_for_socket(place: &str, name: &str) {
    let sockets = telling_sockets(name);
    let asked = place.parse().ok().and_then(|place: usize| sockets.get(place));
    let (_, family, kind, protocol) = asked.expect("the task names a place in the list");
    if in_box(name) {
        // SAFETY: the call takes numbers.
        unsafe { libc::socket(*family, *kind, *protocol) };
    }
}

/// Threads that are born on the way in work there, and cannot do more than the first.
fn work_with_threads(name: &str) {
    let (ask, questions) = channel::<u64>();
    let (answer, answers) = channel();
    let questions = Arc::new(Mutex::new(questions));
    let start_threads = || {
        for _ in 0..8 {
            let (questions, answer) = (questions.clone(), answer.clone());
            let (born, runs) = channel();
            let work = move || {
                born.send(()).expect("somebody waits for that");
                loop {
                    let next = questions.lock().expect("no thread panics").recv();
                    let Ok(n) = next else { return };
                    // What glibc's arenas give back when they shrink, too.
                    let many: Vec<_> = (0..20).map(|_| vec![n; 10_000]).collect();
                    let sum = many.iter().flatten().sum::<u64>() / 20;
                    answer.send((sum, status_of_thread())).expect("somebody waits for that");
                }
            };
            std::thread::spawn(work);
            runs.recv().expect("the thread runs");
        }
    };
    if sandbox::enter_with(&named(name), Mode::Required, Barriers::Off, start_threads).is_err() {
        return;
    }
    (0..100).for_each(|n| ask.send(n).expect("a thread waits for that"));
    let all: Vec<_> = answers.iter().take(100).collect();
    let sum: u64 = all.iter().map(|(sum, _)| sum).sum();
    println!("{sum} {}", all.iter().all(|(_, held)| *held));
}

/// Is the thread that asks held as the process is? It may make no file.
fn status_of_thread() -> bool {
    // SAFETY: where the call is let through, it makes a file that nobody has a name for.
    let made = unsafe { libc::syscall(libc::SYS_memfd_create, c"".as_ptr(), 0) };
    made == -1
}

fn threads_born_on_the_way_in_work_and_are_held() -> Result<(), String> {
    for name in ["signer", "resolver"] {
        let out = at("work_with_threads", name)?;
        let complained = String::from_utf8_lossy(&out.stderr);
        let memfd = format!("refused system call {} (", libc::SYS_memfd_create);
        let honest = complained.lines().all(|line| line.contains(&memfd));
        if String::from_utf8_lossy(&out.stdout).trim() != "49500000 true" || !honest {
            return Err(format!("{name}: {out:?}"));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    if let Ok(task) = std::env::var(INSIDE) {
        match task.split_once(' ') {
            Some(("crash", name)) => crash(name),
            Some(("hold_back", name)) => hold_back(name),
            Some(("be_refused", name)) => be_refused(name),
            Some(("be_limited", name)) => be_limited(name),
            Some(("be_walled", name)) => be_walled(name),
            Some((task, name)) if task.starts_with("ask_for_socket_") => {
                ask_for_socket(task.trim_start_matches("ask_for_socket_"), name);
            }
            Some(("make_threads", name)) => make_threads(name),
            Some(("work_with_threads", name)) => work_with_threads(name),
            other => unreachable!("{other:?}"),
        }
        return ExitCode::SUCCESS;
    }
    let tests: [(&str, Test); 7] = [
        ("a_crash_in_a_box_ends_with_its_signal", a_crash_in_a_box_ends_with_its_signal),
        ("captured_box_holds_few_descriptors_back", captured_box_holds_few_descriptors_back),
        (
            "captured_box_makes_no_thread_unless_it_is_a_plugins",
            captured_box_makes_no_thread_unless_it_is_a_plugins,
        ),
        ("box_has_its_limits_and_is_not_dumpable", box_has_its_limits_and_is_not_dumpable),
        (
            "landlock_stands_around_each_box_that_asks_for_files_or_paths",
            landlock_stands_around_each_box_that_asks_for_files_or_paths,
        ),
        (
            "what_only_a_captured_process_tries_is_named",
            what_only_a_captured_process_tries_is_named,
        ),
        (
            "threads_born_on_the_way_in_work_and_are_held",
            threads_born_on_the_way_in_work_and_are_held,
        ),
    ];
    run(&tests)
}
