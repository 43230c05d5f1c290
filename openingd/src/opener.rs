//! We open: `open_channel`, their answer, the funding, `funding_created`, their signature. BOLT 2.

use crate::line::{Partners, at_fault};
use crate::signing::{opened, our_keys, set_up, sign_remote, validate};
use channel::opening::Refusal;
use channel::opening::agreement::{Agreement, FundedAgreement, PartyTerms, Proposal};
use channel::opening::judge::Negotiated;
use primitives::*;
use subdaemon::Failure;
use wire::channel_data::Terms;
use wire::openingd::{Accepted, CompleteFunding, OpenInit, Opened, ToOpeningd};
use wire::{FundingCreated, OpeningMessage};

/// From the order to open to both first commitments.
pub(crate) fn open(line: &mut Partners, init: OpenInit) -> Result<Opened, Failure> {
    let negotiated = Negotiated {
        network: init.network,
        features: Sides {
            local: init.local_features.clone(),
            remote: init.remote_features.clone(),
        },
        policy: init.policy.clone(),
        temporary_id: init.temporary_id,
    };
    // The peer has heard nothing yet: a refusal here is neither its fault nor a bug.
    negotiated
        .may_propose(&init)
        .map_err(|why| Failure::Cancelled(format!("this channel cannot be opened: {why}")))?;

    let ours = our_terms(line, &negotiated, &init)?;
    let proposal = Proposal {
        amount: init.amount,
        push: init.push,
        feerate: init.feerate,
        announce: init.announce,
        channel_type: init.channel_type,
    };
    let (agreement, minimum_depth) = propose(line, &negotiated, proposal, ours)?;
    let funding = await_funding(line, &agreement, minimum_depth)?;
    let funded = FundedAgreement::new(agreement, funding).map_err(at_fault)?;
    fund(line, &negotiated, &funded, minimum_depth)
}

/// Our own terms, keys and first point.
fn our_terms(
    line: &mut Partners,
    negotiated: &Negotiated,
    init: &OpenInit,
) -> Result<PartyTerms, Failure> {
    let (basepoints, first_point) = our_keys(line)?;
    let asked = init.policy.terms.clone();
    // BOLT 2, open_channel: no reserve below the dust limit.
    let reserve = asked.reserve.max(negotiated.least_reserve(None));
    let terms = Terms { reserve, ..asked };
    Ok(PartyTerms { terms, basepoints, first_point, upfront_script: init.upfront_script.clone() })
}

/// `open_channel` and its answer.
fn propose(
    line: &mut Partners,
    negotiated: &Negotiated,
    proposal: Proposal,
    ours: PartyTerms,
) -> Result<(Agreement, u32), Failure> {
    line.say(&proposal.open_channel(negotiated.network, negotiated.temporary_id, &ours))?;
    let accept = line.await_peer("accept_channel", |m| {
        let OpeningMessage::AcceptChannel(accept) = m else { return Err(m.name()) };
        Ok(accept)
    })?;
    let theirs = negotiated.judge_accept(&proposal, &ours, &accept).map_err(at_fault)?;
    let theirs = negotiated.binding(theirs);
    let parties = Sides { local: ours, remote: theirs };
    let agreement = Agreement { opener: Side::Local, proposal, parties };
    negotiated.judge_together(&agreement).map_err(at_fault)?;
    Ok((agreement, accept.minimum_depth))
}

/// The master builds the transaction that pays the channel, or somebody else does.
fn await_funding(
    line: &mut Partners,
    agreement: &Agreement,
    minimum_depth: u32,
) -> Result<OutPoint, Failure> {
    line.report(&Accepted {
        funding_script: agreement.funding_script_pubkey(),
        channel_type: agreement.proposal.channel_type.clone(),
        minimum_depth,
        remote_upfront_script: agreement.parties.remote.upfront_script.clone(),
    })?;
    line.await_master("the funding transaction", |order| {
        let ToOpeningd::CompleteFunding(CompleteFunding { funding }) = order else {
            return Err(order.name());
        };
        Ok(funding)
    })
}

/// `funding_created` and its answer: the channel begins.
fn fund(
    line: &mut Partners,
    negotiated: &Negotiated,
    funded: &FundedAgreement,
    minimum_depth: u32,
) -> Result<Opened, Failure> {
    let funding = funded.params().funding;
    let funding_output_index = u16::try_from(funding.vout).map_err(|_| {
        Failure::internal(format!("funding output {}, of at most {}", funding.vout, u16::MAX))
    })?;
    set_up(line, funded)?;
    let signature = sign_remote(line, funded)?;
    let channel = funded.channel_id();
    // The peer may speak of the channel as soon as it has our signature.
    line.also_route(channel)?;
    line.say(&FundingCreated {
        temporary_channel_id: negotiated.temporary_id,
        funding_txid: funding.txid,
        funding_output_index,
        signature,
    })?;
    line.speak_of(channel);

    let signed = line.await_peer("funding_signed", |m| {
        let OpeningMessage::FundingSigned(signed) = m else { return Err(m.name()) };
        Ok(signed)
    })?;
    if signed.channel_id != channel {
        let (got, expected) = (signed.channel_id, channel);
        return Err(at_fault(Refusal::OtherId { field: "channel_id", got, expected }));
    }
    let signatures = validate(line, funded, "funding_signed", signed.signature)?;
    opened(funded, signatures, None, minimum_depth)
}
