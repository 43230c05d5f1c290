//! What commitments leave on chain: every kind of claim satisfies its script by the rules of
//! consensus, and what could not is refused with a sentence.

use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, EcdsaSighashType, Sequence, Transaction, TxIn, TxOut, Witness};
use channel::commitment::Commitment;
use channel::scripts;

fn params_of(anchors: bool) -> ChannelParams {
    let mut p = params();
    if !anchors {
        p.channel_type = Features::compulsory(&[feature::STATIC_REMOTEKEY]);
    }
    // Ours waits 144, theirs 6: they must not be mixed up.
    p.terms.remote.to_self_delay = 144;
    p
}

/// A close: hsmd knows the channel, and this is the commitment that spent its funding.
pub(super) struct Close {
    pub(super) rig: Rig,
    pub(super) constants: Constants,
    pub(super) state: CommitmentState,
    signatures: Option<CommitmentSignatures>,
    pub(super) built: Commitment,
}

const IDS: [u64; 4] = [50_000_000, 20_000_000, 40_000_000, 30_000_000];

impl Close {
    /// Number 5 of this side's, of a channel whose newest is `newest` and all before `newest` are
    /// revoked.
    pub(super) fn new(side: Side, anchors: bool, newest: u64) -> Self {
        let mut rig = Rig::new();
        let seed = ChannelSeed { params: params_of(anchors), ..seed(newest) };
        drop(rig.client(&[], Some(seed)));
        let constants = Constants::new(params_of(anchors)).unwrap();
        let state = state(side, 5, 200_000_000, &IDS);
        let keys = CommitmentKeys::derive(&constants.params.basepoints, side, &state.point);
        let built = build(&constants, keys, &state).unwrap();
        let signatures =
            (side == Side::Local).then(|| signed_by_peer_in(params_of(anchors), &state));
        Self { rig, constants, state, signatures, built }
    }

    fn outpoint(&self, index: usize) -> OutPoint {
        OutPoint { txid: self.built.tx.compute_txid(), vout: index as u32 }
    }

    /// The claim of an output, in a transaction of its own.
    pub(super) fn claim(
        &self,
        index: usize,
        key: WalletKey,
        sequence: u32,
        lock_time: u32,
    ) -> Spend {
        Spend::new(self.outpoint(index), &self.built.tx.output[index], key, sequence, lock_time)
    }

    /// The one that takes this HTLC of our own commitment.
    pub(super) fn own(&self, id: u64) -> Spend {
        let at = self.built.htlcs.iter().position(|h| h.htlc.id.0 == id).unwrap();
        let h = &self.built.htlcs[at];
        let signature = self.signatures.as_ref().unwrap().htlcs[at];
        let preimage = (h.htlc.offered_by == Side::Remote).then_some(Preimage([id as u8; 32]));
        let key = WalletKey::OwnHtlc {
            peer: peer().node_id,
            channel: CHANNEL,
            number: self.state.number,
            htlc: h.htlc.clone(),
            signature,
            preimage,
        };
        let mut spend = self.claim(h.index, key, 0, 0);
        spend.tx = h.tx.clone();
        spend
    }

    /// The one that takes this HTLC of the peer's commitment.
    pub(super) fn their(&self, id: u64) -> Spend {
        let h = self.built.htlcs.iter().find(|h| h.htlc.id.0 == id).unwrap();
        let preimage = (h.htlc.offered_by == Side::Remote).then_some(Preimage([id as u8; 32]));
        let lock_time = if preimage.is_some() { 0 } else { h.htlc.expiry.0 };
        let key = WalletKey::TheirHtlc {
            peer: peer().node_id,
            channel: CHANNEL,
            point: self.state.point,
            htlc: h.htlc.clone(),
            preimage,
        };
        self.claim(h.index, key, u32::from(self.constants.format.has_anchors()), lock_time)
    }

    pub(super) fn secret(&self) -> SecretKey {
        peer_keys().secret(self.state.number).unwrap()
    }

    /// The output of a second stage of the peer's.
    pub(super) fn second_stage(&self, id: u64) -> (OutPoint, TxOut) {
        let h = self.built.htlcs.iter().find(|h| h.htlc.id.0 == id).unwrap();
        (OutPoint { txid: h.tx.compute_txid(), vout: 0 }, h.tx.output[0].clone())
    }

    pub(super) fn asked(&mut self, spend: &Spend) -> Completed {
        self.rig
            .master
            .ask(&SignWallet {
                transaction: spend.tx.clone(),
                inputs: Long(vec![WalletInput {
                    index: spend.index,
                    key: spend.key.clone(),
                    amount: Sat(spend.output.value.to_sat()),
                    script: spend.output.script_pubkey.clone(),
                }]),
                spent: Long(
                    spend
                        .spent
                        .iter()
                        .map(|o| SpentOutput {
                            amount: Sat(o.value.to_sat()),
                            script: o.script_pubkey.clone(),
                        })
                        .collect(),
                ),
            })
            .unwrap()
    }

    /// hsmd signs it, and it is good by the rules of consensus.
    fn signs(&mut self, spend: &Spend) -> Transaction {
        let tx = match self.asked(spend) {
            Completed::Ready { transaction } => transaction,
            Completed::Refused { why } => panic!("{:?}: {why}", spend.key),
        };
        assert_eq!(tx.compute_txid(), spend.tx.compute_txid());
        executed(&tx, spend.index, &spend.output).unwrap();
        tx
    }

    fn refuses(&mut self, spend: &Spend, why: &str) {
        match self.asked(spend) {
            Completed::Ready { .. } => panic!("{:?} was signed, not refused: {why}", spend.key),
            Completed::Refused { why: said } => assert!(said.contains(why), "{said}, not {why}"),
        }
    }
}

pub(super) struct Spend {
    pub(super) tx: Transaction,
    pub(super) index: u32,
    pub(super) key: WalletKey,
    pub(super) output: TxOut,
    pub(super) spent: Vec<TxOut>,
}

impl Spend {
    pub(super) fn new(
        at: OutPoint,
        output: &TxOut,
        key: WalletKey,
        sequence: u32,
        lock_time: u32,
    ) -> Self {
        let input = TxIn {
            previous_output: at,
            script_sig: ScriptBuf::new(),
            sequence: Sequence(sequence),
            witness: Witness::new(),
        };
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::from_consensus(lock_time),
            input: vec![input],
            output: vec![TxOut { value: Amount::from_sat(1000), script_pubkey: script(1) }],
        };
        Self { tx, index: 0, key, output: output.clone(), spent: vec![output.clone()] }
    }

    /// Behind an input and an output of somebody else's: what pays the fee of a paired one.
    fn aggregated(mut self) -> Self {
        let foreign = TxOut { value: Amount::from_sat(77_777), script_pubkey: script(9) };
        let input = TxIn { sequence: Sequence(0), ..TxIn::default() };
        self.tx.input.insert(0, input);
        self.tx.output.insert(0, foreign.clone());
        self.spent.insert(0, foreign);
        self.index = 1;
        self
    }

    fn but(&self, change: impl Fn(&mut Transaction, &mut WalletKey)) -> Self {
        let (mut tx, mut key) = (self.tx.clone(), self.key.clone());
        change(&mut tx, &mut key);
        Self { tx, key, index: self.index, output: self.output.clone(), spent: self.spent.clone() }
    }
}

/// Consensus: every rule of scripts before taproot.
pub(super) fn executed(
    tx: &Transaction,
    index: u32,
    spent: &TxOut,
) -> Result<(), bitcoinconsensus::Error> {
    bitcoinconsensus::verify(
        spent.script_pubkey.as_bytes(),
        spent.value.to_sat(),
        &bitcoin::consensus::serialize(tx),
        index as usize,
    )
}

fn delayed(number: u64) -> WalletKey {
    WalletKey::Delayed { peer: peer().node_id, channel: CHANNEL, number: CommitmentNumber(number) }
}
fn revoked_delayed(secret: SecretKey) -> WalletKey {
    WalletKey::RevokedDelayed { peer: peer().node_id, channel: CHANNEL, secret }
}
fn anchor() -> WalletKey {
    WalletKey::Anchor { peer: peer().node_id, channel: CHANNEL }
}

#[test]
fn everything_of_our_own_commitment_is_taken() {
    for anchors in [true, false] {
        let mut close = Close::new(Side::Local, anchors, 5);
        let to_local = close.claim(close.built.to_local.unwrap(), delayed(5), 144, 0);
        close.signs(&to_local);
        close.signs(&to_local.aggregated());
        for id in 0..4 {
            let own = close.own(id);
            assert_eq!(own.tx.lock_time.to_consensus_u32(), [500, 0, 502, 0][id as usize]);
            let tx = close.signs(&own);
            // BOLT 5, "Generation of HTLC Transactions": nobody can add to what we signed.
            let ours = tx.input[0].witness.nth(2).unwrap().last();
            assert_eq!(ours, Some(&(EcdsaSighashType::All as u8)));
            let (at, output) = close.second_stage(id);
            close.signs(&Spend::new(at, &output, delayed(5), 144, 0));
            if anchors {
                close.signs(&own.aggregated());
            } else {
                close.refuses(&own.aggregated(), "the peer signed another transaction");
            }
        }
    }
}

#[test]
fn everything_of_the_peers_commitment_is_taken() {
    for anchors in [true, false] {
        let mut close = Close::new(Side::Remote, anchors, 5);
        for id in 0..4 {
            let their = close.their(id);
            close.signs(&their);
            close.signs(&their.aggregated());
        }
        let key = WalletKey::ToRemote { peer: peer().node_id, channel: CHANNEL, anchors };
        let to_remote = close.claim(close.built.to_remote.unwrap(), key, 1, 0);
        close.signs(&to_remote);
    }
}

#[test]
fn everything_of_a_revoked_commitment_is_taken() {
    for anchors in [true, false] {
        let mut close = Close::new(Side::Remote, anchors, 9);
        let secret = close.secret();
        let to_local =
            close.claim(close.built.to_local.unwrap(), revoked_delayed(secret), u32::MAX, 0);
        close.signs(&to_local);
        for id in 0..4 {
            let h = close.built.htlcs.iter().find(|h| h.htlc.id.0 == id).unwrap();
            let (peer, htlc) = (peer().node_id, h.htlc.clone());
            let key = WalletKey::RevokedHtlc { peer, channel: CHANNEL, secret, htlc };
            let spend = close.claim(h.index, key, u32::MAX, 0);
            close.signs(&spend);
            close.signs(&spend.aggregated());
            let (at, output) = close.second_stage(id);
            close.signs(&Spend::new(at, &output, revoked_delayed(secret), u32::MAX, 0));
        }
    }
}

#[test]
fn our_anchor_of_either_sides_commitment_is_taken() {
    for side in Side::BOTH {
        let mut close = Close::new(side, true, 5);
        let script = scripts::anchor(&close.constants.params.basepoints.local.funding).to_p2wsh();
        let at = close.built.tx.output.iter().position(|o| o.script_pubkey == script).unwrap();
        let spend = close.claim(at, anchor(), 0xffff_fffd, 0);
        close.signs(&spend);
    }
}

#[test]
fn witness_that_consensus_refuses_is_seen_by_these_tests() {
    let mut close = Close::new(Side::Local, true, 5);
    let spend = close.claim(close.built.to_local.unwrap(), delayed(5), 144, 0);
    let mut tx = close.signs(&spend);
    tx.input[0].sequence = Sequence(143);
    assert!(executed(&tx, 0, &spend.output).is_err());
}

#[test]
fn claim_that_its_script_would_refuse_is_refused() {
    for anchors in [true, false] {
        let mut close = Close::new(Side::Local, anchors, 5);
        let to_local = close.claim(close.built.to_local.unwrap(), delayed(5), 144, 0);
        for sequence in [143, 0, 1 << 31 | 144, 1 << 22 | 144, u32::MAX] {
            let early = to_local.but(|tx, _| tx.input[0].sequence = Sequence(sequence));
            close.refuses(&early, "does not wait for 144 blocks");
        }
        let old = to_local.but(|tx, _| tx.version = Version::ONE);
        close.refuses(&old, "does not wait for 144 blocks");
        close.refuses(&to_local.but(|_, key| *key = delayed(4)), "does not make its script");
        close.refuses(&to_local.but(|_, key| *key = anchor()), "does not make its script");
        let end = to_local.but(|_, key| *key = delayed(u64::MAX));
        close.refuses(&end, "does not make its script");

        let timeout = close.own(0);
        let elsewhere = timeout.but(|tx, _| tx.output[0].script_pubkey = script(1));
        close.refuses(&elsewhere, "pays another script than our delayed one");
        let early = timeout.but(|tx, _| tx.lock_time = LockTime::ZERO);
        close.refuses(&early, "the peer signed another transaction");
        let success = close.own(1);
        let with = |preimage: Option<Preimage>| {
            move |_: &mut Transaction, key: &mut WalletKey| {
                if let WalletKey::OwnHtlc { preimage: p, .. } = key {
                    *p = preimage;
                }
            }
        };
        close.refuses(&success.but(with(None)), "without its preimage");
        close.refuses(&success.but(with(Some(Preimage([9; 32])))), "not that of its HTLC");
        close.refuses(&timeout.but(with(Some(Preimage([0; 32])))), "it is the peer's to take");
        let forged = success.but(|_, key| {
            if let WalletKey::OwnHtlc { signature, .. } = key {
                *signature = SECP256K1
                    .sign_ecdsa(&secp256k1::Message::from_digest([7; 32]), &peer_keys().funding);
            }
        });
        close.refuses(&forged, "the peer signed another transaction");
    }
}

#[test]
fn peers_commitments_htlcs_are_taken_only_with_what_opens_them() {
    for anchors in [true, false] {
        let mut close = Close::new(Side::Remote, anchors, 5);
        let (timeout, success) = (close.their(0), close.their(1));
        for lock_time in [499, 0, 500_000_000] {
            let early = timeout.but(|tx, _| tx.lock_time = LockTime::from_consensus(lock_time));
            close.refuses(&early, "valid before its HTLC expires at 500");
        }
        let last = timeout.but(|tx, _| tx.input[0].sequence = Sequence::MAX);
        close.refuses(&last, "valid before its HTLC expires at 500");
        close.signs(&timeout.but(|tx, _| tx.lock_time = LockTime::from_consensus(501)));
        let with = |preimage: Option<Preimage>| {
            move |_: &mut Transaction, key: &mut WalletKey| {
                if let WalletKey::TheirHtlc { preimage: p, .. } = key {
                    *p = preimage;
                }
            }
        };
        close.refuses(&success.but(with(None)), "without its preimage");
        close.refuses(&success.but(with(Some(Preimage([9; 32])))), "not that of its HTLC");
        close.refuses(&timeout.but(with(Some(Preimage([0; 32])))), "it is the peer's to take");
        let at_once = success.but(|tx, _| tx.input[0].sequence = Sequence(0));
        if anchors {
            close.refuses(&at_once, "does not wait for one block");
        } else {
            close.signs(&at_once);
        }
        let other = timeout.but(|_, key| {
            if let WalletKey::TheirHtlc { htlc, .. } = key {
                htlc.expiry.0 -= 1;
            }
        });
        close.refuses(&other, "does not make its script");
        let never = success.but(|_, key| {
            if let WalletKey::TheirHtlc { htlc, .. } = key {
                htlc.expiry.0 = u32::MAX;
            }
        });
        close.refuses(&never, "expires at no height");
    }
}

#[test]
fn secret_of_another_commitment_opens_nothing() {
    let mut close = Close::new(Side::Remote, true, 9);
    let other = peer_keys().secret(CommitmentNumber(4)).unwrap();
    let at = close.built.to_local.unwrap();
    let spend = close.claim(at, revoked_delayed(other), u32::MAX, 0);
    close.refuses(&spend, "does not make its script");
}

#[test]
fn htlc_of_a_commitment_that_we_revoked_is_not_taken() {
    let mut close = Close::new(Side::Local, true, 6);
    let own = close.own(0);
    close.refuses(&own, "our commitment 5 is revoked");
    // Nor of one that was never shown.
    let mut close = Close::new(Side::Local, true, 4);
    let own = close.own(0);
    close.refuses(&own, "commitment 5 after 4");
}

#[test]
fn taking_an_htlc_of_our_commitment_is_broadcasting_it() {
    let mut close = Close::new(Side::Local, true, 5);
    let mut channeld = close.rig.client(EVERYTHING, None);
    let next = state(Side::Local, 6, 200_000_000, &[]);
    let signatures = signed_by_peer_in(params_of(true), &next);
    let shown = ValidateLocalCommitment { state: next, signatures };
    assert_eq!(channeld.ask(&shown).unwrap(), Verdict::Good);
    // A refusal changes nothing, and our delayed money tells nobody.
    let own = close.own(0);
    close.refuses(&own.but(|tx, _| tx.lock_time = LockTime::ZERO), "another transaction");
    let to_local = close.claim(close.built.to_local.unwrap(), delayed(5), 144, 0);
    close.signs(&to_local);
    close.signs(&own);
    let revoke = RevokeLocal { number: CommitmentNumber(5) };
    close.rig.refuses(channeld, &revoke, "5 was signed for broadcast");
}

#[test]
fn nothing_is_signed_for_a_channel_that_is_not_known() {
    let mut close = Close::new(Side::Local, true, 5);
    let to_local = close.claim(close.built.to_local.unwrap(), delayed(5), 144, 0);
    let elsewhere = to_local.but(|_, key| {
        *key = WalletKey::Delayed {
            peer: peer().node_id,
            channel: ChannelNumber(8),
            number: CommitmentNumber(5),
        };
    });
    close.refuses(&elsewhere, "input 0: this channel is not known");
    close.rig.master.ask(&ForgetChannel { peer: peer().node_id, channel: CHANNEL }).unwrap();
    close.refuses(&to_local, "this channel is not known");
    // Asked about, but never told what it is.
    let mut openingd = close.rig.client(EVERYTHING, None);
    openingd.ask(&GetBasepoints {}).unwrap();
    close.refuses(&to_local, "the channel's parameters are not known");
}

#[test]
fn refused_input_leaves_the_transaction_unsigned() {
    let mut close = Close::new(Side::Local, true, 5);
    let own = close.own(0);
    let bad = close.own(1).but(|tx, _| tx.output[0].value = Amount::from_sat(1));
    let both = Spend {
        tx: Transaction {
            input: vec![own.tx.input[0].clone(), bad.tx.input[0].clone()],
            output: vec![own.tx.output[0].clone(), bad.tx.output[0].clone()],
            ..own.tx.clone()
        },
        spent: vec![own.output.clone(), bad.output.clone()],
        index: 0,
        key: own.key.clone(),
        output: own.output.clone(),
    };
    let input = |index: u32, spend: &Spend| WalletInput {
        index,
        key: spend.key.clone(),
        amount: Sat(spend.output.value.to_sat()),
        script: spend.output.script_pubkey.clone(),
    };
    let spent = both
        .spent
        .iter()
        .map(|o| SpentOutput { amount: Sat(o.value.to_sat()), script: o.script_pubkey.clone() });
    let question = SignWallet {
        transaction: both.tx.clone(),
        inputs: Long(vec![input(0, &own), input(1, &bad)]),
        spent: Long(spent.collect()),
    };
    let answer = close.rig.master.ask(&question).unwrap();
    assert!(matches!(answer, Completed::Refused { why } if why.starts_with("input 1: ")));
}
