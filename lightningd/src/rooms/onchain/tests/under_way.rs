//! Transactions under way in tests: made, refused, and what they cost.

use super::*;
use crate::rooms::onchain::answered::answered;

pub(super) const SMALL: u32 = 8;
pub(super) const LARGE: u32 = 9;

pub(super) fn claims(rig: &mut Rig, claims: Vec<Claim>) {
    rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().resolution = Some(resolution(claims));
}
pub(super) fn attempt_of_channel(rig: &Rig, number: ChannelNumber) -> Option<Attempt> {
    rig.node.onchain.attempts.get(&number).and_then(|all| all.first()).cloned()
}
pub(super) fn attempt(rig: &Rig) -> Attempt {
    attempt_of_channel(rig, CHANNEL).unwrap()
}
pub(super) fn refuse(rig: &mut Rig, txid: Txid) {
    refuse_of(rig, CHANNEL, txid);
}
pub(super) fn refuse_of(rig: &mut Rig, number: ChannelNumber, txid: Txid) {
    rig.turn(move |node, turn| answered(node, turn, number, txid, Some("insufficient fee")));
}
/// What it pays: claims bring as much as they pay out.
pub(super) fn fee(rig: &Rig, attempt: &Attempt) -> u64 {
    let coins = attempt.tx.input[attempt.claims.len()..].iter();
    let coins: u64 = coins.map(|i| rig.node.wallet.outputs[&i.previous_output].amount.0).sum();
    let change = attempt.tx.output[attempt.claims.len()..].iter();
    coins - change.map(|o| o.value.to_sat()).sum::<u64>()
}

/// Our commitment of this channel waits to be in a block, and pays next to nothing; an HTLC of ours
/// is in it.
pub(super) fn poor_commitment(rig: &mut Rig, number: ChannelNumber) {
    poor_commitment_with(rig, number, 400_000_000);
}
pub(super) fn poor_commitment_with(rig: &mut Rig, number: ChannelNumber, amount: u64) {
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

/// The market is so dear.
pub(super) fn market(rig: &mut Rig, rate: u32) {
    rig.node.chain.fees = Some(crate::rooms::chain::estimates::Estimates {
        floor: FeeratePerKw(253),
        by_blocks: vec![(2, FeeratePerKw(rate)), (12, FeeratePerKw(rate))],
    });
}
