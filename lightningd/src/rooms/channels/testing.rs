//! Channels for tests: rows and values as openings leave them, and what their daemons would ask.

use crate::rooms::channels::state::{Cause, State, StateTrust};
use crate::rooms::channels::{Channel, Owner, Totals, store};
use primitives::*;
use rusqlite::Connection;
use secp256k1::SECP256K1;
use std::sync::atomic::{AtomicU64, Ordering};
use wire::channel_data::*;
use wire::{Long, OnionPacket};

/// Some point, another for each number.
pub fn point(n: u8) -> Point {
    Point::from_secret_key(SECP256K1, &SecretKey::from_slice(&[n; 32]).unwrap())
}

/// A peer's id.
pub fn peer(n: u8) -> NodeId {
    NodeId(point(n).serialize())
}

/// The name that a channel of this number has.
pub fn alias(number: u64) -> ShortChannelId {
    ShortChannelId(0x0a00_0000_0000_0000 | number)
}

fn state(number: u64) -> ChannelState {
    let n = number as u8;
    let terms = Terms {
        dust_limit: Sat(546),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(10_000),
        htlc_minimum: Msat(0),
        to_self_delay: 6,
        max_accepted_htlcs: 483,
    };
    let base = |n: u8| Basepoints {
        funding: point(n),
        revocation: point(n + 1),
        payment: point(n + 2),
        delayed_payment: point(n + 3),
        htlc: point(n + 4),
    };
    let signature = Signature::from_compact(&[1; 64]).unwrap();
    ChannelState {
        params: ChannelParams {
            opener: Side::Local,
            funding: OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([n; 32]), vout: 0 },
            amount: Sat(1_000_000),
            push: Msat(0),
            channel_type: Features::none().with(feature::STATIC_REMOTEKEY),
            terms: Sides { local: terms.clone(), remote: terms },
            basepoints: Sides { local: base(20), remote: base(40) },
        },
        balance: Sides { local: Msat(500_000_000), remote: Msat(500_000_000) },
        next_htlc_id: Sides::default(),
        htlcs: Long(vec![]),
        fees: Long(vec![FeeChange { feerate: FeeratePerKw(1000), stage: Stage::Irrevocable }]),
        commitment: Sides::default(),
        revoked: Sides::default(),
        remote_point: point(60),
        remote_next_point: Some(point(61)),
        remote_secrets: Long(vec![]),
        local_signatures: CommitmentSignatures { signature, htlcs: vec![] },
        last_sent: LastSent::Neither,
    }
}

/// A channel that carries payments, as a row.
pub fn insert(db: &Connection, number: u64, with: u8) {
    let live = state(number);
    let channel = Channel {
        number: ChannelNumber(number),
        peer: peer(with),
        id: ChannelId([number as u8; 32]),
        state: State::Normal,
        announce: false,
        minimum_depth: 0,
        initial_feerate: FeeratePerKw(1000),
        alias_local: alias(number),
        alias_remote: None,
        scid: None,
        ready: Sides { local: true, remote: true },
        shutdown: Sides::default(),
        shutdown_at: None,
        closing_begun: false,
        upfront: Sides::default(),
        announcement_remote: None,
        funding_tx: None,
        funding_height: None,
        was_in_block: false,
        first_height: BlockHeight(1),
        closer: None,
        close_tx: None,
        spend: None,
        cause: Cause::Unknown,
        reason: String::new(),
        trust: StateTrust::Verified,
        close_by: None,
        close_asked: false,
        close_feerange: None,
        withheld: false,
        to_us_range: (live.balance.local, live.balance.local),
        totals: Totals::default(),
        peeled: Default::default(),
        decided: Default::default(),
        own_policy: Default::default(),
        owner: Owner::Nobody,
        served_connection: None,
        spoken_on: None,
        put_off_on: None,
        reestablished: false,
        status: (String::new(), None),
        changes: vec![],
        last_stable: None,
        live,
    };
    store::insert(db, &channel).unwrap();
}

/// An onion that no other HTLC has.
fn fresh_onion() -> OnionPacket {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [7; 1366];
    bytes[1358..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    OnionPacket(Box::new(bytes))
}

/// An HTLC whose addition has come so far.
pub fn htlc(
    offered_by: Side,
    (id, key): (u64, u64),
    (amount, expiry): (u64, u32),
    hash: PaymentHash,
    added: Stage,
) -> LiveHtlc {
    LiveHtlc {
        htlc: Htlc {
            offered_by,
            id: HtlcId(id),
            amount: Msat(amount),
            payment_hash: hash,
            expiry: BlockHeight(expiry),
        },
        onion: fresh_onion(),
        path_key: None,
        key,
        added,
        removed: None,
        in_remote_from: None,
        in_remote_until: None,
    }
}

/// A step that changes nothing yet.
pub fn step(live: &ChannelState) -> ChannelChange {
    ChannelChange {
        balance: live.balance,
        next_htlc_id: live.next_htlc_id,
        added: Long(vec![]),
        moved: Long(vec![]),
        settled: Long(vec![]),
        fees: None,
        commitment: live.commitment,
        revoked: live.revoked,
        remote_point: live.remote_point,
        remote_next_point: live.remote_next_point,
        remote_secrets: Long(vec![]),
        local_signatures: None,
        last_sent: live.last_sent,
    }
}

/// A step that adds this one.
pub fn adds(live: &ChannelState, htlc: LiveHtlc) -> ChannelChange {
    let mut change = step(live);
    change.next_htlc_id[htlc.htlc.offered_by] = HtlcId(htlc.htlc.id.0 + 1);
    change.added.0.push(htlc);
    change
}

/// A step that moves this one.
pub fn moves(live: &ChannelState, htlc: &LiveHtlc) -> ChannelChange {
    let mut change = step(live);
    change.moved.0.push(MovedHtlc {
        offered_by: htlc.htlc.offered_by,
        id: htlc.htlc.id,
        added: htlc.added,
        removed: htlc.removed.clone(),
        in_remote_from: None,
        in_remote_until: None,
    });
    change
}

/// A step that ends this one.
pub fn settles(live: &ChannelState, htlc: &LiveHtlc) -> ChannelChange {
    let mut change = step(live);
    let by = htlc.htlc.offered_by;
    if let Some(StagedRemoval { removal: Removal::Fulfilled { .. }, .. }) = htlc.removed {
        change.balance[by].0 -= htlc.htlc.amount.0;
        change.balance[!by].0 += htlc.htlc.amount.0;
    }
    change.settled.0.push((by, htlc.htlc.id));
    change
}
