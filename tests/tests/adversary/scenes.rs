//! What these tests have in common: a stranger on either side of the node, and money to count.

use primitives::*;
use serde_json::json;
use tests::stranger::*;
use tests::wait_for;
use wire::OnionPacket;

/// Fees of everything that the node may have to publish in one test.
pub const FEES: u64 = 40_000;

/// What the node has: coins, and its part of channels that are not on chain. In satoshi.
pub fn total(world: &World) -> u64 {
    let list = world.node.rpc("listpeerchannels", &json!({}));
    let open = list["channels"].as_array().unwrap().iter().filter(|c| {
        let state = c["state"].as_str().unwrap();
        !matches!(state, "ONCHAIN" | "FUNDING_SPEND_SEEN" | "CLOSED")
    });
    world.wealth() + open.map(|c| c["to_us_msat"].as_u64().unwrap() / 1000).sum::<u64>()
}

/// The preimage of this number.
pub fn preimage(n: u8) -> Preimage {
    Preimage([n; 32])
}

/// Two strangers with a channel each: one offers, the node forwards, the other receives.
pub struct Between {
    /// Offers.
    pub a: Live,
    /// Receives.
    pub b: Live,
    /// What the node had when all was quiet.
    pub before: u64,
    /// The last to go: the node between.
    pub world: World,
}

impl Between {
    /// Channels of the usual kind.
    pub fn new() -> Self {
        Self::with(Plan::new(1), Plan::new(2))
    }
    /// `b`'s is nearly all the node's.
    pub fn with(a: Plan, b: Plan) -> Self {
        Self::within(World::new(), a, b)
    }
    /// In this world.
    pub fn within(world: World, a: Plan, b: Plan) -> Self {
        let (sat, push) = (b.sat, b.sat * 9 / 10);
        let mut a = Stranger::meet(101, &world).open(&world, a);
        let mut b = Stranger::meet(102, &world).open(&world, b.sized(sat, push));
        world.mine(3);
        a.ready();
        b.ready();
        for id in [a.name(), b.name()] {
            world.node.wait_normal(&id);
        }
        let before = total(&world);
        Self { a, b, before, world }
    }
    /// An onion through the node to `b`, and what `a` must offer with it. `blocks` are those that
    /// `b` sees.
    pub fn onion(
        &self,
        msat: u64,
        hash: PaymentHash,
        blocks: u32,
    ) -> (Msat, BlockHeight, OnionPacket) {
        onion_through(&self.world, &self.b, msat, hash, self.world.height() + blocks)
    }
    /// An HTLC of this much to `b`, who holds it. Its ids at `a` and at `b`.
    pub fn send(&mut self, msat: u64, hash: PaymentHash, blocks: u32) -> (HtlcId, HtlcId) {
        let held = received(&self.b);
        let (amount, expiry, onion) = self.onion(msat, hash, blocks);
        let id = self.a.add_and_settle(amount, hash, expiry, onion);
        self.b.settle_with(held + 1);
        let at_b = self.b.channel.htlcs().filter(|h| h.htlc.offered_by == Side::Remote);
        (id, at_b.map(|h| h.htlc.id).max().unwrap())
    }
    /// `a` hears that its HTLC was paid.
    pub fn a_was_paid(&mut self, id: HtlcId, preimage: Preimage) {
        hears_preimage(&mut self.a, id, preimage);
        self.a.settle();
    }
    /// `a`'s HTLC is still there, and nobody said anything of it.
    pub fn a_still_waits(&mut self, id: HtlcId) {
        let htlcs = self.world.node.channel(&self.a.name())["htlcs"].clone();
        let mine =
            htlcs.as_array().unwrap().iter().find(|h| h["id"] == id.0 && h["direction"] == "in");
        assert_eq!(mine.expect("it is there")["state"], "RCVD_ADD_ACK_REVOCATION");
    }
    /// `a` hears that its HTLC failed.
    pub fn a_failed(&mut self, id: HtlcId) {
        self.a.dance();
        while self.a.channel.htlc(Side::Local, id).is_some() {
            self.a.hear();
            self.a.dance();
        }
        assert!(self.a.preimages.iter().all(|(i, _)| *i != id));
        self.a.settle();
    }
    /// `b`'s channel is on its way to the chain: the HTLC comes back there, and then to `a`.
    pub fn fails_over_the_chain(&mut self, id: HtlcId) {
        self.world.mine(1);
        self.world.resolve(&self.b.name());
        self.world.mine(6);
        self.a_failed(id);
        self.world.mine(1);
        self.lost_nothing();
    }
    /// The node has what it had, less fees.
    pub fn lost_nothing(&self) {
        let after = total(&self.world);
        assert!(after + FEES > self.before, "before {}, after {after}", self.before);
    }
}

/// Whoever offered this one hears its preimage.
pub fn hears_preimage(live: &mut Live, id: HtlcId, preimage: Preimage) {
    live.dance();
    while !live.preimages.contains(&(id, preimage)) {
        live.hear();
        live.dance();
    }
}

/// An onion through the node to this one: what the first must offer with it. Fee: 1 msat and 10
/// millionths; a delta of 6.
pub fn onion_through(
    world: &World,
    to: &Live,
    msat: u64,
    hash: PaymentHash,
    expiry: u32,
) -> (Msat, BlockHeight, OnionPacket) {
    let end = Onion {
        amount: Msat(msat),
        expiry: BlockHeight(expiry),
        secret: PaymentSecret([9; 32]),
        total: Msat(msat),
    };
    let onion = forward_onion(world.node_point(), to.scid(world), to.stranger.point(), &end, &hash);
    (Msat(msat + 1 + msat / 100_000), BlockHeight(expiry + 6), onion)
}

/// How many of the node's HTLCs are there.
pub fn received(live: &Live) -> usize {
    live.channel.htlcs().filter(|h| h.htlc.offered_by == Side::Remote).count()
}

/// Somebody's commitment is in the mempool: which.
pub fn wait_close(world: &World, live: &Live) -> bitcoin::Transaction {
    world.wait_spend(live.funding)
}

/// Blocks, until the node goes to the chain with this channel by itself: at which height. Its
/// commitment is in the mempool, or mined.
pub fn mine_until_closed(world: &World, live: &Live, before: u32) -> u32 {
    let state = || world.node.channel(&live.name())["state"].clone();
    while state() == "CHANNELD_NORMAL" {
        assert!(world.height() < before, "it is too late at {before}");
        world.mine(1);
    }
    let height = world.height();
    wait_for("the commitment", || {
        (state() == "ONCHAIN" || world.spend_in_mempool(live.funding).is_some()).then_some(())
    });
    height
}

/// HTLCs for a channel of one stranger with the node, both ways: what the node is to receive it
/// holds, since a part is missing.
pub struct Held {
    hash: PaymentHash,
    secret: PaymentSecret,
}

impl Held {
    /// An invoice of the node's over more than anybody pays.
    pub fn new(world: &World, label: &str) -> Self {
        let made = world.node.rpc(
            "invoice",
            &json!({"amount_msat": 5_000_000_000u64, "label": label, "description": label}),
        );
        Self {
            hash: made["payment_hash"].as_str().unwrap().parse().unwrap(),
            secret: PaymentSecret(
                <ChannelId as std::str::FromStr>::from_str(
                    made["payment_secret"].as_str().unwrap(),
                )
                .unwrap()
                .0,
            ),
        }
    }
    /// A part of it, uncommitted.
    pub fn add(&self, world: &World, live: &mut Live, msat: u64, blocks: u32) -> HtlcId {
        let expiry = BlockHeight(world.height() + blocks);
        let total = Msat(5_000_000_000);
        let end = Onion { amount: Msat(msat), expiry, secret: self.secret, total };
        let onion = onion_to(world.node_point(), &end, &self.hash);
        live.add(Msat(msat), self.hash, expiry, onion)
    }
}

/// The node pays a stranger this much for this hash, and the stranger holds it. Its id.
pub fn node_pays(
    world: &World,
    live: &mut Live,
    msat: u64,
    hash: PaymentHash,
    blocks: u32,
    part: u64,
) -> HtlcId {
    let held = received(live);
    let route = json!([{"id": live.stranger.id(), "channel": live.scid(world).to_string(),
        "amount_msat": msat, "delay": blocks}]);
    world.node.rpc(
        "sendpay",
        &json!({"route": route, "payment_hash": hash.to_string(), "payment_secret": "09".repeat(32),
            "partid": part, "groupid": 1, "amount_msat": 5_000_000_000u64}),
    );
    live.settle_with(held + 1);
    let theirs = live.channel.htlcs().filter(|h| h.htlc.offered_by == Side::Remote);
    theirs.map(|h| h.htlc.id).max().unwrap()
}

/// Until the node has read the last word of the dance: what is said just before the line breaks may
/// be lost with it.
pub fn wait_settled(world: &World, live: &Live) {
    wait_for("the node to be as far as the stranger", || {
        let htlcs = world.node.channel(&live.name())["htlcs"].clone();
        let htlcs = htlcs.as_array()?;
        let still = htlcs.iter().all(|h| {
            h["state"].as_str().is_some_and(|state| state.ends_with("_ADD_ACK_REVOCATION"))
        });
        (still && htlcs.len() == live.channel.htlcs().count()).then_some(())
    });
}

/// Until the node knows whose commitment it is.
pub fn wait_onchain(world: &World, live: &Live, how: &str) {
    world.node.wait_state(&live.name(), "ONCHAIN");
    wait_for("the node to see what it is", || {
        (world.evidence(&live.name())["close"] == how).then_some(())
    });
}
