//! connectd
#![deny(clippy::indexing_slicing)]
pub mod limits;
pub mod rivals;
