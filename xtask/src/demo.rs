//! `cargo xtask demo`: the main job as a story. Two nodes on a chain of their own open a channel,
//! pay each other, and close it.

use crate::regtest::{Bitcoind, Node, wait_for};
use crate::shell::{cargo, root, step};
use crate::{bitcoind, install};
use serde_json::Value;
use std::path::PathBuf;

const CHANNEL_SAT: u64 = 1_000_000;

fn say(text: &str) {
    println!("{text}");
}

/// Amounts as people read them: 1234567 msat are 1,234.567 sat.
fn sat(msat: u64) -> String {
    let whole = (msat / 1000).to_string();
    let grouped: Vec<String> = whole
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|c| String::from_utf8_lossy(c).into_owned())
        .collect();
    let rest = msat % 1000;
    if rest == 0 {
        format!("{} sat", grouped.join(","))
    } else {
        format!("{}.{rest:03} sat", grouped.join(","))
    }
}

/// From nothing to a closed channel. `keep`: everything stays, and the lines to play with are
/// printed.
pub(crate) fn run(keep: bool) -> Result<(), String> {
    say("Building (the first time takes some minutes) ...");
    let bitcoind_path = bitcoind::find_or_build()?;
    step(cargo().args(["build", "--locked", "--workspace", "--bins"]))?;
    let target: PathBuf =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let base = std::env::temp_dir().join(format!("fulmen-demo-{}", std::process::id()));
    // The nodes run from where an installed suite lies.
    install::lay_out(&target.join("debug"), &base.join("prefix"))?;
    let bin = base.join("prefix/bin");

    say("\nA chain of our own:");
    let bitcoind = Bitcoind::start(&bitcoind_path, base.join("bitcoind"))?;
    bitcoind.mine(1, None)?;
    say("  bitcoind runs on regtest, where blocks are free.");
    let alice = Node::start(&bin, base.join("alice"), "alice", &bitcoind)?;
    let bob = Node::start(&bin, base.join("bob"), "bob", &bitcoind)?;
    for node in [&alice, &bob] {
        say(&format!("  {} is up: {}", node.name, node.text(&["getinfo"], "id")?));
    }
    fund(&bitcoind, &alice)?;
    open(&bitcoind, &alice, &bob)?;
    say("\nPayments:");
    pay(&alice, &bob, 100_000_000, "a book")?;
    pay(&bob, &alice, 12_345_678, "half of it back, in thousandths of a satoshi")?;
    pay(&alice, &bob, 1_000, "one satoshi: too small for the chain, no problem here")?;
    balances(&alice, &bob)?;
    if keep {
        return leave_running(bitcoind, alice, bob);
    }
    close(&bitcoind, &alice, &bob)?;
    for node in [&alice, &bob] {
        node.rpc(&["stop"])?;
    }
    bitcoind.cli(&["stop"])?;
    say("\nBoth nodes stopped cleanly. That is the main job.");
    drop((alice, bob, bitcoind));
    std::fs::remove_dir_all(&base).map_err(|e| format!("{}: {e}", base.display()))
}

fn fund(bitcoind: &Bitcoind, alice: &Node) -> Result<(), String> {
    let address = alice.text(&["newaddr", "p2tr"], "p2tr")?;
    bitcoind.mine(1, Some(&address))?;
    bitcoind.mine(100, None)?;
    let amount = wait_for("alice's coins", || {
        let funds = alice.rpc(&["listfunds"]).ok()?;
        let outputs = funds["outputs"].as_array()?.clone();
        let confirmed = outputs.iter().find(|o| o["status"] == "confirmed")?;
        confirmed["amount_msat"].as_u64()
    })?;
    say(&format!("\nalice mined a block and waited 100 more: she has {} on chain.", sat(amount)));
    Ok(())
}

fn state(node: &Node) -> Option<String> {
    let list = node.rpc(&["listpeerchannels"]).ok()?;
    list["channels"][0]["state"].as_str().map(str::to_owned)
}

fn open(bitcoind: &Bitcoind, alice: &Node, bob: &Node) -> Result<(), String> {
    let bob_id = bob.text(&["getinfo"], "id")?;
    alice.rpc(&["connect", &format!("{bob_id}@127.0.0.1:{}", bob.port)])?;
    say("\nalice connects to bob and opens a channel:");
    let opened = alice.rpc(&["fundchannel", &bob_id, &CHANNEL_SAT.to_string()])?;
    let field = |name: &str| opened[name].as_str().unwrap_or_default().to_owned();
    say(&format!("  {} go into channel {}", sat(CHANNEL_SAT * 1000), field("channel_id")));
    say(&format!("  funding transaction {}", field("txid")));
    wait_for("the funding in bitcoind's mempool", || {
        bitcoind.cli(&["getrawmempool"]).ok().filter(|pool| pool.contains(&field("txid")))
    })?;
    bitcoind.mine(6, None)?;
    let height = bitcoind.cli(&["getblockcount"])?;
    for node in [alice, bob] {
        // The first of the six is enough for the channel; who has not seen the others pays with too
        // little time.
        node.rpc(&["waitblockheight", height.trim()])?;
        wait_for("the channel", || state(node).filter(|s| s == "CHANNELD_NORMAL"))?;
        wait_for("the channel's daemon", || {
            node.rpc(&["listpeerchannels"])
                .ok()
                .filter(|l| l["channels"][0]["reestablished"] == true)
        })?;
    }
    say("  six blocks later it is ready on both sides.");
    balances(alice, bob)
}

fn pay(from: &Node, to: &Node, msat: u64, what: &str) -> Result<(), String> {
    let label = format!("{what}-{msat}");
    let bolt11 = to.text(&["invoice", &format!("{msat}msat"), &label, what], "bolt11")?;
    let begun = std::time::Instant::now();
    let paid = from.rpc(&["pay", &bolt11])?;
    let took = begun.elapsed().as_millis();
    let preimage = paid["payment_preimage"].as_str().unwrap_or_default();
    say(&format!(
        "  {} pays {} {} for {what} ({took} ms; receipt {}...)",
        from.name,
        to.name,
        sat(msat),
        preimage.get(..16).unwrap_or_default()
    ));
    Ok(())
}

fn balances(alice: &Node, bob: &Node) -> Result<(), String> {
    let owned = |node: &Node| -> Result<u64, String> {
        let list = node.rpc(&["listpeerchannels"])?;
        Ok(list["channels"][0]["to_us_msat"].as_u64().unwrap_or_default())
    };
    let total = CHANNEL_SAT * 1000;
    // The last payment's removal may still be under way.
    let (a, b) = wait_for("balances that add up", || {
        let (a, b) = (owned(alice).ok()?, owned(bob).ok()?);
        (a + b == total).then_some((a, b))
    })?;
    say(&format!("  in the channel: alice {}, bob {}", sat(a), sat(b)));
    Ok(())
}

fn close(bitcoind: &Bitcoind, alice: &Node, bob: &Node) -> Result<(), String> {
    say("\nbob closes the channel; they agree on a fee and sign together:");
    let alice_id = alice.text(&["getinfo"], "id")?;
    let closed = bob.rpc(&["close", &alice_id])?;
    let txid = closed["txid"].as_str().unwrap_or_default().to_owned();
    say(&format!("  {} close, transaction {txid}", closed["type"].as_str().unwrap_or_default()));
    wait_for("the closing in bitcoind's mempool", || {
        bitcoind.cli(&["getrawmempool"]).ok().filter(|pool| pool.contains(&txid))
    })?;
    bitcoind.mine(1, None)?;
    for node in [alice, bob] {
        let coins = wait_for("the closing's output", || {
            let funds = node.rpc(&["listfunds"]).ok()?;
            let outputs: Vec<Value> = funds["outputs"].as_array()?.clone();
            let of_close = outputs
                .iter()
                .find(|o| o["txid"] == txid.as_str() && o["status"] == "confirmed")?;
            of_close["amount_msat"].as_u64()
        })?;
        say(&format!("  {} has {} back on chain", node.name, sat(coins)));
    }
    Ok(())
}

fn leave_running(bitcoind: Bitcoind, alice: Node, bob: Node) -> Result<(), String> {
    say("\nEverything stays up. To play with it:");
    for node in [&alice, &bob] {
        say(&format!("  {}='{}'", node.name, node.cli_line()));
    }
    say(&format!("  chain='{}'", bitcoind.cli_line()));
    say("  $bob invoice 5000msat coffee 'a coffee'      then: $alice pay <bolt11>");
    say("  $alice listpeerchannels; $alice listpays; $alice help");
    say("  $chain generatetoaddress 1 bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080");
    say("  $alice stop; $bob stop; $chain stop");
    alice.stay();
    bob.stay();
    bitcoind.stay();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::sat;

    #[test]
    fn amounts_are_written_for_people() {
        assert_eq!(sat(1_234_567_890), "1,234,567.890 sat");
        assert_eq!(sat(999_000), "999 sat");
    }
}
