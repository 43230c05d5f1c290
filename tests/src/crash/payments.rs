//! Payments along the line, of which the payer, the payee or the forwarder is under test.

use super::{Who, World};
use crate::LINE_SAT;
use serde_json::{Value, json};

/// Far more than what miners get where channels end.
const MUCH: u64 = 1_000_000_000;
const LITTLE: u64 = 1_000_000;

const fn fee(msat: u64) -> u64 {
    1 + msat / 100_000
}

/// What a payment is of.
fn size(world: &World) -> u64 {
    if world.copies_are_taken() { MUCH } else { LITTLE }
}

/// What everybody has, and what was counted so far.
#[derive(Debug, PartialEq, Eq)]
pub struct Ledger {
    first: [u64; 2],
    second: [u64; 2],
    fees: u64,
    settled: usize,
}

/// Once nothing is under way.
pub fn ledger(world: &mut World) -> Ledger {
    let (first, second) = (world.line.first.clone(), world.line.second.clone());
    let first = world.settled(&first, [Who::L1, Who::L2]);
    let second = world.settled(&second, [Who::L2, Who::L3]);
    for [a, b] in [first, second] {
        assert_eq!(a + b, LINE_SAT * 1000, "the two ends disagree");
    }
    let (fees, settled) = world.wait("the forwards' ends", |w| {
        let fees = w.line.l2.call("getinfo", &json!({})).ok()?["fees_collected_msat"].as_u64()?;
        let list = w.line.l2.call("listforwards", &json!({})).ok()?;
        let list = list["forwards"].as_array()?;
        let open = list.iter().any(|f| f["status"] == "offered");
        let settled = list.iter().filter(|f| f["status"] == "settled").count();
        (!open).then_some((fees, settled))
    });
    Ledger { first, second, fees, settled }
}

/// A payment that the payee takes.
pub fn fulfilled(world: &mut World) {
    let label = world.label("paid");
    let made = world.line.invoice(size(world), &label);
    pay(world, made, Some(&label));
}

/// A payment that the payee knows nothing about.
pub fn failed(world: &mut World) {
    let hash = format!("{:064x}", u128::MAX - u128::from(world.serial()));
    pay(world, (json!(hash), json!("22".repeat(32))), None);
}

fn pay(world: &mut World, (hash, secret): (Value, Value), invoice: Option<&str>) {
    let before = ledger(world);
    let route = world.line.route(size(world));
    let sendpay = json!({"route": route, "payment_hash": hash, "payment_secret": secret});
    world.begin(1);
    let paid = world.wait("the payment's end", |w| {
        let list = w.line.l1.call("listsendpays", &json!({"payment_hash": hash})).ok()?;
        let list = list["payments"].as_array()?;
        if list.is_empty() {
            // Not begun, or died before it was. What was answered does not matter: the list is the
            // truth.
            let _ = w.line.l1.call("sendpay", &sendpay);
            return None;
        }
        assert_eq!(list.len(), 1, "one payment: {list:?}");
        match list[0]["status"].as_str()? {
            "complete" => Some(true),
            "failed" => Some(false),
            _ => None,
        }
    });
    let after = ledger(world);
    world.finish();
    world.sync();
    let (msat, fee) = if paid { (size(world), fee(size(world))) } else { (0, 0) };
    assert_eq!(after.first[0], before.first[0] - msat - fee, "the payer");
    assert_eq!(after.second[1], before.second[1] + msat, "the payee");
    assert_eq!(after.fees, before.fees + fee, "the forwarder's fees");
    assert_eq!(after.settled, before.settled + usize::from(paid), "forwards");
    match invoice {
        Some(label) => {
            let list = world.line.l3.rpc("listinvoices", &json!({"label": label}));
            let status = list["invoices"][0]["status"].as_str().unwrap();
            assert_eq!(status == "paid", paid, "the invoice is {status}");
        }
        None => assert!(!paid, "nobody had an invoice"),
    }
    world.check_logs();
}
