//! The executable itself, in its box: a whole opening without a file and without a new socket.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::scenes::*;
use common::*;
use primitives::ChannelId;
use std::os::fd::AsFd;
use std::process::Command;
use subdaemon::testing::start;
use subdaemon::{Peer, PeerRecord, peer_pair};
use wire::daemon::{Log, Status};
use wire::openingd::*;
use wire::*;

#[test]
fn executable_opens_a_channel_inside_its_box() {
    let executable = env!("CARGO_BIN_EXE_lightning_openingd");
    let (mut child, down, mut up) = start(&mut Command::new(executable));
    let (hsm, _) = hsmd(OURS);
    let (ours, socket) = peer_pair().unwrap();
    up.keep(socket.try_clone().unwrap());
    let mut peer = Peer::new(ours);
    down.send(&open_init().encode(), &[hsm.as_fd(), socket.as_fd()]).unwrap();
    drop((hsm, socket));

    let mut log = String::new();
    let mut reports = || loop {
        let mut frame = up.recv().unwrap();
        match FromOpeningd::decode_known(&frame.body).unwrap() {
            FromOpeningd::Log(Log { text, .. }) => log.push_str(&text),
            FromOpeningd::Status(Status { .. }) => {}
            report @ (FromOpeningd::Failed(_)
            | FromOpeningd::Accepted(_)
            | FromOpeningd::OpenProposed(_)
            | FromOpeningd::Opened(_)) => return (report, frame.fds.pop_front()),
        }
    };
    let said = |peer: &mut Peer| match record(peer) {
        Some(PeerRecord::Message(bytes)) => OpeningMessage::decode_known(&bytes).unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(said(&mut peer), OpeningMessage::OpenChannel(_)));
    peer.send(&their_accept()).unwrap();
    assert!(matches!(reports(), (FromOpeningd::Accepted(_), None)));
    down.send(&CompleteFunding { funding: funding() }.encode(), &[]).unwrap();
    assert!(matches!(record(&mut peer), Some(PeerRecord::Control(_))));
    assert!(matches!(said(&mut peer), OpeningMessage::FundingCreated(_)));
    let signature = their_signature(&their_params(primitives::Side::Remote, &policy().terms));
    let channel_id = ChannelId::from_funding(&funding());
    peer.send(&FundingSigned { channel_id, signature }).unwrap();
    let (FromOpeningd::Opened(opened), Some(socket)) = reports() else { panic!("not opened") };
    assert_eq!(opened.channel, channel_id);
    assert!(child.wait().unwrap().success());
    // The socket lives on: what the peer says next is for whoever has it now.
    peer.send(&Warning::new(channel_id, "still here")).unwrap();
    assert!(matches!(record(&mut Peer::new(socket)), Some(PeerRecord::Message(_))));
    assert!(log.contains("sandboxed"), "{log}");
}
