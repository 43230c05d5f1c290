//! A real hsmd, on a thread.

use primitives::*;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Failure, Hsm, stream_pair};
use wire::hsm::*;

pub const CHANNEL: ChannelNumber = ChannelNumber(7);

pub struct Hsmd {
    pub master: Option<Hsm>,
    _script: ScriptedMaster,
    thread: Option<JoinHandle<Result<(), Failure>>>,
    folder: PathBuf,
}

/// With a secret of 32 times this byte.
pub fn hsmd(secret: u8) -> Hsmd {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("fulmen-signs-{}-{n}", std::process::id()));
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
    Hsmd { master: Some(master), _script: script, thread: Some(thread), folder }
}

impl Hsmd {
    pub fn master(&mut self) -> &mut Hsm {
        self.master.as_mut().unwrap()
    }
    pub fn peer() -> NodeId {
        NodeId::from(super::Signer(0x60).basepoints().funding)
    }
    pub fn client(&mut self, rights: &[Capability], seed: Option<ChannelSeed>) -> OwnedFd {
        let (ours, theirs) = stream_pair().unwrap();
        let rights = Rights::of(rights);
        let question = NewClient { peer: Self::peer(), channel: CHANNEL, rights, seed };
        self.master().ask_with(&question, &[theirs.as_fd()]).unwrap();
        ours
    }
    pub fn basepoints(&mut self) -> wire::channel_data::Basepoints {
        Hsm::new(self.client(&[Capability::Points], None)).ask(&GetBasepoints {}).unwrap()
    }
}
impl Drop for Hsmd {
    fn drop(&mut self) {
        self.master = None;
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
