//! connectd
#![deny(clippy::indexing_slicing)]
pub mod bytes;
pub mod greeting;
pub mod limits;
pub mod link;
pub mod pings;
pub mod rivals;
pub mod sort;
