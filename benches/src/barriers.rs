//! How many writes to the disk stand one behind the other before a payment has its receipt.
//!
//! Not by reading the protocol, and not by counting commits, of which some have nobody waiting for
//! them: every commit is made longer by the same time, and what the payment takes longer, divided
//! by that, is how many it waited for.

use crate::measure::invoices;
use std::time::{Duration, Instant};
use tests::Node;

const PAYMENTS: u64 = 21;
/// Long beside anything else that a payment does.
const DELAY_MS: u32 = 40;

/// Prints it for payments over this channel, one after another. Both nodes are started anew for it.
pub fn report(payer: &mut Node, payee: &mut Node, channel: &str) {
    let fast = median(payer, payee, channel, "fast");
    let delay = format!("--dev-commit-delay={DELAY_MS}");
    for node in [&mut *payer, &mut *payee] {
        node.stop();
        node.start_again_with(&[&delay]);
    }
    let slow = median(payer, payee, channel, "slow");
    let barriers = slow.saturating_sub(fast).as_secs_f64() * 1000.0 / f64::from(DELAY_MS);
    println!("  serial barriers to the receipt of one payment: {barriers:.2}");
}

fn median(payer: &Node, payee: &Node, channel: &str, label: &str) -> Duration {
    for node in [payer, payee] {
        node.wait_normal(channel);
    }
    let mut times = Vec::new();
    for invoice in invoices(payee, PAYMENTS, 1_000_000, label) {
        // What the payment before left to do is no part of this one.
        payer.settled_balance(channel);
        payee.settled_balance(channel);
        let at = Instant::now();
        payer.pay(invoice["bolt11"].as_str().expect("an invoice has its string"));
        times.push(at.elapsed());
    }
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
