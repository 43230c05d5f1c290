//! What should be under way.

use super::*;
use crate::rooms::onchain::weights::DUST;
use crate::rooms::onchain::worth::any_pays_for_itself;
use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid};
use wire::hsm::WalletKey;

pub(crate) fn outpoint(n: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([n; 32]), vout: n.into() }
}
/// Free, ready, without a deadline.
pub(crate) fn claim(n: u8, amount: u64) -> Claim {
    Claim {
        outpoint: outpoint(n),
        amount: Sat(amount),
        script: ScriptBuf::from(vec![n]),
        key: WalletKey::Address { index: n.into() },
        sequence: 0,
        lock_time: 0,
        ready: BlockHeight(0),
        deadline: None,
        witness_weight: 150,
        shape: ClaimShape::Free {},
    }
}
fn until(deadline: u32, claim: Claim) -> Claim {
    Claim { deadline: Some(BlockHeight(deadline)), ..claim }
}
fn attempt(n: u8, claims: &[&Claim]) -> Attempt {
    Attempt {
        txid: Txid::from_byte_array([n; 32]),
        tx: Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![],
            output: vec![],
        },
        kind: Kind::Claim,
        claims: claims.iter().map(|c| c.outpoint).collect(),
        feerate: FeeratePerKw(253),
        first: BlockHeight(100),
        height: BlockHeight(100),
        refused: false,
        accepted: None,
        refused_since: None,
    }
}
const RATES: Rates<'static> = Rates { floor: FeeratePerKw(253), estimates: None, forced: None };
const TIP: BlockHeight = BlockHeight(100);

fn plan(claims: &[Claim], attempts: &[Attempt], tip: BlockHeight, rates: &Rates<'_>) -> Vec<Step> {
    super::plan(claims, attempts, Past::default(), tip, rates)
}

/// Which outputs each transaction to be made takes.
fn made(steps: &[Step]) -> Vec<Vec<u32>> {
    let mut all: Vec<Vec<u32>> = steps
        .iter()
        .filter_map(|s| match s {
            Step::Make(m) => Some(m.claims.iter().map(|c| c.outpoint.vout).collect()),
            Step::Drop(_) => None,
        })
        .collect();
    all.sort();
    all
}

#[test]
fn batch_holds_only_claims_that_nobody_can_contest() {
    let timeout = |n, at| Claim { lock_time: at, ..until(200, claim(n, 50_000)) };
    let claims = [
        claim(1, 10_000),
        claim(2, 10_000),
        until(200, claim(3, 50_000)),
        until(200, claim(4, 50_000)),
        timeout(5, 90),
        timeout(6, 91),
    ];
    let steps = plan(&claims, &[], TIP, &RATES);
    assert_eq!(made(&steps), [vec![1, 2], vec![3, 4], vec![5], vec![6]]);
}

#[test]
fn what_is_not_ready_or_costs_more_than_it_brings_waits() {
    let claims = [
        Claim { ready: BlockHeight(102), ..claim(1, 10_000) },
        Claim { ready: BlockHeight(101), ..claim(2, 10_000) },
        claim(3, 50),
    ];
    assert_eq!(made(&plan(&claims, &[], TIP, &RATES)), [vec![2]]);
}

#[test]
fn what_is_under_way_is_left_alone_until_it_should_pay_more() {
    let claims = [until(110, claim(1, 100_000)), until(110, claim(2, 100_000))];
    let attempts = [attempt(7, &[&claims[0], &claims[1]])];
    assert_eq!(plan(&claims, &attempts, TIP, &RATES), []);
    let steps = plan(&claims, &attempts, BlockHeight(109), &RATES);
    let [Step::Make(m)] = steps.as_slice() else { panic!("{steps:?}") };
    assert_eq!((m.replaces, m.first), (Some(attempts[0].txid), BlockHeight(100)));
    assert!(m.feerate > FeeratePerKw(20_000), "{}", m.feerate);
}

#[test]
fn when_somebody_takes_one_input_the_rest_is_claimed_anew() {
    let claims = [until(110, claim(1, 100_000)), until(110, claim(2, 100_000))];
    let gone = until(110, claim(3, 100_000));
    let attempts = [attempt(7, &[&claims[0], &gone, &claims[1]])];
    let steps = plan(&claims, &attempts, BlockHeight(109), &RATES);
    assert!(steps.contains(&Step::Drop(attempts[0].txid)));
    assert_eq!(made(&steps), [vec![1, 2]]);
    // At no lower price: it is as old as it was.
    let Some(Step::Make(m)) = steps.last() else { panic!("{steps:?}") };
    assert_eq!(m.first, BlockHeight(100));
    assert!(m.feerate > FeeratePerKw(20_000), "{}", m.feerate);
}

#[test]
fn batch_that_is_obstructed_is_split_and_claims_keep_their_age() {
    let claims = [until(110, claim(1, 100_000)), until(110, claim(2, 100_000))];
    let attempts = [Attempt {
        refused: true,
        first: BlockHeight(90),
        ..attempt(7, &[&claims[0], &claims[1]])
    }];
    let steps = plan(&claims, &attempts, TIP, &RATES);
    assert_eq!(made(&steps), [vec![1], vec![2]]);
    assert!(steps.iter().all(|s| match s {
        Step::Make(m) => m.first == BlockHeight(90) && m.replaces.is_none(),
        Step::Drop(txid) => *txid == attempts[0].txid,
    }));
    // One that goes alone already pays more with the next block, and not before.
    let alone = [Attempt { refused: true, ..attempt(8, &[&claims[0]]) }];
    assert_eq!(made(&plan(&claims[..1], &alone, TIP, &RATES)), Vec::<Vec<u32>>::new());
    let steps = plan(&claims[..1], &alone, BlockHeight(101), &RATES);
    let [Step::Make(m)] = steps.as_slice() else { panic!("{steps:?}") };
    assert!(m.feerate >= FeeratePerKw(253 + 253));
}

#[test]
fn a_thousand_penalties_are_a_dozen_transactions() {
    let claims: Vec<Claim> = (0..1000u32)
        .map(|n| Claim {
            outpoint: OutPoint { txid: Txid::from_byte_array([1; 32]), vout: n },
            ..until(200, claim(1, 10_000))
        })
        .collect();
    let steps = plan(&claims, &[], TIP, &RATES);
    assert_eq!(steps.len(), 10);
}

/// At 1 sat/vB: whether a channel with nothing but these claims may be forgotten.
#[test]
fn claims_pay_for_themselves_from_the_relay_floor_on() {
    let floor = FeeratePerKw::FLOOR;
    let pays = |claims: &[Claim]| any_pays_for_itself(claims, floor);
    let overhead = floor.fee(BASE_WEIGHT).0 + DUST.0;
    let of = |claim: &Claim| floor.fee(input_weight(claim)).0;
    let least = overhead + of(&claim(1, 0));
    let paired = |n, amount: u64| {
        let shape = ClaimShape::Paired { amount: Sat(amount), script: ScriptBuf::from(vec![n]) };
        Claim { shape, ..until(200, claim(n, amount)) }
    };
    let whole = |fee: u64| {
        let shape = ClaimShape::Whole { amount: Sat(5_000), script: ScriptBuf::from(vec![1]) };
        Claim { shape, ..until(200, claim(1, 5_000 + fee)) }
    };
    let paired_least = floor.fee(BASE_WEIGHT + COIN_WEIGHT).0 + of(&paired(1, 0));
    for (claims, expected) in [
        (vec![], false),
        (vec![claim(1, least - 1)], false),
        (vec![claim(1, least)], true),
        // Two share the overhead, one that costs more than it holds brings nothing, and another
        // lock time shares nothing.
        (vec![claim(1, least - 100), claim(2, of(&claim(2, 0)) + 100)], true),
        (vec![claim(1, least - 100), claim(2, 10)], false),
        (vec![claim(1, least - 100), until(200, claim(2, least - 100))], false),
        (vec![paired(1, paired_least)], false),
        (vec![paired(1, paired_least + 1)], true),
        // Signed long ago below the relay floor: no mempool ever takes it.
        (vec![whole(60)], false),
        (vec![whole(300)], true),
    ] {
        assert_eq!(pays(&claims), expected, "{claims:?}");
    }
}
