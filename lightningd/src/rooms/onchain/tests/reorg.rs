//! Blocks that leave the chain, and what was in them.

use super::unjudged::FundingSpend;
use super::*;
use crate::kernel::children::Role;
use crate::kernel::words::rooms::ChannelEvent;
use crate::rooms::channels::state::StateTrust;

#[test]
fn utxo_is_free_after_its_spend_was_reorged_and_replaced() {
    let mut rig = on_chain("lost", |rig| vec![paired(rig, 1, 200)]);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let ours = rig.node.onchain.attempts[&CHANNEL][0].tx.clone();
    mine(&mut rig, 101, vec![ours.clone()]);
    assert_eq!(under_way(&rig), Vec::<Vec<u32>>::new());
    assert_eq!(spent_by(&rig, &coin), Some(ours.compute_txid()));
    unmine(&mut rig, 101);
    let taken = OutPoint { txid: commitment(&rig).compute_txid(), vout: 1 };
    mine(&mut rig, 101, vec![spending(&[taken], &[(1, &ScriptBuf::new())])]);
    assert_eq!(spent_by(&rig, &coin), None);
    let phantom = rig.node.wallet.outputs.keys().any(|o| o.txid == ours.compute_txid());
    assert!(!phantom, "what it paid to us is not there");
}

#[test]
fn utxo_of_a_bump_is_free_after_another_commitment_confirmed() {
    let mut rig = Rig::new("pushed", &[(1, 1)]);
    rig.go_to_chain(1);
    let coin = coin(&mut rig, 9, 50_000);
    let ours = commitment(&rig);
    let child = spending(
        &[OutPoint { txid: ours.compute_txid(), vout: 0 }, coin],
        &[(40_000, &rig.node.wallet.script(2, AddressKind::Taproot))],
    );
    let attempt = Attempt {
        txid: child.compute_txid(),
        tx: child.clone(),
        kind: attempt::Kind::AnchorBump,
        claims: vec![OutPoint { txid: ours.compute_txid(), vout: 0 }],
        feerate: FeeratePerKw(253),
        first: BlockHeight(100),
        height: BlockHeight(100),
        refused: false,
        accepted: None,
        refused_since: None,
    };
    rig.turn(|node, turn| {
        crate::rooms::chain::broadcast::keep(turn.db, &attempt.tx)?;
        attempts::keep(node, turn, CHANNEL, attempt.clone())
    });
    // Both in one block; it leaves the chain, and the peer's commitment is in the next.
    mine_without_onchaind(&mut rig, 101, vec![ours.clone(), child.clone()]);
    assert_eq!(spent_by(&rig, &coin), Some(child.compute_txid()));
    unmine(&mut rig, 101);
    let funding = rig.channel(1).live.params.funding;
    let theirs = spending(&[funding], &[(1000, &ScriptBuf::from(vec![0x53]))]);
    mine_without_onchaind(&mut rig, 101, vec![theirs]);
    assert_eq!(spent_by(&rig, &coin), None);
}

#[test]
fn utxo_reorged_with_the_commitment_to_bump_is_unconfirmed() {
    let mut rig = Rig::new("left-together", &[(1, 1)]);
    rig.go_to_chain(1);
    let ours = commitment(&rig);
    let script = rig.node.wallet.script(1, AddressKind::Taproot);
    let gift = spending(&[outpoint(7)], &[(50_000, &script)]);
    let coin = OutPoint { txid: gift.compute_txid(), vout: 0 };
    mine_without_onchaind(&mut rig, 101, vec![gift, ours.clone()]);
    assert_eq!(rig.node.wallet.outputs[&coin].confirmed, Some(BlockHeight(101)));
    let claimed = OutPoint { txid: ours.compute_txid(), vout: 0 };
    let tx = spending(&[claimed, coin], &[(40_000, &script)]);
    let attempt = Attempt {
        txid: tx.compute_txid(),
        tx,
        kind: attempt::Kind::Claim,
        claims: vec![claimed],
        feerate: FeeratePerKw(253),
        first: BlockHeight(101),
        height: BlockHeight(101),
        refused: false,
        accepted: None,
        refused_since: None,
    };
    rig.turn(|node, turn| attempts::keep(node, turn, CHANNEL, attempt.clone()));
    unmine(&mut rig, 101);
    let left = |rig: &Rig| {
        let coin = &rig.node.wallet.outputs[&coin];
        (coin.confirmed, coin.spent.is_some(), under_way(rig).len())
    };
    assert_eq!(left(&rig), (None, false, 0));
    rig.crash();
    assert_eq!(left(&rig), (None, false, 0), "also on disk");
}

#[test]
fn claim_reorged_out_is_rebuilt_with_the_same_utxo() {
    let mut rig = on_chain("again", |rig| vec![paired(rig, 1, 200)]);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let ours = rig.node.onchain.attempts[&CHANNEL][0].tx.clone();
    mine(&mut rig, 101, vec![ours.clone()]);
    assert_eq!(under_way(&rig), Vec::<Vec<u32>>::new());
    unmine(&mut rig, 101);
    // Nobody says that the first one is still in anybody's mempool.
    mine(&mut rig, 101, vec![]);
    assert_eq!(under_way(&rig), [vec![1]]);
    assert_eq!(spent_by(&rig, &coin), Some(rig.node.onchain.attempts[&CHANNEL][0].txid));
}

/// The case begins, and its onchaind never does: the channel seems to have its daemon yet.
fn mine_without_onchaind(rig: &mut Rig, height: u32, txs: Vec<Transaction>) {
    let channel = rig.node.channels.all.get_mut(&CHANNEL).unwrap();
    channel.owner = crate::rooms::channels::Owner::Channeld(1001);
    mine(rig, height, txs);
}

#[test]
fn claim_in_flight_keeps_its_utxo_when_its_block_is_reorged() {
    let mut rig = on_chain("keeps", |rig| vec![paired(rig, 1, 200)]);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let ours = rig.node.onchain.attempts[&CHANNEL][0].tx.clone();
    // onchaind has just died: nothing is dropped before the next one has spoken.
    let case = rig.node.onchain.cases.get_mut(&CHANNEL).unwrap();
    case.resolution = None;
    mine(&mut rig, 101, vec![ours.clone()]);
    assert_eq!(under_way(&rig), [vec![1]]);
    unmine(&mut rig, 101);
    assert_eq!(spent_by(&rig, &coin), Some(ours.compute_txid()));
}

/// onchaind says whose commitment it is.
fn found(rig: &mut Rig, close: CloseKind) {
    let case = rig.node.onchain.cases.get_mut(&CHANNEL).unwrap();
    case.resolution = None;
    case.child = Some(2000);
    rig.node.supervisor.assign(2000, Role::Onchain(CHANNEL));
    let said = Resolved { resolution: Resolution { close, ..resolution(vec![]) } };
    let frame = Frame { body: said.encode(), fds: Default::default() };
    assert_eq!(rig.run(Event::Child(2000, frame)), []);
}

/// The peer's commitment is in block 101; the channel's daemon has ended, and onchaind not begun.
fn peer_closes(name: &str) -> Rig {
    let mut rig = Rig::new(name, &[(1, 1)]);
    let funding = rig.channel(1).live.params.funding;
    let theirs = spending(&[funding], &[(1000, &ScriptBuf::from(vec![0x53]))]);
    mine(&mut rig, 101, vec![theirs]);
    rig
}

#[test]
fn when_the_peers_commitment_left_the_chain_ours_is_published() {
    let mut rig = peer_closes("left");
    found(&mut rig, CloseKind::Theirs { number: CommitmentNumber(0) });
    let said = unmine(&mut rig, 101);
    assert!(said.contains(&Said::Publish(1)), "{said:?}");
    assert_ne!(rig.channel(1).trust, StateTrust::Lost);
}

#[test]
fn revoked_commitment_reorged_out_does_not_publish_ours() {
    let mut rig = peer_closes("welcome");
    found(&mut rig, CloseKind::Revoked { number: CommitmentNumber(0) });
    let said = unmine(&mut rig, 101);
    assert!(!said.contains(&Said::Publish(1)), "{said:?}");
}

#[test]
fn future_commitment_forbids_publishing_ours() {
    let mut rig = peer_closes("future");
    found(&mut rig, CloseKind::Unknown { number: CommitmentNumber(7) });
    assert_eq!(rig.channel(1).trust, StateTrust::Lost);
    let said = unmine(&mut rig, 101);
    assert!(!said.contains(&Said::Publish(1)), "{said:?}");
    rig.crash();
    assert_eq!(rig.channel(1).trust, StateTrust::Lost, "also after a restart");
}

#[test]
fn remote_close_does_not_verify_our_unverified_state() {
    let mut rig = Rig::new("unproven", &[(1, 1)]);
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().trust = StateTrust::Unverified;
    let funding = rig.channel(1).live.params.funding;
    let theirs = spending(&[funding], &[(1000, &ScriptBuf::from(vec![0x53]))]);
    mine(&mut rig, 101, vec![theirs]);
    found(&mut rig, CloseKind::Theirs { number: CommitmentNumber(0) });
    unmine(&mut rig, 101);
    // The rig's hsmd has no such answer: it is not asked.
    rig.run(Event::Channel(CHANNEL, ChannelEvent::Broadcast));
    rig.crash();
    assert_eq!(rig.channel(1).trust, StateTrust::Lost);
}

/// A commitment transaction of the peer: of this number, with this point of the peer.
fn remote_commitment(rig: &Rig, number: u64, point: Point) -> Transaction {
    let value = ::channel::Channel::new(rig.channel(1).live.clone()).unwrap();
    let mut state = value.remote_commitment(value.revoked().remote).unwrap();
    (state.number, state.point) = (CommitmentNumber(number), point);
    let basepoints = &value.constants().params.basepoints;
    let keys = ::channel::keys::CommitmentKeys::derive(basepoints, Side::Remote, &state.point);
    ::channel::commitment::build(value.constants(), keys, &state).unwrap().tx
}

/// The peer's commitment 5 is not revoked, its commitment 6 is the newest, ours is number 3.
fn at_number_6(name: &str) -> Rig {
    let mut rig = Rig::new(name, &[(1, 1)]);
    let live = &mut rig.node.channels.all.get_mut(&CHANNEL).unwrap().live;
    live.commitment = Sides { local: CommitmentNumber(3), remote: CommitmentNumber(6) };
    live.revoked = Sides { local: CommitmentNumber(3), remote: CommitmentNumber(5) };
    rig
}

/// The spend's block leaves the chain before onchaind has said anything. True if our commitment is
/// published then.
fn left_unjudged(rig: &mut Rig, spend: Transaction) -> bool {
    mine(rig, 101, vec![spend]);
    assert!(rig.node.onchain.cases[&CHANNEL].resolution.is_none());
    unmine(rig, 101).contains(&Said::Publish(1))
}

#[test]
fn reorg_before_onchaind_publishes_ours_if_theirs_was_valid() {
    let [point, next] = [60, 61].map(crate::rooms::channels::testing::point);
    for (number, point) in [(5, point), (6, next)] {
        let mut rig = at_number_6(&format!("unjudged-{number}"));
        let spend = remote_commitment(&rig, number, point);
        assert!(left_unjudged(&mut rig, spend), "commitment {number}");
        assert_ne!(rig.channel(1).trust, StateTrust::Lost);
    }
}

#[test]
fn reorg_of_revoked_commitment_before_onchaind_publishes_none() {
    let mut rig = at_number_6("unjudged-revoked");
    let spend = remote_commitment(&rig, 4, crate::rooms::channels::testing::point(62));
    assert!(!left_unjudged(&mut rig, spend));
    assert_ne!(rig.channel(1).trust, StateTrust::Lost);
}

#[test]
fn reorg_of_unknown_commitment_before_onchaind_loses_the_state() {
    let mut rig = at_number_6("unjudged-unknown");
    let spend = remote_commitment(&rig, 7, crate::rooms::channels::testing::point(62));
    assert!(!left_unjudged(&mut rig, spend));
    rig.crash();
    assert_eq!(rig.channel(1).trust, StateTrust::Lost, "ours would be published after a restart");
}

/// Only hsmd has the point of our own commitment, and the rig's has none.
#[test]
fn reorg_of_our_commitment_before_onchaind_is_told_by_its_point() {
    let rig = at_number_6("unjudged-ours");
    let [point, other] = [70, 71].map(crate::rooms::channels::testing::point);
    // The peer's commitment of the same number is revoked.
    let value = ::channel::Channel::new(rig.channel(1).live.clone()).unwrap();
    let state = value.local_commitment(point);
    let basepoints = &value.constants().params.basepoints;
    let keys = ::channel::keys::CommitmentKeys::derive(basepoints, Side::Local, &point);
    let ours = ::channel::commitment::build(value.constants(), keys, &state).unwrap().tx;
    for (point, expected) in [
        (Some(point), FundingSpend::Valid),
        (None, FundingSpend::Unclear),
        (Some(other), FundingSpend::Revoked),
    ] {
        assert_eq!(unjudged::judge(&value, &ours, point), expected);
    }
}

#[test]
fn reorg_before_onchaind_publishes_nothing_if_our_data_is_old() {
    let mut rig = at_number_6("unjudged-lost");
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().trust = StateTrust::Lost;
    let spend = remote_commitment(&rig, 6, crate::rooms::channels::testing::point(61));
    assert!(!left_unjudged(&mut rig, spend));
}
