//! The anchor bump of a channel whose peer's commitments may stand in the mempool instead of ours.

use super::*;
use crate::rooms::onchain::anchor::commitment_published;
use crate::rooms::onchain::answered::answered;
use crate::rooms::onchain::watch::mempool_has;
use serde_json::json;

/// Our commitment of a channel with anchors waits to be in a block at a price of next to nothing;
/// an HTLC of ours is in it. The peer's commitment follows from the rows.
fn failed_channel(rig: &mut Rig) -> Txid {
    rig.go_to_chain(CHANNEL.0);
    let channel = rig.node.channels.all.get_mut(&CHANNEL).unwrap();
    let stage = wire::channel_data::Stage::Irrevocable;
    let hash = PaymentHash([1; 32]);
    let live =
        crate::rooms::channels::testing::htlc(Side::Local, (0, 7), (400_000_000, 140), hash, stage);
    channel.live.htlcs.0 = vec![live];
    channel.live.next_htlc_id.local = HtlcId(1);
    channel.live.params.channel_type =
        Features::none().with(feature::STATIC_REMOTEKEY).with(feature::ANCHORS);
    channel.live.fees.0[0].feerate = FeeratePerKw(253);
    channel.funding_height = Some(BlockHeight(90));
    let funding = channel.live.params.basepoints.local.funding;
    let anchor = channel::scripts::anchor(&funding).to_p2wsh();
    let (of, rest) = (channel.live.params.funding, ScriptBuf::from(vec![0x51]));
    let ours = spending(&[of], &[(330, &anchor), (999_669, &rest)]);
    let txid = ours.compute_txid();
    rig.node.chain.fees = Some(crate::rooms::chain::estimates::Estimates {
        floor: FeeratePerKw(253),
        by_blocks: vec![(2, FeeratePerKw(1_000)), (12, FeeratePerKw(1_000))],
    });
    rig.turn(move |node, turn| commitment_published(node, turn, CHANNEL, &ours));
    advance(rig);
    txid
}

fn bump(rig: &Rig) -> Attempt {
    let [bump] = rig.node.onchain.attempts[&CHANNEL].as_slice() else { panic!("one bump") };
    bump.clone()
}
fn alternatives(rig: &Rig) -> Vec<Attempt> {
    rig.node.onchain.alternative_bumps.get(&CHANNEL).cloned().unwrap_or_default()
}
fn answer(rig: &mut Rig, txid: Txid, refused: Option<&'static str>) {
    rig.turn(move |node, turn| answered(node, turn, CHANNEL, txid, refused));
}

#[test]
fn anchor_bumps_of_both_commitments_share_their_utxos() {
    let mut rig = Rig::new("bump-both", &[(1, 1)]);
    let utxo = coin(&mut rig, 9, 50_000);
    let ours = failed_channel(&mut rig);
    let (bump, others) = (bump(&rig), alternatives(&rig));
    assert_eq!(bump.claims[0].txid, ours);
    let [other] = others.as_slice() else { panic!("{others:?}") };
    assert_ne!(other.claims[0].txid, ours);
    for bump in [&bump, other] {
        assert_eq!(bump.tx.input[1].previous_output, utxo);
    }
    // The wallet counts the change of one of them.
    assert_eq!(spent_by(&rig, &utxo), Some(bump.txid));
    let known = |txid| rig.node.wallet.outputs.contains_key(&OutPoint { txid, vout: 0 });
    assert!(known(bump.txid) && !known(other.txid));
}

#[test]
fn anchor_bump_moves_to_the_commitment_in_the_mempool() {
    let mut rig = Rig::new("bump-moves", &[(1, 1)]);
    let utxo = coin(&mut rig, 9, 50_000);
    failed_channel(&mut rig);
    let (first, other) = (bump(&rig), alternatives(&rig).remove(0));
    answer(&mut rig, first.txid, Some("bad-txns-inputs-missingorspent"));
    answer(&mut rig, other.txid, None);
    let check = |rig: &Rig| {
        assert_eq!(bump(rig).txid, other.txid);
        assert_eq!(spent_by(rig, &utxo), Some(other.txid));
    };
    check(&rig);
    assert_eq!(alternatives(&rig).iter().map(|a| a.txid).collect::<Vec<_>>(), [first.txid]);
    // It is that one from now on, with a row, and raised where it stands.
    rig.crash();
    check(&rig);
    let ours = failed_channel(&mut rig);
    rig.node.chain.fees.as_mut().unwrap().by_blocks = vec![(2, FeeratePerKw(10_000))];
    mine(&mut rig, 101, vec![]);
    let raised = bump(&rig);
    assert_eq!(raised.claims, other.claims);
    assert!(raised.feerate >= FeeratePerKw(10_000));
    assert_eq!(alternatives(&rig)[0].claims[0].txid, ours);
    // And back.
    let back = alternatives(&rig).remove(0).txid;
    answer(&mut rig, back, None);
    assert_eq!(bump(&rig).txid, back);
    assert_eq!(spent_by(&rig, &utxo), Some(back));
}

#[test]
fn anchor_bump_of_a_refused_alternative_changes_nothing() {
    let mut rig = Rig::new("bump-refused", &[(1, 1)]);
    let utxo = coin(&mut rig, 9, 50_000);
    failed_channel(&mut rig);
    let (first, other) = (bump(&rig), alternatives(&rig).remove(0));
    answer(&mut rig, other.txid, Some("bad-txns-inputs-missingorspent"));
    assert_eq!(bump(&rig).txid, first.txid);
    assert_eq!(spent_by(&rig, &utxo), Some(first.txid));
}

#[test]
fn anchor_bump_of_a_commitment_in_the_mempool_is_made_at_once() {
    let mut rig = Rig::new("bump-seen", &[(1, 1)]);
    coin(&mut rig, 9, 50_000);
    failed_channel(&mut rig);
    let channel = rig.channel(1);
    let funding = channel.live.params.basepoints.local.funding;
    let anchor = channel::scripts::anchor(&funding).to_p2wsh();
    // One that no row of ours knows, as after a revocation.
    let of = channel.live.params.funding;
    let old = spending(&[of], &[(330, &anchor), (500_000, &anchor)]);
    let hex = bitcoin::consensus::encode::serialize_hex(&old);
    rig.turn(move |node, turn| {
        mempool_has(node, turn, Ok(json!({"transactions": [hex]})));
        Ok(())
    });
    // 499,670 satoshi of fee are enough for any block: nothing needs a bump.
    assert_eq!(under_way(&rig), Vec::<Vec<u32>>::new());
    let cheap = spending(&[of], &[(330, &anchor), (999_600, &anchor)]);
    let hex = bitcoin::consensus::encode::serialize_hex(&cheap);
    rig.turn(move |node, turn| {
        mempool_has(node, turn, Ok(json!({"transactions": [hex]})));
        Ok(())
    });
    assert_eq!(bump(&rig).claims[0], OutPoint { txid: cheap.compute_txid(), vout: 0 });
}

#[test]
fn anchor_bump_of_ours_ends_when_the_peers_commitment_confirms() {
    let mut rig = Rig::new("bump-ends", &[(1, 1)]);
    let utxo = coin(&mut rig, 9, 50_000);
    failed_channel(&mut rig);
    let of = rig.channel(1).live.params.funding;
    let theirs = spending(&[of], &[(1_000, &ScriptBuf::from(vec![0x53]))]);
    rig.node.chain.caught_up = false;
    mine(&mut rig, 101, vec![theirs]);
    assert!(alternatives(&rig).is_empty());
    let mut case = rig.node.onchain.cases.remove(&CHANNEL).expect("a case");
    case.resolution = Some(resolution(vec![]));
    rig.node.onchain.cases.insert(CHANNEL, case);
    rig.node.chain.caught_up = true;
    advance(&mut rig);
    assert_eq!(spent_by(&rig, &utxo), None);
}
