//! Whoever dies while HTLCs are under way: nothing is lost, nothing is paid twice.

use super::{
    assert_moved, assert_moved_nothing, begin, forwards, last_forward, wait_held, wait_part,
};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value, json};
use tests::{LINE_SAT, Line, hop, wait_for};

/// One part of two, which the payee holds until the other comes.
fn hold(line: &Line, invoice: &(Value, Value), half: u64, partid: u64) {
    let more = json!({"partid": partid, "groupid": 1, "amount_msat": half * 2});
    begin(&line.l1, &line.route(half), (&invoice.0, &invoice.1), &more);
}

/// The other half, by the forwarder itself.
fn complete(line: &Line, invoice: &(Value, Value), half: u64) {
    let second = line.l2.channel(&line.second)["short_channel_id"].clone();
    let more = json!({"partid": 9, "groupid": 1, "amount_msat": half * 2});
    let route = json!([hop(&line.l3, &second, half, 12)]);
    begin(&line.l2, &route, (&invoice.0, &invoice.1), &more);
}

#[test]
fn kill_of_the_forwarder_while_htlcs_are_held_loses_nothing() {
    let line = Line::new();
    let invoice = line.invoice(2_000_000, "held");
    hold(&line, &invoice, 1_000_000, 1);
    wait_held(&line.l3, &line.second, 1);
    assert_eq!(last_forward(&line.l2)["status"], "offered");
    assert_eq!(last_forward(&line.l2)["out_htlc_id"], 0);
    for round in 0..3 {
        match round {
            0 => line.l2.kill(),
            // Its daemons die alone.
            1 => {
                for child in line.l2.children("lightning_channeld") {
                    kill(child, Signal::SIGKILL).unwrap();
                }
            }
            _ => line.l2.stop(),
        }
        if round != 1 {
            line.l2.start_again();
        }
        line.reconnect();
        assert_eq!(last_forward(&line.l2)["status"], "offered", "round {round}");
        wait_held(&line.l3, &line.second, 1);
        wait_held(&line.l1, &line.first, 1);
    }
    hold(&line, &invoice, 1_000_000, 2);
    for part in 1..=2 {
        assert_eq!(wait_part(&line.l1, &invoice, part).unwrap()["status"], "complete");
    }
    assert_moved(&line, 2_000_000, 22);
    assert_eq!(forwards(&line.l2).len(), 2);
}

#[test]
fn preimage_reaches_an_offline_payer_after_a_kill() {
    let line = Line::new();
    let invoice = line.invoice(2_000_000, "held");
    hold(&line, &invoice, 1_000_000, 1);
    wait_held(&line.l3, &line.second, 1);
    // The payer is away when the preimage comes, and the forwarder dies once it has it.
    line.l1.kill();
    complete(&line, &invoice, 1_000_000);
    wait_for("the preimage", || (last_forward(&line.l2)["status"] == "settled").then_some(()));
    line.l2.kill();
    line.l2.start_again();
    line.l1.start_again();
    line.reconnect();
    assert_eq!(wait_part(&line.l1, &invoice, 1).unwrap()["status"], "complete");
    assert_eq!(line.l1.settled_balance(&line.first), LINE_SAT * 1000 - 1_000_011);
    assert_eq!(line.l2.rpc("getinfo", &json!({}))["fees_collected_msat"], 11);
}

#[test]
fn failure_reaches_an_offline_payer_after_a_kill() {
    let line = Line::new();
    let route = line.route(1_000_000);
    let unknown = (json!("77".repeat(32)), json!("88".repeat(32)));
    // The payee stands still, so that the HTLC is offered and no more.
    let master = line.l3.pid();
    kill(master, Signal::SIGSTOP).unwrap();
    begin(&line.l1, &route, (&unknown.0, &unknown.1), &json!({}));
    wait_for("the offer", || {
        line.l2.channel(&line.second)["htlcs"].as_array().map(Vec::len).filter(|n| *n == 1)
    });
    line.l1.kill();
    kill(master, Signal::SIGCONT).unwrap();
    wait_for("the failure", || (last_forward(&line.l2)["status"] == "failed").then_some(()));
    line.l2.kill();
    line.l2.start_again();
    line.l1.start_again();
    line.reconnect();
    let wait = json!({"payment_hash": unknown.0, "timeout": 40});
    let failed = line.l1.call("waitsendpay", &wait).unwrap_err();
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (203, Some(2)));
    assert_moved_nothing(&line);
}

/// The daemon of the middle's channel with the payee.
fn outgoing_daemon(line: &Line) -> nix::unistd::Pid {
    // In the order in which they were born.
    *line.l2.children("lightning_channeld").iter().max_by_key(|p| p.as_raw()).unwrap()
}

#[test]
fn htlc_never_offered_downstream_fails_and_stays_unoffered() {
    let line = Line::new();
    for round in 0..2 {
        let invoice = line.invoice(1_000_000, &format!("round {round}"));
        // The order waits in its socket, and dies with it.
        let daemon = outgoing_daemon(&line);
        kill(daemon, Signal::SIGSTOP).unwrap();
        begin(&line.l1, &line.route(1_000_000), (&invoice.0, &invoice.1), &json!({}));
        wait_for("the forward", || (last_forward(&line.l2)["status"] == "offered").then_some(()));
        assert!(last_forward(&line.l2).get("out_htlc_id").is_none());
        if round == 0 {
            kill(daemon, Signal::SIGKILL).unwrap();
        } else {
            line.l2.kill();
            line.l2.start_again();
        }
        line.reconnect();
        let wait = json!({"payment_hash": invoice.0, "timeout": 40});
        let failed = line.l1.call("waitsendpay", &wait).unwrap_err();
        assert_eq!(failed.data["failcodename"], "WIRE_TEMPORARY_CHANNEL_FAILURE", "{failed:?}");
        assert_eq!(failed.data["erring_index"], 1);
        assert_eq!(last_forward(&line.l2)["status"], "local_failed");
    }
    assert_moved_nothing(&line);
    let list = line.l3.rpc("listhtlcs", &json!({}));
    assert_eq!(list["htlcs"], json!([]));
}

#[test]
fn forwards_in_flight_reach_max_accepted_htlcs() {
    let line = Line::new();
    let [_, second] = line.scids();
    let (parts, msat) = (483, 1_000_000);
    // One more part is missing in the end, so that all of them are held.
    let total = msat * (parts + 1);
    let invoice = line.invoice(total, "many");
    let more = |part: u64| json!({"partid": part, "groupid": 1, "amount_msat": total});
    let direct = json!([hop(&line.l3, &second, msat, 12)]);
    begin(&line.l2, &direct, (&invoice.0, &invoice.1), &more(1000));
    let route = line.route(msat);
    let begun = line.l1.rpc_all(
        "sendpay",
        (1..parts).map(|part| {
            let mut params =
                json!({"route": route, "payment_hash": invoice.0, "payment_secret": invoice.1});
            for (name, value) in more(part).as_object().unwrap() {
                params[name] = value.clone();
            }
            params
        }),
    );
    assert!(begun.iter().all(|b| b["status"] == "pending"), "{begun:?}");
    wait_held(&line.l3, &line.second, 483);
    // The channel behind the middle is full, the one before has room.
    begin(&line.l1, &line.route(msat), (&invoice.0, &invoice.1), &more(parts));
    let failed = wait_part(&line.l1, &invoice, parts).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_TEMPORARY_CHANNEL_FAILURE");
    assert_eq!(failed.data["erring_index"], 1);
    // The payee lets go of what stays incomplete; nobody pays anything, nobody closes anything.
    line.l2.kill();
    line.l2.start_again();
    line.reconnect();
    wait_held(&line.l3, &line.second, 483);
    assert_eq!(forwards(&line.l2).iter().filter(|f| f["status"] == "offered").count(), 482);
}
