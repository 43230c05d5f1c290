//! What LDK reports, as lines.

use crate::say;
use ldk_node::{Event, Node};
use serde_json::{Value, json};

/// Says each event as it comes. LDK tells the next one when the last is acknowledged, and tells it
/// again after a crash otherwise.
pub(crate) fn tell(node: &Node) {
    loop {
        say(&line(&node.wait_next_event()));
        if let Err(e) = node.event_handled() {
            say(&json!({"event": "broken", "why": format!("{e:?}")}));
            return;
        }
    }
}

fn line(event: &Event) -> Value {
    match event {
        Event::PaymentSuccessful { payment_hash, payment_preimage, fee_paid_msat, .. } => json!({
            "event": "payment_successful",
            "payment_hash": payment_hash.to_string(),
            "preimage": payment_preimage.map(|p| p.to_string()),
            "fee_msat": fee_paid_msat,
        }),
        Event::PaymentFailed { payment_hash, reason, .. } => json!({
            "event": "payment_failed",
            "payment_hash": payment_hash.map(|h| h.to_string()),
            "reason": reason.map(|r| format!("{r:?}")),
        }),
        Event::PaymentReceived { payment_hash, amount_msat, .. } => json!({
            "event": "payment_received",
            "payment_hash": payment_hash.to_string(),
            "msat": amount_msat,
        }),
        Event::PaymentClaimable { payment_hash, claimable_amount_msat, claim_deadline, .. } => {
            json!({
                "event": "payment_claimable",
                "payment_hash": payment_hash.to_string(),
                "msat": claimable_amount_msat,
                "deadline": claim_deadline,
            })
        }
        Event::ChannelPending { channel_id, user_channel_id, funding_txo, .. } => json!({
            "event": "channel_pending",
            "channel_id": channel_id.to_string(),
            "user_channel_id": user_channel_id.0.to_string(),
            "funding": funding_txo.to_string(),
        }),
        Event::ChannelReady { channel_id, user_channel_id, .. } => json!({
            "event": "channel_ready",
            "channel_id": channel_id.to_string(),
            "user_channel_id": user_channel_id.0.to_string(),
        }),
        Event::ChannelClosed { channel_id, user_channel_id, reason, .. } => json!({
            "event": "channel_closed",
            "channel_id": channel_id.to_string(),
            "user_channel_id": user_channel_id.0.to_string(),
            "reason": reason.as_ref().map(|r| format!("{r:?}")),
        }),
        // Forwards and splices: no test asks for them yet, and it should see when they come.
        other => json!({"event": "other", "what": format!("{other:?}")}),
    }
}
