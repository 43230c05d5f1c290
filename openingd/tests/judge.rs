//! The judge over arbitrary numbers: what it lets pass makes a channel, and it always has an
//! answer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use channel::opening::agreement::{Agreement, FundedAgreement, PartyTerms, Proposal};
use channel::opening::judge::Negotiated;
use common::scenes::*;
use common::*;
use primitives::*;
use proptest::prelude::*;
use std::sync::LazyLock;
use wire::channel_data::{CommitmentSignatures, Terms};
use wire::*;

fn negotiated() -> Negotiated {
    Negotiated {
        network: Network::Regtest,
        features: Sides { local: features(), remote: features() },
        policy: policy(),
        temporary_id: TEMPORARY,
    }
}

/// Numbers near what matters, and any others.
fn number(near: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (near.saturating_sub(near / 4))..=near.saturating_add(near / 4),
        1 => Just(0u64),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
        1 => any::<u64>().prop_map(|n| n >> 40),
    ]
}
prop_compose! {
    fn terms()(
        dust in number(546), in_flight in number(1_000_000_000), reserve in number(10_000),
        minimum in number(1000), delay in number(144), htlcs in number(483),
    ) -> Terms {
        Terms {
            dust_limit: Sat(dust),
            max_in_flight: Msat(in_flight),
            reserve: Sat(reserve),
            htlc_minimum: Msat(minimum),
            to_self_delay: delay as u16,
            max_accepted_htlcs: htlcs as u16,
        }
    }
}

/// What has passed must be buildable, affordable, and a state that channeld can live with.
fn must_be_sound(agreement: Agreement) {
    let funded = FundedAgreement::new(agreement, funding()).unwrap();
    for side in Side::BOTH {
        let built = funded.transaction(side).unwrap();
        let paid: u64 = built.tx.output.iter().map(|o| o.value.to_sat()).sum();
        let fee = funded.params().amount.0 - paid;
        // The whole fee is there; beyond it nothing is lost but dust and an anchor.
        assert!(fee >= built.tally.fee.0);
        assert!(built.to_local.is_some() || built.to_remote.is_some());
    }
    let signature = Signature::from_compact(&[1; 64]).unwrap();
    let state = funded.state(CommitmentSignatures { signature, htlcs: vec![] });
    let channel = channel::Channel::new(state).unwrap();
    assert_eq!(channel.storable().params, *funded.params());
}

#[test]
fn commitment_that_can_be_bumped_may_pay_less() {
    let mut negotiated = negotiated();
    negotiated.policy.min_feerate = FeeratePerKw(15_000);
    let open = |channel_type: Features| {
        let proposal = Proposal { channel_type, ..proposal() };
        let open = proposal.open_channel(Network::Regtest, TEMPORARY, &THEIR_TERMS);
        negotiated.judge_open(&open).map_err(|e| e.to_string())
    };
    assert!(open(anchors()).is_ok());
    let refused = open(Features::compulsory(&[feature::STATIC_REMOTEKEY])).unwrap_err();
    assert!(refused.contains("feerate_per_kw 2500 is below 15000"), "{refused}");
}

/// Made once: multiplying points takes longer than any case.
static OUR_TERMS: LazyLock<PartyTerms> = LazyLock::new(|| OURS.party());
static THEIR_TERMS: LazyLock<PartyTerms> = LazyLock::new(|| THEIRS.party());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn open_that_passes_makes_a_sound_channel(
        amount in number(1_000_000), push in number(100_000_000), feerate in number(2500), terms in terms(),
        channel_flags: u8, anchors_too: bool,
    ) {
        let mut party = THEIR_TERMS.clone();
        party.terms = terms;
        let mut proposal = proposal();
        (proposal.amount, proposal.push) = (Sat(amount), Msat(push));
        proposal.feerate = FeeratePerKw(feerate as u32);
        if !anchors_too {
            proposal.channel_type = Features::compulsory(&[feature::STATIC_REMOTEKEY]);
        }
        let mut open = proposal.open_channel(Network::Regtest, TEMPORARY, &party);
        open.channel_flags = channel_flags;
        let open = OpenChannel::take_body(&open.encode()[2..]).unwrap();
        let negotiated = negotiated();
        match negotiated.judge_open(&open) {
            Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
            Ok((proposal, theirs)) => {
                prop_assert_eq!(&theirs, &party);
                let reserve = negotiated.our_reserve(proposal.amount, Some(&theirs));
                prop_assert!(reserve >= theirs.terms.dust_limit && reserve >= policy().terms.dust_limit);
                let local = PartyTerms { terms: Terms { reserve, ..policy().terms }, ..OUR_TERMS.clone() };
                let parties = Sides { local, remote: theirs };
                let agreement = Agreement { opener: Side::Remote, proposal, parties };
                match negotiated.judge_together(&agreement) {
                    Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
                    Ok(()) => must_be_sound(agreement),
                }
            }
        }
    }

    #[test]
    fn accept_that_passes_makes_a_sound_channel(terms in terms(), minimum_depth: u32) {
        let mut party = THEIR_TERMS.clone();
        party.terms = terms;
        let negotiated = negotiated();
        let accept = proposal().accept_channel(TEMPORARY, minimum_depth, &party);
        match negotiated.judge_accept(&proposal(), &OUR_TERMS, &accept) {
            Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
            Ok(remote) => {
                let parties = Sides { local: OUR_TERMS.clone(), remote };
                let agreement = Agreement { opener: Side::Local, proposal: proposal(), parties };
                match negotiated.judge_together(&agreement) {
                    Err(refusal) => prop_assert!(!refusal.to_string().is_empty()),
                    Ok(()) => must_be_sound(agreement),
                }
            }
        }
    }
}

/// An honest message with these bytes changed and others behind it: whatever a peer may send.
fn bent(honest: &[u8], changes: &[(usize, u8)], tail: &[u8]) -> Vec<u8> {
    let mut body = honest.get(2..).unwrap_or_default().to_vec();
    for (at, byte) in changes {
        let at = at % body.len();
        body[at] = *byte;
    }
    body.extend_from_slice(tail);
    body
}

/// One TLV of this type, of this many equal bytes.
fn tlv(kind: u8, byte: u8, len: u16) -> Vec<u8> {
    [&[kind, 0xfd][..], &len.to_be_bytes(), &vec![byte; len.into()]].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The error that answers it, whatever it is.
    #[test]
    fn refusal_is_short_whatever_the_peer_sends(
        accept: bool,
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        script in proptest::option::of((any::<u8>(), 253u16..)),
        kind in proptest::option::of((any::<u8>(), 253u16..)),
        no_tlvs: bool,
    ) {
        let mut tail = Vec::new();
        if let Some((byte, len)) = script {
            tail.extend(tlv(0, byte, len));
        }
        if let Some((byte, len)) = kind {
            tail.extend(tlv(1, byte, len));
        }
        let mut open = proposal().open_channel(Network::Regtest, TEMPORARY, &THEIR_TERMS);
        let mut answer = proposal().accept_channel(TEMPORARY, 3, &THEIR_TERMS);
        if !no_tlvs || !tail.is_empty() {
            (open.upfront_shutdown_script, open.channel_type) = (None, None);
            (answer.upfront_shutdown_script, answer.channel_type) = (None, None);
        }
        let text = if accept {
            match AcceptChannel::take_body(&bent(&answer.encode(), &changes, &tail)) {
                Ok(m) => negotiated().judge_accept(&proposal(), &OUR_TERMS, &m).err().map(|e| e.to_string()),
                Err(e) => Some(channel::opening::Refusal::Malformed(e).to_string()),
            }
        } else {
            match OpenChannel::take_body(&bent(&open.encode(), &changes, &tail)) {
                Ok(m) => negotiated().judge_proposal(&m).err().map(|e| e.to_string()),
                Err(e) => Some(channel::opening::Refusal::Malformed(e).to_string()),
            }
        };
        let len = text.map_or(0, |t| t.len());
        prop_assert!(len <= channel::opening::MAX_TEXT, "{len}");
    }

    /// lightningd judges before it has an openingd: neither refuses what the other takes.
    #[test]
    fn proposal_is_judged_alike_before_and_by_openingd(
        amount in number(1_000_000), push in number(100_000_000), feerate in number(2500), terms in terms(),
    ) {
        let party = PartyTerms { terms, ..THEIR_TERMS.clone() };
        let proposal = Proposal { amount: Sat(amount), push: Msat(push), feerate: FeeratePerKw(feerate as u32), ..proposal() };
        let open = proposal.open_channel(Network::Regtest, TEMPORARY, &party);
        let negotiated = negotiated();
        let by_openingd = negotiated.judge_open(&open).and_then(|(proposal, theirs)| {
            let theirs = negotiated.binding(theirs);
            let reserve = negotiated.our_reserve(proposal.amount, Some(&theirs));
            let local = PartyTerms { terms: Terms { reserve, ..policy().terms }, ..OUR_TERMS.clone() };
            let parties = Sides { local, remote: theirs };
            negotiated.judge_together(&Agreement { opener: Side::Remote, proposal: proposal.clone(), parties })?;
            Ok(proposal)
        });
        prop_assert_eq!(negotiated.judge_proposal(&open), by_openingd);
    }
}
