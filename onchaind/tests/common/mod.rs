//! Two ends of one channel, and every commitment that either ever had: with a real hsmd and real
//! signatures, or without.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test file uses its part"
)]

pub mod dice;
pub mod hsm;
pub mod model;
pub mod story;
pub mod table;

use bitcoin::hashes::Hash;
use bitcoin::{EcdsaSighashType, ScriptBuf};
use channel::commitment::{Commitment, build};
use channel::keys::{CommitmentKeys, commitment_secret, derive_secret};
use channel::{Channel, Constants};
use hsm::Hsmd;
use primitives::*;
use secp256k1::SECP256K1;
use wire::channel_data::*;
use wire::channeld::{FeePolicy, HtlcPolicy, Offer};
use wire::hsm::*;
use wire::onchaind::*;
use wire::{Long, OnionPacket, UpdateAddHtlc};

pub const AMOUNT: Sat = Sat(10_000_000);
pub const FEERATE: FeeratePerKw = FeeratePerKw(1000);
/// How long our own money waits in our commitments, and the peer's in its own.
pub const OUR_DELAY: u16 = 10;
pub const THEIR_DELAY: u16 = 7;
/// Where commitments are mined.
pub const HEIGHT: BlockHeight = BlockHeight(100);

/// An end whose keys the test has.
#[derive(Clone, Copy)]
pub struct Signer(pub u8);

impl Signer {
    pub fn base(self, which: u8) -> SecretKey {
        SecretKey::from_slice(&[self.0 + which; 32]).unwrap()
    }
    pub fn basepoints(self) -> Basepoints {
        let point = |which| self.base(which).public_key(SECP256K1);
        Basepoints {
            funding: point(0),
            revocation: point(1),
            payment: point(2),
            delayed_payment: point(3),
            htlc: point(4),
        }
    }
    pub fn secret(self, number: CommitmentNumber) -> SecretKey {
        commitment_secret(&Secret::new([self.0; 32]), number).unwrap()
    }
    pub fn point(self, number: CommitmentNumber) -> Point {
        self.secret(number).public_key(SECP256K1)
    }
    pub fn htlc_secret(self, point: &Point) -> SecretKey {
        derive_secret(&self.base(4), &self.basepoints().htlc, point)
    }
    pub fn delayed_secret(self, point: &Point) -> SecretKey {
        derive_secret(&self.base(3), &self.basepoints().delayed_payment, point)
    }
}
pub const US: Signer = Signer(0x30);
pub const PEER: Signer = Signer(0x40);

/// Whose keys ours are.
pub enum Keys {
    /// The test's: nothing is signed.
    Plain,
    /// hsmd's: everything is.
    Hsmd(Box<Hsmd>),
}

/// A commitment that somebody can publish.
#[derive(Clone)]
pub struct Made {
    pub state: CommitmentState,
    pub built: Commitment,
    /// The other side's.
    pub signatures: CommitmentSignatures,
}

pub struct World {
    pub keys: Keys,
    pub anchors: bool,
    pub ours: Channel,
    pub theirs: Channel,
    /// By side, then by number.
    pub made: Sides<Vec<Made>>,
}

fn policy() -> HtlcPolicy {
    HtlcPolicy { max_dust_exposure: Msat(u64::MAX), max_offered: 483, commit_time_ms: 10 }
}

fn terms(to_self_delay: u16) -> Terms {
    Terms {
        dust_limit: Sat(546),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(10_000),
        htlc_minimum: Msat(0),
        to_self_delay,
        max_accepted_htlcs: 483,
    }
}

fn opened(params: ChannelParams, points: [Point; 2]) -> Channel {
    let constants = Constants::new(params.clone()).unwrap();
    let [remote_point, next] = points;
    let blank = Signature::from_compact(&[1; 64]).unwrap();
    Channel::new(ChannelState {
        balance: constants.first_balance(),
        params,
        next_htlc_id: Sides::default(),
        htlcs: Long(vec![]),
        fees: Long(vec![FeeChange { feerate: FEERATE, stage: Stage::Irrevocable }]),
        commitment: Sides::default(),
        revoked: Sides::default(),
        remote_point,
        remote_next_point: Some(next),
        remote_secrets: Long(vec![]),
        local_signatures: CommitmentSignatures { signature: blank, htlcs: vec![] },
        last_sent: LastSent::Neither,
    })
    .unwrap()
}

impl World {
    /// Nothing is signed: fast.
    pub fn plain(anchors: bool) -> Self {
        Self::new(anchors, Keys::Plain)
    }
    /// Everything is signed for.
    pub fn signed(anchors: bool) -> Self {
        Self::new(anchors, Keys::Hsmd(Box::new(hsm::hsmd(0x11))))
    }

    fn new(anchors: bool, mut keys: Keys) -> Self {
        let mut channel_type = vec![feature::STATIC_REMOTEKEY];
        if anchors {
            channel_type.push(feature::ANCHORS);
        }
        let local = match &mut keys {
            Keys::Plain => US.basepoints(),
            Keys::Hsmd(hsmd) => hsmd.child().ask(&GetBasepoints {}).unwrap(),
        };
        let params = ChannelParams {
            opener: Side::Local,
            funding: OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 1 },
            amount: AMOUNT,
            push: Msat(4_000_000_000),
            channel_type: Features::compulsory(&channel_type),
            // Each demands how long the other waits.
            terms: Sides { local: terms(THEIR_DELAY), remote: terms(OUR_DELAY) },
            basepoints: Sides { local, remote: PEER.basepoints() },
        };
        if let Keys::Hsmd(hsmd) = &mut keys {
            hsmd.child().ask(&SetupChannel { params: params.clone() }).unwrap();
        }
        let first = [CommitmentNumber(0), CommitmentNumber(1)];
        let mirrored = ChannelParams {
            opener: !params.opener,
            terms: params.terms.clone().swap(),
            basepoints: params.basepoints.clone().swap(),
            ..params.clone()
        };
        let ours = opened(params, first.map(|n| PEER.point(n)));
        let points = first.map(|n| point(&mut keys, n));
        let theirs = opened(mirrored, points);
        let made = Sides { local: vec![], remote: vec![] };
        let mut world = Self { keys, anchors, ours, theirs, made };
        let mine = world.ours.local_commitment(points[0]);
        world.note(mine);
        let other = world.ours.remote_commitment(CommitmentNumber(0)).unwrap();
        world.note(other);
        let stored = world.ours.storable();
        if let Keys::Hsmd(hsmd) = &mut world.keys {
            hsmd.channel_stored(&stored);
        }
        world
    }

    pub fn constants(&self) -> &Constants {
        self.ours.constants()
    }
    pub fn point(&mut self, number: CommitmentNumber) -> Point {
        point(&mut self.keys, number)
    }
    pub fn hsmd(&mut self) -> &mut Hsmd {
        match &mut self.keys {
            Keys::Hsmd(hsmd) => hsmd,
            Keys::Plain => panic!("this world has no hsmd"),
        }
    }

    /// A commitment that was just signed. Returns the signatures on it.
    fn note(&mut self, state: CommitmentState) -> CommitmentSignatures {
        let constants = self.ours.constants();
        let keys = CommitmentKeys::derive(&constants.params.basepoints, state.side, &state.point);
        let built = build(constants, keys, &state).unwrap();
        let signatures = match &mut self.keys {
            Keys::Plain => distinct(&state, built.htlcs.len()),
            Keys::Hsmd(hsmd) => match state.side {
                Side::Remote => {
                    hsmd.child().ask(&SignRemoteCommitment { state: state.clone() }).unwrap()
                }
                Side::Local => {
                    let kind = constants.format.htlc_sighash();
                    let htlc_key = PEER.htlc_secret(&state.point);
                    let funding = PEER.base(0);
                    let signatures = CommitmentSignatures {
                        signature: SECP256K1.sign_ecdsa(&built.sighash(constants), &funding),
                        htlcs: built
                            .htlcs
                            .iter()
                            .map(|h| SECP256K1.sign_ecdsa(&h.sighash(kind), &htlc_key))
                            .collect(),
                    };
                    let (state, shown) = (state.clone(), signatures.clone());
                    let question = ValidateLocalCommitment { state, signatures: shown };
                    assert_eq!(hsmd.child().ask(&question).unwrap(), Verdict::Good);
                    signatures
                }
            },
        };
        let side = state.side;
        assert_eq!(state.number.0 as usize, self.made[side].len());
        self.made[side].push(Made { state, built, signatures: signatures.clone() });
        signatures
    }

    /// An HTLC of `by`. The preimage of number `n`.
    pub fn add(&mut self, by: Side, amount: Msat, n: u64, expiry: u32) -> Option<HtlcId> {
        let offer = Offer {
            key: n,
            amount,
            payment_hash: preimage(n).hash(),
            expiry: BlockHeight(expiry),
            onion: OnionPacket(Box::new([0; 1366])),
            path_key: None,
        };
        let (from, to) = self.ends(by);
        let (next, id) = from.offer_add(&offer, &policy()).ok()?;
        let add = UpdateAddHtlc {
            channel_id: ChannelId([0; 32]),
            id,
            amount,
            payment_hash: offer.payment_hash,
            cltv_expiry: offer.expiry,
            onion: offer.onion.clone(),
            path_key: None,
        };
        let heard = to.receive_add(&add).ok()?;
        (*from, *to) = (next, heard);
        Some(id)
    }
    /// The HTLC of `by` is fulfilled (with the preimage of this number) or failed by the other.
    /// True if it could be.
    pub fn remove(&mut self, by: Side, id: HtlcId, fulfilled: Option<u64>) -> bool {
        let (offerer, receiver) = self.ends(by);
        let removal = fulfilled.map_or(Removal::Failed { reason: vec![] }, |n| {
            Removal::Fulfilled { preimage: preimage(n) }
        });
        let Ok(next) = receiver.offer_removal(id, removal) else { return false };
        let heard = match fulfilled {
            Some(n) => offerer.receive_fulfill(id, preimage(n)),
            None => offerer.receive_fail(id, &[]),
        };
        let Ok(heard) = heard else { return false };
        (*offerer, *receiver) = (heard, next);
        true
    }
    /// We are the opener.
    pub fn fee(&mut self, feerate: FeeratePerKw) -> bool {
        let Ok(next) = self.ours.offer_fee(feerate, &policy()) else { return false };
        let (min, max) = (FeeratePerKw(0), FeeratePerKw(u32::MAX));
        let any = FeePolicy { target: feerate, min, max };
        let Ok(heard) = self.theirs.receive_fee(feerate, &any, &policy()) else { return false };
        (self.ours, self.theirs) = (next, heard);
        true
    }
    fn ends(&mut self, by: Side) -> (&mut Channel, &mut Channel) {
        match by {
            Side::Local => (&mut self.ours, &mut self.theirs),
            Side::Remote => (&mut self.theirs, &mut self.ours),
        }
    }

    /// `by` signs the other's next commitment. True if there was anything to sign.
    pub fn sign(&mut self, by: Side) -> bool {
        match by {
            Side::Local => {
                let Ok((next, state)) = self.ours.send_commit() else { return false };
                let number = state.number;
                let signatures = self.note(state);
                self.ours = next;
                let point = PEER.point(number);
                self.theirs = self.theirs.receive_commit(point, signatures).unwrap().0;
            }
            Side::Remote => {
                let Ok((next, state)) = self.theirs.send_commit() else { return false };
                let number = state.number;
                self.theirs = next;
                let point = self.point(number);
                let count = build(
                    self.theirs.constants(),
                    CommitmentKeys::derive(
                        &self.theirs.constants().params.basepoints,
                        Side::Remote,
                        &point,
                    ),
                    &state,
                )
                .unwrap()
                .htlcs
                .len();
                // What it is for us, and then what the peer signs for it.
                let blank = distinct(&state, count);
                let mine = self.ours.receive_commit(point, blank).unwrap().1;
                let signatures = self.note(mine);
                self.ours = self.ours.receive_commit(point, signatures).unwrap().0;
            }
        }
        true
    }
    /// `by` revokes its commitment before the newest. True if it owed that.
    pub fn revoke(&mut self, by: Side) -> bool {
        match by {
            Side::Local => {
                let Ok((next, number, _)) = self.ours.send_revocation() else { return false };
                self.ours = next;
                let (secret, point) = match &mut self.keys {
                    Keys::Plain => (US.secret(number), US.point(number.next().next())),
                    Keys::Hsmd(hsmd) => {
                        hsmd.stored(number.next());
                        let out = hsmd.child().ask(&RevokeLocal { number }).unwrap();
                        (out.secret, out.next_point)
                    }
                };
                self.theirs = self.theirs.receive_revocation(&secret, point).unwrap().0;
            }
            Side::Remote => {
                let Ok((next, number, _)) = self.theirs.send_revocation() else { return false };
                self.theirs = next;
                let (secret, point) = (PEER.secret(number), PEER.point(number.next().next()));
                if let Keys::Hsmd(hsmd) = &mut self.keys {
                    let judged = hsmd.child().ask(&RemoteRevoked { number, secret }).unwrap();
                    assert_eq!(judged, Verdict::Good);
                }
                self.ours = self.ours.receive_revocation(&secret, point).unwrap().0;
            }
        }
        true
    }
    /// Both sign and revoke until nothing is left to do.
    pub fn settle(&mut self) {
        loop {
            let mut moved = false;
            for side in Side::BOTH {
                moved |= self.revoke(side);
                moved |= self.sign(side);
                moved |= self.revoke(!side);
            }
            if !moved {
                return;
            }
        }
    }

    pub fn newest(&self, side: Side) -> &Made {
        self.made[side].last().unwrap()
    }

    /// What onchaind is told where this commitment has spent the funding.
    pub fn init(&mut self, made: &Made) -> OnchaindInit {
        let (number, state) = (made.state.number, self.ours.storable());
        let revoked = made.state.side == Side::Remote && number < state.revoked.remote;
        let local_point = match &mut self.keys {
            Keys::Plain => Some(US.point(number)),
            Keys::Hsmd(hsmd) => {
                // As far as hsmd gives it.
                let known = number.0 <= state.commitment.local.0 + 2;
                known.then(|| hsmd.child().ask(&GetCommitmentPoint { number }).unwrap())
            }
        };
        OnchaindInit {
            peer: hsm::peer(),
            channel: hsm::CHANNEL,
            state,
            number,
            local_point,
            revoked_htlcs: if revoked { made.state.htlcs.clone() } else { Long(vec![]) },
            upstream: Long(vec![]),
            preimages: Long(vec![]),
            spend: Mined { transaction: made.built.tx.clone(), height: HEIGHT },
            later: Long(vec![]),
            height: HEIGHT,
        }
    }
}

fn point(keys: &mut Keys, number: CommitmentNumber) -> Point {
    match keys {
        Keys::Plain => US.point(number),
        Keys::Hsmd(hsmd) => hsmd.child().ask(&GetCommitmentPoint { number }).unwrap(),
    }
}

/// Signatures of nobody, each another one.
fn distinct(state: &CommitmentState, count: usize) -> CommitmentSignatures {
    let one = |n: usize| {
        let mut bytes = [1; 64];
        bytes[1..9].copy_from_slice(&state.number.0.to_be_bytes());
        bytes[9..13].copy_from_slice(&(n as u32).to_be_bytes());
        Signature::from_compact(&bytes).unwrap()
    };
    CommitmentSignatures { signature: one(0), htlcs: (1..=count).map(one).collect() }
}

pub fn preimage(n: u64) -> Preimage {
    let mut bytes = [0x55; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Preimage(bytes)
}
pub fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array([byte; 20]))
}
pub const ALL: EcdsaSighashType = EcdsaSighashType::All;
