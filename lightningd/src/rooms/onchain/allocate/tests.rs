//! A table of the allocator's rules.

pub mod bumps;

use super::*;
use crate::rooms::onchain::commitments::Bumpable;
use crate::rooms::onchain::cost::{Coin, Parent};
use crate::rooms::onchain::fees::clearly_above;
use crate::rooms::onchain::plan::Make;
use crate::rooms::onchain::plan::tests::{claim, outpoint};
use crate::rooms::onchain::request::Calm;
use bitcoin::hashes::Hash;
use wire::onchaind::{Claim, ClaimShape};

pub(super) const FLOOR: FeeratePerKw = FeeratePerKw(253);
const TIP: u32 = 100;

/// A confirmed UTXO that nothing spends.
pub(super) fn utxo(n: u8, amount: u64) -> Utxo {
    let script = ScriptBuf::from([vec![0x51, 0x20], vec![n; 32]].concat());
    let coin = Coin { outpoint: outpoint(n), amount: Sat(amount), script, key_index: 1 };
    Utxo { coin, held_by: None, made_by: None }
}
pub(super) fn txid(n: u8) -> Txid {
    Txid::from_byte_array([n; 32])
}

/// The claim of an HTLC that the peer signed.
pub(super) fn paired(n: u8, amount: u64, deadline: u32) -> Claim {
    let shape = ClaimShape::Paired { amount: Sat(amount), script: ScriptBuf::from(vec![n; 34]) };
    Claim { shape, deadline: Some(BlockHeight(deadline)), ..claim(n, amount) }
}
fn batch(number: u64, claims: Vec<Claim>, wanted: u32) -> Request {
    let make =
        Make { claims, feerate: FeeratePerKw(wanted), first: BlockHeight(TIP), replaces: None };
    Request::claims(ChannelNumber(number), make, FLOOR)
}
fn htlc(number: u64, amount: u64, deadline: u32) -> Request {
    batch(number, vec![paired(number as u8, amount, deadline)], 253)
}

/// The child of a commitment that pays nothing, for HTLCs of this amount.
fn bump(number: u64, worth: u64, deadline: u32) -> Request {
    let txid = txid(number as u8);
    let target = Bumpable {
        txid,
        anchor: OutPoint { txid, vout: 0 },
        fee: Sat(0),
        weight: 1_124,
        owner: Side::Local,
    };
    Request {
        number: ChannelNumber(number),
        worth: Sat(worth),
        deadline: Some(BlockHeight(deadline)),
        before: None,
        least: FLOOR,
        wanted: FLOOR,
        max_fee: Sat(worth / 2),
        calm: None,
        may_chain: true,
        rests: false,
        cost: crate::rooms::onchain::child_cost::cost(&target),
        what: What::Bump { target, first: BlockHeight(TIP) },
    }
}

/// One under way for this request, made in the block before, with the UTXOs that are held by its
/// number.
fn under_way(request: Request, fee: u64) -> Standing {
    Standing {
        txid: txid(100 + request.number.0 as u8),
        worth: request.worth,
        deadline: request.deadline,
        fee: Sat(fee),
        weight: 1_000,
        feerate: FeeratePerKw(u32::try_from(fee).unwrap()),
        first: BlockHeight(TIP - 2),
        made: BlockHeight(TIP - 1),
        refused: false,
        accepted: true,
        hopeless: false,
        again: Again::Ask(request),
    }
}
fn held(utxo: Utxo, by: u64) -> Utxo {
    Utxo { held_by: Some(txid(100 + by as u8)), ..utxo }
}
/// The unconfirmed change of what is under way.
fn change(utxo: Utxo, of: &Standing) -> Utxo {
    let (txid, weight, fee) = (of.txid, of.weight, of.fee);
    Utxo { made_by: Some(Parent { txid, weight, fee, transactions: 1 }), ..utxo }
}
fn raise(request: Request, wanted: u32) -> Request {
    let before = Some(txid(100 + request.number.0 as u8));
    Request { before, wanted: FeeratePerKw(wanted), ..request }
}
fn refused(standing: Standing) -> Standing {
    Standing { refused: true, accepted: false, ..standing }
}

/// As in "2 with 9+8, not 1": request 2 is built with UTXOs 9 and 8, which 1 loses.
fn told(verdicts: &[Verdict]) -> Vec<String> {
    let one = |verdict: &Verdict| match verdict {
        Verdict::Build { request, utxos, displaces, .. } => {
            let utxos: Vec<String> =
                utxos.iter().map(|u| u.coin.outpoint.vout.to_string()).collect();
            let many =
                if request.batch() > 1 { format!(" x{}", request.batch()) } else { String::new() };
            let lost: Vec<String> =
                displaces.iter().map(|t| format!(", not {}", t.to_byte_array()[0] - 100)).collect();
            format!("{}{many} with {}{}", request.number, utxos.join("+"), lost.concat())
        }
        Verdict::Wait { request, .. } => format!("{} waits", request.number),
    };
    verdicts.iter().map(one).collect()
}

struct Row {
    rule: &'static str,
    utxos: Vec<Utxo>,
    standing: Vec<Standing>,
    requests: Vec<Request>,
    verdicts: &'static [&'static str],
}

fn check(rows: Vec<Row>) {
    for row in rows {
        let mut utxos = row.utxos;
        utxos.sort_by_key(|u| u.coin.amount);
        let world = World { tip: BlockHeight(TIP), floor: FLOOR, utxos, standing: row.standing };
        assert_eq!(told(&allocate(&world, row.requests)), row.verdicts, "{}", row.rule);
    }
}

#[test]
fn requests_are_served_by_value_then_deadline_rejected_last() {
    let (small, large) = (htlc(1, 20_000, 200), htlc(2, 5_000_000, 200));
    let stuck = refused(under_way(htlc(3, 9_000_000, 200), 300));
    check(vec![
        Row {
            rule: "the highest value at risk has the only UTXO",
            utxos: vec![utxo(9, 50_000)],
            standing: vec![],
            requests: vec![small.clone(), large.clone()],
            verdicts: &["2 with 9", "1 waits"],
        },
        Row {
            rule: "of equal values the earlier deadline",
            utxos: vec![utxo(9, 50_000)],
            standing: vec![],
            requests: vec![htlc(1, 20_000, 200), htlc(2, 20_000, 150)],
            verdicts: &["2 with 9", "1 waits"],
        },
        Row {
            rule: "a rejected one is raised after the others are served",
            utxos: vec![held(utxo(8, 50_000), 3), utxo(9, 50_000)],
            standing: vec![stuck],
            requests: vec![raise(htlc(3, 9_000_000, 200), 1_000), small],
            verdicts: &["1 with 9", "3 with 8"],
        },
    ]);
}

#[test]
fn utxos_are_chosen_few_and_small_and_kept_by_a_replacement() {
    let (small, large) = (htlc(1, 20_000, 200), htlc(2, 5_000_000, 200));
    check(vec![
        Row {
            rule: "the smallest that is enough alone",
            utxos: vec![utxo(7, 100), utxo(8, 3_000), utxo(9, 50_000)],
            standing: vec![],
            requests: vec![small.clone()],
            verdicts: &["1 with 8"],
        },
        Row {
            rule: "else the largest ones",
            utxos: vec![utxo(7, 130), utxo(8, 150), utxo(9, 170)],
            standing: vec![],
            requests: vec![small.clone()],
            verdicts: &["1 with 9+8"],
        },
        Row {
            rule: "a replacement keeps its UTXOs and adds to them",
            utxos: vec![held(utxo(8, 500), 2), utxo(9, 50_000)],
            standing: vec![under_way(large.clone(), 300)],
            requests: vec![raise(large.clone(), 5_000)],
            verdicts: &["2 with 8+9"],
        },
        Row {
            rule: "a batch under way that cannot be raised as wanted is split",
            utxos: vec![held(utxo(9, 3_000), 1)],
            standing: vec![under_way(
                batch(1, (1..=10).map(|n| paired(n, 1_000 * u64::from(n), 200)).collect(), 253),
                300,
            )],
            requests: vec![raise(
                batch(1, (1..=10).map(|n| paired(n, 1_000 * u64::from(n), 200)).collect(), 253),
                900,
            )],
            verdicts: &["1 x5 with 9", "1 waits", "1 waits", "1 waits", "1 waits", "1 waits"],
        },
        Row {
            rule: "a batch that UTXOs cannot pay for is split, the more valuable half first",
            utxos: vec![utxo(9, 400)],
            standing: vec![],
            requests: vec![batch(
                1,
                vec![paired(1, 20_000, 200), paired(2, 30_000, 200), paired(3, 10, 200)],
                400,
            )],
            verdicts: &["1 with 9", "1 waits", "1 waits"],
        },
    ]);
}

#[test]
fn utxos_are_taken_from_transactions_with_less_value_at_risk() {
    let (small, large) = (htlc(1, 20_000, 200), htlc(2, 5_000_000, 200));
    let only = || vec![held(utxo(9, 50_000), 1)];
    check(vec![
        Row {
            rule: "the higher value displaces the lower, which waits",
            utxos: only(),
            standing: vec![under_way(small.clone(), 300)],
            requests: vec![large.clone()],
            verdicts: &["2 with 9, not 1", "1 waits"],
        },
        Row {
            rule: "what is displaced has another UTXO in the same block",
            utxos: vec![held(utxo(9, 50_000), 1), utxo(8, 400)],
            standing: vec![under_way(small.clone(), 300)],
            requests: vec![Request { wanted: FeeratePerKw(5_000), ..large.clone() }],
            verdicts: &["2 with 9, not 1", "1 with 8"],
        },
        Row {
            rule: "an equal value displaces nothing",
            utxos: only(),
            standing: vec![under_way(small.clone(), 300)],
            requests: vec![htlc(2, 20_000, 150)],
            verdicts: &["2 waits"],
        },
        Row {
            rule: "nor do two that are worth as much together",
            utxos: vec![held(utxo(8, 400), 1), held(utxo(9, 400), 3)],
            standing: vec![
                under_way(htlc(1, 11_000, 200), 300),
                under_way(htlc(3, 11_000, 200), 300),
            ],
            requests: vec![htlc(2, 20_000, 150)],
            verdicts: &["2 waits"],
        },
        Row {
            rule: "nothing is displaced where a free UTXO pays",
            utxos: vec![held(utxo(8, 5_000), 1), utxo(9, 50_000)],
            standing: vec![under_way(small.clone(), 300)],
            requests: vec![large.clone()],
            verdicts: &["2 with 9"],
        },
    ]);
}

#[test]
fn utxos_of_urgent_or_dear_transactions_are_not_taken() {
    let large = htlc(2, 5_000_000, 200);
    let only = || vec![held(utxo(9, 50_000), 1)];
    check(vec![
        Row {
            rule: "a transaction due within three blocks is not displaced for a request with more time",
            utxos: only(),
            standing: vec![under_way(htlc(1, 20_000, TIP + 3), 300)],
            requests: vec![large.clone()],
            verdicts: &["2 waits"],
        },
        Row {
            rule: "but one due as soon displaces it",
            utxos: only(),
            standing: vec![under_way(htlc(1, 20_000, TIP + 3), 300)],
            requests: vec![htlc(2, 5_000_000, TIP + 3)],
            verdicts: &["2 with 9, not 1", "1 waits"],
        },
        Row {
            rule: "a price above half of the value is not paid",
            utxos: only(),
            standing: vec![under_way(htlc(1, 20_000, 200), 10_000)],
            requests: vec![htlc(2, 20_500, 200)],
            verdicts: &["2 waits"],
        },
        Row {
            rule: "of two, the one that can be replaced for the value of the request",
            utxos: vec![held(utxo(8, 40_000), 1), held(utxo(9, 50_000), 3)],
            standing: vec![
                under_way(htlc(1, 20_000, 200), 10_000),
                under_way(htlc(3, 20_100, 200), 300),
            ],
            requests: vec![htlc(2, 20_500, 200)],
            verdicts: &["2 with 9, not 3", "3 waits"],
        },
    ]);
}

#[test]
fn rejected_transactions_give_way() {
    let (small, large) = (htlc(1, 20_000, 200), htlc(2, 5_000_000, 200));
    let only = |by| vec![held(utxo(9, 50_000), by)];
    let old = |request, fee| refused(under_way(request, fee));
    check(vec![
        Row {
            rule: "to an equal value, at no price",
            utxos: only(1),
            standing: vec![old(small.clone(), 9_000)],
            requests: vec![htlc(2, 20_000, 150)],
            verdicts: &["2 with 9, not 1", "1 waits"],
        },
        Row {
            rule: "not to a lower value",
            utxos: only(2),
            standing: vec![old(large.clone(), 300)],
            requests: vec![small.clone()],
            verdicts: &["1 waits"],
        },
        Row {
            rule: "to a lower value once six blocks running rejected it, and it displaces nothing then",
            utxos: only(2),
            standing: vec![Standing { hopeless: true, ..old(large.clone(), 300) }],
            requests: vec![small.clone()],
            verdicts: &["1 with 9, not 2", "2 waits"],
        },
        Row {
            rule: "an earlier deadline has a second try first",
            utxos: only(1),
            standing: vec![Standing {
                first: BlockHeight(TIP - 1),
                ..old(htlc(1, 20_000, 150), 300)
            }],
            requests: vec![htlc(2, 20_000, 200)],
            verdicts: &["2 waits"],
        },
        Row {
            rule: "not in the block in which it was made",
            utxos: only(1),
            standing: vec![Standing { made: BlockHeight(TIP), ..old(small, 300) }],
            requests: vec![htlc(2, 20_000, 150)],
            verdicts: &["2 waits"],
        },
        Row {
            rule: "one that gave way in this block displaces nothing",
            utxos: vec![held(utxo(9, 50_000), 1)],
            standing: vec![under_way(htlc(1, 20_000, 200), 300)],
            requests: vec![Request { rests: true, ..large }],
            verdicts: &["2 waits"],
        },
    ]);
}

#[test]
fn replacement_pays_for_all_it_replaces() {
    let tip = BlockHeight(TIP);
    let (small, large) = (htlc(1, 20_000, 200), htlc(2, 5_000_000, 200));
    let utxos = vec![held(utxo(8, 3_000), 2), held(utxo(9, 50_000), 1)];
    let standing = vec![under_way(small, 900), under_way(large.clone(), 2_500)];
    let world = World { tip, floor: FLOOR, utxos, standing };
    let verdicts = allocate(&world, vec![raise(large, 10_000)]);
    let Verdict::Build { request, fee, feerate, utxos, .. } = &verdicts[0] else {
        panic!("{verdicts:?}")
    };
    assert_eq!(utxos.len(), 2);
    let weight = request.cost.weight_with(utxos);
    assert!(fee.0 >= 900 + 2_500 + FLOOR.fee(weight).0, "{fee}");
    assert!(*feerate >= clearly_above(FeeratePerKw(2_500), FLOOR), "{feerate}");
}

/// Feerate and fee of the only verdict.
fn built(utxos: Vec<Utxo>, request: Request) -> (u32, u64) {
    let world = World { tip: BlockHeight(TIP), floor: FLOOR, utxos, standing: vec![] };
    match allocate(&world, vec![request]).as_slice() {
        [Verdict::Build { feerate, fee, .. }] => (feerate.0, fee.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn claim_pays_half_of_its_value_or_all_of_it_at_the_relay_floor() {
    let claim = |amount| batch(1, vec![paired(1, amount, 200)], 5_000);
    let (feerate, fee) = built(vec![utxo(9, 50_000)], claim(2_000));
    assert!((900..=1_000).contains(&fee), "{fee}");
    assert!((900..1_100).contains(&feerate), "{feerate}");
    let (feerate, fee) = built(vec![utxo(9, 50_000)], claim(300));
    assert_eq!(feerate, FLOOR.0);
    assert!((200..=300).contains(&fee), "{fee}");
    let world = World {
        tip: BlockHeight(TIP),
        floor: FLOOR,
        utxos: vec![utxo(9, 50_000)],
        standing: vec![],
    };
    assert!(allocate(&world, vec![claim(200)]).is_empty());
}

#[test]
fn claim_pays_the_highest_feerate_that_utxos_allow() {
    let (feerate, fee) = built(vec![utxo(9, 2_000)], batch(1, vec![paired(1, 90_000, 200)], 5_000));
    assert!((1_900..=2_000).contains(&fee), "{fee}");
    assert!((1_900..2_700).contains(&feerate), "{feerate}");
}
