//! Both ends of a channel between node 1 and another: their keys, its parameters, and what each
//! signs.

use bitcoin::hashes::Hash;
use channel::Constants;
use channel::commitment::{Commitment, build};
use channel::keys::CommitmentKeys;
use hsmd::fuzzing::Keys;
use primitives::*;
use secp256k1::SECP256K1;
use wire::Long;
use wire::channel_data::*;

/// What every channel holds.
pub const CAPACITY: u64 = 1_000_000_000;

pub struct Ends {
    pub peer: NodeId,
    pub number: ChannelNumber,
    pub ours: Keys,
    pub theirs: Keys,
    pub params: ChannelParams,
    pub constants: Constants,
    /// As the peer sees it.
    pub mirrored: Constants,
}

/// A signature of nobody's.
pub fn signature() -> Signature {
    Signature::from_compact(&[1; 64]).expect("any small numbers")
}

impl Ends {
    /// With that peer, under this number.
    pub fn new(peer: u8, number: u64, opener: Side, anchors: bool) -> Self {
        let (us, them, number) = (Keys::node_id(1), Keys::node_id(peer), ChannelNumber(number));
        let (ours, theirs) = (Keys::new(1, &them, number), Keys::new(peer, &us, number));
        let terms = Terms {
            dust_limit: Sat(546),
            max_in_flight: Msat(u64::MAX),
            reserve: Sat(10_000),
            htlc_minimum: Msat(0),
            to_self_delay: 6,
            max_accepted_htlcs: 483,
        };
        let mut channel_type = Features::compulsory(&[feature::STATIC_REMOTEKEY]);
        if anchors {
            channel_type = channel_type.with(feature::ANCHORS);
        }
        let params = ChannelParams {
            opener,
            funding: OutPoint { txid: Txid::from_byte_array([peer; 32]), vout: 0 },
            amount: Sat(CAPACITY / 1000),
            push: Msat(100_000_000),
            channel_type,
            terms: Sides { local: terms.clone(), remote: terms },
            basepoints: Sides { local: ours.points(), remote: theirs.points() },
        };
        let mirrored = ChannelParams {
            opener: !opener,
            terms: params.terms.clone().swap(),
            basepoints: params.basepoints.clone().swap(),
            ..params.clone()
        };
        let constants = Constants::new(params.clone()).expect("a good channel");
        let mirrored = Constants::new(mirrored).expect("a good channel");
        Self { peer: them, number, ours, theirs, params, constants, mirrored }
    }
    pub fn keys(&self, side: Side) -> &Keys {
        if side == Side::Local { &self.ours } else { &self.theirs }
    }
    pub fn point(&self, side: Side, number: u64) -> Point {
        let secret = self.keys(side).secret(CommitmentNumber(number));
        secret.expect("a small number has a secret").public_key(SECP256K1)
    }
    /// What the peer signs for our commitment.
    pub fn signed_by_peer(&self, state: &CommitmentState) -> Option<CommitmentSignatures> {
        let htlcs = state.htlcs.0.iter();
        let htlcs = htlcs.map(|h| Htlc { offered_by: !h.offered_by, ..h.clone() }).collect();
        let mirrored = CommitmentState {
            side: !state.side,
            balance: state.balance.swap(),
            htlcs: Long(htlcs),
            ..state.clone()
        };
        self.theirs.sign(&self.mirrored, &mirrored)
    }
    pub fn built(&self, state: &CommitmentState) -> Option<Commitment> {
        let basepoints = &self.params.basepoints;
        let keys = CommitmentKeys::derive(basepoints, state.side, &state.point);
        build(&self.constants, keys, state).ok()
    }
}
