//! Strangers who lie, against a whole node on a real chain. One test for each threat, named after it.

mod bounds;
mod disorder;
mod exposure;
mod forwards;
mod lies;
mod openings;
mod reorgs;
mod revoked;
mod scenes;
mod signatures;
mod silence;
mod upstream;
