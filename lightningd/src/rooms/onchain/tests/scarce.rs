//! What claims and anchor bumps pay where UTXOs are scarce, and how many they spend.

use super::under_way::*;
use super::*;

#[test]
fn claim_short_of_utxos_pays_the_highest_feerate_they_can() {
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
fn bump_short_of_utxos_pays_the_highest_feerate_they_can() {
    let mut rig = Rig::new("partial-push", &[(2, 2)]);
    market(&mut rig, 100_000);
    coin(&mut rig, 9, 50_000);
    poor_commitment(&mut rig, ChannelNumber(2));
    let push = attempt_of_channel(&rig, ChannelNumber(2)).expect("a push");
    assert!(push.feerate > FeeratePerKw(10_000) && push.feerate < FeeratePerKw(100_000));
}

#[test]
fn claim_costs_at_most_half_of_its_value_with_all_utxos() {
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
fn claims_at_half_their_value_still_share_a_utxo() {
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
fn anchor_bump_costs_at_most_half_of_the_htlcs_at_risk() {
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
fn small_htlc_never_lowers_the_feerate_of_an_anchor_bump() {
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
fn transaction_spends_a_bounded_number_of_utxos() {
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
fn wallet_of_many_utxos_costs_a_few_trials() {
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

/// Nothing but our own output waits for the commitment: the market's price, and no more than half
/// of that output.
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
