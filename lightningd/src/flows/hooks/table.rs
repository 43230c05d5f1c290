//! The table of hooks. A new hook is a row here, a row of `HookPoint` and of `Verdict`, and a file
//! beside this one.

use crate::flows::hooks::htlc_accepted;
use crate::flows::hooks::reading::Reading;
use crate::kernel::words::hooks::{HookPoint, Verdict};
use crate::node::Node;
use serde_json::Value;

/// One hook.
#[derive(Debug)]
pub struct Hook {
    /// CLN's name.
    pub name: &'static str,
    /// The `params` of the call. The last argument is what plugins asked before changed. `None`:
    /// the subject of the question is gone.
    pub question: fn(&Node, HookPoint, Option<&[u8]>) -> Option<Value>,
    /// Reads a plugin's `result`.
    pub read: fn(HookPoint, &Value) -> Reading,
    /// Every plugin said `continue`, with these changes; or none is registered.
    pub go_on: fn(HookPoint, Option<Vec<u8>>) -> Verdict,
    /// What holds where an answer is nonsense: nothing that the plugin may have meant to prevent.
    pub default: fn(HookPoint) -> Verdict,
}

/// Every hook that plugins can be asked at.
pub const HOOKS: &[Hook] = &[HTLC_ACCEPTED];

const HTLC_ACCEPTED: Hook = Hook {
    name: "htlc_accepted",
    question: htlc_accepted::question,
    read: htlc_accepted::read,
    go_on: htlc_accepted::go_on,
    default: htlc_accepted::default,
};

/// The hook of this point.
pub const fn of(point: HookPoint) -> &'static Hook {
    match point {
        HookPoint::HtlcAccepted(..) => &HTLC_ACCEPTED,
    }
}
