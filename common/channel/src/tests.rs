//! The verbs, one by one; and every refusal.

use crate::testing::*;
use crate::*;
use primitives::*;
use wire::channel_data::*;
use wire::channeld::{FeePolicy, HtlcPolicy, OfferRefusal};
use wire::{ChannelReestablish, UpdateAddHtlc};

mod dust;
mod link;

/// Two ends with one HTLC of each, irrevocable.
fn busy() -> (Channel, Channel) {
    let (a, b) = pair(params(true));
    let (a, id_a) = a.offer_add(&offer(1, Msat(50_000_000)), &policy()).unwrap();
    let (b, id_b) = b.offer_add(&offer(2, Msat(20_000_000)), &policy()).unwrap();
    let (a_said, b_said) =
        (said(a.htlc(Side::Local, id_a).unwrap()), said(b.htlc(Side::Local, id_b).unwrap()));
    settle(a.receive_add(&b_said).unwrap(), b.receive_add(&a_said).unwrap())
}

fn add(amount: u64) -> UpdateAddHtlc {
    let (a, _) = pair(params(true));
    let (a, id) = a.offer_add(&offer(1, Msat(50_000_000)), &policy()).unwrap();
    UpdateAddHtlc { amount: Msat(amount), ..said(a.htlc(Side::Local, id).unwrap()) }
}

#[test]
fn payment_moves_money_when_its_fulfilment_is_irrevocable() {
    let (a, b) = busy();
    assert_eq!(a.balance(), Sides { local: Msat(700_000_000), remote: Msat(300_000_000) });
    let live = a.htlc(Side::Local, HtlcId(0)).unwrap();
    assert_eq!((live.added, live.in_remote_from), (Stage::Irrevocable, Some(CommitmentNumber(1))));

    let b = b.offer_removal(HtlcId(0), Removal::Fulfilled { preimage: preimage(1) }).unwrap();
    let a = a.receive_fulfill(HtlcId(0), preimage(1)).unwrap();
    let b2 = b.offer_removal(HtlcId(0), Removal::Failed { reason: vec![1] });
    assert_eq!(b2, Err(RemovalRefusal::Already { id: HtlcId(0) }));
    let a = a.offer_removal(HtlcId(0), Removal::Failed { reason: vec![7] }).unwrap();
    let b = b.receive_fail(HtlcId(0), &[7]).unwrap();
    let (a, b) = settle(a, b);
    assert!(a.is_quiet() && b.is_quiet());
    assert_eq!(a.balance(), Sides { local: Msat(650_000_000), remote: Msat(350_000_000) });
    assert_eq!(b.balance(), a.balance().swap());
}

#[test]
fn refusal_of_an_offer_says_what_would_do() {
    let (a, _) = pair(params(true));
    let try_offer = |a: &Channel, amount: u64, policy: &HtlcPolicy| {
        a.offer_add(&offer(1, Msat(amount)), policy).map(|(_, id)| id)
    };
    assert_eq!(try_offer(&a, 0, &policy()), Err(OfferRefusal::BelowMinimum { minimum: Msat(1) }));
    // 700,000 sat less 10,000 reserve, 660 anchors and the doubled fee of two HTLCs: 2000 * (1124 +
    // 344) / 1000.
    let spendable = Msat((700_000 - 10_000 - 660 - 2936) * 1000);
    assert_eq!(a.spendable(), spendable);
    assert_eq!(
        try_offer(&a, spendable.0 + 1, &policy()),
        Err(OfferRefusal::Unaffordable { spendable })
    );
    assert!(try_offer(&a, spendable.0, &policy()).is_ok());
    let late = wire::channeld::Offer { expiry: BlockHeight(500_000_000), ..offer(1, Msat(1000)) };
    assert_eq!(a.offer_add(&late, &policy()).map(|_| ()), Err(OfferRefusal::BadExpiry));
    let careful = HtlcPolicy { max_dust_exposure: Msat(545_999), ..policy() };
    assert!(try_offer(&a, 545_999, &careful).is_ok());
    let (one, _) = a.offer_add(&offer(1, Msat(1)), &careful).unwrap();
    let refused = OfferRefusal::DustExposure { maximum: Msat(545_999) };
    assert_eq!(try_offer(&one, 545_999, &careful), Err(refused));
    assert!(try_offer(&one, 546_000, &careful).is_ok());

    let mut p = params(true);
    p.terms.remote.htlc_minimum = Msat(5000);
    p.terms.remote.max_in_flight = Msat(9000);
    p.terms.remote.max_accepted_htlcs = 1;
    let (a, _) = pair(p);
    assert_eq!(
        try_offer(&a, 4999, &policy()),
        Err(OfferRefusal::BelowMinimum { minimum: Msat(5000) })
    );
    let maximum = Msat(9000);
    assert_eq!(try_offer(&a, 9001, &policy()), Err(OfferRefusal::AboveMaxInFlight { maximum }));
    assert_eq!(a.spendable(), Msat(9000));
    let (a, _) = a.offer_add(&offer(1, Msat(5000)), &policy()).unwrap();
    assert_eq!(try_offer(&a, 5000, &policy()), Err(OfferRefusal::TooManyHtlcs { maximum: 1 }));
    assert_eq!(a.spendable(), Msat(0));
    let none = HtlcPolicy { max_offered: 0, ..policy() };
    assert_eq!(try_offer(&a, 5000, &none), Err(OfferRefusal::TooManyHtlcs { maximum: 0 }));
}

#[test]
fn accepter_is_held_to_its_reserve_and_the_openers_fees() {
    let (a, b) = pair(params(true));
    assert_eq!(b.spendable(), Msat(290_000_000));
    assert_eq!(a.receivable(), Msat(290_000_000));
    assert!(b.offer_add(&offer(1, Msat(290_000_001)), &policy()).is_err());
    // An opener that can pay for no HTLC output more: only dust may be offered to it.
    let mut p = params(true);
    p.push = Msat((1_000_000 - 10_000 - 660 - 1124) * 1000);
    let (_, b) = pair(p);
    assert_eq!(b.spendable(), Msat(545_999));
    assert!(b.offer_add(&offer(1, Msat(545_999)), &policy()).is_ok());
    assert!(b.offer_add(&offer(1, Msat(546_000)), &policy()).is_err());
}

#[test]
fn unlawful_add_is_refused_with_both_values() {
    let mut p = params(true);
    p.terms.remote.htlc_minimum = Msat(5000);
    p.terms.remote.max_in_flight = Msat(600_000_000);
    p.terms.remote.max_accepted_htlcs = 1;
    let (_, b) = pair(p);
    let minimum = Msat(5000);
    let refuse = |add: &UpdateAddHtlc, fault: PeerFault| {
        assert_eq!(b.receive_add(add), Err(fault.clone()));
        assert_eq!(fault.law(), "BOLT 2, update_add_htlc");
        assert!(!fault.to_string().is_empty());
    };
    refuse(&add(0), PeerFault::AmountTooSmall { amount: Msat(0), minimum });
    refuse(&add(4999), PeerFault::AmountTooSmall { amount: Msat(4999), minimum });
    let expiry = BlockHeight(500_000_000);
    refuse(&UpdateAddHtlc { cltv_expiry: expiry, ..add(5000) }, PeerFault::Expiry { expiry });
    let (id, expected) = (HtlcId(1), HtlcId(0));
    refuse(&UpdateAddHtlc { id, ..add(5000) }, PeerFault::HtlcId { id, expected });
    let (in_flight, maximum) = (Msat(600_000_001), Msat(600_000_000));
    refuse(&add(in_flight.0), PeerFault::TooMuchInFlight { in_flight, maximum });
    refuse(&add(u64::MAX), PeerFault::TooMuchInFlight { in_flight: Msat(u64::MAX), maximum });
    let b = b.receive_add(&add(5000)).unwrap();
    let second = UpdateAddHtlc { id: HtlcId(1), ..add(5000) };
    assert_eq!(b.receive_add(&second), Err(PeerFault::TooManyHtlcs { count: 2, maximum: 1 }));
}

#[test]
fn opener_may_spend_its_buffer_not_reserve_fee_or_anchors() {
    let (_, b) = pair(params(true));
    // The law: reserve, anchors, and the fee of one HTLC at the feerate as it is.
    let needed = Sat(10_000 + 660 + 1124 + 172);
    let most = (700_000 - needed.0) * 1000;
    assert!(b.receive_add(&add(most)).is_ok());
    let left = Msat(needed.0 * 1000 - 1);
    let refused = PeerFault::Unaffordable { amount: Msat(most + 1), left, needed };
    assert_eq!(b.receive_add(&add(most + 1)), Err(refused));
    assert!(b.receive_add(&add(u64::MAX)).is_err());
}

#[test]
fn unlawful_removal_is_refused() {
    let (a, b) = busy();
    let id = HtlcId(0);
    let none = HtlcId(9);
    assert_eq!(a.receive_fulfill(none, preimage(1)), Err(PeerFault::NoSuchHtlc { id: none }));
    let payment_hash = preimage(1).hash();
    assert_eq!(a.receive_fulfill(id, preimage(3)), Err(PeerFault::Preimage { id, payment_hash }));
    let malformed = a.receive_fail_malformed(id, Sha256Digest([0; 32]), 0x4005);
    assert_eq!(malformed, Err(PeerFault::NotBadOnion { id, failure_code: 0x4005 }));
    let once = a.receive_fail_malformed(id, Sha256Digest([0; 32]), 0xc005).unwrap();
    assert_eq!(once.receive_fail(id, &[]), Err(PeerFault::AlreadyRemoved { id }));
    let (a, _) = a.offer_add(&offer(3, Msat(1_000_000)), &policy()).unwrap();
    let (id, stage) = (HtlcId(1), Stage::PendingOnReceiver);
    assert_eq!(a.receive_fail(id, &[]), Err(PeerFault::TooEarly { id, stage }));

    let fail = || Removal::Failed { reason: vec![] };
    assert_eq!(b.offer_removal(none, fail()), Err(RemovalRefusal::Unknown { id: none }));
    let wrong = Removal::Fulfilled { preimage: preimage(3) };
    let refused = RemovalRefusal::Preimage { id: HtlcId(0), payment_hash };
    assert_eq!(b.offer_removal(HtlcId(0), wrong), Err(refused));
    let more = said(a.htlc(Side::Local, id).unwrap());
    let b = b.receive_add(&more).unwrap();
    assert_eq!(b.offer_removal(id, fail()), Err(RemovalRefusal::TooEarly { id, stage }));
}

#[test]
fn reason_without_end_is_cut() {
    let (a, _) = busy();
    let a = a.receive_fail(HtlcId(0), &[1; 65_000]).unwrap();
    let removed = &a.htlc(Side::Local, HtlcId(0)).unwrap().removed;
    let Some(StagedRemoval { removal: Removal::Failed { reason }, .. }) = removed else {
        panic!("no failure")
    };
    assert_eq!(reason.len(), MAX_REASON);
}

#[test]
fn feerate_is_set_only_by_the_opener_within_its_means() {
    let (a, b) = pair(params(true));
    assert_eq!(b.offer_fee(FeeratePerKw(2000), &policy()), Err(FeeRefusal::NotOpener));
    let fault = a.receive_fee(FeeratePerKw(2000), &any_fee(), &policy());
    assert_eq!(fault, Err(PeerFault::FeeNotYours));
    let unchanged = FeeRefusal::Unchanged { feerate: FEERATE };
    assert_eq!(a.offer_fee(FEERATE, &policy()), Err(unchanged));

    let bounds = FeePolicy { target: FEERATE, min: FeeratePerKw(253), max: FeeratePerKw(5000) };
    let (min, max) = (bounds.min, bounds.max);
    for feerate in [FeeratePerKw(252), FeeratePerKw(5001)] {
        let refused = PeerFault::FeeOutOfBounds { feerate, min, max };
        assert_eq!(b.receive_fee(feerate, &bounds, &policy()), Err(refused));
    }
    // The estimates went away from what is in force: what follows them a little is not refused.
    let (up, down) = (FeeratePerKw(FEERATE.0 + 500), FeeratePerKw(FEERATE.0 - 500));
    for (taken, refused, min, max) in [
        (up, down, FeeratePerKw(FEERATE.0 + 1000), FeeratePerKw(u32::MAX)),
        (down, up, FeeratePerKw(1), FeeratePerKw(FEERATE.0 - 900)),
    ] {
        let bounds = FeePolicy { target: FEERATE, min, max };
        assert!(b.receive_fee(taken, &bounds, &policy()).is_ok());
        let fault = PeerFault::FeeOutOfBounds { feerate: refused, min, max };
        assert_eq!(b.receive_fee(refused, &bounds, &policy()), Err(fault));
    }
    // 700,000 - 10,000 - 660 = 689,340 sat for 1124 weight.
    let most = FeeratePerKw(613_292);
    assert_eq!(a.affordable_feerate(FeeratePerKw(u32::MAX), &policy()), Some(most));
    assert!(
        a.offer_fee(most, &policy()).is_ok() && b.receive_fee(most, &any_fee(), &policy()).is_ok()
    );
    let feerate = FeeratePerKw(most.0 + 1);
    let (balance, needed) = (Msat(700_000_000), Sat(700_001));
    let refused = FeeRefusal::Unaffordable { feerate, balance, needed };
    assert_eq!(a.offer_fee(feerate, &policy()), Err(refused));
    let refused = PeerFault::FeeUnaffordable { feerate, balance, needed };
    assert_eq!(b.receive_fee(feerate, &any_fee(), &policy()), Err(refused));

    let (a, b) = settle(
        a.offer_fee(FeeratePerKw(2000), &policy()).unwrap(),
        b.receive_fee(FeeratePerKw(2000), &any_fee(), &policy()).unwrap(),
    );
    assert_eq!((a.feerate(), b.feerate()), (FeeratePerKw(2000), FeeratePerKw(2000)));
    assert!(a.is_quiet() && b.is_quiet());
}

#[test]
fn signing_waits_for_updates_and_for_the_revocation_before() {
    let (a, b) = pair(params(true));
    assert_eq!(a.send_commit().map(|_| ()), Err(CommitRefusal::NothingToCommit));
    assert_eq!(a.send_revocation().map(|_| ()), Err(CommitRefusal::NothingToRevoke));
    let (a, _) = a.offer_add(&offer(1, Msat(50_000_000)), &policy()).unwrap();
    let (a, state) = a.send_commit().unwrap();
    assert_eq!(
        (state.side, state.number, state.htlcs.0.len()),
        (Side::Remote, CommitmentNumber(1), 1)
    );
    assert!(a.awaits_revocation());
    let (a, _) = a.offer_add(&offer(2, Msat(1_000_000)), &policy()).unwrap();
    assert_eq!(a.send_commit().map(|_| ()), Err(CommitRefusal::AwaitingRevocation));

    let mut state = b.storable();
    state.remote_next_point = None;
    let early = Channel::new(state).unwrap();
    let (early, _) = early.offer_add(&offer(1, Msat(1_000_000)), &policy()).unwrap();
    assert_eq!(early.send_commit().map(|_| ()), Err(CommitRefusal::NoPoint));
    assert!(early.receive_ready(point(Side::Local, 1)).send_commit().is_ok());
}

#[test]
fn unlawful_signature_or_revocation_is_refused() {
    let (a, b) = pair(params(true));
    let (a, id) = a.offer_add(&offer(1, Msat(50_000_000)), &policy()).unwrap();
    let b = b.receive_add(&said(a.htlc(Side::Local, id).unwrap())).unwrap();
    let (a, _) = a.send_commit().unwrap();
    let p = point(Side::Remote, 1);
    for got in [0, 2] {
        let refused = PeerFault::SignatureCount { got, expected: 1 };
        assert_eq!(b.receive_commit(p, signatures(got)).map(|_| ()), Err(refused));
    }
    let (b, _) = b.receive_commit(p, signatures(1)).unwrap();
    let number = CommitmentNumber(2);
    let again = b.receive_commit(p, signatures(1)).map(|_| ());
    assert_eq!(again, Err(PeerFault::CommitmentTooEarly { number }));

    let next = point(Side::Remote, 2);
    let number = CommitmentNumber(0);
    let wrong = a.receive_revocation(&secret(Side::Remote, 1), next).map(|_| ());
    assert_eq!(wrong, Err(PeerFault::WrongSecret { number }));
    let (a, done) = a.receive_revocation(&secret(Side::Remote, 0), next).unwrap();
    assert!(done.added.is_empty());
    let number = CommitmentNumber(1);
    let unasked = a.receive_revocation(&secret(Side::Remote, 1), next).map(|_| ());
    assert_eq!(unasked, Err(PeerFault::RevocationUnasked { number }));
}

#[test]
fn secret_that_is_not_of_the_chain_is_refused() {
    let (a, b) = busy();
    // The second end gives a point for its number 3 whose secret is of another seed.
    let foreign = secret(Side::Local, 77);
    let foreign_point = Point::from_secret_key(secp256k1::SECP256K1, &foreign);
    let mut state = a.storable();
    let number = state.revoked.remote;
    assert_eq!(number, CommitmentNumber(2));
    state.remote_next_point = Some(foreign_point);
    let mut a = Channel::new(state).unwrap();
    for n in [3, 4] {
        (a, _) = a.offer_add(&offer(n, Msat(1_000_000)), &policy()).unwrap();
        (a, _) = a.send_commit().unwrap();
        let secret = if n == 3 { secret(Side::Remote, 2) } else { foreign };
        let judged = a.receive_revocation(&secret, point(Side::Remote, n + 1));
        match judged {
            Ok((next, _)) => a = next,
            Err(fault) => {
                assert_eq!(
                    (n, fault),
                    (4, PeerFault::NotOfTheChain { number: CommitmentNumber(3) })
                );
                return;
            }
        }
    }
    panic!("{b:?} revoked with a foreign secret");
}

#[test]
fn empty_commitment_is_accepted_once_and_not_twice() {
    let (_, b) = pair(params(true));
    let (b, _) = b.receive_commit(point(Side::Remote, 1), signatures(0)).unwrap();
    let (b, _, _) = b.send_revocation().unwrap();
    let number = CommitmentNumber(2);
    let again = b.receive_commit(point(Side::Remote, 2), signatures(0)).map(|_| ());
    assert_eq!(again, Err(PeerFault::EmptyCommitment { number }));
}

#[test]
fn uncommitted_updates_are_forgotten_with_the_connection() {
    let (a, b) = busy();
    let before = a.clone();
    let (a, _) = a.offer_add(&offer(5, Msat(1_000_000)), &policy()).unwrap();
    let a = a.receive_fulfill(HtlcId(0), preimage(1)).unwrap();
    let a = a.offer_fee(FeeratePerKw(3000), &policy()).unwrap();
    assert!(!a.is_quiet() && a != before);
    assert_eq!(a.after_disconnect(), before);
    assert_eq!(Channel::new(a.storable()).unwrap(), before);
    assert_eq!(diff(&before, &a), diff(&before, &before));
    drop(b);
}

fn reestablish(next_commitment: u64, next_revocation: u64, secret: [u8; 32]) -> ChannelReestablish {
    ChannelReestablish {
        channel_id: ChannelId([0; 32]),
        next_commitment_number: next_commitment,
        next_revocation_number: next_revocation,
        your_last_per_commitment_secret: secret,
        my_current_per_commitment_point: point(Side::Local, 0),
        next_funding: None,
        my_current_funding_locked: None,
    }
}

#[test]
fn peer_with_old_data_new_data_or_lies_is_told_apart() {
    use Reestablished::{Nothing, TheyAreBehind, TheyLie, WeAreBehind};
    let a = {
        // One more each way, so that both have revoked two.
        let (a, b) = busy();
        let (b, _) = b.offer_add(&offer(3, Msat(20_000_000)), &policy()).unwrap();
        settle(a.receive_add(&said(b.htlc(Side::Local, HtlcId(1)).unwrap())).unwrap(), b).0
    };
    let (signed, revoked) = (a.commitment().remote.0, a.revoked().local.0);
    assert_eq!((signed, revoked), (3, 2));
    let s = [1; 32];
    assert_eq!(a.reestablish(&reestablish(4, 2, s), true), Nothing);
    assert!(matches!(a.reestablish(&reestablish(4, 3, s), true), WeAreBehind { .. }));
    assert!(matches!(a.reestablish(&reestablish(9, 9, s), true), WeAreBehind { .. }));
    assert!(matches!(a.reestablish(&reestablish(3, 2, s), true), TheyAreBehind { .. }));
    assert!(matches!(a.reestablish(&reestablish(1, 0, [0; 32]), false), TheyAreBehind { .. }));
    let lie = |r, holds, what, got, expected| {
        let fault = PeerFault::Reestablish { what, got, expected };
        assert_eq!(a.reestablish(&r, holds), TheyLie(fault));
    };
    lie(reestablish(0, 2, s), true, "next_commitment_number", 0, 4);
    lie(reestablish(5, 2, s), true, "next_commitment_number", 5, 4);
    lie(reestablish(4, u64::MAX, s), true, "next_revocation_number", u64::MAX, 2);
    lie(reestablish(4, 0, s), true, "your_last_per_commitment_secret for number 0", 1, 0);
    for next in [2, 3] {
        let number = CommitmentNumber(next - 1);
        let judged = a.reestablish(&reestablish(4, next, s), false);
        assert_eq!(judged, TheyLie(PeerFault::ReestablishSecret { number }));
    }
    // A revocation that got lost.
    let again = Resend::Revocation { number: CommitmentNumber(1) };
    assert_eq!(a.reestablish(&reestablish(4, 1, s), true), Reestablished::Resend(vec![again]));
}

#[test]
fn channel_ready_is_said_again_until_the_first_commitment() {
    let (a, _) = pair(params(true));
    assert!(a.channel_ready_again(&reestablish(1, 0, [0; 32])));
    assert!(!a.channel_ready_again(&reestablish(2, 0, [0; 32])));
    let (a, _) = busy();
    assert!(!a.channel_ready_again(&reestablish(1, 0, [0; 32])));
    assert_eq!(a.our_numbers().next_commitment_number, 2);
    let last = Secret::new(secret(Side::Remote, 1).secret_bytes());
    assert_eq!(a.our_numbers().your_last_per_commitment_secret, last);
}

#[test]
fn order_of_a_resend_is_that_of_the_first_time() {
    for revocation_first in [false, true] {
        let (a, b) = pair(params(true));
        let (a, id) = a.offer_add(&offer(1, Msat(50_000_000)), &policy()).unwrap();
        let (b, id_b) = b.offer_add(&offer(2, Msat(20_000_000)), &policy()).unwrap();
        let a = a.receive_add(&said(b.htlc(Side::Local, id_b).unwrap())).unwrap();
        let b = b.receive_add(&said(a.htlc(Side::Local, id).unwrap())).unwrap();
        let (_, count) = built(&b, &b.send_commit().unwrap().1);
        let p = point(Side::Local, 1);
        let a = if revocation_first {
            let (a, _) = a.receive_commit(p, signatures(count)).unwrap();
            a.send_revocation().unwrap().0.send_commit().unwrap().0
        } else {
            let (a, _) = a.send_commit().unwrap();
            a.receive_commit(p, signatures(count)).unwrap().0.send_revocation().unwrap().0
        };
        let a = Channel::new(a.storable()).unwrap();
        let Reestablished::Resend(steps) = a.reestablish(&reestablish(1, 0, [0; 32]), false) else {
            panic!("both were lost")
        };
        let revoked_first = matches!(steps[0], Resend::Revocation { .. });
        assert_eq!((steps.len(), revoked_first), (2, revocation_first));
    }
}

#[test]
fn stored_states_that_contradict_themselves_are_refused() {
    let (a, _) = busy();
    let refused = |change: &dyn Fn(&mut ChannelState)| {
        let mut state = a.storable();
        change(&mut state);
        Channel::new(state).is_err()
    };
    assert!(!refused(&|_| {}));
    assert!(refused(&|s| s.balance.local.0 += 1));
    assert!(refused(&|s| s.fees.0.clear()));
    assert!(refused(&|s| s.fees.0[0].stage = Stage::InSenders));
    assert!(refused(&|s| s.commitment.remote.0 += 2));
    assert!(refused(&|s| s.commitment.remote = CommitmentNumber(u64::MAX)));
    assert!(refused(&|s| s.htlcs.0[0].htlc.amount = Msat(700_000_001)));
    assert!(refused(&|s| s.htlcs.0[0].htlc.expiry = BlockHeight(500_000_000)));
    assert!(refused(&|s| s.htlcs.0[0].added = Stage::InReceivers));
    assert!(refused(&|s| s.htlcs.0.push(s.htlcs.0[0].clone())));
    assert!(refused(&|s| s.next_htlc_id.local = HtlcId(0)));
    assert!(refused(&|s| s.params.channel_type = Features::none()));
    assert!(refused(&|s| s.params.push = Msat(u64::MAX)));
    assert!(refused(&|s| s.remote_secrets.0.push(s.remote_secrets.0[0].clone())));
}

#[test]
fn largest_channel_fits_a_frame() {
    let mut state = busy().0.storable();
    let mut live = state.htlcs.0[0].clone();
    let reason = vec![1; MAX_REASON];
    live.removed =
        Some(StagedRemoval { removal: Removal::Failed { reason }, stage: Stage::InReceivers });
    state.htlcs.0 = vec![live; 4 * MAX_HTLCS];
    assert!(wire::Wire::to_bytes(&state).len() < wire::MAX_FRAME);
}
