//! The common part of our own plugins: CLN's plugin protocol over stdin and stdout, and calls to
//! lightningd over its socket.
//!
//! A plugin is a table ([`Spec`]): options, methods, hooks, subscriptions, and a function that
//! makes its state once lightningd has said hello. Methods and hooks run on a bounded number of
//! threads, so that a slow one holds up nobody; notifications run one after the other, in the order
//! in which they came.
//!
//! It knows nothing of Lightning: what a method does is the plugin's. Numbers stay text until
//! somebody asks for an integer: no amount ever passes through a float.
#![deny(clippy::indexing_slicing)]

mod answer;
mod filter;
mod frames;
mod options;
mod params;
mod plugin;
mod pool;
mod rpc;
mod serve;

pub use answer::{Answer, AnswerPart, RpcError, code};
pub use filter::filter;
pub use frames::{FrameError, Objects};
pub use options::{OptionKind, OptionSpec, Options};
pub use params::{Kind, Params, kind};
pub use plugin::{Call, Hook, Init, Method, Output, Plugin, Spec, Subscription};
pub use rpc::{CallError, Rpc};
pub use serve::{run, serve};

pub use serde_json::value::RawValue;

#[cfg(test)]
mod tests;
