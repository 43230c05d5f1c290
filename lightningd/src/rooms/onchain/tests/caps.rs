//! Anchor bumps: what they cost at most, and until when they hold UTXOs of the wallet.

use super::*;
use crate::rooms::chain::estimates::Estimates;
use crate::rooms::onchain::anchor::commitment_published;
use wire::channel_data::Stage;

/// A failed channel with anchors, whose commitment pays next to nothing. All that we have in it is
/// one HTLC of this amount. The relay minimum is what blocks ask for.
fn failed_channel(rig: &mut Rig, amount: Sat, floor: FeeratePerKw) {
    rig.go_to_chain(CHANNEL.0);
    let channel = rig.node.channels.all.get_mut(&CHANNEL).unwrap();
    let (hash, expiry) = (PaymentHash([1; 32]), 140);
    let of = (amount.msat().0, expiry);
    channel.live.htlcs.0 = vec![crate::rooms::channels::testing::htlc(
        Side::Local,
        (0, 7),
        of,
        hash,
        Stage::Irrevocable,
    )];
    channel.live.next_htlc_id.local = HtlcId(1);
    channel.live.balance = Sides { local: amount.msat(), remote: Msat(0) };
    channel.live.params.channel_type =
        Features::none().with(feature::STATIC_REMOTEKEY).with(feature::ANCHORS);
    channel.funding_height = Some(BlockHeight(90));
    let anchor = channel::scripts::anchor(&channel.live.params.basepoints.local.funding).to_p2wsh();
    let rest = ScriptBuf::from(vec![0x51]);
    let ours = spending(&[channel.live.params.funding], &[(330, &anchor), (999_669, &rest)]);
    let by_blocks = vec![(2, floor), (12, floor)];
    rig.node.chain.fees = Some(Estimates { floor, by_blocks });
    rig.turn(move |node, turn| commitment_published(node, turn, CHANNEL, &ours));
    advance(rig);
}

/// What the anchor bump under way costs.
fn cost_of_bump(rig: &Rig, utxo: u64) -> Option<Sat> {
    let bump = rig.node.onchain.attempts.get(&CHANNEL)?.first()?;
    let paid: u64 = bump.tx.output.iter().map(|o| o.value.to_sat()).sum();
    Some(Sat(channel::ANCHOR.0 + utxo - paid))
}

/// At the relay minimum all that is at stake may be paid, and never more; where half of it is
/// enough no more than that is paid.
#[test]
fn anchor_bump_at_relay_floor_costs_at_most_the_stake() {
    let costs: Vec<(Sat, Option<Sat>)> = (1..=16)
        .map(|n| {
            let amount = Sat(n * 500);
            let mut rig = Rig::new(&format!("cap-{n}"), &[(1, 1)]);
            coin(&mut rig, 9, 50_000);
            failed_channel(&mut rig, amount, FeeratePerKw(2_000));
            (amount, cost_of_bump(&rig, 50_000))
        })
        .collect();
    let paid: Vec<(Sat, Sat)> = costs.iter().filter_map(|(a, c)| Some((*a, (*c)?))).collect();
    assert!(paid.iter().all(|(amount, cost)| cost <= amount), "{costs:?}");
    assert!(costs[0].1.is_none(), "nothing is at stake: {costs:?}");
    assert!(paid.iter().any(|(amount, cost)| cost.0 > amount.0 / 2), "{costs:?}");
    assert_eq!(paid.last().map(|(amount, _)| *amount), Some(Sat(8_000)));
    // What is worth more is never left where what is worth less is bumped.
    assert_eq!(costs.iter().skip_while(|(_, c)| c.is_none()).count(), paid.len(), "{costs:?}");
}

/// The peer's `closing_signed` was under way when the channel was failed: the closing transaction
/// confirms instead of a commitment.
#[test]
fn anchor_bumps_free_their_utxos_when_a_mutual_close_confirms() {
    let mut rig = Rig::new("cap-mutual", &[(1, 1)]);
    let utxo = coin(&mut rig, 9, 50_000);
    let [local, remote] = [0x52, 0x53].map(|byte| ScriptBuf::from(vec![byte]));
    let channel = rig.node.channels.all.get_mut(&CHANNEL).unwrap();
    channel.shutdown = Sides { local: Some(local.clone()), remote: Some(remote.clone()) };
    let of = channel.live.params.funding;
    failed_channel(&mut rig, Sat(400_000), FeeratePerKw(1_000));
    let bump = rig.node.onchain.attempts[&CHANNEL][0].txid;
    assert_eq!(spent_by(&rig, &utxo), Some(bump));
    let close = spending(&[of], &[(400_000, &local), (599_000, &remote)]);
    mine(&mut rig, 101, vec![close]);
    let free = |rig: &Rig| {
        let change = rig.node.wallet.outputs.keys().any(|o| o.txid == bump);
        spent_by(rig, &utxo).is_none() && !change && under_way(rig).is_empty()
    };
    assert!(free(&rig));
    let sent = "SELECT count(*) FROM transactions WHERE broadcast = 1 AND height IS NULL";
    let sent = |rig: &Rig| rig.db.query_row(sent, [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!(sent(&rig), 0, "the bump is sent no more");
    // Nothing bumps a commitment again with the next blocks, however cheap it was.
    mine(&mut rig, 102, vec![]);
    advance(&mut rig);
    assert!(free(&rig));
    let claims = "SELECT count(*) FROM claims";
    assert_eq!(rig.db.query_row(claims, [], |row| row.get::<_, u32>(0)).unwrap(), 0, "on disk");
}
