//! `newaddr`, `listfunds`, `withdraw`, and reservations.

use crate::kernel::turn::Turn;
use crate::kernel::words::rooms::BroadcastFor;
use crate::node::Node;
use crate::rooms::chain::broadcast::broadcast;
use crate::rooms::wallet::coins::{Wanted, build, sign};
use crate::rooms::wallet::spend::{next_index, spend};
use crate::rooms::wallet::{AddressKind, MAX_INDEX, address};
use crate::sys::args::{Args, parse_address};
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use primitives::{OutPoint, Sat};
use serde_json::{Map, Value, json};

/// `newaddr [addresstype]`.
pub fn newaddr(node: &Node, turn: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let kinds: &[(&str, AddressKind)] = match args.text("addresstype").as_deref() {
        // Both, while old callers are catered for; bech32 first: some clients take the first
        // member.
        None if node.config.options.allow_deprecated_apis => {
            &[("bech32", AddressKind::Bech32), ("p2tr", AddressKind::Taproot)]
        }
        Some("all") => &[("bech32", AddressKind::Bech32), ("p2tr", AddressKind::Taproot)],
        Some("bech32") => &[("bech32", AddressKind::Bech32)],
        None | Some("p2tr") => &[("p2tr", AddressKind::Taproot)],
        Some(other) => {
            return Err(RpcError::params(format!(
                "'addresstype' should be 'bech32', 'p2tr' or 'all', not '{other}'"
            ))
            .into());
        }
    };
    if node.wallet.last_index.get() >= MAX_INDEX {
        return Err(Stop::refused(format!("no more addresses than {MAX_INDEX} can be issued")));
    }
    let index = next_index(node, turn)?;
    let mut out = Map::new();
    for (name, kind) in kinds {
        let text = address(&node.wallet.script(index, *kind), node.network);
        out.insert((*name).to_owned(), json!(text));
    }
    Ok(Answer::Now(Value::Object(out)))
}

/// `listfunds [spent]`.
pub fn listfunds(node: &Node, _: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let with_spent = args.bool("spent").unwrap_or(false);
    let tip = node.chain.height();
    let mut outputs = Vec::new();
    for (outpoint, output) in
        node.wallet.outputs.iter().filter(|(_, o)| with_spent || o.spent.is_none())
    {
        let mut item = json!({
            "txid": outpoint.txid.to_string(),
            "output": outpoint.vout,
            "amount_msat": output.amount.msat().0,
            "scriptpubkey": output.script.to_hex_string(),
            "address": address(&output.script, node.network),
            "status": output.status(tip),
        });
        crate::sys::json::put(&mut item, "blockheight", output.confirmed.map(|h| h.0));
        let reserved = output.is_reserved(tip);
        crate::sys::json::put(&mut item, "reserved", Some(reserved));
        crate::sys::json::put(
            &mut item,
            "reserved_to_block",
            reserved.then_some(output.reserved_until.0),
        );
        outputs.push(item);
    }
    Ok(Answer::Now(json!({"outputs": outputs, "channels": crate::api::rpc::channels::funds(node)})))
}

/// Reads `["txid:n", ...]`.
pub fn parse_utxos(args: &Args, name: &'static str) -> Result<Option<Vec<OutPoint>>, RpcError> {
    let Some(Value::Array(items)) = args.raw(name) else { return Ok(None) };
    let parse = |v: &Value| v.as_str().and_then(|s| s.parse().ok());
    let all: Option<Vec<OutPoint>> = items.iter().map(parse).collect();
    all.map(Some).ok_or_else(|| {
        RpcError::params(format!("{name}: should be an array of 'txid:output_index'"))
    })
}

/// What is kept back while channels with anchors may need their fees bumped.
pub fn emergency_reserve(node: &Node, opening_one: bool) -> Sat {
    if opening_one || node.channels.any_with_anchors() || crate::rooms::onchain::any_open(node) {
        node.config.options.min_emergency_msat.sat_ceil()
    } else {
        Sat::ZERO
    }
}

/// `withdraw destination satoshi [feerate] [minconf] [utxos]`.
pub fn withdraw(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let script = parse_address(node.network, "destination", &args.need_text("destination")?)?;
    let asked = args.feerate("feerate").unwrap_or(crate::sys::args::Asked::Within(12));
    let feerate = node.feerate_asked(asked).ok_or_else(|| {
        RpcError::new(code::LIGHTNINGD, "Cannot estimate fees: give a feerate such as 253perkw")
    })?;
    let wanted = Wanted {
        script,
        amount: args.sat_or_all("satoshi")?,
        feerate,
        minconf: args.number32("minconf")?.unwrap_or(1),
        utxos: parse_utxos(args, "utxos")?,
        emergency: emergency_reserve(node, false),
        replaceable: crate::rooms::onchain::attempts_under_way(node),
    };
    let funded = build(node, turn, &wanted)?;
    let signed = sign(node, turn, &funded.tx)?;
    spend(node, turn, &signed)?;
    let result = json!({
        "tx": bitcoin::consensus::encode::serialize_hex(&signed),
        "txid": signed.compute_txid().to_string(),
        "psbt": psbt_of(node, &funded.tx, &signed),
    });
    broadcast(node, turn, &signed, BroadcastFor::Withdrawal(caller.clone(), result))?;
    Ok(Answer::Later)
}

/// A PSBT of a transaction of ours, finished.
fn psbt_of(
    node: &Node,
    unsigned: &bitcoin::Transaction,
    signed: &bitcoin::Transaction,
) -> Option<String> {
    let mut psbt = bitcoin::Psbt::from_unsigned_tx(unsigned.clone()).ok()?;
    for (input, done) in psbt.inputs.iter_mut().zip(&signed.input) {
        input.witness_utxo =
            node.wallet.outputs.get(&done.previous_output).map(|o| bitcoin::TxOut {
                value: bitcoin::Amount::from_sat(o.amount.0),
                script_pubkey: o.script.clone(),
            });
        input.final_script_witness = Some(done.witness.clone());
    }
    Some(psbt.to_string())
}
