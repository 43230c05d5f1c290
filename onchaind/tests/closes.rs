//! Every kind of close, with real signatures on every side: what hsmd signs of a claim is executed
//! by consensus, and what the peer does is valid too.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::story::*;
use common::*;
use onchaind::DEPTH;
use primitives::*;
use std::collections::BTreeSet;
use wire::Long;
use wire::hsm::WalletKey;
use wire::onchaind::*;

#[test]
fn our_commitment_is_taken_output_by_output() {
    for anchors in FORMATS {
        let mut world = busy(anchors);
        let made = world.newest(L).clone();
        let mut story = Story::new(world.init(&made));
        let first = story.now();
        assert_eq!(first.close, CloseKind::Ours {});
        assert_eq!(claimed(&first), ["our_htlc 0", "our_htlc 1", "our_to_local"]);
        // Dust that we offered: nobody can ever take it.
        assert_eq!(first.failed.0, [HtlcId(2)]);
        assert!(output(&first, "their_to_remote").done);
        let anchors_there = first.outputs.0.iter().filter(|o| o.what.ends_with("anchor"));
        assert_eq!(anchors_there.count(), if anchors { 2 } else { 0 });
        assert_eq!(first.settled, None);

        let to_local = claim(&first, "our_to_local");
        assert_eq!(to_local.ready, BlockHeight(HEIGHT.0 + u32::from(OUR_DELAY)));
        assert_eq!((to_local.sequence, to_local.deadline), (OUR_DELAY.into(), None));
        let swept = world.take(&[to_local], false);

        // The peer's first becomes ours when its preimage is known: at once, and before its expiry.
        let known = story.preimage(HtlcId(0), 20);
        let success = claim(&known, "their_htlc 0").clone();
        assert_eq!((success.lock_time, success.ready), (0, BlockHeight(101)));
        assert_eq!(success.deadline, Some(BlockHeight(520)));
        // Ours come back after theirs: a lock time of 510 is for block 511.
        let timeout = claim(&known, "our_htlc 0").clone();
        assert_eq!((timeout.lock_time, timeout.ready), (510, BlockHeight(511)));
        let success_tx = world.take(&[&success], anchors);
        let timeout_tx = world.take(&[&timeout], anchors);
        let shapes_pair = matches!(success.shape, ClaimShape::Paired { .. });
        assert_eq!(shapes_pair, anchors);

        let after = story.block(105, vec![success_tx]);
        let second = claim(&after, "their_htlc 0 second stage");
        assert_eq!(second.ready, BlockHeight(105 + u32::from(OUR_DELAY)));
        let second_tx = world.take(&[second], false);
        // The peer takes the other of ours: then we know its preimage, and lose nothing.
        let theirs = world.peer_takes(&made, L, HtlcId(1), 11);
        let after = story.block(106, vec![theirs]);
        assert_eq!(after.learned.0, [(HtlcId(1), preimage(11))]);
        assert_eq!(claimed(&after), ["our_htlc 0", "our_to_local", "their_htlc 0 second stage"]);
        let after = story.block(120, vec![swept, second_tx]);
        assert_eq!(claimed(&after), ["our_htlc 0"]);

        let after = story.block(511, vec![timeout_tx]);
        assert_eq!(after.failed.0, [HtlcId(2)]);
        let second = world.take(&[claim(&after, "our_htlc 0 second stage")], false);
        let after = story.block(511 + DEPTH - 1, vec![]);
        assert_eq!(after.failed.0, [HtlcId(2)]);
        let after = story.block(511 + DEPTH, vec![]);
        assert_eq!(after.failed.0, [HtlcId(0), HtlcId(2)]);
        // The peer's second expires: it is the peer's, whether it is ever taken or not.
        assert_eq!(after.settled, None);
        let after = story.block(521, vec![second]);
        assert_eq!((claimed(&after).len(), after.settled), (0, None));
        let after = story.block(521 + DEPTH, vec![]);
        assert_eq!(after.settled, Some(BlockHeight(521 + DEPTH)));
    }
}

#[test]
fn peers_commitment_is_taken_output_by_output() {
    for anchors in FORMATS {
        let mut world = busy(anchors);
        let made = world.newest(R).clone();
        let mut init = world.init(&made);
        init.upstream = Long(vec![(HtlcId(0), BlockHeight(540))]);
        let mut story = Story::new(init);
        let first = story.now();
        assert_eq!(first.close, CloseKind::Theirs { number: made.state.number });
        assert_eq!(claimed(&first), ["our_htlc 0", "our_htlc 1", "our_to_remote"]);
        assert_eq!(claim(&first, "our_htlc 0").deadline, Some(BlockHeight(540)));
        assert_eq!(claim(&first, "our_htlc 1").deadline, Some(BlockHeight(511 + 72)));
        assert!(output(&first, "their_to_local").done);
        let known = story.preimage(HtlcId(1), 21);
        let success = claim(&known, "their_htlc 1");
        assert_eq!(success.deadline, Some(BlockHeight(521)));
        let together = world.take(&[claim(&known, "our_to_remote"), success], true);
        let timeout = world.take(&[claim(&known, "our_htlc 1")], false);
        let after = story.block(101, vec![together]);
        assert_eq!(claimed(&after), ["our_htlc 0", "our_htlc 1"]);

        // The peer's success shows what opens it.
        let theirs = world.peers_htlc_tx(&made, L, HtlcId(0), 10);
        let after = story.block(102, vec![theirs]);
        assert_eq!(after.learned.0, [(HtlcId(0), preimage(10))]);
        assert_eq!(claimed(&after), ["our_htlc 1"]);
        let after = story.block(512, vec![timeout]);
        assert_eq!(after.failed.0, [HtlcId(2)]);
        let after = story.block(512 + DEPTH, vec![]);
        assert_eq!(after.failed.0, [HtlcId(1), HtlcId(2)]);
        // The peer's first was never opened.
        let after = story.block(520 + DEPTH - 1, vec![]);
        assert_eq!(after.settled, None);
        // It may be yet, and the channel is remembered for that, however old its close is.
        let after = story.block(520 + DEPTH, vec![]);
        assert_eq!(after.settled, Some(BlockHeight(520 + DEPTH)));
        let after = story.block(520 + DEPTH + 50, vec![]);
        assert_eq!(after.settled, Some(BlockHeight(520 + DEPTH)));
        let late = story.preimage(HtlcId(0), 20);
        assert_eq!((claimed(&late), late.settled), (vec!["their_htlc 0"], None));
    }
}

#[test]
fn peers_previous_commitment_counts_until_it_is_revoked() {
    for anchors in FORMATS {
        let mut world = busy(anchors);
        // One more of ours, signed for, and the one before not revoked.
        let id = world.add(L, BIG, 13, 513).unwrap();
        assert!(world.sign(L));
        let (old, new) = {
            let mut made = world.made.remote.iter().rev();
            let new = made.next().unwrap().clone();
            (made.next().unwrap().clone(), new)
        };
        let mut story = Story::new(world.init(&new));
        let first = story.now();
        assert_eq!(first.close, CloseKind::Theirs { number: new.state.number });
        assert_eq!(claimed(&first).len(), 4);
        for c in &first.claims.0 {
            world.take(&[c], false);
        }
        story.block(HEIGHT.0 + DEPTH, vec![]);

        let mut story = Story::new(world.init(&old));
        let first = story.now();
        assert_eq!(first.close, CloseKind::Theirs { number: old.state.number });
        assert_eq!(claimed(&first), ["our_htlc 0", "our_htlc 1", "our_to_remote"]);
        for c in &first.claims.0 {
            world.take(&[c], false);
        }
        // Its output may still come if the chain is reorganised: BOLT 5's reasonable depth.
        assert_eq!(first.failed.0, [HtlcId(2)]);
        let after = story.block(HEIGHT.0 + DEPTH - 1, vec![]);
        assert_eq!(after.failed.0, [HtlcId(2)]);
        let after = story.block(HEIGHT.0 + DEPTH, vec![]);
        assert_eq!(after.failed.0, [HtlcId(2), id]);
    }
}

#[test]
fn revoked_commitment_is_ours_altogether() {
    for anchors in FORMATS {
        let mut world = busy(anchors);
        let made = world.newest(R).clone();
        // Settle one each way, so that rows are gone; and change the fee.
        assert!(world.remove(L, HtlcId(0), Some(10)) && world.remove(R, HtlcId(0), None));
        world.settle();
        assert!(world.fee(FeeratePerKw(3000)));
        world.settle();
        let mut story = Story::new(world.init(&made));
        let first = story.now();
        assert_eq!(first.close, CloseKind::Revoked { number: made.state.number });
        let everything = [
            "our_htlc 0",
            "our_htlc 1",
            "our_to_remote",
            "their_htlc 0",
            "their_htlc 1",
            "their_to_local",
        ];
        assert_eq!(claimed(&first), everything);
        for c in &first.claims.0 {
            world.take(&[c], false);
        }
        let all: Vec<_> = first.claims.0.iter().collect();
        world.take(&all, true);
        let delay = u32::from(THEIR_DELAY);
        assert_eq!(claim(&first, "their_to_local").deadline, Some(BlockHeight(100 + delay)));
        // The peer could take the first of ours at once, and its own only after its expiry.
        assert_eq!(claim(&first, "our_htlc 1").deadline, Some(BlockHeight(101 + delay)));
        assert_eq!(claim(&first, "their_htlc 1").deadline, Some(BlockHeight(522 + delay)));

        // It does: the second stage is ours as well, and so is the preimage, upstream.
        let theirs = world.peers_htlc_tx(&made, L, HtlcId(1), 11);
        let penalty =
            world.take(&[claim(&first, "our_to_remote"), claim(&first, "their_to_local")], false);
        let after = story.block(103, vec![theirs, penalty]);
        assert_eq!(after.learned.0, [(HtlcId(1), preimage(11))]);
        let second = claim(&after, "our_htlc 1 second stage");
        assert_eq!(second.deadline, Some(BlockHeight(103 + delay)));
        let second = world.take(&[second], false);
        let rest = ["our_htlc 0", "their_htlc 0", "their_htlc 1"].map(|w| claim(&after, w).clone());
        let rest = world.take(&rest.iter().collect::<Vec<_>>(), false);
        let after = story.block(104, vec![second, rest]);
        assert_eq!((claimed(&after).len(), after.settled), (0, Some(BlockHeight(104))));
        assert_eq!(after.failed.0, [HtlcId(2)]);
    }
}

#[test]
fn revoked_htlc_transactions_are_taken_at_their_inputs_index() {
    let mut world = busy(true);
    let made = world.newest(R).clone();
    world.add(L, Msat(1_000_000), 30, 600).unwrap();
    world.settle();
    let mut story = Story::new(world.init(&made));
    let theirs = world.peers_htlc_txs(&made, &[(L, HtlcId(0), 10), (L, HtlcId(1), 11)], true);
    let txid = theirs.compute_txid();
    let after = story.block(101, vec![theirs]);
    assert_eq!(after.learned.0, [(HtlcId(0), preimage(10)), (HtlcId(1), preimage(11))]);
    let seconds: Vec<_> =
        after.claims.0.iter().filter(|c| c.outpoint.txid == txid).cloned().collect();
    let indices: BTreeSet<_> = seconds.iter().map(|c| c.outpoint.vout).collect();
    assert_eq!(indices, BTreeSet::from([1, 2]));
    let taken = world.take(&seconds.iter().collect::<Vec<_>>(), false);
    let after = story.block(102, vec![taken]);
    assert!(after.claims.0.iter().all(|c| c.outpoint.txid != txid));
}

#[test]
fn outputs_of_a_revoked_commitment_lost_to_the_peer_are_told() {
    let mut world = busy(true);
    let made = world.newest(R).clone();
    world.add(L, Msat(1_000_000), 30, 600).unwrap();
    world.settle();
    let mut story = Story::new(world.init(&made));
    let at = made.built.to_local.unwrap();
    let outpoint = OutPoint { txid: made.built.tx.compute_txid(), vout: at as u32 };
    let theirs = world.peer_takes_delayed(&made, outpoint, &made.built.tx.output[at]);
    let txid = theirs.compute_txid();
    let after = story.block(107, vec![theirs]);
    let lost = output(&after, "their_to_local");
    assert_eq!((lost.done, lost.spent), (true, Some((txid, BlockHeight(107)))));
    assert_eq!(after.claims.0.len(), 5);
}

#[test]
fn commitment_from_the_future_leaves_us_our_own_output() {
    for anchors in FORMATS {
        let mut world = busy(anchors);
        let past = world.ours.clone();
        world.add(R, BIG, 23, 530).unwrap();
        world.settle();
        world.add(L, BIG, 13, 530).unwrap();
        world.settle();
        let made = world.newest(R).clone();
        world.ours = past;
        let mut story = Story::new(world.init(&made));
        let first = story.now();
        assert_eq!(first.close, CloseKind::Unknown { number: made.state.number });
        assert_eq!(claimed(&first), ["our_to_remote"]);
        let taken = world.take(&[claim(&first, "our_to_remote")], false);
        // Outputs that no script of ours explains may be our HTLCs: the peer may still take them.
        assert_eq!((first.failed.0.len(), first.settled), (0, None));
        let after = story.block(200, vec![taken]);
        assert_eq!(after.failed.0, [HtlcId(2)]);
        let theirs = world.peers_htlc_tx(&made, L, HtlcId(1), 11);
        let after = story.block(300, vec![theirs]);
        assert_eq!(after.learned.0, [(HtlcId(1), preimage(11))]);
        // The other may stay where it is for ever.
        let after = story.block(510 + 2015, vec![]);
        assert_eq!((after.failed.0, after.settled), (vec![HtlcId(2)], None));
        let after = story.block(510 + 2016, vec![]);
        assert_eq!(after.failed.0, [HtlcId(0), HtlcId(2)]);
        assert_eq!(after.settled, Some(BlockHeight(200)));
    }
}

#[test]
fn commitment_one_beyond_our_rows_is_known_by_its_point() {
    let mut world = busy(true);
    let past = world.ours.clone();
    world.add(R, BIG, 23, 530).unwrap();
    world.sign(R);
    world.revoke(L);
    world.sign(L);
    let made = world.newest(R).clone();
    world.ours = past;
    let first = Story::new(world.init(&made)).now();
    assert_eq!(first.close, CloseKind::Unknown { number: made.state.number });
    assert_eq!(claimed(&first), ["our_htlc 0", "our_htlc 1", "our_to_remote"]);
    for c in &first.claims.0 {
        world.take(&[c], false);
    }
}

#[test]
fn old_commitment_of_ours_leaves_us_what_was_ours_in_it() {
    for anchors in FORMATS {
        let mut world = busy(anchors);
        let made = world.newest(L).clone();
        world.remove(L, HtlcId(0), Some(10));
        world.settle();
        let first = Story::new(world.init(&made)).now();
        assert_eq!(first.close, CloseKind::Unknown { number: made.state.number });
        assert_eq!(claimed(&first), ["our_to_local"]);
        world.take(&[claim(&first, "our_to_local")], false);
    }
}

#[test]
fn peer_with_our_payment_key_is_punished_all_the_same() {
    // Nothing keeps a peer from naming our payment basepoint as its own: then to_remote looks alike
    // in both sides'.
    let mut world = World::plain(true);
    let mut state = world.ours.storable();
    state.params.basepoints.remote.payment = state.params.basepoints.local.payment;
    world.ours = channel::Channel::new(state.clone()).unwrap();
    let mut mirrored = world.theirs.storable();
    mirrored.params.basepoints = state.params.basepoints.swap();
    world.theirs = channel::Channel::new(mirrored).unwrap();
    world.add(L, BIG, 10, 510).unwrap();
    world.settle();
    let made = world.newest(R).clone();
    world.add(L, BIG, 11, 511).unwrap();
    world.settle();
    let first = Story::new(world.init(&made)).now();
    assert_eq!(first.close, CloseKind::Revoked { number: made.state.number });
    assert_eq!(claimed(&first), ["our_htlc 0", "our_to_remote", "their_to_local"]);
}

#[test]
fn htlcs_alike_in_hash_and_amount_are_told_apart_by_order() {
    for anchors in FORMATS {
        for side in Side::BOTH {
            let mut world = World::signed(anchors);
            // Offered in an order that is not that of their expiries.
            for by in Side::BOTH {
                for expiry in [530, 510, 520, 510] {
                    world.add(by, BIG, 10, expiry).unwrap();
                }
            }
            world.settle();
            let made = world.newest(side).clone();
            let mut story = Story::new(world.init(&made));
            for id in 0..4 {
                story.preimage(HtlcId(id), 10);
            }
            let now = story.now();
            assert_eq!(now.claims.0.len(), 9);
            for c in &now.claims.0 {
                world.take(&[c], false);
            }
            let mut lock_times: Vec<_> =
                now.claims.0.iter().map(|c| c.lock_time).filter(|t| *t > 0).collect();
            lock_times.sort_unstable();
            assert_eq!(lock_times, [510, 510, 520, 530]);
            // One preimage of that hash fulfils every HTLC of that hash that we offered.
            let theirs = match side {
                L => world.peer_takes(&made, L, HtlcId(2), 10),
                R => world.peers_htlc_tx(&made, L, HtlcId(2), 10),
            };
            let after = story.block(101, vec![theirs]);
            let all: Vec<_> = (0..4).map(|id| (HtlcId(id), preimage(10))).collect();
            assert_eq!(after.learned.0, all);
            assert_eq!(claimed(&after).iter().filter(|c| c.starts_with("our_htlc")).count(), 3);
        }
    }
}

#[test]
fn preimage_that_was_said_before_the_end_is_not_forgotten() {
    for anchors in FORMATS {
        let mut world = busy(anchors);
        // Each fulfilled one of the other's; not signed for by both.
        assert!(world.remove(L, HtlcId(0), Some(10)) && world.remove(R, HtlcId(1), Some(21)));
        assert!(world.sign(L) && world.sign(R));
        let made = world.made.remote[world.made.remote.len() - 2].clone();
        let first = Story::new(world.init(&made)).now();
        assert_eq!(first.close, CloseKind::Theirs { number: made.state.number });
        assert_eq!(first.learned.0, [(HtlcId(0), preimage(10))]);
        assert_eq!(claimed(&first), ["our_htlc 0", "our_htlc 1", "our_to_remote", "their_htlc 1"]);
        // In each side's newest what the other fulfilled has no output any more.
        for (side, rest) in [
            (R, ["our_htlc 0", "our_htlc 1", "our_to_remote"].as_slice()),
            (L, ["our_htlc 1", "our_to_local", "their_htlc 1"].as_slice()),
        ] {
            let made = world.newest(side).clone();
            let first = Story::new(world.init(&made)).now();
            assert_eq!(first.learned.0, [(HtlcId(0), preimage(10))]);
            assert_eq!(claimed(&first), rest);
        }
    }
}

#[test]
fn preimage_counts_wherever_it_is_shown() {
    let mut world = busy(true);
    // An HTLC that only the peer's newest commitment has.
    let id = world.add(L, BIG, 13, 513).unwrap();
    assert!(world.sign(L));
    let newest = world.newest(R).clone();
    let made = world.newest(L).clone();
    let mut story = Story::new(world.init(&made));
    // The peer's HTLC-success on a commitment that then is reorganised away, still in a mempool.
    let shown = world.peers_htlc_tx(&newest, L, id, 13);
    story.resolver.unconfirmed(&OnchainUnconfirmed { transaction: shown });
    let learned = story.resolver.resolution().learned.0;
    assert_eq!(learned, [(id, preimage(13))]);
    // Nor does it count as a spend.
    assert_eq!(story.resolver.resolution().claims, story.now_again().claims);
}

#[test]
fn reorganisation_takes_back_everything_but_what_was_learned() {
    let mut world = busy(true);
    let made = world.newest(L).clone();
    let mut story = Story::new(world.init(&made));
    let first = story.now();
    let timeout = world.take(&[claim(&first, "our_htlc 0")], true);
    let mined = story.block(511, vec![timeout]);
    assert_eq!(claim(&mined, "our_htlc 0 second stage").ready.0, 511 + u32::from(OUR_DELAY));
    let theirs = world.peer_takes(&made, L, HtlcId(1), 11);
    story.block(512, vec![theirs]);
    let buried = story.block(511 + DEPTH, vec![]);
    assert_eq!(buried.failed.0, [HtlcId(0), HtlcId(2)]);

    let back = story.reorg(511);
    assert_eq!((&back.claims, &back.outputs), (&first.claims, &first.outputs));
    assert_eq!(back.failed.0, [HtlcId(2)]);
    assert_eq!(back.learned.0, [(HtlcId(1), preimage(11))]);
    // Now the peer is faster.
    let theirs = world.peer_takes(&made, L, HtlcId(0), 10);
    let after = story
        .resolver
        .block(OnchainBlock { height: BlockHeight(511), transactions: Long(vec![theirs]) });
    after.unwrap();
    assert_eq!(story.resolver.resolution().learned.0.len(), 2);
}

#[test]
fn htlc_without_output_fails_in_time_for_its_incoming_one() {
    let mut world = busy(true);
    let id = world.add(L, BIG, 13, 513).unwrap();
    assert!(world.sign(L));
    let made = world.newest(L).clone();
    let mut init = world.init(&made);
    init.upstream = Long(vec![(id, BlockHeight(104)), (HtlcId(0), BlockHeight(101))]);
    let mut story = Story::new(init);
    assert_eq!(story.now().failed.0, [HtlcId(2)]);
    // But never one whose output the peer can still take.
    assert_eq!(story.block(101, vec![]).failed.0, [HtlcId(2), id]);
}

#[test]
fn keys_of_claims_are_those_of_the_channel() {
    let mut world = busy(true);
    let made = world.newest(L).clone();
    for claim in &Story::new(world.init(&made)).now().claims.0 {
        match &claim.key {
            WalletKey::Delayed { peer, channel, .. } | WalletKey::OwnHtlc { peer, channel, .. } => {
                assert_eq!((*peer, *channel), (hsm::peer(), hsm::CHANNEL));
            }
            other @ (WalletKey::Address { .. }
            | WalletKey::ToRemote { .. }
            | WalletKey::TheirHtlc { .. }
            | WalletKey::RevokedDelayed { .. }
            | WalletKey::RevokedHtlc { .. }
            | WalletKey::Anchor { .. }) => panic!("{other:?}"),
        }
    }
}

/// lightningd decides by what is at stake: small HTLCs are failed back, whether or not taking their
/// outputs would pay.
#[test]
fn unresolved_htlc_is_overdue_before_its_incoming_one_expires() {
    for anchors in FORMATS {
        let mut world = World::signed(anchors);
        // A little more than is trimmed.
        let amount = if anchors { 600_000 } else { 1_300_000 };
        let id = world.add(L, Msat(amount), 10, 510).unwrap();
        world.settle();
        for side in [R, L] {
            let made = world.newest(side).clone();
            let mut init = world.init(&made);
            init.upstream = Long(vec![(id, BlockHeight(544))]);
            let mut story = Story::new(init);
            let first = story.now();
            assert!(claimed(&first).contains(&"our_htlc 0"), "{:?}", claimed(&first));
            let before = story.block(543 - onchaind::HASTE, vec![]);
            assert_eq!((before.overdue.0, before.failed.0), (vec![], vec![]));
            let after = story.block(544 - onchaind::HASTE, vec![]);
            assert_eq!(after.overdue.0, [id], "{side:?}, anchors: {anchors}");
            assert_eq!((after.failed.0, after.settled), (vec![], None));
            let back = story.reorg(544 - onchaind::HASTE);
            assert_eq!(back.overdue.0, []);
        }
    }
}
