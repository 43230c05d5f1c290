//! JSON-RPC: what a request is, how it is answered, and the table of methods.
//!
//! CLN's rules: `jsonrpc`, `id`, `method` and `params` are all mandatory; ids come back as they
//! were written.

pub mod basics;
pub mod chain;
pub mod channels;
pub mod close;
pub mod configs;
pub mod dev;
pub mod help;
pub mod htlcs;
pub mod invoices;
pub mod log;
pub mod onchain;
pub mod onions;
pub mod open;
pub mod payments;
pub mod peers;
pub mod plugins;
pub mod table;
pub mod wallet;

use crate::sys::args::Args;
use crate::sys::disk::Space;
use crate::sys::form::Answer;
use crate::sys::form::Caller;
use crate::sys::form::RpcError;
use crate::sys::form::RpcRequest;
pub use crate::sys::form::code;

/// Methods that have a daemon promise something, or wait for a word of one: their own turn may
/// store nothing.
const PROMISING: [&str; 8] = [
    "sendpay",
    "sendonion",
    "connect",
    "fundchannel",
    "fundchannel_start",
    "fundchannel_complete",
    "close",
    "ping",
];

/// Runs one request. Methods of plugins are passed on by the plugin host.
pub fn handle(
    node: &crate::node::Node,
    turn: &mut crate::kernel::turn::Turn<'_>,
    caller: Caller,
    request: RpcRequest,
) -> Result<(), crate::sys::fatal::Stop> {
    let Some(method) = table::find(&request.method) else {
        return crate::api::rpc::plugins::forward(node, turn, caller, &request);
    };
    if method.developer && !node.config.developer() {
        let text = format!("Command \"{}\" is developer-only", method.name);
        return Err(RpcError::new(code::METHOD_NOT_FOUND, text).into());
    }
    if node.space == Space::Exhausted && PROMISING.contains(&method.name) {
        return Err(RpcError::new(code::LIGHTNINGD, crate::sys::disk::NO_ROOM).into());
    }
    let args = || Args::parse(method.params, &request.params);
    let answer = match method.run {
        Some(run) => run(node, turn, &args()?, &caller)?,
        None if method.name == "check" => Answer::Now(help::check(node, &request.params)?),
        None => Answer::Now(help::help(node, &args()?)?),
    };
    match answer {
        Answer::Now(value) => turn.reply(caller, Ok(value)),
        Answer::Later => {}
    }
    Ok(())
}
