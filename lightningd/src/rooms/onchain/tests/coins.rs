//! One coin, and more than one transaction that wants it.

use super::*;
use crate::rooms::onchain::anchor::commitment_published;
use crate::rooms::onchain::answered::answered;

const SMALL: u32 = 8;
const LARGE: u32 = 9;

fn claims(rig: &mut Rig, claims: Vec<Claim>) {
    rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().resolution = Some(resolution(claims));
}
fn attempt_of_channel(rig: &Rig, number: ChannelNumber) -> Option<Attempt> {
    rig.node.onchain.attempts.get(&number).and_then(|all| all.first()).cloned()
}
fn attempt(rig: &Rig) -> Attempt {
    attempt_of_channel(rig, CHANNEL).unwrap()
}
fn refuse(rig: &mut Rig, txid: Txid) {
    refuse_of(rig, CHANNEL, txid);
}
fn refuse_of(rig: &mut Rig, number: ChannelNumber, txid: Txid) {
    rig.turn(move |node, turn| answered(node, turn, number, txid, Some("insufficient fee")));
}
/// What it pays: claims bring as much as they pay out.
fn fee(rig: &Rig, attempt: &Attempt) -> u64 {
    let coins = attempt.tx.input[attempt.claims.len()..].iter();
    let coins: u64 = coins.map(|i| rig.node.wallet.outputs[&i.previous_output].amount.0).sum();
    let change = attempt.tx.output[attempt.claims.len()..].iter();
    coins - change.map(|o| o.value.to_sat()).sum::<u64>()
}

#[test]
fn a_claim_takes_the_only_coin_from_one_that_is_worth_less_at_a_price_that_replaces_it() {
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
fn a_claim_of_another_channel_gives_its_coin_too() {
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

/// Change below the dust limit is fee: the next transaction pays more than what its predecessor really paid.
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
fn a_claim_does_not_replace_another_for_more_than_half_of_what_it_is_worth() {
    // Two that are worth hardly more than the one that pays half of that already: together they weigh too much to pay its rate.
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
fn a_batch_takes_a_coin_as_one_claim_does_and_not_from_what_is_worth_as_much() {
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
fn what_took_a_coin_and_is_refused_for_its_fee_pays_more_and_does_not_give_it_back_at_once() {
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
fn what_gave_its_coin_away_keeps_its_age() {
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
fn anchor_bump_without_utxos_keeps_its_start_height_through_a_restart() {
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
fn what_was_refused_and_gave_its_coin_away_keeps_its_age() {
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
fn nothing_is_remembered_of_what_can_be_claimed_no_more() {
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
fn what_is_refused_too_often_gives_its_coin_to_another_channel_though_that_is_worth_less() {
    refused_too_often("often-1-2", (ChannelNumber(1), ChannelNumber(2)));
    refused_too_often("often-2-1", (ChannelNumber(2), ChannelNumber(1)));
}

#[test]
fn one_refusal_of_what_was_sent_long_ago_costs_it_nothing() {
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
fn what_is_due_soon_keeps_its_coin_where_the_other_has_time() {
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
fn what_is_due_as_soon_takes_a_coin_from_what_is_worth_less() {
    let mut rig = on_chain("due-both", |rig| vec![paired(rig, SMALL, 105)]);
    coin(&mut rig, 9, 50_000);
    mine(&mut rig, 101, vec![]);
    mine(&mut rig, 102, vec![]);
    let both = vec![paired(&rig, SMALL, 105), paired(&rig, LARGE, 106)];
    claims(&mut rig, both);
    mine(&mut rig, 103, vec![]);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
}

/// Our commitment of this channel waits to be in a block, and pays next to nothing; an HTLC of ours is in it.
pub(super) fn poor_commitment(rig: &mut Rig, number: ChannelNumber) {
    poor_commitment_with(rig, number, 400_000_000);
}
fn poor_commitment_with(rig: &mut Rig, number: ChannelNumber, amount: u64) {
    rig.go_to_chain(number.0);
    let channel = rig.node.channels.all.get_mut(&number).unwrap();
    let stage = wire::channel_data::Stage::Irrevocable;
    let hash = PaymentHash([1; 32]);
    let htlc =
        crate::rooms::channels::testing::htlc(Side::Local, (0, 7), (amount, 140), hash, stage);
    channel.live.htlcs.0.push(htlc);
    channel.funding_height = Some(BlockHeight(90));
    let funding = channel.live.params.basepoints.local.funding;
    let anchor = channel::scripts::anchor(&funding).to_p2wsh();
    let (of, rest) = (channel.live.params.funding, ScriptBuf::from(vec![0x51]));
    let poor = spending(&[of], &[(330, &anchor), (999_669, &rest)]);
    rig.turn(move |node, turn| commitment_published(node, turn, number, &poor));
    advance(rig);
}

#[test]
fn first_anchor_bump_spends_the_change_of_a_claim_or_the_utxo_if_rejected() {
    let mut rig = Rig::new("dearer-push", &[(1, 1), (2, 2)]);
    let small = paired(&rig, SMALL, 200);
    closed(&mut rig, CHANNEL, vec![small]);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let claim = attempt(&rig).txid;
    assert_eq!(spent_by(&rig, &coin), Some(claim));
    let other = ChannelNumber(2);
    poor_commitment(&mut rig, other);
    // BIP 125, rule 2: the anchor is unconfirmed, and no input of what would be replaced. Its change may be spent.
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
fn a_push_that_nothing_but_our_own_output_waits_for_takes_nobodys_coin() {
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
fn a_push_that_is_under_way_takes_the_coin_of_a_claim_when_it_must_pay_more() {
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
fn a_push_whose_commitment_is_in_a_block_without_it_gives_its_coin_to_the_claims() {
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
fn a_push_whose_coin_is_in_a_block_with_something_else_is_made_anew() {
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

/// The market is so dear.
fn market(rig: &mut Rig, rate: u32) {
    rig.node.chain.fees = Some(crate::rooms::chain::estimates::Estimates {
        floor: FeeratePerKw(253),
        by_blocks: vec![(2, FeeratePerKw(rate)), (12, FeeratePerKw(rate))],
    });
}

#[test]
fn a_claim_that_the_coins_do_not_pay_for_as_it_should_be_is_sent_and_raised_as_far_as_they_do() {
    let mut rig = on_chain("partial", |rig| vec![paired(rig, LARGE, 200)]);
    market(&mut rig, 100_000);
    coin(&mut rig, 9, 20_000);
    advance(&mut rig);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
    let first = attempt(&rig);
    assert!(fee(&rig, &first) > 19_000, "nearly all that there is");
    // Not a quarter more: nobody would relay it.
    super::coin(&mut rig, 10, 2_000);
    mine(&mut rig, 101, vec![]);
    assert_eq!(attempt(&rig).txid, first.txid);
    super::coin(&mut rig, 11, 40_000);
    mine(&mut rig, 102, vec![]);
    let second = attempt(&rig);
    assert!(second.feerate.0 >= first.feerate.0 + first.feerate.0 / 4);
    assert!(second.feerate < FeeratePerKw(100_000));
    super::coin(&mut rig, 12, 400_000);
    mine(&mut rig, 103, vec![]);
    assert!(attempt(&rig).feerate >= FeeratePerKw(100_000));
}

#[test]
fn a_push_that_the_coins_do_not_pay_for_as_it_should_be_is_made_as_far_as_they_do() {
    let mut rig = Rig::new("partial-push", &[(2, 2)]);
    market(&mut rig, 100_000);
    coin(&mut rig, 9, 50_000);
    poor_commitment(&mut rig, ChannelNumber(2));
    let push = attempt_of_channel(&rig, ChannelNumber(2)).expect("a push");
    assert!(push.feerate > FeeratePerKw(10_000) && push.feerate < FeeratePerKw(100_000));
}

#[test]
fn a_claim_costs_no_more_than_half_of_what_it_is_worth_with_all_its_coins() {
    let mut rig = on_chain("half", |rig| vec![paired(rig, SMALL, 105)]);
    for n in 0..8 {
        coin(&mut rig, 20 + n, 175);
    }
    for height in 101..108 {
        mine(&mut rig, height, vec![]);
        let small = attempt(&rig);
        assert!(fee(&rig, &small) <= 1_000, "{} at {height}", fee(&rig, &small));
    }
    // And half of it is paid, or nearly.
    let small = attempt(&rig);
    assert!(fee(&rig, &small) >= 700, "{}", fee(&rig, &small));
}

#[test]
fn several_that_cost_half_at_their_deadline_still_share_a_coin() {
    let mut rig = on_chain("half-batch", |rig| (0..4).map(|v| paired(rig, v, 105)).collect());
    coin(&mut rig, 9, 5_000_000);
    for height in 101..107 {
        mine(&mut rig, height, vec![]);
    }
    assert_eq!(under_way(&rig), [vec![0, 1, 2, 3]]);
    let paid = fee(&rig, &attempt(&rig));
    assert!((150_000..=200_000).contains(&paid), "{paid}");
}

#[test]
fn a_push_costs_no_more_than_half_of_what_waits_for_it() {
    let mut rig = Rig::new("half-push", &[(1, 1)]);
    for n in 0..8 {
        coin(&mut rig, 20 + n, 1_500);
    }
    poor_commitment_with(&mut rig, CHANNEL, 10_000_000);
    for height in 101..150 {
        mine(&mut rig, height, vec![]);
    }
    let push = attempt(&rig);
    let coins: u64 = push.tx.input[1..]
        .iter()
        .map(|i| rig.node.wallet.outputs[&i.previous_output].amount.0)
        .sum();
    let paid = coins + 330 - push.tx.output[0].value.to_sat();
    assert!((3_000..=5_000).contains(&paid), "{paid}");
}

#[test]
fn a_small_htlc_does_not_make_a_push_cheaper_than_none() {
    for amount in [0, 20_000_000] {
        let mut rig = Rig::new(&format!("calm-push-{amount}"), &[(1, 1)]);
        for n in 0..20 {
            coin(&mut rig, 20 + n, 3_000);
        }
        market(&mut rig, 5_000);
        poor_commitment_with(&mut rig, CHANNEL, amount);
        assert_eq!(attempt(&rig).feerate, FeeratePerKw(5_000), "{amount}");
    }
}

#[test]
fn no_more_coins_are_spent_than_one_transaction_should_have() {
    let mut rig = on_chain("many-coins", |rig| vec![paired(rig, LARGE, 200)]);
    // Each pays hardly more than what it weighs.
    market(&mut rig, 300);
    for n in 0..=255 {
        coin(&mut rig, n, 70);
    }
    advance(&mut rig);
    assert_eq!(under_way(&rig), [vec![LARGE]]);
    assert!(attempt(&rig).tx.input.len() <= 101, "{}", attempt(&rig).tx.input.len());
}

#[test]
fn a_wallet_of_many_coins_costs_a_few_trials() {
    let script = ScriptBuf::from(vec![0x51; 34]);
    let one = |n: u64| cost::Utxo {
        coin: crate::rooms::onchain::cost::Coin {
            outpoint: OutPoint { vout: n as u32, ..outpoint(1) },
            amount: Sat(1_000 + n),
            script: script.clone(),
            key_index: 1,
        },
        held_by: None,
        made_by: None,
    };
    let all: Vec<cost::Utxo> = (0..10_000).map(one).collect();
    let trials = std::cell::Cell::new(0);
    let rate = FeeratePerKw(253);
    let with = |needed: u64| {
        trials.set(0);
        let found = cost::with_utxos(&all, 0, rate, |utxos| {
            trials.set(trials.get() + 1);
            let have: u64 = utxos.iter().map(|u| u.coin.amount.0).sum();
            let weight: u64 = utxos.iter().map(|u| u.coin.weight()).sum();
            let missing = (needed + rate.fee(weight).0).saturating_sub(have);
            if missing > 0 {
                Err(crate::rooms::onchain::cost::Unbuilt::Short(Sat(missing)))
            } else {
                Ok(())
            }
        });
        let found = found.ok().map(|(_, utxos)| utxos);
        (
            found.map(|all| all.into_iter().map(|u| u.coin.outpoint).collect::<Vec<_>>()),
            trials.get(),
        )
    };
    let (found, tried) = with(5_000);
    // The smallest that is enough alone.
    assert_eq!(found.unwrap(), [OutPoint { vout: 4_068, ..outpoint(1) }]);
    assert!(tried < 30, "{tried}");
    let (found, tried) = with(100_000);
    assert_eq!(found.unwrap().len(), 10);
    assert!(tried < 30, "{tried}");
    let (found, tried) = with(10_000_000);
    assert!(found.is_none());
    assert!(tried < 30, "{tried}");
}

/// Nothing but our own output waits for the commitment: the market's price, and no more than half of that output.
#[test]
fn anchor_bump_costs_no_more_than_half_of_our_own_output() {
    for (own, most) in [(500_000_000, 250_000), (20_000_000, 10_000), (0, 500)] {
        let mut rig = Rig::new(&format!("bump-own-{own}"), &[(1, 1)]);
        coin(&mut rig, 9, 5_000_000);
        market(&mut rig, 50_000);
        let channel = rig.node.channels.all.get_mut(&CHANNEL).unwrap();
        channel.live.balance = Sides { local: Msat(own), remote: Msat(1_000_000_000 - own) };
        poor_commitment_with(&mut rig, CHANNEL, 0);
        let paid = rig.node.onchain.attempts.get(&CHANNEL).and_then(|a| a.first());
        let paid = paid.map_or(0, |bump| {
            let change: u64 = bump.tx.output.iter().map(|o| o.value.to_sat()).sum();
            5_000_000 + 330 - change
        });
        assert!(paid <= most, "{paid} for {own}");
    }
}

#[test]
fn block_serves_the_channel_with_most_at_stake_first() {
    let mut rig = Rig::new("stake-first", &[(1, 1), (2, 2)]);
    let claims = |rig: &Rig, n, vout| vec![paired_of(rig, ChannelNumber(n), vout, 300)];
    let (small, large) = (claims(&rig, 1, SMALL), claims(&rig, 2, LARGE));
    closed(&mut rig, ChannelNumber(1), small);
    closed(&mut rig, ChannelNumber(2), large);
    let utxo = coin(&mut rig, 9, 50_000);
    mine(&mut rig, 101, vec![]);
    let large = attempt_of_channel(&rig, ChannelNumber(2)).expect("a claim");
    assert_eq!(spent_by(&rig, &utxo), Some(large.txid));
    let count = "SELECT count(*) FROM transactions";
    let built: u32 = rig.db.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(built, 1, "nothing was built for the small one");
}
