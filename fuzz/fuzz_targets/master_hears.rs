//! The master over a database in memory, and frames of one captured role: connectd, openingd, channeld, closingd or onchaind.

pub fn run(data: &[u8]) {
    lightningd::fuzzing::hears(data);
}
