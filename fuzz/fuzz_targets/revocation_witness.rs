//! The file beside the database, as it might be on a disk: what is raised on it is read next, and nothing is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| lightningd::fuzzing::witness(data));
