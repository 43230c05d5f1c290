//! What is left in memory of a key that was derived to sign.

use super::*;
use crate::answer;
use crate::arriving::Asker;
use std::os::unix::fs::FileExt;
use zeroize::Zeroize;

const MASK: u8 = 0x5a;

/// Where this process holds these bytes, each given XORed with [`MASK`]: the lines of its map of
/// memory.
fn copies(masked: &[u8]) -> Vec<String> {
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut found = Vec::new();
    // Pages overlap by less than what is looked for.
    let mut page = vec![0; 1 << 20];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [mut at, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        while at < to {
            let count = usize::try_from(to - at).unwrap().min(page.len());
            let Ok(count) = memory.read_at(&mut page[..count], at) else { break };
            let is_it = |w: &&[u8]| w.iter().zip(masked).all(|(a, b)| a ^ MASK == *b);
            let here = page[..count].windows(masked.len()).filter(is_it).count();
            found.extend((0..here).map(|_| line.to_owned()));
            if count < page.len() {
                break;
            }
            at += (count - masked.len() + 1) as u64;
        }
    }
    page.zeroize();
    found
}

fn body_of<R: Request>(question: &R) -> Vec<u8> {
    let mut body = R::NUMBER.to_be_bytes().to_vec();
    question.put(&mut body);
    body
}

fn masked(secret: &[u8]) -> Vec<u8> {
    secret.iter().map(|b| b ^ MASK).collect()
}

/// An unlocked hsmd with a secret that no other test has, and a client of one channel.
fn unlocked() -> (answer::Hsm, Box<ChannelKeys>) {
    let node = || NodeKeys::derive(&Root::Raw(Zeroizing::new([0x77; 32])), Network::Regtest);
    let keys = ChannelKeys::derive(&node(), &peer().node_id, CHANNEL).unwrap();
    let mut params = params();
    params.basepoints.local = keys.points.clone();
    let mut hsm = answer::Hsm::unlocked(node());
    let (_ours, theirs) = stream_pair().unwrap();
    let question = NewClient {
        peer: peer().node_id,
        channel: CHANNEL,
        rights: Rights::of(EVERYTHING),
        seed: Some(ChannelSeed { params, ..seed(0) }),
    };
    let body = body_of(&question);
    hsm.answer(Asker::Master, &Rights::of(&[Capability::Master]), &body, [theirs].into())
        .unwrap()
        .unwrap();
    (hsm, keys)
}

#[test]
fn derived_htlc_key_is_nowhere_in_memory_after_signing() {
    // A hundred are signed by several threads, where the machine has more than one core.
    channel::cores::begin();
    for htlcs in [1, 100] {
        let (mut hsm, keys) = unlocked();
        let state = state(Side::Remote, 1, 400_000_000, &vec![2_000_000; htlcs]);
        let key = masked(keys.htlc_secret(&state.point).as_ref());
        let held = Zeroizing::new(key.iter().map(|b| b ^ MASK).collect::<Vec<u8>>());
        assert!(!copies(&key).is_empty(), "the scan finds what is there");
        drop(held);
        subdaemon::memory::wipe_stack::<65536>();
        let question = SignRemoteCommitment { state };
        let body = body_of(&question);
        let who = Asker::Child(peer().node_id, CHANNEL);
        let answer = hsm.answer(who, &Rights::of(EVERYTHING), &body, VecDeque::new());
        assert!(answer.unwrap().is_some());
        assert_eq!(copies(&key), Vec::<String>::new(), "{htlcs} HTLCs");
    }
}
