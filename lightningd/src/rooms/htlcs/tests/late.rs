//! Forwards that a peer lets wait: it holds back the revocation without which no commitment can
//! have them.

use super::*;
use crate::rooms::channels::state::State;

/// The tip is there, and every room took it in. The forward expires at 200.
fn tip(rig: &mut Rig, height: u32) -> Vec<Said> {
    let block = (BlockHeight(height), bitcoin::hashes::Hash::all_zeros());
    rig.node.chain.headers.push_back(block);
    rig.run(Event::NewTip(BlockHeight(height)))
}

/// The order is out, and no commitment has it.
fn waiting(name: &str) -> Rig {
    let mut rig = narrow(name);
    assert!(matches!(arrive(&mut rig, 0)[..], [Said::Offer(OUT, _)]));
    rig
}

fn set_tip(rig: &mut Rig, height: u32) {
    rig.node.chain.headers.push_back((BlockHeight(height), bitcoin::hashes::Hash::all_zeros()));
}

/// What its channel asks to be stored is refused; with its daemon dead the forward goes back.
fn is_refused(mut rig: Rig) -> Rig {
    assert_eq!(bind(&mut rig, OUT, (0, 0, 1)), [Said::Kill(OUT)]);
    assert_eq!(rig.channel(OUT).live.htlcs.0, []);
    let said = rig.lose(OUT);
    if rig.channel(IN).state.is_open() && rig.channel(IN).htlc(Side::Remote, HtlcId(0)).is_some() {
        assert!(matches!(said[..], [Said::Fail(IN, HtlcId(0), _)]), "{said:?}");
    }
    assert_eq!(status(&rig), [LOCAL_FAILED]);
    rig
}

#[test]
fn a_forward_that_has_expired_while_it_waited_is_not_signed() {
    let mut rig = waiting("late-expired");
    set_tip(&mut rig, 200);
    is_refused(rig);
    // One block earlier it may go: our own deadline is the same whenever it came.
    let mut rig = waiting("late-in-time");
    set_tip(&mut rig, 199);
    assert_eq!(bind(&mut rig, OUT, (0, 0, 1)), []);
    assert_eq!(status(&rig), [OFFERED]);
}

#[test]
fn forward_from_a_channel_being_failed_is_not_signed() {
    let mut rig = waiting("late-chain");
    rig.go_to_chain(IN);
    let rig = is_refused(rig);
    assert!(matches!(rig.channel(IN).decided.get(&HtlcId(0)), Some(Removal::Failed { .. })));
    // A close that both agree on waits for what is under way.
    let mut rig = waiting("late-shutdown");
    rig.node.channels.all.get_mut(&ChannelNumber(IN)).unwrap().state = State::ShuttingDown;
    assert_eq!(bind(&mut rig, OUT, (0, 0, 1)), []);
}

#[test]
fn forward_of_a_gone_or_decided_htlc_is_not_signed() {
    let mut rig = waiting("late-gone");
    rig.node.channels.all.get_mut(&ChannelNumber(IN)).unwrap().live.htlcs.0.clear();
    is_refused(rig);
    let mut rig = waiting("late-decided");
    let failed = Removal::Failed { reason: vec![] };
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(IN)).unwrap();
    channel.decided.insert(HtlcId(0), failed);
    is_refused(rig);
}

#[test]
fn forward_is_not_signed_while_the_tip_is_unknown() {
    let mut rig = waiting("late-unsynced");
    rig.node.chain.caught_up = false;
    is_refused(rig);
    let mut rig = waiting("late-unfounded");
    rig.node.channels.all.get_mut(&ChannelNumber(IN)).unwrap().minimum_depth = 1;
    is_refused(rig);
}

#[test]
fn forward_that_waits_too_long_is_failed_back_in_time() {
    let mut rig = waiting("late-timer");
    arrive(&mut rig, 1);
    assert_eq!(tip(&mut rig, 199), []);
    assert_eq!(tip(&mut rig, 200), [Said::Kill(OUT)], "once, though two wait");
    let said = rig.lose(OUT);
    let back = [HtlcId(0), HtlcId(1)];
    let failed = |s: &Said| match s {
        Said::Fail(IN, id, _) => Some(*id),
        _ => None,
    };
    assert_eq!(said.iter().filter_map(failed).collect::<Vec<_>>(), back);
    assert_eq!(status(&rig), [LOCAL_FAILED, LOCAL_FAILED]);
    assert_eq!(tip(&mut rig, 201), []);
    // What a commitment has only ends by itself, or by its channel's deadline, which is another's.
    let mut rig = waiting("late-bound");
    bind(&mut rig, OUT, (0, 0, 1));
    assert_eq!(tip(&mut rig, 200), []);
}

#[test]
fn forward_from_a_force_closed_channel_waits_no_longer() {
    let mut rig = waiting("late-timer-chain");
    rig.go_to_chain(IN);
    assert_eq!(tip(&mut rig, 101), [Said::Kill(OUT)]);
    rig.lose(OUT);
    assert_eq!(status(&rig), [LOCAL_FAILED]);
    assert_eq!(tip(&mut rig, 102), []);
}

#[test]
fn payment_that_expired_while_it_waited_is_not_signed() {
    for (height, ends) in [(199, None), (200, Some(Status::Failed))] {
        let mut rig = narrow(&format!("late-payment-{height}"));
        rig.node.payments.insert(payment(1, OUT, preimage(0).hash()));
        set_tip(&mut rig, height);
        let bound = LiveHtlc { key: 1, ..offered(0, 0, 0) };
        let changes = vec![adds(&rig.channel(OUT).live, bound)];
        let said = rig.persist(OUT, &Persist { changes, peeled: Long(vec![]) });
        rig.lose(OUT);
        match ends {
            None => assert_eq!((said, rig.node.payments.all[&1].status), (vec![], Status::Pending)),
            Some(status) => {
                assert_eq!(said, [Said::Kill(OUT)]);
                assert_eq!(rig.node.payments.all[&1].status, status);
            }
        }
    }
}

/// channeld refuses an HTLC of its own accord, and the connection is lost before the removal is
/// signed: the failure is said again to every daemon that the channel gets.
#[test]
fn refused_htlc_is_failed_again_after_a_crash() {
    let mut rig = narrow("refused");
    let hash = preimage(0).hash();
    let it = htlc(Side::Remote, (0, 0), (AMOUNT, 206), hash, Stage::Irrevocable);
    let peeled = Peeled::Refused { removal: Removal::Failed { reason: vec![7] } };
    let ask = Persist {
        changes: vec![adds(&rig.channel(IN).live, it)],
        peeled: Long(vec![PeeledHtlc { id: HtlcId(0), peeled }]),
    };
    let fail = [Said::Fail(IN, HtlcId(0), vec![7])];
    assert_eq!(rig.persist(IN, &ask), fail);
    rig.crash();
    assert_eq!(again(&mut rig), fail);
    assert!(rig.channel(IN).decided.contains_key(&HtlcId(0)));
}

/// BOLT 4, "Onion Decryption": an HMAC that was received before fails its HTLC, on whatever channel
/// it comes, while the first HTLC lives, after its end, and after a restart. The first one itself
/// is decided as always.
#[test]
fn replayed_onion_is_failed_over_restarts() {
    let mut rig = narrow("replayed");
    let first = LiveHtlc {
        onion: OnionPacket(Box::new([3; 1366])),
        ..htlc(Side::Remote, (0, 0), (AMOUNT + FEE, 206), preimage(0).hash(), Stage::Irrevocable)
    };
    let said = arrive_as(&mut rig, first.clone());
    assert!(matches!(&said[..], [Said::Offer(OUT, _)]), "{said:?}");
    let is_failed = |said: &[Said], id: u64| match said {
        [Said::Fail(IN, HtlcId(n), reason)] if *n == id => {
            let read = unwrap_error(&secrets(), reason).map(|u| u.failure);
            assert_eq!(read, Some(Failure::TemporaryNodeFailure));
        }
        other => panic!("{other:?}"),
    };
    let again = |rig: &mut Rig, id: u64| {
        let htlc = Htlc { id: HtlcId(id), ..first.htlc.clone() };
        let said = arrive_as(rig, LiveHtlc { htlc, ..first.clone() });
        is_failed(&said, id);
    };
    again(&mut rig, 1);
    rig.crash();
    // Nobody stored the outgoing one: the first fails for that, and is no replay of its own.
    let said = super::again(&mut rig);
    let of_first = said.iter().find(|s| matches!(s, Said::Fail(IN, HtlcId(0), _)));
    assert_eq!(failure(&[of_first.unwrap().clone()]), Some((0, temporary())));
    again(&mut rig, 2);
    let gone = settles(&rig.channel(IN).live, &first);
    rig.persist(IN, &Persist { changes: vec![gone], peeled: Long(vec![]) });
    rig.crash();
    again(&mut rig, 3);
}

/// BOLT 4, "Onion Decryption": HMACs are kept for 144 blocks beyond their HTLC's expiry, and no
/// longer.
#[test]
fn onion_hmac_is_forgotten_after_its_htlc_expired() {
    let mut rig = narrow("forgotten-hmac");
    for (id, expiry) in [(0, 206), (1, 207)] {
        arrive_of(&mut rig, (id, id), expiry);
    }
    let kept = |rig: &Rig| {
        let count = "SELECT count(*) FROM htlcs WHERE onion_hmac IS NOT NULL";
        rig.db.query_row(count, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    for (height, left) in [(207, 2), (350, 2), (351, 1), (352, 0)] {
        rig.run(Event::NewTip(BlockHeight(height)));
        assert_eq!(kept(&rig), left, "{height}");
    }
}
