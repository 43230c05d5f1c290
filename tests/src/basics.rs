//! What every part of the harness needs: waiting on conditions, folders, ports, the executables.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything takes on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// Asks until the answer is `Some`.
///
/// # Panics
/// When it never is.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A folder of this test's own, gone when the test passes. Kept after a failure, so that somebody
/// can look.
#[derive(Debug)]
pub struct Scratch(PathBuf);

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Scratch {
    /// On tmpfs where there is one: what is tested is not the disk.
    #[allow(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("fulmen-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a test can make its folder");
        if is_kept() {
            eprintln!("the folder of this test, which stays: {}", dir.display());
        }
        Self(dir)
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}
impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() && !is_kept() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// `cargo xtask test --one NAME --keep`.
fn is_kept() -> bool {
    std::env::var_os("FULMEN_TEST_KEEP").is_some()
}

/// A port that was free a moment ago, and is none of those that the kernel gives to connections:
/// one of them could have it by the time it is listened on.
pub fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Tests that run at once, each in a process of its own, are given ports apart from each
    // other's.
    let given = std::env::var("FULMEN_TEST_PORTS").ok().and_then(|first| first.parse::<u32>().ok());
    loop {
        let next = TRIED.fetch_add(1, Ordering::Relaxed);
        let place = match given {
            Some(first) => first + next % 1500,
            None => 10_000 + std::process::id().wrapping_mul(61).wrapping_add(next) % 20_000,
        };
        let port = u16::try_from(place).expect("it is below 30,000");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Where cargo put the suite's executables: where this one is, or above the folder of the tests'.
pub fn bin_dir() -> PathBuf {
    let mine = std::env::current_exe().expect("a test has an executable");
    let here = mine.parent().expect("an executable is in a folder");
    if here.ends_with("deps") {
        here.parent().unwrap_or(here).to_path_buf()
    } else {
        here.to_path_buf()
    }
}
