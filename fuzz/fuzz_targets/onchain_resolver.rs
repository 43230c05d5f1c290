//! One close, and a chain that shows anything: transactions of any inputs, outputs and witnesses,
//! reorganisations, restarts. What follows is always about outputs that are there, says one thing
//! of each HTLC, and is the same after a restart.

use crate::input::Input;
use crate::sides::{basepoints, point, secret};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence, TxIn, TxOut, Witness};
use channel::Channel;
use channel::commitment::{build, delayed_script};
use channel::keys::{CommitmentKeys, Shachain, index_of};
use onchaind::Resolver;
use primitives::*;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;
use wire::channel_data::*;
use wire::onchaind::*;
use wire::{Long, OnionPacket};

const CURRENT: CommitmentNumber = CommitmentNumber(5);

fn preimage(n: u8) -> Preimage {
    Preimage([n % 3 + 1; 32])
}

fn state(anchors: bool) -> ChannelState {
    let bits: &[FeatureBit] = if anchors { &[12, 22] } else { &[12] };
    let terms = Terms {
        dust_limit: Sat(546),
        max_in_flight: Msat(u64::MAX),
        reserve: Sat(1000),
        htlc_minimum: Msat(0),
        to_self_delay: 6,
        max_accepted_htlcs: 483,
    };
    let live = |offered_by: Side, id: u64| LiveHtlc {
        htlc: Htlc {
            offered_by,
            id: HtlcId(id),
            amount: Msat([3_000_000, 3_000_000, 4_000_000, 100_000][id as usize % 4]),
            payment_hash: preimage(id as u8).hash(),
            expiry: BlockHeight(110 + id as u32 % 2),
        },
        onion: OnionPacket(Box::new([0; 1366])),
        path_key: None,
        key: id,
        added: Stage::Irrevocable,
        removed: None,
        in_remote_from: Some(CommitmentNumber(2)),
        in_remote_until: None,
    };
    let mut chain = Shachain::default();
    for n in 0..CURRENT.0 {
        let (n, key) = (CommitmentNumber(n), secret(Side::Remote, n));
        chain = chain.insert(index_of(n), Secret::new(key.secret_bytes())).expect("of the chain");
    }
    let one = Signature::from_compact(&[1; 64]).expect("any small numbers");
    let htlcs: Vec<_> = Side::BOTH.iter().flat_map(|s| (0..6).map(|id| live(*s, id))).collect();
    ChannelState {
        params: ChannelParams {
            opener: Side::Local,
            funding: OutPoint { txid: Txid::from_byte_array([9; 32]), vout: 0 },
            amount: Sat(1_000_000),
            push: Msat(400_000_000),
            channel_type: bits.iter().fold(Features::none(), |f, b| f.with(*b)),
            terms: Sides { local: terms.clone(), remote: terms },
            basepoints: basepoints(),
        },
        balance: Sides { local: Msat(600_000_000), remote: Msat(400_000_000) },
        next_htlc_id: Sides { local: HtlcId(6), remote: HtlcId(6) },
        htlcs: Long(htlcs),
        fees: Long(vec![FeeChange { feerate: FeeratePerKw(1000), stage: Stage::Irrevocable }]),
        commitment: Sides { local: CURRENT, remote: CURRENT },
        revoked: Sides { local: CURRENT, remote: CURRENT },
        remote_point: point(Side::Remote, CURRENT.0),
        remote_next_point: Some(point(Side::Remote, CURRENT.0 + 1)),
        remote_secrets: Long(chain.stored().to_vec()),
        local_signatures: CommitmentSignatures { signature: one, htlcs: vec![one; 10] },
        last_sent: LastSent::Neither,
    }
}

/// A commitment of this side and number with all HTLCs in it, and what its second stages pay to.
fn spend(anchors: bool, side: Side, number: CommitmentNumber) -> (Transaction, ScriptBuf) {
    let channel = Channel::new(state(anchors)).expect("ours");
    let mut state = match side {
        Side::Local => channel.local_commitment(point(side, CURRENT.0)),
        Side::Remote => channel.remote_commitment(CURRENT).expect("the current one"),
    };
    (state.number, state.point) = (number, point(side, number.0));
    let constants = channel.constants();
    let keys = CommitmentKeys::derive(&constants.params.basepoints, side, &state.point);
    let delayed = delayed_script(constants, &keys, side).to_p2wsh();
    (build(constants, keys, &state).expect("ours").tx, delayed)
}

type Close = (ChannelState, CommitmentNumber, Side, Transaction, ScriptBuf);
static CLOSES: LazyLock<Vec<Close>> = LazyLock::new(|| {
    let mut closes = vec![];
    for anchors in [true, false] {
        for (side, number) in [
            (Side::Local, 5),
            (Side::Remote, 5),
            (Side::Remote, 3),
            (Side::Remote, 6),
            (Side::Remote, 9),
            (Side::Local, 4),
        ] {
            let number = CommitmentNumber(number);
            let (tx, delayed) = spend(anchors, side, number);
            closes.push((state(anchors), number, side, tx, delayed));
        }
    }
    closes
});

fn transaction(
    input: &mut Input<'_>,
    known: &[Txid],
    scripts: &[ScriptBuf],
) -> Option<Transaction> {
    let (inputs, outputs) = (input.byte()? % 6, input.byte()? % 6);
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(u32::from(input.byte()?)),
        input: vec![],
        output: vec![],
    };
    for _ in 0..inputs {
        let txid = known[usize::from(input.byte()?) % known.len()];
        let vout = u32::from(input.byte()? % 20);
        let mut witness = vec![];
        for _ in 0..input.byte()? % 4 {
            witness.push(match input.byte()? % 3 {
                0 => preimage(input.byte()?).0.to_vec(),
                1 => input.exactly(32)?.to_vec(),
                _ => {
                    let count = usize::from(input.byte()?);
                    input.exactly(count)?.to_vec()
                }
            });
        }
        tx.input.push(TxIn {
            previous_output: OutPoint { txid, vout },
            script_sig: ScriptBuf::new(),
            sequence: Sequence(u32::from(input.byte()?)),
            witness: Witness::from_slice(&witness),
        });
    }
    for _ in 0..outputs {
        let at = usize::from(input.byte()?);
        let script_pubkey = scripts[at % scripts.len()].clone();
        tx.output.push(TxOut { value: Amount::from_sat(u64::from(input.byte()?)), script_pubkey });
    }
    Some(tx)
}

fn judge(resolver: &Resolver, init: &OnchaindInit) {
    let now = resolver.resolution();
    let mut outputs = HashMap::new();
    let all = std::iter::once(&init.spend).chain(&init.later.0);
    for mined in all.clone() {
        let txid = mined.transaction.compute_txid();
        for (vout, out) in mined.transaction.output.iter().enumerate() {
            outputs.insert(OutPoint { txid, vout: vout as u32 }, out);
        }
    }
    let spent: HashSet<_> =
        all.flat_map(|m| &m.transaction.input).map(|i| i.previous_output).collect();
    let mut claimed = HashSet::new();
    for claim in &now.claims.0 {
        let out = outputs[&claim.outpoint];
        assert_eq!((out.value.to_sat(), &out.script_pubkey), (claim.amount.0, &claim.script));
        assert!(!spent.contains(&claim.outpoint) && claimed.insert(claim.outpoint));
    }
    for output in &now.outputs.0 {
        assert!(outputs.contains_key(&output.outpoint));
        assert_eq!(output.spent.is_some(), spent.contains(&output.outpoint));
        assert!(!output.done || !claimed.contains(&output.outpoint));
    }
    let learned: HashSet<_> = now.learned.0.iter().map(|(id, _)| *id).collect();
    assert!(now.failed.0.iter().all(|id| !learned.contains(id)));
    for (id, preimage) in &now.learned.0 {
        let live = init
            .state
            .htlcs
            .0
            .iter()
            .find(|l| (l.htlc.offered_by, l.htlc.id) == (Side::Local, *id));
        assert_eq!(live.map(|l| l.htlc.payment_hash), Some(preimage.hash()));
    }
    assert!(now.settled.is_none() || now.claims.0.is_empty());
    let again = Resolver::new(init.clone()).expect("as before").resolution();
    assert_eq!((&again.claims, &again.outputs), (&now.claims, &now.outputs));
}

/// What onchaind is born with when `spend` spends the funding of this close.
fn born((state, number, side, ..): &Close, spend: Transaction) -> OnchaindInit {
    let revoked_htlcs = state.htlcs.0.iter().map(|l| l.htlc.clone()).collect();
    let height = BlockHeight(100);
    OnchaindInit {
        peer: NodeId([2; 33]),
        channel: ChannelNumber(1),
        state: state.clone(),
        number: *number,
        local_point: Some(point(Side::Local, number.0)),
        revoked_htlcs: Long(if *side == Side::Remote { revoked_htlcs } else { vec![] }),
        upstream: Long(vec![(HtlcId(1), BlockHeight(115))]),
        preimages: Long(vec![]),
        spend: Mined { transaction: spend, height },
        later: Long(vec![]),
        height,
    }
}

/// Transactions of one block: none spends what is spent.
fn block(
    input: &mut Input<'_>,
    count: u8,
    (known, spent): (&mut Vec<Txid>, &mut HashSet<OutPoint>),
    scripts: &[ScriptBuf],
) -> Vec<Transaction> {
    let mut transactions = vec![];
    for _ in 0..count {
        let Some(tx) = transaction(input, known, scripts) else { break };
        let unique: HashSet<_> = tx.input.iter().map(|i| i.previous_output).collect();
        if unique.len() < tx.input.len() || !unique.is_disjoint(spent) {
            continue;
        }
        spent.extend(unique);
        known.push(tx.compute_txid());
        transactions.push(tx);
    }
    transactions
}

pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(which) = input.byte() else { return };
    let (.., tx, delayed) = &CLOSES[usize::from(which) % CLOSES.len()];
    let mut scripts: Vec<_> = tx.output.iter().map(|o| o.script_pubkey.clone()).collect();
    scripts.push(delayed.clone());
    let mut spend = tx.clone();
    if which >= 128 {
        // Not a commitment of ours at all: any outputs, whatever it calls itself.
        let Some(other) = transaction(&mut input, &[tx.compute_txid()], &scripts) else { return };
        spend.output = other.output;
    }
    let mut known = vec![spend.compute_txid(), Txid::from_byte_array([3; 32])];
    let mut init = born(&CLOSES[usize::from(which) % CLOSES.len()], spend);
    let mut resolver = Resolver::new(init.clone()).expect("ours");
    // What spends an output twice is in no chain.
    let mut spent = HashSet::new();
    while let Some(what) = input.byte() {
        match what % 8 {
            0..=3 => {
                let height = BlockHeight(init.height.0 + 1 + u32::from(what / 8));
                let transactions = block(&mut input, what % 4, (&mut known, &mut spent), &scripts);
                for transaction in transactions.clone() {
                    init.later.0.push(Mined { transaction, height });
                }
                init.height = height;
                let block = OnchainBlock { height, transactions: Long(transactions) };
                resolver.block(block).expect("in order");
            }
            4 => {
                let back = u32::from(what / 8);
                let height = BlockHeight(init.height.0.saturating_sub(back).max(101));
                init.later.0.retain(|m| m.height < height);
                init.height = init.height.min(BlockHeight(height.0 - 1));
                resolver.reorg(&OnchainReorg { height }).expect("above the commitment");
                let inputs = init.later.0.iter().flat_map(|m| &m.transaction.input);
                spent = inputs.map(|i| i.previous_output).collect();
            }
            5 => {
                let id = HtlcId(u64::from(what / 8) % 6);
                let preimage = preimage(id.0 as u8);
                init.preimages.0.push((id, preimage));
                resolver.preimage(&OnchainPreimage { id, preimage });
            }
            6 => {
                let Some(transaction) = transaction(&mut input, &known, &scripts) else { break };
                resolver.unconfirmed(&OnchainUnconfirmed { transaction });
            }
            _ => resolver = Resolver::new(init.clone()).expect("as before"),
        }
        judge(&resolver, &init);
    }
}
