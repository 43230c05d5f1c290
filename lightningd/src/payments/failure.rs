//! What a failed payment tells its maker: CLN's codes and fields.

use super::Payment;
use crate::json::{hex, put};
use crate::node::Node;
use crate::rpc::code;
use onion::Failure;
use serde_json::Value;

type Told = (i64, String, Value);

fn base(payment: &Payment) -> Value {
    super::rpc::to_json(&Payment {
        status: super::Status::Failed,
        failure: None,
        ..payment.clone()
    })
}

/// A hop said why. Hop 0 is the first after us.
pub(super) fn from_hop(payment: &Payment, hop: usize, failure: &Failure, raw: &[u8]) -> Told {
    let is_final = hop + 1 >= payment.route.len();
    let code = match (is_final, failure.is_bad_onion()) {
        (_, true) => code::PAY_UNPARSEABLE_ONION,
        // The last node knows the payment best: what it refuses, another way will not mend.
        (true, _) => code::PAY_DESTINATION_PERM_FAIL,
        (false, _) => code::PAY_TRY_OTHER_ROUTE,
    };
    let erring_index = hop + 1;
    let node = payment.route.get(hop).map(|h| h.node);
    // A failure is about the channel after the hop that says it; the last one's about the one before.
    let channel = payment.route.get(hop + 1).or(payment.route.get(hop)).map(|h| h.channel);
    let message =
        format!("failed: {} ({} at node {erring_index})", failure.name(), reason(failure));
    (
        code,
        message,
        data(
            payment,
            erring_index,
            failure,
            node.map(|n| n.to_string()),
            channel.map(|c| c.to_string()),
            raw,
        ),
    )
}

fn reason(failure: &Failure) -> &'static str {
    if failure.is_permanent() { "permanent" } else { "temporary" }
}

fn data(
    payment: &Payment,
    erring_index: usize,
    failure: &Failure,
    node: Option<String>,
    channel: Option<String>,
    raw: &[u8],
) -> Value {
    let mut out = base(payment);
    put(&mut out, "erring_index", Some(erring_index));
    put(&mut out, "failcode", Some(failure.code()));
    put(&mut out, "failcodename", Some(failure.name().to_string()));
    put(&mut out, "erring_node", node);
    put(&mut out, "erring_channel", channel);
    put(&mut out, "erring_direction", Some(0));
    put(&mut out, "raw_message", (!raw.is_empty()).then(|| hex(raw)));
    out
}

/// Somebody garbled it.
pub(super) fn unreadable(payment: &Payment, reason: &[u8]) -> Told {
    let mut out = base(payment);
    put(&mut out, "onionreply", Some(hex(reason)));
    (code::PAY_UNPARSEABLE_ONION, "failed: the error that came back cannot be read".to_owned(), out)
}

/// It failed here: it was not even offered, or the chain took its channel.
pub(super) fn local(node: &Node, payment: &Payment, failure: &Failure, why: &str) -> Told {
    let channel = payment.route.first().map(|h| h.channel.to_string());
    let out = data(payment, 0, failure, Some(node.id.to_string()), channel, &[]);
    (code::PAY_TRY_OTHER_ROUTE, format!("failed: {} ({why})", failure.name()), out)
}
