//! What the peer can be told to do. Amounts are msat where the name says so, and satoshi elsewhere.

use crate::{Error, debug};
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning::types::payment::{PaymentHash, PaymentPreimage};
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use ldk_node::payment::{PaymentKind, PaymentStatus};
use ldk_node::{ChannelDetails, LightningBalance, Node, UserChannelId};
use serde_json::{Value, json};
use std::str::FromStr;

/// Does one thing, and says what came of it.
pub(crate) fn run(node: &Node, request: &Value) -> Result<Value, Error> {
    let ask = Ask(request);
    match ask.text("do")? {
        "info" => Ok(info(node)),
        "newaddr" => Ok(json!(node.onchain_payment().new_address().map_err(debug)?.to_string())),
        "sync" => done(node.sync_wallets()),
        "balances" => Ok(balances(node)),
        "connect" => done(node.connect(ask.parsed("node_id")?, ask.address()?, true)),
        "disconnect" => done(node.disconnect(ask.parsed("node_id")?)),
        "peers" => Ok(peers(node)),
        "open" => open(node, &ask),
        "channels" => {
            let anchors = node.config().anchor_channels_config.is_some();
            Ok(node.list_channels().iter().map(|c| channel(c, anchors)).collect())
        }
        "close" => done(node.close_channel(&ask.channel()?, ask.parsed("node_id")?)),
        "force_close" => {
            let why = Some("told to".to_owned());
            done(node.force_close_channel(&ask.channel()?, ask.parsed("node_id")?, why))
        }
        "invoice" => invoice(node, &ask),
        "hold_invoice" => hold_invoice(node, &ask),
        "claim" => {
            let (hash, preimage) =
                (PaymentHash(ask.bytes("payment_hash")?), PaymentPreimage(ask.bytes("preimage")?));
            done(node.bolt11_payment().claim_for_hash(hash, ask.number("msat")?, preimage))
        }
        "fail" => {
            done(node.bolt11_payment().fail_for_hash(PaymentHash(ask.bytes("payment_hash")?)))
        }
        "pay" => pay(node, &ask),
        "payments" => Ok(payments(node)),
        // What is announced, and LDK found well signed.
        "graph" => Ok(json!(node.network_graph().list_channels())),
        "stop" => node.stop().map(|()| json!("stopped")).map_err(debug),
        other => Err(format!("no such thing to do: {other}")),
    }
}

fn done(result: Result<(), ldk_node::NodeError>) -> Result<Value, Error> {
    result.map(|()| json!({})).map_err(debug)
}

fn info(node: &Node) -> Value {
    let status = node.status();
    json!({
        "node_id": node.node_id().to_string(),
        "addresses": node.listening_addresses().unwrap_or_default().iter()
            .map(ToString::to_string).collect::<Vec<_>>(),
        "height": status.current_best_block.height,
        "block": status.current_best_block.block_hash.to_string(),
    })
}

fn balances(node: &Node) -> Value {
    let all = node.list_balances();
    json!({
        "onchain_sat": all.total_onchain_balance_sats,
        "spendable_sat": all.spendable_onchain_balance_sats,
        "lightning_sat": all.total_lightning_balance_sats,
        "channels": all.lightning_balances.iter().map(balance).collect::<Vec<_>>(),
        "sweeps": all.pending_balances_from_channel_closures.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>(),
    })
}

fn balance(of: &LightningBalance) -> Value {
    match of {
        LightningBalance::ClaimableOnChannelClose {
            channel_id,
            amount_satoshis,
            transaction_fee_satoshis,
            ..
        } => json!({
            "channel_id": channel_id.to_string(),
            "sat": amount_satoshis,
            "commitment_fee_sat": transaction_fee_satoshis,
        }),
        other => json!(format!("{other:?}")),
    }
}

fn peers(node: &Node) -> Value {
    let all = node.list_peers();
    all.iter()
        .map(|p| json!({"node_id": p.node_id.to_string(), "connected": p.is_connected}))
        .collect()
}

/// LDK says what it could send: what it has, less the reserve, and as opener less both anchors.
fn channel(c: &ChannelDetails, anchors: bool) -> Value {
    let anchors_msat = if anchors && c.is_outbound { 2 * 330_000 } else { 0 };
    let kept_msat = c.unspendable_punishment_reserve.unwrap_or(0) * 1000 + anchors_msat;
    json!({
        "channel_id": c.channel_id.to_string(),
        "user_channel_id": c.user_channel_id.0.to_string(),
        "node_id": c.counterparty_node_id.to_string(),
        "sat": c.channel_value_sats,
        "to_self_msat": (c.outbound_capacity_msat > 0).then_some(c.outbound_capacity_msat + kept_msat),
        "sendable_msat": c.next_outbound_htlc_limit_msat,
        "receivable_msat": c.inbound_capacity_msat,
        "opener": c.is_outbound,
        "announced": c.is_announced,
        "ready": c.is_channel_ready,
        "usable": c.is_usable,
        "scid": c.short_channel_id,
        "feerate_per_kw": c.feerate_sat_per_1000_weight,
        "to_self_delay": c.force_close_spend_delay,
    })
}

fn open(node: &Node, ask: &Ask) -> Result<Value, Error> {
    let (peer, address, sat) = (ask.parsed("node_id")?, ask.address()?, ask.number("sat")?);
    let push = ask.optional("push_msat");
    let id = if ask.0["announce"] == true {
        node.open_announced_channel(peer, address, sat, push, None)
    } else {
        node.open_channel(peer, address, sat, push, None)
    };
    Ok(json!({"user_channel_id": id.map_err(debug)?.0.to_string()}))
}

fn description(ask: &Ask) -> Result<Bolt11InvoiceDescription, Error> {
    let text = ask.0["description"].as_str().unwrap_or("ldkpeer").to_owned();
    Description::new(text).map(Bolt11InvoiceDescription::Direct).map_err(debug)
}

fn shown(made: &Bolt11Invoice) -> Value {
    json!({"bolt11": made.to_string(), "payment_hash": made.payment_hash().to_string()})
}

/// Paid at once when it is paid. Without `msat`, of any amount.
fn invoice(node: &Node, ask: &Ask) -> Result<Value, Error> {
    let (what, expiry) = (description(ask)?, ask.expiry()?);
    let made = match ask.optional("msat") {
        Some(msat) => node.bolt11_payment().receive(msat, &what, expiry),
        None => node.bolt11_payment().receive_variable_amount(&what, expiry),
    };
    made.map(|i| shown(&i)).map_err(debug)
}

/// Held when it is paid, until `claim` or `fail`.
fn hold_invoice(node: &Node, ask: &Ask) -> Result<Value, Error> {
    let (what, expiry) = (description(ask)?, ask.expiry()?);
    let (msat, hash) = (ask.number("msat")?, PaymentHash(ask.bytes("payment_hash")?));
    let made = node.bolt11_payment().receive_for_hash(msat, &what, expiry, hash);
    made.map(|i| shown(&i)).map_err(debug)
}

/// Begins to pay. What comes of it is an event.
fn pay(node: &Node, ask: &Ask) -> Result<Value, Error> {
    let invoice: Bolt11Invoice = ask.parsed("bolt11")?;
    let begun = match ask.optional("msat") {
        Some(msat) => node.bolt11_payment().send_using_amount(&invoice, msat, None),
        None => node.bolt11_payment().send(&invoice, None),
    };
    begun.map_err(debug)?;
    Ok(json!({"payment_hash": invoice.payment_hash().to_string()}))
}

fn payments(node: &Node) -> Value {
    let all = node.list_payments();
    all.iter()
        .map(|p| {
            let hash = match &p.kind {
                PaymentKind::Bolt11 { hash, .. } => Some(hash.to_string()),
                _ => None,
            };
            json!({
                "payment_hash": hash,
                "msat": p.amount_msat,
                "direction": format!("{:?}", p.direction).to_lowercase(),
                "status": match p.status {
                    PaymentStatus::Pending => "pending",
                    PaymentStatus::Succeeded => "succeeded",
                    PaymentStatus::Failed => "failed",
                },
            })
        })
        .collect()
}

/// A request, and how its parameters are read.
struct Ask<'a>(&'a Value);

impl Ask<'_> {
    fn text(&self, name: &str) -> Result<&str, Error> {
        self.0[name].as_str().ok_or_else(|| format!("{name}: a string is missing"))
    }
    fn number(&self, name: &str) -> Result<u64, Error> {
        self.optional(name).ok_or_else(|| format!("{name}: a number is missing"))
    }
    fn optional(&self, name: &str) -> Option<u64> {
        self.0[name].as_u64()
    }
    fn parsed<T: FromStr<Err: std::fmt::Debug>>(&self, name: &str) -> Result<T, Error> {
        let text = self.text(name)?;
        text.parse().map_err(|e| format!("{name}: {text}: {e:?}"))
    }
    fn address(&self) -> Result<SocketAddress, Error> {
        self.parsed("address")
    }
    fn expiry(&self) -> Result<u32, Error> {
        u32::try_from(self.optional("expiry").unwrap_or(3600)).map_err(debug)
    }
    fn channel(&self) -> Result<UserChannelId, Error> {
        Ok(UserChannelId(self.parsed("user_channel_id")?))
    }
    /// 32 bytes in hex.
    fn bytes(&self, name: &str) -> Result<[u8; 32], Error> {
        let hex = self.text(name)?;
        let wrong = || format!("{name}: not 32 bytes of hex: {hex}");
        if hex.len() != 64 || !hex.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, i) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&hex[i..i + 2], 16).map_err(|_| wrong())?;
        }
        Ok(bytes)
    }
}
