//! A channel's end, told to a resolver step by step.

use super::*;
use bitcoin::Transaction;
use onchaind::Resolver;
use std::collections::BTreeSet;

pub const BIG: Msat = Msat(50_000_500);

/// Everything that was told, so that at each step a resolver that is born then can be asked the
/// same.
pub struct Story {
    pub init: OnchaindInit,
    pub resolver: Resolver,
}

impl Story {
    pub fn new(init: OnchaindInit) -> Self {
        let resolver = Resolver::new(init.clone()).unwrap();
        Self { init, resolver }
    }
    pub fn now(&self) -> Resolution {
        let now = self.resolver.resolution();
        // A restart changes nothing.
        assert_eq!(Resolver::new(self.init.clone()).unwrap().resolution(), now);
        now
    }
    pub fn now_again(&self) -> Resolution {
        Resolver::new(self.init.clone()).unwrap().resolution()
    }
    pub fn block(&mut self, height: u32, transactions: Vec<Transaction>) -> Resolution {
        let height = BlockHeight(height);
        for transaction in transactions.clone() {
            self.init.later.0.push(Mined { transaction, height });
        }
        self.init.height = height;
        self.resolver.block(OnchainBlock { height, transactions: Long(transactions) }).unwrap();
        self.now()
    }
    pub fn reorg(&mut self, height: u32) -> Resolution {
        let height = BlockHeight(height);
        self.init.later.0.retain(|mined| mined.height < height);
        self.init.height = BlockHeight(height.0 - 1);
        self.resolver.reorg(&OnchainReorg { height }).unwrap();
        self.resolver.resolution()
    }
    pub fn preimage(&mut self, id: HtlcId, n: u64) -> Resolution {
        self.init.preimages.0.push((id, preimage(n)));
        self.resolver.preimage(&OnchainPreimage { id, preimage: preimage(n) });
        self.now()
    }
}

pub fn claim<'a>(resolution: &'a Resolution, what: &str) -> &'a Claim {
    let output = output(resolution, what);
    let mut found = resolution.claims.0.iter().filter(|c| c.outpoint == output.outpoint);
    found.next().unwrap_or_else(|| panic!("no claim on {what}: {resolution:?}"))
}
pub fn output<'a>(resolution: &'a Resolution, what: &str) -> &'a OutputStatus {
    let found = resolution.outputs.0.iter().find(|o| o.what == what);
    found.unwrap_or_else(|| panic!("no {what} in {resolution:?}"))
}
pub fn claimed(resolution: &Resolution) -> Vec<&str> {
    let claims: BTreeSet<_> = resolution.claims.0.iter().map(|c| c.outpoint).collect();
    let outputs = resolution.outputs.0.iter();
    let mut names: Vec<_> =
        outputs.filter(|o| claims.contains(&o.outpoint)).map(|o| o.what.as_str()).collect();
    names.sort_unstable();
    names
}

pub const L: Side = Side::Local;
pub const R: Side = Side::Remote;
pub const FORMATS: [bool; 2] = [true, false];

/// Two HTLCs each way and one of dust each way, irrevocable: ids 0, 1, 2. Preimages 10, 11, 12 and
/// 20, 21, 22.
pub fn busy(anchors: bool) -> World {
    let mut world = World::signed(anchors);
    for (by, n) in [(L, 10), (R, 20)] {
        world.add(by, BIG, n, 500 + n as u32).unwrap();
        world.add(by, BIG, n + 1, 501 + n as u32).unwrap();
        world.add(by, Msat(400_000), n + 2, 502 + n as u32).unwrap();
    }
    world.settle();
    world
}
