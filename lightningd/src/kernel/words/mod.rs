//! What can happen to the master, what rooms are told, and what leaves after a commit. Values
//! alone: nothing here calls.

pub mod event;
pub mod hooks;
pub mod news;
pub mod outgoing;
pub mod rooms;
