//! The questions to hsmd: our keys, our signature on the peer's first commitment, its check of the
//! peer's on ours.

use crate::line::{Partners, at_fault};
use channel::opening::agreement::FundedAgreement;
use primitives::*;
use subdaemon::Failure;
use wire::channel_data::{Basepoints, CommitmentSignatures};
use wire::hsm::*;
use wire::openingd::Opened;

/// Our basepoints, and our point for our commitment 0.
pub(crate) fn our_keys(line: &mut Partners) -> Result<(Basepoints, Point), Failure> {
    let basepoints = line.ask(&GetBasepoints {})?;
    let first_point = line.ask(&GetCommitmentPoint { number: CommitmentNumber::FIRST })?;
    Ok((basepoints, first_point))
}

/// Tells hsmd the channel's parameters: once, before any signature.
pub(crate) fn set_up(line: &mut Partners, funded: &FundedAgreement) -> Result<(), Failure> {
    // Whatever makes no transaction is refused here by its name, before hsmd takes it for a bug of
    // ours.
    for side in Side::BOTH {
        funded.transaction(side).map_err(at_fault)?;
    }
    line.ask(&SetupChannel { params: funded.params().clone() })
}

/// Our signature on the peer's commitment 0.
pub(crate) fn sign_remote(
    line: &mut Partners,
    funded: &FundedAgreement,
) -> Result<Signature, Failure> {
    let question = SignRemoteCommitment { state: funded.commitment(Side::Remote) };
    let CommitmentSignatures { signature, htlcs } = line.ask(&question)?;
    if !htlcs.is_empty() {
        return Err(Failure::internal("hsmd signed HTLCs of a commitment that has none"));
    }
    Ok(signature)
}

/// Does the peer's signature on our commitment 0 hold? BOLT 2: otherwise the channel fails.
pub(crate) fn validate(
    line: &mut Partners,
    funded: &FundedAgreement,
    message: &'static str,
    signature: Signature,
) -> Result<CommitmentSignatures, Failure> {
    let signatures = CommitmentSignatures { signature, htlcs: vec![] };
    let question = ValidateLocalCommitment {
        state: funded.commitment(Side::Local),
        signatures: signatures.clone(),
    };
    match line.ask(&question)? {
        Verdict::Good => Ok(signatures),
        Verdict::Bad { why } => {
            log::info!("{message}: {why}");
            Err(at_fault(funded.bad_signature(message)))
        }
    }
}

/// The report by which lightningd stores the channel, and from which it starts channeld.
pub(crate) fn opened(
    funded: &FundedAgreement,
    signatures: CommitmentSignatures,
    funding_signed: Option<Signature>,
    minimum_depth: u32,
) -> Result<Opened, Failure> {
    let state = funded.state(signatures);
    // channeld will not live with a state that contradicts itself: better that we do not say it.
    channel::Channel::new(state.clone()).map_err(Failure::internal)?;
    let agreement = funded.agreement();
    Ok(Opened {
        channel: funded.channel_id(),
        state,
        announce: agreement.proposal.announce,
        funding_signed,
        minimum_depth,
        upfront_script: agreement.parties.clone().map(|party| party.upfront_script),
        feerate: agreement.proposal.feerate,
    })
}
