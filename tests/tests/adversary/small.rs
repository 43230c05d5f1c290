//! Outgoing HTLCs that are not resolved on chain before their incoming HTLCs expire: those that
//! cost more than they hold, and those that no miner takes.

use crate::scenes::*;
use primitives::*;
use serde_json::json;
use std::time::Duration;
use tests::stranger::*;
use tests::wait_for;
use wire::{ChannelMessage, Decoded};

/// The least that gets into blocks.
#[derive(Clone, Copy)]
enum Market {
    /// Whatever is relayed, by a bitcoind that relays from 1 sat/vB on.
    Relay,
    /// 10 sat/vB.
    Ten,
}

impl Market {
    fn world(self) -> World {
        match self {
            Self::Relay => World::on(
                &["-regtest", "-minrelaytxfee=0.00001", "-incrementalrelayfee=0.00001"],
                &["--cltv-delta=34"],
            ),
            Self::Ten => {
                World::with(&["--cltv-delta=34", "--force-feerates=1000/1000/1000/2600/2600/2600"])
            }
        }
    }
    fn mine(self, world: &World) {
        match self {
            Self::Relay => world.mine(1),
            Self::Ten => {
                let pool = world.bitcoind.rpc("getrawmempool", &serde_json::json!([true]));
                let dear = pool.as_object().unwrap().iter().filter(|(_, e)| {
                    let fee = e["fees"]["base"].as_f64().unwrap() * 1e8;
                    fee / e["vsize"].as_f64().unwrap() >= 10.0
                });
                let all: Vec<_> = dear.map(|(txid, _)| world.bitcoind.transaction(txid)).collect();
                world.mine_only(&all.iter().collect::<Vec<_>>());
            }
        }
    }
}

/// `b` publishes its commitment with this HTLC of `a`'s, and touches nothing more. The id at `a`,
/// and when that one expires.
fn close_downstream(t: &mut Between, msat: u64) -> (HtlcId, u32) {
    let hash = preimage(1).hash();
    let (amount, expiry, onion) = t.onion(msat, hash, 12);
    let expiry = BlockHeight(expiry.0 - 6 + 34);
    let id = t.a.add_and_settle(amount, hash, expiry, onion);
    t.b.settle_with(1);
    let number = t.b.newest();
    assert_eq!(t.b.mine(number).htlcs.len(), 1, "it has an output");
    t.b.stranger.hang_up();
    t.world.mine_only(&[&t.b.commitment(number)]);
    wait_onchain(&t.world, &t.b, "remote_unilateral");
    (id, expiry.0)
}

/// Hears what there is to hear, and answers. Is nothing of ours left in the channel?
fn is_failed_back(live: &mut Live) -> bool {
    while let Some(bytes) = live.line().next_within(Duration::from_millis(50)).expect("it stays") {
        let Ok(Decoded::Known(message)) = ChannelMessage::decode(&bytes) else { panic!() };
        live.take(&message);
        live.dance();
    }
    live.channel.htlcs().count() == 0
}

fn failed_back_in_time(market: Market, msat: u64) {
    let mut t = Between::within(market.world(), Plan::new(1), Plan::new(2));
    let (_, expiry) = close_downstream(&mut t, msat);
    while !is_failed_back(&mut t.a) {
        assert!(t.world.height() + 1 < expiry, "an honest `a` would close its channel now");
        market.mine(&t.world);
    }
    assert!(t.a.preimages.is_empty());
    assert_eq!(t.world.node.channel(&t.a.name())["state"], "CHANNELD_NORMAL");
}

#[test]
fn htlc_that_is_worth_its_claim_is_failed_back_in_time() {
    failed_back_in_time(Market::Relay, 100_000_000);
    failed_back_in_time(Market::Ten, 100_000_000);
}

#[test]
fn htlc_below_the_cost_of_its_claim_is_failed_back_in_time() {
    failed_back_in_time(Market::Relay, 400_000);
}

#[test]
fn htlc_below_market_cost_of_its_claim_is_failed_back_in_time() {
    failed_back_in_time(Market::Ten, 2_000_000);
}

/// The twenty incoming channels' peers are strangers to each other and to the one that closes.
#[test]
fn one_downstream_close_leaves_twenty_upstream_channels_open() {
    const CHANNELS: u64 = 20;
    let market = Market::Ten;
    let world = market.world();
    let mut b = Stranger::meet(102, &world).open(&world, Plan::new(2).sized(1_000_000, 900_000));
    let mut all: Vec<Live> = (0..CHANNELS)
        .map(|n| Stranger::meet(110 + n, &world).open(&world, Plan::new(10 + n)))
        .collect();
    world.mine(3);
    b.ready();
    all.iter_mut().for_each(Live::ready);
    all.iter().for_each(|a| world.node.wait_normal(&a.name()));
    world.node.wait_normal(&b.name());
    let blocks = world.height() + 12;
    for (n, a) in all.iter_mut().enumerate() {
        let hash = preimage(n as u8 + 1).hash();
        let (amount, expiry, onion) = onion_through(&world, &b, 400_000, hash, blocks);
        a.add_and_settle(amount, hash, BlockHeight(expiry.0 - 6 + 34), onion);
        b.settle_with(n + 1);
    }
    let number = b.newest();
    assert_eq!(b.mine(number).htlcs.len() as u64, CHANNELS);
    b.stranger.hang_up();
    world.mine_only(&[&b.commitment(number)]);
    wait_onchain(&world, &b, "remote_unilateral");
    let margin = blocks + 34 - 3;
    while world.height() < margin {
        market.mine(&world);
    }
    for a in &mut all {
        wait_for("the HTLC to be failed back", || is_failed_back(a).then_some(()));
        assert!(a.preimages.is_empty());
    }
    // Past the expiries of all.
    while world.height() < margin + 6 {
        market.mine(&world);
    }
    for a in &all {
        let channel = world.node.channel(&a.name());
        assert_eq!(
            (&channel["state"], &channel["htlcs"]),
            (&"CHANNELD_NORMAL".into(), &serde_json::json!([]))
        );
    }
}

/// `b` waits with its preimage until `a`'s HTLC was failed back: it gains that little, once.
#[test]
fn preimage_revealed_after_failing_back_costs_that_htlc_alone() {
    let mut t = Between::within(Market::Ten.world(), Plan::new(1), Plan::new(2));
    let (id, expiry) = close_downstream(&mut t, 2_000_000);
    while t.world.height() < expiry - 3 {
        assert!(!is_failed_back(&mut t.a), "too early");
        Market::Ten.mine(&t.world);
    }
    t.a_failed(id);
    // What was decided is so after a restart.
    t.a.stranger.hang_up();
    t.world.node.kill();
    t.world.node.start_again();
    t.a.reconnect(&t.world);
    t.world.node.wait_normal(&t.a.name());
    let number = t.b.newest();
    let at_b = t.b.mine(number).htlcs[0].htlc.id;
    let claim = t.b.second_stage(&t.world, number, (Side::Remote, at_b), Some(preimage(1)));
    t.world.mine_only(&[&claim]);
    wait_for("the loss in the log", || {
        t.world.node.log().contains("lost 2000000msat").then_some(())
    });
    t.world.mine(8);
    assert!(is_failed_back(&mut t.a) && t.a.preimages.is_empty());
    assert_eq!(t.world.node.channel(&t.a.name())["state"], "CHANNELD_NORMAL");
    assert_eq!(t.world.node.channel(&t.a.name())["to_us_msat"], 400_000_000);
    let forwards = t.world.node.rpc("listforwards", &serde_json::json!({}));
    assert_eq!(forwards["forwards"][0]["status"], "failed");
}

/// Nothing of the node's gets into blocks. An HTLC above the cost of a close is not given up: the
/// preimage is good for it to the last.
#[test]
fn htlc_above_the_cost_of_a_close_waits_for_its_preimage() {
    let mut t = Between::within(Market::Ten.world(), Plan::new(1), Plan::new(2));
    let (id, expiry) = close_downstream(&mut t, 20_000_000);
    while t.world.height() < expiry - 1 {
        t.world.mine_only(&[]);
        assert!(!is_failed_back(&mut t.a), "20,000 sat are given up");
    }
    assert!(t.world.node.log().contains("may cost this channel"));
    let number = t.b.newest();
    let at_b = t.b.mine(number).htlcs[0].htlc.id;
    let claim = t.b.second_stage(&t.world, number, (Side::Remote, at_b), Some(preimage(1)));
    t.world.mine_only(&[&claim]);
    t.a_was_paid(id, preimage(1));
}

/// A part of a payment to the node, uncommitted; its parts bring so much together.
fn add_part(world: &World, live: &mut Live, msat: u64, total: u64, secret: ChannelId) -> HtlcId {
    let (amount, total) = (Msat(msat), Msat(total));
    let expiry = BlockHeight(world.height() + 60);
    let end = Onion { amount, expiry, secret: PaymentSecret(secret.0), total };
    let hash = preimage(1).hash();
    let onion = onion_to(world.node_point(), &end, &hash);
    live.add(amount, hash, expiry, onion)
}

/// One part of a payment to the node comes over `a`, whose channel fails then; the rest comes over
/// `b`. `a` publishes its own commitment. Below 1,000 sat that one has no output for the part, and
/// the node's has.
fn part_over_a_failed_channel(msat: u64, pays: bool) {
    let mut a = Plan::new(1);
    a.terms.dust_limit = Sat(1_000);
    let mut t = Between::with(a, Plan::new(2));
    let total = msat + 20_000_000;
    let wanted = json!({"amount_msat": total, "label": "parts", "description": "parts",
        "preimage": "01".repeat(32)});
    let invoice = t.world.node.rpc("invoice", &wanted);
    let secret = invoice["payment_secret"].as_str().unwrap().parse().unwrap();
    add_part(&t.world, &mut t.a, msat, total, secret);
    t.a.settle();
    wait_settled(&t.world, &t.a);
    let (number, nodes) = (t.a.newest(), t.a.theirs.len() as u64 - 1);
    let outputs = (t.a.mine(number).htlcs.len(), t.a.nodes(nodes).htlcs.len());
    assert_eq!(outputs, (usize::from(pays), 1));
    t.world.node.rpc("dev-fail", &json!({"id": t.a.name()}));
    t.a.stranger.hang_up();
    let id = add_part(&t.world, &mut t.b, 20_000_000, total, secret);
    if pays {
        hears_preimage(&mut t.b, id, preimage(1));
    } else {
        t.b.settle();
        wait_settled(&t.world, &t.b);
    }
    let status = || t.world.node.rpc("listinvoices", &json!({}))["invoices"][0]["status"].clone();
    assert_eq!(status(), if pays { "paid" } else { "unpaid" });
    // The commitment that confirms has what was relied on, and nothing of what was not.
    t.world.mine_only(&[&t.a.commitment(number)]);
    wait_onchain(&t.world, &t.a, "remote_unilateral");
    assert_eq!(status(), if pays { "paid" } else { "unpaid" });
    t.b.stranger.hang_up();
    t.world.resolve(&t.a.name());
    t.lost_nothing();
}

/// The money would be the miners', and the payee would have given what it sells.
#[test]
fn htlc_that_one_valid_commitment_trims_pays_no_invoice() {
    part_over_a_failed_channel(800_000, false);
}
#[test]
fn htlc_that_no_valid_commitment_trims_pays_on_a_failed_channel() {
    part_over_a_failed_channel(5_000_000, true);
}
