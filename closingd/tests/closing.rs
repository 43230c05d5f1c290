//! closingd between a scripted master, a real hsmd and a peer: another closingd, or one in the
//! test's hands.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use ::closingd::Settings;
use common::hsm::{Hsmd, hsmd};
use common::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use primitives::*;
use proptest::prelude::*;
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::Duration;
use subdaemon::testing::ScriptedMaster;
use subdaemon::{Failure, Peer, PeerRecord};
use wire::closingd::*;
use wire::connectd::{CloseConnection, PeerControl};
use wire::hsm::{CompleteClosing, Completed};
use wire::*;

// ---- two closingds

/// A master that stores whatever it is asked to, until the closing is agreed.
fn store_all(mut master: ScriptedMaster) -> JoinHandle<(Option<ClosingAgreed>, usize)> {
    std::thread::spawn(move || {
        let mut offers = 0;
        while let Some(frame) = master.heard() {
            match ClosingAsk::decode(&frame.body) {
                Ok(ClosingAsk::PersistOffer(_)) => {
                    offers += 1;
                    master.answer::<PersistOffer>(&());
                }
                Ok(ClosingAsk::PersistPeerSignature(_)) => {
                    master.answer::<PersistPeerSignature>(&());
                }
                Err(_) => {
                    let said = FromClosingd::decode_known(&frame.body).unwrap();
                    let FromClosingd::ClosingAgreed(agreed) = said else { panic!("{said:?}") };
                    return (Some(agreed), offers);
                }
            }
        }
        (None, offers)
    })
}

/// connectd between the two. Without their ranges, if so wished.
fn relay(mut a: Peer, mut b: Peer, ranges: bool) {
    std::thread::spawn(move || {
        loop {
            let mut fds = [
                PollFd::new(a.as_fd(), PollFlags::POLLIN),
                PollFd::new(b.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, PollTimeout::NONE).unwrap();
            for from_a in [true, false] {
                let (from, to) = if from_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
                match from.try_recv() {
                    Ok(Some(PeerRecord::Message(mut bytes))) => {
                        if !ranges && bytes.starts_with(&[0, 39]) {
                            bytes.truncate(2 + 32 + 8 + 64);
                        }
                        drop(to.send_raw(&bytes));
                    }
                    Ok(Some(PeerRecord::Control(_)) | None) => {}
                    Err(_) => return,
                }
            }
        }
    });
}

type Fees = (u64, u64, u64);

/// Two closingds with these bounds (least, most, ideal), the first as opener: the fee, if they
/// agree, and how many offers.
fn two(ours: Fees, theirs: Fees, ranges: bool) -> Option<(Sat, usize)> {
    let (mut a, mut b) = (hsmd(OURS), hsmd(THEIRS));
    let basepoints = Sides { local: a.basepoints(), remote: b.basepoints() };
    let mut init = init_of(Side::Local, basepoints.clone());
    (init.min_fee, init.max_fee, init.ideal_fee) = (Sat(ours.0), Sat(ours.1), Sat(ours.2));
    let mut other = init_of(Side::Remote, basepoints.swap());
    (other.balance, other.script) = (init.balance.swap(), init.script.clone().swap());
    (other.min_fee, other.max_fee, other.ideal_fee) = (Sat(theirs.0), Sat(theirs.1), Sat(theirs.2));

    let (peer_a, master_a, daemon_a) = launch(&mut a, &init, settings());
    let (peer_b, master_b, daemon_b) = launch(&mut b, &other, settings());
    relay(peer_a, peer_b, ranges);
    let (stored_a, stored_b) = (store_all(master_a), store_all(master_b));
    let ((end_a, offers_a), (end_b, offers_b)) =
        (stored_a.join().unwrap(), stored_b.join().unwrap());
    let failed = [daemon_a.join().unwrap(), daemon_b.join().unwrap()].iter().any(Result::is_err);
    let (Some(end_a), Some(end_b)) = (end_a, end_b) else {
        assert!(failed);
        return None;
    };
    assert_eq!(end_a.state.fee, end_b.state.fee);
    // Each can publish it, and it is the same.
    let complete = |hsmd: &mut Hsmd, agreed: ClosingAgreed| {
        let ClosingAgreed { state, signature } = agreed;
        let (peer, channel) = (Hsmd::peer(), common::hsm::CHANNEL);
        match hsmd.master().ask(&CompleteClosing { peer, channel, state, signature }).unwrap() {
            Completed::Ready { transaction } => transaction,
            Completed::Refused { why } => panic!("{why}"),
        }
    };
    let fee = end_a.state.fee;
    let (tx, again) = (complete(&mut a, end_a), complete(&mut b, end_b));
    assert_eq!(tx, again);
    let paid: u64 = tx.output.iter().map(|o| o.value.to_sat()).sum();
    assert_eq!(paid + fee.0, AMOUNT.0);
    Some((fee, offers_a + offers_b))
}

#[test]
fn closingds_agree_on_a_transaction_that_both_can_publish() {
    for (ours, theirs, agreed) in [
        // The opener's wish suits the accepter: two messages.
        ((300, 1000, 500), (300, 1000, 500), Some((500, 2))),
        ((300, 1000, 500), (200, 400, 300), Some((500, 2))),
        // It is too low, and three do.
        ((300, 1000, 500), (600, 2000, 700), Some((700, 3))),
        ((300, 1000, 500), (900, 9000, 5000), Some((1000, 3))),
        // Nothing suits both.
        ((300, 1000, 500), (1001, 2000, 1500), None),
    ] {
        let agreed = agreed.map(|(fee, offers)| (Sat(fee), offers));
        assert_eq!(two(ours, theirs, true), agreed, "{ours:?} {theirs:?}");
    }
}

#[test]
fn closingds_agree_without_fee_ranges() {
    for (ours, theirs, agreed) in [
        ((300, 1000, 500), (300, 1000, 700), Some((500, 2))),
        ((300, 1000, 500), (600, 2000, 1500), Some((1000, 4))),
        ((300, 1000, 500), (1001, 2000, 1500), None),
    ] {
        let got = two(ours, theirs, false);
        assert_eq!(got.is_some(), agreed.is_some(), "{ours:?} {theirs:?} {got:?}");
        if let (Some((fee, _)), (least, most, _)) = (got, ours) {
            assert!((least..=most).contains(&fee.0));
        }
    }
}

// ---- one closingd

#[test]
fn opener_speaks_first_and_an_equal_fee_ends_it() {
    let mut opener = start(Side::Local);
    let said = opener.opens();
    assert_eq!(said.fee_satoshis, Sat(500));
    assert_eq!(said.fee_range, Some(FeeRange { min_fee: Sat(300), max_fee: Sat(1000) }));
    let answer = opener.signed(500, Some((1, 2000)));
    opener.say(&answer);
    assert_eq!(opener.persists_signature(), Sat(500));
    let agreed = opener.agreed();
    assert_eq!(
        agreed,
        ClosingAgreed { state: opener.state(Sat(500)), signature: answer.signature }
    );
    assert_eq!(opener.end(), Ok(()));
}

#[test]
fn opener_says_a_fee_within_its_range_back() {
    let mut opener = start(Side::Local);
    opener.opens();
    opener.say(&opener.signed(777, None));
    assert_eq!(opener.persists_signature(), Sat(777));
    assert_eq!(opener.persists_offer(), Sat(777));
    assert_eq!(opener.says().fee_satoshis, Sat(777));
    assert_eq!(opener.agreed().state.fee, Sat(777));
    assert_eq!(opener.end(), Ok(()));
}

#[test]
fn accepter_waits_and_minds_no_maximum() {
    let mut accepter = start(Side::Remote);
    accepter.say(&accepter.signed(50_000, Some((10_000, 60_000))));
    assert_eq!(accepter.persists_signature(), Sat(50_000));
    assert_eq!(accepter.persists_offer(), Sat(50_000));
    let said = accepter.says();
    assert_eq!(said.fee_range, Some(FeeRange { min_fee: Sat(300), max_fee: Sat(60_000) }));
    assert_eq!(accepter.agreed().state.fee, Sat(50_000));
    assert_eq!(accepter.end(), Ok(()));
}

#[test]
fn old_way_closes_in_step_by_step() {
    let mut opener = start(Side::Local);
    opener.opens();
    opener.say(&opener.signed(1200, None));
    assert_eq!(opener.persists_offer(), Sat(850));
    assert_eq!(opener.says().fee_satoshis, Sat(850));
    opener.say(&opener.signed(1100, None));
    assert_eq!(opener.persists_offer(), Sat(975));
    assert_eq!(opener.says().fee_satoshis, Sat(975));
    opener.say(&opener.signed(1200, None));
    let told =
        opener.fails_with("fee_satoshis 1200sat is not strictly between 1100sat and our 975sat");
    assert!(matches!(told, Failure::PeerWarn(_)));
}

#[test]
fn wrong_signature_is_warned_of_with_the_transaction() {
    for opener in Side::BOTH {
        let mut attempt = start(opener);
        if opener == Side::Local {
            attempt.opens();
        }
        let signature = Signature::from_compact(&[1; 64]).unwrap();
        attempt.say(&ClosingSigned { signature, ..attempt.signed(500, None) });
        let told = attempt.fails_with("the signature of closing_signed does not hold for 02000000");
        assert!(matches!(told, Failure::PeerWarn(_)));
    }
}

#[test]
fn signature_with_a_high_s_is_warned_of() {
    let mut attempt = start(Side::Remote);
    let mut bytes = attempt.signed(500, None).encode();
    let end = bytes.len();
    bytes[end - 32..].fill(0xf0);
    attempt.peer().send_raw(&bytes).unwrap();
    attempt.fails_with("ClosingSigned, signature: the signature is out of range or has a high S");
}

#[test]
fn peer_that_leaves_out_its_own_output_is_taken() {
    let mut accepter = start(Side::Remote);
    let kept = Sides { local: true, remote: false };
    accepter.say(&accepter.signed_for(500, Some((500, 500)), kept));
    assert_eq!(accepter.persists_signature(), Sat(500));
    assert_eq!(accepter.persists_offer(), Sat(500));
    accepter.says();
    let ClosingAgreed { state, signature } = accepter.agreed();
    let (peer, channel) = (Hsmd::peer(), common::hsm::CHANNEL);
    let question = CompleteClosing { peer, channel, state, signature };
    let Completed::Ready { transaction } = accepter.hsmd.master().ask(&question).unwrap() else {
        panic!("refused")
    };
    assert_eq!(transaction.output.len(), 1);
    assert_eq!(transaction.output[0].value.to_sat(), 600_000);
}

#[test]
fn ranges_without_a_fee_in_common_are_warned_of() {
    let mut opener = start(Side::Local);
    opener.opens();
    opener.say(&opener.signed(2000, Some((1001, 3000))));
    let told = opener.fails_with("fee_range 1001sat..3000sat and our 300sat..1000sat");
    assert!(matches!(told, Failure::PeerWarn(_)));
}

#[test]
fn fee_outside_the_overlap_fails_the_channel() {
    let mut opener = start(Side::Local);
    opener.opens();
    opener.say(&opener.signed(2000, Some((900, 3000))));
    let told = opener.fails_with("fee_satoshis 2000sat is outside 900sat..1000sat");
    assert!(matches!(told, Failure::PeerError(_)));
}

#[test]
fn opener_that_changes_its_mind_fails_the_channel() {
    let mut accepter = start(Side::Remote);
    accepter.say(&accepter.signed(100, Some((100, 400))));
    assert_eq!(accepter.persists_offer(), Sat(400));
    accepter.says();
    accepter.say(&accepter.signed(200, Some((100, 400))));
    let told = accepter.fails_with("fee_satoshis 200sat is not 400sat");
    assert!(matches!(told, Failure::PeerError(_)));
}

#[test]
fn more_than_the_opener_has_is_warned_of() {
    for fee in [400_001, u64::MAX] {
        let mut accepter = start(Side::Remote);
        let signed = accepter.signed(500, None);
        accepter.say(&ClosingSigned { fee_satoshis: Sat(fee), ..signed });
        accepter.fails_with(&format!("a fee of {fee}sat from a balance of 400000sat"));
    }
}

#[test]
fn empty_closing_is_warned_of_and_unrelayable_one_fails() {
    let poor = |init: &mut ClosingdInit| {
        init.balance = Sides { local: Msat(0), remote: Msat(1_000_000_000) };
    };
    let mut accepter = start_with(Side::Remote, settings(), poor);
    let signed = accepter.signed(500, None);
    accepter.say(&ClosingSigned { fee_satoshis: Sat(999_900), ..signed });
    let told = accepter.fails_with("a closing without outputs");
    assert!(matches!(told, Failure::PeerWarn(_)));
    // A script of old that the peer fixed before: below 546 nobody relays it.
    let legacy = |init: &mut ClosingdInit| {
        init.params.terms =
            Sides::from_fn(|_| wire::channel_data::Terms { dust_limit: Sat(354), ..terms() });
        let p2pkh = [&[0x76, 0xa9, 20][..], &[7; 20], &[0x88, 0xac]].concat();
        init.script.remote = ScriptBuf::from_bytes(p2pkh);
    };
    let mut accepter = start_with(Side::Remote, settings(), legacy);
    let signed = accepter.signed(500, None);
    accepter.say(&ClosingSigned { fee_satoshis: Sat(399_500), ..signed });
    let told =
        accepter.fails_with("output of 500sat is below the dust limit of its script, 546sat");
    assert!(matches!(told, Failure::PeerError(_)));
}

#[test]
fn opener_with_little_offers_what_it_has() {
    let little = |init: &mut ClosingdInit| {
        init.balance = Sides { local: Msat(200_999), remote: Msat(999_799_001) };
    };
    let mut opener = start_with(Side::Local, settings(), little);
    let said = opener.opens();
    assert_eq!(said.fee_satoshis, Sat(200));
    assert_eq!(said.fee_range, Some(FeeRange { min_fee: Sat(200), max_fee: Sat(200) }));
}

#[test]
fn unexpected_messages_are_refused() {
    let mut again = vec![0, 38];
    again.extend([0; 32]);
    again.extend([0, 0]);
    let of_channel =
        |number: u8, channel: ChannelId| [&[0, number][..], &channel.0, &[0; 600]].concat();
    for (number, part) in [
        (38, "Shutdown came where closing_signed is awaited"),
        (136, "ChannelReestablish came where closing_signed is awaited"),
        (128, "message 128 came where closing_signed is awaited"),
        (131, "message 131 came where closing_signed is awaited"),
        (132, "message 132 came where closing_signed is awaited"),
        (133, "message 133 came where closing_signed is awaited"),
        (40, "message 40 came where closing_signed is awaited"),
    ] {
        let mut accepter = start(Side::Remote);
        let channel_id = accepter.init.channel;
        let bytes = match number {
            38 => Shutdown { channel_id, scriptpubkey: script(2) }.encode(),
            136 => ChannelReestablish {
                channel_id,
                next_commitment_number: 1,
                next_revocation_number: 1,
                your_last_per_commitment_secret: [0; 32],
                my_current_per_commitment_point: PEER.basepoints().htlc,
                next_funding: None,
                my_current_funding_locked: None,
            }
            .encode(),
            number => of_channel(number, channel_id),
        };
        accepter.peer().send_raw(&bytes).unwrap();
        let told = accepter.fails_with(part);
        assert!(matches!(told, Failure::PeerWarn(_)));
    }
}

#[test]
fn messages_that_do_not_matter_change_nothing() {
    let mut accepter = start(Side::Remote);
    let (channel_id, key) = (accepter.init.channel, PEER.basepoints().htlc);
    let ready =
        ChannelReady { channel_id, second_per_commitment_point: key, short_channel_id: None };
    accepter.say(&ready);
    accepter.say(&Error::new(ChannelId([3; 32]), "about another channel"));
    accepter.say(&Warning::new(channel_id, "careful"));
    accepter.peer().send_raw(&[0x81, 0x01, 1, 2]).unwrap();
    accepter.say(&accepter.signed(500, None));
    assert_eq!(accepter.persists_signature(), Sat(500));
}

#[test]
fn peers_error_fails_and_its_warning_explains_a_lost_connection() {
    for id in [None, Some(ChannelId::ALL)] {
        let mut accepter = start(Side::Remote);
        accepter.say(&Error::new(id.unwrap_or(accepter.init.channel), "over"));
        assert_eq!(accepter.end(), Err(Failure::PeerSaidError("over".to_owned())));
    }
    let mut accepter = start(Side::Remote);
    accepter.say(&Warning::new(accepter.init.channel, "too cheap"));
    assert_eq!(accepter.end(), Err(Failure::PeerSaidWarning("too cheap".to_owned())));
    assert_eq!(start(Side::Remote).end(), Err(Failure::ConnectionLost));
}

#[test]
fn warning_closes_the_connection() {
    let mut accepter = start(Side::Remote);
    accepter.peer().send_raw(&[0x80, 0x00]).unwrap();
    let Some(PeerRecord::Message(_)) = accepter.record() else { panic!("no warning") };
    let close = PeerControl::from(CloseConnection {});
    assert_eq!(accepter.record(), Some(PeerRecord::Control(close)));
}

#[test]
fn silent_peer_is_warned() {
    let settings = Settings { patience: Duration::from_millis(30), ..settings() };
    for opener in Side::BOTH {
        let mut attempt = start_with(opener, settings.clone(), |_| {});
        if opener == Side::Local {
            attempt.opens();
        }
        attempt.fails_with("no closing_signed within 0 seconds");
    }
}

/// An opener whose closing is agreed.
fn after_agreement(settings: Settings) -> Attempt {
    let mut opener = start_with(Side::Local, settings, |_| {});
    opener.opens();
    opener.say(&opener.signed(500, None));
    opener.persists_signature();
    opener.agreed();
    opener
}

#[test]
fn late_messages_after_the_agreement_change_nothing() {
    let mut opener = after_agreement(settings());
    opener.say(&opener.signed(500, None));
    opener.say(&opener.signed(900, None));
    opener.say(&Warning::new(opener.init.channel, "late"));
    opener.say(&Error::new(opener.init.channel, "later"));
    opener.peer().send_raw(&[0x81, 0x01]).unwrap();
    assert_eq!(opener.end(), Ok(()));
}

#[test]
fn closingd_ends_with_lightningd_or_in_time_after_agreement() {
    let opener = after_agreement(settings());
    let Attempt { master, daemon, peer: _peer, hsmd: _hsmd, .. } = opener;
    drop(master);
    assert_eq!(daemon.join().unwrap(), Ok(()));
    let linger = Duration::from_millis(30);
    let opener = after_agreement(Settings { linger, ..settings() });
    let Attempt { daemon, master: _master, peer: _peer, hsmd: _hsmd, .. } = opener;
    assert_eq!(daemon.join().unwrap(), Ok(()));
}

#[test]
fn order_is_a_bug_and_a_master_that_is_gone_an_end() {
    let accepter = start(Side::Remote);
    let again = accepter.init.clone();
    accepter.master.order(&again, vec![]);
    let Attempt { daemon, peer: _peer, master, hsmd: _hsmd, .. } = accepter;
    assert!(matches!(daemon.join().unwrap(), Err(Failure::Internal(_))));
    drop(master);
    let Attempt { master, daemon, peer: _peer, hsmd: _hsmd, .. } = start(Side::Remote);
    drop(master);
    assert!(matches!(daemon.join().unwrap(), Err(Failure::Cancelled(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever the peer sends: it is ignored, agreed with, or it ends in a word to the peer.
    #[test]
    fn arbitrary_bytes_end_nothing_but_the_negotiation(
        change in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        noise in prop::option::weighted(0.2, prop::collection::vec(any::<u8>(), 1..200)),
        number in any::<u8>(),
    ) {
        let mut accepter = start(Side::Remote);
        let mut bytes = accepter.signed(500, Some((300, 600))).encode();
        for (at, byte) in change {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()).max(1));
        }
        if let Some(mut noise) = noise {
            noise.insert(0, 0);
            noise.insert(1, number);
            bytes = noise;
        }
        accepter.peer().send_raw(&bytes).unwrap();
        let Attempt { master, daemon, peer, hsmd: _hsmd, .. } = accepter;
        let stored = store_all(master);
        drop(peer);
        let end = daemon.join().unwrap();
        let fair = matches!(
            end,
            Ok(()) | Err(Failure::PeerWarn(_) | Failure::PeerError(_) | Failure::PeerSaidError(_)
                | Failure::PeerSaidWarning(_) | Failure::ConnectionLost | Failure::Cancelled(_))
        );
        prop_assert!(fair, "{end:?}");
        drop(stored.join());
    }
}
