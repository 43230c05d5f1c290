//! HTLCs and feerates between two channelds.

use super::link::{all, numbers};
use super::master::{Death, Decide};
use super::rig::*;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use primitives::*;
use wire::OnionPacket;
use wire::channel_data::*;
use wire::channeld::*;
use wire::hsm::OnionKeys;
use wire::{CommitmentSigned, UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc};

#[test]
fn payments_go_both_ways() {
    let pair = Pair::normal(&Wish::default());
    pair.pay(Side::Local, 1, Msat(50_000_000));
    pair.pay(Side::Remote, 2, Msat(20_000_000));
    for side in Side::BOTH {
        pair.master(side).until("its payment is fulfilled", |rows| rows.settled.len() == 2);
        assert_eq!(pair.master(side).rows().learned.len(), 1);
    }
    pair.until_quiet();
    let balance = pair.master(Side::Local).rows().state.balance;
    assert_eq!(balance, Sides { local: Msat(570_000_000), remote: Msat(430_000_000) });
}

#[test]
fn channels_without_anchors_carry_payments_too() {
    let pair = Pair::normal(&Wish { anchors: false, ..Wish::default() });
    pair.pay(Side::Local, 1, Msat(50_000_000));
    pair.pay(Side::Local, 2, Msat(50_000));
    pair.master(Side::Local).until("both are fulfilled", |rows| rows.settled.len() == 2);
    pair.until_quiet();
}

#[test]
fn payment_asks_lightningd_four_times_to_the_preimage_of_eight() {
    let mut pair = Pair::ready(&Wish::default());
    // What comes together may come apart on a busy machine.
    for side in Side::BOTH {
        pair.nodes[side].init.policy.commit_time_ms = 20_000;
        pair.master(side).rows().persists = 0;
    }
    pair.reconnect();
    pair.until_normal();
    pair.pay(Side::Local, 1, Msat(50_000_000));
    pair.master(Side::Local).until("it settles", |rows| rows.settled.len() == 1);
    pair.until_quiet();
    let (payer, payee) = (pair.master(Side::Local).rows(), pair.master(Side::Remote).rows());
    // Two of the payer, and two of the payee: its own commitment with the fulfilment nobody waits
    // for.
    assert_eq!(payer.persists_before_preimage, [2]);
    assert_eq!((payer.persists, payee.persists), (4, 4));
}

#[test]
fn preimage_is_sent_before_the_next_commitment_is_stored() {
    let mut pair = Pair::normal(&Wish::default());
    // After a payment the peers do not say channel_ready again, which is a question of its own.
    pair.pay(Side::Local, 9, Msat(50_000_000));
    pair.master(Side::Local).until("it is settled", |rows| rows.settled.len() == 1);
    pair.until_quiet();
    pair.disconnect();
    for side in Side::BOTH {
        pair.nodes[side].init.policy.commit_time_ms = 20_000;
    }
    pair.reconnect();
    pair.until_normal();
    // The payment as it comes in takes two; the third would be the payee's own signature on what
    // removes it.
    pair.master(Side::Remote).rows().death = Some(Death::Before(2));
    pair.pay(Side::Local, 1, Msat(50_000_000));
    pair.master(Side::Local).until("the preimage is there", |rows| rows.learned.len() == 2);
    pair.disconnect();
    pair.reconnect();
    pair.until_normal();
    pair.master(Side::Local).until("it settles", |rows| rows.settled.len() == 2);
    pair.until_quiet();
}

#[test]
fn offers_that_can_be_read_together_are_committed_together() {
    let pair = Pair::normal(&Wish::default());
    let payer = pair.master(Side::Local);
    for key in 0..100 {
        pair.know(Side::Local, key);
    }
    {
        // No ask is answered while we hold the rows: all but the first find each other in the
        // socket.
        let rows = payer.rows();
        for key in 0..100 {
            rows.order(&pair.an_offer(Side::Local, key, Msat(1_000_000)));
        }
    }
    payer.until("all are fulfilled", |rows| rows.settled.len() == 100);
    pair.until_quiet();
    let said = &pair.link.as_ref().unwrap().said;
    let kinds = numbers(said, Side::Local);
    assert_eq!(kinds.iter().filter(|kind| **kind == 128).count(), 100);
    let signed = all::<CommitmentSigned>(said, Side::Local);
    let largest = signed.iter().map(|m| m.htlc_signatures.len()).max();
    assert!(largest >= Some(99), "{largest:?}");
    // Adds do not take a commitment each, nor do fulfilments.
    assert!(signed.len() < 20, "{}", signed.len());
    let keys: Vec<_> = payer.rows().settled.iter().map(|live| live.key).collect();
    assert_eq!(keys.len(), 100);
}

#[test]
fn full_channel_refuses_the_next_and_loses_none() {
    let mut pair = Pair::ready(&Wish::default());
    pair.master(Side::Remote).rows().decide = Decide::Hold;
    pair.reconnect();
    pair.until_normal();
    for key in 0..484 {
        pair.pay(Side::Local, key, Msat(600_000));
    }
    let payer = pair.master(Side::Local);
    payer.until("the last is refused", |rows| !rows.refused.is_empty());
    let why = OfferRefusal::TooManyHtlcs { maximum: 483 };
    assert_eq!(payer.rows().refused, [OfferRefused { key: 483, why }]);
    let payee = pair.master(Side::Remote);
    payee.until("all are there", |rows| rows.peeled.len() == 483);
    {
        let rows = payee.rows();
        for id in 0..483 {
            let removal = Removal::Fulfilled { preimage: preimage(id) };
            rows.order_removal(HtlcId(id), &removal);
        }
    }
    payer.until("all are fulfilled", |rows| rows.settled.len() == 483);
    pair.until_quiet();
}

#[test]
fn unknown_payment_fails_back_with_a_reason() {
    let pair = Pair::normal(&Wish::default());
    pair.offer(Side::Local, 1, Msat(50_000_000));
    let payer = pair.master(Side::Local);
    payer.until("it comes back", |rows| rows.settled.len() == 1);
    pair.until_quiet();
    let said = &pair.link.as_ref().unwrap().said;
    let [fail] = &all::<UpdateFailHtlc>(said, Side::Remote)[..] else { panic!() };
    let settled = payer.rows().settled[0].clone();
    assert_eq!(settled.removed.unwrap().removal, Removal::Failed { reason: fail.reason.clone() });
    assert_eq!(fail.reason.len(), 292);
    assert_eq!(payer.rows().state.balance.local, Msat(600_000_000));
}

#[test]
fn onion_that_cannot_be_read_is_failed_as_malformed() {
    let pair = Pair::normal(&Wish::default());
    let mut garbled = pair.an_offer(Side::Local, 1, Msat(50_000_000));
    garbled.onion.0[1000] ^= 1;
    let mut no_key = pair.an_offer(Side::Local, 2, Msat(50_000_000));
    no_key.onion.0[1] = 9;
    let payer = pair.master(Side::Local);
    payer.order(&garbled);
    payer.order(&no_key);
    payer.until("both come back", |rows| rows.settled.len() == 2);
    pair.until_quiet();
    let said = &pair.link.as_ref().unwrap().said;
    for (m, (offer, code)) in all::<UpdateFailMalformedHtlc>(said, Side::Remote)
        .iter()
        .zip([(&garbled, 0xc005), (&no_key, 0xc006)])
    {
        let sha = onion::sha256_of_onion(offer.onion.0.as_slice());
        assert_eq!((m.failure_code, m.sha256_of_onion), (code, sha));
    }
    let sides: Vec<_> = payer.rows().settled.iter().map(|l| l.removed.clone()).collect();
    assert!(matches!(&sides[0], Some(StagedRemoval { removal: Removal::Malformed { .. }, .. })));
}

/// An onion for the second node that is authentic, and holds no payload.
fn authentic_nonsense(pair: &Pair, payment_hash: &PaymentHash) -> OnionPacket {
    let session = SecretKey::from_slice(&[0x44; 32]).unwrap();
    let ephemeral = Point::from_secret_key(secp256k1::SECP256K1, &session);
    let node = pair.nodes.remote.secrets.id.point().unwrap();
    let keys: OnionKeys = onion::onion_keys(&onion::shared_secret(&node, &session), &ephemeral);
    for filler in 0..=255u8 {
        let mut info = [0x5a; 1300];
        info[0] = filler;
        let mut engine = HmacEngine::<sha256::Hash>::new(keys.mu.expose());
        engine.input(&info);
        engine.input(&payment_hash.0);
        let hmac = Hmac::from_engine(engine).to_byte_array();
        let packet = [&[0], &ephemeral.serialize()[..], &info, &hmac].concat();
        if onion::peel(&packet, &keys, &payment_hash.0).is_err_and(|f| !f.is_bad_onion()) {
            return OnionPacket(Box::new(packet.try_into().unwrap()));
        }
    }
    panic!("one byte in 128 is no length")
}

#[test]
fn onion_without_a_payload_fails_back_without_lightningd() {
    let pair = Pair::normal(&Wish::default());
    let offer = pair.an_offer(Side::Local, 1, Msat(50_000_000));
    let onion = authentic_nonsense(&pair, &offer.payment_hash);
    let payer = pair.master(Side::Local);
    payer.order(&Offer { onion, ..offer });
    payer.until("it comes back", |rows| rows.settled.len() == 1);
    pair.until_quiet();
    let said = &pair.link.as_ref().unwrap().said;
    assert_eq!(all::<UpdateFailHtlc>(said, Side::Remote).len(), 1);
    assert!(pair.master(Side::Remote).rows().decided.is_empty());
}

#[test]
fn beside_a_path_key_nothing_but_invalid_onion_blinding_is_said() {
    let pair = Pair::normal(&Wish::default());
    let mut offer = pair.an_offer(Side::Local, 1, Msat(50_000_000));
    offer.path_key = Some(some_point(8));
    let payer = pair.master(Side::Local);
    payer.order(&offer);
    payer.until("it comes back", |rows| rows.settled.len() == 1);
    let said = &pair.link.as_ref().unwrap().said;
    assert_eq!(all::<UpdateFailMalformedHtlc>(said, Side::Remote)[0].failure_code, 0xc018);
    assert_eq!(all::<UpdateAddHtlc>(said, Side::Local)[0].path_key, offer.path_key);
}

#[test]
fn dust_beyond_what_we_bear_is_failed_whatever_it_says() {
    let mut pair = Pair::ready(&Wish::default());
    pair.nodes.remote.init.policy.max_dust_exposure = Msat(1_000_000);
    pair.master(Side::Remote).rows().decide = Decide::Hold;
    pair.reconnect();
    pair.until_normal();
    let (payer, payee) = (pair.master(Side::Local), pair.master(Side::Remote));
    for key in 1..=2 {
        pair.pay(Side::Local, key, Msat(400_000));
    }
    payee.until("two fit", |rows| rows.peeled.len() == 2);
    pair.pay(Side::Local, 3, Msat(400_000));
    payer.until("the third does not", |rows| rows.settled.len() == 1);
    // One with an output of its own is no dust.
    pair.pay(Side::Local, 4, Msat(600_000));
    payee.until("it comes", |rows| rows.peeled.contains_key(&HtlcId(3)));
    assert!(!payee.rows().decided.contains_key(&HtlcId(2)));
    assert_eq!(payer.rows().settled[0].key, 3);
}

#[test]
fn impossible_offer_is_refused_with_its_reason() {
    use OfferRefusal::*;
    let mut pair = Pair::ready(&Wish {
        terms: Terms {
            htlc_minimum: Msat(2000),
            max_in_flight: Msat(300_000_000),
            max_accepted_htlcs: 3,
            ..terms()
        },
        ..Wish::default()
    });
    pair.nodes.local.init.policy.max_dust_exposure = Msat(500_000);
    pair.master(Side::Remote).rows().decide = Decide::Hold;
    // Before the peer has said where it is.
    let stranger = pair.stranger(Birth::Reconnected);
    let refused = |pair: &Pair, offer: &Offer| {
        let payer = pair.master(Side::Local);
        payer.rows().refused.clear();
        payer.order(offer);
        payer.until("it is refused", |rows| !rows.refused.is_empty());
        let refused = payer.rows().refused[0].clone();
        assert_eq!(refused.key, offer.key);
        refused.why
    };
    let plain = pair.an_offer(Side::Local, 9, Msat(1_000_000));
    assert_eq!(refused(&pair, &plain), NotReady);
    pair.master(Side::Local).hang_up();
    let _ = pair.nodes.local.ended();
    drop(stranger);

    pair.reconnect();
    pair.until_normal();
    let of = |amount| Offer { amount: Msat(amount), ..plain.clone() };
    assert_eq!(refused(&pair, &of(1999)), BelowMinimum { minimum: Msat(2000) });
    let why = AboveMaxInFlight { maximum: Msat(300_000_000) };
    assert_eq!(refused(&pair, &of(300_000_001)), why);
    assert_eq!(refused(&pair, &Offer { expiry: HEIGHT, ..plain.clone() }), BadExpiry);
    let never = Offer { expiry: BlockHeight(500_000_000), ..plain.clone() };
    assert_eq!(refused(&pair, &never), BadExpiry);
    pair.pay(Side::Local, 1, Msat(299_000_000));
    pair.pay(Side::Local, 2, Msat(400_000));
    assert_eq!(refused(&pair, &of(400_000)), DustExposure { maximum: Msat(500_000) });
    pair.pay(Side::Local, 3, Msat(2000));
    assert_eq!(refused(&pair, &of(2000)), TooManyHtlcs { maximum: 3 });
    pair.master(Side::Local).order(&StartShutdown { script: script(1) });
    assert_eq!(refused(&pair, &plain), Closing);
}

#[test]
fn offer_that_nobody_can_pay_says_what_there_is() {
    let pair = Pair::normal(&Wish::default());
    pair.offer(Side::Remote, 1, Msat(395_000_000));
    let master = pair.master(Side::Remote);
    master.until("it is refused", |rows| !rows.refused.is_empty());
    let why = OfferRefusal::Unaffordable { spendable: Msat(390_000_000) };
    assert_eq!(master.rows().refused[0].why, why);
}

#[test]
fn repeated_or_unknown_removal_changes_nothing() {
    let mut pair = Pair::ready(&Wish::default());
    pair.master(Side::Remote).rows().decide = Decide::Hold;
    pair.reconnect();
    pair.until_normal();
    pair.pay(Side::Local, 1, Msat(50_000_000));
    let payee = pair.master(Side::Remote);
    payee.until("it is there", |rows| !rows.peeled.is_empty());
    let fulfil = Fulfil { id: HtlcId(0), preimage: preimage(1) };
    payee.order(&FailHtlc { id: HtlcId(77), reason: vec![1] });
    payee.order(&fulfil);
    payee.order(&fulfil);
    payee.order(&FailHtlc { id: HtlcId(0), reason: vec![1] });
    let payer = pair.master(Side::Local);
    payer.until("it is fulfilled", |rows| rows.settled.len() == 1);
    pair.until_quiet();
    payee.order(&fulfil);
    pair.pay(Side::Local, 2, Msat(1_000_000));
    payee.until("the next comes", |rows| rows.peeled.len() == 1);
    assert_eq!(payer.rows().learned, [(HtlcId(0), preimage(1))]);
}

#[test]
fn opener_follows_the_estimates_and_both_hear_of_it() {
    let pair = Pair::normal(&Wish::default());
    let fees = |target| FeePolicy {
        target: FeeratePerKw(target),
        min: FeeratePerKw(253),
        max: FeeratePerKw(50_000),
    };
    // Too little a change, and a change that is not ours to make.
    pair.master(Side::Local).order(&FeesChanged { fees: fees(1050) });
    pair.master(Side::Remote).order(&FeesChanged { fees: fees(5000) });
    pair.master(Side::Local).order(&FeesChanged { fees: fees(2000) });
    for side in Side::BOTH {
        let reported = |n| move |rows: &mut super::master::Rows| rows.feerates.len() == n;
        pair.master(side).until("the feerate is in force", reported(1));
    }
    pair.master(Side::Local).order(&FeesChanged { fees: fees(100) });
    for side in Side::BOTH {
        pair.master(side).until("and falls to the floor", |rows| rows.feerates.len() == 2);
        let rows = pair.master(side).rows();
        assert_eq!(rows.feerates, [FeeratePerKw(2000), FeeratePerKw::FLOOR]);
    }
    pair.until_quiet();
    pair.pay(Side::Local, 1, Msat(1_000_000));
    pair.master(Side::Local).until("payments go on", |rows| rows.settled.len() == 1);
}

#[test]
fn estimate_beyond_our_means_is_followed_as_far_as_they_go() {
    let mut pair = Pair::ready(&Wish { push: Msat(980_000_000), ..Wish::default() });
    for side in Side::BOTH {
        pair.nodes[side].init.fees.max = FeeratePerKw(u32::MAX);
    }
    pair.nodes.local.init.fees.target = FeeratePerKw(40_000);
    pair.reconnect();
    pair.master(Side::Local).until("the feerate changes", |rows| rows.feerates.len() == 1);
    pair.until_quiet();
    let feerate = pair.master(Side::Local).rows().feerates[0];
    // 10,000 sat beyond the reserve, of which 660 are for anchors, and 1124 weight.
    assert_eq!(feerate, FeeratePerKw(8310));
}
