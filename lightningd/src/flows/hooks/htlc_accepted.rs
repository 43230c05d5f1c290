//! `htlc_accepted`: a received HTLC is irrevocable and its onion was read; plugins continue, fail
//! or resolve it.

use crate::flows::hooks::reading::Reading;
use crate::kernel::words::hooks::{HookPoint, HtlcVerdict, Verdict};
use crate::node::Node;
use crate::sys::json::{from_hex, hex, put};
use onion::{Failure, Payload};
use primitives::{Preimage, Side};
use serde_json::{Value, json};
use wire::channeld::Peeled;
use wire::{BigSize, Wire};

/// BOLT 4, "Returning Errors": the length of an error onion with the failure messages that are in
/// use.
const ERROR_ONION: usize = 292;
/// BOLT 4: a failure code with this bit is not sent in an error onion.
const BADONION: u8 = 0x80;
/// Of an answer that goes on, these would change more than the payload: not there yet.
const NOT_YET: [&str; 3] = ["forward_to", "extra_tlvs", "invoice_msat"];

/// `None` where the HTLC is gone, or was none whose payload could be read.
pub fn question(node: &Node, point: HookPoint, changed: Option<&[u8]>) -> Option<Value> {
    let HookPoint::HtlcAccepted(number, id) = point;
    let channel = node.channels.all.get(&number)?;
    let live = channel.htlc(Side::Remote, id)?;
    let Peeled::Payload { payload, next, .. } = &channel.peeled.get(&id)?.peeled else {
        return None;
    };
    let payload = changed.unwrap_or(&payload.0);
    // CLN's: the payload with its length.
    let mut whole = Vec::new();
    BigSize(payload.len() as u64).put(&mut whole);
    whole.extend_from_slice(payload);
    let mut packet = Vec::new();
    if let Some(next) = next {
        next.put(&mut packet);
    }
    let mut onion = json!({"payload": hex(&whole), "type": "tlv"});
    put_payload(&mut onion, payload, next.is_some(), live.path_key.is_some());
    put(&mut onion, "next_onion", Some(hex(&packet)));
    let (htlc, tip) = (&live.htlc, node.chain.height());
    let scid = channel.scid.unwrap_or(channel.alias_local);
    Some(json!({
        "peer_id": channel.peer.to_string(),
        "onion": onion,
        "htlc": {
            "short_channel_id": scid.to_string(),
            "id": id.0,
            "amount_msat": htlc.amount.0,
            "cltv_expiry": htlc.expiry.0,
            "cltv_expiry_relative": i64::from(htlc.expiry.0) - i64::from(tip.0),
            "payment_hash": htlc.payment_hash.to_string(),
        },
    }))
}

/// What the payload says, as far as it can be read.
fn put_payload(onion: &mut Value, payload: &[u8], has_next: bool, has_path_key: bool) {
    match Payload::parse(payload, !has_next, has_path_key) {
        Ok(Payload::Forward(f)) => {
            put(onion, "short_channel_id", Some(f.short_channel_id.to_string()));
            put(onion, "forward_msat", Some(f.amount.0));
            put(onion, "outgoing_cltv_value", Some(f.cltv_expiry.0));
        }
        Ok(Payload::Final(f)) => {
            put(onion, "forward_msat", Some(f.amount.0));
            put(onion, "outgoing_cltv_value", Some(f.cltv_expiry.0));
            put(onion, "total_msat", Some(f.total.0));
            put(onion, "payment_secret", f.payment_secret.map(|s| hex(&s.0)));
            put(onion, "payment_metadata", f.payment_metadata.as_deref().map(hex));
        }
        Ok(Payload::Blinded(_)) | Err(_) => {}
    }
}

fn verdict(point: HookPoint, of: HtlcVerdict) -> Verdict {
    let HookPoint::HtlcAccepted(number, id) = point;
    Verdict::HtlcAccepted(number, id, of)
}

/// Reads an answer.
pub fn read(point: HookPoint, answer: &Value) -> Reading {
    let bytes = |name: &str| answer.get(name).map(|v| v.as_str().and_then(from_hex));
    let bad = |name: &str| Reading::Nonsense(format!("{name} is no hexadecimal, or not allowed"));
    match answer.get("result").and_then(Value::as_str) {
        Some("continue") => {
            if let Some(name) = NOT_YET.iter().find(|name| answer.get(**name).is_some()) {
                return Reading::Nonsense(format!("{name} is not supported yet"));
            }
            match bytes("payload") {
                None => Reading::Continue(None),
                Some(Some(payload)) => Reading::Continue(Some(payload)),
                Some(None) => bad("payload"),
            }
        }
        Some("fail") => match (bytes("failure_onion"), bytes("failure_message")) {
            (Some(Some(onion)), _) if onion.len() == ERROR_ONION => {
                Reading::Decided(verdict(point, HtlcVerdict::FailOnion(onion)))
            }
            (Some(_), _) => bad("failure_onion"),
            (None, Some(Some(message))) if is_sendable(&message) => {
                Reading::Decided(verdict(point, HtlcVerdict::Fail(message)))
            }
            (None, Some(_)) => bad("failure_message"),
            (None, None) => Reading::Decided(default(point)),
        },
        Some("resolve") => match bytes("payment_key").flatten().map(<[u8; 32]>::try_from) {
            Some(Ok(key)) => Reading::Decided(verdict(point, HtlcVerdict::Resolve(Preimage(key)))),
            Some(Err(_)) | None => bad("payment_key"),
        },
        Some(_) | None => {
            Reading::Nonsense("'result' is none of continue, fail, resolve".to_owned())
        }
    }
}

/// Can this failure message be sent in an error onion?
fn is_sendable(message: &[u8]) -> bool {
    // Two lengths and an HMAC beside it.
    let most = ERROR_ONION - 32 - 2 - 2;
    (2..=most).contains(&message.len()) && message.first().is_some_and(|b| b & BADONION == 0)
}

/// As without plugins.
pub fn go_on(point: HookPoint, payload: Option<Vec<u8>>) -> Verdict {
    verdict(point, HtlcVerdict::Continue { payload })
}

/// Nothing is forwarded or accepted that the plugin may have meant to hold or to refuse.
pub fn default(point: HookPoint) -> Verdict {
    verdict(point, HtlcVerdict::Fail(Failure::TemporaryNodeFailure.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use primitives::{ChannelNumber, HtlcId};

    #[test]
    fn htlc_accepted_answers_are_read_or_fail_the_htlc() {
        let point = HookPoint::HtlcAccepted(ChannelNumber(1), HtlcId(2));
        let decided = |of| Reading::Decided(verdict(point, of));
        let key = [7; 32];
        for (answer, says) in [
            (json!({"result": "continue"}), Reading::Continue(None)),
            (json!({"result": "continue", "payload": "0001"}), Reading::Continue(Some(vec![0, 1]))),
            (json!({"result": "fail"}), Reading::Decided(default(point))),
            (
                json!({"result": "fail", "failure_message": "400F"}),
                decided(HtlcVerdict::Fail(vec![0x40, 0x0f])),
            ),
            (
                json!({"result": "resolve", "payment_key": hex(&key)}),
                decided(HtlcVerdict::Resolve(Preimage(key))),
            ),
        ] {
            assert_eq!(read(point, &answer), says, "{answer}");
        }
        for answer in [
            json!("continue"),
            json!({"result": "hold"}),
            json!({"result": "continue", "payload": 7}),
            json!({"result": "continue", "invoice_msat": 7}),
            json!({"result": "fail", "failure_message": "40"}),
            json!({"result": "fail", "failure_message": "c005"}),
            json!({"result": "fail", "failure_onion": "00"}),
            json!({"result": "resolve"}),
            json!({"result": "resolve", "payment_key": "07"}),
        ] {
            assert!(matches!(read(point, &answer), Reading::Nonsense(_)), "{answer}");
        }
    }
}
