//! Methods about the node itself: `getinfo getlog help check notifications stop decode`.

use crate::kernel::words::event::Event;
use crate::node::Node;
use crate::rooms::channels::state::State;
use crate::sys::args::Args;
use crate::sys::form::{Answer, Caller, RpcError};
use crate::sys::json::{hex, put};

use crate::kernel::turn::Turn;
use crate::sys::fatal::Stop;
use invoice::Description;
use primitives::feature::{self, Context};
use serde_json::{Value, json};

/// `getinfo`.
pub fn getinfo(node: &Node, _: &mut Turn<'_>, _: &Args, _: &Caller) -> Result<Answer, Stop> {
    let count = |wanted: &dyn Fn(State) -> bool| {
        node.channels.all.values().filter(|c| wanted(c.state)).count()
    };
    let pending = count(&|s| s == State::AwaitingLockin) + node.channels.openings.len();
    let active = count(&|s| s == State::Normal);
    let inactive = count(&|s| !matches!(s, State::AwaitingLockin | State::Normal));
    let [r, g, b] = node.rgb;
    let mut out = json!({
        "id": node.id.to_string(),
        "alias": node.alias,
        "color": format!("{r:02x}{g:02x}{b:02x}"),
        "num_peers": node.peers.all.values().filter(|p| p.connection.is_some()).count(),
        "num_pending_channels": pending,
        "num_active_channels": active,
        "num_inactive_channels": inactive,
        "address": [],
        "binding": crate::api::rpc::peers::bindings(node),
        "version": crate::sys::version::version(),
        "blockheight": node.chain.height().0,
        "network": node.network.name(),
        "fees_collected_msat": node.htlcs.fees_collected.0,
        "lightning-dir": node.config.network_dir().display().to_string(),
        "our_features": {
            "init": node.features.to_string(),
            "node": feature::ours(Context::Node).to_string(),
            "channel": feature::ours(Context::Channel).to_string(),
            "invoice": node.invoice_features.to_string(),
        },
    });
    put(&mut out, "warning_disk_space", node.space_warning);
    put(&mut out, "warning_sandbox", node.supervisor.sandbox_warning.clone());
    match &node.chain.backend {
        Some(b) if b.syncing => {
            put(
                &mut out,
                "warning_bitcoind_sync",
                Some("Bitcoind is not up-to-date with network."),
            );
        }
        Some(b) if !node.chain.caught_up => {
            let text = format!(
                "Still loading latest blocks from bitcoind: {} of {}.",
                node.chain.height(),
                b.blocks
            );
            put(&mut out, "warning_lightningd_sync", Some(text));
        }
        Some(_) => put(&mut out, "warning_bitcoind_sync", node.stale_warning()),
        None => put(&mut out, "warning_bitcoind_sync", Some("Bitcoind has not answered yet.")),
    }
    for (name, text) in crate::rooms::peers::connectd::warnings(node) {
        put(&mut out, name, text);
    }
    Ok(Answer::Now(out))
}

/// In the table for `help`; the socket itself answers it, since it is about one connection.
pub fn notifications(_: &Node, _: &mut Turn<'_>, _: &Args, _: &Caller) -> Result<Answer, Stop> {
    Err(RpcError::params(
        "enable: should be 'true' or 'false': invalid token (see logs for details)",
    )
    .into())
}

/// `stop`: answered as the very last thing.
pub fn stop(_: &Node, turn: &mut Turn<'_>, _: &Args, caller: &Caller) -> Result<Answer, Stop> {
    turn.also(Event::Shutdown(Some(caller.clone())));
    Ok(Answer::Later)
}

/// `dev-counters`: what benchmarks divide by payments.
pub fn counters(node: &Node, turn: &mut Turn<'_>, _: &Args, _: &Caller) -> Result<Answer, Stop> {
    let c = node.counters;
    let signatures = turn.hsm.ask(&wire::hsm::CountSignatures {})?;
    Ok(Answer::Now(json!({
        "turns": c.turns,
        "commits": c.commits,
        "births": c.births,
        "signatures": signatures,
    })))
}

/// A hop of a route hint.
fn hop(h: &invoice::RouteHint) -> Value {
    json!({
        "pubkey": h.node.to_string(),
        "short_channel_id": h.short_channel_id.to_string(),
        "fee_base_msat": h.fee_base_msat,
        "fee_proportional_millionths": h.fee_proportional_millionths,
        "cltv_expiry_delta": h.cltv_expiry_delta,
    })
}

/// `decode string`: BOLT 11.
pub fn decode(_: &Node, _: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let text = args.need_text("string")?;
    let text = text.strip_prefix("lightning:").or(text.strip_prefix("LIGHTNING:")).unwrap_or(&text);
    let decoded = invoice::Invoice::decode(text)
        .map_err(|e| RpcError::params(format!("string: cannot be decoded: {e}")))?;
    let t = &decoded.terms;
    let mut out = json!({
        "type": "bolt11 invoice",
        "valid": true,
        "currency": t.currency.prefix(),
        "created_at": t.timestamp,
        "expiry": t.expiry_seconds(),
        "payee": decoded.payee.to_string(),
    });
    put(&mut out, "amount_msat", t.amount.map(|a| a.0));
    match &t.description {
        Description::Text(text) => put(&mut out, "description", Some(text.clone())),
        Description::Hash(hash) => put(&mut out, "description_hash", Some(hash.to_string())),
    }
    put(&mut out, "min_final_cltv_expiry", Some(t.min_final_cltv().0));
    put(&mut out, "payment_secret", Some(hex(&t.payment_secret.0)));
    put(&mut out, "features", Some(t.features.to_string()));
    let routes: Vec<Value> = t.routes.iter().map(|route| route.iter().map(hop).collect()).collect();
    put(&mut out, "routes", (!routes.is_empty()).then_some(routes));
    let fallbacks: Vec<Value> = t
        .fallbacks
        .iter()
        .map(|f| {
            let mut item = json!({"type": fallback_kind(f)});
            put(&mut item, "addr", f.address(t.currency));
            put(&mut item, "hex", Some(f.script().to_hex_string()));
            item
        })
        .collect();
    put(&mut out, "fallbacks", (!fallbacks.is_empty()).then_some(fallbacks));
    put(&mut out, "payment_metadata", t.metadata.as_ref().map(|m| hex(m)));
    let extra: Vec<Value> = t
        .unknown
        .iter()
        .map(|u| json!({"tag": u.letter().to_string(), "data": u.text()}))
        .collect();
    put(&mut out, "extra", (!extra.is_empty()).then_some(extra));
    put(&mut out, "payment_hash", Some(t.payment_hash.to_string()));
    let der =
        secp256k1::ecdsa::Signature::from_compact(decoded.signature.get(..64).unwrap_or_default());
    put(&mut out, "signature", der.ok().map(|s| hex(&s.serialize_der())));
    Ok(Answer::Now(out))
}

fn fallback_kind(f: &invoice::Fallback) -> &'static str {
    let script = f.script();
    match () {
        () if script.is_p2pkh() => "P2PKH",
        () if script.is_p2sh() => "P2SH",
        () if script.is_p2wpkh() => "P2WPKH",
        () if script.is_p2wsh() => "P2WSH",
        () if script.is_p2tr() => "P2TR",
        () => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::chain::Backend;
    use crate::testing::Rig;
    use std::cell::RefCell;

    fn info(rig: &mut Rig) -> Value {
        let told = RefCell::new(Value::Null);
        rig.turn(|node, turn| {
            let caller = Caller { conn: 1, id: "1".to_owned(), filter: None, notify: false };
            if let Answer::Now(value) = getinfo(node, turn, &Args::default(), &caller)? {
                told.replace(value);
            }
            Ok(())
        });
        told.into_inner()
    }

    #[test]
    fn getinfo_warns_while_the_chain_is_behind_and_not_after() {
        let mut rig = Rig::new("sync-warnings", &[]);
        let backend = |syncing| Some(Backend { blocks: 250, headers: 300, syncing });
        let warnings = |rig: &mut Rig| {
            let info = info(rig);
            let text = |name: &str| info.get(name).and_then(Value::as_str).map(str::to_owned);
            (text("warning_bitcoind_sync"), text("warning_lightningd_sync"))
        };
        rig.node.chain.caught_up = false;
        for (says, bitcoind, lightningd) in [
            (None, Some("Bitcoind has not answered yet."), None),
            (backend(true), Some("Bitcoind is not up-to-date with network."), None),
            (backend(false), None, Some("Still loading latest blocks from bitcoind: 100 of 250.")),
        ] {
            rig.node.chain.backend = says;
            assert!(!rig.node.chain.is_synced());
            let expected = (bitcoind.map(str::to_owned), lightningd.map(str::to_owned));
            assert_eq!(warnings(&mut rig), expected);
        }
        rig.node.chain.caught_up = true;
        assert!(rig.node.chain.is_synced());
        assert_eq!(warnings(&mut rig), (None, None));
    }
}
