//! Closes by one side alone, on a real chain: whatever was published, every satoshi ends where BOLT
//! 5 says.

#[path = "onchain/mod.rs"]
mod scenes;

use scenes::*;
use serde_json::json;
use tests::{Pair, wait_for};

#[test]
fn force_close_pays_both_sides_their_balance() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(300_000_000, "before"));
    pair.alice.settled_balance(&id);
    let before = wealth(&pair.alice);
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    confirm_close(&pair, &id);
    assert_eq!(evidence(&pair.alice, &id)["close"], "local_unilateral");
    assert_eq!(evidence(&pair.bob, &id)["close"], "remote_unilateral");
    resolve(&pair, &id);
    let gained = wealth(&pair.alice) - before;
    assert!((680_000..700_000).contains(&gained), "alice got {gained}");
    let bobs = wealth(&pair.bob);
    assert!((299_000..=300_000).contains(&bobs), "bob got {bobs}");
    // Buried, and forgotten.
    pair.bitcoind.mine(100);
    for node in [&pair.alice, &pair.bob] {
        node.sync(&pair.bitcoind);
        wait_for("the channel to be closed", || {
            let list = node.rpc("listclosedchannels", &json!({}));
            let closed = list["closedchannels"].as_array()?.first()?.clone();
            assert_eq!(closed["close_reason"]["evidence"]["txid"].as_str().unwrap().len(), 64);
            Some(())
        });
    }
}

#[test]
fn preimage_on_local_commitment_completes_the_payment() {
    preimage_on_chain(true);
}

#[test]
fn preimage_on_remote_commitment_completes_the_payment() {
    preimage_on_chain(false);
}

/// Half of a payment waits in a channel that closes; then the rest comes over another one, and the
/// payee claims its half with the preimage that it now may show.
fn preimage_on_chain(by_payer: bool) {
    let pair = Pair::new();
    pair.bob.fund(&pair.bitcoind);
    let id = pair.open(SAT);
    let other = pair.open(SAT);
    let parts = Parts::new(&pair, 200_000_000);
    parts.send(&id, 1);
    pair.wait_held(&id, 1);
    let before = (wealth(&pair.alice), wealth(&pair.bob));
    let closer = if by_payer { &pair.alice } else { &pair.bob };
    closer.rpc("dev-fail", &json!({"id": id}));
    confirm_close(&pair, &id);
    parts.send(&other, 2);
    for n in 1..=2 {
        if n == 1 {
            // Shown on chain, heard from there.
            resolve(&pair, &id);
        }
        assert_eq!(parts.wait(n).unwrap()["status"], "complete");
    }
    assert_eq!(pair.bob.rpc("listinvoices", &json!(["parts"]))["invoices"][0]["status"], "paid");
    let (alice, bob) = (wealth(&pair.alice), wealth(&pair.bob));
    assert!((880_000..900_000).contains(&(alice - before.0)), "alice: {before:?} {alice}");
    assert!(
        bob + 20_000 > before.1 + 100_000 && bob <= before.1 + 100_000,
        "bob: {before:?} {bob}"
    );
}

#[test]
fn onchain_part_counts_after_the_payee_restarts() {
    let pair = Pair::new();
    pair.bob.fund(&pair.bitcoind);
    let id = pair.open(SAT);
    let other = pair.open(SAT);
    let parts = Parts::new(&pair, 200_000_000);
    parts.send(&id, 1);
    pair.wait_held(&id, 1);
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    confirm_close(&pair, &id);
    pair.bob.kill();
    pair.bob.start_again();
    pair.reconnect(&other);
    parts.send(&other, 2);
    assert_eq!(parts.wait(2).unwrap()["status"], "complete");
    resolve(&pair, &id);
    assert_eq!(parts.wait(1).unwrap()["status"], "complete");
}

#[test]
fn htlc_timeout_on_local_commitment_fails_back() {
    timeout_on_chain(true);
}

#[test]
fn htlc_timeout_on_remote_commitment_fails_back() {
    timeout_on_chain(false);
}

fn timeout_on_chain(by_payer: bool) {
    let pair = Pair::new();
    pair.bob.fund(&pair.bitcoind);
    let id = pair.open(SAT);
    let parts = Parts::new(&pair, 200_000_000);
    parts.send(&id, 1);
    pair.wait_held(&id, 1);
    let before = wealth(&pair.alice);
    let closer = if by_payer { &pair.alice } else { &pair.bob };
    closer.rpc("dev-fail", &json!({"id": id}));
    confirm_close(&pair, &id);
    resolve(&pair, &id);
    // A failure counts when nothing can take it back.
    pair.bitcoind.mine(6);
    let failed = parts.wait(1).unwrap_err();
    assert_eq!(failed.code, 204, "{failed:?}");
    let gained = wealth(&pair.alice) - before;
    assert!((970_000..=SAT).contains(&gained), "alice got {gained}");
}

#[test]
fn revoked_commitment_costs_its_broadcaster_everything() {
    for with_htlc in [false, true] {
        let pair = Pair::new();
        let id = pair.open(SAT);
        let other = if with_htlc { Some(pair.open(SAT)) } else { None };
        pair.alice.pay(&pair.bob.invoice(100_000_000, "first"));
        let parts = Parts::new(&pair, 200_000_000);
        if with_htlc {
            parts.send(&id, 1);
            pair.wait_held(&id, 1);
        }
        let old = pair.alice.rpc("dev-sign-last-tx", &json!({"id": id}))["tx"].clone();
        // hsmd would give out no secret after that, until it is born anew.
        pair.alice.kill();
        pair.alice.start_again();
        pair.reconnect(&id);
        match &other {
            Some(other) => {
                pair.alice.wait_normal(other);
                parts.send(other, 2);
                assert_eq!(parts.wait(1).unwrap()["status"], "complete");
            }
            None => drop(pair.alice.pay(&pair.bob.invoice(200_000_000, "second"))),
        }
        pair.alice.settled_balance(&id);
        pair.bob.settled_balance(&id);
        pair.alice.stop();
        let before = wealth(&pair.bob);
        pair.bitcoind.rpc("sendrawtransaction", &json!([old]));
        pair.bitcoind.mine(1);
        pair.bob.sync(&pair.bitcoind);
        pair.bob.wait_state(&id, "ONCHAIN");
        wait_for("bob to see what it is", || {
            (evidence(&pair.bob, &id)["close"] == "remote_revoked").then_some(())
        });
        resolve_alone(&pair.bob, &pair.bitcoind, &id);
        let gained = wealth(&pair.bob) - before;
        assert!((970_000..=SAT).contains(&gained), "bob got {gained}");
    }
}

#[test]
fn reorgs_of_1_to_6_blocks_after_a_close_keep_the_outcome() {
    let pair = Pair::new();
    let id = pair.open(SAT);
    pair.alice.pay(&pair.bob.invoice(300_000_000, "before"));
    pair.alice.settled_balance(&id);
    let before = wealth(&pair.alice);
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    confirm_close(&pair, &id);
    for depth in 1..=6u64 {
        pair.bitcoind.mine(u32::try_from(depth - 1).unwrap());
        for node in [&pair.alice, &pair.bob] {
            node.sync(&pair.bitcoind);
        }
        let height = pair.bitcoind.height();
        let hash = pair.bitcoind.rpc("getblockhash", &json!([height + 1 - depth]));
        pair.bitcoind.rpc("invalidateblock", &json!([hash]));
        // Empty blocks first, so that what was mined is not mined again at once.
        let nobody = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk";
        for _ in 0..=depth {
            pair.bitcoind.rpc("generateblock", &json!([nobody, []]));
        }
        for node in [&pair.alice, &pair.bob] {
            node.sync(&pair.bitcoind);
            assert_ne!(node.channel(&id)["state"], "CLOSED");
        }
        confirm_close(&pair, &id);
    }
    resolve(&pair, &id);
    let gained = wealth(&pair.alice) - before;
    assert!((680_000..700_000).contains(&gained), "alice got {gained}");
    assert!((299_000..=300_000).contains(&wealth(&pair.bob)));
}

#[test]
fn kills_between_any_two_blocks_of_a_close_lose_nothing() {
    let pair = Pair::new();
    pair.bob.fund(&pair.bitcoind);
    let id = pair.open(SAT);
    let other = pair.open(SAT);
    let parts = Parts::new(&pair, 200_000_000);
    parts.send(&id, 1);
    pair.wait_held(&id, 1);
    let before = wealth(&pair.alice);
    pair.alice.rpc("dev-fail", &json!({"id": id}));
    confirm_close(&pair, &id);
    parts.send(&other, 2);
    assert_eq!(parts.wait(2).unwrap()["status"], "complete");
    for _ in 0..40 {
        for node in [&pair.alice, &pair.bob] {
            node.kill();
        }
        pair.bitcoind.mine(1);
        for node in [&pair.alice, &pair.bob] {
            node.start_again();
            node.sync(&pair.bitcoind);
        }
        if is_resolved(&pair.alice, &id) && is_resolved(&pair.bob, &id) {
            break;
        }
    }
    assert!(is_resolved(&pair.alice, &id) && is_resolved(&pair.bob, &id));
    wait_for("the payment", || {
        let pays = pair.alice.rpc("listsendpays", &json!({}));
        pays["payments"].as_array()?.iter().all(|p| p["status"] == "complete").then_some(())
    });
    let gained = wealth(&pair.alice) - before;
    assert!((880_000..900_000).contains(&gained), "alice got {gained}");
}
