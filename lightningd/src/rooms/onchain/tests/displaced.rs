//! Claims and anchor bumps that want the same UTXO.

use super::under_way::*;
use super::*;

#[test]
fn claim_displaces_a_cheaper_claim_and_pays_to_replace_it() {
    let mut rig = on_chain("dearer", |rig| vec![paired(rig, SMALL, 105)]);
    let coin = coin(&mut rig, 9, 50_000);
    // At all that it should ever cost, and nobody mines it.
    mine(&mut rig, 101, vec![]);
    mine(&mut rig, 102, vec![]);
    mine(&mut rig, 103, vec![]);
    mine(&mut rig, 104, vec![]);
    let small = attempt(&rig);
    let mut late = paired(&rig, LARGE, 106);
    late.lock_time = 104;
    let both = vec![paired(&rig, SMALL, 105), late];
    claims(&mut rig, both);
    let paid = fee(&rig, &small);
    advance(&mut rig);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
    let large = attempt(&rig);
    assert_eq!(spent_by(&rig, &coin), Some(large.txid));
    // BIP 125: its own relay besides, and a higher rate.
    let weight = large.tx.weight().to_wu();
    assert!(fee(&rig, &large) >= paid + weight * 253 / 1000, "{} {paid}", fee(&rig, &large));
    assert!(large.feerate.0 >= small.feerate.0 + small.feerate.0 / 4);
    // It does not go back.
    for height in 105..110 {
        mine(&mut rig, height, vec![]);
        assert_eq!(under_way(&rig), [vec![LARGE]]);
    }
}

#[test]
fn utxo_of_another_channels_claim_is_taken_too() {
    let mut rig = Rig::new("dearer-other", &[(1, 1), (2, 2)]);
    let other = ChannelNumber(2);
    let (large, small) = (paired(&rig, LARGE, 200), paired_of(&rig, other, SMALL, 150));
    closed(&mut rig, CHANNEL, vec![]);
    closed(&mut rig, other, vec![small]);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    assert!(attempt_of_channel(&rig, other).is_some());
    claims(&mut rig, vec![large]);
    advance(&mut rig);
    assert_eq!(spent_by(&rig, &coin), Some(attempt(&rig).txid));
    assert!(attempt_of_channel(&rig, other).is_none());
    // And has one again as soon as there is one.
    super::coin(&mut rig, 10, 50_000);
    mine(&mut rig, 101, vec![]);
    assert!(attempt_of_channel(&rig, other).is_some());
    assert_eq!(spent_by(&rig, &coin), Some(attempt(&rig).txid));
}

/// BIP 125, rules 3 and 4: the fees of both transactions that it replaces, and its own relay.
#[test]
fn raise_with_anothers_utxo_pays_for_both_it_replaces() {
    let mut rig = Rig::new("raise", &[(1, 1), (2, 2)]);
    let other = ChannelNumber(2);
    let large = paired(&rig, LARGE, 200);
    let batch: Vec<Claim> = (0..8).map(|vout| paired_of(&rig, other, vout, 150)).collect();
    closed(&mut rig, CHANNEL, vec![large]);
    let poor = coin(&mut rig, 9, 3_000);
    advance(&mut rig);
    assert_eq!(spent_by(&rig, &poor), Some(attempt(&rig).txid));
    closed(&mut rig, other, batch);
    let rich = super::coin(&mut rig, 10, 50_000);
    advance(&mut rig);
    let cheap = attempt_of_channel(&rig, other).expect("an attempt");
    assert_eq!((spent_by(&rig, &rich), cheap.claims.len()), (Some(cheap.txid), 8));
    for height in 101..200 {
        let before = attempt(&rig);
        let theirs = attempt_of_channel(&rig, other).expect("it has its UTXO still");
        mine(&mut rig, height, vec![]);
        let now = attempt(&rig);
        if spent_by(&rig, &rich) == Some(now.txid) {
            let relay = now.tx.weight().to_wu() * 253 / 1000;
            let replaced = fee(&rig, &before) + fee(&rig, &theirs);
            assert!(fee(&rig, &now) >= replaced + relay, "{} after {replaced}", fee(&rig, &now));
            return;
        }
    }
    panic!("it never took the UTXO");
}

/// Change below the dust limit is fee: the next transaction pays more than what its predecessor
/// really paid.
#[test]
fn raise_pays_more_than_a_predecessor_without_change() {
    let mut rig = on_chain("no-change", |rig| vec![paired(rig, LARGE, 130)]);
    coin(&mut rig, 9, 500);
    super::coin(&mut rig, 10, 500_000);
    advance(&mut rig);
    let mut before = attempt(&rig);
    assert_eq!(before.tx.output.len(), 1, "no change");
    let mut raises = 0;
    for height in 101..130 {
        mine(&mut rig, height, vec![]);
        let now = attempt(&rig);
        if now.txid != before.txid {
            let relay = now.tx.weight().to_wu() * 253 / 1000;
            assert!(fee(&rig, &now) >= fee(&rig, &before) + relay, "at {height}");
            (before, raises) = (now, raises + 1);
        }
    }
    assert!(raises > 3, "{raises}");
}

#[test]
fn claim_replaces_none_for_more_than_half_of_its_value() {
    // Two that are worth hardly more than the one that pays half of that already: together they
    // weigh too much to pay its rate.
    let mut rig = on_chain("dearer-half", |rig| vec![paired(rig, 0, 105)]);
    let coin = coin(&mut rig, 9, 5_000_000);
    for height in 101..106 {
        mine(&mut rig, height, vec![]);
    }
    let first = attempt(&rig);
    assert!(fee(&rig, &first) > 40_000);
    let all = [0, 1, SMALL].map(|vout| paired(&rig, vout, 1000)).to_vec();
    claims(&mut rig, all);
    mine(&mut rig, 106, vec![]);
    assert_eq!(under_way(&rig), [vec![0]]);
    assert!(spent_by(&rig, &coin).is_some());
}

#[test]
fn batch_displaces_a_claim_only_if_it_is_worth_more() {
    let mut rig = on_chain("dearer-batch", |rig| vec![paired(rig, 0, 200), paired(rig, 1, 200)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let mut all: Vec<Claim> = (0..4).map(|vout| paired(&rig, vout, 200)).collect();
    claims(&mut rig, all.clone());
    mine(&mut rig, 101, vec![]);
    assert_eq!(under_way(&rig), [vec![0, 1]]);
    all.push(paired(&rig, 4, 200));
    claims(&mut rig, all);
    mine(&mut rig, 102, vec![]);
    assert_eq!(under_way(&rig), [vec![2, 3, 4]]);
}

#[test]
fn rejected_replacement_is_bumped_and_keeps_its_utxo() {
    let mut rig = on_chain("dearer-refused", |rig| vec![paired(rig, SMALL, 200)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let both = vec![paired(&rig, SMALL, 200), paired(&rig, LARGE, 300)];
    claims(&mut rig, both);
    advance(&mut rig);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
    let mut rate = FeeratePerKw(0);
    for height in 101..106 {
        let before = attempt(&rig);
        assert!(before.feerate > rate);
        rate = before.feerate;
        refuse(&mut rig, before.txid);
        mine(&mut rig, height, vec![]);
        assert_eq!(under_way(&rig), [vec![LARGE]], "at {height}");
    }
    // What is in its way may stay there for ever.
    let stuck = attempt(&rig).txid;
    refuse(&mut rig, stuck);
    mine(&mut rig, 106, vec![]);
    assert_eq!(under_way(&rig), [vec![SMALL]]);
}

#[test]
fn displaced_claim_keeps_its_start_height() {
    let mut rig = on_chain("age", |rig| vec![paired(rig, SMALL, 120)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    mine(&mut rig, 101, vec![]);
    let both = vec![paired(&rig, SMALL, 120), paired(&rig, LARGE, 300)];
    claims(&mut rig, both);
    mine(&mut rig, 102, vec![]);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
    super::coin(&mut rig, 10, 50_000);
    mine(&mut rig, 103, vec![]);
    assert_eq!(under_way(&rig), [vec![LARGE], vec![SMALL]]);
    let small = rig.node.onchain.attempts[&CHANNEL][1].clone();
    assert_eq!((small.first, small.height), (BlockHeight(100), BlockHeight(103)));
    // Nothing is remembered of what is under way.
    assert_eq!(rig.node.onchain.given_up.get(&CHANNEL).map_or(0, |all| all.len()), 0);
}

#[test]
fn displaced_claim_keeps_its_start_height_through_a_restart() {
    let mut rig = on_chain("age-restart", |rig| vec![paired(rig, SMALL, 120)]);
    let utxo = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    mine(&mut rig, 101, vec![]);
    let both = vec![paired(&rig, SMALL, 120), paired(&rig, LARGE, 300)];
    claims(&mut rig, both);
    mine(&mut rig, 102, vec![]);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
    let small = OutPoint { txid: commitment(&rig).compute_txid(), vout: SMALL };
    rig.crash();
    assert_eq!(rig.node.onchain.given_up[&CHANNEL][&small].first, BlockHeight(100));
    // The large one is confirmed, and its UTXO is free for the small one.
    let one = vec![paired(&rig, SMALL, 120)];
    closed(&mut rig, CHANNEL, one);
    rig.node.onchain.attempts.clear();
    rig.node.wallet.outputs.remove(&utxo);
    super::coin(&mut rig, 10, 50_000);
    mine(&mut rig, 103, vec![]);
    assert_eq!(attempt(&rig).first, BlockHeight(100));
    rig.crash();
    assert!(!rig.node.onchain.given_up.contains_key(&CHANNEL), "it has a row of its own again");
}

#[test]
fn anchor_bump_without_utxos_keeps_its_age_through_a_restart() {
    let mut rig = Rig::new("bump-age", &[(1, 1)]);
    poor_commitment(&mut rig, CHANNEL);
    for height in 101..105 {
        mine(&mut rig, height, vec![]);
    }
    assert_eq!(rig.node.onchain.published[&CHANNEL].1, BlockHeight(100));
    rig.crash();
    rig.node.chain.headers.push_back((BlockHeight(104), bitcoin::hashes::Hash::all_zeros()));
    coin(&mut rig, 9, 50_000);
    poor_commitment(&mut rig, CHANNEL);
    assert_eq!(attempt(&rig).first, BlockHeight(100));
}

#[test]
fn rejected_and_displaced_claim_keeps_its_start_height() {
    let mut rig = on_chain("age-refused", |rig| vec![paired(rig, 1, 200)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let stuck = attempt(&rig).txid;
    let two = vec![paired(&rig, 1, 200), paired(&rig, 2, 150)];
    claims(&mut rig, two);
    refuse(&mut rig, stuck);
    mine(&mut rig, 101, vec![]);
    assert_eq!(under_way(&rig), [vec![2]]);
    assert_eq!(rig.node.onchain.given_up[&CHANNEL].len(), 1);
    super::coin(&mut rig, 10, 50_000);
    mine(&mut rig, 102, vec![]);
    assert_eq!(under_way(&rig), [vec![2], vec![1]]);
    let again = rig.node.onchain.attempts[&CHANNEL][1].clone();
    assert_eq!((again.first, again.height), (BlockHeight(100), BlockHeight(102)));
}

#[test]
fn unclaimable_output_leaves_no_start_height() {
    let mut rig = on_chain("age-over", |rig| vec![paired(rig, SMALL, 120)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let both = vec![paired(&rig, SMALL, 120), paired(&rig, LARGE, 300)];
    claims(&mut rig, both);
    mine(&mut rig, 101, vec![]);
    assert_eq!(rig.node.onchain.given_up[&CHANNEL].len(), 1);
    let one = vec![paired(&rig, LARGE, 300)];
    claims(&mut rig, one);
    mine(&mut rig, 102, vec![]);
    assert_eq!(rig.node.onchain.given_up.get(&CHANNEL).map_or(0, |all| all.len()), 0);
}

/// What took the coin from another channel's is refused, block after block.
fn refused_too_often(name: &str, (dear, cheap): (ChannelNumber, ChannelNumber)) {
    let mut rig = Rig::new(name, &[(1, 1), (2, 2)]);
    let claims = |rig: &Rig, n, vout| vec![paired_of(rig, n, vout, 300)];
    let (large, small) = (claims(&rig, dear, LARGE), claims(&rig, cheap, SMALL));
    closed(&mut rig, cheap, small);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    closed(&mut rig, dear, large);
    advance(&mut rig);
    for height in 101..106 {
        let stuck = attempt_of_channel(&rig, dear).expect("an attempt").txid;
        assert_eq!(spent_by(&rig, &coin), Some(stuck), "at {height}");
        refuse_of(&mut rig, dear, stuck);
        mine(&mut rig, height, vec![]);
    }
    let stuck = attempt_of_channel(&rig, dear).expect("an attempt").txid;
    refuse_of(&mut rig, dear, stuck);
    mine(&mut rig, 106, vec![]);
    if let Some(stuck) = attempt_of_channel(&rig, dear) {
        refuse_of(&mut rig, dear, stuck.txid);
    }
    // It does not take it back before the other one was sent.
    assert!(attempt_of_channel(&rig, dear).is_none());
    let cheap = attempt_of_channel(&rig, cheap).expect("an attempt");
    assert_eq!(spent_by(&rig, &coin), Some(cheap.txid));
    mine(&mut rig, 107, vec![]);
    assert_eq!(spent_by(&rig, &coin), attempt_of_channel(&rig, dear).map(|a| a.txid));
}

#[test]
fn claim_rejected_too_often_gives_its_utxo_to_a_cheaper_one() {
    refused_too_often("often-1-2", (ChannelNumber(1), ChannelNumber(2)));
    refused_too_often("often-2-1", (ChannelNumber(2), ChannelNumber(1)));
}

#[test]
fn single_rejection_of_an_old_claim_costs_it_nothing() {
    let mut rig = Rig::new("refused-once", &[(1, 1), (2, 2)]);
    let (dear, cheap) = (ChannelNumber(1), ChannelNumber(2));
    let claims = |rig: &Rig, n, vout| vec![paired_of(rig, n, vout, 300)];
    let (large, small) = (claims(&rig, dear, LARGE), claims(&rig, cheap, SMALL));
    let coin = coin(&mut rig, 9, 50_000);
    closed(&mut rig, dear, large);
    advance(&mut rig);
    closed(&mut rig, cheap, small);
    for height in 101..110 {
        mine(&mut rig, height, vec![]);
    }
    let held = attempt_of_channel(&rig, dear).expect("an attempt").txid;
    // bitcoind was started without its mempool, say.
    refuse_of(&mut rig, dear, held);
    assert!(attempt_of_channel(&rig, cheap).is_none());
    let keeps = attempt_of_channel(&rig, dear).expect("an attempt").txid;
    assert_eq!(spent_by(&rig, &coin), Some(keeps));
}

#[test]
fn claim_due_soon_keeps_its_utxo_from_one_due_later() {
    let mut rig = on_chain("due", |rig| vec![paired(rig, SMALL, 105)]);
    let coin = coin(&mut rig, 9, 50_000);
    mine(&mut rig, 101, vec![]);
    let both = vec![paired(&rig, SMALL, 105), paired(&rig, LARGE, 300)];
    claims(&mut rig, both);
    // Soon after its deadline that says nothing any more.
    for height in 102..109 {
        mine(&mut rig, height, vec![]);
        assert_eq!(under_way(&rig), [vec![SMALL]], "at {height}");
    }
    mine(&mut rig, 109, vec![]);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
    assert_eq!(spent_by(&rig, &coin), Some(attempt(&rig).txid));
}

#[test]
fn claim_due_as_soon_displaces_a_cheaper_one() {
    let mut rig = on_chain("due-both", |rig| vec![paired(rig, SMALL, 105)]);
    coin(&mut rig, 9, 50_000);
    mine(&mut rig, 101, vec![]);
    mine(&mut rig, 102, vec![]);
    let both = vec![paired(&rig, SMALL, 105), paired(&rig, LARGE, 106)];
    claims(&mut rig, both);
    mine(&mut rig, 103, vec![]);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
}

#[test]
fn first_anchor_bump_chains_to_a_claim_or_takes_its_utxo() {
    let mut rig = Rig::new("dearer-push", &[(1, 1), (2, 2)]);
    let small = paired(&rig, SMALL, 200);
    closed(&mut rig, CHANNEL, vec![small]);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let claim = attempt(&rig).txid;
    assert_eq!(spent_by(&rig, &coin), Some(claim));
    let other = ChannelNumber(2);
    poor_commitment(&mut rig, other);
    // BIP 125, rule 2: the anchor is unconfirmed, and no input of what would be replaced. Its
    // change may be spent.
    let first = attempt_of_channel(&rig, other).expect("a bump");
    assert_eq!(first.tx.input[1].previous_output.txid, claim);
    assert_eq!(spent_by(&rig, &coin), Some(claim));
    // The claim stays as it is while the bump needs its change.
    mine(&mut rig, 101, vec![]);
    assert_eq!(attempt(&rig).txid, claim);
    refuse(&mut rig, claim);
    advance(&mut rig);
    let push = attempt_of_channel(&rig, other).map(|a| a.txid);
    assert!(push.is_some());
    assert_eq!(spent_by(&rig, &coin), push);
    assert_eq!(under_way(&rig), Vec::<Vec<u32>>::new());
}

#[test]
fn anchor_bump_for_to_local_alone_displaces_nothing() {
    let mut rig = Rig::new("calm-push", &[(1, 1), (2, 2)]);
    let small = paired(&rig, SMALL, 200);
    closed(&mut rig, CHANNEL, vec![small]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let claim = attempt(&rig).txid;
    refuse(&mut rig, claim);
    let other = ChannelNumber(2);
    // An HTLC of 1,500 satoshis: at this market our own output is the reason to bump, and not that.
    market(&mut rig, 4_000);
    poor_commitment_with(&mut rig, other, 1_500_000);
    assert!(attempt_of_channel(&rig, other).is_none());
    assert_eq!(under_way(&rig), [vec![SMALL]]);
}

#[test]
fn raised_anchor_bump_displaces_a_claim() {
    let mut rig = Rig::new("dearer-push-again", &[(1, 1), (2, 2)]);
    let other = ChannelNumber(2);
    coin(&mut rig, 10, 1_000);
    poor_commitment(&mut rig, other);
    let bump = attempt_of_channel(&rig, other).expect("a bump").txid;
    rig.turn(move |node, turn| answered(node, turn, other, bump, None));
    let small = paired(&rig, SMALL, 200);
    closed(&mut rig, CHANNEL, vec![small]);
    let coin = super::coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    assert_eq!(spent_by(&rig, &coin), Some(attempt(&rig).txid));
    market(&mut rig, 10_000);
    mine(&mut rig, 101, vec![]);
    assert_eq!(spent_by(&rig, &coin), attempt_of_channel(&rig, other).map(|a| a.txid));
}

#[test]
fn anchor_bump_of_a_confirmed_commitment_frees_its_utxo() {
    let mut rig = Rig::new("push-idle", &[(1, 1)]);
    let coin = coin(&mut rig, 9, 50_000);
    poor_commitment(&mut rig, CHANNEL);
    let push = attempt(&rig).txid;
    assert_eq!(spent_by(&rig, &coin), Some(push));
    refuse(&mut rig, push);
    let (commitment, _) = rig.node.onchain.published.remove(&CHANNEL).unwrap();
    let outpoint = OutPoint { txid: commitment.compute_txid(), vout: 1 };
    let small = Claim { outpoint, amount: Sat(2_000), ..paired(&rig, SMALL, 200) };
    let mut case = Case::new(Seen::new(commitment, BlockHeight(101), 0));
    case.resolution = Some(resolution(vec![small]));
    rig.node.onchain.cases.insert(CHANNEL, case);
    mine(&mut rig, 101, vec![]);
    assert_eq!(under_way(&rig), [vec![1]]);
    assert_eq!(spent_by(&rig, &coin), Some(attempt(&rig).txid));
}

#[test]
fn anchor_bump_is_rebuilt_if_its_utxo_is_spent_elsewhere() {
    let mut rig = Rig::new("push-lost", &[(2, 2)]);
    let other = ChannelNumber(2);
    let coin = coin(&mut rig, 9, 50_000);
    poor_commitment(&mut rig, other);
    let first = attempt_of_channel(&rig, other).expect("a push");
    let second = super::coin(&mut rig, 10, 50_000);
    let gone = spending(&[coin], &[(1_000, &ScriptBuf::from(vec![0x55]))]);
    mine(&mut rig, 101, vec![gone.clone()]);
    let push = attempt_of_channel(&rig, other).expect("another push");
    assert_ne!(push.txid, first.txid);
    assert_eq!(rig.node.onchain.attempts[&other].len(), 1);
    assert_eq!(spent_by(&rig, &coin), Some(gone.compute_txid()));
    assert_eq!(spent_by(&rig, &second), Some(push.txid));
}
