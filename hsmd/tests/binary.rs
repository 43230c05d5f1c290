//! The executable itself, born as lightningd gives birth to it, in its box.

use primitives::{ChannelNumber, Network, NodeId};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use subdaemon::testing::start;
use subdaemon::{Hsm, stream_pair};
use wire::Message;
use wire::daemon::Log;
use wire::hsm::*;

#[test]
fn daemon_works_in_its_box_and_ends_with_the_master() {
    let folder = std::env::temp_dir().join(format!("fulmen-hsmd-binary-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let (ours, theirs) = stream_pair().unwrap();
    let executable = env!("CARGO_BIN_EXE_lightning_hsmd");
    let (mut child, down, mut up) = start(Command::new(executable).current_dir(&folder));
    down.send(&HsmdInit {}.encode(), &[theirs.as_fd()]).unwrap();
    drop(theirs);

    let mut master = Hsm::new(ours);
    let path = "hsm_secret".to_owned();
    let unlock = Unlock { network: Network::Regtest, path, passphrase: None };
    let UnlockAnswer::Open { unlocked } = master.ask(&unlock).unwrap() else { panic!("refused") };
    assert!(unlocked.fresh && folder.join("hsm_secret").exists());

    // Its memory is locked: all of it, or where a limit stands the pages with the keys.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
    let locked: u64 = locked.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(locked > 0, "{status}");

    let client = |master: &mut Hsm| -> (Hsm, OwnedFd) {
        let (ours, theirs) = stream_pair().unwrap();
        let rights = Rights::of(&[Capability::Points]);
        let (peer, channel) = (NodeId([2; 33]), ChannelNumber(1));
        let question = NewClient { peer, channel, rights, seed: None };
        master.ask_with(&question, &[theirs.as_fd()]).unwrap();
        (Hsm::new(ours), theirs)
    };
    let (mut one, _) = client(&mut master);
    let (mut two, _) = client(&mut master);
    assert_eq!(one.ask(&GetBasepoints {}).unwrap(), two.ask(&GetBasepoints {}).unwrap());

    drop(master);
    assert!(child.wait().unwrap().success());
    let mut lines = Vec::new();
    while let Ok(frame) = up.recv() {
        if let Some(body) = frame.body.strip_prefix(&Log::NUMBER.to_be_bytes()) {
            lines.push(Log::take_body(body).unwrap().text);
        }
    }
    assert!(lines.iter().any(|l| l.contains("sandboxed")), "{lines:?}");
    let told = ["all memory is locked", "ulimit -l"];
    assert!(lines.iter().any(|l| told.iter().any(|part| l.contains(part))), "{lines:?}");
    std::fs::remove_dir_all(folder).unwrap();
}
