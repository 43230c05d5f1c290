//! A real hsmd, on a thread.

use primitives::*;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Failure, Hsm, stream_pair};
use wire::channel_data::{ChannelPhase, ChannelState};
use wire::hsm::*;

pub const CHANNEL: ChannelNumber = ChannelNumber(7);

/// Who the peer is.
pub fn peer() -> NodeId {
    NodeId::from(super::Signer(0x60).basepoints().funding)
}

pub struct Hsmd {
    /// The master's line.
    pub master: Option<Hsm>,
    /// A child's, for the one channel.
    pub child: Option<Hsm>,
    _script: ScriptedMaster,
    thread: Option<JoinHandle<Result<(), Failure>>>,
    folder: PathBuf,
}

/// With a secret of 32 times this byte.
pub fn hsmd(secret: u8) -> Hsmd {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("fulmen-onchain-{}-{n}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("hsm_secret");
    std::fs::write(&path, [secret; 32]).unwrap();

    let (script, child) = ScriptedMaster::new();
    let (ours, theirs) = stream_pair().unwrap();
    script.order(&HsmdInit {}, vec![theirs]);
    let thread = std::thread::spawn(|| hsmd::run(child, || Ok(())));
    let mut master = Hsm::new(ours);
    let path = path.to_str().unwrap().to_owned();
    let unlock = Unlock { network: Network::Regtest, path, passphrase: None };
    let UnlockAnswer::Open { .. } = master.ask(&unlock).unwrap() else { panic!("refused") };
    let child = Some(client(&mut master, None));
    Hsmd { master: Some(master), child, _script: script, thread: Some(thread), folder }
}

fn client(master: &mut Hsm, seed: Option<ChannelSeed>) -> Hsm {
    let rights = Rights::of(&[Capability::Points, Capability::SignRemote, Capability::Revoke]);
    let (ours, theirs) = stream_pair().unwrap();
    let question = NewClient { peer: peer(), channel: CHANNEL, rights, seed };
    master.ask_with(&question, &[theirs.as_fd()]).unwrap();
    Hsm::new(ours)
}

impl Hsmd {
    /// The opening is over: the master has this on disk, and channeld takes openingd's place.
    pub fn channel_stored(&mut self, state: &ChannelState) {
        let seed = ChannelSeed {
            params: state.params.clone(),
            phase: ChannelPhase::Normal,
            local_number: state.commitment.local,
            local_revoked: state.revoked.local,
            remote_number: state.commitment.remote,
            remote_revoked: state.revoked.remote,
            remote_point: state.remote_point,
            remote_next_point: state.remote_next_point,
            local_balance: state.balance.local,
            broadcast: None,
            closing: None,
        };
        self.child = Some(client(self.master(), Some(seed)));
    }
    /// The master has so many of our commitments on disk as revoked.
    pub fn stored(&mut self, revoked: CommitmentNumber) {
        let told = RevocationStored { peer: peer(), channel: CHANNEL, revoked };
        self.master().order(&told).unwrap();
    }
    pub fn master(&mut self) -> &mut Hsm {
        self.master.as_mut().unwrap()
    }
    pub fn child(&mut self) -> &mut Hsm {
        self.child.as_mut().unwrap()
    }
}
impl Drop for Hsmd {
    fn drop(&mut self) {
        drop(self.child.take());
        drop(self.master.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
