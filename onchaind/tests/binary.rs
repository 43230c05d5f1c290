//! The executable itself, born as lightningd gives birth to it, in its box.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::*;
use primitives::*;
use std::process::Command;
use subdaemon::testing::start;
use wire::onchaind::*;
use wire::{Long, Message};

#[test]
fn daemon_works_in_its_box_and_ends_with_the_master() {
    let executable = env!("CARGO_BIN_EXE_lightning_onchaind");
    let (mut child, down, mut up) = start(&mut Command::new(executable));
    let mut world = World::plain(true);
    world.add(Side::Local, Msat(40_000_000), 1, 104).unwrap();
    world.settle();
    let made = world.newest(Side::Local).clone();
    down.send(&world.init(&made).encode(), &[]).unwrap();
    let theirs = world.peer_takes(&made, Side::Local, HtlcId(0), 1);
    let block = OnchainBlock { height: BlockHeight(101), transactions: Long(vec![theirs]) };
    down.send(&block.encode(), &[]).unwrap();

    let (mut boxed, mut learned) = (false, None);
    while learned.is_none() {
        match FromOnchaind::decode_known(&up.recv().unwrap().body).unwrap() {
            FromOnchaind::Log(log) => boxed |= log.text.contains("sandboxed"),
            FromOnchaind::Resolved(r) => learned = r.resolution.learned.0.first().copied(),
            FromOnchaind::Status(_) | FromOnchaind::OnchainHeeded(_) => {}
            FromOnchaind::Failed(failed) => panic!("{failed:?}"),
        }
    }
    assert_eq!((boxed, learned), (true, Some((HtlcId(0), preimage(1)))));
    drop((down, up));
    assert!(!child.wait().unwrap().success(), "its master is gone");
}
