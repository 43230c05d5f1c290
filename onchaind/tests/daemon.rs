//! onchaind over socketpairs, with a scripted master.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::table::taking;
use common::*;
use onchaind::Settings;
use primitives::*;
use std::thread::JoinHandle;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Conn, Failure};
use wire::daemon::Status;
use wire::onchaind::*;
use wire::{Long, Message};

struct Daemon {
    down: Conn,
    up: Conn,
    thread: JoinHandle<Result<(), Failure>>,
}

/// What came up.
#[derive(Debug)]
enum Said {
    Resolved(Resolution),
    Status(Status),
    Heeded(BlockHeight),
}

fn start(orders: &[Vec<u8>]) -> Daemon {
    let (master, child) = ScriptedMaster::new();
    let (down, up) = master.into_sockets();
    for order in orders {
        down.send(order, &[]).unwrap();
    }
    let settings = Settings { sandbox: false };
    let thread = std::thread::spawn(move || onchaind::run(child, &settings));
    Daemon { down, up, thread }
}

impl Daemon {
    fn order(&self, message: &impl Message) {
        self.down.send(&message.encode(), &[]).unwrap();
    }
    fn says(&mut self) -> Said {
        let frame = self.up.recv().unwrap();
        match FromOnchaind::decode_known(&frame.body).unwrap() {
            FromOnchaind::Resolved(r) => Said::Resolved(r.resolution),
            FromOnchaind::Status(s) => Said::Status(s),
            FromOnchaind::OnchainHeeded(heeded) => Said::Heeded(heeded.tip),
            other @ (FromOnchaind::Log(_) | FromOnchaind::Failed(_)) => panic!("{other:?}"),
        }
    }
    fn resolves(&mut self) -> Resolution {
        loop {
            if let Said::Resolved(resolution) = self.says() {
                return resolution;
            }
        }
    }
    fn passing(&mut self) -> String {
        loop {
            if let Said::Status(Status { passing: Some(passing), .. }) = self.says() {
                return passing;
            }
        }
    }
    fn end(self) -> Failure {
        let Self { down, up, thread } = self;
        drop(down);
        drop(up);
        thread.join().unwrap().unwrap_err()
    }
}

fn one_htlc() -> (World, OnchaindInit) {
    let mut world = World::plain(true);
    world.add(Side::Local, Msat(40_000_000), 1, 104).unwrap();
    world.settle();
    let made = world.newest(Side::Local).clone();
    let init = world.init(&made);
    (world, init)
}
fn block(height: u32, transactions: Vec<Transaction>) -> OnchainBlock {
    OnchainBlock { height: BlockHeight(height), transactions: Long(transactions) }
}

#[test]
fn resolution_is_told_whenever_it_differs() {
    let (_, init) = one_htlc();
    let mut daemon = start(&[init.encode()]);
    let Said::Status(status) = daemon.says() else { panic!() };
    assert_eq!(status.lasting.as_deref(), Some("Tracking our own unilateral close"));
    let Said::Status(status) = daemon.says() else { panic!() };
    let passing = status.passing.unwrap();
    assert!(
        passing.starts_with("2 outputs unresolved: in 5 blocks will spend OUR_HTLC ("),
        "{passing}"
    );
    assert!(passing.ends_with(") using OUR_HTLC_TIMEOUT_TX"), "{passing}");
    let first = daemon.resolves();
    let timeout = taking(&[&first.claims.0[0]], false);
    assert_eq!((first.claims.0.len(), timeout.lock_time.to_consensus_u32()), (2, 104));
    // A block with nothing for us changes nothing but the line for people.
    daemon.order(&block(104, vec![]));
    assert!(daemon.passing().contains("waiting confirmation that we spent OUR_HTLC"));
    let Said::Heeded(tip) = daemon.says() else { panic!() };
    assert_eq!(tip, BlockHeight(104));
    daemon.order(&block(105, vec![timeout.clone()]));
    let after = daemon.resolves();
    assert_eq!(after.claims.0[0].outpoint.txid, timeout.compute_txid());
    let sweeps: Vec<_> = after.claims.0.iter().map(|c| taking(&[c], false)).collect();
    daemon.order(&block(120, sweeps));
    let last = daemon.resolves();
    assert_eq!((last.settled, last.failed.0), (Some(BlockHeight(120)), vec![HtlcId(0)]));
    daemon.order(&block(130, vec![]));
    let passing = daemon.passing();
    let wanted = "All outputs resolved: waiting 90 more blocks before forgetting channel";
    assert_eq!(passing, wanted);
    assert!(matches!(daemon.end(), Failure::Cancelled(_)));
}

#[test]
fn orders_that_wait_are_heeded_together() {
    let (world, init) = one_htlc();
    let made = world.newest(Side::Local).clone();
    let theirs = world.peer_takes(&made, Side::Local, HtlcId(0), 1);
    let orders = [
        init.encode(),
        block(101, vec![]).encode(),
        block(102, vec![theirs]).encode(),
        OnchainReorg { height: BlockHeight(102) }.encode(),
        block(102, vec![]).encode(),
        OnchainPreimage { id: HtlcId(0), preimage: preimage(9) }.encode(),
    ];
    let mut daemon = start(&orders);
    assert_eq!(daemon.resolves().learned.0, []);
    let after = daemon.resolves();
    assert_eq!(after.learned.0, [(HtlcId(0), preimage(1))]);
    assert_eq!(after.claims.0.len(), 2, "what was undone is to be taken again");
    // What is in no block shows preimages too, and here one that is known.
    let theirs = world.peer_takes(&made, Side::Local, HtlcId(0), 1);
    daemon.order(&OnchainUnconfirmed { transaction: theirs });
    assert!(daemon.passing().contains("2 outputs unresolved"));
    drop(daemon.end());
}

#[test]
fn orders_that_make_no_sense_are_the_masters_bug() {
    let (_, init) = one_htlc();
    let ends = |orders: &[Vec<u8>], why: &str| {
        let ended = start(orders).thread.join().unwrap().unwrap_err();
        let Failure::Internal(said) = &ended else { panic!("{ended:?}") };
        assert!(said.contains(why), "{said}, not {why}");
    };
    ends(&[block(101, vec![]).encode()], "the first order is not its init");
    ends(&[init.encode(), init.encode()], "a second init");
    let early = block(99, vec![]).encode();
    ends(&[init.encode(), early], "block 99 where the tip is 100");
    let all = OnchainReorg { height: BlockHeight(100) }.encode();
    ends(&[init.encode(), all], "block 100 where the tip is 100");
    let mut early = init.clone();
    early.height = BlockHeight(99);
    ends(&[early.encode()], "block 99 where the tip is 100");
    let mut wrong = init;
    wrong.state.balance.local.0 += 1;
    ends(&[wrong.encode()], "parts of");
}

#[test]
fn close_of_each_kind_has_its_status_line() {
    let mut world = World::plain(true);
    world.add(Side::Local, Msat(40_000_000), 1, 104).unwrap();
    world.settle();
    let old = world.made.remote[0].clone();
    let newest = world.newest(Side::Remote).clone();
    let mut future = world.init(&newest);
    future.number = CommitmentNumber(77);
    for (init, line) in [
        (world.init(&newest), "Tracking their unilateral close"),
        (world.init(&old), "Tracking their illegal close"),
        (future, "Tracking an unknown commitment: funds may be lost"),
    ] {
        let mut daemon = start(&[init.encode()]);
        let Said::Status(status) = daemon.says() else { panic!() };
        assert!(status.lasting.unwrap().starts_with(line));
        drop(daemon.end());
    }
}
