//! The funding that somebody else pays for: which output of their PSBT the channel is, and under
//! which id it will confirm.

use crate::sys::form::{RpcError, code};
use bitcoin::psbt::{Input, Psbt};
use bitcoin::script::{Instruction, PushBytesBuf};
use bitcoin::{OutPoint as Spent, ScriptBuf};
use primitives::{OutPoint, Sat};

fn bad(why: String) -> RpcError {
    RpcError::new(code::FUNDING_PSBT_INVALID, format!("psbt: {why}"))
}

/// Finds the one output of a PSBT that is the channel. Every input must be segwit: another's
/// signature would change the txid.
pub fn funding_output(text: &str, script: &ScriptBuf, amount: Sat) -> Result<OutPoint, RpcError> {
    let psbt: Psbt = text.parse().map_err(|e| bad(format!("cannot be read: {e}")))?;
    let mut tx = psbt.unsigned_tx;
    for (n, (input, spends)) in psbt.inputs.iter().zip(&mut tx.input).enumerate() {
        spends.script_sig =
            script_sig(input, spends.previous_output).map_err(|e| bad(format!("input {n} {e}")))?;
    }
    let mut found = tx.output.iter().enumerate().filter(|(_, o)| o.script_pubkey == *script);
    let (vout, output) =
        found.next().ok_or_else(|| bad(format!("no output pays the channel's script {script}")))?;
    if found.next().is_some() {
        return Err(bad("two outputs pay the channel's script".to_owned()));
    }
    if output.value.to_sat() != amount.0 {
        return Err(bad(format!(
            "the channel's output has {}sat, and {amount} was agreed",
            output.value.to_sat()
        )));
    }
    Ok(OutPoint { txid: tx.compute_txid(), vout: vout as u32 })
}

/// What an input will have outside its witness once it is signed: the txid follows from it. BIP
/// 141: nothing where a witness program is spent, and the push of the program where it is wrapped
/// into P2SH.
fn script_sig(input: &Input, spent: Spent) -> Result<ScriptBuf, String> {
    let script = spent_script(input, spent)?;
    if script.is_witness_program() {
        return Ok(ScriptBuf::new());
    }
    if !script.is_p2sh() {
        return Err("is not segwit: its signature could change the transaction's id".to_owned());
    }
    let program = input.redeem_script.clone().or_else(|| pushed(input.final_script_sig.as_ref()?));
    let program = program.ok_or(
        "spends P2SH and has no redeem script: without it nobody knows the transaction's id",
    )?;
    if program.to_p2sh() != script {
        return Err("has a redeem script that is not the one of what it spends".to_owned());
    }
    if !program.is_witness_program() {
        return Err(
            "spends P2SH that is not segwit: its signature could change the transaction's id"
                .to_owned(),
        );
    }
    let push = PushBytesBuf::try_from(program.into_bytes()).map_err(|e| e.to_string())?;
    let script_sig = ScriptBuf::builder().push_slice(push).into_script();
    if input.final_script_sig.as_ref().is_some_and(|f| *f != script_sig) {
        return Err("has a final script that is not the push of its witness program".to_owned());
    }
    Ok(script_sig)
}

/// The script of what an input spends, as the PSBT tells it.
fn spent_script(input: &Input, spent: Spent) -> Result<ScriptBuf, String> {
    let Some(tx) = &input.non_witness_utxo else {
        let output = input.witness_utxo.as_ref().ok_or("does not say what it spends")?;
        return Ok(output.script_pubkey.clone());
    };
    if tx.compute_txid() != spent.txid {
        return Err(format!(
            "comes with a transaction that is not {}, which it spends",
            spent.txid
        ));
    }
    let output = tx.output.get(spent.vout as usize);
    let output = output.ok_or_else(|| format!("spends {spent}, which does not exist"))?;
    if input.witness_utxo.as_ref().is_some_and(|w| w != output) {
        return Err(format!("says two things of {spent}, which it spends"));
    }
    Ok(output.script_pubkey.clone())
}

/// The one thing that a script pushes.
fn pushed(script: &ScriptBuf) -> Option<ScriptBuf> {
    let mut parts = script.instructions();
    match (parts.next(), parts.next()) {
        (Some(Ok(Instruction::PushBytes(push))), None) => {
            Some(ScriptBuf::from_bytes(push.as_bytes().to_vec()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, Transaction, TxIn, TxOut, Txid, WPubkeyHash, Witness};

    fn tx(previous_output: Spent, script_pubkey: ScriptBuf) -> Transaction {
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![TxIn { previous_output, ..TxIn::default() }],
            output: vec![TxOut { value: Amount::from_sat(100_000), script_pubkey }],
        }
    }
    fn channel() -> ScriptBuf {
        ScriptBuf::new_p2wsh(&Hash::all_zeros())
    }
    fn program() -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros())
    }
    /// Spends an output with this script, and says so by the whole transaction before.
    fn psbt(spends: &ScriptBuf) -> Psbt {
        let before = tx(Spent::new(Txid::all_zeros(), 0), spends.clone());
        let funding = tx(Spent::new(before.compute_txid(), 0), channel());
        let mut psbt = Psbt::from_unsigned_tx(funding).unwrap();
        psbt.inputs[0].non_witness_utxo = Some(before);
        psbt
    }
    fn output_of(psbt: &Psbt) -> Result<OutPoint, String> {
        funding_output(&psbt.to_string(), &channel(), Sat(100_000)).map_err(|e| e.message)
    }
    fn push(script: &ScriptBuf) -> ScriptBuf {
        let push = PushBytesBuf::try_from(script.to_bytes()).unwrap();
        ScriptBuf::builder().push_slice(push).into_script()
    }

    #[test]
    fn funding_txid_with_wrapped_segwit_inputs_is_the_confirmed_one() {
        let mut psbt = psbt(&program().to_p2sh());
        let mut signed = psbt.unsigned_tx.clone();
        signed.input[0].script_sig = push(&program());
        signed.input[0].witness = Witness::from_slice(&[[1; 71]]);
        let will_be = OutPoint { txid: signed.compute_txid(), vout: 0 };
        // Nobody says what is wrapped.
        assert!(output_of(&psbt).unwrap_err().contains("no redeem script"));
        psbt.inputs[0].redeem_script = Some(program());
        assert_eq!(output_of(&psbt).unwrap(), will_be);
        psbt.inputs[0].final_script_sig = Some(push(&program()));
        assert_eq!(output_of(&psbt).unwrap(), will_be);
        // A PSBT that is final says no more than this.
        psbt.inputs[0].redeem_script = None;
        assert_eq!(output_of(&psbt).unwrap(), will_be);
        psbt.inputs[0].final_script_sig = Some(push(&channel()));
        assert!(output_of(&psbt).unwrap_err().contains("not the one of what it spends"));
        psbt.inputs[0].redeem_script = Some(program());
        assert!(output_of(&psbt).unwrap_err().contains("final script"));
    }

    #[test]
    fn what_is_no_segwit_is_refused_wrapped_or_not() {
        let multisig = ScriptBuf::from_bytes(vec![0x51, 0x51, 0xae]);
        let mut wrapped = psbt(&multisig.to_p2sh());
        wrapped.inputs[0].redeem_script = Some(multisig.clone());
        assert!(output_of(&wrapped).unwrap_err().contains("not segwit"));
        assert!(output_of(&psbt(&multisig)).unwrap_err().contains("not segwit"));
        let plain = psbt(&program());
        let will_be = OutPoint { txid: plain.unsigned_tx.compute_txid(), vout: 0 };
        assert_eq!(output_of(&plain).unwrap(), will_be);
    }

    #[test]
    fn what_an_input_says_of_its_coin_must_be_of_that_coin() {
        let mut other = psbt(&program());
        other.inputs[0].non_witness_utxo = psbt(&channel()).inputs[0].non_witness_utxo.clone();
        assert!(output_of(&other).unwrap_err().contains("which it spends"));
        let mut two = psbt(&program());
        let value = Amount::from_sat(100_000);
        two.inputs[0].witness_utxo = Some(TxOut { value, script_pubkey: channel() });
        assert!(output_of(&two).unwrap_err().contains("two things"));
        let mut silent = psbt(&program());
        silent.inputs[0].non_witness_utxo = None;
        assert!(output_of(&silent).unwrap_err().contains("does not say"));
    }
}
