//! Two ends of one channel for tests: real keys, real transactions, no signatures.

use crate::channel::Channel;
use crate::commitment::build;
use crate::constants::Constants;
use crate::keys::{CommitmentKeys, commitment_secret};
use primitives::*;
use secp256k1::SECP256K1;
use std::cell::RefCell;
use std::collections::HashMap;
use wire::channel_data::*;
use wire::channeld::{FeePolicy, HtlcPolicy, Offer};
use wire::{Long, OnionPacket, UpdateAddHtlc};

pub(crate) const AMOUNT: Sat = Sat(1_000_000);
pub(crate) const FEERATE: FeeratePerKw = FeeratePerKw(1000);

pub(crate) fn policy() -> HtlcPolicy {
    HtlcPolicy { max_dust_exposure: Msat(u64::MAX), max_offered: 483, commit_time_ms: 10 }
}
pub(crate) fn any_fee() -> FeePolicy {
    FeePolicy { target: FEERATE, min: FeeratePerKw(0), max: FeeratePerKw(u32::MAX) }
}

pub(crate) fn terms() -> Terms {
    Terms {
        dust_limit: Sat(546),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(10_000),
        htlc_minimum: Msat(0),
        to_self_delay: 6,
        max_accepted_htlcs: 483,
    }
}

/// The seed of each end's secrets. `Local` is the first end.
pub(crate) fn seed(end: Side) -> Secret<32> {
    Secret::new(match end {
        Side::Local => [0x11; 32],
        Side::Remote => [0x22; 32],
    })
}
pub(crate) fn secret(end: Side, number: u64) -> SecretKey {
    commitment_secret(&seed(end), CommitmentNumber(number)).unwrap()
}
pub(crate) fn point(end: Side, number: u64) -> Point {
    Point::from_secret_key(SECP256K1, &secret(end, number))
}
pub(crate) fn base_secret(end: Side, which: u8) -> SecretKey {
    let start = match end {
        Side::Local => 0x30,
        Side::Remote => 0x40,
    };
    SecretKey::from_slice(&[start + which; 32]).unwrap()
}

pub(crate) fn params(anchors: bool) -> ChannelParams {
    let mut channel_type = Features::none().with(feature::STATIC_REMOTEKEY);
    if anchors {
        channel_type = channel_type.with(feature::ANCHORS);
    }
    ChannelParams {
        opener: Side::Local,
        funding: OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([9; 32]), vout: 1 },
        amount: AMOUNT,
        push: Msat(300_000_000),
        channel_type,
        terms: Sides { local: terms(), remote: terms() },
        basepoints: Sides::from_fn(|end| {
            let key = |which| Point::from_secret_key(SECP256K1, &base_secret(end, which));
            Basepoints {
                funding: key(0),
                revocation: key(1),
                payment: key(2),
                delayed_payment: key(3),
                htlc: key(4),
            }
        }),
    }
}

pub(crate) fn signatures(count: usize) -> CommitmentSignatures {
    let one = Signature::from_compact(&[1; 64]).unwrap();
    CommitmentSignatures { signature: one, htlcs: vec![one; count] }
}

/// A channel as openingd leaves it, with `channel_ready` exchanged, seen from the first end.
pub(crate) fn opened(params: ChannelParams) -> ChannelState {
    let constants = Constants::new(params.clone()).unwrap();
    ChannelState {
        balance: constants.first_balance(),
        params,
        next_htlc_id: Sides::default(),
        htlcs: Long(vec![]),
        fees: Long(vec![FeeChange { feerate: FEERATE, stage: Stage::Irrevocable }]),
        commitment: Sides::default(),
        revoked: Sides::default(),
        remote_point: point(Side::Remote, 0),
        remote_next_point: Some(point(Side::Remote, 1)),
        remote_secrets: Long(vec![]),
        local_signatures: signatures(0),
        last_sent: LastSent::Neither,
    }
}

/// The same, seen from the other end.
pub(crate) fn mirrored(state: &ChannelState) -> ChannelState {
    assert!(state.htlcs.0.is_empty() && state.commitment.local.0 == 0);
    let p = &state.params;
    ChannelState {
        params: ChannelParams {
            opener: !p.opener,
            terms: p.terms.clone().swap(),
            basepoints: p.basepoints.clone().swap(),
            ..p.clone()
        },
        balance: state.balance.swap(),
        remote_point: point(Side::Local, 0),
        remote_next_point: Some(point(Side::Local, 1)),
        ..state.clone()
    }
}

pub(crate) fn pair(params: ChannelParams) -> (Channel, Channel) {
    let first = opened(params);
    let second = mirrored(&first);
    (Channel::new(first).unwrap(), Channel::new(second).unwrap())
}

pub(crate) fn preimage(n: u64) -> Preimage {
    Preimage([n as u8; 32])
}
pub(crate) fn offer(n: u64, amount: Msat) -> Offer {
    Offer {
        key: n,
        amount,
        payment_hash: preimage(n).hash(),
        expiry: BlockHeight(500 + n as u32),
        onion: OnionPacket(Box::new([n as u8; 1366])),
        path_key: None,
    }
}
/// As it is said to the peer.
pub(crate) fn said(live: &LiveHtlc) -> UpdateAddHtlc {
    UpdateAddHtlc {
        channel_id: ChannelId([0; 32]),
        id: live.htlc.id,
        amount: live.htlc.amount,
        payment_hash: live.htlc.payment_hash,
        cltv_expiry: live.htlc.expiry,
        onion: live.onion.clone(),
        path_key: live.path_key,
    }
}

/// The keys of a side's commitment with this point, and the base keys that they come from.
type Derived = HashMap<(Side, Point), (Sides<Basepoints>, CommitmentKeys)>;

thread_local! {
    static KEYS: RefCell<Derived> = RefCell::default();
}

/// The keys of a commitment. Link tests build each commitment after every step: most of their time
/// was the derivation of keys that they had derived before.
fn derived(basepoints: &Sides<Basepoints>, side: Side, point: Point) -> CommitmentKeys {
    let known = KEYS.with_borrow(|keys| keys.get(&(side, point)).cloned());
    if let Some((of, keys)) = known
        && of == *basepoints
    {
        return keys;
    }
    let keys = CommitmentKeys::derive(basepoints, side, &point);
    KEYS.with_borrow_mut(|all| all.insert((side, point), (basepoints.clone(), keys.clone())));
    keys
}

/// What a commitment comes to: its txid and number of HTLC outputs.
pub(crate) fn built(channel: &Channel, state: &CommitmentState) -> (Txid, usize) {
    let constants = channel.constants();
    let keys = derived(&constants.params.basepoints, state.side, state.point);
    let built = build(constants, keys, state).unwrap();
    let spent: u64 = built.tx.output.iter().map(|o| o.value.to_sat()).sum();
    assert!(spent <= constants.params.amount.0);
    (built.tx.compute_txid(), built.htlcs.len())
}

/// `from` signs for `to`, and `to` revokes: one exchange, both ways out.
pub(crate) fn commit(from: &Channel, to: &Channel, to_end: Side) -> (Channel, Channel) {
    let (from, state) = from.send_commit().unwrap();
    let (txid, count) = built(&from, &state);
    let number = to.commitment().local.0 + 1;
    let (to, mine) = to.receive_commit(point(to_end, number), signatures(count)).unwrap();
    assert_eq!(built(&to, &mine).0, txid);
    let (to, revoked, _) = to.send_revocation().unwrap();
    let (from, _) =
        from.receive_revocation(&secret(to_end, revoked.0), point(to_end, revoked.0 + 2)).unwrap();
    (from, to)
}

/// Commits both ways until nothing is left to commit.
pub(crate) fn settle(mut a: Channel, mut b: Channel) -> (Channel, Channel) {
    while a.can_commit() || b.can_commit() {
        if a.can_commit() {
            (a, b) = commit(&a, &b, Side::Remote);
        }
        if b.can_commit() {
            (b, a) = commit(&b, &a, Side::Local);
        }
    }
    (a, b)
}
