//! What ends an opening before its time, at every stage of it; and what does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::scenes::*;
use common::*;
use primitives::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use subdaemon::{Failure, PeerRecord};
use wire::connectd::{CloseConnection, Drained, PeerControl};
use wire::openingd::*;
use wire::*;

/// Every point at which somebody else is to speak next: a name, and how to get there.
type Stage = (&'static str, fn() -> Attempt);
const STAGES: [Stage; 6] = [
    ("accept_channel", || {
        let mut opener = start(&open_init(), OURS);
        opener.says();
        opener
    }),
    ("the funding transaction", || {
        let mut opener = with_accept(open_init(), |_| {});
        opener.accepted();
        opener
    }),
    ("funding_signed", || awaiting_signature().0),
    ("open_channel", || start(&accept_init(), OURS)),
    ("our answer to open_channel", || {
        let mut accepter = with_open(accept_init(), |_| {});
        accepter.proposed();
        accepter
    }),
    ("funding_created", || awaiting_funding().0),
];

/// The id that errors of ours have at that stage.
fn id_at(stage: &str) -> ChannelId {
    if stage == "funding_signed" { ChannelId::from_funding(&funding()) } else { TEMPORARY }
}
fn everywhere(mut f: impl FnMut(&'static str, Attempt)) {
    for (stage, reach) in STAGES {
        f(stage, reach());
    }
}
/// The last thing the peer hears, controls apart.
fn last_word(attempt: &mut Attempt) -> Option<OpeningMessage> {
    let mut last = None;
    while let Some(record) = attempt.record() {
        if let PeerRecord::Message(bytes) = record {
            last = Some(OpeningMessage::decode_known(&bytes).unwrap());
        }
    }
    last
}

#[test]
fn master_cancels_and_the_peer_hears_why() {
    everywhere(|stage, mut attempt| {
        attempt.master.order(&CancelOpening { why: "not today".to_owned() }, vec![]);
        let told = Error::new(id_at(stage), "not today");
        assert_eq!(last_word(&mut attempt), Some(told.into()), "{stage}");
        assert_eq!(attempt.end(), Err(Failure::Cancelled("not today".to_owned())), "{stage}");
    });
}

#[test]
fn master_that_is_gone_ends_it_without_a_word() {
    everywhere(|stage, mut attempt| {
        let (other, _child) = subdaemon::testing::ScriptedMaster::new();
        drop(std::mem::replace(&mut attempt.master, other));
        assert_eq!(last_word(&mut attempt), None, "{stage}");
        assert!(matches!(attempt.end(), Err(Failure::Cancelled(_))), "{stage}");
    });
}

#[test]
fn peers_error_ends_it_and_is_not_answered() {
    everywhere(|stage, mut attempt| {
        attempt.say(&Error::new(TEMPORARY, "no, thanks\n"));
        assert_eq!(last_word(&mut attempt), None, "{stage}");
        assert_eq!(attempt.end(), Err(Failure::PeerSaidError("no, thanks?".to_owned())), "{stage}");
    });
    everywhere(|stage, mut attempt| {
        attempt.say(&Error::new(ChannelId::ALL, "never again"));
        let end = Err(Failure::PeerSaidError("never again".to_owned()));
        assert_eq!(attempt.end(), end, "{stage}");
    });
}

#[test]
fn messages_that_do_not_matter_change_nothing() {
    everywhere(|stage, mut attempt| {
        attempt.say(&Error::new(ChannelId([3; 32]), "about another channel"));
        attempt.say(&Warning::new(ChannelId([3; 32]), "about another channel"));
        attempt.say(&Warning::new(TEMPORARY, "careful"));
        attempt.peer().control(Drained {}).unwrap();
        // Odd, and nobody knows it.
        attempt.peer().send_raw(&[0x81, 0x01, 1, 2, 3]).unwrap();
        attempt.master.order(&CancelOpening { why: "enough".to_owned() }, vec![]);
        let end = attempt.end();
        assert_eq!(end, Err(Failure::Cancelled("enough".to_owned())), "{stage}");
    });
}

/// How often the log was told of one warning.
static WARNINGS: AtomicUsize = AtomicUsize::new(0);

struct Counting;
impl log::Log for Counting {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("again and again") {
            WARNINGS.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn flush(&self) {}
}

#[test]
fn peer_that_warns_without_end_does_not_fill_our_log() {
    log::set_logger(&Counting).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let (stage, reach) = STAGES[0];
    let mut attempt = reach();
    for _ in 0..200 {
        attempt.say(&Warning::new(id_at(stage), "again and again"));
    }
    // Read in order: the error ends it once all of them were.
    attempt.say(&Error::new(id_at(stage), "enough"));
    assert_eq!(attempt.end(), Err(Failure::PeerSaidError("enough".to_owned())));
    assert_eq!(WARNINGS.load(Ordering::Relaxed), 20);
}

#[test]
fn connection_that_ends_after_a_warning_ended_for_that() {
    everywhere(|stage, mut attempt| {
        attempt.say(&Warning::new(id_at(stage), "your feerate is silly"));
        attempt.peer = None;
        let end = Err(Failure::PeerSaidWarning("your feerate is silly".to_owned()));
        assert_eq!(attempt.end(), end, "{stage}");
    });
    everywhere(|stage, mut attempt| {
        attempt.peer = None;
        assert_eq!(attempt.end(), Err(Failure::ConnectionLost), "{stage}");
    });
}

#[test]
fn message_out_of_turn_is_refused_by_both_names() {
    everywhere(|stage, mut attempt| {
        let abort = TxAbort { channel_id: TEMPORARY, data: vec![] };
        attempt.say(&abort);
        let told = attempt.fails_with(id_at(stage), "TxAbort came where ");
        assert!(told.contains(stage), "{told}");
    });
    // Odd, but not unknown: a revoke_and_ack.
    everywhere(|stage, mut attempt| {
        attempt.peer().send_raw(&[&[0, 133][..], &TEMPORARY.0, &[1; 65]].concat()).unwrap();
        attempt.fails_with(id_at(stage), "message 133 came where");
    });
}

#[test]
fn unknown_even_message_is_refused() {
    everywhere(|stage, mut attempt| {
        attempt.peer().send_raw(&[0x80, 0x00, 1]).unwrap();
        attempt.fails_with(id_at(stage), "message 32768 is unknown here and even");
    });
}

#[test]
fn order_out_of_turn_is_a_bug_and_the_peer_hears_nothing_of_it() {
    everywhere(|stage, mut attempt| {
        match stage {
            "the funding transaction" => attempt.master.order(&yes(), vec![]),
            _ => attempt.master.order(&CompleteFunding { funding: funding() }, vec![]),
        }
        let told = Warning::new(id_at(stage), "internal error, reconnecting");
        assert_eq!(last_word(&mut attempt), Some(told.into()), "{stage}");
        match attempt.end() {
            Err(Failure::Internal(why)) => assert!(why.contains(stage), "{why}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn connectd_has_no_business_here() {
    everywhere(|stage, mut attempt| {
        attempt.peer().control(CloseConnection {}).unwrap();
        assert!(matches!(attempt.end(), Err(Failure::Internal(_))), "{stage}");
    });
}

#[test]
fn hsmd_that_hangs_up_is_our_bug_and_no_matter_for_the_peer() {
    let (master, child) = subdaemon::testing::ScriptedMaster::new();
    let (ours, theirs) = subdaemon::peer_pair().unwrap();
    let (hsm, client) = subdaemon::stream_pair().unwrap();
    drop(hsm);
    master.order(&open_init(), vec![client, theirs]);
    let end = ::openingd::run(child, &settings());
    assert!(matches!(end, Err(Failure::Internal(_))), "{end:?}");
    let mut peer = subdaemon::Peer::new(ours);
    let told = Warning::new(TEMPORARY, "internal error, reconnecting");
    assert_eq!(record(&mut peer), Some(PeerRecord::Message(told.encode())));
    let close = PeerControl::from(CloseConnection {});
    assert_eq!(record(&mut peer), Some(PeerRecord::Control(close)));
    assert_eq!(record(&mut peer), None);
}

#[test]
fn silent_peer_is_given_up() {
    let settings = ::openingd::Settings {
        patience: Duration::from_millis(30),
        funding_patience: Duration::from_millis(30),
        ..settings()
    };
    let mut opener = start_with(&open_init(), OURS, settings.clone());
    opener.says();
    opener.fails_with(TEMPORARY, "no accept_channel within 0 seconds");
    let accepter = start_with(&accept_init(), OURS, settings);
    accepter.fails_with(TEMPORARY, "no open_channel within 0 seconds");
}

#[test]
fn funding_output_above_65535_is_lightningds_bug() {
    let mut opener = with_accept(open_init(), |_| {});
    opener.accepted();
    let funding = OutPoint { vout: 65_536, ..funding() };
    opener.master.order(&CompleteFunding { funding }, vec![]);
    match opener.end() {
        Err(Failure::Internal(why)) => assert_eq!(why, "funding output 65536, of at most 65535"),
        other => panic!("{other:?}"),
    }
}

/// Messages that are almost right: cut, grown, and with some bytes changed; or nothing but noise.
fn bent(message: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let change = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = prop::option::weighted(0.2, any::<prop::sample::Index>());
    let tail = prop::collection::vec(any::<u8>(), 0..8);
    let bent = (change, cut, tail).prop_map(move |(change, cut, tail)| {
        let mut bytes = message.clone();
        for (at, byte) in change {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()).max(1));
        }
        bytes.extend(tail);
        bytes
    });
    prop_oneof![4 => bent, 1 => prop::collection::vec(any::<u8>(), 1..300)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever a peer sends, wherever: it is ignored, or it ends the attempt and nothing else.
    #[test]
    fn arbitrary_bytes_end_nothing_but_the_attempt(
        open in bent(their_open().encode()),
        accept in bent(their_accept().encode()),
        created in bent(created(their_signature(&their_params(Side::Local, &policy().terms))).encode()),
        signed in bent(FundingSigned {
            channel_id: ChannelId::from_funding(&funding()),
            signature: their_signature(&their_params(Side::Remote, &policy().terms)),
        }.encode()),
    ) {
        for (stage, reach) in STAGES {
            let mut attempt = reach();
            let bytes = match stage {
                "accept_channel" | "the funding transaction" => &accept,
                "funding_signed" => &signed,
                "funding_created" => &created,
                _ => &open,
            };
            attempt.peer().send_raw(bytes).unwrap();
            attempt.peer = None;
            let end = attempt.end();
            let fair = matches!(
                end,
                Ok(()) | Err(Failure::PeerError(_) | Failure::PeerSaidError(_) | Failure::PeerSaidWarning(_)
                    | Failure::ConnectionLost)
            );
            prop_assert!(fair, "{stage}: {end:?}");
        }
    }
}
