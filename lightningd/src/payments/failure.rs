//! What a failed payment tells its maker: CLN's codes and fields.

use super::Payment;
use crate::json::{hex, put};
use crate::node::Node;
use crate::rpc::code;
use onion::Failure;
use primitives::{NodeId, ShortChannelId};
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
pub(super) fn from_hop(
    node: &Node,
    payment: &Payment,
    hop: usize,
    failure: &Failure,
    raw: &[u8],
) -> Told {
    // The last node knows the payment best: what it refuses, another way will not mend. Of an onion that somebody else made
    // the secrets tell how many hops there are.
    let hops = payment.route.len().max(payment.secrets.len());
    let code =
        if hop + 1 >= hops { code::PAY_DESTINATION_PERM_FAIL } else { code::PAY_TRY_OTHER_ROUTE };
    let index = hop + 1;
    let message = format!("failed: {} ({} at node {index})", failure.name(), reason(failure));
    (code, message, data(node, payment, index, failure, raw))
}

fn reason(failure: &Failure) -> &'static str {
    if failure.is_permanent() { "permanent" } else { "temporary" }
}

/// A failure is about the channel after the node that says it; the last one's about the one before. With its direction.
fn erring_channel(us: NodeId, payment: &Payment, index: usize) -> Option<(ShortChannelId, u8)> {
    let last = payment.route.len().checked_sub(1)?;
    let at = index.min(last);
    let to = payment.route.get(at)?;
    let from = match at.checked_sub(1) {
        Some(before) => payment.route.get(before)?.node,
        None => us,
    };
    Some((to.channel, u8::from(from > to.node)))
}

fn data(node: &Node, payment: &Payment, index: usize, failure: &Failure, raw: &[u8]) -> Value {
    let erring_node = match index.checked_sub(1) {
        None => Some(node.id),
        Some(hop) => payment.route.get(hop).map(|h| h.node),
    };
    let channel = erring_channel(node.id, payment, index);
    let mut out = base(payment);
    put(&mut out, "erring_index", Some(index));
    put(&mut out, "failcode", Some(failure.code()));
    put(&mut out, "failcodename", Some(failure.name().to_string()));
    put(&mut out, "erring_node", erring_node.map(|n| n.to_string()));
    put(&mut out, "erring_channel", channel.map(|(c, _)| c.to_string()));
    put(&mut out, "erring_direction", channel.map(|(_, d)| d));
    put(&mut out, "raw_message", (!raw.is_empty()).then(|| hex(raw)));
    out
}

/// Somebody garbled it, or the secrets that read it are not ours.
pub(super) fn unreadable(payment: &Payment, reason: &[u8]) -> Told {
    let mut out = base(payment);
    put(&mut out, "onionreply", Some(hex(reason)));
    (code::PAY_UNPARSEABLE_ONION, "failed: the error that came back cannot be read".to_owned(), out)
}

/// It failed here: it was not even offered, or the chain took its channel.
pub(super) fn local(node: &Node, payment: &Payment, failure: &Failure, why: &str) -> Told {
    let out = data(node, payment, 0, failure, &[]);
    (code::PAY_TRY_OTHER_ROUTE, format!("failed: {} ({why})", failure.name()), out)
}
