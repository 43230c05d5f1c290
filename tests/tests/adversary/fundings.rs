//! Fundings of channels that are ready, which a reorganisation takes back: they come again
//! elsewhere, or never.

use crate::scenes::*;
use bitcoin::Transaction;
use primitives::*;
use serde_json::json;
use tests::stranger::*;
use tests::wait_for;

/// So many blocks never were; none has come in their place.
fn take_back(world: &World, depth: u32) {
    let first = world.bitcoind.height() + 1 - u64::from(depth);
    let hash = world.bitcoind.rpc("getblockhash", &json!([first]));
    world.bitcoind.rpc("invalidateblock", &json!([hash]));
}

fn has_scid(world: &World, live: &Live) -> bool {
    world.node.channel(&live.name())["short_channel_id"].is_string()
}

/// The stranger pays an invoice of the node's. Did it take it?
fn pays_the_node(world: &World, live: &mut Live, label: &str) -> bool {
    let made = world
        .node
        .rpc("invoice", &json!({"amount_msat": 10_000_000, "label": label, "description": label}));
    let hash = made["payment_hash"].as_str().unwrap().parse().unwrap();
    let secret: ChannelId = made["payment_secret"].as_str().unwrap().parse().unwrap();
    let (amount, expiry) = (Msat(10_000_000), BlockHeight(world.height() + 40));
    let secret = PaymentSecret(secret.0);
    let onion =
        onion_to(world.node_point(), &Onion { amount, expiry, secret, total: amount }, &hash);
    let id = live.add(amount, hash, expiry, onion);
    live.settle_without_ours();
    live.preimages.iter().any(|(i, _)| *i == id)
}

/// The node pays the stranger, who takes it.
fn node_pays_it(world: &World, live: &mut Live, n: u8) {
    let p = preimage(n);
    let id = node_pays(world, live, 5_000_000, p.hash(), 40, n.into());
    live.fulfil(id, p);
    live.settle();
}

#[test]
fn funding_reorgs_of_1_to_6_blocks_suspend_a_ready_channel() {
    let world = World::new();
    let mut live = Stranger::meet(1, &world).open(&world, Plan::new(1));
    world.mine(1);
    live.ready();
    world.node.wait_normal(&live.name());
    let funding = live.funding_tx.clone().unwrap();
    let before = total(&world);
    for depth in 1..=6 {
        let old = live.scid(&world);
        let confirmed = old.block().0;
        while world.height() + 1 < confirmed + depth {
            world.mine_only(&[]);
        }
        let label = |when: &str| format!("{when} {depth}");
        take_back(&world, depth);
        // Others come, as many and one more, and it is in none of them.
        for _ in 0..=depth {
            world.mine_only(&[]);
        }
        assert!(!has_scid(&world, &live), "its block left the chain");
        assert_eq!(world.node.channel(&live.name())["state"], "CHANNELD_NORMAL");
        if depth % 3 == 0 {
            live.stranger.hang_up();
            world.node.kill();
            world.node.start_again();
            world.node.sync(&world.bitcoind);
            live.reconnect(&world);
            world.node.wait_normal(&live.name());
        }
        // Whoever opened it may yet spend its coins on something else.
        assert!(!pays_the_node(&world, &mut live, &label("gone")), "accepted at {depth}");
        world.mine_only(&[&funding]);
        assert!(has_scid(&world, &live), "it is back");
        let new = live.scid(&world);
        assert_eq!((new.block().0, new.tx()), (world.height(), 1), "{depth}");
        assert_ne!(new, old);
        assert!(pays_the_node(&world, &mut live, &label("back")), "refused at {depth}");
        // Over the new name: the old one is nobody's.
        node_pays_it(&world, &mut live, u8::try_from(depth).unwrap());
        let route = json!([{"id": live.stranger.id(), "channel": old.to_string(),
            "amount_msat": 1000, "delay": 40}]);
        let stale = json!({"route": route, "payment_hash": "77".repeat(32)});
        world.node.refused("sendpay", &stale);
    }
    wait_settled(&world, &live);
    // Six times ten thousand came, and five thousand went.
    assert_eq!(total(&world), before + 30_000);
    // It can still be closed, where it is now.
    live.stranger.hang_up();
    world.node.rpc("dev-fail", &json!({"id": live.name()}));
    wait_close(&world, &live);
    world.mine(1);
    wait_onchain(&world, &live, "local_unilateral");
    world.resolve(&live.name());
}

/// What made its funding, with its coin spent on something else.
fn double_spend(world: &World, funding: &Transaction) -> Transaction {
    let paid: bitcoin::Amount = funding.output.iter().map(|o| o.value).sum();
    let coin = (funding.input[0].previous_output, paid + bitcoin::Amount::from_sat(200));
    world.pay_from(coin, &[])
}

/// Two channels in one block, which leaves the chain; b's funding is spent otherwise, while a's
/// HTLC waits at b.
struct Robbed {
    t: Between,
    /// a's.
    waits: HtlcId,
    instead: Transaction,
}

impl Robbed {
    fn new() -> Self {
        let mut t = Between::new();
        let (waits, _) = t.send(100_000_000, preimage(1).hash(), 60);
        let (a, b) = (t.a.funding_tx.clone().unwrap(), t.b.funding_tx.clone().unwrap());
        let instead = double_spend(&t.world, &b);
        take_back(&t.world, 3);
        t.world.mine_only(&[&a]);
        for _ in 0..3 {
            t.world.mine_only(&[]);
        }
        assert!(has_scid(&t.world, &t.a) && !has_scid(&t.world, &t.b));
        Self { t, waits, instead }
    }
}

/// A funding that a reorg takes out of the chain carries no HTLC; once it is double-spent, the
/// channel ends.
#[test]
fn funding_reorged_out_carries_no_htlc_and_double_spend_ends_it() {
    let Robbed { mut t, waits, instead } = Robbed::new();
    // Neither over it, nor from it.
    let hash = preimage(2).hash();
    let alias = t.world.node.channel(&t.b.name())["alias"]["local"].clone();
    let alias: ShortChannelId = alias.as_str().unwrap().parse().unwrap();
    let end = Onion {
        amount: Msat(5_000_000),
        expiry: BlockHeight(t.world.height() + 60),
        secret: PaymentSecret([9; 32]),
        total: Msat(5_000_000),
    };
    let point = t.b.stranger.point();
    let onion = forward_onion(t.world.node_point(), alias, point, &end, &hash);
    let expiry = BlockHeight(end.expiry.0 + 6);
    let id = t.a.add_and_settle(Msat(5_000_051), hash, expiry, onion);
    t.a_failed(id);
    assert!(!pays_the_node(&t.world, &mut t.b, "from nowhere"));
    let (amount, expiry, onion) =
        onion_through(&t.world, &t.a, 5_000_000, preimage(3).hash(), t.world.height() + 60);
    let hash = preimage(3).hash();
    t.b.add(amount, hash, expiry, onion);
    t.b.settle_without_ours();
    assert_eq!(received(&t.a), 0);

    t.world.mine_only(&[&instead]);
    let name = t.b.name();
    t.world.node.wait_log("double-spent");
    let channel = t.world.node.channel(&name);
    assert_eq!(channel["state"], "ONCHAIN", "{channel}");
    let reason = channel["close_reason"].clone();
    assert_eq!(reason["evidence"]["close"], "funding_double_spent", "{channel}");
    assert_eq!(reason["evidence"]["txid"], instead.compute_txid().to_string());
    // What waits over there comes back to a when that is as deep as any other failure must be.
    t.world.mine(5);
    t.a_still_waits(waits);
    t.world.mine(1);
    t.a_failed(waits);
    assert_eq!(t.world.node.channel(&t.a.name())["state"], "CHANNELD_NORMAL");
    t.world.mine(92);
    assert_eq!(t.world.node.channel(&name)["state"], "ONCHAIN");
    t.world.node.kill();
    t.world.node.start_again();
    t.world.mine(1);
    wait_for("the channel to be closed", || {
        let list = t.world.node.rpc("listclosedchannels", &json!({}));
        let closed =
            list["closedchannels"].as_array()?.iter().find(|c| c["channel_id"] == *name)?;
        assert_eq!(closed["close_reason"]["evidence"]["close"], "funding_double_spent");
        Some(())
    });
}

#[test]
fn double_spend_that_is_reorged_out_gives_the_funds_back() {
    let Robbed { mut t, waits, instead } = Robbed::new();
    t.world.mine_only(&[&instead]);
    t.world.node.wait_state(&t.b.name(), "ONCHAIN");
    t.world.mine_only(&[]);
    take_back(&t.world, 2);
    let funding = t.b.funding_tx.clone().unwrap();
    t.world.mine_only(&[&funding]);
    for _ in 0..2 {
        t.world.mine_only(&[]);
    }
    // It was failed, and a failed channel does not live on: our commitment takes what is ours.
    t.world.node.wait_state(&t.b.name(), "AWAITING_UNILATERAL");
    t.a_still_waits(waits);
    wait_close(&t.world, &t.b);
    t.world.resolve(&t.b.name());
    t.world.mine(6);
    t.a_failed(waits);
    t.lost_nothing();
}

#[test]
fn complete_set_is_paid_once_a_reorganised_funding_is_back() {
    let mut t = Between::new();
    let made = t
        .world
        .node
        .rpc("invoice", &json!({"amount_msat": 10_000_000, "label": "parts", "description": "d"}));
    let hash: PaymentHash = made["payment_hash"].as_str().unwrap().parse().unwrap();
    let secret: ChannelId = made["payment_secret"].as_str().unwrap().parse().unwrap();
    let (node, expiry) = (t.world.node_point(), BlockHeight(t.world.height() + 40));
    let half = |live: &mut Live| {
        let (amount, total) = (Msat(5_000_000), Msat(10_000_000));
        let end = Onion { amount, expiry, secret: PaymentSecret(secret.0), total };
        live.add_and_settle(amount, hash, expiry, onion_to(node, &end, &hash))
    };
    let at_a = half(&mut t.a);
    // a's funding is in none of the blocks that come instead.
    let (a, b) = (t.a.funding_tx.clone().unwrap(), t.b.funding_tx.clone().unwrap());
    take_back(&t.world, 3);
    t.world.mine_only(&[&b]);
    for _ in 0..3 {
        t.world.mine_only(&[]);
    }
    assert!(!has_scid(&t.world, &t.a) && has_scid(&t.world, &t.b));
    let at_b = half(&mut t.b);
    wait_settled(&t.world, &t.b);
    let invoice = || t.world.node.rpc("listinvoices", &json!(["parts"]))["invoices"][0].clone();
    assert_eq!(invoice()["status"], "unpaid");
    t.world.mine_only(&[&a]);
    while invoice()["status"] == "unpaid" {
        assert!(t.world.height() < expiry.0 - 20, "it is deep enough");
        t.world.mine_only(&[]);
    }
    for (live, id) in [(&mut t.a, at_a), (&mut t.b, at_b)] {
        live.settle_without_ours();
        assert!(live.preimages.iter().any(|(i, p)| *i == id && p.hash() == hash));
    }
}
