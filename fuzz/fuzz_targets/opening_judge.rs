//! The law of openings: bytes as `open_channel` or `accept_channel`. What passes makes a channel
//! that can be built.

use channel::opening::MAX_TEXT;
use channel::opening::agreement::{Agreement, FundedAgreement, Proposal, PartyTerms};
use channel::opening::judge::Negotiated;
use primitives::*;
use secp256k1::SECP256K1;
use std::sync::LazyLock;
use wire::channel_data::*;
use wire::openingd::OpeningPolicy;
use wire::{AcceptChannel, FundingCreated, Message, OpenChannel};

const TEMPORARY: ChannelId = ChannelId([0x77; 32]);

static NEGOTIATED: LazyLock<Negotiated> = LazyLock::new(|| {
    let features = Features::optional(&[
        feature::STATIC_REMOTEKEY,
        feature::ANCHORS,
        feature::UPFRONT_SHUTDOWN_SCRIPT,
        feature::SHUTDOWN_ANYSEGWIT,
        feature::LARGE_CHANNELS,
        feature::SCID_ALIAS,
        feature::ZEROCONF,
    ]);
    Negotiated {
        network: Network::Regtest,
        features: Sides { local: features.clone(), remote: features },
        policy: OpeningPolicy {
            terms: PARTY.terms.clone(),
            minimum_depth: 3,
            min_feerate: FeeratePerKw(253),
            min_anchors_feerate: FeeratePerKw(253),
            max_feerate: FeeratePerKw(50_000),
            max_to_self_delay: 2016,
            min_capacity: Sat(10_000),
            max_dust_limit: Sat(1062),
            max_dust_exposure: Msat(50_000_000),
            large_channels: true,
        },
        temporary_id: TEMPORARY,
    }
});
static PARTY: LazyLock<PartyTerms> = LazyLock::new(|| {
    let point = |n: u8| SecretKey::from_slice(&[n; 32]).expect("a key").public_key(SECP256K1);
    PartyTerms {
        terms: Terms {
            dust_limit: Sat(546),
            max_in_flight: Msat(u64::MAX),
            reserve: Sat(10_000),
            htlc_minimum: Msat(0),
            to_self_delay: 144,
            max_accepted_htlcs: 483,
        },
        basepoints: Basepoints {
            funding: point(1),
            revocation: point(2),
            payment: point(3),
            delayed_payment: point(4),
            htlc: point(5),
        },
        first_point: point(6),
        upfront_script: None,
    }
});

fn proposal() -> Proposal {
    Proposal {
        amount: Sat(1_000_000),
        push: Msat(1000),
        feerate: FeeratePerKw(2500),
        announce: true,
        channel_type: Features::compulsory(&[feature::STATIC_REMOTEKEY, feature::ANCHORS]),
    }
}

/// Judged together, and if that is well: built.
fn settle(agreement: Agreement) {
    if NEGOTIATED.judge_together(&agreement).is_err() {
        return;
    }
    let funding = OutPoint { txid: bitcoin::hashes::Hash::from_byte_array([3; 32]), vout: 0 };
    let funded = FundedAgreement::new(agreement, funding).expect("what passes is a channel");
    for side in Side::BOTH {
        funded.transaction(side).expect("what passes can be built");
    }
    let signature = Signature::from_compact(&[1; 64]).expect("any small numbers");
    let state = funded.state(CommitmentSignatures { signature, htlcs: vec![] });
    channel::Channel::new(state).expect("what passes can be lived with");
}

/// An honest message's body with its bytes changed by these, but for the keys: so the numbers are
/// what is tried, and no bytes at all are an honest peer.
fn bent(honest: &[u8], first_key: usize, change: &[u8]) -> Vec<u8> {
    let mut body = honest[2..].to_vec();
    let skipped = body.splice(first_key..first_key + 6 * 33, []).collect::<Vec<u8>>();
    for (at, mask) in change.iter().enumerate() {
        match body.get_mut(at) {
            Some(byte) => *byte ^= mask,
            None => body.push(*mask),
        }
    }
    body.splice(first_key..first_key, skipped);
    body
}

pub fn run(data: &[u8]) {
    let Some((mode, body)) = data.split_first() else { return };
    match mode % 3 {
        0 => {
            let honest = proposal().open_channel(Network::Regtest, TEMPORARY, &PARTY).encode();
            let body = bent(&honest, 32 + 32 + 48 + 4 + 2 + 2, body);
            let Ok(open) = OpenChannel::take_body(&body) else { return };
            if let Err(refusal) = NEGOTIATED.judge_proposal(&open) {
                assert!(refusal.to_string().len() <= MAX_TEXT, "an error to a peer is short");
            }
            let Ok((proposal, remote)) = NEGOTIATED.judge_open(&open) else { return };
            let reserve = NEGOTIATED.our_reserve(proposal.amount, Some(&remote));
            let local = PartyTerms { terms: Terms { reserve, ..PARTY.terms.clone() }, ..PARTY.clone() };
            settle(Agreement { opener: Side::Remote, proposal, parties: Sides { local, remote } });
        }
        1 => {
            let honest = proposal().accept_channel(TEMPORARY, 3, &PARTY).encode();
            let body = bent(&honest, 32 + 32 + 4 + 2 + 2, body);
            let Ok(accept) = AcceptChannel::take_body(&body) else { return };
            let Ok(remote) = NEGOTIATED.judge_accept(&proposal(), &PARTY, &accept) else { return };
            let parties = Sides { local: PARTY.clone(), remote };
            settle(Agreement { opener: Side::Local, proposal: proposal(), parties });
        }
        _ => {
            let Ok(created) = FundingCreated::take_body(body) else { return };
            if let Ok(funding) = NEGOTIATED.judge_funding(&created) {
                assert_ne!(ChannelId::from_funding(&funding), ChannelId::ALL);
            }
        }
    }
}
