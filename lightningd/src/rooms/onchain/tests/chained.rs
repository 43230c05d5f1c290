//! Anchor bumps that spend the unconfirmed change of a claim, and what becomes of both; claims that
//! hsmd does not sign.

use super::under_way::poor_commitment;
use super::*;
use crate::rooms::onchain::answered::answered;

const SMALL: u32 = 8;
const LARGE: u32 = 9;
const OTHER: ChannelNumber = ChannelNumber(2);

fn of(rig: &Rig, number: ChannelNumber) -> Option<Attempt> {
    rig.node.onchain.attempts.get(&number).and_then(|all| all.first()).cloned()
}
fn answer(rig: &mut Rig, number: ChannelNumber, refused: Option<&'static str>) {
    let txid = of(rig, number).expect("an attempt").txid;
    rig.turn(move |node, turn| answered(node, turn, number, txid, refused));
}

/// A claim of 2,000 sat has the only UTXO, and the other channel's anchor bump its change.
fn chained(name: &str) -> (Rig, OutPoint) {
    let mut rig = Rig::new(name, &[(1, 1), (2, 2)]);
    let small = paired(&rig, SMALL, 130);
    closed(&mut rig, CHANNEL, vec![small]);
    let utxo = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    answer(&mut rig, CHANNEL, None);
    poor_commitment(&mut rig, OTHER);
    assert!(spends_change(&rig));
    (rig, utxo)
}
fn spends_change(rig: &Rig) -> bool {
    let (Some(claim), Some(bump)) = (of(rig, CHANNEL), of(rig, OTHER)) else { return false };
    bump.tx.input[1].previous_output.txid == claim.txid
}

#[test]
fn bump_rejected_with_unconfirmed_change_is_rebuilt_without_it() {
    let (mut rig, utxo) = chained("chained-rejected");
    answer(&mut rig, OTHER, Some("too-long-mempool-chain"));
    assert!(of(&rig, OTHER).is_none());
    // The claim has its UTXO still, and is raised again.
    let before = of(&rig, CHANNEL).unwrap();
    assert_eq!(spent_by(&rig, &utxo), Some(before.txid));
    for height in 101..106 {
        mine(&mut rig, height, vec![]);
        assert!(of(&rig, OTHER).is_none(), "at {height}");
    }
    mine(&mut rig, 106, vec![]);
    assert!(spends_change(&rig), "another mempool may take it");
}

#[test]
fn bump_with_change_of_a_dropped_claim_is_rebuilt_with_its_utxo() {
    let (mut rig, utxo) = chained("chained-lost");
    // Its peer took the HTLC.
    let claimed = of(&rig, CHANNEL).unwrap().claims[0];
    mine(&mut rig, 101, vec![spending(&[claimed], &[(1_000, &ScriptBuf::from(vec![0x55]))])]);
    let bump = of(&rig, OTHER).expect("a bump");
    assert_eq!(spent_by(&rig, &utxo), Some(bump.txid));
    assert!(of(&rig, CHANNEL).is_none());
    // The change is gone, in memory and on disk.
    let unconfirmed = |rig: &Rig| {
        let outputs = rig.node.wallet.outputs.iter();
        outputs.filter(|(o, v)| v.confirmed.is_none() && o.txid != bump.txid).count()
    };
    assert_eq!(unconfirmed(&rig), 0);
    let count = "SELECT count(*) FROM outputs WHERE confirmed_height IS NULL";
    let rows: u32 = rig.db.query_row(count, [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 1, "the new bump's own change");
}

#[test]
fn claim_is_raised_once_the_bump_with_its_change_is_of_no_use() {
    let (mut rig, utxo) = chained("chained-useless");
    let first = of(&rig, CHANNEL).unwrap();
    // The other channel's commitment is in a block without the bump.
    let (commitment, _) = rig.node.onchain.published.remove(&OTHER).unwrap();
    let mut case = Case::new(Seen::new(commitment, BlockHeight(100), 0));
    case.resolution = Some(resolution(vec![]));
    rig.node.onchain.cases.insert(OTHER, case);
    for height in 101..130 {
        mine(&mut rig, height, vec![]);
    }
    let now = of(&rig, CHANNEL).unwrap();
    assert!(now.feerate > first.feerate, "{} after {}", now.feerate, first.feerate);
    assert_eq!(spent_by(&rig, &utxo), Some(now.txid));
    assert!(of(&rig, OTHER).is_none());
}

#[test]
fn unsigned_claim_leaves_utxos_to_others() {
    let mut rig = Rig::new("unsigned", &[(1, 1), (2, 2)]);
    let mut unsignable = paired(&rig, LARGE, 130);
    if let WalletKey::OwnHtlc { preimage, .. } = &mut unsignable.key {
        *preimage = Some(crate::testing::UNSIGNED);
    }
    let small = paired_of(&rig, OTHER, SMALL, 130);
    closed(&mut rig, CHANNEL, vec![unsignable]);
    closed(&mut rig, OTHER, vec![small]);
    let utxo = coin(&mut rig, 9, 50_000);
    for height in 101..104 {
        mine(&mut rig, height, vec![]);
        assert!(of(&rig, CHANNEL).is_none());
        assert_eq!(spent_by(&rig, &utxo), of(&rig, OTHER).map(|a| a.txid), "at {height}");
        assert_eq!(rig.node.onchain.attempts[&OTHER].len(), 1);
    }
}

/// A batch is under way, and onchaind says it again in a way that hsmd does not sign: it stays as
/// it is.
#[test]
fn unsigned_replacement_keeps_what_is_under_way() {
    for free in [false, true] {
        let claims = |rig: &Rig, preimage| {
            let both = [0, 1].map(|vout| {
                let mut claim = paired(rig, vout, 110);
                if let WalletKey::OwnHtlc { preimage: of, .. } = &mut claim.key {
                    *of = Some(preimage);
                }
                let shape = if free { ClaimShape::Free {} } else { claim.shape };
                Claim { shape, ..claim }
            });
            resolution(both.to_vec())
        };
        let mut rig = on_chain(&format!("unsigned-again-{free}"), |_| vec![]);
        coin(&mut rig, 9, 500_000);
        let first = claims(&rig, Preimage([1; 32]));
        rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().resolution = Some(first);
        advance(&mut rig);
        assert_eq!(under_way(&rig), [vec![0, 1]]);
        let before = of(&rig, CHANNEL).unwrap().txid;
        let lie = claims(&rig, crate::testing::UNSIGNED);
        rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().resolution = Some(lie);
        for height in 101..112 {
            mine(&mut rig, height, vec![]);
            assert_eq!(of(&rig, CHANNEL).map(|a| a.txid), Some(before), "at {height}");
        }
    }
}

/// Each refusal of hsmd costs an allocation: a channel has a few in a block.
#[test]
fn refusals_of_one_channel_in_one_block_are_bounded() {
    let mut rig = on_chain("refusals", |rig| {
        let claim = |n: u32| {
            let mut claim = paired(rig, 0, 130);
            if let WalletKey::OwnHtlc { preimage, .. } = &mut claim.key {
                *preimage = Some(crate::testing::UNSIGNED);
            }
            claim.outpoint.vout = n % 8;
            Claim { lock_time: n, ..claim }
        };
        (0..8).chain(9..12).map(claim).collect()
    });
    coin(&mut rig, 9, 5_000_000);
    advance(&mut rig);
    let (_, many) = rig.node.onchain.refusals[&CHANNEL];
    assert_eq!(many, 8);
    assert!(of(&rig, CHANNEL).is_none());
}

#[test]
fn change_of_a_claim_is_not_spent_by_a_withdrawal() {
    let (rig, _) = chained("chained-withdrawal");
    let claim = of(&rig, CHANNEL).unwrap();
    let change = OutPoint { txid: claim.txid, vout: 1 };
    assert!(rig.node.wallet.outputs.contains_key(&change));
    let replaceable = crate::rooms::onchain::attempts_under_way(&rig.node);
    let wanted = move |utxos| wallet::coins::Wanted {
        script: ScriptBuf::from(vec![0x51]),
        amount: Some(Sat(1_000)),
        feerate: FeeratePerKw(253),
        minconf: 0,
        utxos,
        emergency: Sat(0),
        replaceable: replaceable.clone(),
    };
    let mut rig = rig;
    for utxos in [None, Some(vec![change])] {
        let wanted = &wanted;
        rig.turn(move |node, turn| {
            assert!(wallet::coins::build(node, turn, &wanted(utxos.clone())).is_err());
            Ok(())
        });
    }
}

/// One block confirms a claim and makes impossible what spent its change: that is free again,
/// though the same block brought it.
#[test]
fn change_is_free_if_one_block_confirms_it_and_kills_its_spend() {
    let mut rig = Rig::new("both-at-once", &[]);
    let script = rig.node.wallet.script(1, AddressKind::Taproot);
    let (a, b) = (coin(&mut rig, 9, 50_000), coin(&mut rig, 10, 50_000));
    let maker = spending(&[a], &[(40_000, &script)]);
    let change = OutPoint { txid: maker.compute_txid(), vout: 0 };
    let foreign = ScriptBuf::from(vec![0x54]);
    let payment = spending(&[change, b], &[(80_000, &foreign)]);
    for tx in [maker.clone(), payment] {
        rig.turn(move |node, turn| {
            wallet::spend::spend(node, turn, &tx)?;
            crate::rooms::chain::broadcast::broadcast(
                node,
                turn,
                &tx,
                crate::kernel::words::rooms::BroadcastFor::Nobody,
            )
        });
    }
    assert!(spent_by(&rig, &change).is_some());
    mine(&mut rig, 101, vec![maker, spending(&[b], &[(1_000, &foreign)])]);
    assert_eq!(rig.node.wallet.outputs[&change].confirmed, Some(BlockHeight(101)));
    assert_eq!(spent_by(&rig, &change), None);
    rig.crash();
    assert_eq!(spent_by(&rig, &change), None, "also on disk");
}
