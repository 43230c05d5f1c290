//! The master over a database in memory, and frames of one captured role: connectd, openingd,
//! channeld, closingd or onchaind.

use crate::input::reached;

pub fn run(data: &[u8]) {
    if let Some((state, depth)) = lightningd::fuzzing::hears(data) {
        reached(state, depth);
    }
}
