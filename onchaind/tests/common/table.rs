//! What is done with a close on chain: by us through hsmd, by the peer with its own keys, each
//! checked by consensus.

use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{Amount, Sequence, Transaction, TxIn, TxOut, Witness};
use channel::commitment::HtlcOutput;
use channel::scripts::der;
use secp256k1::Message;

/// Consensus, on one input.
pub fn executed(tx: &Transaction, input: usize, spent: &TxOut) {
    bitcoinconsensus::verify(
        spent.script_pubkey.as_bytes(),
        spent.value.to_sat(),
        &bitcoin::consensus::serialize(tx),
        input,
    )
    .unwrap();
}

fn input(at: OutPoint, sequence: u32) -> TxIn {
    TxIn {
        previous_output: at,
        script_sig: ScriptBuf::new(),
        sequence: Sequence(sequence),
        witness: Witness::new(),
    }
}
fn output(amount: Sat, script: ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(amount.0), script_pubkey: script }
}
fn foreign() -> TxOut {
    output(Sat(77_777), script(9))
}

/// The transaction that takes these together, unsigned. Behind an input and an output of somebody
/// else's, if so wished.
pub fn taking(claims: &[&Claim], aggregated: bool) -> Transaction {
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(claims.iter().map(|c| c.lock_time).max().unwrap()),
        input: vec![],
        output: vec![],
    };
    if aggregated {
        tx.input.push(input(OutPoint { txid: Txid::from_byte_array([8; 32]), vout: 0 }, 0));
        tx.output.push(foreign());
    }
    for claim in claims {
        tx.input.push(input(claim.outpoint, claim.sequence));
        tx.output.push(match &claim.shape {
            ClaimShape::Free {} => output(Sat(claim.amount.0.saturating_sub(200)), script(1)),
            ClaimShape::Paired { amount, script } | ClaimShape::Whole { amount, script } => {
                output(*amount, script.clone())
            }
        });
    }
    tx
}

impl World {
    /// hsmd signs it; consensus agrees; and its witness is no heavier than was said.
    pub fn take(&mut self, claims: &[&Claim], aggregated: bool) -> Transaction {
        let tx = taking(claims, aggregated);
        let first = usize::from(aggregated);
        let wallet = |(n, claim): (usize, &&Claim)| WalletInput {
            index: (n + first) as u32,
            key: claim.key.clone(),
            amount: claim.amount,
            script: claim.script.clone(),
        };
        let mut spent: Vec<_> = claims
            .iter()
            .map(|c| SpentOutput { amount: c.amount, script: c.script.clone() })
            .collect();
        if aggregated {
            spent.insert(0, SpentOutput { amount: Sat(77_777), script: script(9) });
        }
        let question = SignWallet {
            transaction: tx,
            inputs: Long(claims.iter().enumerate().map(wallet).collect()),
            spent: Long(spent),
        };
        let signed = match self.hsmd().master().ask(&question).unwrap() {
            Completed::Ready { transaction } => transaction,
            Completed::Refused { why } => panic!("{why}: {claims:?}"),
        };
        for (n, claim) in claims.iter().enumerate() {
            let at = n + first;
            executed(&signed, at, &output(claim.amount, claim.script.clone()));
            let weight = signed.input[at].witness.size() as u32;
            assert!(weight <= claim.witness_weight, "{weight} > {}", claim.witness_weight);
            assert!(weight + 16 >= claim.witness_weight, "{weight} << {}", claim.witness_weight);
        }
        signed
    }

    fn htlc_output<'a>(&self, made: &'a Made, by: Side, id: HtlcId) -> (usize, &'a HtlcOutput) {
        let is = |h: &&HtlcOutput| (h.htlc.offered_by, h.htlc.id) == (by, id);
        let at = made.built.htlcs.iter().position(|h| is(&h)).unwrap();
        (at, &made.built.htlcs[at])
    }

    /// The peer's HTLC transaction of its own commitment: with the preimage of this number if we
    /// offered it.
    pub fn peers_htlc_tx(&self, made: &Made, by: Side, id: HtlcId, n: u64) -> Transaction {
        self.peers_htlc_txs(made, &[(by, id, n)], false)
    }
    /// Several of them in one, where anchors allow that.
    pub fn peers_htlc_txs(
        &self,
        made: &Made,
        htlcs: &[(Side, HtlcId, u64)],
        aggregated: bool,
    ) -> Transaction {
        let kind = self.constants().format.htlc_sighash();
        let found: Vec<_> =
            htlcs.iter().map(|(by, id, _)| self.htlc_output(made, *by, *id)).collect();
        let mut tx = found[0].1.tx.clone();
        for (_, h) in &found[1..] {
            assert_eq!(tx.lock_time, h.tx.lock_time, "one lock time for all");
            tx.input.push(h.tx.input[0].clone());
            tx.output.push(h.tx.output[0].clone());
        }
        let first = usize::from(aggregated);
        if aggregated {
            let other = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 0 };
            tx.input.insert(0, input(other, 0));
            tx.output.insert(0, foreign());
            tx.output.push(foreign());
        }
        let key = PEER.htlc_secret(&made.state.point);
        let mut cache = SighashCache::new(tx.clone());
        for (n, ((at, h), (by, _, number))) in found.iter().zip(htlcs).enumerate() {
            let index = n + first;
            let value = Amount::from_sat(h.amount.0);
            let digest = cache.p2wsh_signature_hash(index, &h.script, value, ALL).unwrap();
            let digest = Message::from_digest(*AsRef::<[u8; 32]>::as_ref(&digest));
            let theirs = SECP256K1.sign_ecdsa(&digest, &key);
            let preimage = (*by == Side::Local).then(|| preimage(*number));
            tx.input[index].witness = channel::scripts::htlc_witness(
                &h.script,
                (&made.signatures.htlcs[*at], kind),
                &theirs,
                preimage.as_ref(),
            );
            if matches!(self.keys, Keys::Hsmd(_)) {
                executed(&tx, index, &made.built.tx.output[h.index]);
            }
        }
        tx
    }

    /// The peer takes an HTLC of our commitment: with the preimage if we offered it, else after its
    /// expiry.
    pub fn peer_takes(&self, made: &Made, by: Side, id: HtlcId, n: u64) -> Transaction {
        let (_, h) = self.htlc_output(made, by, id);
        let vout = h.index as u32;
        let at = OutPoint { txid: made.built.tx.compute_txid(), vout };
        let lock_time = if by == Side::Local { 0 } else { h.htlc.expiry.0 };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(lock_time),
            input: vec![input(at, 1)],
            output: vec![foreign()],
        };
        let value = Amount::from_sat(h.amount.0);
        let digest = SighashCache::new(&tx).p2wsh_signature_hash(0, &h.script, value, ALL).unwrap();
        let digest = Message::from_digest(*AsRef::<[u8; 32]>::as_ref(&digest));
        let signature = SECP256K1.sign_ecdsa(&digest, &PEER.htlc_secret(&made.state.point));
        let opens = if by == Side::Local { preimage(n).0.to_vec() } else { vec![] };
        tx.input[0].witness =
            Witness::from_slice(&[der(&signature, ALL), opens, h.script.to_bytes()]);
        if matches!(self.keys, Keys::Hsmd(_)) {
            executed(&tx, 0, &made.built.tx.output[h.index]);
        }
        tx
    }

    /// The peer takes what waited for it: an output with this witness script, after its delay.
    pub fn peer_takes_delayed(&self, made: &Made, at: OutPoint, spent: &TxOut) -> Transaction {
        let constants = self.constants();
        let script =
            channel::commitment::delayed_script(constants, &made.built.keys, made.state.side);
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![input(at, THEIR_DELAY.into())],
            output: vec![foreign()],
        };
        let digest =
            SighashCache::new(&tx).p2wsh_signature_hash(0, &script, spent.value, ALL).unwrap();
        let digest = Message::from_digest(*AsRef::<[u8; 32]>::as_ref(&digest));
        let key = PEER.delayed_secret(&made.state.point);
        let signature = SECP256K1.sign_ecdsa(&digest, &key);
        tx.input[0].witness =
            Witness::from_slice(&[der(&signature, ALL), vec![], script.into_bytes()]);
        if matches!(self.keys, Keys::Hsmd(_)) {
            executed(&tx, 0, spent);
        }
        tx
    }
}
