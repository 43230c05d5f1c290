//! Anchor bumps in the table of rules.

use super::*;

#[test]
fn first_anchor_bump_displaces_nothing_in_the_mempool() {
    let claim = under_way(htlc(1, 20_000, 200), 300);
    let only = || vec![held(utxo(9, 50_000), 1), change(utxo(8, 49_700), &claim)];
    check(vec![
        Row {
            rule: "it spends the change of a claim that is worth less",
            utxos: only(),
            standing: vec![claim.clone()],
            requests: vec![bump(2, 5_000_000, 200)],
            verdicts: &["2 with 8"],
        },
        Row {
            rule: "not of one that is worth more",
            utxos: only(),
            standing: vec![Standing { worth: Sat(6_000_000), ..claim.clone() }],
            requests: vec![bump(2, 5_000_000, 200)],
            verdicts: &["2 waits"],
        },
        Row {
            rule: "of a rejected claim it spends the UTXO",
            utxos: only(),
            standing: vec![refused(claim.clone())],
            requests: vec![bump(2, 5_000_000, 200)],
            verdicts: &["2 with 9, not 1", "1 waits"],
        },
        Row {
            rule: "nothing is chained to a claim that is due within three blocks",
            utxos: only(),
            standing: vec![under_way(htlc(1, 20_000, TIP + 3), 300)],
            requests: vec![bump(2, 5_000_000, 200)],
            verdicts: &["2 waits"],
        },
        Row {
            rule: "nor after a rejection of that",
            utxos: only(),
            standing: vec![claim.clone()],
            requests: vec![Request { may_chain: false, ..bump(2, 5_000_000, 200) }],
            verdicts: &["2 waits"],
        },
    ]);
}

#[test]
fn claim_with_a_chained_bump_is_raised_by_way_of_the_bump() {
    let small = htlc(1, 20_000, 200);
    let claim = under_way(small.clone(), 300);
    let chained = || vec![held(utxo(9, 50_000), 1), held(change(utxo(8, 49_700), &claim), 2)];
    let child = Standing { feerate: FLOOR, ..under_way(bump(2, 5_000_000, 200), 600) };
    check(vec![
        Row {
            rule: "where the claim should pay more, the bump does",
            utxos: chained(),
            standing: vec![claim.clone(), child.clone()],
            requests: vec![raise(small.clone(), 2_000)],
            verdicts: &["2 with 8"],
        },
        Row {
            rule: "one attempt a block",
            utxos: chained(),
            standing: vec![claim.clone(), Standing { made: BlockHeight(TIP), ..child.clone() }],
            requests: vec![raise(small.clone(), 2_000)],
            verdicts: &[],
        },
        Row {
            rule: "if that is too dear, the claim is raised and the bump made anew",
            utxos: chained(),
            standing: vec![claim.clone(), under_way(bump(2, 25_000, 200), 600)],
            requests: vec![raise(small.clone(), 9_000)],
            verdicts: &["1 with 9, not 2", "2 waits"],
        },
        Row {
            rule: "a claim is raised whose change a rejected bump spends",
            utxos: chained(),
            standing: vec![claim.clone(), refused(child.clone())],
            requests: vec![raise(small.clone(), 2_000)],
            verdicts: &["1 with 9, not 2", "2 waits"],
        },
    ]);
}

#[test]
fn bump_that_is_unneeded_or_unsigned_gives_way_to_its_parent() {
    let small = htlc(1, 20_000, 200);
    let claim = under_way(small.clone(), 300);
    let chained = || vec![held(utxo(9, 50_000), 1), held(change(utxo(8, 49_700), &claim), 2)];
    let child = Standing { feerate: FLOOR, ..under_way(bump(2, 5_000_000, 200), 600) };
    check(vec![
        Row {
            rule: "or one whose commitment is in a block without it",
            utxos: chained(),
            standing: vec![
                claim.clone(),
                Standing { worth: Sat(0), again: Again::Unneeded, ..child.clone() },
            ],
            requests: vec![raise(small.clone(), 2_000)],
            verdicts: &["1 with 9, not 2"],
        },
        Row {
            rule: "a bump that hsmd does not sign now stays, and so does its parent",
            utxos: chained(),
            standing: vec![claim.clone(), Standing { again: Again::Unsigned, ..child.clone() }],
            requests: vec![raise(small.clone(), 2_000)],
            verdicts: &[],
        },
        Row {
            rule: "but not where the parent is due within three blocks, and the bump later",
            utxos: chained(),
            standing: vec![claim.clone(), Standing { again: Again::Unsigned, ..child.clone() }],
            requests: vec![raise(htlc(1, 20_000, TIP + 3), 2_000)],
            verdicts: &["1 with 9, not 2"],
        },
        Row {
            rule: "a bump whose commitment pays enough by itself is given up for its parent",
            utxos: chained(),
            standing: vec![claim.clone(), Standing { again: Again::Unneeded, ..child.clone() }],
            requests: vec![raise(small.clone(), 2_000)],
            verdicts: &["1 with 9, not 2"],
        },
    ]);
}

#[test]
fn bump_in_the_mempool_is_raised_and_displaced() {
    let claim = under_way(htlc(1, 20_000, 200), 300);
    let chained = || vec![held(utxo(9, 50_000), 1), held(change(utxo(8, 49_700), &claim), 2)];
    let child = Standing { feerate: FLOOR, ..under_way(bump(2, 5_000_000, 200), 600) };
    check(vec![
        Row {
            rule: "a bump in the mempool is raised with the UTXOs of a claim",
            utxos: vec![held(utxo(7, 1_000), 2), held(utxo(9, 50_000), 1)],
            standing: vec![claim.clone(), child.clone()],
            requests: vec![raise(bump(2, 5_000_000, 200), 5_000)],
            verdicts: &["2 with 7+9, not 1", "1 waits"],
        },
        Row {
            rule: "a bump that bitcoind has not accepted displaces nothing",
            utxos: vec![held(utxo(7, 1_000), 2), held(utxo(9, 50_000), 1)],
            standing: vec![claim.clone(), Standing { accepted: false, ..child.clone() }],
            requests: vec![raise(bump(2, 5_000_000, 200), 5_000)],
            verdicts: &["2 with 7"],
        },
        Row {
            rule: "a bump is raised with the change that it has",
            utxos: chained(),
            standing: vec![claim.clone(), child.clone()],
            requests: vec![raise(bump(2, 5_000_000, 200), 2_000)],
            verdicts: &["2 with 8"],
        },
        Row {
            rule: "both are displaced together",
            utxos: chained(),
            standing: vec![claim.clone(), child.clone()],
            requests: vec![htlc(3, 9_000_000, 200)],
            verdicts: &["3 with 9, not 1, not 2", "2 waits", "1 waits"],
        },
        Row {
            rule: "and only for what is worth more than both",
            utxos: chained(),
            standing: vec![claim, child],
            requests: vec![htlc(3, 5_010_000, 200)],
            verdicts: &["3 waits"],
        },
    ]);
}

/// bitcoind compares feerates as well as fees: with more UTXOs the child weighs more, and its own
/// feerate must not fall.
#[test]
fn raised_bump_with_more_utxos_has_a_higher_feerate_of_its_own() {
    let request = bump(2, 5_000_000, 200);
    // The child alone pays 20,000 per kw, with its commitment it comes to 10,000.
    let before = Standing { feerate: FeeratePerKw(10_000), ..under_way(request.clone(), 20_000) };
    let mut utxos: Vec<Utxo> = (1..60).map(|n| utxo(n, 6_000)).collect();
    utxos.push(held(utxo(99, 20_500), 2));
    let world = World { tip: BlockHeight(TIP), floor: FLOOR, utxos, standing: vec![before] };
    let verdicts = allocate(&world, vec![raise(request, 12_500)]);
    let Some(Verdict::Build { request, utxos, fee, .. }) = verdicts.first() else {
        panic!("{verdicts:?}")
    };
    let weight = request.cost.weight_with(utxos);
    assert!(fee.0 * 1000 > 20_000 * weight, "{fee} for {weight}");
}

#[test]
fn bump_with_a_small_htlc_pays_the_market_for_our_own_output() {
    // Half of 1,000 sat is no price for its HTLC: what it may cost for our own output is more.
    let own = Calm { wanted: FeeratePerKw(2_000), max_fee: Sat(100_000) };
    let request = Request { calm: Some(own), wanted: FeeratePerKw(5_000), ..bump(2, 1_000, 200) };
    assert_eq!(built(vec![utxo(9, 50_000)], request.clone()).0, 2_000);
    let claim = under_way(htlc(1, 500, 200), 300);
    check(vec![Row {
        rule: "with free UTXOs only",
        utxos: vec![held(utxo(9, 50_000), 1), change(utxo(8, 49_700), &claim)],
        standing: vec![claim],
        requests: vec![Request { worth: Sat(0), deadline: None, ..request }],
        verdicts: &["2 waits"],
    }]);
}

#[test]
fn calm_bump_pays_the_market_with_free_utxos_only() {
    let calm = |n| Request {
        worth: Sat(0),
        deadline: None,
        wanted: FeeratePerKw(5_000),
        max_fee: Sat(100_000),
        ..bump(n, 0, 200)
    };
    let claim = under_way(htlc(1, 2_000, 200), 300);
    check(vec![
        Row {
            rule: "a free UTXO",
            utxos: vec![utxo(9, 50_000)],
            standing: vec![],
            requests: vec![calm(2)],
            verdicts: &["2 with 9"],
        },
        Row {
            rule: "no UTXO of another, rejected or not, and no change",
            utxos: vec![held(utxo(9, 50_000), 1), change(utxo(8, 49_700), &claim)],
            standing: vec![refused(claim.clone())],
            requests: vec![calm(2)],
            verdicts: &["2 waits"],
        },
    ]);
}
