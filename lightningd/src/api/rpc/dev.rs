//! Commands for developers: what a node of good sense does only when it must.

use crate::api::rpc::close::find;
use crate::kernel::turn::Turn;
use crate::node::Node;
use crate::rooms::channels::fail::{fail_channel, sign_commitment};
use crate::rooms::channels::state::Cause;
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use serde_json::json;
use wire::hsm::Completed;

/// `dev-fail id`: closes alone, at once.
pub fn fail(node: &Node, turn: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let channel = find(node, &args.need_text("id")?)?;
    if !channel.state.is_open() {
        let text = format!("Channel is in state {}", channel.state.name());
        return Err(RpcError::new(code::LIGHTNINGD, text).into());
    }
    fail_channel(node, turn, channel, Cause::User, "Failing due to dev-fail command")?;
    Ok(Answer::Now(json!({})))
}

/// `dev-sign-last-tx id`: our newest commitment, and it is not sent. From then on, until a restart,
/// hsmd gives out no secret of ours from its number on: the channel fails with the next payment.
pub fn sign_last_tx(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let channel = find(node, &args.need_text("id")?)?;
    match sign_commitment(turn, channel)? {
        Some(Completed::Ready { transaction }) => {
            let raw = bitcoin::consensus::encode::serialize_hex(&transaction);
            Ok(Answer::Now(json!({"tx": raw})))
        }
        None => Err(RpcError::new(code::LIGHTNINGD, "hsmd cannot be asked now; try again").into()),
        Some(Completed::Refused { why }) => {
            let text = format!("hsmd does not sign our commitment: {why}");
            Err(RpcError::new(code::LIGHTNINGD, text).into())
        }
    }
}
