//! Channels whose closing was signed for, or whose end was announced: an HTLC that is added
//! afterwards has no money behind it. The table is `channel::phase`.

use crate::scenes::*;
use bitcoin::{ScriptBuf, Transaction};
use primitives::*;
use secp256k1::SECP256K1;
use serde_json::json;
use tests::stranger::*;
use wire::hsm::ClosingState;
use wire::{ChannelMessage, ClosingSigned, Decoded, Shutdown};

/// How the peer is there again.
#[derive(Clone, Copy, Debug)]
enum Return {
    /// On a new connection.
    Reconnected,
    /// On a new connection to a node that died and was started again.
    Restarted,
}
const RETURNS: [Return; 2] = [Return::Reconnected, Return::Restarted];

fn come_back(world: &World, live: &mut Live, how: Return) {
    live.stranger.hang_up();
    if let Return::Restarted = how {
        world.node.kill();
        world.node.start_again();
        world.node.sync(&world.bitcoind);
    }
    live.reconnect(world);
}

/// Both say `shutdown`: the node's script.
fn shut(live: &mut Live) -> ScriptBuf {
    live.say(&Shutdown { channel_id: live.id, scriptpubkey: miner_script() });
    let theirs = live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
    let ChannelMessage::Shutdown(theirs) = theirs else { unreachable!() };
    theirs.scriptpubkey
}

fn hear_offer(live: &mut Live) -> ClosingSigned {
    let said = live.hear_until(|m| matches!(m, ChannelMessage::ClosingSigned(_)));
    let ChannelMessage::ClosingSigned(said) = said else { unreachable!() };
    said
}

/// The closing that the node has signed for, signed by both.
fn closing(live: &Live, theirs: &ScriptBuf, said: &ClosingSigned) -> Transaction {
    let constants = live.channel.constants();
    let state = ClosingState {
        script: Sides { local: miner_script(), remote: theirs.clone() },
        balance: live.channel.balance(),
        fee: said.fee_satoshis,
    };
    let kept = channel::closing::our_choice(constants, &state).unwrap();
    let built = channel::closing::build(constants, &state, kept).unwrap();
    let ours = SECP256K1.sign_ecdsa(&built.sighash(constants), &live.keys.funding);
    built.signed(constants, &Sides { local: ours, remote: said.signature })
}

/// The stranger, who opened, gets the node's signature on a closing transaction and gives none: its
/// fee suits nobody.
fn half_closed(live: &mut Live) -> Transaction {
    let script = shut(live);
    let offer = live.closing_signed(&script, miner_script(), 1);
    live.say(&offer);
    let said = hear_offer(live);
    closing(live, &script, &said)
}

/// Both sign one closing transaction. It is in the mempool.
fn closed(world: &World, live: &mut Live) -> Transaction {
    let script = shut(live);
    let offer = live.closing_signed(&script, miner_script(), 1000);
    live.say(&offer);
    hear_offer(live);
    let closed = wait_close(world, live);
    assert_eq!(world.node.channel(&live.name())["state"], "CLOSINGD_COMPLETE");
    closed
}

/// Dances until the node warns or hangs up: what it said then.
fn refused(live: &mut Live) -> String {
    live.dance();
    loop {
        let bytes = match live.line().hear() {
            Ok(bytes) => bytes,
            Err(Gone(text)) => return text.unwrap_or_default(),
        };
        match ChannelMessage::decode(&bytes) {
            Ok(Decoded::Known(ChannelMessage::Error(e))) => return e.text(),
            Ok(Decoded::Known(ChannelMessage::Warning(w))) => return w.text(),
            Ok(Decoded::Known(message)) => live.take(&message),
            other => panic!("{other:?}"),
        }
        assert!(live.channel.htlcs().all(|h| h.added < wire::channel_data::Stage::Irrevocable));
        live.dance();
    }
}

/// An HTLC of this much for a new invoice of the node, uncommitted.
fn add_for_invoice(world: &World, live: &mut Live, msat: u64, label: &str) -> HtlcId {
    let made = world
        .node
        .rpc("invoice", &json!({"amount_msat": msat, "label": label, "description": label}));
    let hash: PaymentHash = made["payment_hash"].as_str().unwrap().parse().unwrap();
    let secret = made["payment_secret"].as_str().unwrap().parse::<ChannelId>().unwrap().0;
    let expiry = BlockHeight(world.height() + 30);
    let end =
        Onion { amount: Msat(msat), expiry, secret: PaymentSecret(secret), total: Msat(msat) };
    let onion = onion_to(world.node_point(), &end, &hash);
    live.add(Msat(msat), hash, expiry, onion)
}

fn status(world: &World, label: &str) -> String {
    let list = world.node.rpc("listinvoices", &json!({"label": label}));
    list["invoices"][0]["status"].as_str().unwrap().to_owned()
}

/// The closing confirms, and the node has all that it had.
fn confirms(world: &World, live: &mut Live, closing: &Transaction, before: u64) {
    live.stranger.hang_up();
    world.mine_only(&[closing]);
    world.node.wait_state(&live.name(), "ONCHAIN");
    world.mine(8);
    let after = total(world);
    assert!(after + FEES > before, "before {before}, after {after}");
}

/// A channel of this stranger's, ready, and what the node then has.
fn opened() -> (World, Live, u64) {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
    world.node.wait_normal(&live.name());
    let before = total(&world);
    (world, live, before)
}

#[test]
fn htlc_after_our_closing_signature_pays_no_invoice() {
    for how in RETURNS {
        let (world, mut live, before) = opened();
        let closing = half_closed(&mut live);
        // The peer comes back and omits its shutdown.
        come_back(&world, &mut live, how);
        add_for_invoice(&world, &mut live, 300_000_000, "goods");
        let text = refused(&mut live);
        assert!(text.contains("update_add_htlc"), "{how:?}: {text}");
        assert_eq!(status(&world, "goods"), "unpaid", "{how:?}");
        confirms(&world, &mut live, &closing, before);
    }
}

#[test]
fn htlc_after_our_closing_signature_is_not_forwarded() {
    for how in RETURNS {
        let mut t = Between::new();
        let closing = half_closed(&mut t.a);
        if let Return::Restarted = how {
            t.b.stranger.hang_up();
        }
        come_back(&t.world, &mut t.a, how);
        if let Return::Restarted = how {
            t.b.reconnect(&t.world);
        }
        let p = preimage(1);
        let (amount, expiry, onion) = t.onion(500_000_000, p.hash(), 30);
        t.a.add(amount, p.hash(), expiry, onion);
        let text = refused(&mut t.a);
        assert!(text.contains("update_add_htlc"), "{how:?}: {text}");
        assert_eq!(received(&t.b), 0, "{how:?}");
        confirms(&t.world, &mut t.a, &closing, t.before);
    }
}

#[test]
fn htlc_after_a_complete_closing_pays_no_invoice() {
    for how in RETURNS {
        let (world, mut live, before) = opened();
        let closing = closed(&world, &mut live);
        come_back(&world, &mut live, how);
        add_for_invoice(&world, &mut live, 300_000_000, "goods");
        let text = refused(&mut live);
        assert!(text.contains("update_add_htlc"), "{how:?}: {text}");
        assert_eq!(status(&world, "goods"), "unpaid", "{how:?}");
        confirms(&world, &mut live, &closing, before);
    }
}

/// A commitment without any HTLC is a new state all the same: the peer gets no revocation for it
/// after a closing was signed.
#[test]
fn commitment_after_our_closing_signature_is_refused() {
    for how in RETURNS {
        let (world, mut live, before) = opened();
        let closing = half_closed(&mut live);
        come_back(&world, &mut live, how);
        live.fee(1500);
        live.commit();
        let text = refused(&mut live);
        assert!(text.contains("update_fee"), "{how:?}: {text}");
        confirms(&world, &mut live, &closing, before);
    }
}

/// Hears until the HTLC of this id is gone.
fn until_gone(live: &mut Live, id: HtlcId) {
    live.dance();
    while live.channel.htlc(Side::Local, id).is_some() {
        live.hear();
        live.dance();
    }
    live.settle();
}

/// BOLT 2, shutdown: an HTLC that comes after ours goes nowhere; one that came before is as good as
/// any.
#[test]
fn htlc_after_our_shutdown_fails_and_one_before_it_pays() {
    let (world, mut live, _) = opened();
    let early = add_for_invoice(&world, &mut live, 20_000_000, "early");
    live.commit();
    live.hear_revoke();
    live.hear_commit();
    // The peer still owes the revocation that makes the HTLC irrevocable.
    let closes = world.call("close", &json!({"id": live.name()}));
    live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
    let late = add_for_invoice(&world, &mut live, 30_000_000, "late");
    until_gone(&mut live, late);
    until_gone(&mut live, early);
    assert!(live.preimages.iter().any(|(id, _)| *id == early));
    assert!(live.preimages.iter().all(|(id, _)| *id != late));
    assert_eq!(["early", "late"].map(|l| status(&world, l)), ["paid", "unpaid"]);
    assert_eq!(world.node.channel(&live.name())["state"], "CHANNELD_SHUTTING_DOWN");
    drop(closes);
}

/// `close` while the peer is away: our `shutdown` is said for the first time on its next
/// connection.
#[test]
fn htlc_after_the_shutdown_of_an_offline_close_fails() {
    let (world, mut live, _) = opened();
    live.stranger.hang_up();
    tests::wait_for("the node to notice", || {
        let peers = world.node.rpc("listpeers", &json!([live.stranger.id()]));
        (peers["peers"][0]["connected"] != true).then_some(())
    });
    let closes = world.call("close", &json!({"id": live.name()}));
    world.node.wait_state(&live.name(), "CHANNELD_SHUTTING_DOWN");
    live.reconnect(&world);
    live.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
    let late = add_for_invoice(&world, &mut live, 30_000_000, "late");
    until_gone(&mut live, late);
    assert!(live.preimages.is_empty());
    assert_eq!(status(&world, "late"), "unpaid");
    drop(closes);
}

/// The same for what would go on to somebody else, after the node was started again.
#[test]
fn htlc_after_our_shutdown_is_not_forwarded() {
    for how in RETURNS {
        let mut t = Between::new();
        let closes = t.world.call("close", &json!({"id": t.a.name()}));
        t.a.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
        if let Return::Restarted = how {
            t.b.stranger.hang_up();
        }
        come_back(&t.world, &mut t.a, how);
        if let Return::Restarted = how {
            t.b.reconnect(&t.world);
        }
        t.a.hear_until(|m| matches!(m, ChannelMessage::Shutdown(_)));
        let p = preimage(1);
        let (amount, expiry, onion) = t.onion(500_000_000, p.hash(), 30);
        let id = t.a.add(amount, p.hash(), expiry, onion);
        until_gone(&mut t.a, id);
        assert!(t.a.preimages.is_empty(), "{how:?}");
        assert_eq!(received(&t.b), 0, "{how:?}");
        let forwards = t.world.node.rpc("listforwards", &json!({}));
        assert_eq!(forwards["forwards"][0]["status"], "local_failed", "{how:?}: {forwards}");
        drop(closes);
        t.lost_nothing();
    }
}
