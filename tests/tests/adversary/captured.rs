//! Daemons in a stranger's hands: what the master makes of their lies. See `captured` for who lies
//! how.

use serde_json::{Value, json};
use std::path::Path;
use tests::{Pair, Scratch, bin_dir, wait_for};

/// `--subdaemon=` for a daemon that lies in this way.
fn captured(dir: &Path, daemon: &str, lie: &str) -> String {
    let link = dir.join(lie);
    std::os::unix::fs::symlink(bin_dir().join("captured"), &link).unwrap();
    format!("--subdaemon={daemon}:{}", link.display())
}

const LIES: [&str; 2] = ["openingd-with-other-basepoints", "openingd-with-other-signatures"];

/// Neither waits for a channel, nothing is paid, and the opener's coins are free.
fn nothing_came_of_it(pair: &Pair) {
    assert_eq!(pair.alice.rpc("listpeerchannels", &json!({}))["channels"], json!([]));
    wait_for("bob to hear of it", || {
        let list = pair.bob.rpc("listpeerchannels", &json!({}));
        let waits = |c: &Value| c["state"] == "CHANNELD_AWAITING_LOCKIN";
        (!list["channels"].as_array()?.iter().any(waits)).then_some(())
    });
    let funds = pair.alice.rpc("listfunds", &json!({}));
    let outputs = funds["outputs"].as_array().unwrap();
    assert!(outputs.iter().all(|o| o["reserved"] == false), "{funds}");
    assert_eq!(pair.bitcoind.rpc("getrawmempool", &json!([])), json!([]));
}

#[test]
fn captured_openingd_cannot_fund_a_channel_we_cannot_close() {
    for lie in LIES {
        let links = Scratch::new();
        let pair = Pair::with(&[&captured(links.path(), "openingd", lie)], &[]);
        pair.alice.connect(&pair.bob);
        let params = json!({"id": pair.bob.id, "amount": 1_000_000});
        let error = pair.alice.refused("fundchannel", &params);
        assert_eq!(error.code, -1, "{lie}: {error:?}");
        pair.alice.wait_log("**BROKEN**");
        nothing_came_of_it(&pair);
    }
}

#[test]
fn openingd_that_stays_after_its_last_message_is_killed() {
    let links = Scratch::new();
    let pair = Pair::with(&[], &[&captured(links.path(), "openingd", "openingd-that-stays")]);
    let stays = || pair.bob.children("openingd-that-stays");
    let gone = |what: &str| wait_for(what, || stays().is_empty().then_some(()));
    pair.alice.connect(&pair.bob);
    pair.alice.rpc("fundchannel_start", &json!([pair.bob.id, 1_000_000]));
    assert_eq!(stays().len(), 1);
    pair.alice.rpc("fundchannel_cancel", &json!([pair.bob.id]));
    gone("the end of one that failed");
    let id = pair.open(1_000_000);
    gone("the end of one that opened a channel");
    pair.bob.wait_normal(&id);
}

#[test]
fn captured_openingd_cannot_accept_a_channel_we_cannot_close() {
    for lie in LIES {
        let links = Scratch::new();
        let pair = Pair::with(&[], &[&captured(links.path(), "openingd", lie)]);
        pair.alice.connect(&pair.bob);
        let params = json!({"id": pair.bob.id, "amount": 1_000_000});
        let error = pair.alice.refused("fundchannel", &params);
        assert_eq!(error.code, -1, "{lie}: {error:?}");
        nothing_came_of_it(&pair);
    }
}

#[test]
fn close_that_hsmd_does_not_sign_is_reported_as_failed() {
    let links = Scratch::new();
    let lie = captured(links.path(), "hsmd", "hsmd-that-keeps-our-commitment");
    let pair = Pair::with(&[&lie], &[]);
    let id = pair.open(1_000_000);
    pair.bob.kill();
    let error = pair.alice.refused("close", &json!({"id": id, "unilateraltimeout": 1}));
    assert!(error.message.contains("hsmd does not sign"), "{error:?}");
}

#[test]
fn start_after_a_crash_waits_for_the_old_subdaemons_to_end() {
    let links = Scratch::new();
    let name = "channeld-that-outlives-its-master";
    let lie = captured(links.path(), "channeld", name);
    let pair = Pair::with(&[&lie], &[]);
    let id = pair.open(1_000_000);
    pair.alice.kill();
    pair.alice.spawn_again();
    pair.alice.wait_log("daemons of the lightningd before are still there");
    assert!(pair.alice.call("getinfo", &json!({})).is_err());
    std::fs::write(links.path().join(format!("{name}.release")), "").unwrap();
    wait_for("alice", || pair.alice.call("getinfo", &json!({})).ok());
    pair.alice.wait_normal(&id);
    pair.alice.pay(&pair.bob.invoice(50_000_000, "after"));
}
