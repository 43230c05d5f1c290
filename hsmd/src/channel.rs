//! One channel: its keys and its judge, and what the two sign, check and reveal together.

use crate::blinding::secp;
use crate::channel_keys::ChannelKeys;
use crate::judge::Judge;
use crate::refusal::Bad;
use channel::{Constants, closing};
use primitives::*;
use wire::channel_data::{ChannelParams, CommitmentSignatures, CommitmentState};
use wire::hsm::{CheckSecret, ClosingState, Revocation};

/// See above.
pub(crate) struct Channel {
    pub(crate) keys: Box<ChannelKeys>,
    pub(crate) judge: Judge,
}

impl Channel {
    pub(crate) fn point(&self, number: CommitmentNumber) -> Result<Point, Bad> {
        self.keys.point(number).ok_or_else(|| format!("commitment {number} has no point"))
    }

    /// The point of a commitment, if this channel may show it yet.
    pub(crate) fn tell_point(&self, number: CommitmentNumber) -> Result<Point, Bad> {
        self.judge.may_tell_point(number)?;
        self.point(number)
    }

    pub(crate) fn set_up(&mut self, params: &ChannelParams) -> Result<(), Bad> {
        Ok(self.judge.setup(params, &self.keys.points)?)
    }

    /// Is this our secret of that commitment?
    pub(crate) fn is_secret(&self, q: &CheckSecret) -> bool {
        let ours = self.keys.commitment_secret(q.number);
        ours.is_some_and(|ours| Secret::new(ours.secret_bytes()) == q.secret)
    }

    pub(crate) fn sign_remote(
        &mut self,
        state: &CommitmentState,
    ) -> Result<CommitmentSignatures, Bad> {
        let constants = self.judge.constants()?;
        self.judge.may_sign_remote(state)?;
        let signatures = self.keys.sign_remote(&constants, state).map_err(|e| e.to_string())?;
        self.judge.signed_remote(state);
        Ok(signatures)
    }

    /// `Ok(Err)`: the peer's signatures do not hold.
    pub(crate) fn validate_local(
        &mut self,
        state: &CommitmentState,
        signatures: &CommitmentSignatures,
    ) -> Result<Result<(), String>, Bad> {
        let constants = self.judge.constants()?;
        self.judge.may_show_local(state, self.point(state.number)?)?;
        let built = self.keys.build_local(&constants, state).map_err(|e| e.to_string())?;
        if let Err(bad) = built.verify(&constants, signatures) {
            return Ok(Err(bad.to_string()));
        }
        self.judge.shown_local(state);
        Ok(Ok(()))
    }

    /// `None`: not before the master has stored that it may.
    pub(crate) fn revoke_local(
        &mut self,
        number: CommitmentNumber,
    ) -> Result<Option<Revocation>, Bad> {
        if !self.judge.revoke_local(number)? {
            return Ok(None);
        }
        let secret = self.keys.commitment_secret(number);
        let secret = secret.ok_or_else(|| format!("commitment {number} has no secret"))?;
        Ok(Some(Revocation { secret: *secret, next_point: self.point(number.next().next())? }))
    }

    pub(crate) fn sign_local(
        &mut self,
        state: &CommitmentState,
        signatures: &CommitmentSignatures,
    ) -> Result<Transaction, String> {
        let constants = self.judge.constants()?;
        self.judge.may_sign_local(state, self.point(state.number)?)?;
        let built = self.keys.build_local(&constants, state).map_err(|e| e.to_string())?;
        built.verify(&constants, signatures).map_err(|e| e.to_string())?;
        self.judge.broadcasts(state.number);
        let local = secp().sign_ecdsa(&built.sighash(&constants), &self.keys.funding);
        Ok(built.signed(&constants, &Sides { local, remote: signatures.signature }))
    }

    /// `None`: not before the master has stored the closing.
    pub(crate) fn sign_closing(&self, state: &ClosingState) -> Result<Option<Signature>, Bad> {
        let constants = self.judge.constants()?;
        if !self.judge.may_close(state)? {
            return Ok(None);
        }
        let build = |constants: &Constants| {
            closing::build(constants, state, closing::our_choice(constants, state)?)
        };
        let closing = build(&constants).map_err(|e| e.to_string())?;
        Ok(Some(secp().sign_ecdsa(&closing.sighash(&constants), &self.keys.funding)))
    }

    /// `Ok(Err)`: the peer's signature is for no variant of this closing.
    pub(crate) fn check_closing(
        &self,
        state: &ClosingState,
        signature: &Signature,
    ) -> Result<Result<(), String>, Bad> {
        let constants = self.judge.constants()?;
        let signed = closing::signed_by_peer(&constants, state, signature);
        Ok(signed.map_err(|e| e.to_string()).and_then(|closing| {
            closing
                .map(|_| ())
                .ok_or_else(|| "the signature is for no variant of this closing".to_owned())
        }))
    }

    pub(crate) fn complete_closing(
        &self,
        state: &ClosingState,
        signature: &Signature,
    ) -> Result<Transaction, String> {
        let constants = self.judge.constants()?;
        if !self.judge.may_close(state)? {
            return Err("no closing is stored".to_owned());
        }
        let closing = closing::signed_by_peer(&constants, state, signature)
            .map_err(|e| e.to_string())?
            .ok_or("the peer's signature is for no variant of this closing")?;
        let local = secp().sign_ecdsa(&closing.sighash(&constants), &self.keys.funding);
        Ok(closing.signed(&constants, &Sides { local, remote: *signature }))
    }
}
