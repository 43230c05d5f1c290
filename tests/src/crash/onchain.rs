//! Channels that one end closes alone, with HTLCs both ways, and a revoked commitment.

use super::channels::{BOTH, MOST_FEES, SAT, bury, last_number, mine_until, open, wealth};
use super::{Who, World};
use crate::hop;
use serde_json::{Value, json};

/// Half of each payment: one HTLC in the channel that closes.
pub const HALF: u64 = 100_000_000;

/// When the payees learn enough to show their preimages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    During,
    After,
    Never,
}

/// l1 closes, and its halves are shown before, during or after, or never.
pub fn before(world: &mut World) {
    unilateral(world, Who::L1, When::Before);
}
/// The preimages are shown once the commitment is in a block.
pub fn during(world: &mut World) {
    unilateral(world, Who::L1, When::During);
}
/// The preimages are shown blocks later.
pub fn after(world: &mut World) {
    unilateral(world, Who::L1, When::After);
}
/// Nobody shows anything: both HTLCs come back.
pub fn never(world: &mut World) {
    unilateral(world, Who::L1, When::Never);
}
/// The same, but it is l2 that closes.
pub fn peer_before(world: &mut World) {
    unilateral(world, Who::L2, When::Before);
}
/// The preimages are shown once the commitment is in a block.
pub fn peer_during(world: &mut World) {
    unilateral(world, Who::L2, When::During);
}
/// The preimages are shown blocks later.
pub fn peer_after(world: &mut World) {
    unilateral(world, Who::L2, When::After);
}
/// Nobody shows anything: both HTLCs come back.
pub fn peer_never(world: &mut World) {
    unilateral(world, Who::L2, When::Never);
}

/// A payment in halves: the payee holds the first until the second comes.
pub struct Halves {
    payer: Who,
    payee: Who,
    /// The invoice's.
    pub label: String,
    hash: Value,
    secret: Value,
}

impl Halves {
    pub fn new(world: &mut World, payer: Who, payee: Who) -> Self {
        let label = world.label("halves");
        let params = json!({"amount_msat": 2 * HALF, "label": label, "description": "halves"});
        let made = world.node(payee).rpc("invoice", &params);
        let (hash, secret) = (made["payment_hash"].clone(), made["payment_secret"].clone());
        Self { payer, payee, label, hash, secret }
    }
    fn send(&self, world: &World, channel: &str, part: u64) -> Option<()> {
        let scid = world.channel(self.payer, channel)["short_channel_id"].clone();
        let route = json!([hop(world.node(self.payee), &scid, HALF, 24)]);
        self.send_by(world, &route, part)
    }
    /// Sends half of it on this way.
    pub fn send_by(&self, world: &World, route: &Value, part: u64) -> Option<()> {
        let params = json!({"route": route, "payment_hash": self.hash, "payment_secret": self.secret,
            "amount_msat": 2 * HALF, "partid": part, "groupid": 1});
        world.node(self.payer).call("sendpay", &params).ok().map(drop)
    }
    fn parts(&self, world: &World) -> Option<Vec<Value>> {
        let list = world.node(self.payer).call("listsendpays", &json!({"payment_hash": self.hash}));
        list.ok()?["payments"].as_array().cloned()
    }
    pub fn is_paid(&self, world: &World) -> Option<bool> {
        let list = world.node(self.payee).call("listinvoices", &json!({"label": self.label}));
        Some(list.ok()?["invoices"][0]["status"] == "paid")
    }
    /// Sends the second half, as often as it takes, until the payee has both.
    fn complete(&self, world: &mut World) {
        let first = world.line.first.clone();
        self.complete_by(world, |world, halves, part| halves.send(world, &first, part));
    }
    /// The same, where `send` sends a half.
    pub fn complete_by(&self, world: &mut World, send: impl Fn(&World, &Self, u64) -> Option<()>) {
        world.wait("a payment in halves to be complete", |w| {
            if self.is_paid(w)? {
                return Some(());
            }
            let parts = self.parts(w)?;
            let waits = |p: &Value| p["partid"] != 1 && p["status"] != "failed";
            if !parts.iter().any(waits) {
                let next = 1 + parts.iter().filter_map(|p| p["partid"].as_u64()).max()?;
                let _ = send(w, self, next);
            }
            None
        });
    }
    /// How its first half ended.
    pub fn first_ended(&self, world: &World) -> Option<String> {
        let parts = self.parts(world)?;
        let first = parts.iter().find(|p| p["partid"] == 1)?;
        first["status"].as_str().filter(|s| *s != "pending").map(str::to_owned)
    }
}

/// Pays over this channel alone.
pub fn give(world: &mut World, channel: &str, [from, to]: [Who; 2], msat: u64) {
    let label = world.label("give");
    let params = json!({"amount_msat": msat, "label": label, "description": "give"});
    let made = world.node(to).rpc("invoice", &params);
    let scid = world.channel(from, channel)["short_channel_id"].clone();
    let route = json!([hop(world.node(to), &scid, msat, 24)]);
    let hash = made["payment_hash"].clone();
    world.node(from).rpc(
        "sendpay",
        &json!({"route": route, "payment_hash": hash, "payment_secret": made["payment_secret"]}),
    );
    world.node(from).rpc("waitsendpay", &json!({"payment_hash": hash, "timeout": 30}));
    world.settled(channel, [from, to]);
}

/// A channel with half on each side, and enough of both in the line's own.
fn balanced(world: &mut World) -> String {
    let id = open(world);
    world.sync();
    world.settled(&id, BOTH);
    give(world, &id, BOTH, SAT * 500);
    let first = world.line.first.clone();
    let [l1, l2] = world.settled(&first, BOTH);
    if l2 < 10 * HALF {
        give(world, &first, BOTH, 20 * HALF);
    } else if l1 < 10 * HALF {
        give(world, &first, [Who::L2, Who::L1], 20 * HALF);
    }
    id
}

/// Both ends of this channel are bound to so many HTLCs.
pub fn wait_held(world: &mut World, ends: [Who; 2], id: &str, count: usize) {
    world.wait("HTLCs to be held", |w| {
        let held = |who: Who| {
            let channel = w.channel(who, id);
            let htlcs = channel["htlcs"].as_array()?;
            let there = |h: &&Value| {
                h["state"] == "RCVD_ADD_ACK_REVOCATION" || h["state"] == "SENT_ADD_ACK_REVOCATION"
            };
            Some(htlcs.iter().filter(there).count())
        };
        ends.iter().all(|who| held(*who) == Some(count)).then_some(())
    });
}

/// Is nothing of this channel's commitment left to take?
pub fn is_resolved(world: &World, who: Who, id: &str) -> bool {
    let channel = world.channel(who, id);
    channel["onchain_outputs"]
        .as_array()
        .is_some_and(|outputs| outputs.iter().all(|o| o["resolved"] == true))
}

/// One end publishes its commitment; it is in a block.
pub fn fail(world: &mut World, closer: Who, ends: [Who; 2], id: &str) {
    world.wait("the channel to be failed", |w| {
        let state = w.channel(closer, id)["state"].as_str()?.to_owned();
        if state == "CHANNELD_NORMAL" {
            let _ = w.node(closer).call("dev-fail", &json!({"id": id}));
        }
        (state != "CHANNELD_NORMAL").then_some(())
    });
    mine_until(world, 10, "a commitment in a block", |w| {
        ends.iter().all(|who| w.channel(*who, id)["state"] == "ONCHAIN")
    });
}

fn unilateral(world: &mut World, closer: Who, when: When) {
    let id = balanced(world);
    let there = Halves::new(world, Who::L1, Who::L2);
    let back = Halves::new(world, Who::L2, Who::L1);
    for halves in [&there, &back] {
        halves.send(world, &id, 1).expect("everybody is there");
    }
    wait_held(world, BOTH, &id, 2);
    let had = BOTH.map(|who| wealth(world, who));

    let number = last_number(world, world.target);
    world.begin(number);
    let complete = |world: &mut World, now: When| {
        if now == when {
            there.complete(world);
            back.complete(world);
        }
    };
    complete(world, When::Before);
    fail(world, closer, BOTH, &id);
    complete(world, When::During);
    if when == When::After {
        world.line.bitcoind.mine(4);
        world.sync();
    }
    complete(world, When::After);
    mine_until(world, 120, "everything to be resolved", |w| {
        BOTH.iter().all(|who| is_resolved(w, *who, &id))
    });
    world.line.bitcoind.mine(6);
    world.sync();
    let expected = if when == When::Never { "failed" } else { "complete" };
    for halves in [&there, &back] {
        let ended = world.wait("the end of a half", |w| halves.first_ended(w));
        assert_eq!(ended, expected, "{}", halves.label);
        let paid = world.wait("the invoice", |w| halves.is_paid(w));
        assert_eq!(paid, when != When::Never, "{}", halves.label);
    }
    world.finish();
    world.sync();
    let first = world.line.first.clone();
    world.settled(&first, BOTH);
    for (who, had) in BOTH.into_iter().zip(had) {
        let has = wealth(world, who);
        assert!((had - MOST_FEES..=had + 1).contains(&has), "{} has {has} of {had}", who.name());
    }
    world.check_logs();
    bury(world);
}

/// l1 publishes what it revoked; l2, whose processes die, takes all of it.
pub fn penalty(world: &mut World) {
    let id = balanced(world);
    let there = Halves::new(world, Who::L1, Who::L2);
    there.send(world, &id, 1).expect("everybody is there");
    wait_held(world, BOTH, &id, 1);
    let old = world.line.l1.rpc("dev-sign-last-tx", &json!({"id": id}))["tx"].clone();
    // hsmd would give out no secret after that, until it is born anew.
    world.line.l1.kill();
    world.line.l1.start_again();
    there.complete(world);
    let [_, mine] = world.settled(&id, BOTH);
    world.sync();
    let had = wealth(world, Who::L2) - mine / 1000;
    world.line.l1.kill();
    world.absent = Some(Who::L1);

    let number = last_number(world, world.target);
    world.begin(number);
    world.line.bitcoind.rpc("sendrawtransaction", &json!([old]));
    mine_until(world, 10, "the revoked commitment in a block", |w| {
        w.channel(Who::L2, &id)["close_reason"]["evidence"]["close"] == "remote_revoked"
    });
    mine_until(world, 120, "everything to be resolved", |w| is_resolved(w, Who::L2, &id));
    world.finish();
    world.sync();
    let due = had + SAT;
    let has = wealth(world, Who::L2);
    assert!((due - MOST_FEES..=due).contains(&has), "l2 has {has} of {due}");
    world.check_logs();
    world.absent = None;
    world.line.l1.start_again();
    world.sync();
    bury(world);
}
