//! What trimming may cost, verb by verb.

use super::*;

#[test]
fn feerate_that_burns_too_much_dust_is_refused_where_it_trims() {
    let htlc = offer(1, Msat(2_000_000));
    let careful = HtlcPolicy { max_dust_exposure: Msat(1_999_999), ..policy() };
    for anchors in [false, true] {
        let (a, b) = pair(params(anchors));
        let (a, id) = a.offer_add(&htlc, &careful).unwrap();
        let b = b.receive_add(&said(a.htlc(Side::Local, id).unwrap())).unwrap();
        let (a, b) = settle(a, b);
        assert!(!b.is_overexposed(id, &careful));
        let feerate = FeeratePerKw(5000);
        let (dust, maximum) = (Msat(2_000_000), careful.max_dust_exposure);
        let offered = a.offer_fee(feerate, &careful).map(|_| ());
        let received = b.receive_fee(feerate, &any_fee(), &careful).map(|_| ());
        if anchors {
            assert_eq!((offered, received), (Ok(()), Ok(())));
        } else {
            assert_eq!(offered, Err(FeeRefusal::DustExposure { dust, maximum }));
            assert_eq!(received, Err(PeerFault::FeeDustExposure { feerate, dust, maximum }));
        }
        let one = HtlcPolicy { max_dust_exposure: Msat(1), ..policy() };
        let (a, id) = a.offer_add(&offer(2, Msat(10_000)), &policy()).unwrap();
        let b = b.receive_add(&said(a.htlc(Side::Local, id).unwrap())).unwrap();
        assert!(!b.is_overexposed(id, &one), "it is the peer's alone before it is irrevocable");
        let (_, b) = settle(a, b);
        assert!(b.is_overexposed(id, &one) && !b.is_overexposed(id, &policy()));
    }
}

/// BOLT 2, max_dust_htlc_exposure_msat: the peer, who has not acknowledged our HTLCs yet, raises
/// the feerate so that they lose their outputs.
#[test]
fn dust_exposure_counts_htlcs_that_await_their_revocation() {
    let careful = HtlcPolicy { max_dust_exposure: Msat(50_000_000), ..policy() };
    let (_, mut us) = pair(params(false));
    for n in 1..=3 {
        (us, _) = us.offer_add(&offer(n, Msat(20_000_000)), &careful).unwrap();
    }
    let (us, state) = us.send_commit().unwrap();
    assert_eq!(built(&us, &state).1, 3, "all have outputs");
    let (feerate, maximum) = (FeeratePerKw(50_000), careful.max_dust_exposure);
    let refused = PeerFault::FeeDustExposure { feerate, dust: Msat(60_000_000), maximum };
    assert_eq!(us.receive_fee(feerate, &any_fee(), &careful), Err(refused));
    assert!(us.receive_fee(FeeratePerKw(2000), &any_fee(), &careful).is_ok());
}

/// BOLT 2, max_dust_htlc_exposure_msat: the limit was lowered, or is another than what the state
/// was made with.
#[test]
fn commitment_above_the_dust_limit_is_not_signed() {
    let careful = HtlcPolicy { max_dust_exposure: Msat(50_000_000), ..policy() };
    let (_, us) = pair(params(true));
    let (loose, _) = us.offer_add(&offer(1, Msat(545_000)), &policy()).unwrap();
    let (next, _) = loose.send_commit().unwrap();
    let tight = HtlcPolicy { max_dust_exposure: Msat(544_999), ..careful };
    let (dust, maximum) = (Msat(545_000), tight.max_dust_exposure);
    assert_eq!(next.may_bind(&us, &tight), Err(PeerFault::DustExposure { dust, maximum }));
    assert_eq!(next.may_bind(&us, &careful), Ok(()));
    // What counts already is no worse for being signed again.
    assert_eq!(next.may_bind(&next, &tight), Ok(()));
}

/// BOLT 2, max_dust_htlc_exposure_msat: a balance without an output is lost like an HTLC without
/// one.
#[test]
fn dust_exposure_counts_our_own_balance_below_the_dust_limit() {
    let careful = HtlcPolicy { max_dust_exposure: Msat(1_000_000), ..policy() };
    let mut p = params(true);
    p.push = Msat(500_000);
    p.terms.remote.reserve = Sat(0);
    let (peer, us) = pair(p);
    let (peer, id) = peer.offer_add(&offer(1, Msat(500_001)), &policy()).unwrap();
    let us = us.receive_add(&said(peer.htlc(Side::Local, id).unwrap())).unwrap();
    let (_, us) = settle(peer, us);
    assert!(us.is_overexposed(id, &careful));
    let exactly = HtlcPolicy { max_dust_exposure: Msat(1_000_001), ..policy() };
    assert!(!us.is_overexposed(id, &exactly));
}

/// With nothing of our own in the channel the HTLC that exceeds the limit is failed, and not
/// accepted and then never signed.
#[test]
fn dust_htlc_above_the_limit_is_refused_without_our_balance() {
    let careful = HtlcPolicy { max_dust_exposure: Msat(1_000_000), ..policy() };
    let mut p = params(true);
    p.push = Msat(0);
    let (mut peer, mut us) = pair(p);
    let mut ids = vec![];
    for (n, amount) in [(1, 540_000), (2, 440_000), (3, 30_000)] {
        let (next, id) = peer.offer_add(&offer(n, Msat(amount)), &policy()).unwrap();
        us = us.receive_add(&said(next.htlc(Side::Local, id).unwrap())).unwrap();
        let before = us.clone();
        (peer, us) = settle(next, us);
        let refused = us.is_overexposed(id, &careful);
        assert_eq!(refused, n == 3, "HTLC {n}");
        if !refused {
            assert_eq!(us.may_bind(&before, &careful), Ok(()), "HTLC {n}");
        }
        ids.push(id);
    }
    let removal = Removal::Failed { reason: vec![] };
    let us_failing = us.offer_removal(ids[2], removal).unwrap();
    assert_eq!(us_failing.may_bind(&us, &careful), Ok(()));
}

/// An opener that raises the feerate by a quarter fails no channel whose other end is as careful.
#[test]
fn dust_exposure_leaves_room_for_a_higher_feerate() {
    let careful = HtlcPolicy { max_dust_exposure: Msat(2_000_000), ..policy() };
    let (_, us) = pair(params(false));
    // Trimmed in our commitment below 546 + 663 sat, at a quarter more below 546 + 828 sat; in the
    // peer's a little more.
    let (us, _) = us.offer_add(&offer(1, Msat(1_300_000)), &careful).unwrap();
    let maximum = careful.max_dust_exposure;
    let refused = us.offer_add(&offer(2, Msat(1_300_000)), &careful).map(|_| ());
    assert_eq!(refused, Err(OfferRefusal::DustExposure { maximum }));
    let (us, _) = us.offer_add(&offer(2, Msat(1_430_000)), &careful).unwrap();
    assert!(us.receive_fee(FeeratePerKw(1250), &any_fee(), &careful).is_ok());
}
