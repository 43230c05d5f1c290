//! All targets in one program, which is linked once: `FUZZ_TARGET` names the one that libFuzzer
//! feeds. `cargo xtask fuzz` builds it, and runs each target from its corpus.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;

mod ends;
mod input;
mod noise_keys;
mod sides;

macro_rules! targets {
    ($($name:ident)*) => {
        $(mod $name;)*
        /// A target's name, and what takes the bytes.
        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::run)),*];
    };
}

targets! {
    backend_answers
    bitcoind_answers
    channel_verbs
    channeld_loop
    cli_answers
    closing_negotiation
    configuration
    connectd_link
    daemon_frames
    damaged_rows
    frames_with_descriptors
    hsm_machine
    hsm_secret
    invoice
    master_hears
    noise_acts
    onchain_resolver
    onion
    opening_judge
    plugin_objects
    plugin_words
    resolver_answers
    revocation_log
    rpc_socket
    switchboard
    wire_messages
}

/// No input of a few kilobytes is a reason for more than this at once: a length is believed only
/// where its bytes are there.
const MAX_ALLOCATION: usize = 32 << 20;

struct Bounded;

// SAFETY: every call is passed to the system's allocator as it is.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MAX_ALLOCATION {
            // Without allocating.
            std::process::abort();
        }
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// Read once, before libFuzzer begins.
static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    // As Rust's runtime does, which is not here: a daemon's write to a socket that is closed fails.
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.expect("a known signal");
    let wanted = std::env::var("FUZZ_TARGET").unwrap_or_default();
    if let Some((_, run)) = TARGETS.iter().find(|(name, _)| *name == wanted) {
        return *run;
    }
    // No target: their names, for `cargo xtask fuzz`.
    TARGETS.iter().for_each(|(name, _)| println!("{name}"));
    std::process::exit(2);
});

fuzz_target!(init: { LazyLock::force(&TARGET); }, |data: &[u8]| TARGET(data));
