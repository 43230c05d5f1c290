//! Strangers who lie, against a whole node on a real chain. One test for each threat, named after it.

mod forwards;
mod openings;
mod revoked;
mod scenes;
mod signatures;
mod upstream;
