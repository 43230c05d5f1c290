//! Everything around an openingd: a scripted master, a signer in hsmd's place, and the peer's end
//! of the socket.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part"
)]

pub mod scenes;

use channel::Constants;
use channel::commitment::{Commitment, build};
use channel::keys::{CommitmentKeys, commitment_secret};
use channel::opening::agreement::{PartyTerms, Proposal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use openingd::Settings;
use primitives::*;
use secp256k1::SECP256K1;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Conn, Failure, Frame, Peer, PeerRecord, answer_frame};
use wire::channel_data::*;
use wire::connectd::PeerControl;
use wire::hsm::*;
use wire::openingd::*;
use wire::{Message, OpeningMessage};

pub const TEMPORARY: ChannelId = ChannelId([0x77; 32]);

// ---- terms that both ends like

pub fn features() -> Features {
    Features::optional(&[
        feature::STATIC_REMOTEKEY,
        feature::ANCHORS,
        feature::UPFRONT_SHUTDOWN_SCRIPT,
        feature::SHUTDOWN_ANYSEGWIT,
        feature::LARGE_CHANNELS,
        feature::SCID_ALIAS,
        feature::ZEROCONF,
    ])
}
pub fn anchors() -> Features {
    Features::compulsory(&[feature::STATIC_REMOTEKEY, feature::ANCHORS])
}
pub fn policy() -> OpeningPolicy {
    OpeningPolicy {
        terms: Terms {
            dust_limit: Sat(546),
            max_in_flight: Msat(u64::MAX),
            reserve: Sat(10_000),
            htlc_minimum: Msat(0),
            to_self_delay: 144,
            max_accepted_htlcs: 483,
        },
        minimum_depth: 3,
        min_feerate: FeeratePerKw(253),
        min_anchors_feerate: FeeratePerKw(253),
        max_feerate: FeeratePerKw(50_000),
        max_to_self_delay: 2016,
        min_capacity: Sat(10_000),
        max_dust_limit: Sat(1062),
        max_dust_exposure: Msat(50_000_000),
        large_channels: true,
    }
}
pub fn open_init() -> OpenInit {
    OpenInit {
        network: Network::Regtest,
        local_features: features(),
        remote_features: features(),
        temporary_id: TEMPORARY,
        policy: policy(),
        amount: Sat(1_000_000),
        push: Msat(100_000_000),
        feerate: FeeratePerKw(2500),
        announce: true,
        channel_type: anchors(),
        upfront_script: None,
    }
}
pub fn accept_init() -> AcceptInit {
    AcceptInit {
        network: Network::Regtest,
        local_features: features(),
        remote_features: features(),
        temporary_id: TEMPORARY,
        policy: policy(),
        upfront_script: None,
    }
}
pub fn proposal() -> Proposal {
    let init = open_init();
    Proposal {
        amount: init.amount,
        push: init.push,
        feerate: init.feerate,
        announce: init.announce,
        channel_type: init.channel_type,
    }
}
pub fn funding() -> OutPoint {
    OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([0x21; 32]), vout: 3 }
}
pub fn yes() -> AcceptProposed {
    AcceptProposed { upfront_script: None, minimum_depth: None, reserve: None }
}

// ---- a signer: in hsmd's place, or the scripted peer's

/// One end's keys.
#[derive(Clone, Copy)]
pub struct Signer(pub u8);

impl Signer {
    fn secret(self, which: u8) -> SecretKey {
        SecretKey::from_slice(&[self.0 + which; 32]).unwrap()
    }
    pub fn basepoints(self) -> Basepoints {
        let point = |which| self.secret(which).public_key(SECP256K1);
        Basepoints {
            funding: point(0),
            revocation: point(1),
            payment: point(2),
            delayed_payment: point(3),
            htlc: point(4),
        }
    }
    pub fn point(self, number: CommitmentNumber) -> Point {
        let secret = commitment_secret(&Secret::new([self.0; 32]), number).unwrap();
        secret.public_key(SECP256K1)
    }
    pub fn party(self) -> PartyTerms {
        PartyTerms {
            terms: policy().terms,
            basepoints: self.basepoints(),
            first_point: self.point(CommitmentNumber::FIRST),
            upfront_script: None,
        }
    }
    pub fn sign(self, params: &ChannelParams, state: &CommitmentState) -> Signature {
        let (constants, built) = built(params, state);
        SECP256K1.sign_ecdsa(&built.sighash(&constants), &self.secret(0))
    }
}

pub fn built(params: &ChannelParams, state: &CommitmentState) -> (Constants, Commitment) {
    let constants = Constants::new(params.clone()).unwrap();
    let keys = CommitmentKeys::derive(&params.basepoints, state.side, &state.point);
    let built = build(&constants, keys, state).unwrap();
    (constants, built)
}

/// Do the peer's signatures hold for our commitment?
fn judged(params: &ChannelParams, q: &ValidateLocalCommitment) -> Verdict {
    let (constants, built) = built(params, &q.state);
    match built.verify(&constants, &q.signatures) {
        Ok(()) => Verdict::Good,
        Err(e) => Verdict::Bad { why: format!("hsmd's own words: {e}") },
    }
}

/// What a client asked of hsmd.
pub type Questions = Arc<Mutex<Vec<&'static str>>>;

/// A stand-in for hsmd. It ends with its client.
pub fn hsmd(signer: Signer) -> (OwnedFd, Questions) {
    let (mine, client) = subdaemon::stream_pair().unwrap();
    let questions = Questions::default();
    let noted = Arc::clone(&questions);
    std::thread::spawn(move || {
        let mut conn = Conn::new(mine);
        let mut params: Option<ChannelParams> = None;
        while let Ok(frame) = conn.recv() {
            let question = HsmRequest::decode(&frame.body).unwrap();
            noted.lock().unwrap().push(question.name());
            let answer = match question {
                HsmRequest::GetBasepoints(_) => answer_frame::<GetBasepoints>(&signer.basepoints()),
                HsmRequest::GetCommitmentPoint(q) => {
                    answer_frame::<GetCommitmentPoint>(&signer.point(q.number))
                }
                HsmRequest::SetupChannel(q) => {
                    assert_eq!(q.params.basepoints.local, signer.basepoints());
                    params = Some(q.params);
                    answer_frame::<SetupChannel>(&())
                }
                HsmRequest::SignRemoteCommitment(q) => {
                    assert_eq!(q.state.side, Side::Remote);
                    let signature = signer.sign(params.as_ref().unwrap(), &q.state);
                    let signatures = CommitmentSignatures { signature, htlcs: vec![] };
                    answer_frame::<SignRemoteCommitment>(&signatures)
                }
                HsmRequest::ValidateLocalCommitment(q) => {
                    assert_eq!(q.state.point, signer.point(q.state.number));
                    answer_frame::<ValidateLocalCommitment>(&judged(params.as_ref().unwrap(), &q))
                }
                other @ (HsmRequest::Unlock(_)
                | HsmRequest::NewClient(_)
                | HsmRequest::MixEcdh(_)
                | HsmRequest::RemoteRevoked(_)
                | HsmRequest::RevokeLocal(_)
                | HsmRequest::PeelOnions(_)
                | HsmRequest::SignClosing(_)
                | HsmRequest::CheckClosing(_)
                | HsmRequest::CheckSecret(_)
                | HsmRequest::SignAnnouncement(_)
                | HsmRequest::CheckAnnouncement(_)
                | HsmRequest::SignLocalCommitment(_)
                | HsmRequest::CompleteClosing(_)
                | HsmRequest::SignWallet(_)
                | HsmRequest::SignInvoice(_)
                | HsmRequest::SignMessage(_)
                | HsmRequest::MakeSecret(_)
                | HsmRequest::SignChannelUpdate(_)
                | HsmRequest::CountSignatures(_)
                | HsmRequest::ForgetChannel(_)) => panic!("openingd asks {}", other.name()),
            };
            if conn.send(&answer, &[]).is_err() {
                return;
            }
        }
    });
    (client, questions)
}

// ---- an attempt under test

pub struct Attempt {
    pub master: ScriptedMaster,
    pub peer: Option<Peer>,
    pub questions: Questions,
    pub daemon: JoinHandle<Result<(), Failure>>,
}

pub fn settings() -> Settings {
    Settings {
        sandbox: false,
        patience: Duration::from_secs(60),
        funding_patience: Duration::from_secs(60),
    }
}

pub fn start(init: &impl Message, signer: Signer) -> Attempt {
    start_with(init, signer, settings())
}
pub fn start_with(init: &impl Message, signer: Signer, settings: Settings) -> Attempt {
    let (mut master, child) = ScriptedMaster::new();
    let (hsm, questions) = hsmd(signer);
    let (ours, theirs) = subdaemon::peer_pair().unwrap();
    master.order_and_keep(init, vec![hsm, theirs]);
    let daemon = std::thread::spawn(move || openingd::run(child, &settings));
    Attempt { master, peer: Some(Peer::new(ours)), questions, daemon }
}

impl Attempt {
    pub fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().unwrap()
    }
    /// The daemon's next message or control record to the peer. `None`: it hung up.
    pub fn record(&mut self) -> Option<PeerRecord> {
        record(self.peer())
    }
    /// The daemon's next message to the peer.
    pub fn says(&mut self) -> OpeningMessage {
        match self.record() {
            Some(PeerRecord::Message(bytes)) => OpeningMessage::decode_known(&bytes).unwrap(),
            other => panic!("{other:?} where a message is awaited"),
        }
    }
    pub fn also_routes(&mut self) -> ChannelId {
        match self.record() {
            Some(PeerRecord::Control(PeerControl::AlsoRoute(also))) => also.channel,
            other => panic!("{other:?} where AlsoRoute is awaited"),
        }
    }
    pub fn say(&mut self, message: &impl Message) {
        self.peer().send(message).unwrap();
    }
    pub fn reports(&mut self) -> (FromOpeningd, Frame) {
        let frame = self.master.heard().expect("the daemon is there");
        (FromOpeningd::decode_known(&frame.body).unwrap(), frame)
    }
    pub fn proposed(&mut self) -> OpenProposed {
        let said = self.reports().0;
        let FromOpeningd::OpenProposed(p) = said else { panic!("{said:?}") };
        p
    }
    pub fn accepted(&mut self) -> Accepted {
        let said = self.reports().0;
        let FromOpeningd::Accepted(a) = said else { panic!("{said:?}") };
        a
    }
    pub fn opened(&mut self) -> (Opened, Peer) {
        match self.reports() {
            (FromOpeningd::Opened(o), mut frame) => {
                (o, Peer::new(frame.fds.pop_front().expect("the socket is handed over")))
            }
            (other, _) => panic!("{other:?}"),
        }
    }
    /// How it ended.
    pub fn end(self) -> Result<(), Failure> {
        self.daemon.join().unwrap()
    }
    /// It failed with this error to the peer, and told the peer the same.
    pub fn fails_with(mut self, id: ChannelId, part: &str) -> String {
        let mut left = false;
        let told = loop {
            match self.record() {
                Some(PeerRecord::Message(bytes)) => match OpeningMessage::decode_known(&bytes) {
                    Ok(OpeningMessage::Error(e)) => break e,
                    other => panic!("{other:?} where an error is awaited"),
                },
                Some(PeerRecord::Control(c)) => left = matches!(c, PeerControl::Leave(_)),
                None => panic!("the daemon hung up without a party: {:?}", self.daemon.join()),
            }
        };
        assert!(left, "whoever answers to the error under the same id finds no daemon");
        assert_eq!(told.channel_id, id);
        assert!(told.text().contains(part), "'{}' says nothing of '{part}'", told.text());
        assert_eq!(self.record(), None);
        match self.end() {
            Err(Failure::PeerError(text)) => assert_eq!(text, told.text()),
            other => panic!("{other:?}"),
        }
        told.text()
    }
}

pub fn record(peer: &mut Peer) -> Option<PeerRecord> {
    loop {
        match peer.try_recv() {
            Ok(Some(record)) => return Some(record),
            Ok(None) => {
                let mut fds = [PollFd::new(peer.as_fd(), PollFlags::POLLIN)];
                let ready = poll(&mut fds, PollTimeout::from(60_000u16)).unwrap();
                assert!(ready > 0, "nothing came in a minute");
            }
            Err(Failure::ConnectionLost) => return None,
            Err(e) => panic!("{e}"),
        }
    }
}

/// connectd between two nodes, which passes on every message and keeps what was said beside them.
pub fn relay(mut a: Peer, mut b: Peer) -> JoinHandle<Vec<PeerControl>> {
    std::thread::spawn(move || {
        let mut controls = Vec::new();
        loop {
            let mut fds = [
                PollFd::new(a.as_fd(), PollFlags::POLLIN),
                PollFd::new(b.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, PollTimeout::NONE).unwrap();
            for from_a in [true, false] {
                let (from, to) = if from_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
                match from.try_recv() {
                    Ok(Some(PeerRecord::Message(bytes))) => drop(to.send_raw(&bytes)),
                    Ok(Some(PeerRecord::Control(control))) => controls.push(control),
                    Ok(None) => {}
                    Err(_) => return controls,
                }
            }
        }
    })
}
