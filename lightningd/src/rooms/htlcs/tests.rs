//! The switch with its rows and without processes: every order of who says what, and a crash after
//! each turn.

use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::HtlcEvent;
use crate::rooms::channels::key::Origin;
use crate::rooms::channels::testing::{adds, alias, htlc, moves, point, settles};
use crate::rooms::htlcs::resolve::{failed_on_chain, learned_preimage};
use crate::rooms::payments::{Payment, Status};
use crate::testing::{Rig, Said};
use onion::{Failure, ForwardPayload, begin_error, onion_keys, unwrap_error};
use primitives::*;
use wire::channel_data::*;
use wire::channeld::*;
use wire::{Bytes, Long, Message, OnionPacket};

pub mod early;
pub mod late;
pub mod receive;
pub mod tip;

/// From peer 1 over channel 1, to peer 2 over channel 2 or 3.
const IN: u64 = 1;
const OUT: u64 = 2;
const OTHER: u64 = 3;
const AMOUNT: u64 = 1_000_000;
const FEE: u64 = 11;

fn rig(name: &str) -> Rig {
    Rig::new(name, &[(IN, 1), (OUT, 2), (OTHER, 2)])
}
/// With one channel to the next peer.
fn narrow(name: &str) -> Rig {
    Rig::new(name, &[(IN, 1), (OUT, 2)])
}

fn preimage(n: u64) -> Preimage {
    Preimage([n as u8 + 100; 32])
}
fn key(index: u64) -> u64 {
    Origin::Forward(index).key()
}
/// What the origin shares with us, and with the next node.
fn secrets() -> [Secret<32>; 2] {
    [Secret::new([0xaa; 32]), Secret::new([0xbb; 32])]
}

/// The received HTLC of this id is irrevocable, and goes to channel 2.
fn arrive(rig: &mut Rig, id: u64) -> Vec<Said> {
    arrive_of(rig, (id, id), 206)
}
/// The same, with the hash of this number, until this height.
fn arrive_of(rig: &mut Rig, (id, n): (u64, u64), expiry: u32) -> Vec<Said> {
    let hash = preimage(n).hash();
    arrive_as(rig, htlc(Side::Remote, (id, 0), (AMOUNT + FEE, expiry), hash, Stage::Irrevocable))
}

fn arrive_as(rig: &mut Rig, it: LiveHtlc) -> Vec<Said> {
    let id = it.htlc.id.0;
    let [ours, _] = secrets();
    let payload = ForwardPayload {
        short_channel_id: alias(OUT),
        amount: Msat(AMOUNT),
        cltv_expiry: BlockHeight(200),
    };
    let peeled = Peeled::Payload {
        payload: Bytes(payload.to_bytes()),
        next: Some(OnionPacket(Box::new([id as u8; 1366]))),
        keys: onion_keys(&ours, &point(9)),
    };
    let ask = Persist {
        changes: vec![adds(&rig.channel(IN).live, it)],
        peeled: Long(vec![PeeledHtlc { id: HtlcId(id), peeled }]),
    };
    rig.persist(IN, &ask)
}

fn offered(id: u64, n: u64, index: u64) -> LiveHtlc {
    let hash = preimage(n).hash();
    htlc(Side::Local, (id, key(index)), (AMOUNT, 200), hash, Stage::InReceivers)
}

/// Channel `number` stores the HTLC that was ordered: its id, whose hash, which forward.
fn bind(rig: &mut Rig, number: u64, (id, n, index): (u64, u64, u64)) -> Vec<Said> {
    let changes = vec![adds(&rig.channel(number).live, offered(id, n, index))];
    rig.persist(number, &Persist { changes, peeled: Long(vec![]) })
}

/// It is irrevocable.
fn commit(rig: &mut Rig, number: u64, (id, n, index): (u64, u64, u64)) {
    let it = LiveHtlc { added: Stage::Irrevocable, ..offered(id, n, index) };
    let changes = vec![moves(&rig.channel(number).live, &it)];
    assert_eq!(rig.persist(number, &Persist { changes, peeled: Long(vec![]) }), []);
}

/// The peer removes it, and both commit to that: what is said before the last step, and after it.
fn remove(rig: &mut Rig, number: u64, it: (u64, u64, u64), removal: Removal) -> [Vec<Said>; 2] {
    let removed = StagedRemoval { removal, stage: Stage::InReceivers };
    let (id, n, index) = it;
    let it =
        LiveHtlc { added: Stage::Irrevocable, removed: Some(removed), ..offered(id, n, index) };
    let ask = |change| Persist { changes: vec![change], peeled: Long(vec![]) };
    let moved = ask(moves(&rig.channel(number).live, &it));
    let before = rig.persist(number, &moved);
    let settled = ask(settles(&rig.channel(number).live, &it));
    [before, rig.persist(number, &settled)]
}

/// What a new connection of the incoming channel is told.
fn again(rig: &mut Rig) -> Vec<Said> {
    rig.report(IN, &Reestablished {})
}

fn status(rig: &Rig) -> Vec<u8> {
    let mut rows = rig.db.prepare("SELECT status FROM forwards ORDER BY created_index").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}
const OFFERED: u8 = 0;
const SETTLED: u8 = 1;
const LOCAL_FAILED: u8 = 2;
const FAILED: u8 = 3;

/// The failure that the origin reads, and at which hop; `None` where this fails nothing.
fn failure(said: &[Said]) -> Option<(usize, Failure)> {
    let [Said::Fail(IN, HtlcId(0), reason)] = said else { return None };
    unwrap_error(&secrets(), reason).map(|u| (u.hop, u.failure))
}
fn temporary() -> Failure {
    Failure::TemporaryChannelFailure { channel_update: vec![] }
}
fn fulfil() -> Vec<Said> {
    vec![Said::Fulfil(IN, HtlcId(0), preimage(0))]
}

#[test]
fn a_forward_is_offered_once_and_paid_once_wherever_it_crashes() {
    // A crash after so many turns; the last one is none.
    for crash in 0..6 {
        let mut rig = narrow(&format!("fulfilled-{crash}"));
        let it = (0, 0, 1);
        let said = arrive(&mut rig, 0);
        let [Said::Offer(OUT, offer)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(
            (offer.key, offer.amount, offer.expiry),
            (key(1), Msat(AMOUNT), BlockHeight(200))
        );
        assert_eq!((offer.payment_hash, offer.onion.0[0]), (preimage(0).hash(), 0));
        assert_eq!(again(&mut rig), [], "it is under way");
        if crash == 0 {
            // Nobody has stored it: it was never offered, and fails.
            rig.crash();
            assert_eq!(status(&rig), [LOCAL_FAILED]);
            assert_eq!(failure(&again(&mut rig)), Some((0, temporary())));
            continue;
        }
        assert_eq!(bind(&mut rig, OUT, it), []);
        let maybe = |rig: &mut Rig, at: i32| {
            if crash == at {
                assert_eq!(rig.crash(), [], "crash {crash}");
            }
        };
        maybe(&mut rig, 1);
        assert_eq!(again(&mut rig), []);
        commit(&mut rig, OUT, it);
        maybe(&mut rig, 2);
        assert_eq!((again(&mut rig), status(&rig)), (vec![], vec![OFFERED]));
        // At once, before any commitment has it.
        let shown = PreimageLearned { id: HtlcId(0), preimage: preimage(0) };
        assert_eq!(rig.report(OUT, &shown), fulfil());
        maybe(&mut rig, 3);
        assert_eq!(again(&mut rig), fulfil());
        assert_eq!(rig.report(OUT, &shown), [], "shown again after a reconnect");
        let removal = Removal::Fulfilled { preimage: preimage(0) };
        assert_eq!(remove(&mut rig, OUT, it, removal), [vec![], vec![]]);
        maybe(&mut rig, 4);
        assert_eq!((again(&mut rig), status(&rig)), (fulfil(), vec![SETTLED]));
        assert_eq!(rig.node.htlcs.fees_collected, Msat(FEE));
    }
}

#[test]
fn failure_goes_back_once_irrevocable_with_our_onion_layer() {
    for crash in 0..3 {
        let mut rig = narrow(&format!("failed-{crash}"));
        let it = (0, 0, 1);
        arrive(&mut rig, 0);
        bind(&mut rig, OUT, it);
        commit(&mut rig, OUT, it);
        let [_, theirs] = secrets();
        let why = Failure::IncorrectOrUnknownPaymentDetails {
            htlc: Msat(AMOUNT),
            height: BlockHeight(100),
        };
        let reason = begin_error(&onion_keys(&theirs, &point(9)), &why);
        let removed = StagedRemoval {
            removal: Removal::Failed { reason: reason.clone() },
            stage: Stage::InReceivers,
        };
        let live =
            LiveHtlc { added: Stage::Irrevocable, removed: Some(removed), ..offered(0, 0, 1) };
        let ask = |change| Persist { changes: vec![change], peeled: Long(vec![]) };
        let moved = ask(moves(&rig.channel(OUT).live, &live));
        assert_eq!(rig.persist(OUT, &moved), [], "the peer can still take it back");
        if crash == 0 {
            assert_eq!(rig.crash(), []);
        }
        assert_eq!((again(&mut rig), status(&rig)), (vec![], vec![OFFERED]));
        let settled = ask(settles(&rig.channel(OUT).live, &live));
        let said = rig.persist(OUT, &settled);
        assert_eq!(failure(&said), Some((1, why)));
        if crash == 1 {
            assert_eq!(rig.crash(), []);
        }
        assert_eq!((again(&mut rig), status(&rig)), (said, vec![FAILED]));
    }
}

#[test]
fn malformed_failure_goes_back_as_an_error_of_ours() {
    let mut rig = narrow("malformed");
    let it = (0, 0, 1);
    arrive(&mut rig, 0);
    bind(&mut rig, OUT, it);
    commit(&mut rig, OUT, it);
    let sha256_of_onion = Sha256Digest([5; 32]);
    let removal = Removal::Malformed { sha256_of_onion, failure_code: 0xc005 };
    let [before, after] = remove(&mut rig, OUT, it, removal);
    assert_eq!(before, []);
    assert_eq!(failure(&after), Some((0, Failure::InvalidOnionHmac(sha256_of_onion))));
}

#[test]
fn channeld_death_with_an_order_costs_the_forward_that_channel() {
    let mut rig = rig("lost");
    arrive(&mut rig, 0);
    // The other channel to the same peer takes it, under the same key.
    let said = rig.lose(OUT);
    assert!(matches!(&said[..], [Said::Offer(OTHER, o)] if o.key == key(1)), "{said:?}");
    // The dead one's late word is nobody's; the living one binds, once.
    assert_eq!(bind(&mut rig, OUT, (0, 0, 1)), []);
    assert_eq!(rig.channel(OUT).live.htlcs.0.len(), 0);
    assert_eq!(bind(&mut rig, OTHER, (0, 0, 1)), []);
    assert_eq!(bind(&mut rig, OTHER, (1, 0, 1)), [Said::Kill(OTHER)], "bound twice");
    assert_eq!(rig.lose(OTHER), [], "once bound it only waits");
    assert_eq!(status(&rig), [OFFERED]);
    let mut rig = narrow("lost-alone");
    arrive(&mut rig, 0);
    assert_eq!(failure(&rig.lose(OUT)), Some((0, temporary())));
}

#[test]
fn offer_unread_when_closing_began_goes_to_another_channel() {
    let mut rig = rig("closing");
    arrive(&mut rig, 0);
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(OUT)).unwrap();
    channel.state = crate::rooms::channels::state::State::ShuttingDown;
    let script = || Some(ScriptBuf::from(vec![0x51]));
    channel.shutdown = Sides { local: script(), remote: script() };
    let (ours, _theirs) = subdaemon::peer_pair().unwrap();
    let frame = subdaemon::Frame { body: ReadyToClose {}.encode(), fds: [ours].into() };
    let said = rig.run(Event::Child(OUT + 1000, frame));
    assert!(matches!(&said[..], [Said::Offer(OTHER, o)] if o.key == key(1)), "{said:?}");
}

#[test]
fn a_refusal_is_tried_elsewhere_and_then_told() {
    let mut rig = rig("refused");
    arrive(&mut rig, 0);
    let why = OfferRefusal::TooManyHtlcs { maximum: 483 };
    let refused = OfferRefused { key: key(1), why };
    let said = rig.report(OUT, &refused);
    assert!(matches!(&said[..], [Said::Offer(OTHER, _)]), "{said:?}");
    // Only who was told to offer it may refuse it.
    assert_eq!(rig.report(OUT, &refused), []);
    assert_eq!(status(&rig), [OFFERED]);
    let why = OfferRefusal::DustExposure { maximum: Msat(1) };
    let said = rig.report(OTHER, &OfferRefused { key: key(1), why });
    assert_eq!(failure(&said), Some((0, temporary())));
    assert_eq!(status(&rig), [LOCAL_FAILED]);
}

#[test]
fn a_daemon_is_not_believed_what_it_was_not_ordered() {
    let mut rig = rig("captured");
    arrive(&mut rig, 0);
    bind(&mut rig, OUT, (0, 0, 1));
    commit(&mut rig, OUT, (0, 0, 1));
    let ask = |change| Persist { changes: vec![change], peeled: Long(vec![]) };
    let live = rig.channel(OUT).live.clone();
    // An id again, a key of nobody's, one of a payment that never was, one that is bound elsewhere.
    for (number, bad) in [
        (OUT, offered(0, 0, 1)),
        (OTHER, offered(0, 0, 7)),
        (OTHER, LiveHtlc { key: 1, ..offered(0, 0, 1) }),
        (OTHER, LiveHtlc { key: 0, ..offered(0, 0, 1) }),
        (OTHER, offered(0, 0, 1)),
    ] {
        let said = rig.persist(number, &ask(adds(&rig.channel(number).live, bad.clone())));
        assert_eq!(said, [Said::Kill(number)], "{bad:?}");
    }
    // Another preimage.
    let wrong = Removal::Fulfilled { preimage: preimage(9) };
    let removed = Some(StagedRemoval { removal: wrong, stage: Stage::InReceivers });
    let it = LiveHtlc { added: Stage::Irrevocable, removed, ..offered(0, 0, 1) };
    assert_eq!(rig.persist(OUT, &ask(moves(&live, &it))), [Said::Kill(OUT)]);
    rig.report(OUT, &PreimageLearned { id: HtlcId(0), preimage: preimage(9) });
    assert_eq!(status(&rig), [OFFERED]);
    // Not the amount, the expiry or the hash that were ordered.
    arrive(&mut rig, 1);
    let good = offered(1, 1, 2);
    for bad in [
        htlc(Side::Local, (1, key(2)), (AMOUNT + 1, 200), preimage(1).hash(), Stage::InReceivers),
        htlc(Side::Local, (1, key(2)), (AMOUNT, 201), preimage(1).hash(), Stage::InReceivers),
        htlc(Side::Local, (1, key(2)), (AMOUNT, 200), preimage(2).hash(), Stage::InReceivers),
    ] {
        let live = rig.channel(OUT).live.clone();
        assert_eq!(rig.persist(OUT, &ask(adds(&live, bad))), [Said::Kill(OUT)]);
    }
    let live = rig.channel(OUT).live.clone();
    assert_eq!(rig.persist(OUT, &ask(adds(&live, good))), []);
}

#[test]
fn a_daemon_cannot_refuse_what_it_has_offered() {
    let mut rig = narrow("refused-late");
    let hash = preimage(0).hash();
    rig.node.payments.insert(payment(1, OUT, hash));
    let bound = LiveHtlc { key: 1, ..offered(0, 0, 1) };
    let changes = vec![adds(&rig.channel(OUT).live, bound)];
    assert_eq!(rig.persist(OUT, &Persist { changes, peeled: Long(vec![]) }), []);
    // Whoever paid would pay again, and both would arrive.
    rig.report(OUT, &OfferRefused { key: 1, why: OfferRefusal::Closing });
    assert_eq!(rig.node.payments.all[&1].status, Status::Pending);
    // One that was not offered may be refused.
    rig.node.payments.insert(payment(2, OUT, preimage(1).hash()));
    rig.report(OUT, &OfferRefused { key: 2, why: OfferRefusal::Closing });
    assert_eq!(rig.node.payments.all[&2].status, Status::Failed);
}

/// A payment of ours that is under way.
fn payment(created_index: u64, channel: u64, hash: PaymentHash) -> Payment {
    Payment {
        created_index,
        updated_index: None,
        hash,
        partid: 0,
        groupid: 0,
        status: Status::Pending,
        amount: None,
        sent: Msat(AMOUNT),
        total: Msat(AMOUNT),
        destination: None,
        label: None,
        bolt11: None,
        description: None,
        created_at: 0,
        completed_at: None,
        preimage: None,
        secrets: vec![],
        route: vec![],
        channel: ChannelNumber(channel),
        failure: None,
    }
}

/// A forward whose outgoing channel is on its way to the chain.
fn on_chain(name: &str) -> Rig {
    let mut rig = narrow(name);
    arrive(&mut rig, 0);
    bind(&mut rig, OUT, (0, 0, 1));
    commit(&mut rig, OUT, (0, 0, 1));
    rig.go_to_chain(OUT);
    rig
}

#[test]
fn a_preimage_from_the_chain_goes_back_at_once_and_once() {
    let channel = ChannelNumber(OUT);
    let learn = |rig: &mut Rig, p: Preimage| {
        rig.turn(|node, turn| learned_preimage(node, turn, channel, HtlcId(0), p))
    };
    let fail =
        |rig: &mut Rig| rig.turn(|node, turn| failed_on_chain(node, turn, channel, HtlcId(0)));
    for crash in [false, true] {
        let mut rig = on_chain(&format!("learned-{crash}"));
        if crash {
            assert_eq!(rig.crash(), []);
        }
        assert_eq!(learn(&mut rig, preimage(7)), [], "of another");
        assert_eq!(learn(&mut rig, preimage(0)), fulfil());
        assert_eq!(learn(&mut rig, preimage(0)), []);
        assert_eq!(fail(&mut rig), [], "it is paid");
        if crash {
            assert_eq!(rig.crash(), []);
        }
        assert_eq!((again(&mut rig), status(&rig)), (fulfil(), vec![SETTLED]));
        assert_eq!((learn(&mut rig, preimage(0)), fail(&mut rig)), (vec![], vec![]));
        assert_eq!(rig.node.htlcs.fees_collected, Msat(FEE));
    }
}

#[test]
fn a_timeout_on_the_chain_fails_what_was_forwarded_once() {
    let channel = ChannelNumber(OUT);
    let fail =
        |rig: &mut Rig| rig.turn(|node, turn| failed_on_chain(node, turn, channel, HtlcId(0)));
    for crash in [false, true] {
        let mut rig = on_chain(&format!("timeout-{crash}"));
        if crash {
            assert_eq!(rig.crash(), []);
        }
        let said = fail(&mut rig);
        assert_eq!(failure(&said), Some((0, Failure::PermanentChannelFailure)));
        if crash {
            assert_eq!(rig.crash(), []);
        }
        assert_eq!((again(&mut rig), status(&rig)), (said, vec![FAILED]));
        assert_eq!(fail(&mut rig), []);
        let late =
            rig.turn(|node, turn| learned_preimage(node, turn, channel, HtlcId(0), preimage(0)));
        assert_eq!(late, [], "what was failed is failed");
        // HTLCs that never were.
        assert_eq!(rig.turn(|node, turn| failed_on_chain(node, turn, channel, HtlcId(5))), []);
        let unknown = ChannelNumber(77);
        assert_eq!(rig.turn(|node, turn| failed_on_chain(node, turn, unknown, HtlcId(0))), []);
    }
}

#[test]
fn decision_is_kept_for_a_channel_force_closed_before_it() {
    for crash in [false, true] {
        let mut rig = narrow(&format!("incoming-{crash}"));
        arrive(&mut rig, 0);
        bind(&mut rig, OUT, (0, 0, 1));
        commit(&mut rig, OUT, (0, 0, 1));
        rig.go_to_chain(IN);
        // Nobody is there to be ordered, and the preimage is there to be claimed with.
        assert_eq!(rig.report(OUT, &PreimageLearned { id: HtlcId(0), preimage: preimage(0) }), []);
        if crash {
            assert_eq!(rig.crash(), []);
        }
        let decided = rig.channel(IN).decided.get(&HtlcId(0)).cloned();
        assert_eq!(decided, Some(Removal::Fulfilled { preimage: preimage(0) }));
    }
    // What was not offered yet is not offered any more.
    let mut rig = rig("incoming-unbound");
    arrive(&mut rig, 0);
    rig.go_to_chain(IN);
    assert_eq!(rig.lose(OUT), []);
    assert!(matches!(rig.channel(IN).decided.get(&HtlcId(0)), Some(Removal::Failed { .. })));
    assert_eq!(status(&rig), [LOCAL_FAILED]);
}

#[test]
fn a_row_that_ended_without_its_forward_is_heard_at_the_start() {
    // It cannot be, since both are one turn; if it ever is, the row is the truth.
    for (sql, expected) in [
        ("UPDATE htlcs SET settled = 1, removal = NULL WHERE key != 0", LOCAL_FAILED),
        (
            "UPDATE htlcs SET removal = CAST(x'00' || ?1 AS BLOB), removed = 1 WHERE key != 0",
            SETTLED,
        ),
    ] {
        let mut rig = narrow(&format!("unheard-{expected}"));
        arrive(&mut rig, 0);
        bind(&mut rig, OUT, (0, 0, 1));
        commit(&mut rig, OUT, (0, 0, 1));
        let shown = preimage(0).0;
        let mut statement = rig.db.prepare(sql).unwrap();
        let count = statement.parameter_count();
        if count == 1 {
            statement.execute([shown.as_slice()]).unwrap();
        } else {
            statement.execute([]).unwrap();
        }
        drop(statement);
        rig.crash();
        assert_eq!(status(&rig), [expected]);
        assert_eq!(again(&mut rig).len(), 1);
    }
}

#[test]
fn an_htlc_is_decided_once_however_often_it_is_asked() {
    let mut rig = narrow("decide");
    arrive(&mut rig, 0);
    let decide = || Event::Decide(ChannelNumber(IN), HtlcId(0));
    assert_eq!(rig.run(decide()), []);
    bind(&mut rig, OUT, (0, 0, 1));
    assert_eq!(rig.run(decide()), []);
    rig.report(OUT, &PreimageLearned { id: HtlcId(0), preimage: preimage(0) });
    assert_eq!(rig.run(decide()), []);
    assert_eq!(status(&rig), [SETTLED]);
}
