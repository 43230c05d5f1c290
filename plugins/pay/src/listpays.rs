//! Payments, put together from their parts.

use crate::lightningd::{SendPay, SendPays, Status};
use crate::state::State;
use sdk::{Answer, Call, Kind, RawValue, RpcError, kind};
use serde::Serialize;
use serde_json::{Map, json};
use std::collections::BTreeMap;

/// The parameters in their order.
pub(crate) const USAGE: &str = "[bolt11] [payment_hash] [status] [index] [start] [limit]";

/// One attempt at a payment: all parts of one group.
#[derive(Debug, Serialize)]
struct Pay {
    #[serde(skip_serializing_if = "Option::is_none")]
    bolt11: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bolt12: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    payment_hash: String,
    status: Status,
    created_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preimage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount_msat: Option<u64>,
    amount_sent_msat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    number_of_parts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    erroronion: Option<Box<RawValue>>,
    created_index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_index: Option<u64>,
}

pub(crate) fn listpays(call: &Call<'_, State>) -> Result<Answer, RpcError> {
    const STATUS: Kind<Status> = Kind {
        should_be: "should be 'pending', 'complete' or 'failed'",
        read: |token| serde_json::from_str(token).ok(),
    };
    const INDEX: Kind<String> = Kind {
        should_be: "should be 'created' or 'updated'",
        read: |token| {
            (kind::STRING.read)(token)
                .filter(|index| matches!(index.as_str(), "created" | "updated"))
        },
    };
    let params =
        call.named(&["bolt11|invstring", "payment_hash", "status", "index", "start", "limit"])?;
    let status = params.optional("status", &STATUS)?;
    // The status is the whole payment's, which no part knows: it is not passed on.
    let mut asked = Map::new();
    if let Some(bolt11) = params.optional("bolt11", &kind::STRING)? {
        asked.insert("bolt11".to_owned(), json!(bolt11));
    }
    if let Some(hash) = params.optional("payment_hash", &kind::HASH)? {
        asked.insert("payment_hash".to_owned(), json!(hash.to_string()));
    }
    if let Some(index) = params.optional("index", &INDEX)? {
        asked.insert("index".to_owned(), json!(index));
    }
    if let Some(start) = params.optional("start", &kind::U64)? {
        asked.insert("start".to_owned(), json!(start));
    }
    if let Some(limit) = params.optional("limit", &kind::U32)? {
        asked.insert("limit".to_owned(), json!(limit));
    }
    let rows: SendPays = call.rpc_as("listsendpays", &asked)?;
    let mut pays = together(rows.payments);
    pays.retain(|pay| status.is_none_or(|status| pay.status == status));
    Answer::json(&Listed { pays })
}

#[derive(Serialize)]
struct Listed {
    pays: Vec<Pay>,
}

/// Parts of one hash and group make one payment. In the order in which they were begun.
fn together(rows: Vec<SendPay>) -> Vec<Pay> {
    let mut groups: BTreeMap<(String, u64), Vec<SendPay>> = BTreeMap::new();
    for row in rows {
        groups.entry((row.payment_hash.clone(), row.groupid)).or_default().push(row);
    }
    let mut pays: Vec<Pay> = groups.into_values().filter_map(one).collect();
    pays.sort_by_key(|pay| (pay.created_at, pay.created_index));
    pays
}

fn one(mut parts: Vec<SendPay>) -> Option<Pay> {
    parts.sort_by_key(|part| part.created_index);
    let status = parts.iter().map(|part| part.status).max()?;
    // Failed parts count only where all parts failed.
    let alive = || parts.iter().filter(|part| part.status != Status::Failed);
    let sum = |amounts: &mut dyn Iterator<Item = u64>| amounts.fold(0, u64::saturating_add);
    let amounts: Option<Vec<u64>> = alive().map(|part| part.amount_msat).collect();
    let amount = amounts.filter(|a| !a.is_empty()).map(|a| sum(&mut a.into_iter()));
    let sent = sum(&mut alive().map(|part| part.amount_sent_msat));
    let number = alive().count() as u64;
    let complete = || parts.iter().filter(|part| part.status == Status::Complete);
    let first = parts.first()?;
    Some(Pay {
        completed_at: complete().filter_map(|part| part.completed_at).max(),
        preimage: complete().find_map(|part| part.payment_preimage.clone()),
        amount_msat: amount,
        amount_sent_msat: sent,
        number_of_parts: (status == Status::Complete && number > 1).then_some(number),
        erroronion: match status {
            Status::Failed => parts.iter().find_map(|part| part.erroronion.clone()),
            Status::Pending | Status::Complete => None,
        },
        created_index: first.created_index,
        updated_index: parts.iter().filter_map(|part| part.updated_index).max(),
        created_at: parts.iter().map(|part| part.created_at).min()?,
        bolt11: parts.iter().find_map(|part| part.bolt11.clone()),
        bolt12: parts.iter().find_map(|part| part.bolt12.clone()),
        description: parts.iter().find_map(|part| part.description.clone()),
        label: parts.iter().find_map(|part| part.label.clone()),
        destination: first.destination.clone(),
        payment_hash: first.payment_hash.clone(),
        status,
    })
}
