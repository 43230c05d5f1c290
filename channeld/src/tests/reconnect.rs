//! Connections that are cut and masters that die at every step: nothing that was said is lost,
//! nothing is said that is not on disk, and both ends come to the same.

use super::link::{Filter, all, numbers};
use super::master::{Death, Master, words};
use super::rig::*;
use primitives::*;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use subdaemon::Failure;
use wire::channel_data::{ChannelPhase, Removal};
use wire::channeld::*;
use wire::*;

/// Who pays, under which key, how much, and whether the payee knows the preimage.
type Payment = (Side, u64, Msat, bool);

const PAYMENTS: &[Payment] = &[
    (Side::Local, 1, Msat(50_000_000), true),
    (Side::Remote, 2, Msat(30_000_000), true),
    (Side::Local, 3, Msat(200_000), true),
    (Side::Local, 4, Msat(10_000_000), false),
    (Side::Remote, 5, Msat(10_000_000), false),
];

/// At the moment when it leaves, what is said is on disk.
fn check_stored(masters: &Sides<Master>, side: Side, message: &[u8]) {
    let theirs = masters[!side].rows();
    let (heard, revoked) = (theirs.state.commitment.local, theirs.state.revoked.remote);
    drop(theirs);
    let ours = masters[side].rows();
    match ChannelMessage::decode(message).unwrap() {
        Decoded::Known(ChannelMessage::CommitmentSigned(_)) => {
            assert!(ours.state.commitment.remote > heard, "{side:?} signed what it did not store");
        }
        Decoded::Known(ChannelMessage::RevokeAndAck(_)) => {
            assert!(ours.state.revoked.local > revoked, "{side:?} revoked what it did not store");
        }
        Decoded::Known(ChannelMessage::ChannelReady(_)) => assert!(ours.ready.local),
        Decoded::Known(ChannelMessage::Shutdown(_)) => assert!(ours.shutdown.local.is_some()),
        Decoded::Known(_) | Decoded::UnknownOdd(_) | Decoded::UnknownEven(_) => {}
    }
}

/// A wire that is cut when so many messages were delivered, counted over both directions.
fn cut_after(pair: &Pair, count: usize, delivered: &Arc<AtomicUsize>) -> Filter {
    let masters = Sides::from_fn(|side| pair.master(side).clone());
    let delivered = Arc::clone(delivered);
    Box::new(move |side, message| {
        check_stored(&masters, side, &message);
        (delivered.fetch_add(1, Ordering::SeqCst) < count).then(|| vec![message])
    })
}

/// One connection: what is missing is offered again, as a master does. True: everything came to its
/// end. False: the connection did.
fn go_on(pair: &mut Pair, payments: &[Payment], target: FeeratePerKw) -> bool {
    for side in Side::BOTH {
        pair.master(side).until("traffic may go", |rows| rows.is_normal() || rows.failed.is_some());
    }
    for (side, key, amount, known) in payments {
        if *known {
            pair.know(*side, *key);
        }
        let rows = pair.master(*side).rows();
        let bound =
            rows.state.htlcs.0.iter().any(|l| l.htlc.offered_by == Side::Local && l.key == *key);
        let settled =
            rows.settled.iter().any(|l| l.htlc.offered_by == Side::Local && l.key == *key);
        if !bound && !settled {
            rows.order(&pair.an_offer(*side, *key, *amount));
        }
    }
    let fees = FeePolicy { target, min: FeeratePerKw(253), max: FeeratePerKw(50_000) };
    pair.master(Side::Local).order(&FeesChanged { fees });
    // One may have everything while the other still lacks a word of it.
    let ended = loop {
        for side in Side::BOTH {
            pair.master(side).until("all payments end", |rows| {
                let feerate = rows.state.fees.0.last().map(|f| f.feerate);
                let done = rows.settled.len() == payments.len() && feerate == Some(target);
                (done && rows.is_quiet()) || rows.failed.is_some()
            });
        }
        if Side::BOTH.iter().any(|side| pair.master(*side).rows().failed.is_some()) {
            break true;
        }
        if Side::BOTH.iter().all(|side| pair.master(*side).rows().is_quiet()) && pair.mirrored() {
            break false;
        }
        std::thread::yield_now();
    };
    if ended {
        let ended = pair.await_end();
        let calm = |e: &Result<(), Failure>| {
            matches!(e, Err(Failure::ConnectionLost | Failure::Cancelled(_)))
        };
        assert!(calm(&ended.local) && calm(&ended.remote), "{ended:?}");
    }
    !ended
}

/// Every payment ended as it had to, once, and both ends agree.
fn check_ended(pair: &Pair, payments: &[Payment]) {
    pair.until_quiet();
    let mut balance = Sides { local: Msat(600_000_000), remote: Msat(400_000_000) };
    for (side, key, amount, known) in payments {
        if *known {
            balance[*side] = Msat(balance[*side].0 - amount.0);
            balance[!*side] = Msat(balance[!*side].0 + amount.0);
        }
        for (end, by) in [(*side, Side::Local), (!*side, Side::Remote)] {
            let rows = pair.master(end).rows();
            let hash = preimage(*key).hash();
            let ends: Vec<_> = rows
                .settled
                .iter()
                .filter(|l| l.htlc.offered_by == by && l.htlc.payment_hash == hash)
                .map(|l| l.removed.as_ref().unwrap().removal.clone())
                .collect();
            let fulfilled = matches!(ends[..], [Removal::Fulfilled { .. }]);
            let failed = matches!(ends[..], [Removal::Failed { .. }]);
            assert!(if *known { fulfilled } else { failed }, "{key}: {ends:?}");
        }
    }
    assert_eq!(pair.master(Side::Local).rows().state.balance, balance);
}

#[test]
fn connection_that_is_cut_after_any_message_loses_nothing() {
    let target = FeeratePerKw(2000);
    for count in 0.. {
        let mut pair = Pair::ready(&Wish::default());
        let delivered = Arc::new(AtomicUsize::new(0));
        let filter = cut_after(&pair, count, &delivered);
        pair.reconnect_over(filter);
        while !go_on(&mut pair, PAYMENTS, target) {
            let filter = cut_after(&pair, usize::MAX, &Arc::default());
            pair.reconnect_over(filter);
        }
        check_ended(&pair, PAYMENTS);
        if delivered.load(Ordering::SeqCst) <= count {
            assert!(count > 20, "the scenario has only {count} messages");
            return;
        }
    }
}

#[test]
fn master_that_dies_at_any_question_loses_nothing() {
    let target = FeeratePerKw(2000);
    for side in Side::BOTH {
        for kind in [Death::Before, Death::After] {
            for count in 0.. {
                let mut pair = Pair::ready(&Wish::default());
                pair.master(side).rows().death = Some(kind(count));
                let filter = cut_after(&pair, usize::MAX, &Arc::default());
                pair.reconnect_over(filter);
                let mut deaths = 0;
                while !go_on(&mut pair, PAYMENTS, target) {
                    deaths += 1;
                    let filter = cut_after(&pair, usize::MAX, &Arc::default());
                    pair.reconnect_over(filter);
                }
                check_ended(&pair, PAYMENTS);
                if deaths == 0 {
                    assert!(count > 4, "the scenario has only {count} questions");
                    break;
                }
            }
        }
    }
}

#[test]
fn channel_gets_ready_however_often_it_is_interrupted() {
    for count in 0..8 {
        let mut pair = Pair::opened(&Wish::default());
        for side in Side::BOTH {
            pair.nodes[side].init.announce = true;
            pair.nodes[side].init.announceable = ShortChannelId::new(90, 1, 0);
        }
        let filter = cut_after(&pair, count, &Arc::default());
        let births = Sides::from_fn(|_| Birth::JustOpened { funding_signed: None });
        pair.connect_as(births, filter);
        let _ = (count < 4).then(|| pair.await_end());
        if pair.link.is_none() {
            pair.reconnect();
        }
        pair.until_normal();
        for side in Side::BOTH {
            pair.master(side).until("both halves are there", |rows| rows.announcement.is_some());
        }
        while !go_on(&mut pair, PAYMENTS, FEERATE) {
            pair.reconnect();
        }
        check_ended(&pair, PAYMENTS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn payments_over_a_connection_cut_repeatedly_end_as_they_must(
        payments in proptest::collection::vec((any::<bool>(), 1u64..40_000_000, any::<bool>()), 1..12),
        cuts in proptest::collection::vec(0usize..60, 0..5),
        target in 253u32..4000,
    ) {
        let payments: Vec<Payment> = (1..)
            .zip(payments)
            .map(|(key, (local, amount, known))| {
                (if local { Side::Local } else { Side::Remote }, key, Msat(amount), known)
            })
            .collect();
        let now = FEERATE;
        let target = FeeratePerKw(target);
        let target = if crate::fees::is_worth_it(now, target) { target } else { now };
        let mut pair = Pair::ready(&Wish { push: Msat(400_000_000), ..Wish::default() });
        let mut cuts = cuts.into_iter();
        loop {
            let filter = cut_after(&pair, cuts.next().unwrap_or(usize::MAX), &Arc::default());
            pair.reconnect_over(filter);
            if go_on(&mut pair, &payments, target) {
                break;
            }
        }
        check_ended(&pair, &payments);
    }
}

#[test]
fn channel_ready_is_resent_only_before_the_first_commitment() {
    let mut pair = Pair::ready(&Wish::default());
    pair.reconnect();
    pair.until_normal();
    assert!(go_on(&mut pair, &PAYMENTS[..1], FEERATE));
    for side in Side::BOTH {
        let ready = all::<ChannelReady>(&pair.link.as_ref().unwrap().said, side);
        let alias = Some(pair.nodes[side].init.alias);
        assert_eq!(ready.iter().map(|m| m.short_channel_id).collect::<Vec<_>>(), [alias]);
    }
    pair.disconnect();
    pair.reconnect();
    pair.until_normal();
    assert!(go_on(&mut pair, &PAYMENTS[..1], FEERATE));
    for side in Side::BOTH {
        assert_eq!(numbers(&pair.link.as_ref().unwrap().said, side), [136]);
    }
}

#[test]
fn data_loss_is_told_and_the_other_side_waits_for_an_error() {
    let mut pair = Pair::ready(&Wish::default());
    let old = pair.master(Side::Local).rows().state.clone();
    pair.reconnect();
    assert!(go_on(&mut pair, PAYMENTS, FEERATE));
    pair.disconnect();
    pair.master(Side::Local).rows().state = old;
    pair.reconnect();
    pair.master(Side::Local).until("it knows", |rows| rows.behind == ["us"]);
    let theirs = pair.master(Side::Remote);
    theirs.until("the other hears it", |rows| rows.failed.is_some());
    let said = words(&theirs.rows().failed);
    assert_eq!(said, "they said: we lost data: please close this channel");
    assert_eq!(theirs.rows().behind, ["them"]);
    for side in Side::BOTH {
        assert!(!pair.master(side).rows().established);
    }
    // Neither has said anything but where it is, and that it is over.
    let said = &pair.link.as_ref().unwrap().said;
    assert_eq!(numbers(said, Side::Local), [136, 17]);
    assert_eq!(numbers(said, Side::Remote), [136]);
    pair.master(Side::Local).until("the connection ends", |rows| rows.failed.is_some());
}

/// The record beside the database says that the rows are old, and the peer says what fits them: it
/// lies, or has lost data, too. BOLT 2, "Message Retransmission": who fell behind asks the peer to
/// close by an error, whatever would be sent again otherwise.
#[test]
fn data_loss_the_peer_does_not_show_is_told_not_resent() {
    for resends in [true, false] {
        let mut pair = Pair::ready(&Wish::default());
        if resends {
            let mut stranger = pair.reestablished_stranger();
            pair.offer(Side::Local, 1, Msat(10_000_000));
            stranger.until::<CommitmentSigned>();
            pair.master(Side::Local).hang_up();
            assert!(pair.nodes.local.ended().is_err());
        }
        pair.nodes.local.init.phase = ChannelPhase::DataLoss;
        let mut stranger = pair.stranger(Birth::Reconnected);
        stranger.until::<ChannelReestablish>();
        stranger.send(&pair.their_reestablish());
        let heard = stranger.hear();
        let please = "we lost data: please close this channel";
        let error = Error::new(pair.nodes.local.init.channel, please);
        assert_eq!(heard, Some(error.encode()), "resends: {resends}");
        pair.master(Side::Local).until("it knows", |rows| rows.behind == ["us"]);
        assert!(!pair.master(Side::Local).rows().established);
        pair.master(Side::Local).hang_up();
        assert_eq!(stranger.rest(), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn failed_channel_sends_reestablish_and_error_only() {
    let mut pair = Pair::ready(&Wish::default());
    pair.nodes.local.init.failed = Some("it is over".to_owned());
    let mut stranger = pair.stranger(Birth::Reconnected);
    stranger.send(&pair.their_reestablish());
    // Some peers go by the one, some by the other.
    let first = stranger.hear().unwrap();
    assert!(first.starts_with(&ChannelReestablish::NUMBER.to_be_bytes()), "{first:?}");
    let error = Error::new(pair.nodes.local.init.channel, "it is over");
    assert_eq!(stranger.hear(), Some(error.encode()));
    pair.offer(Side::Local, 1, Msat(1_000_000));
    let ours = pair.master(Side::Local);
    ours.until("the offer is refused", |rows| !rows.refused.is_empty());
    ours.hang_up();
    assert_eq!(stranger.rest(), Vec::<Vec<u8>>::new());
}

#[test]
fn numbers_that_nothing_explains_end_the_channel() {
    type Lie = (&'static str, fn(&mut ChannelReestablish));
    let lies: [Lie; 6] = [
        ("next_commitment_number is 0", |m| m.next_commitment_number = 0),
        ("next_commitment_number is 9", |m| m.next_commitment_number = 9),
        ("your_last_per_commitment_secret is not", |m| m.next_revocation_number = 77),
        ("your_last_per_commitment_secret is not", |m| m.your_last_per_commitment_secret[5] ^= 1),
        ("your_last_per_commitment_secret", |m| m.next_revocation_number = 0),
        ("next_revocation_number is", |m| m.next_revocation_number = u64::MAX),
    ];
    for (why, lie) in lies {
        let mut pair = Pair::ready(&Wish::default());
        pair.reconnect();
        assert!(go_on(&mut pair, &PAYMENTS[..1], FEERATE));
        pair.disconnect();
        let mut stranger = pair.stranger(Birth::Reconnected);
        let mut theirs = pair.their_reestablish();
        lie(&mut theirs);
        stranger.send(&theirs);
        let error = stranger.until::<Error>();
        assert!(error.text().contains(why), "{why}: {}", error.text());
        let ended = pair.nodes.local.ended();
        assert!(matches!(ended, Err(Failure::PeerError(_))), "{ended:?}");
    }
}

#[test]
fn accepters_first_word_is_the_funding_signed_that_is_on_disk() {
    let mut pair = Pair::opened(&Wish::default());
    let signature = pair.master(Side::Local).rows().state.local_signatures.signature;
    let birth = Birth::JustOpened { funding_signed: Some(signature) };
    let mut stranger = pair.stranger(birth);
    let first = FundingSigned { channel_id: pair.nodes.local.init.channel, signature };
    assert_eq!(stranger.hear(), Some(first.encode()));
    stranger.until::<ChannelReady>();
}
