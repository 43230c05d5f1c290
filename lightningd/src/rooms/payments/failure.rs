//! What a failed payment tells its maker: CLN's codes and fields.

use super::Payment;
use crate::rooms::payments::Scope;
use crate::sys::form::code;
use crate::sys::json::{hex, put};
use onion::Failure;
use primitives::{NodeId, ShortChannelId};
use serde_json::Value;

type Told = (i64, String, Value);

/// As the row of a payment keeps it.
pub(super) fn stored(told: &Told) -> String {
    serde_json::json!(told).to_string()
}

fn base(payment: &Payment) -> Value {
    crate::rooms::payments::view::to_json(&Payment {
        status: super::Status::Failed,
        failure: None,
        ..payment.clone()
    })
}

/// A hop said why. Hop 0 is the first after us.
pub(super) fn from_hop(
    node: &Scope,
    payment: &Payment,
    hop: usize,
    failure: &Failure,
    raw: &[u8],
) -> Told {
    // Of an onion that somebody else made the secrets tell how many hops there are.
    let is_last = hop + 1 >= payment.route.len().max(payment.secrets.len());
    // BOLT 4, "Failure Messages", "Requirements": the final node's failure ends the payment if it
    // is permanent.
    let code = if is_last && failure.is_bad_onion() {
        code::PAY_UNPARSEABLE_ONION
    } else if is_last && failure.is_permanent() {
        code::PAY_DESTINATION_PERM_FAIL
    } else {
        code::PAY_TRY_OTHER_ROUTE
    };
    let index = hop + 1;
    let message = format!("failed: {} ({} at node {index})", failure.name(), reason(failure));
    (code, message, data(node, payment, index, failure, raw))
}

fn reason(failure: &Failure) -> &'static str {
    if failure.is_permanent() { "permanent" } else { "temporary" }
}

/// A failure is about the channel after the node that says it; the last one's about the one before.
/// With its direction.
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

fn data(node: &Scope, payment: &Payment, index: usize, failure: &Failure, raw: &[u8]) -> Value {
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
pub(super) fn local(node: &Scope, payment: &Payment, failure: &Failure, why: &str) -> Told {
    let out = data(node, payment, 0, failure, &[]);
    (code::PAY_TRY_OTHER_ROUTE, format!("failed: {} ({why})", failure.name()), out)
}

#[cfg(test)]
mod tests {
    use crate::rooms::channels::testing::{peer, point};
    use crate::rooms::payments::ends::failed;
    use crate::rooms::payments::{Payment, RouteHop, Status};
    use crate::sys::form::code::*;
    use crate::testing::Rig;
    use onion::{Failure, begin_error, onion_keys, wrap_error};
    use primitives::*;

    fn payment(secrets: Vec<Secret<32>>, route: Vec<RouteHop>) -> Payment {
        Payment {
            created_index: 1,
            updated_index: None,
            hash: PaymentHash([1; 32]),
            partid: 0,
            groupid: 0,
            status: Status::Pending,
            amount: None,
            sent: Msat(1),
            total: Msat(1),
            destination: None,
            label: None,
            bolt11: None,
            description: None,
            created_at: 0,
            completed_at: None,
            preimage: None,
            secrets,
            route,
            channel: ChannelNumber(1),
            failure: None,
        }
    }

    /// The code that `waitsendpay` gives if the last of these hops says this.
    fn code_of(by: usize, failure: &Failure, payment: &Payment) -> i64 {
        let mut rig = Rig::new("failure-codes", &[(1, 1)]);
        rig.node.payments.insert(payment.clone());
        let keys = |hop: usize| onion_keys(&payment.secrets[hop], &point(9));
        let mut reason = begin_error(&keys(by), failure);
        for hop in (0..by).rev() {
            wrap_error(&keys(hop).ammag, &mut reason);
        }
        rig.turn(|node, turn| failed(node, turn, payment.created_index, &reason));
        rig.node.payments.all[&payment.created_index].failure.clone().unwrap().0
    }

    /// BOLT 4, "Failure Messages", "Requirements": the final node's failure ends the payment if it
    /// is permanent.
    #[test]
    fn failure_code_of_the_final_node_is_203_only_if_permanent() {
        let sha = Sha256Digest([1; 32]);
        let unknown =
            Failure::IncorrectOrUnknownPaymentDetails { htlc: Msat(1), height: BlockHeight(1) };
        let expiry = Failure::FinalIncorrectCltvExpiry { cltv_expiry: BlockHeight(1) };
        let secrets = vec![Secret::new([1; 32]), Secret::new([2; 32])];
        let hop = |n: u8| RouteHop { node: peer(n), channel: ShortChannelId(n.into()) };
        let sent = payment(secrets.clone(), vec![hop(1), hop(2)]);
        // With sendonion only the secrets say how many hops there are.
        let onion = payment(secrets, vec![]);
        for (failure, last) in [
            (Failure::TemporaryNodeFailure, PAY_TRY_OTHER_ROUTE),
            (Failure::MppTimeout, PAY_TRY_OTHER_ROUTE),
            (expiry, PAY_TRY_OTHER_ROUTE),
            (unknown, PAY_DESTINATION_PERM_FAIL),
            (Failure::PermanentNodeFailure, PAY_DESTINATION_PERM_FAIL),
            (Failure::InvalidOnionHmac(sha), PAY_UNPARSEABLE_ONION),
        ] {
            for payment in [&sent, &onion] {
                assert_eq!(code_of(1, &failure, payment), last, "{failure:?}");
                assert_eq!(code_of(0, &failure, payment), PAY_TRY_OTHER_ROUTE, "{failure:?}");
            }
        }
    }
}
