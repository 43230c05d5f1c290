//! What the chain must show before anything is decided: a tip that is one, and fundings that are
//! there.

use super::*;

/// A restart, with the tip not there yet.
fn behind(name: &str) -> Rig {
    let mut rig = narrow(name);
    rig.node.chain.caught_up = false;
    assert_eq!(rig.turn(|node, turn| crate::rooms::htlcs::decide::begin(node, turn)), []);
    rig
}

#[test]
fn htlc_before_the_tip_is_known_is_decided_with_the_tip() {
    let mut rig = behind("before-the-tip");
    assert_eq!(arrive(&mut rig, 0), []);
    assert_eq!((again(&mut rig), status(&rig)), (vec![], vec![]));
    let said = rig.turn(crate::flows::backend::caught_up);
    assert!(matches!(said[..], [Said::Offer(OUT, _)]), "{said:?}");
    assert_eq!(status(&rig), [OFFERED]);
}

#[test]
fn htlc_before_the_tip_is_known_fails_if_the_tip_never_comes() {
    let mut rig = behind("without-a-tip");
    assert_eq!(arrive(&mut rig, 0), []);
    let said = rig.run(Event::Htlc(HtlcEvent::DecideAll));
    assert_eq!(failure(&said), Some((0, Failure::TemporaryNodeFailure)));
    // The next one is not waited with either.
    let late = arrive(&mut rig, 1);
    assert!(matches!(late[..], [Said::Fail(IN, HtlcId(1), _)]), "{late:?}");
}

/// Our tip says that it was made so many hours ago, and the network is one where that matters.
fn tip_of(rig: &mut Rig, hours: u64) {
    rig.node.network = Network::Signet;
    let made = crate::sys::json::now() - hours * 3600 - 60;
    rig.node.chain.times.insert(BlockHeight(100), u32::try_from(made).unwrap());
}

#[test]
fn nothing_is_forwarded_on_a_tip_that_is_too_old() {
    let mut rig = narrow("stale");
    tip_of(&mut rig, 4);
    assert!(rig.node.stale_warning().unwrap().contains("4h01m"));
    assert_eq!(failure(&arrive(&mut rig, 0)), Some((0, Failure::TemporaryNodeFailure)));
    assert_eq!(status(&rig), [LOCAL_FAILED]);
    // A long pause is no reason.
    tip_of(&mut rig, 3);
    assert!(matches!(arrive(&mut rig, 1)[..], [Said::Offer(OUT, _)]));
    // Nor is anything on a chain whose blocks come when somebody wants one.
    tip_of(&mut rig, 4);
    rig.node.network = Network::Regtest;
    assert!(rig.node.trusts_tip());
}

#[test]
fn what_arrives_at_a_start_with_an_old_tip_waits_for_a_new_one() {
    let mut rig = behind("stale-start");
    tip_of(&mut rig, 4);
    assert_eq!(arrive(&mut rig, 0), []);
    let caught_up = |node: &crate::node::Node, turn: &mut crate::kernel::turn::Turn<'_>| {
        crate::flows::backend::caught_up(node, turn)
    };
    assert_eq!((rig.turn(caught_up), status(&rig)), (vec![], vec![]));
    tip_of(&mut rig, 0);
    let said = rig.turn(|node, turn| {
        crate::rooms::htlcs::decide::tip_found(node, turn);
        Ok(())
    });
    assert!(matches!(said[..], [Said::Offer(OUT, _)]), "{said:?}");
}

#[test]
fn channel_whose_funding_was_reorged_out_forwards_nothing() {
    for (gone, why) in [(IN, Failure::TemporaryNodeFailure), (OUT, temporary())] {
        let mut rig = narrow(&format!("unfounded-{gone}"));
        let set = |rig: &mut Rig, height: Option<u32>| {
            let channel = rig.node.channels.all.get_mut(&ChannelNumber(gone)).unwrap();
            channel.minimum_depth = 3;
            channel.funding_height = height.map(BlockHeight);
        };
        set(&mut rig, None);
        assert_eq!(failure(&arrive(&mut rig, 0)), Some((0, why.clone())));
        // Two deep, where it was to be three; then three.
        set(&mut rig, Some(99));
        assert!(matches!(arrive(&mut rig, 1)[..], [Said::Fail(IN, HtlcId(1), _)]));
        set(&mut rig, Some(98));
        assert!(matches!(arrive(&mut rig, 2)[..], [Said::Offer(OUT, _)]));
    }
}
