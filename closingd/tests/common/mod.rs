//! Everything around a closingd: a scripted master, a real hsmd, and the peer's end of the socket.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part"
)]

pub mod hsm;

use channel::{Constants, closing};
use closingd::Settings;
use hsm::{Hsmd, hsmd};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use primitives::*;
use secp256k1::SECP256K1;
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::Duration;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Failure, Peer, PeerRecord};
use wire::channel_data::*;
use wire::closingd::*;
use wire::connectd::{Leave, PeerControl};
use wire::hsm::*;
use wire::{ClosingMessage, ClosingSigned, FeeRange, Message};

pub const OURS: u8 = 0x11;
pub const THEIRS: u8 = 0x22;
pub const AMOUNT: Sat = Sat(1_000_000);

/// The scripted peer's keys.
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
}
pub const PEER: Signer = Signer(0x40);

pub fn script(n: u8) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0, 20][..], &[n; 20]].concat())
}
pub fn terms() -> Terms {
    Terms {
        dust_limit: Sat(546),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(10_000),
        htlc_minimum: Msat(0),
        to_self_delay: 6,
        max_accepted_htlcs: 483,
    }
}
pub fn params(opener: Side, basepoints: Sides<Basepoints>) -> ChannelParams {
    ChannelParams {
        opener,
        funding: OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([9; 32]), vout: 1 },
        amount: AMOUNT,
        push: Msat(0),
        channel_type: Features::compulsory(&[feature::STATIC_REMOTEKEY, feature::ANCHORS]),
        terms: Sides { local: terms(), remote: terms() },
        basepoints,
    }
}
/// The channel seen from one end; the other's basepoints are given.
pub fn init_of(opener: Side, basepoints: Sides<Basepoints>) -> ClosingdInit {
    let params = params(opener, basepoints);
    ClosingdInit {
        channel: ChannelId::from_funding(&params.funding),
        params,
        balance: Sides { local: Msat(600_000_000), remote: Msat(400_000_000) },
        script: Sides { local: script(1), remote: script(2) },
        min_fee: Sat(300),
        max_fee: Sat(1000),
        ideal_fee: Sat(500),
        local_features: Features::none(),
        remote_features: Features::none(),
    }
}
pub fn seed_of(init: &ClosingdInit) -> ChannelSeed {
    let point = PEER.basepoints().htlc;
    ChannelSeed {
        params: init.params.clone(),
        phase: ChannelPhase::Negotiating,
        local_number: CommitmentNumber(5),
        local_revoked: CommitmentNumber(5),
        remote_number: CommitmentNumber(5),
        remote_revoked: CommitmentNumber(5),
        remote_point: point,
        remote_next_point: None,
        local_balance: init.balance.local,
        broadcast: None,
        closing: Some(ClosingTerms {
            script: init.script.local.clone(),
            max_fee: if init.params.opener == Side::Local { init.max_fee } else { Sat(u64::MAX) },
        }),
    }
}

pub fn settings() -> Settings {
    Settings { sandbox: false, patience: Duration::from_secs(60), linger: Duration::from_secs(60) }
}

/// A closingd under test, with the peer in the test's hands.
pub struct Attempt {
    pub master: ScriptedMaster,
    pub peer: Option<Peer>,
    pub init: ClosingdInit,
    pub hsmd: Hsmd,
    pub daemon: JoinHandle<Result<(), Failure>>,
}

pub fn start(opener: Side) -> Attempt {
    start_with(opener, settings(), |_| {})
}
pub fn start_with(
    opener: Side,
    settings: Settings,
    change: impl FnOnce(&mut ClosingdInit),
) -> Attempt {
    let mut hsmd = hsmd(OURS);
    let basepoints = Sides { local: hsmd.basepoints(), remote: PEER.basepoints() };
    let mut init = init_of(opener, basepoints);
    change(&mut init);
    let (peer, master, daemon) = launch(&mut hsmd, &init, settings);
    Attempt { master, peer: Some(peer), init, hsmd, daemon }
}
pub fn launch(
    hsmd: &mut Hsmd,
    init: &ClosingdInit,
    settings: Settings,
) -> (Peer, ScriptedMaster, JoinHandle<Result<(), Failure>>) {
    let client = hsmd.client(&[Capability::SignClosing], Some(seed_of(init)));
    let (master, child) = ScriptedMaster::new();
    let (ours, theirs) = subdaemon::peer_pair().unwrap();
    master.order(init, vec![client, theirs]);
    let daemon = std::thread::spawn(move || closingd::run(child, &settings));
    (Peer::new(ours), master, daemon)
}

impl Attempt {
    pub fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().unwrap()
    }
    pub fn record(&mut self) -> Option<PeerRecord> {
        record(self.peer())
    }
    pub fn says(&mut self) -> ClosingSigned {
        match self.record() {
            Some(PeerRecord::Message(bytes)) => match ClosingMessage::decode_known(&bytes) {
                Ok(ClosingMessage::ClosingSigned(signed)) => signed,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    pub fn say(&mut self, message: &impl Message) {
        self.peer().send(message).unwrap();
    }
    fn asks(&mut self) -> ClosingAsk {
        let frame = self.master.heard().expect("closingd is there");
        ClosingAsk::decode(&frame.body).unwrap()
    }
    /// It stores an offer, before anybody can have seen it.
    pub fn persists_offer(&mut self) -> Sat {
        let ClosingAsk::PersistOffer(ask) = self.asks() else { panic!("another ask") };
        assert_eq!(self.peer().try_recv().unwrap(), None, "said before it was on disk");
        self.master.answer::<PersistOffer>(&());
        ask.state.fee
    }
    /// It stores a signature of the peer's, before it answers.
    pub fn persists_signature(&mut self) -> Sat {
        let ClosingAsk::PersistPeerSignature(ask) = self.asks() else { panic!("another ask") };
        assert_eq!(self.peer().try_recv().unwrap(), None, "answered before it was on disk");
        self.master.answer::<PersistPeerSignature>(&());
        ask.state.fee
    }
    pub fn agreed(&mut self) -> ClosingAgreed {
        let frame = self.master.heard().expect("closingd is there");
        let said = FromClosingd::decode_known(&frame.body).unwrap();
        let FromClosingd::ClosingAgreed(agreed) = said else { panic!("{said:?}") };
        agreed
    }
    /// The fee we open with, said.
    pub fn opens(&mut self) -> ClosingSigned {
        let fee = self.persists_offer();
        let said = self.says();
        assert_eq!(said.fee_satoshis, fee);
        said
    }
    pub fn state(&self, fee: Sat) -> ClosingState {
        ClosingState { balance: self.init.balance, script: self.init.script.clone(), fee }
    }
    /// The peer's word for this fee, with a signature that holds.
    pub fn signed(&self, fee: u64, range: Option<(u64, u64)>) -> ClosingSigned {
        let constants = Constants::new(self.init.params.clone()).unwrap();
        let state = self.state(Sat(fee));
        let kept = closing::our_choice(&constants, &state).unwrap();
        self.signed_for(fee, range, kept)
    }
    pub fn signed_for(
        &self,
        fee: u64,
        range: Option<(u64, u64)>,
        kept: closing::Kept,
    ) -> ClosingSigned {
        let constants = Constants::new(self.init.params.clone()).unwrap();
        let built = closing::build(&constants, &self.state(Sat(fee)), kept).unwrap();
        ClosingSigned {
            channel_id: self.init.channel,
            fee_satoshis: Sat(fee),
            signature: SECP256K1.sign_ecdsa(&built.sighash(&constants), &PEER.secret(0)),
            fee_range: range.map(|(min, max)| FeeRange { min_fee: Sat(min), max_fee: Sat(max) }),
        }
    }
    /// How it ends, when the peer has hung up.
    pub fn end(mut self) -> Result<(), Failure> {
        self.peer = None;
        self.daemon.join().unwrap()
    }
    /// It ends with this, and the peer heard of it; nothing more was stored.
    pub fn fails_with(mut self, part: &str) -> Failure {
        let mut said = self.record();
        let left = said == Some(PeerRecord::Control(PeerControl::Leave(Leave {})));
        if left {
            said = self.record();
        }
        let told = match said {
            Some(PeerRecord::Message(bytes)) => match ClosingMessage::decode_known(&bytes) {
                Ok(ClosingMessage::Warning(warning)) => Failure::PeerWarn(warning.text()),
                Ok(ClosingMessage::Error(error)) => Failure::PeerError(error.text()),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert!(told.to_string().contains(part), "{told} says nothing of '{part}'");
        assert_eq!(left, matches!(told, Failure::PeerError(_)), "who says error has left");
        let end = self.daemon.join().unwrap();
        assert_eq!(end, Err(told.clone()));
        assert!(self.master.heard().is_none());
        told
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
