//! Flood and loot: HTLCs without number that expire in one block, and blocks that have no room for
//! all who want in.

use crate::scenes::*;
use bitcoin::Amount;
use primitives::*;
use serde_json::{Value, json};
use tests::stranger::*;

/// HTLCs in each of so many channels.
const EACH: u8 = 30;
const CHANNELS: u64 = 3;
/// What the miners take: less than the commitments and claims of two channels.
const BLOCK: &str = "-blockmaxweight=40000";

/// From so many blocks before the expiry on the node claims: half of its delta.
const CLOSES: u32 = 20;
/// What others pay for a virtual byte, in satoshi: more than claims begin with, less than those
/// HTLCs are worth.
const MARKET: u64 = 3;

/// Somebody else's transaction, which fills a block alone.
fn traffic(world: &World) {
    let coin = world.coin();
    let mut tx = world.pay_from(coin, &vec![(miner_script(), Amount::from_sat(1000)); 240]);
    let fee = tx.vsize() as u64 * MARKET;
    tx.output.last_mut().unwrap().value -= Amount::from_sat(fee);
    sign_miner_input(&mut tx, 0, coin.1);
    world.send(&tx);
}

/// What was taken of the HTLCs that the stranger offered: in which blocks.
fn taken(world: &World, live: &Live) -> Vec<u64> {
    let outputs = world.node.channel(&live.name())["onchain_outputs"].clone();
    let is_theirs = |o: &&Value| o["what"].as_str().is_some_and(|w| w.starts_with("their_htlc"));
    let outputs = outputs.as_array().cloned().unwrap_or_default();
    outputs.iter().filter(is_theirs).filter_map(|o| o["spent_height"].as_u64()).collect()
}

/// The channels of the strangers who offer, and that of the one who receives.
fn channels(world: &World) -> (Vec<Live>, Live) {
    // A claim or an anchor bump spends a UTXO of the wallet: one for each of them.
    let address = world.node.rpc("newaddr", &json!({"addresstype": "p2tr"}))["p2tr"].clone();
    world.bitcoind.mine_to(8, address.as_str().unwrap());
    world.mine(100);
    let meet = |n: u64| Stranger::meet(100 + n, world);
    let mut senders: Vec<Live> =
        (1..=CHANNELS).map(|n| meet(n).open(world, Plan::new(n))).collect();
    let mut receiver = meet(9).open(world, Plan::new(9).sized(2_000_000, 1_800_000));
    world.mine(3);
    for live in senders.iter_mut().chain([&mut receiver]) {
        live.ready();
        world.node.wait_normal(&live.name());
    }
    (senders, receiver)
}

/// HTLCs of one expiry fill each channel of a sender, who is silent from then on.
fn offer_all(
    world: &World,
    senders: &mut [Live],
    receiver: &mut Live,
    at_receiver: u32,
    expiry: BlockHeight,
) {
    let mut number = 0;
    for sender in senders {
        for _ in 0..EACH {
            number += 1;
            let hash = preimage(number).hash();
            let (amount, _, onion) = onion_through(world, receiver, 10_000_000, hash, at_receiver);
            sender.add(amount, hash, expiry, onion);
        }
        sender.settle();
        receiver.settle_with(number.into());
        wait_settled(world, sender);
        // From here on it is silent.
        sender.stranger.hang_up();
    }
}

/// The receiver reveals the preimage of each HTLC that it holds.
fn fulfil_all(receiver: &mut Live) {
    let held: Vec<HtlcId> = receiver.channel.htlcs().map(|h| h.htlc.id).collect();
    for (id, live) in held.iter().zip(receiver.channel.clone().htlcs()) {
        let known = (1..=u8::MAX).map(preimage).find(|p| p.hash() == live.htlc.payment_hash);
        receiver.fulfil(*id, known.unwrap());
    }
    receiver.settle();
}

/// Blocks are small and fees are bid up: claims begin early enough to confirm before the expiry.
#[test]
fn flood_and_loot_ninety_htlcs_of_one_expiry_claimed_in_time() {
    let world = World::on(&["-regtest", BLOCK], &["--cltv-delta=40"]);
    let (mut senders, mut receiver) = channels(&world);
    let before = total(&world);

    // All of them expire together, here and there.
    let at_receiver = world.height() + 30;
    let expiry = BlockHeight(at_receiver + 40);
    offer_all(&world, &mut senders, &mut receiver, at_receiver, expiry);
    fulfil_all(&mut receiver);

    // The node goes to the chain by itself, in time, and takes every one before its sender could.
    let all = |world: &World| senders.iter().all(|s| taken(world, s).len() == usize::from(EACH));
    while !all(&world) {
        assert!(world.height() <= expiry.0, "they are the senders' again");
        if world.height() + CLOSES >= expiry.0 {
            traffic(&world);
        }
        world.mine(1);
    }
    let heights: Vec<u64> = senders.iter().flat_map(|s| taken(&world, s)).collect();
    let (first, last) = (heights.iter().min().unwrap(), heights.iter().max().unwrap());
    println!("claimed in blocks {first} to {last}, expiry {expiry}");
    assert!(first < last, "the blocks had room for all of it");
    assert!(*last <= expiry.0.into());
    for sender in &senders {
        world.resolve(&sender.name());
    }
    world.mine(2);
    let after = total(&world);
    println!("before {before}, after {after}");
    // Nine tenths of a million were at stake.
    assert!(after + 200_000 > before, "before {before}, after {after}");
}
