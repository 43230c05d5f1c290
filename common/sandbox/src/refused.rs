//! Handling of a system call that is not on the list: it fails with EPERM, is counted, and is named
//! on stderr.

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers from here on (x32's among them) are counted together.
const NUMBERS: usize = 512;
static COUNTS: [AtomicU64; NUMBERS + 1] = [const { AtomicU64::new(0) }; NUMBERS + 1];

/// Has the kernel call us for each.
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub(crate) fn catch() -> Result<(), String> {
    let handler = SigHandler::SigAction(refused);
    let action =
        SigAction::new(handler, SaFlags::SA_SIGINFO | SaFlags::SA_NODEFER, SigSet::empty());
    // SAFETY: the handler takes no lock, allocates nothing and makes one system call, write, which
    // is async-signal-safe.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map(|_| ()).map_err(|e| e.to_string())
}

/// Has libraries look at what they look at once, and would later be refused: glibc asks how much
/// memory may be promised when a thread's arena first shrinks, and keeps the answer. Of no
/// consequence where no thread can be had.
pub(crate) fn look_before() {
    let shrink = || drop((0..16).map(|_| Vec::<u8>::with_capacity(64 * 1024)).collect::<Vec<_>>());
    if let Ok(thread) = std::thread::Builder::new().spawn(shrink) {
        let _ = thread.join();
    }
}

/// A crash ends the process. Rust's own handler gives the signal back to the kernel by a call that
/// a box refuses, and returns: the same fault would come again for ever.
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub(crate) fn let_crashes_end() -> Result<(), String> {
    let action = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the kernel's own answer to a signal runs no code of ours.
        unsafe { sigaction(signal, &action) }.map_err(|e| format!("{signal}: {e}"))?;
    }
    Ok(())
}

#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
extern "C" fn refused(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a handler with SA_SIGINFO the interrupted thread's registers, which
    // are nobody else's until it returns: the call's number, and where its result belongs.
    let number = unsafe { answer(&mut (*context).uc_mcontext, -i64::from(libc::EPERM)) };
    let count =
        COUNTS.get(number.min(NUMBERS)).map_or(0, |c| c.fetch_add(1, Ordering::Relaxed) + 1);
    if count.checked_ilog10().is_some_and(|n| 10u64.pow(n) == count) {
        say(number as u64, count);
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::indexing_slicing, reason = "one of the register's own names")]
fn answer(registers: &mut libc::mcontext_t, result: i64) -> usize {
    let at = libc::REG_RAX as usize;
    let number = registers.gregs[at];
    registers.gregs[at] = result;
    usize::try_from(number).unwrap_or(usize::MAX)
}
#[cfg(target_arch = "aarch64")]
#[allow(clippy::indexing_slicing, reason = "of 31 registers")]
fn answer(registers: &mut libc::mcontext_t, result: i64) -> usize {
    let number = registers.regs[8];
    registers.regs[0] = result.cast_unsigned();
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// One line, made without an allocation.
fn say(number: u64, count: u64) {
    let mut line = StderrLine { bytes: [0; 96], len: 0 };
    line.text(b"the sandbox refused system call ");
    line.number(number);
    line.text(b" (so far ");
    line.number(count);
    line.text(b"): a bug, or a captured process\n");
    // The write fails only without stderr.
    let _ =
        nix::unistd::write(std::io::stderr().as_fd(), line.bytes.get(..line.len).unwrap_or(&[]));
}

struct StderrLine {
    bytes: [u8; 96],
    len: usize,
}
impl StderrLine {
    fn text(&mut self, text: &[u8]) {
        for byte in text {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }
    fn number(&mut self, number: u64) {
        let digits = number.checked_ilog10().unwrap_or(0);
        for place in (0..=digits).rev() {
            let digit = number / 10u64.pow(place) % 10;
            self.text(&[b'0' + digit as u8]);
        }
    }
}
