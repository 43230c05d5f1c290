//! A forwarding node between two strangers, one of whom goes to the chain: what becomes of the
//! other's HTLC.

use crate::scenes::*;
use primitives::*;
use serde_json::json;
use std::time::Duration;
use tests::stranger::*;
use tests::wait_for;

#[test]
fn lnd_excessive_failback_htlc_missing_in_confirmed_commitment() {
    let mut t = Between::new();
    let hash = preimage(1).hash();
    let old = t.b.newest();
    let (amount, expiry, onion) = t.onion(100_000_000, hash, 40);
    let id = t.a.add_and_settle(amount, hash, expiry, onion);
    // b has the signature of a commitment with it, and publishes the one before, which it never
    // revoked.
    t.b.hear_commit();
    let commitment = t.b.commitment(old);
    t.b.stranger.hang_up();
    t.world.mine_only(&[&commitment]);
    for _ in 0..4 {
        t.a_still_waits(id);
        t.a.stranger.hang_up();
        t.world.node.kill();
        t.world.node.start_again();
        t.world.mine(1);
        t.a.reconnect(&t.world);
        t.world.node.wait_normal(&t.a.name());
    }
    t.world.mine(3);
    t.a_failed(id);
    t.world.resolve(&t.b.name());
    t.lost_nothing();
}

#[test]
fn lnd_excessive_failback_last_moment_preimage_beats_timeout() {
    let mut t = Between::new();
    let p = preimage(1);
    let (id, at_b) = t.send(100_000_000, p.hash(), 30);
    let which = (Side::Remote, at_b);
    let number = t.b.newest();
    t.b.stranger.hang_up();
    t.world.mine_only(&[&t.b.commitment(number)]);
    // Past the expiry the node's timeout waits in the mempool; b's preimage gets into the block.
    let expiry = t.b.mine(number).htlcs[0].htlc.expiry.0;
    while t.world.height() < expiry {
        t.world.mine(1);
    }
    let built = t.b.mine(number);
    let (_, output) = Live::htlc_output(&built, Side::Remote, at_b);
    let outpoint = output.tx.input[0].previous_output;
    t.world.wait_spend(outpoint);
    let claim = t.b.second_stage(&t.world, number, which, Some(p));
    t.world.mine_only(&[&claim]);
    // Dead in the very moment, it knows afterwards.
    t.a.stranger.hang_up();
    t.world.node.kill();
    t.world.node.start_again();
    t.a.reconnect(&t.world);
    t.a_was_paid(id, p);
    t.world.resolve(&t.b.name());
    t.a.settle_without_ours();
    t.lost_nothing();
}

/// A reorg takes the timeout back until then.
#[test]
fn lnd_excessive_failback_our_timeout_counts_six_blocks_deep() {
    let mut t = Between::new();
    let p = preimage(1);
    let (id, at_b) = t.send(100_000_000, p.hash(), 12);
    let which = (Side::Remote, at_b);
    let number = t.b.newest();
    t.b.stranger.hang_up();
    t.world.mine_only(&[&t.b.commitment(number)]);
    let built = t.b.mine(number);
    let (_, output) = Live::htlc_output(&built, Side::Remote, at_b);
    while t.world.height() < output.htlc.expiry.0 {
        t.world.mine(1);
    }
    t.world.wait_spend(output.tx.input[0].previous_output);
    let confirmed = t.world.height() + 1;
    t.world.mine(3);
    t.a_still_waits(id);
    // Those three blocks never were, and the preimage is in the ones that came instead.
    let hash = t.world.bitcoind.rpc("getblockhash", &json!([confirmed]));
    t.world.bitcoind.rpc("invalidateblock", &json!([hash]));
    let claim = t.b.second_stage(&t.world, number, which, Some(p));
    t.world.mine_only(&[&claim]);
    t.a_was_paid(id, p);
    t.world.mine(4);
    t.world.resolve(&t.b.name());
    t.a.settle_without_ours();
    t.lost_nothing();
}

#[test]
fn lnd_excessive_failback_dust_in_all_commitments_fails_at_once() {
    let mut t = Between::new();
    let (id, _) = t.send(300_000, preimage(1).hash(), 40);
    let number = t.b.newest();
    assert!(t.b.mine(number).htlcs.is_empty());
    t.b.stranger.hang_up();
    t.world.mine_only(&[&t.b.commitment(number)]);
    t.a_failed(id);
    t.world.resolve(&t.b.name());
    t.lost_nothing();
}

/// The HTLC is dust in the commitment that confirms and has an output in the other.
#[test]
fn lnd_excessive_failback_dust_in_one_commitment_fails_if_deep() {
    let mut b = Plan::new(2);
    b.terms.dust_limit = Sat(1_000);
    let mut t = Between::with(Plan::new(1), b);
    let (id, _) = t.send(800_000, preimage(1).hash(), 40);
    let number = t.b.newest();
    // The node's own commitment has it, and may still take this one's place.
    let nodes = t.b.theirs.len() as u64 - 1;
    assert_eq!((t.b.mine(number).htlcs.len(), t.b.nodes(nodes).htlcs.len()), (0, 1));
    t.b.stranger.hang_up();
    t.world.mine_only(&[&t.b.commitment(number)]);
    for _ in 0..5 {
        t.a_still_waits(id);
        t.world.mine(1);
    }
    t.a_still_waits(id);
    t.world.mine(1);
    t.a_failed(id);
    t.world.resolve(&t.b.name());
    t.lost_nothing();
}

/// Two upstream strangers, one hash, one amount: each HTLC's end is its own.
fn equal_hash_and_amount(same_expiry: bool, claimed: usize) {
    let mut t = Between::new();
    let mut other = Stranger::meet(103, &t.world).open(&t.world, Plan::new(3));
    other.lock_in(&t.world);
    let before = total(&t.world);
    let p = preimage(1);
    let (first, at_b_first) = t.send(100_000_000, p.hash(), 30);
    let blocks = t.world.height() + if same_expiry { 30 } else { 33 };
    let (amount, expiry, onion) = onion_through(&t.world, &t.b, 100_000_000, p.hash(), blocks);
    let second = other.add_and_settle(amount, p.hash(), expiry, onion);
    t.b.settle_with(2);
    let at_b_second = HtlcId(at_b_first.0 + 1);
    let number = t.b.newest();
    assert_eq!(t.b.mine(number).htlcs.len(), 2);
    t.b.stranger.hang_up();
    t.world.mine_only(&[&t.b.commitment(number)]);
    // Only one of the two is taken with the preimage.
    let at_b = [at_b_first, at_b_second][claimed];
    let claim = t.b.second_stage(&t.world, number, (Side::Remote, at_b), Some(p));
    t.world.mine_only(&[&claim]);
    // Whoever took it has shown what both incoming ones are taken with.
    t.a_was_paid(first, p);
    hears_preimage(&mut other, second, p);
    other.settle_without_ours();
    t.world.resolve(&t.b.name());
    t.world.mine(6);
    let after = total(&t.world);
    assert!(after + FEES > before, "before {before}, after {after}");
}

#[test]
fn ldk_equal_hash_and_amount_claim_confusion_same_expiry() {
    equal_hash_and_amount(true, 0);
    equal_hash_and_amount(true, 1);
}
#[test]
fn ldk_equal_hash_and_amount_claim_confusion_different_expiry() {
    equal_hash_and_amount(false, 0);
    equal_hash_and_amount(false, 1);
}

/// The forward has the payment hash of our own invoice.
#[test]
fn cve_2020_26896_invoice_preimage_settles_no_forward() {
    let mut t = Between::new();
    let made = t.world.node.rpc(
        "invoice",
        &json!({"amount_msat": 100_000_000u64, "label": "mine", "description": "mine"}),
    );
    let hash: PaymentHash = made["payment_hash"].as_str().unwrap().parse().unwrap();
    let (id, at_b) = t.send(100_000_000, hash, 30);
    let number = t.a.newest();
    t.a.stranger.hang_up();
    let commitment = t.a.commitment(number);
    t.world.mine_only(&[&commitment]);
    wait_onchain(&t.world, &t.a, "remote_unilateral");
    let built = t.a.mine(number);
    let (_, output) = Live::htlc_output(&built, Side::Local, id);
    for _ in 0..3 {
        t.world.mine(1);
        assert!(t.world.spend_in_mempool(output.tx.input[0].previous_output).is_none());
    }
    let invoice = t.world.node.rpc("listinvoices", &json!(["mine"]))["invoices"][0].clone();
    assert_eq!(invoice["status"], "unpaid");
    // b gives up, and a takes its own back.
    t.b.fail(at_b);
    t.b.settle();
    while t.world.height() < output.htlc.expiry.0 {
        t.world.mine(1);
    }
    let timeout = t.a.second_stage(&t.world, number, (Side::Local, id), None);
    t.world.mine_only(&[&timeout]);
    t.world.resolve(&t.a.name());
    t.lost_nothing();
}

#[test]
fn peer_silent_after_a_preimage_is_force_closed_in_time() {
    let mut t = Between::new();
    let p = preimage(1);
    let (_, at_b) = t.send(100_000_000, p.hash(), 20);
    let number = t.a.theirs.len() as u64 - 1;
    t.b.fulfil(at_b, p);
    t.b.settle();
    // a hears of it, and says nothing more.
    t.a.hear_until(|m| matches!(m, wire::ChannelMessage::UpdateFulfillHtlc(_)));
    let expiry = t.a.nodes(number).htlcs[0].htlc.expiry.0;
    mine_until_closed(&t.world, &t.a, expiry - 1);
    t.world.mine(1);
    wait_onchain(&t.world, &t.a, "local_unilateral");
    let published = t.world.evidence(&t.a.name())["txid"].clone();
    assert_eq!(published, t.a.nodes(number).tx.compute_txid().to_string());
    t.world.resolve(&t.a.name());
    t.lost_nothing();
}

#[test]
fn replacement_cycling_our_timeout_comes_back_each_block() {
    let mut t = Between::new();
    let p = preimage(1);
    let (id, at_b) = t.send(100_000_000, p.hash(), 20);
    t.world.node.rpc("dev-fail", &json!({"id": t.b.name()}));
    let tx = wait_close(&t.world, &t.b);
    let number = t.b.theirs.len() as u64 - 1;
    t.b.stranger.hang_up();
    t.world.mine_only(&[&tx]);
    let (_, output) = Live::htlc_output(&t.b.nodes(number), Side::Remote, at_b);
    let outpoint = output.tx.input[0].previous_output;
    while t.world.height() < output.htlc.expiry.0 {
        t.world.mine_only(&[]);
    }
    let mut cycled = 0;
    let mut fee = 20_000;
    // Each block b replaces the node's timeout by its claim, and that by something that has nothing
    // to do with it. Once more, and there would be no block left in which a commits to what the
    // node learned.
    for _ in 0..2 {
        let Some(ours) = wait_spend_or_paid(&mut t, id, p, outpoint) else { break };
        assert!(!ours.input.is_empty());
        let coin = t.world.coin();
        fee += 10_000;
        let claim = t.b.claim(number, (Side::Remote, at_b), Some(p));
        let mut replacing = Spend::transaction(std::slice::from_ref(&claim), fee);
        replacing = t.world.with_coin(replacing, &claim, coin);
        t.world.send(&replacing);
        let away = t.world.pay_from_with(coin, fee + 30_000);
        t.world.send(&away);
        assert!(t.world.spend_in_mempool(outpoint).is_none(), "cycled out");
        cycled += 1;
        t.world.mine_only(&[&away]);
        if t.world.node.rpc("listforwards", &json!({}))["forwards"][0]["status"] == "settled" {
            // There is not much time left to commit to that.
            while t.a.channel.htlc(Side::Local, id).is_some() {
                t.a.hear();
                t.a.dance();
            }
            break;
        }
    }
    assert!(cycled > 0);
    // Either the preimage was seen on its way and a is told, or the timeout confirms at last.
    t.world.resolve(&t.b.name());
    t.world.mine(6);
    t.a.dance();
    while t.a.channel.htlc(Side::Local, id).is_some() {
        t.a.hear();
        t.a.dance();
    }
    t.a.settle();
    t.lost_nothing();
}

/// What spends this in the mempool; `None` if a heard meanwhile that it is paid.
fn wait_spend_or_paid(
    t: &mut Between,
    id: HtlcId,
    p: Preimage,
    outpoint: OutPoint,
) -> Option<bitcoin::Transaction> {
    wait_for("our timeout, or the preimage upstream", || {
        if t.a.preimages.contains(&(id, p)) {
            return Some(None);
        }
        if let Ok(Some(bytes)) = t.a.line().next_within(Duration::from_millis(1))
            && let Ok(wire::Decoded::Known(message)) = wire::ChannelMessage::decode(&bytes)
        {
            t.a.take(&message);
            t.a.dance();
        }
        t.world.spend_in_mempool(outpoint).map(Some)
    })
}

#[test]
fn commitment_in_the_block_of_its_funding_is_claimed() {
    let world = World::new();
    let mut draft = Stranger::meet(1, &world).propose(Plan::new(1));
    let tx = world.pay(&[draft.output()]);
    draft.create(OutPoint { txid: tx.compute_txid(), vout: 0 });
    let live = draft.signed();
    let before = world.wealth();
    world.mine_only(&[&tx, &live.commitment(0)]);
    world.resolve(&live.name());
    world.mine(2);
    let gained = world.wealth() as i64 - before as i64;
    assert!(gained > 400_000 - FEES as i64, "gained {gained}");
}
