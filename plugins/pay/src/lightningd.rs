//! The questions to lightningd, and the fields of its answers that matter here. Amounts are
//! integers all the way.

use crate::code;
use crate::direct::{Channel, RoutePart};
use crate::request::Request;
use crate::state::{State, in_progress};
use hex::DisplayHex;
use primitives::Msat;
use sdk::{Answer, Call, RawValue, RpcError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;

/// One row of `listsendpays`. What is only passed on stays as it was written.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SendPay {
    pub(crate) created_index: u64,
    pub(crate) updated_index: Option<u64>,
    pub(crate) payment_hash: String,
    #[serde(default)]
    pub(crate) groupid: u64,
    pub(crate) status: Status,
    pub(crate) amount_msat: Option<u64>,
    #[serde(default)]
    pub(crate) amount_sent_msat: u64,
    pub(crate) created_at: u64,
    pub(crate) completed_at: Option<u64>,
    pub(crate) destination: Option<String>,
    pub(crate) label: Option<Box<RawValue>>,
    pub(crate) bolt11: Option<Box<RawValue>>,
    pub(crate) bolt12: Option<Box<RawValue>>,
    pub(crate) description: Option<Box<RawValue>>,
    pub(crate) payment_preimage: Option<String>,
    pub(crate) erroronion: Option<Box<RawValue>>,
}

/// How a part, or a payment, stands. In rising order of what decides about the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Failed,
    Pending,
    Complete,
}

#[derive(Deserialize)]
pub(crate) struct SendPays {
    pub(crate) payments: Vec<SendPay>,
}

/// The outcome of earlier payments of this hash.
pub(crate) enum Earlier {
    /// The invoice is paid: the answer of `pay` then.
    Paid(Answer),
    /// Nothing is under way.
    Never {
        /// Free for this attempt.
        next_group: u64,
    },
}

pub(crate) fn earlier(call: &Call<'_, State>, request: &Request) -> Result<Earlier, RpcError> {
    let hash = request.invoice.terms.payment_hash.to_string();
    let rows: SendPays = call.rpc_as("listsendpays", &json!({ "payment_hash": hash }))?;
    let rows = rows.payments;
    if let Some(paid) = rows.iter().find(|row| row.status == Status::Complete) {
        let payee = request.invoice.payee.to_string();
        if paid.destination.as_ref().is_some_and(|destination| *destination != payee) {
            let why = "Already paid with this hash, but to another destination";
            return Err(RpcError::new(code::RHASH_ALREADY_USED, why));
        }
        let parts: Vec<_> = rows
            .iter()
            .filter(|row| row.groupid == paid.groupid && row.status == Status::Complete)
            .collect();
        let done = Done {
            destination: payee,
            payment_hash: hash,
            created_at: paid.created_at,
            parts: parts.len() as u64,
            amount_msat: parts
                .iter()
                .filter_map(|row| row.amount_msat)
                .fold(0, u64::saturating_add),
            amount_sent_msat: parts
                .iter()
                .map(|row| row.amount_sent_msat)
                .fold(0, u64::saturating_add),
            warning_partial_completion: None,
            payment_preimage: paid.payment_preimage.clone().unwrap_or_default(),
            status: Status::Complete,
        };
        return Answer::json(&done).map(Earlier::Paid);
    }
    if rows.iter().any(|row| row.status == Status::Pending) {
        return Err(in_progress());
    }
    let last = rows.iter().map(|row| row.groupid).max().unwrap_or(0);
    Ok(Earlier::Never { next_group: last.saturating_add(1) })
}

/// The result of `pay`.
#[derive(Debug, Serialize)]
pub(crate) struct Done {
    pub(crate) destination: String,
    pub(crate) payment_hash: String,
    pub(crate) created_at: u64,
    pub(crate) parts: u64,
    pub(crate) amount_msat: u64,
    pub(crate) amount_sent_msat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) warning_partial_completion: Option<&'static str>,
    pub(crate) payment_preimage: String,
    pub(crate) status: Status,
}

/// Our node id. Asked once.
pub(crate) fn own_id(call: &Call<'_, State>) -> Result<String, RpcError> {
    #[derive(Deserialize)]
    struct Info {
        id: String,
    }
    if let Some(id) = call.state.own_id.get() {
        return Ok(id.clone());
    }
    let info: Info = call.rpc_as("getinfo", &json!({}))?;
    Ok(call.state.own_id.get_or_init(|| info.id).clone())
}

/// Our channels with the payee. `failures` says how often each failed already; those that failed
/// for good, and those that the caller excluded, are not among them.
pub(crate) fn channels_with(
    call: &Call<'_, State>,
    payee: &str,
    failures: &HashMap<String, u32>,
    excluded: impl Fn(&str, u32) -> bool,
) -> Result<Vec<Channel>, RpcError> {
    #[derive(Deserialize)]
    struct Listed {
        channels: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        #[serde(default)]
        peer_connected: bool,
        state: String,
        short_channel_id: Option<String>,
        #[serde(default)]
        alias: Alias,
        direction: Option<u32>,
        #[serde(default)]
        spendable_msat: u64,
        minimum_htlc_out_msat: Option<u64>,
        maximum_htlc_out_msat: Option<u64>,
    }
    #[derive(Deserialize, Default)]
    struct Alias {
        local: Option<String>,
    }
    let listed: Listed = call.rpc_as("listpeerchannels", &json!({ "id": payee }))?;
    let channel = |row: Row| {
        let ready = matches!(row.state.as_str(), "CHANNELD_NORMAL" | "CHANNELD_AWAITING_SPLICE");
        let id = row.short_channel_id.or(row.alias.local);
        let usable = row.peer_connected && ready && id.is_some();
        let id = id.unwrap_or_default();
        Channel {
            failures: failures.get(&id).copied().unwrap_or(0),
            id,
            direction: row.direction.unwrap_or(0),
            usable,
            spendable: Msat(row.spendable_msat),
            least: Msat(row.minimum_htlc_out_msat.unwrap_or(0)),
            most: Msat(row.maximum_htlc_out_msat.unwrap_or(u64::MAX)),
        }
    };
    let channels = listed.channels.into_iter().map(channel);
    Ok(channels.filter(|channel| !excluded(&channel.id, channel.direction)).collect())
}

/// Has lightningd offer a part. `None` pays ourselves.
pub(crate) fn sendpay(
    call: &Call<'_, State>,
    request: &Request,
    group: u64,
    part_id: u64,
    part: Option<&RoutePart>,
) -> Result<(), sdk::CallError> {
    #[derive(Serialize)]
    struct Params<'a> {
        route: Vec<Hop<'a>>,
        payment_hash: String,
        amount_msat: u64,
        bolt11: &'a str,
        payment_secret: String,
        groupid: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        partid: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        payment_metadata: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        localinvreqid: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Hop<'a> {
        id: String,
        channel: &'a str,
        direction: u32,
        amount_msat: u64,
        delay: u32,
        style: &'static str,
    }
    let terms = &request.invoice.terms;
    let hop = |part: &'_ RoutePart| -> (u64, u32, String) {
        (part.amount.0, request.delay, request.invoice.payee.to_string())
    };
    let route = part.map(|part| {
        let (amount_msat, delay, id) = hop(part);
        let (channel, direction) = (part.channel.as_str(), part.direction);
        Hop { id, channel, direction, amount_msat, delay, style: "tlv" }
    });
    let params = Params {
        route: route.into_iter().collect(),
        payment_hash: terms.payment_hash.to_string(),
        amount_msat: request.total.0,
        bolt11: &request.text,
        payment_secret: terms.payment_secret.0.to_lower_hex_string(),
        groupid: group,
        partid: (part_id > 0).then_some(part_id),
        label: request.label.as_deref(),
        payment_metadata: terms.metadata.as_deref().map(|m| m.to_lower_hex_string()),
        description: request.description.as_deref(),
        localinvreqid: request.localinvreqid.as_deref(),
    };
    call.rpc("sendpay", &params).map(|_pending| ())
}
