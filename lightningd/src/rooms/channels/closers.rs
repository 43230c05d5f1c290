//! Callers of `close` hear how it went.

use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::rooms::channels::Scope;
use crate::rooms::channels::view::closed;
use crate::sys::form::{RpcError, code};
use primitives::*;

pub(super) fn answer_closers(
    node: &Scope,
    turn: &mut Turn<'_>,
    number: ChannelNumber,
    kind: &str,
    tx: &Transaction,
) {
    let result = Ok(closed(kind, tx));
    crate::kernel::waiting::answer_all(node, turn, |f| *f == For::Close(number), &result);
}

/// Nothing closes this channel for now: who waits for it hears why.
pub(super) fn refuse_closers(node: &Scope, turn: &mut Turn<'_>, number: ChannelNumber, why: &str) {
    let error = RpcError::new(code::LIGHTNINGD, format!("Channel cannot be closed: {why}"));
    crate::kernel::waiting::answer_all(node, turn, |f| *f == For::Close(number), &Err(error));
}
