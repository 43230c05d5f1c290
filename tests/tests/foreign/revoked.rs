//! Old states: what LDK publishes of them is taken from it, and what we publish is taken from us.

use super::{Foreign, coins_sat, wait_for};
use serde_json::json;
use std::path::Path;

/// Everything in a folder, put elsewhere.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn revoked_commitment_of_ldk_is_punished_in_full() {
    let f = Foreign::new();
    let id = f.ldk_opens(600_000, 100_000_000, true);
    let one = f.held(&id, 1);
    let (dir, old) = (f.scratch.path().join("ldk"), f.scratch.path().join("ldk-old"));
    f.ldk.stop();
    copy(&dir, &old);
    f.ldk.start_again();
    f.reconnect(&id);
    wait_for("the claim to be taken", || f.try_claim(&one).ok());
    f.wait_claimed(&one);
    f.ldk.pay(&f.fulmen.invoice(300_000_000, "much"));
    f.fulmen.settled_balance(&id);
    let before = coins_sat(&f.fulmen);
    f.ldk.stop();
    f.fulmen.stop();
    std::fs::remove_dir_all(&dir).unwrap();
    copy(&old, &dir);
    f.ldk.start_again();
    f.ldk.force_close(&id);
    wait_for("the old commitment in the mempool", || {
        let pool = f.bitcoind.rpc("getrawmempool", &json!([]));
        (!pool.as_array()?.is_empty()).then_some(())
    });
    // It is gone before it could see what it did.
    f.ldk.kill();
    f.bitcoind.mine(1);
    f.fulmen.start_again();
    f.fulmen.wait_state(&id, "ONCHAIN");
    for _ in 0..40 {
        f.bitcoind.mine(1);
        f.fulmen.sync(&f.bitcoind);
        let outputs = f.fulmen.channel(&id)["onchain_outputs"].clone();
        let outputs = outputs.as_array().cloned().unwrap_or_default();
        if !outputs.is_empty() && outputs.iter().all(|o| o["resolved"] == true) {
            break;
        }
    }
    assert_eq!(f.fulmen.channel(&id)["close_reason"]["evidence"]["close"], "remote_revoked");
    let gained = coins_sat(&f.fulmen) - before;
    assert!((560_000..=600_000).contains(&gained), "{gained}");
}

#[test]
fn revoked_commitment_of_ours_is_punished_by_ldk_in_full() {
    let f = Foreign::new();
    f.broken.set(Some("a commitment that we do not know"));
    let id = f.fulmen_opens(600_000, 100_000_000, true);
    let old = f.fulmen.rpc("dev-sign-last-tx", &json!({"id": id}))["tx"].clone();
    f.fulmen.kill();
    f.fulmen.start_again();
    f.reconnect(&id);
    for _ in 0..4 {
        f.fulmen.pay(&f.ldk.invoice(Some(50_000_000), 3600));
        f.fulmen.settled_balance(&id);
    }
    f.balances_are(&id, 300_000_000, 300_000_000);
    f.fulmen.stop();
    let before = f.ldk.onchain_sat();
    f.bitcoind.rpc("sendrawtransaction", &json!([old]));
    wait_for("LDK's penalty", || {
        f.mine_for_ldk(1);
        (f.ldk.onchain_sat() > before + 580_000).then_some(())
    });
    // The suite sees what became of its old state, and ends the channel.
    f.fulmen.start_again();
    f.fulmen.wait_state(&id, "ONCHAIN");
    wait_for("what it is", || {
        let evidence = f.fulmen.channel(&id)["close_reason"]["evidence"].clone();
        (evidence["close"] == "unknown_unilateral").then_some(())
    });
}
