//! A captured onchaind, lie by lie. `evil.rs` has them in any order.

use super::evil::{
    CAPTURED, CAPTURED_CHILD, FORWARDS, UPSTREAM, captured, preimage, says, spend_of_peer,
};
use super::*;
use crate::rooms::onchain::answered::answered;
use crate::rooms::onchain::cases::WORTHLESS_AFTER;
use wire::onchaind::OutputStatus;

/// A channel on chain that has nothing to do with the captured onchaind's.
const OTHER: ChannelNumber = ChannelNumber(3);

fn txids(rig: &Rig, number: ChannelNumber) -> Vec<Txid> {
    let all = rig.node.onchain.attempts.get(&number).into_iter().flatten();
    all.map(|a| a.txid).collect()
}

#[test]
fn claim_of_a_coming_output_with_a_false_amount_is_dropped() {
    let mut rig = captured("coming");
    let before = txids(&rig, OTHER);
    assert_eq!(before.len(), 1);
    let coming = spend_of_peer(&rig, 0);
    let outpoint = OutPoint { txid: coming.compute_txid(), vout: 0 };
    let lie = Claim { outpoint, amount: Sat::MAX_MONEY, ..paired(&rig, 1, 102) };
    assert_eq!(says(&mut rig, &resolution(vec![lie])), []);
    let said = mine(&mut rig, 102, vec![coming]);
    // hsmd refuses the claim, but its value would have taken the UTXOs of all others first.
    assert_eq!(txids(&rig, OTHER), before, "{said:?}");
    assert_eq!(under_way(&rig), Vec::<Vec<u32>>::new());
    assert!(rig.node.onchain.cases[&CAPTURED].resolution.is_none());
}

#[test]
fn resolution_that_nothing_was_told_before_is_refused() {
    let mut rig = captured("unasked");
    let some = |rig: &Rig, n: u32| Resolution {
        claims: Long(vec![paired(rig, n, 200)]),
        ..resolution(vec![])
    };
    let (first, second, third) = (some(&rig, 1), some(&rig, 2), some(&rig, 3));
    assert_eq!(says(&mut rig, &first), []);
    assert_eq!(says(&mut rig, &second), [Said::Kill(CAPTURED_CHILD - 1000)]);
    assert_eq!(under_way(&rig), [vec![1]]);
    // A block is news.
    mine(&mut rig, 102, vec![]);
    assert_eq!(says(&mut rig, &second), []);
    assert_eq!(says(&mut rig, &third), [Said::Kill(CAPTURED_CHILD - 1000)]);
    assert_eq!(under_way(&rig), [vec![2]]);
}

#[test]
fn resolution_that_names_what_its_channel_never_had_is_refused() {
    let mut rig = captured("not-there");
    let twice = vec![paired(&rig, 1, 200), paired(&rig, 1, 200)];
    let status = OutputStatus {
        outpoint: outpoint(1),
        amount: Sat(1),
        what: String::new(),
        htlc: None,
        spent: None,
        done: false,
    };
    let all = || resolution(vec![]);
    let ended: Vec<HtlcId> = (0..FORWARDS).map(HtlcId).collect();
    let settled = Some(BlockHeight(101));
    for lie in [
        resolution(twice),
        Resolution { outputs: Long(vec![status; 10_000]), ..all() },
        Resolution { learned: Long(vec![(HtlcId(0), preimage(1))]), ..all() },
        Resolution { learned: Long(vec![(HtlcId(99), preimage(99))]), ..all() },
        Resolution { failed: Long(vec![HtlcId(99)]), ..all() },
        Resolution { overdue: Long(vec![HtlcId(99)]), ..all() },
        // The channel would be forgotten before its HTLCs have ended, or at once.
        Resolution { settled, failed: Long(ended[1..].to_vec()), ..all() },
        Resolution { settled: Some(BlockHeight(0)), failed: Long(ended.clone()), ..all() },
    ] {
        assert_eq!(says(&mut rig, &lie), [Said::Kill(CAPTURED_CHILD - 1000)], "{lie:?}");
        assert!(rig.node.onchain.cases[&CAPTURED].resolution.is_none());
    }
    let over = Resolution { settled, failed: Long(ended), ..all() };
    assert_eq!(says(&mut rig, &over).len(), FORWARDS as usize);
}

#[test]
fn burial_fails_each_htlc_that_has_not_ended() {
    let mut rig = captured("buried");
    // Claims that never pay for themselves: after two weeks the channel is forgotten.
    let shape = ClaimShape::Whole { amount: Sat(AMOUNTS[8]), script: ScriptBuf::new() };
    let poor = Claim { shape, ..paired(&rig, 8, 200) };
    assert_eq!(says(&mut rig, &resolution(vec![poor])), []);
    mine(&mut rig, 101 + WORTHLESS_AFTER, vec![]);
    assert!(!rig.node.channels.all.contains_key(&CAPTURED), "it is not buried");
    assert_eq!(rig.channel(UPSTREAM).decided.len(), FORWARDS as usize);
    rig.crash();
    assert!((1..=FORWARDS).all(|index| rig.node.htlcs.forward(index).is_none()));
}

#[test]
fn silent_onchaind_does_not_close_the_channels_of_small_htlcs() {
    let mut rig = captured("silent");
    // Incoming HTLCs expire at 206. Three blocks before, a preimage may be in a block that onchaind
    // has just been told.
    assert_eq!(mine(&mut rig, 203, vec![]), []);
    let failed =
        |said: &[Said]| said.iter().filter(|s| matches!(s, Said::Fail(UPSTREAM, ..))).count();
    assert_eq!(mine(&mut rig, 204, vec![]), []);
    // A minute is enough to say what a block means.
    let case = rig.node.onchain.cases.get_mut(&CAPTURED).unwrap();
    case.told -= ANSWER_TIME;
    let said = rig.run(Event::Htlc(HtlcEvent::CheckExpiring));
    assert_eq!(failed(&said), 2, "{said:?}");
}

/// The newest block may have the preimage of what was overdue before it.
#[test]
fn overdue_htlcs_fail_back_once_the_newest_block_is_processed() {
    let mut rig = captured("heeded");
    let ours = rig.channel(CAPTURED.0).live.htlcs.0.iter();
    let ours = ours.filter(|l| l.htlc.offered_by == Side::Local).map(|l| l.htlc.id);
    let overdue = Long(ours.collect());
    assert_eq!(says(&mut rig, &Resolution { overdue, ..resolution(vec![]) }), []);
    assert_eq!(mine(&mut rig, 203, vec![]), []);
    let mut heeds = |tip| {
        let body = OnchainHeeded { tip: BlockHeight(tip) }.encode();
        rig.run(Event::Child(CAPTURED_CHILD, Frame { body, fds: Default::default() }))
    };
    assert_eq!(heeds(202), []);
    let failed = heeds(203).iter().filter(|s| matches!(s, Said::Fail(UPSTREAM, ..))).count();
    assert_eq!(failed, 2);
}

#[test]
fn mempool_is_asked_about_no_output_that_is_not_watched() {
    let mut rig = captured("mempool");
    let of = |outpoint| OutputStatus {
        outpoint,
        amount: Sat(1),
        what: String::new(),
        htlc: Some((Side::Local, HtlcId(0))),
        spent: None,
        done: false,
    };
    let own = OutPoint { txid: commitment(&rig).compute_txid(), vout: 1 };
    let others = OutPoint { txid: commitment_of(&rig, OTHER).compute_txid(), vout: 1 };
    let outputs = Long(vec![of(own), of(outpoint(77)), of(others)]);
    assert_eq!(says(&mut rig, &Resolution { outputs, ..resolution(vec![]) }), []);
    assert_eq!(watch::awaited(&rig.node), [own]);
}

/// A captured onchaind takes a claim that bitcoind never accepts back, and says it again.
#[test]
fn withdrawn_claim_that_is_said_again_keeps_no_utxo() {
    let mut rig = Rig::new("withdrawn", &[(1, 1), (3, 2)]);
    rig.db.execute("UPDATE channels SET funding_height = 1", []).unwrap();
    for channel in rig.node.channels.all.values_mut() {
        channel.funding_height = Some(BlockHeight(1));
    }
    let honest = (0..3).map(|vout| paired_of(&rig, OTHER, vout, 130)).collect();
    closed(&mut rig, CHANNEL, vec![]);
    closed(&mut rig, OTHER, honest);
    coin(&mut rig, 9, 50_000);
    let lie = |rig: &mut Rig, said: Vec<Claim>| {
        rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().resolution = Some(resolution(said));
        advance(rig);
    };
    let served = |rig: &Rig| rig.node.onchain.attempts.get(&OTHER).is_some_and(|a| !a.is_empty());
    for height in 101..=130 {
        if height % 5 == 0 {
            lie(&mut rig, vec![]);
        }
        let said = vec![paired(&rig, 9, 102)];
        lie(&mut rig, said);
        mine(&mut rig, height, vec![]);
        let attempt = rig.node.onchain.attempts.get(&CHANNEL).and_then(|all| all.first());
        if let Some(txid) = attempt.map(|a| a.txid) {
            let why = Some("mandatory-script-verify-flag-failed");
            rig.turn(move |node, turn| answered(node, turn, CHANNEL, txid, why));
        }
        assert!(height < 110 || served(&rig), "at {height}");
    }
}
