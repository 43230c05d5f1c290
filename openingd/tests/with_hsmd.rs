//! Two openingds, each with a real hsmd: what one signs, the other's hsmd takes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::*;
use primitives::*;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread::JoinHandle;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Failure, Hsm, Peer, stream_pair};
use wire::hsm::*;
use wire::openingd::*;
use wire::{FundingSigned, Message};

/// A real hsmd with a secret of 32 times one byte.
struct Hsmd {
    master: Option<Hsm>,
    script: ScriptedMaster,
    thread: Option<JoinHandle<Result<(), Failure>>>,
    folder: PathBuf,
    node_id: NodeId,
}

impl Hsmd {
    fn start(secret: u8) -> Self {
        let name = format!("fulmen-opens-{}-{secret}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("hsm_secret");
        std::fs::write(&path, [secret; 32]).unwrap();
        let (script, child) = ScriptedMaster::new();
        let (ours, theirs) = stream_pair().unwrap();
        script.order(&HsmdInit {}, vec![theirs]);
        let thread = Some(std::thread::spawn(|| hsmd::run(child, || Ok(()))));
        let mut master = Hsm::new(ours);
        let path = path.to_str().unwrap().to_owned();
        let unlock = Unlock { network: Network::Regtest, path, passphrase: None };
        let UnlockAnswer::Open { unlocked } = master.ask(&unlock).unwrap() else {
            panic!("the secret was refused")
        };
        Self { master: Some(master), script, thread, folder, node_id: unlocked.node_id }
    }
    /// An openingd with the rights that the master gives it, and no more.
    fn openingd(&mut self, peer: NodeId, init: &impl Message) -> Attempt {
        let (client, theirs) = stream_pair().unwrap();
        let rights = Rights::of(&[Capability::Points, Capability::SignRemote, Capability::Revoke]);
        let question = NewClient { peer, channel: ChannelNumber(1), rights, seed: None };
        self.master.as_mut().unwrap().ask_with(&question, &[theirs.as_fd()]).unwrap();
        let (mut master, child) = ScriptedMaster::new();
        let (ours, socket) = subdaemon::peer_pair().unwrap();
        master.order_and_keep(init, vec![client, socket]);
        let daemon = std::thread::spawn(move || openingd::run(child, &settings()));
        Attempt { master, peer: Some(Peer::new(ours)), questions: Questions::default(), daemon }
    }
}
impl Drop for Hsmd {
    fn drop(&mut self) {
        self.master = None;
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn signatures_of_one_hsmd_are_accepted_by_the_other() {
    let (mut a, mut b) = (Hsmd::start(0x31), Hsmd::start(0x32));
    let (id_a, id_b) = (a.node_id, b.node_id);
    let mut opener = a.openingd(id_b, &open_init());
    let mut accepter = b.openingd(id_a, &accept_init());
    let between = relay(opener.peer.take().unwrap(), accepter.peer.take().unwrap());
    accepter.proposed();
    accepter.master.order(&yes(), vec![]);
    opener.accepted();
    opener.master.order(&CompleteFunding { funding: funding() }, vec![]);
    let (theirs, mut socket) = accepter.opened();
    let (channel_id, signature) = (theirs.channel, theirs.funding_signed.unwrap());
    socket.send(&FundingSigned { channel_id, signature }).unwrap();
    let (ours, other_socket) = opener.opened();
    assert_eq!((opener.end(), accepter.end()), (Ok(()), Ok(())));
    assert_eq!(ours.channel, theirs.channel);
    drop((socket, other_socket));
    assert_eq!(between.join().unwrap().len(), 2);
    // Nobody's client was closed for asking what it must not.
    for hsmd in [&mut a, &mut b] {
        hsmd.master = None;
        assert!(hsmd.script.heard().is_none());
    }
}
