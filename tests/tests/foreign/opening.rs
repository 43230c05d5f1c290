//! Channels in both directions, announced and private, of the types that both know.

use super::{Foreign, wait_for};
use serde_json::json;
use tests::{Bitcoind, LdkPeer, Scratch};

#[test]
fn two_foreign_peers_open_pay_and_close() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let carol = LdkPeer::start(&scratch.path().join("carol"), &bitcoind);
    let dave = LdkPeer::start(&scratch.path().join("dave"), &bitcoind);
    carol.fund(&bitcoind);
    dave.fund(&bitcoind);
    let channel = carol.open(&dave.id, dave.port, 1_000_000, 0, true);
    bitcoind.mine(6);
    carol.sync(&bitcoind);
    dave.sync(&bitcoind);
    carol.wait_usable(&channel);
    dave.wait_usable(&channel);
    carol.pay(&dave.invoice(Some(100_000_000), 3600));
    carol.wait_balance(&channel, 900_000_000);
    dave.kill();
    dave.start_again();
    wait_for("a reconnect", || {
        let _ = dave.try_ask("connect", LdkPeer::place(&carol.id, carol.port));
        dave.is_connected(&carol.id).then_some(())
    });
    dave.wait_usable(&channel);
    dave.pay(&carol.invoice(Some(1_000), 3600));
    carol.wait_balance(&channel, 900_001_000);
    carol.close(&channel, "close");
    dave.wait_event("channel_closed", |e| e["channel_id"] == channel.as_str());
    carol.stop();
}

#[test]
fn the_suite_opens_a_channel_to_ldk() {
    let f = Foreign::new();
    let id = f.fulmen_opens(1_000_000, 200_000_000, true);
    f.balances_are(&id, 800_000_000, 200_000_000);
}

#[test]
fn ldk_opens_a_channel_to_the_suite() {
    let f = Foreign::new();
    let id = f.ldk_opens(1_000_000, 200_000_000, true);
    f.balances_are(&id, 200_000_000, 800_000_000);
}
