//! Dust and fees: what a peer may make worthless is bounded.

use crate::scenes::*;
use primitives::*;
use tests::stranger::*;

/// What the options allow to be lost in HTLCs without outputs.
const EXPOSURE: u64 = 50_000;

/// `b`'s HTLCs, in satoshi.
fn at_b(t: &Between) -> u64 {
    let of = t.b.channel.htlcs().filter(|h| h.htlc.offered_by == Side::Remote);
    of.map(|h| h.htlc.amount.0 / 1000).sum()
}

/// Says so many HTLCs in one commitment, and dances until nothing moves: some came to `b`, the
/// others back.
fn flood(t: &mut Between, count: u32, msat: u64) {
    for n in 0..count {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let (hash, blocks) = (Preimage(bytes).hash(), 40);
        let (amount, expiry, onion) = t.onion(msat, hash, blocks);
        t.a.add(amount, hash, expiry, onion);
    }
    t.a.dance();
    let patience = std::time::Duration::from_millis(20);
    // Until each of `a`'s is at `b`, or gone.
    tests::wait_for("the flood to be over", || {
        for live in [&mut t.a, &mut t.b] {
            while let Some(bytes) = live.line().next_within(patience).expect("nobody hangs up") {
                let Ok(wire::Decoded::Known(message)) = wire::ChannelMessage::decode(&bytes) else {
                    panic!("what is that? {bytes:?}");
                };
                live.take(&message);
                live.dance();
            }
        }
        let still = t.a.channel.htlcs().filter(|h| h.htlc.offered_by == Side::Local).count();
        let settled = t.a.is_settled() && t.b.is_settled();
        (settled && still == received(&t.b)).then_some(())
    });
}

#[test]
fn cve_2021_41591_dust_htlc_flood_stays_within_max_exposure() {
    let mut t = Between::new();
    flood(&mut t, 250, 340_000);
    let through = at_b(&t);
    assert!(through > 0 && through <= EXPOSURE, "{through} sat of dust went on");
    // More comes back.
    let count = received(&t.b);
    flood(&mut t, 20, 340_000);
    assert_eq!(received(&t.b), count.min(received(&t.b)));
    assert!(at_b(&t) <= EXPOSURE);
    // b gives all of it to the miners, who are its friends.
    let number = t.b.newest();
    assert!(t.b.mine(number).htlcs.is_empty());
    t.b.stranger.hang_up();
    t.world.mine_only(&[&t.b.commitment(number)]);
    t.a.settle_without_ours();
    t.world.resolve(&t.b.name());
    t.world.mine(2);
    let lost = t.before as i64 - total(&t.world) as i64;
    assert!(lost <= (EXPOSURE + 3_000) as i64, "lost {lost}");
}

#[test]
fn cve_2021_41593_feerate_that_turns_htlcs_to_dust_is_refused() {
    // Whatever feerate the peer says is good, as far as fees go.
    let world = World::with(&["--ignore-fee-limits=true"]);
    let mut t = Between::within(world, Plan::new(1).plain(), Plan::new(2).plain());
    // At 1000 these have outputs, at 8000 they have none.
    flood(&mut t, 20, 5_000_000);
    let number = t.b.newest();
    assert_eq!((t.b.mine(number).htlcs.len(), at_b(&t)), (20, 100_000));
    // A smaller raise does no harm.
    t.b.fee(1_500);
    t.b.settle();
    t.b.say(&wire::UpdateFee { channel_id: t.b.id, feerate: FeeratePerKw(8_000) });
    let text = t.b.end();
    assert!(text.contains("would leave 100000000msat to miners"), "{text}");
    // The node closes while all of them have outputs.
    let commitment = wait_close(&t.world, &t.b);
    assert_eq!(commitment.output.len(), 22);
    t.b.stranger.hang_up();
    t.world.resolve(&t.b.name());
    t.world.mine(6);
    t.a.settle_without_ours();
    t.lost_nothing();
}

/// A miner who is the peer would collect the fees of a commitment without outputs.
#[test]
fn excess_fee_theft_refuses_a_commitment_that_is_all_fees() {
    let world = World::with(&["--ignore-fee-limits=false"]);
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    live.lock_in(&world);
    let before = total(&world);
    for feerate in [50_000, 100_000, 300_000, 100] {
        live.say(&wire::UpdateFee { channel_id: live.id, feerate: FeeratePerKw(feerate) });
        let text = live.end();
        assert!(text.contains("update_fee"), "{text}");
        live.reconnect(&world);
        world.node.wait_normal(&live.name());
    }
    assert_eq!(total(&world), before);
    // What it has signed pays little, and can be published.
    live.stranger.hang_up();
    let tx = live.commitment(live.newest());
    let paid: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
    assert!(paid + 2_000 > 1_000_000, "{paid}");
    world.mine_only(&[&tx]);
    world.resolve(&live.name());
    world.mine(2);
    assert!(total(&world) + 1_000 > before);
}

/// BOLT 2, max_dust_htlc_exposure_msat: the feerate comes between our signature and the peer's
/// revocation. Default options.
#[test]
fn dust_exposure_counts_htlcs_between_signature_and_revocation() {
    let mut t = Between::with(Plan::new(1).plain(), Plan::new(2).plain());
    for n in 0..25u8 {
        let hash = preimage(n + 1).hash();
        let (amount, expiry, onion) = t.onion(3_500_000, hash, 40);
        t.a.add(amount, hash, expiry, onion);
    }
    t.a.settle();
    loop {
        t.b.hear_commit();
        if received(&t.b) == 25 {
            break;
        }
        t.b.revoke();
    }
    assert!(!t.b.is_settled(), "the last of them await b's revocation");
    t.b.fee(5_000);
    t.b.commit();
    t.b.revoke();
    let text = t.b.end();
    assert!(text.contains("would leave 87500000msat to miners, of at most 50000000msat"), "{text}");
    let number = t.b.newest();
    assert_eq!(t.b.mine(number).htlcs.len(), 25);
    t.b.stranger.hang_up();
    t.world.mine_only(&[&t.b.commitment(number)]);
    t.world.node.wait_state(&t.b.name(), "ONCHAIN");
    t.world.resolve(&t.b.name());
    t.world.mine(6);
    t.a.settle_without_ours();
    t.lost_nothing();
}
