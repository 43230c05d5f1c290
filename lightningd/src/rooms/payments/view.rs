//! Payments as JSON.

use crate::rooms::payments::{Payment, Status};
use crate::sys::form::{RpcError, code};
use crate::sys::json::{hex, put};
use onion::Failure;
use primitives::{NodeId, ShortChannelId};
use serde_json::{Value, json};

/// As every command shows it.
pub fn to_json(p: &Payment) -> Value {
    let mut out = json!({
        "created_index": p.created_index,
        "id": p.created_index,
        "payment_hash": p.hash.to_string(),
        "groupid": p.groupid,
    });
    put(&mut out, "updated_index", p.updated_index);
    put(&mut out, "partid", (p.partid != 0).then_some(p.partid));
    put(&mut out, "destination", p.destination.map(|d| d.to_string()));
    put(&mut out, "amount_msat", p.amount.map(|a| a.0));
    put(&mut out, "amount_sent_msat", Some(p.sent.0));
    put(&mut out, "created_at", Some(p.created_at));
    put(&mut out, "completed_at", p.completed_at);
    put(&mut out, "status", Some(p.status.name()));
    put(&mut out, "payment_preimage", p.preimage.map(|i| hex(&i.0)));
    put(&mut out, "label", p.label.clone());
    put(&mut out, "bolt11", p.bolt11.clone());
    put(&mut out, "description", p.description.clone());
    let unread = p.failure.as_ref().and_then(|(_, _, data)| data.get("onionreply")).cloned();
    put(&mut out, "erroronion", unread);
    out
}

/// What `waitsendpay` says of an end.
pub fn wait_result(p: &Payment) -> Result<Value, RpcError> {
    match p.status {
        Status::Complete | Status::Pending => Ok(to_json(p)),
        Status::Failed => Err(error_of(p)),
    }
}

/// What `sendpay` says of a part that is under way.
pub fn pending_result(payment: &Payment) -> Value {
    let mut out = to_json(payment);
    put(&mut out, "message", Some("Monitor status with listpays or waitsendpay"));
    out
}

/// The error that says why a part failed.
pub fn error_of(payment: &Payment) -> RpcError {
    match &payment.failure {
        Some((code, message, data)) => {
            RpcError { code: *code, message: message.clone(), data: Some(data.clone()) }
        }
        None => {
            RpcError::new(code::PAY_UNSPECIFIED_ERROR, "the payment failed, and nobody said why")
        }
    }
}

/// Which channel of ours cannot take a payment, and why, in CLN's fields.
pub fn first_hop_failed(
    us: NodeId,
    peer: NodeId,
    channel: Option<ShortChannelId>,
    failure: &Failure,
) -> Value {
    let mut data = json!({
        "erring_index": 0,
        "failcode": failure.code(),
        "failcodename": failure.name().to_string(),
        "erring_node": us.to_string(),
    });
    if let Some(channel) = channel {
        put(&mut data, "erring_channel", Some(channel.to_string()));
        put(&mut data, "erring_direction", Some(u8::from(us > peer)));
    }
    data
}
