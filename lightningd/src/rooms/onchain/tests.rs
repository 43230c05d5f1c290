//! UTXOs and claims, turn by turn, without a bitcoind: what is sent is neither taken nor refused.

pub mod allocation;
pub mod bumps;
pub mod caps;
pub mod captured;
pub mod chained;
pub mod displaced;
pub mod evil;
pub mod reorg;
pub mod scarce;
pub mod under_way;

use super::plan::tests::{claim, outpoint};
use super::*;
use crate::kernel::children::Role;
use crate::kernel::words::rooms::{BroadcastFor, OnchainEvent};
use crate::node::Node;
use crate::rooms::chain::broadcast::broadcast;
use crate::rooms::channels::testing::peer;
use crate::rooms::onchain::anchor::commitment_published;
use crate::rooms::onchain::answered::answered;
use crate::rooms::onchain::watch::{joined, left};
use crate::rooms::wallet;
use crate::rooms::wallet::{AddressKind, Output};
use crate::sys::fatal::Stop;
use crate::testing::{Rig, Said};
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, Sequence, TxIn, TxOut, Witness};
use subdaemon::Frame;
use wire::Long;
use wire::channel_data::Htlc;
use wire::hsm::WalletKey;

const CHANNEL: ChannelNumber = ChannelNumber(1);

/// A transaction without signatures.
fn spending(inputs: &[OutPoint], outputs: &[(u64, &ScriptBuf)]) -> Transaction {
    let input = |previous_output: &OutPoint| TxIn {
        previous_output: *previous_output,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let output = |(amount, script): &(u64, &ScriptBuf)| TxOut {
        value: Amount::from_sat(*amount),
        script_pubkey: (*script).clone(),
    };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs.iter().map(input).collect(),
        output: outputs.iter().map(output).collect(),
    }
}

/// A confirmed coin of the wallet.
fn coin(rig: &mut Rig, n: u8, amount: u64) -> OutPoint {
    let output = Output {
        amount: Sat(amount),
        script: rig.node.wallet.script(1, AddressKind::Taproot),
        key_index: 1,
        coinbase: false,
        confirmed: Some(BlockHeight(50)),
        spent: None,
        reserved_until: BlockHeight(0),
    };
    rig.node.wallet.outputs.insert(outpoint(n), output);
    outpoint(n)
}

/// What is in the outputs of our commitment.
const AMOUNTS: [u64; 10] =
    [100_000, 100_000, 100_000, 100_000, 100_000, 100_000, 100_000, 100_000, 2_000, 5_000_000];

/// What our commitment is: ten outputs.
fn commitment(rig: &Rig) -> Transaction {
    commitment_of(rig, CHANNEL)
}
fn commitment_of(rig: &Rig, number: ChannelNumber) -> Transaction {
    let funding = rig.channel(number.0).live.params.funding;
    let script = ScriptBuf::from(vec![0x51]);
    spending(&[funding], &AMOUNTS.map(|amount| (amount, &script)))
}

/// An HTLC of ours in it, which the peer signed the end of.
fn paired(rig: &Rig, vout: u32, deadline: u32) -> Claim {
    paired_of(rig, CHANNEL, vout, deadline)
}
fn paired_of(rig: &Rig, number: ChannelNumber, vout: u32, deadline: u32) -> Claim {
    let outpoint = OutPoint { txid: commitment_of(rig, number).compute_txid(), vout };
    let amount = AMOUNTS[vout as usize];
    let key = WalletKey::OwnHtlc {
        peer: rig.channel(number.0).peer,
        channel: number,
        number: CommitmentNumber(0),
        htlc: Htlc {
            offered_by: Side::Remote,
            id: HtlcId(vout.into()),
            amount: Msat(amount * 1000),
            payment_hash: PaymentHash([1; 32]),
            expiry: BlockHeight(deadline),
        },
        signature: Signature::from_compact(&[1; 64]).unwrap(),
        preimage: Some(Preimage([1; 32])),
    };
    let shape = ClaimShape::Paired { amount: Sat(amount), script: ScriptBuf::from(vec![0x52]) };
    let deadline = Some(BlockHeight(deadline));
    let script = ScriptBuf::from(vec![0x51]);
    Claim { outpoint, key, shape, deadline, script, sequence: 1, ..claim(1, amount) }
}

/// The channel's end is our commitment, with these claims.
fn on_chain(name: &str, claims: impl Fn(&Rig) -> Vec<Claim>) -> Rig {
    let mut rig = Rig::new(name, &[(1, 1)]);
    let claims = claims(&rig);
    closed(&mut rig, CHANNEL, claims);
    rig
}
fn closed(rig: &mut Rig, number: ChannelNumber, claims: Vec<Claim>) {
    rig.go_to_chain(number.0);
    let mut case = Case::new(Seen::new(commitment_of(rig, number), BlockHeight(99), 0));
    case.resolution = Some(resolution(claims));
    rig.node.onchain.cases.insert(number, case);
    rig.node.onchain.watch_all();
}

fn resolution(claims: Vec<Claim>) -> Resolution {
    Resolution {
        close: CloseKind::Ours {},
        claims: Long(claims),
        outputs: Long(vec![]),
        learned: Long(vec![]),
        failed: Long(vec![]),
        overdue: Long(vec![]),
        settled: None,
    }
}

fn advance(rig: &mut Rig) {
    rig.turn(|_, turn| {
        allocate_fees(turn);
        Ok(())
    });
}

/// Which of the commitment's outputs each of our transactions under way takes.
fn under_way(rig: &Rig) -> Vec<Vec<u32>> {
    let all = rig.node.onchain.attempts.get(&CHANNEL).into_iter().flatten();
    all.map(|a| a.claims.iter().map(|o| o.vout).collect()).collect()
}

/// A block with these.
fn mine(rig: &mut Rig, height: u32, txs: Vec<Transaction>) -> Vec<Said> {
    let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    block.header.nonce = height;
    block.txdata.extend(txs);
    rig.turn(move |node, turn| connect_all(node, turn, BlockHeight(height), &block))
}
fn connect_all(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    block: &Block,
) -> Result<(), Stop> {
    crate::rooms::wallet::blocks::joined(node, turn, height, block)?;
    crate::rooms::channels::watch::joined(node, turn, height, block)?;
    turn.also(Event::NewTip(height));
    joined(node, turn, height, block)?;
    let hash = block.block_hash();
    turn.install_as::<crate::rooms::chain::Scope, _>(move |chain| {
        chain.headers.push_back((height, hash))
    });
    Ok(())
}
fn unmine(rig: &mut Rig, height: u32) -> Vec<Said> {
    rig.turn(move |node, turn| {
        let height = BlockHeight(height);
        turn.db
            .execute("UPDATE transactions SET height = NULL WHERE height = ?1", [height.0])
            .unwrap();
        crate::rooms::wallet::blocks::left(node, turn, height)?;
        crate::rooms::channels::watch::left(node, turn, height, |n| {
            node.onchain.cases.contains_key(&n)
        })?;
        left(node, turn, height)?;
        turn.install_as::<crate::rooms::chain::Scope, _>(|chain| {
            chain.headers.pop_back();
        });
        Ok(())
    })
}

fn spent_by(rig: &Rig, coin: &OutPoint) -> Option<Txid> {
    rig.node.wallet.outputs[coin].spent.map(|s| s.txid)
}

#[test]
fn utxo_of_a_dropped_batch_funds_the_rest_in_the_same_turn() {
    let mut rig = on_chain("freed", |rig| vec![paired(rig, 1, 200), paired(rig, 2, 200)]);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    assert_eq!(under_way(&rig), [vec![1, 2]]);
    // The peer took the first: the second has all its deadline, and no block to lose.
    let taken = OutPoint { txid: commitment(&rig).compute_txid(), vout: 1 };
    mine(&mut rig, 101, vec![spending(&[taken], &[(1, &ScriptBuf::new())])]);
    assert_eq!(under_way(&rig), [vec![2]]);
    let by = rig.node.onchain.attempts[&CHANNEL][0].txid;
    assert_eq!(spent_by(&rig, &coin), Some(by));
}

#[test]
fn claims_that_utxos_can_fund_are_made_without_the_others() {
    let mut rig = on_chain("partly", |rig| (0..10).map(|vout| paired(rig, vout, 200)).collect());
    for n in 0..3 {
        coin(&mut rig, 20 + n, 400);
    }
    advance(&mut rig);
    let all: Vec<u32> = under_way(&rig).concat();
    assert!(!all.is_empty(), "nothing is claimed");
    for coin in (0..3).map(|n| outpoint(20 + n)) {
        assert!(spent_by(&rig, &coin).is_some(), "{coin} pays for nothing");
    }
}

#[test]
fn a_claim_that_is_refused_gives_its_coin_to_one_that_has_none() {
    let mut rig = on_chain("yield", |rig| vec![paired(rig, 1, 200)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let stuck = rig.node.onchain.attempts[&CHANNEL][0].txid;
    let two = vec![paired(&rig, 1, 200), paired(&rig, 2, 150)];
    rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().resolution = Some(resolution(two));
    advance(&mut rig);
    assert_eq!(under_way(&rig), [vec![1]], "it is on its way, as far as anybody knows");
    rig.turn(move |node, turn| answered(node, turn, CHANNEL, stuck, Some("insufficient fee")));
    mine(&mut rig, 101, vec![]);
    assert_eq!(under_way(&rig), [vec![2]]);
}

#[test]
fn what_a_refused_batch_had_pays_for_the_first_that_goes_alone() {
    let mut rig = on_chain("split", |rig| vec![paired(rig, 1, 200), paired(rig, 2, 200)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let batch = rig.node.onchain.attempts[&CHANNEL][0].txid;
    rig.turn(move |node, turn| answered(node, turn, CHANNEL, batch, Some("insufficient fee")));
    assert_eq!(under_way(&rig), [vec![1]]);
}

#[test]
fn claims_are_made_in_the_block_that_catches_up() {
    let mut rig = on_chain("caught-up", |rig| vec![paired(rig, 1, 200)]);
    coin(&mut rig, 9, 50_000);
    rig.node.chain.caught_up = false;
    rig.turn(crate::flows::backend::caught_up);
    assert_eq!(under_way(&rig), [vec![1]]);
}

#[test]
fn a_backend_that_does_not_answer_has_refused_nothing() {
    let mut rig = on_chain("outage", |rig| vec![paired(rig, 1, 200), paired(rig, 2, 200)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    assert_eq!(under_way(&rig), [vec![1, 2]]);
    assert!(!rig.node.onchain.attempts[&CHANNEL][0].refused);
}

#[test]
fn an_output_is_watched_whatever_else_its_transaction_spends() {
    let mut rig = on_chain("levels", |_| vec![]);
    let txid = commitment(&rig).compute_txid();
    let script = ScriptBuf::from(vec![0x54]);
    let at = |vout| OutPoint { txid, vout };
    let first = spending(&[at(0)], &[(500, &script)]);
    let of_first = OutPoint { txid: first.compute_txid(), vout: 0 };
    let second = spending(&[of_first, at(1)], &[(500, &script), (100_000, &script)]);
    mine(&mut rig, 101, vec![first, second.clone()]);
    let theirs = OutPoint { txid: second.compute_txid(), vout: 1 };
    assert!(rig.node.onchain.watched.contains_key(&theirs), "{:?}", rig.node.onchain.watched);
}

#[test]
fn onchaind_cannot_take_what_is_not_its_channels() {
    let mut rig = on_chain("captured", |_| vec![]);
    let coin = coin(&mut rig, 9, 1_000_000);
    rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().child = Some(2000);
    rig.node.supervisor.assign(2000, Role::Onchain(CHANNEL));
    let honest = paired(&rig, 1, 200);
    let mine = WalletKey::Address { index: 1 };
    let other = WalletKey::Anchor { peer: peer(1), channel: ChannelNumber(2) };
    let delayed =
        WalletKey::Delayed { peer: peer(1), channel: CHANNEL, number: CommitmentNumber(0) };
    let pays = |amount| ClaimShape::Paired { amount: Sat(amount), script: ScriptBuf::new() };
    for lie in [
        // What the chain shows is not onchaind's to say; nor what a witness weighs, which coins of
        // the wallet pay for.
        Claim { amount: Sat(u64::MAX), ..honest.clone() },
        Claim { script: ScriptBuf::new(), ..honest.clone() },
        Claim { witness_weight: 400_000, ..honest.clone() },
        Claim { shape: pays(100_001), ..honest.clone() },
        Claim { outpoint: OutPoint { vout: 10, ..honest.outpoint }, ..honest.clone() },
        Claim { outpoint: coin, key: mine, ..honest.clone() },
        Claim { key: other, ..honest.clone() },
        // Where the peer signed nothing, nobody but us says what is paid.
        Claim { key: delayed, ..honest.clone() },
    ] {
        let said = Resolved { resolution: resolution(vec![lie]) };
        let frame = Frame { body: said.encode(), fds: Default::default() };
        let told = rig.run(Event::Child(2000, frame));
        assert_eq!(told, [Said::Kill(1000)]);
        assert_eq!(under_way(&rig), Vec::<Vec<u32>>::new());
    }
    // What is not of this close is stale: the block that it was in left the chain.
    let stale = Claim { outpoint: coin, ..honest.clone() };
    let said = Resolved { resolution: resolution(vec![stale, honest]) };
    let frame = Frame { body: said.encode(), fds: Default::default() };
    assert_eq!(rig.run(Event::Child(2000, frame)), []);
    assert_eq!(under_way(&rig), [vec![1]]);
}

#[test]
fn no_coin_is_spent_on_a_channel_that_was_never_funded() {
    let mut rig = Rig::new("unfunded", &[(1, 1)]);
    rig.go_to_chain(1);
    let coin = coin(&mut rig, 9, 50_000);
    let channel = rig.node.channels.all.get_mut(&CHANNEL).unwrap();
    let funding = channel.live.params.basepoints.local.funding;
    channel.live.params.opener = Side::Remote;
    // All of it but a satoshi: nobody would relay that, and it is worth a push.
    let anchor = channel::scripts::anchor(&funding).to_p2wsh();
    let (of, rest) = (channel.live.params.funding, ScriptBuf::from(vec![0x51]));
    let poor = spending(&[of], &[(330, &anchor), (999_669, &rest)]);
    let published = poor.clone();
    rig.turn(move |node, turn| commitment_published(node, turn, CHANNEL, &published));
    assert_eq!(spent_by(&rig, &coin), None);
    // One that is funded is pushed at once.
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().funding_height = Some(BlockHeight(90));
    advance(&mut rig);
    assert!(spent_by(&rig, &coin).is_some());
}

#[test]
fn anchor_bump_with_a_small_htlc_is_no_cheaper_than_without() {
    let mut rig = Rig::new("small", &[(1, 1)]);
    let hash = PaymentHash([1; 32]);
    let stage = wire::channel_data::Stage::Irrevocable;
    let live =
        crate::rooms::channels::testing::htlc(Side::Local, (0, 7), (1_000_000, 140), hash, stage);
    rig.node.chain.fees = Some(crate::rooms::chain::estimates::Estimates {
        floor: FeeratePerKw(253),
        by_blocks: vec![(2, FeeratePerKw(5000)), (12, FeeratePerKw(4000))],
    });
    let wanted = |rig: &Rig| {
        let tip = BlockHeight(100);
        let rates = crate::rooms::onchain::rates::rates(&rig.node);
        let at_risk = anchor::at_risk(&rig.node, rig.channel(1), tip);
        fees::wanted(&rates, tip, &anchor::stake(&at_risk, tip, 1124, tip, &rates))
    };
    assert_eq!(wanted(&rig), FeeratePerKw(4000));
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().live.htlcs.0.push(live);
    assert_eq!(wanted(&rig), FeeratePerKw(4000));
}

#[test]
fn anchor_bump_for_an_expired_htlc_pays_by_time_waited() {
    let rates = fees::Rates { floor: FeeratePerKw(1000), estimates: None, forced: None };
    let stage = wire::channel_data::Stage::Irrevocable;
    let hash = Preimage([1; 32]).hash();
    let price = |by: Side, expiry: u32, tip: u32| {
        let name = format!("time-{by:?}-{expiry}-{tip}");
        let mut rig = Rig::new(&name, &[(1, 1)]);
        let it =
            crate::rooms::channels::testing::htlc(by, (0, 7), (400_000_000, expiry), hash, stage);
        let channel = rig.node.channels.all.get_mut(&CHANNEL).unwrap();
        channel.live.htlcs.0.push(it);
        let paid = wire::channel_data::Removal::Fulfilled { preimage: Preimage([1; 32]) };
        channel.decided.insert(HtlcId(0), paid);
        let first = BlockHeight(100);
        let (at_risk, tip) = (anchor::at_risk(&rig.node, rig.channel(1), first), BlockHeight(tip));
        fees::wanted(&rates, tip, &anchor::stake(&at_risk, first, 1_800, tip, &rates)).0
    };
    // Ours expired when the channel was failed, and the peer can claim it only in days: no hurry.
    assert_eq!(price(Side::Local, 99, 100), 1000);
    assert!(price(Side::Local, 99, 101) < 2000);
    assert!(price(Side::Local, 101, 102) < 3000);
    // Where there is time before its expiry it is not later than that.
    assert!(price(Side::Local, 120, 120) > 100_000);
    // The peer's, which we have paid on for: half of the time is for the transaction that takes it.
    assert!(price(Side::Remote, 117, 108) > 100_000);
    assert!(price(Side::Remote, 117, 102) < 2000);
}

#[test]
fn claim_whose_utxo_is_spent_by_another_tx_is_rebuilt() {
    let mut rig = on_chain("took", |rig| vec![paired(rig, 1, 200)]);
    let coin = coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let first = rig.node.onchain.attempts[&CHANNEL][0].clone();
    let two = vec![paired(&rig, 1, 200), paired(&rig, 2, 150)];
    rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().resolution = Some(resolution(two));
    rig.turn(|node, turn| answered(node, turn, CHANNEL, first.txid, Some("insufficient fee")));
    mine(&mut rig, 101, vec![]);
    assert_eq!(under_way(&rig), [vec![2]]);
    // A miner had the first one all the same.
    mine(&mut rig, 102, vec![first.tx.clone()]);
    assert_eq!(spent_by(&rig, &coin), Some(first.txid));
    let change = rig.node.wallet.outputs.iter().find(|(o, _)| o.txid == first.txid);
    let (change, _) = change.unwrap();
    assert_eq!(under_way(&rig), [vec![2]]);
    let now = &rig.node.onchain.attempts[&CHANNEL][0].tx;
    assert!(now.input.iter().any(|i| i.previous_output == *change), "{now:?}");
}

#[test]
fn rejected_claim_due_sooner_keeps_its_utxo_for_a_second_try() {
    let mut rig = on_chain("sooner", |rig| vec![paired(rig, 1, 110)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let stuck = rig.node.onchain.attempts[&CHANNEL][0].txid;
    let two = vec![paired(&rig, 1, 110), paired(&rig, 2, 200)];
    rig.node.onchain.cases.get_mut(&CHANNEL).unwrap().resolution = Some(resolution(two));
    rig.turn(move |node, turn| answered(node, turn, CHANNEL, stuck, Some("insufficient fee")));
    mine(&mut rig, 101, vec![]);
    assert_eq!(under_way(&rig), [vec![1]], "at a higher price");
    let second = rig.node.onchain.attempts[&CHANNEL][0].txid;
    assert_ne!(second, stuck);
    rig.turn(move |node, turn| answered(node, turn, CHANNEL, second, Some("insufficient fee")));
    // It had its second try. What is in its way may stay there for ever.
    mine(&mut rig, 102, vec![]);
    assert_eq!(under_way(&rig), [vec![2]]);
}

/// A payment of the wallet's and what spends its change, both double-spent.
#[test]
fn transaction_double_spent_100_blocks_ago_is_not_sent_again() {
    let mut rig = Rig::new("double-spent", &[]);
    let coin = coin(&mut rig, 9, 50_000);
    let other = super::tests::coin(&mut rig, 10, 50_000);
    let script = ScriptBuf::from(vec![0x54]);
    let ours = spending(&[coin, other], &[(90_000, &script)]);
    let child = spending(&[OutPoint { txid: ours.compute_txid(), vout: 0 }], &[(30_000, &script)]);
    let all = [ours, child];
    for tx in all.clone() {
        rig.turn(move |node, turn| {
            crate::rooms::wallet::spend::spend(node, turn, &tx)?;
            crate::rooms::chain::broadcast::broadcast(
                node,
                turn,
                &tx,
                crate::kernel::words::rooms::BroadcastFor::Nobody,
            )
        });
    }
    mine(&mut rig, 101, vec![spending(&[coin], &[(1_000, &script)])]);
    let sent = |rig: &mut Rig, height: u32| {
        mine(rig, height, vec![]);
        rig.turn(crate::flows::broadcast::rebroadcast);
        let count = "SELECT count(*) FROM transactions WHERE broadcast = 1 AND height IS NULL";
        rig.db.query_row(count, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!(sent(&mut rig, 199), 2);
    // Its other input was free at once.
    assert_eq!(spent_by(&rig, &other), None);
    assert_eq!(sent(&mut rig, 200), 0);
}

#[test]
fn rows_that_hsmd_refuses_fail_their_channel_not_the_node() {
    let mut rig = Rig::new("contradiction", &[(1, 1)]);
    rig.go_to_chain(1);
    rig.run(Event::Channel(CHANNEL, crate::kernel::words::rooms::ChannelEvent::Broadcast));
    assert!(rig.node.onchain.published.is_empty());
    let mut rig = on_chain("contradiction-2", |_| vec![]);
    rig.run(Event::Onchain(CHANNEL, OnchainEvent::Begin));
    let born = rig.node.onchain.cases[&CHANNEL].child.is_some();
    assert!(born, "what is in the peer's commitment is not taken");
}

#[test]
fn claim_output_is_not_spent_twice_after_the_claim_was_dropped() {
    let mut rig = on_chain("twice", |rig| vec![paired(rig, 1, 200)]);
    coin(&mut rig, 9, 50_000);
    advance(&mut rig);
    let claim = rig.node.onchain.attempts[&CHANNEL][0].clone();
    let change = OutPoint { txid: claim.txid, vout: 1 };
    let withdrawal = spending(&[change], &[(40_000, &ScriptBuf::from(vec![0x55]))]);
    let sent = withdrawal.clone();
    rig.turn(move |node, turn| {
        wallet::spend::spend(node, turn, &sent)?;
        broadcast(node, turn, &sent, BroadcastFor::Nobody)
    });
    assert_eq!(spent_by(&rig, &change), Some(withdrawal.compute_txid()));
    let given_up = claim.clone();
    rig.turn(move |node, turn| attempts::drop_attempt(node, turn, CHANNEL, &given_up));
    assert!(!rig.node.wallet.outputs.contains_key(&change), "it is not there");
    mine(&mut rig, 101, vec![claim.tx.clone()]);
    assert_eq!(spent_by(&rig, &change), Some(withdrawal.compute_txid()));
}
