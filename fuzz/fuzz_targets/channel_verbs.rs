//! One channel between us, who keep to its verbs, and a peer that says anything: no step makes a
//! state that contradicts itself, loses money, or cannot be built.

use crate::input::Input;
use crate::sides::{basepoints, point, secret};
use channel::commitment::build;
use channel::keys::CommitmentKeys;
use channel::{Channel, Constants};
use primitives::*;
use std::sync::LazyLock;
use wire::channel_data::*;
use wire::channeld::{FeePolicy, HtlcPolicy, Offer};
use wire::{ChannelReestablish, Long, OnionPacket, UpdateAddHtlc};

fn signatures(input: &mut Input<'_>, right: usize) -> Option<CommitmentSignatures> {
    let count = if input.byte()? % 8 == 0 { usize::from(input.byte()?) } else { right };
    let one = *ONE;
    Some(CommitmentSignatures { signature: one, htlcs: vec![one; count] })
}

static ONE: LazyLock<Signature> =
    LazyLock::new(|| Signature::from_compact(&[1; 64]).expect("any small numbers"));

fn preimage(n: u8) -> Preimage {
    Preimage([n; 32])
}

fn opened(flags: u8) -> Channel {
    let bits: &[FeatureBit] = if flags & 1 == 0 { &[12] } else { &[12, 22] };
    let terms = Terms {
        dust_limit: Sat(546),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(1000),
        htlc_minimum: Msat(0),
        to_self_delay: 6,
        max_accepted_htlcs: if flags & 4 == 0 { 483 } else { 3 },
    };
    let params = ChannelParams {
        opener: if flags & 2 == 0 { Side::Local } else { Side::Remote },
        funding: OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([9; 32]), vout: 0 },
        amount: Sat(100_000),
        push: Msat(40_000_000),
        channel_type: bits.iter().fold(Features::none(), |f, b| f.with(*b)),
        terms: Sides { local: terms.clone(), remote: terms },
        basepoints: basepoints(),
    };
    let balance = Constants::new(params.clone()).expect("ours").first_balance();
    let state = ChannelState {
        params,
        balance,
        next_htlc_id: Sides::default(),
        htlcs: Long(vec![]),
        fees: Long(vec![FeeChange { feerate: FeeratePerKw(1000), stage: Stage::Irrevocable }]),
        commitment: Sides::default(),
        revoked: Sides::default(),
        remote_point: point(Side::Remote, 0),
        remote_next_point: Some(point(Side::Remote, 1)),
        remote_secrets: Long(vec![]),
        local_signatures: CommitmentSignatures { signature: *ONE, htlcs: vec![] },
        last_sent: LastSent::Neither,
    };
    Channel::new(state).expect("ours")
}

fn must_build(channel: &Channel, state: &CommitmentState) -> usize {
    let constants = channel.constants();
    let keys = CommitmentKeys::derive(&constants.params.basepoints, state.side, &state.point);
    let built = build(constants, keys, state).expect("what is signed can be built");
    let paid: u64 = built.tx.output.iter().map(|o| o.value.to_sat()).sum();
    assert!(paid <= constants.params.amount.0);
    built.htlcs.len()
}

/// One step: the next channel, if the step was allowed.
fn onion() -> OnionPacket {
    OnionPacket(Box::new([0; 1366]))
}

/// What a verb came to: the channel after it, or `None` where it was refused. The outer `None` ends
/// the run: the input is used up.
type Verb = Option<Option<Channel>>;

fn offers(channel: &Channel, policy: &HtlcPolicy, input: &mut Input<'_>) -> Verb {
    let n = input.byte()?;
    let offer = Offer {
        key: 1,
        amount: Msat(input.number()?),
        payment_hash: preimage(n).hash(),
        expiry: BlockHeight(500 + u32::from(n)),
        onion: onion(),
        path_key: None,
    };
    Some(channel.offer_add(&offer, policy).ok().map(|(c, _)| c))
}

fn receives(channel: &Channel, input: &mut Input<'_>) -> Verb {
    let n = input.byte()?;
    let right = channel.htlcs().filter(|h| h.htlc.offered_by == Side::Remote).count() as u64;
    let id = if n % 8 == 0 { input.number()? } else { input.number()? % 4 + right };
    let add = UpdateAddHtlc {
        channel_id: ChannelId([0; 32]),
        id: HtlcId(id),
        amount: Msat(input.number()?),
        payment_hash: preimage(n).hash(),
        cltv_expiry: BlockHeight(if n % 16 == 1 { input.number()? as u32 } else { 600 }),
        onion: onion(),
        path_key: None,
    };
    Some(channel.receive_add(&add).ok())
}

fn receives_commitment(channel: &Channel, input: &mut Input<'_>) -> Verb {
    let point = point(Side::Local, channel.commitment().local.0 + 1);
    // How many signatures are right shows when they are not.
    let right = match channel.receive_commit(point, signatures(input, 1000)?) {
        Err(channel::PeerFault::SignatureCount { expected, .. }) => expected,
        Ok(_) | Err(_) => 0,
    };
    let signatures = signatures(input, right)?;
    Some(channel.receive_commit(point, signatures).ok().map(|(next, state)| {
        assert_eq!(must_build(&next, &state), next.local_signatures().htlcs.len());
        next
    }))
}

/// The connection ends, and a new one begins with any `channel_reestablish`.
fn comes_back(channel: &Channel, input: &mut Input<'_>) -> Option<Channel> {
    let back = channel.after_disconnect();
    let theirs = ChannelReestablish {
        channel_id: ChannelId([0; 32]),
        next_commitment_number: input.number()?,
        next_revocation_number: input.number()?,
        your_last_per_commitment_secret: [3; 32],
        my_current_per_commitment_point: point(Side::Remote, 0),
        next_funding: None,
        my_current_funding_locked: None,
    };
    let _ = back.reestablish(&theirs, input.byte()? % 2 == 0);
    Some(back)
}

fn step(channel: &Channel, input: &mut Input<'_>) -> Verb {
    let policy =
        HtlcPolicy { max_dust_exposure: Msat(5_000_000), max_offered: 30, commit_time_ms: 0 };
    let fees =
        FeePolicy { target: FeeratePerKw(1000), min: FeeratePerKw(253), max: FeeratePerKw(20_000) };
    let next = match input.byte()? % 15 {
        0 => offers(channel, &policy, input)?,
        1 => receives(channel, input)?,
        2 => {
            let (id, n) = (HtlcId(input.number()?), input.byte()?);
            channel.offer_removal(id, Removal::Fulfilled { preimage: preimage(n) }).ok()
        }
        3 => {
            let id = HtlcId(input.number()?);
            channel.offer_removal(id, Removal::Failed { reason: vec![1] }).ok()
        }
        4 => {
            let (id, n) = (HtlcId(input.number()?), input.byte()?);
            channel.receive_fulfill(id, preimage(n)).ok()
        }
        5 => channel.receive_fail(HtlcId(input.number()?), &[7; 10]).ok(),
        6 => {
            let (id, code) = (HtlcId(input.number()?), input.number()? as u16);
            channel.receive_fail_malformed(id, Sha256Digest([0; 32]), code).ok()
        }
        7 => channel.offer_fee(FeeratePerKw(input.number()? as u32), &policy).ok(),
        8 => channel.receive_fee(FeeratePerKw(input.number()? as u32), &fees, &policy).ok(),
        9 | 10 => channel.send_commit().ok().map(|(next, state)| {
            must_build(&next, &state);
            next
        }),
        11 => receives_commitment(channel, input)?,
        12 => channel.send_revocation().ok().map(|(next, ..)| next),
        13 => {
            let number = channel.revoked().remote.0;
            let which = if input.byte()? % 8 == 0 { input.number()? & 0xffff } else { number };
            let next_point = point(Side::Remote, number + 2);
            channel.receive_revocation(&secret(Side::Remote, which), next_point).ok().map(|r| r.0)
        }
        _ => Some(comes_back(channel, input)?),
    };
    Some(next)
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(flags) = input.byte() else { return };
    let mut channel = opened(flags);
    let total = channel.constants().params.amount.msat();
    for _ in 0..200 {
        let Some(next) = step(&channel, &mut input) else { return };
        let Some(next) = next else { continue };
        let balance = next.balance();
        assert_eq!(balance.local.0 + balance.remote.0, total.0, "money is neither made nor lost");
        let stored = Channel::new(next.storable()).expect("what is stored can be read again");
        assert_eq!(stored, next.after_disconnect());
        let change = channel::diff(&channel, &next);
        assert_eq!(channel::apply(channel.storable(), &change), next.storable());
        let _ = (next.spendable(), next.receivable());
        channel = next;
    }
}
