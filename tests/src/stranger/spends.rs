//! What a stranger publishes: its commitments, old and new, and everything that spends outputs of
//! either side's.

use super::miner::{miner_script, sign_miner_input};
use super::{Live, World};
use bitcoin::absolute::LockTime;
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};
use channel::commitment::{Commitment, HtlcOutput, build, delayed_script};
use channel::keys::CommitmentKeys;
use channel::scripts::{der, htlc_witness};
use primitives::*;
use secp256k1::{Message, SECP256K1};
use wire::channel_data::CommitmentState;

/// One output of a commitment or second stage, and what opens it.
#[derive(Clone)]
pub struct Spend {
    /// Which.
    pub outpoint: OutPoint,
    /// What is in it.
    pub amount: Amount,
    /// Its witness script.
    pub script: ScriptBuf,
    /// What the script demands.
    pub sequence: Sequence,
    /// What the script demands.
    pub lock_time: u32,
    /// Whose signature.
    pub key: SecretKey,
    /// What stands between signature and script in the witness.
    pub middle: Vec<u8>,
}

impl Spend {
    /// A transaction of these alone, to the miner, for this much.
    pub fn transaction(spends: &[Self], fee: u64) -> Transaction {
        let lock_time = spends.iter().map(|s| s.lock_time).max().unwrap_or(0);
        let total: Amount = spends.iter().map(|s| s.amount).sum();
        let input = |s: &Self| TxIn {
            previous_output: s.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: s.sequence,
            witness: Witness::new(),
        };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(lock_time),
            input: spends.iter().map(input).collect(),
            output: vec![TxOut {
                value: total - Amount::from_sat(fee),
                script_pubkey: miner_script(),
            }],
        };
        for (at, spend) in spends.iter().enumerate() {
            spend.sign(&mut tx, at);
        }
        tx
    }
    /// Signs the first input of a transaction, which spends this.
    pub fn sign_first(&self, tx: &mut Transaction) {
        self.sign(tx, 0);
    }
    fn sign(&self, tx: &mut Transaction, at: usize) {
        let signature = sign_all(tx, at, &self.script, self.amount, &self.key);
        tx.input[at].witness = Witness::from_slice(&[
            der(&signature, EcdsaSighashType::All),
            self.middle.clone(),
            self.script.to_bytes(),
        ]);
    }
}

fn sign_all(
    tx: &Transaction,
    input: usize,
    script: &ScriptBuf,
    amount: Amount,
    key: &SecretKey,
) -> Signature {
    let hash = SighashCache::new(tx)
        .p2wsh_signature_hash(input, script, amount, EcdsaSighashType::All)
        .unwrap();
    let digest = Message::from_digest(*AsRef::<[u8; 32]>::as_ref(&hash));
    SECP256K1.sign_ecdsa(&digest, key)
}

impl Live {
    /// A commitment as a transaction, unsigned.
    pub fn built(&self, state: &CommitmentState) -> Commitment {
        let constants = self.channel.constants();
        let keys = CommitmentKeys::derive(&constants.params.basepoints, state.side, &state.point);
        build(constants, keys, state).unwrap()
    }
    /// Our commitment of this number, unsigned.
    pub fn mine(&self, number: u64) -> Commitment {
        self.built(&self.ours[usize::try_from(number).unwrap()].state)
    }
    /// The node's commitment of this number, unsigned.
    pub fn nodes(&self, number: u64) -> Commitment {
        self.built(&self.theirs[usize::try_from(number).unwrap()])
    }
    /// The number of our newest commitment.
    pub fn newest(&self) -> u64 {
        self.channel.commitment().local.0
    }
    /// Our commitment of this number, ready to publish, revoked or not.
    pub fn commitment(&self, number: u64) -> Transaction {
        let (constants, built) = (self.channel.constants(), self.mine(number));
        let ours = SECP256K1.sign_ecdsa(&built.sighash(constants), &self.keys.funding);
        let theirs = self.ours[usize::try_from(number).unwrap()].signatures.signature;
        built.signed(constants, &Sides { local: ours, remote: theirs })
    }
    /// Which of a commitment's outputs an HTLC is.
    pub fn htlc_output(built: &Commitment, by: Side, id: HtlcId) -> (usize, HtlcOutput) {
        let found = built
            .htlcs
            .iter()
            .enumerate()
            .find(|(_, h)| (h.htlc.offered_by, h.htlc.id) == (by, id));
        found.map(|(at, h)| (at, h.clone())).expect("the HTLC has an output")
    }
    /// The second stage of an HTLC on our commitment of this number: by preimage for one of the
    /// node's, by timeout for ours.
    pub fn second_stage(
        &self,
        world: &World,
        number: u64,
        (by, id): (Side, HtlcId),
        preimage: Option<Preimage>,
    ) -> Transaction {
        let (built, mine) = (self.mine(number), &self.ours[usize::try_from(number).unwrap()]);
        let (at, output) = Self::htlc_output(&built, by, id);
        let format = self.channel.constants().format;
        let mut tx = output.tx.clone();
        let fee_coin = format.has_anchors().then(|| world.coin());
        if let Some((outpoint, value)) = fee_coin {
            // The peer's signature covers one input and one output: what pays the fee is added.
            tx.input.push(TxIn {
                previous_output: outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            });
            let change = value - Amount::from_sat(20_000);
            tx.output.push(TxOut { value: change, script_pubkey: miner_script() });
        }
        let amount = Amount::from_sat(output.amount.0);
        let own = self.keys.htlc_at(&mine.state.point);
        let own = sign_all(&tx, 0, &output.script, amount, &own);
        let theirs = (&mine.signatures.htlcs[at], format.htlc_sighash());
        tx.input[0].witness = htlc_witness(&output.script, theirs, &own, preimage.as_ref());
        if let Some((_, value)) = fee_coin {
            sign_miner_input(&mut tx, 1, value);
        }
        tx
    }
    /// An HTLC's output on the node's commitment of this number: by preimage for one of the node's,
    /// by timeout for ours.
    pub fn claim(
        &self,
        number: u64,
        (by, id): (Side, HtlcId),
        preimage: Option<Preimage>,
    ) -> Spend {
        let built = self.nodes(number);
        let (_, output) = Self::htlc_output(&built, by, id);
        let anchors = self.channel.constants().format.has_anchors();
        let point = self.theirs[usize::try_from(number).unwrap()].point;
        Spend {
            outpoint: vout(&built.tx, output.index),
            amount: Amount::from_sat(output.amount.0),
            script: output.script.clone(),
            sequence: if anchors { Sequence(1) } else { Sequence::ENABLE_LOCKTIME_NO_RBF },
            lock_time: if preimage.is_some() { 0 } else { output.htlc.expiry.0 },
            key: self.keys.htlc_at(&point),
            middle: preimage.map(|p| p.0.to_vec()).unwrap_or_default(),
        }
    }
    /// The anchor of this side on our commitment of this number.
    pub fn anchor(&self, number: u64, of: Side) -> OutPoint {
        let built = self.mine(number);
        let funding = &self.channel.constants().params.basepoints[of].funding;
        let script = channel::scripts::anchor(funding).to_p2wsh();
        let index = built.tx.output.iter().position(|o| o.script_pubkey == script);
        vout(&built.tx, index.expect("it has this anchor"))
    }
    /// A child on our own anchor of our commitment of this number: so many outputs to the miner,
    /// one satoshi for each virtual byte.
    pub fn large_child(&self, world: &World, number: u64, outputs: usize) -> Transaction {
        let (outpoint, value) = world.coin();
        let input = |previous_output| TxIn {
            previous_output,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let anchor = self.anchor(number, Side::Local);
        let each = TxOut { value: Amount::from_sat(1_000), script_pubkey: miner_script() };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input(anchor), input(outpoint)],
            output: vec![each; outputs],
        };
        let others = Amount::from_sat(1_000 * (outputs as u64 - 1));
        let fee = Amount::from_sat(tx.vsize() as u64 + 100);
        tx.output[0].value = value - others - fee;
        let script = channel::scripts::anchor(&self.keys.basepoints().funding);
        let signature =
            sign_all(&tx, 0, &script, Amount::from_sat(channel::ANCHOR.0), &self.keys.funding);
        tx.input[0].witness =
            Witness::from_slice(&[der(&signature, EcdsaSighashType::All), script.to_bytes()]);
        sign_miner_input(&mut tx, 1, value);
        tx
    }
    /// Our delayed money: to_local of our commitment of this number, or the output of a second
    /// stage on it.
    pub fn delayed(&self, number: u64, tx: &Transaction, index: usize) -> Spend {
        let (built, constants) = (self.mine(number), self.channel.constants());
        let point = self.ours[usize::try_from(number).unwrap()].state.point;
        let delay = constants.params.terms.remote.to_self_delay;
        Spend {
            outpoint: vout(tx, index),
            amount: tx.output[index].value,
            script: delayed_script(constants, &built.keys, Side::Local),
            sequence: Sequence::from_height(delay),
            lock_time: 0,
            key: self.keys.delayed_at(&point),
            middle: vec![],
        }
    }
}

fn vout(tx: &Transaction, index: usize) -> OutPoint {
    OutPoint { txid: tx.compute_txid(), vout: u32::try_from(index).unwrap() }
}

impl World {
    /// A claim with this coin beside its own input, so that spending the coin elsewhere takes it
    /// back.
    pub fn with_coin(
        &self,
        mut tx: Transaction,
        claim: &Spend,
        coin: (OutPoint, Amount),
    ) -> Transaction {
        tx.input.push(TxIn {
            previous_output: coin.0,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        });
        tx.output[0].value += coin.1;
        claim.sign_first(&mut tx);
        sign_miner_input(&mut tx, 1, coin.1);
        tx
    }
}
