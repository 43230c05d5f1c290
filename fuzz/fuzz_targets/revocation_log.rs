//! The file beside the database, as it might be on a disk: what is raised on it is read next, and
//! nothing is lost.

pub fn run(data: &[u8]) {
    lightningd::fuzzing::revocation_log(data);
}
