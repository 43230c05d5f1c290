//! The executable itself, born as lightningd gives birth to it, in its box.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use primitives::*;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use subdaemon::{Conn, stream_pair};
use wire::daemon::{LogLevel, Start};
use wire::onchaind::*;
use wire::{Long, Message};

#[test]
fn the_daemon_works_in_its_box_and_ends_with_the_master() {
    let (down, stdin) = stream_pair().unwrap();
    let (up, up_child) = stream_pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lightning_onchaind"))
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (down, mut up) = (Conn::new(down), Conn::new(up));
    let start = Start {
        version: wire::VERSION,
        log_level: LogLevel::Debug,
        developer: false,
        sandbox_required: true,
    };
    down.send(&start.encode(), &[up_child.as_fd()]).unwrap();
    drop(up_child);
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
