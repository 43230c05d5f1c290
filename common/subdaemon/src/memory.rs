//! Memory that is never written to swap: for the process with the secrets.
//!
//! A lock on everything holds for what is mapped later as well, and where a limit stands, an
//! allocation above it then fails and ends the process. So everything is locked only if no limit
//! stands; otherwise single pages, which costs nobody else anything.

use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroize;

/// The memory that is kept out of swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    /// Everything, now and later.
    All,
    /// What [`lock_pages_of`] is called for; RLIMIT_MEMLOCK is so many bytes.
    Pages {
        /// RLIMIT_MEMLOCK in bytes.
        limit: u64,
    },
}

/// Set where everything is locked: no page needs it any more.
static ALL: AtomicBool = AtomicBool::new(false);

/// Locks everything that this process has and will have, page by page as it is first used; `Pages`
/// where the limit or the kernel forbids that. Says so in the log, with what to do.
pub fn lock() -> Locked {
    // With CAP_SYS_RESOURCE the limit is ours to lift; without it this fails, and the limit stands.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap_or((0, 0));
    if soft < hard {
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    }
    let limit = hard;
    let why = if is_enough(limit) {
        match lock_all() {
            Ok(()) => {
                ALL.store(true, Ordering::Relaxed);
                log::debug!("all memory is locked: nothing of it goes to swap");
                return Locked::All;
            }
            Err(e) => format!("mlockall: {e}"),
        }
    } else {
        format!("RLIMIT_MEMLOCK is {limit} bytes")
    };
    log::info!(
        "not all memory can be kept out of swap ({why}), only the pages with keys: start with `ulimit -l unlimited` (systemd: LimitMEMLOCK=infinity), or encrypt the swap"
    );
    Locked::Pages { limit }
}

/// Under any limit an allocation may fail later, and that ends the process.
const fn is_enough(limit: u64) -> bool {
    limit == RLIM_INFINITY
}

#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
fn lock_all() -> io::Result<()> {
    // MCL_ONFAULT: a page is locked once it is used. Without it the whole stack of each thread
    // would be allocated when the thread starts.
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: mlockall takes flags, and reads and writes no memory of ours.
    if unsafe { libc::mlockall(flags) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps the pages that hold this value out of swap, for as long as the process lives: whoever
/// calls this does not move the value after. What the kernel refuses (too many pages for the limit)
/// is said once, and changes nothing.
#[allow(unsafe_code, reason = "one system call that nix does not have; the reason is at its block")]
pub fn lock_pages_of<T>(value: &T) {
    static SAID: AtomicBool = AtomicBool::new(false);
    if ALL.load(Ordering::Relaxed) {
        return;
    }
    let from: *const T = value;
    // SAFETY: mlock reads and writes no memory of ours; the range is that of a value that is
    // borrowed here.
    let locked = unsafe { libc::mlock(from.cast(), size_of::<T>()) } == 0;
    if !locked && !SAID.swap(true, Ordering::Relaxed) {
        let e = io::Error::last_os_error();
        log::info!("the pages of some keys may go to swap: {e}");
    }
}

/// Overwrites what calls that have returned left below the caller on this thread's stack, in so
/// many bytes of it: a library that signs moves its keys through variables that nobody outside can
/// name.
#[inline(never)]
pub fn wipe_stack<const BYTES: usize>() {
    let mut below = [0u8; BYTES];
    below.zeroize();
    std::hint::black_box(&below);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// A page at least, where the machine allows one. Nothing here depends on who runs the test.
    #[test]
    fn pages_of_a_value_are_locked() {
        let value = Box::new([7u8; 10_000]);
        lock_pages_of(&*value);
        let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
        assert!(locked_kib() >= 8 || hard < 1 << 16, "{} KiB", locked_kib());
    }

    #[test]
    fn everything_is_locked_only_where_no_limit_stands() {
        assert!(is_enough(RLIM_INFINITY));
        for limit in [0, 1 << 16, 8 << 20, 1 << 40] {
            assert!(!is_enough(limit));
        }
    }
}
