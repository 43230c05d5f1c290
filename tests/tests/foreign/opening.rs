//! Channels in both directions, of the types that both know; openings that one of them refuses, and
//! those that take their time.

use super::{Foreign, coins_sat, wait_for};
use serde_json::{Value, json};
use tests::{Bitcoind, LdkPeer, Node, Scratch};

fn type_of(channel: &Value) -> Vec<&str> {
    channel["channel_type"]["names"].as_array().unwrap().iter().flat_map(Value::as_str).collect()
}

#[test]
fn anchor_channels_open_from_either_side_and_are_announced() {
    let f = Foreign::new();
    let ours = f.fulmen_opens(1_000_000, 200_000_000, true);
    let theirs = f.ldk_opens(2_000_000, 300_000_000, true);
    f.balances_are(&ours, 800_000_000, 200_000_000);
    f.balances_are(&theirs, 300_000_000, 1_700_000_000);
    for id in [&ours, &theirs] {
        let (here, there) = (f.fulmen.channel(id), f.ldk.channel(id));
        assert_eq!(type_of(&here), ["static_remotekey/even", "anchors/even"]);
        assert_eq!((&here["private"], &there["announced"]), (&json!(false), &json!(true)));
        let opener = if there["opener"] == true { "remote" } else { "local" };
        assert_eq!(here["opener"], opener);
        // Our announcement_signatures are good: LDK has both, and announces.
        let scid = there["scid"].as_u64().unwrap();
        wait_for("the announcement", || {
            let known = f.ldk.ask("graph", json!({}));
            known.as_array()?.contains(&json!(scid)).then_some(())
        });
        let shown = format!("{}x{}x{}", scid >> 40, (scid >> 16) & 0xff_ffff, scid & 0xffff);
        assert_eq!(here["short_channel_id"], shown.as_str());
    }
}

#[test]
fn large_and_small_channels_open() {
    let f = Foreign::new();
    // Above 2^24 satoshi; LDK opens such channels, and takes none.
    let large = f.ldk_opens(500_000_000, 0, false);
    f.ldk.pay(&f.fulmen.invoice(100_000_000_000, "a lot"));
    f.balances_are(&large, 100_000_000_000, 400_000_000_000);
    let small = f.fulmen_opens(100_000, 0, false);
    assert_eq!(f.fulmen.settled_balance(&small), 100_000_000);
    f.closes(&large, "fulmen");
}

#[test]
fn peer_without_anchors_gets_static_remotekey() {
    let f = Foreign::with(&[], &["--no-anchors"]);
    let ours = f.fulmen_opens(1_000_000, 200_000_000, true);
    assert_eq!(type_of(&f.fulmen.channel(&ours)), ["static_remotekey/even"]);
    for (n, msat) in [40_000_000, 600_000, 1_000].into_iter().enumerate() {
        f.fulmen.pay(&f.ldk.invoice(Some(2 * msat), 3600));
        f.ldk.pay(&f.fulmen.invoice(msat, &n.to_string()));
    }
    f.balances_are(&ours, 759_399_000, 240_601_000);
    f.closes(&ours, "ldk");
    let theirs = f.ldk_opens(1_000_000, 200_000_000, false);
    assert_eq!(type_of(&f.fulmen.channel(&theirs)), ["static_remotekey/even"]);
    f.fulmen.pay(&f.ldk.invoice(Some(50_000_000), 3600));
    f.balances_are(&theirs, 150_000_000, 850_000_000);
    f.closes(&theirs, "fulmen");
}

#[test]
fn opening_refused_by_ldk_costs_nothing() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    // It has no coins to keep for the anchors' fees.
    let ldk = LdkPeer::start(&scratch.path().join("ldk"), &bitcoind);
    let fulmen = Node::start(&scratch.path().join("fulmen"), &bitcoind, &[]);
    fulmen.fund(&bitcoind);
    let before = coins_sat(&fulmen);
    fulmen.rpc("connect", &json!({"id": ldk.id, "host": "127.0.0.1", "port": ldk.port}));
    let refused = fulmen.refused("fundchannel", &json!({"id": ldk.id, "amount": 1_000_000}));
    assert!(refused.message.contains("Channel request rejected"), "{refused:?}");
    let funds = fulmen.rpc("listfunds", &json!({}));
    let reserved = funds["outputs"].as_array().unwrap().iter().any(|o| o["reserved"] == true);
    assert!(!reserved && coins_sat(&fulmen) == before, "{funds}");
    assert_eq!(fulmen.rpc("listpeerchannels", &json!({}))["channels"], json!([]));
}

#[test]
fn opening_refused_by_our_node_is_answered_with_the_reason() {
    let f = Foreign::with(&["--min-capacity-sat=100000"], &[]);
    let before = f.ldk.onchain_sat();
    let mut params = LdkPeer::place(&f.fulmen.id, f.fulmen.port);
    params["sat"] = json!(50_000);
    let user = f.ldk.ask("open", params)["user_channel_id"].clone();
    let closed = f.ldk.wait_event("channel_closed", |e| e["user_channel_id"] == user);
    let reason = closed["reason"].as_str().unwrap();
    assert!(reason.contains("below 100000sat"), "{reason}");
    assert_eq!(f.ldk.onchain_sat(), before);
    assert_eq!(f.fulmen.rpc("listpeerchannels", &json!({}))["channels"], json!([]));
    // The connection has not suffered.
    let id = f.ldk_opens(200_000, 0, false);
    f.balances_are(&id, 0, 200_000_000);
}

#[test]
fn funding_confirms_after_restarts_of_both() {
    let f = Foreign::new();
    f.connect();
    let params = json!({"id": f.ldk.id, "amount": 500_000, "push_msat": 100_000_000});
    let ours = f.fulmen.rpc("fundchannel", &params)["channel_id"].as_str().unwrap().to_owned();
    let theirs = f.ldk.open(&f.fulmen.id, f.fulmen.port, 400_000, 100_000_000, true);
    for id in [&ours, &theirs] {
        let funding = f.fulmen.channel(id)["funding_txid"].clone();
        f.bitcoind.wait_mempool(funding.as_str().unwrap());
    }
    f.fulmen.kill();
    f.fulmen.start_again();
    f.ldk.stop();
    f.ldk.start_again();
    f.connect_somehow();
    f.mine(2);
    f.fulmen.stop();
    f.mine_for_ldk(4);
    f.fulmen.start_again();
    f.fulmen.sync(&f.bitcoind);
    for id in [&ours, &theirs] {
        f.reconnect(id);
    }
    f.balances_are(&ours, 400_000_000, 100_000_000);
    f.balances_are(&theirs, 100_000_000, 300_000_000);
    f.fulmen.pay(&f.ldk.invoice(Some(10_000_000), 3600));
    f.closes(&ours, "fulmen");
    f.closes(&theirs, "ldk");
}
