//! hsmd over socketpairs: a scripted master, clients of every kind, and a peer with keys of its
//! own.

use crate::channel_keys::ChannelKeys;
use crate::derive::{NodeKeys, Root};
use channel::commitment::build;
use channel::keys::CommitmentKeys;
use channel::{Constants, closing};
use primitives::*;
use secp256k1::SECP256K1;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Failure, Hsm, stream_pair};
use wire::channel_data::*;
use wire::hsm::*;
use wire::{Bytes, Long, Message, Request};
use zeroize::Zeroizing;

mod arriving;
mod captured;
mod captured_onchaind;
mod channel_life;
mod claims;
mod copies;
mod evil;
mod node;
mod noise;
mod phases;

pub(crate) const CHANNEL: ChannelNumber = ChannelNumber(7);
pub(crate) const EVERYTHING: &[Capability] = &[
    Capability::Points,
    Capability::SignRemote,
    Capability::Revoke,
    Capability::Peel,
    Capability::SignClosing,
    Capability::SignGossip,
];

/// A running hsmd whose secret is 32 times 1.
pub(crate) struct Rig {
    pub(crate) script: ScriptedMaster,
    pub(crate) master: Hsm,
    pub(crate) unlocked: Unlocked,
    thread: Option<JoinHandle<Result<(), Failure>>>,
    folder: PathBuf,
}

pub(crate) fn start() -> (ScriptedMaster, Hsm, JoinHandle<Result<(), Failure>>) {
    let (script, child) = ScriptedMaster::new();
    let (ours, theirs) = stream_pair().unwrap();
    script.order(&HsmdInit {}, vec![theirs]);
    let thread = std::thread::spawn(|| crate::run(child, || Ok(())));
    (script, Hsm::new(ours), thread)
}

pub(crate) fn folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("fulmen-hsmd-{}-{n}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

pub(crate) fn unlock(path: &std::path::Path) -> Unlock {
    let path = path.to_str().unwrap().to_owned();
    Unlock { network: Network::Regtest, path, passphrase: None }
}

impl Rig {
    pub(crate) fn new() -> Self {
        let folder = folder();
        let path = folder.join("hsm_secret");
        std::fs::write(&path, [1; 32]).unwrap();
        let (script, mut master, thread) = start();
        let UnlockAnswer::Open { unlocked } = master.ask(&unlock(&path)).unwrap() else {
            panic!("the secret was refused")
        };
        Self { script, master, unlocked, thread: Some(thread), folder }
    }

    pub(crate) fn client(&mut self, rights: &[Capability], seed: Option<ChannelSeed>) -> Hsm {
        Hsm::new(self.socket(rights, seed))
    }
    pub(crate) fn socket(&mut self, rights: &[Capability], seed: Option<ChannelSeed>) -> OwnedFd {
        let (ours, theirs) = stream_pair().unwrap();
        let question =
            NewClient { peer: peer().node_id, channel: CHANNEL, rights: Rights::of(rights), seed };
        self.master.ask_with(&question, &[theirs.as_fd()]).unwrap();
        ours
    }

    /// The master has so many of our commitments on disk as revoked.
    pub(crate) fn stored(&mut self, revoked: u64) {
        let revoked = CommitmentNumber(revoked);
        let told = RevocationStored { peer: peer().node_id, channel: CHANNEL, revoked };
        self.master.order(&told).unwrap();
    }

    /// The report of a closed client.
    pub(crate) fn reported(&mut self) -> String {
        let frame = self.script.heard().unwrap();
        let FromHsmd::BadClient(BadClient { peer: who, channel, why }) =
            FromHsmd::decode_known(&frame.body).unwrap()
        else {
            panic!("no report")
        };
        assert_eq!((who, channel), (peer().node_id, CHANNEL));
        why
    }

    /// Asks what must not be asked: the client is closed, the master hears why, and everybody else
    /// is served as before.
    pub(crate) fn refuses<R: Request + std::fmt::Debug>(
        &mut self,
        mut client: Hsm,
        question: &R,
        why: &str,
    ) where
        R::Answer: std::fmt::Debug,
    {
        let answer = client.ask(question);
        assert!(answer.is_err(), "{question:?} was answered: {answer:?}");
        let reported = self.reported();
        assert!(reported.contains(why), "{reported}");
        self.master.ask(&MakeSecret { info: Bytes(vec![]) }).unwrap();
    }
}
impl Drop for Rig {
    fn drop(&mut self) {
        let (mut nobody, _) = stream_pair().map(|(a, b)| (Hsm::new(a), b)).unwrap();
        std::mem::swap(&mut nobody, &mut self.master);
        drop(nobody);
        let ended = self.thread.take().unwrap().join().unwrap();
        if !std::thread::panicking() {
            assert_eq!(ended, Ok(()));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The peer: a node whose secret is 32 times 2.
pub(crate) fn peer() -> NodeKeys {
    NodeKeys::derive(&Root::Raw(Zeroizing::new([2; 32])), Network::Regtest)
}
pub(crate) fn us() -> NodeKeys {
    NodeKeys::derive(&Root::Raw(Zeroizing::new([1; 32])), Network::Regtest)
}
pub(crate) fn peer_keys() -> Box<ChannelKeys> {
    ChannelKeys::derive(&peer(), &us().node_id, CHANNEL).unwrap()
}
/// What hsmd must have derived.
pub(crate) fn our_keys() -> Box<ChannelKeys> {
    ChannelKeys::derive(&us(), &peer().node_id, CHANNEL).unwrap()
}

pub(crate) fn params() -> ChannelParams {
    let terms = Terms {
        dust_limit: Sat(546),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(10_000),
        htlc_minimum: Msat(0),
        to_self_delay: 6,
        max_accepted_htlcs: 483,
    };
    ChannelParams {
        opener: Side::Local,
        funding: OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([5; 32]), vout: 0 },
        amount: Sat(1_000_000),
        push: Msat(0),
        channel_type: Features::compulsory(&[feature::STATIC_REMOTEKEY, feature::ANCHORS]),
        terms: Sides { local: terms.clone(), remote: terms },
        basepoints: Sides { local: our_keys().points.clone(), remote: peer_keys().points.clone() },
    }
}
pub(crate) fn constants() -> Constants {
    Constants::new(params()).unwrap()
}
/// The channel as the peer sees it.
pub(crate) fn mirrored(p: ChannelParams) -> Constants {
    Constants::new(ChannelParams {
        opener: !p.opener,
        terms: p.terms.swap(),
        basepoints: p.basepoints.swap(),
        ..p
    })
    .unwrap()
}

/// A commitment in which `paid` msat of HTLCs of ours are under way and `given` are gone.
pub(crate) fn state(side: Side, number: u64, given: u64, paid: &[u64]) -> CommitmentState {
    let htlcs: Vec<_> = (0..)
        .zip(paid)
        .map(|(id, amount)| Htlc {
            offered_by: if id % 2 == 0 { Side::Local } else { Side::Remote },
            id: HtlcId(id),
            amount: Msat(*amount),
            payment_hash: Preimage([id as u8; 32]).hash(),
            expiry: BlockHeight(500 + id as u32),
        })
        .collect();
    let sum =
        |by: Side| htlcs.iter().filter(|h| h.offered_by == by).map(|h| h.amount.0).sum::<u64>();
    let keys = match side {
        Side::Local => our_keys(),
        Side::Remote => peer_keys(),
    };
    CommitmentState {
        side,
        number: CommitmentNumber(number),
        point: keys.point(CommitmentNumber(number)).unwrap(),
        feerate: FeeratePerKw(1000),
        balance: Sides {
            local: Msat(1_000_000_000 - given - sum(Side::Local)),
            remote: Msat(given - sum(Side::Remote)),
        },
        htlcs: Long(htlcs),
    }
}
/// What the peer signs for our commitment.
pub(crate) fn signed_by_peer(state: &CommitmentState) -> CommitmentSignatures {
    signed_by_peer_in(params(), state)
}
pub(crate) fn signed_by_peer_in(
    params: ChannelParams,
    state: &CommitmentState,
) -> CommitmentSignatures {
    let mirrored = CommitmentState {
        side: !state.side,
        balance: state.balance.swap(),
        htlcs: Long(
            state.htlcs.0.iter().map(|h| Htlc { offered_by: !h.offered_by, ..h.clone() }).collect(),
        ),
        ..state.clone()
    };
    peer_keys().sign_remote(&self::mirrored(params), &mirrored).unwrap()
}

pub(crate) fn seed(number: u64) -> ChannelSeed {
    let keys = peer_keys();
    let n = CommitmentNumber(number);
    ChannelSeed {
        params: params(),
        phase: ChannelPhase::Normal,
        local_number: n,
        local_revoked: n,
        remote_number: n,
        remote_revoked: n,
        remote_point: keys.point(n).unwrap(),
        remote_next_point: keys.point(n.next()),
        local_balance: Msat(900_000_000),
        broadcast: None,
        closing: None,
    }
}
pub(crate) fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array([byte; 20]))
}
