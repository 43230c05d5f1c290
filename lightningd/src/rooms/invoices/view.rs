//! Invoices as JSON.

use crate::rooms::invoices::Invoice;
use crate::sys::form::{RpcError, code};
use crate::sys::json::{hex, now, put};
use serde_json::{Value, json};

/// As every command shows it.
pub fn to_json(i: &Invoice) -> Value {
    let mut out = json!({
        "label": i.label,
        "bolt11": i.bolt11,
        "payment_hash": i.hash.to_string(),
    });
    put(&mut out, "amount_msat", i.amount.map(|a| a.0));
    put(&mut out, "status", Some(i.status_name(now())));
    if let Some(paid) = i.paid {
        put(&mut out, "pay_index", Some(paid.index));
        put(&mut out, "amount_received_msat", Some(paid.received.0));
        put(&mut out, "paid_at", Some(paid.at));
        put(&mut out, "payment_preimage", Some(hex(&i.preimage.0)));
    }
    put(&mut out, "description", i.description.clone());
    put(&mut out, "expires_at", Some(i.expires_at));
    put(&mut out, "created_index", Some(i.created_index));
    put(&mut out, "updated_index", i.updated_index);
    out
}

/// What a waiter hears of an invoice that nobody paid in time.
pub fn expired(i: &Invoice) -> RpcError {
    RpcError {
        code: code::INVOICE_EXPIRED_DURING_WAIT,
        message: "invoice expired during wait".to_owned(),
        data: Some(to_json(i)),
    }
}
