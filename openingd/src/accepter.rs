//! The peer opens: its `open_channel`, our answer, its `funding_created`. Our `funding_signed` is
//! channeld's to send, once the channel is on disk. BOLT 2.

use crate::line::{Partners, at_fault};
use crate::signing::{opened, our_keys, set_up, sign_remote, validate};
use channel::opening::Refusal;
use channel::opening::agreement::{Agreement, FundedAgreement, PartyTerms, Proposal};
use channel::opening::judge::{NOT_TRUSTED, Negotiated};
use primitives::*;
use std::time::Duration;
use subdaemon::Failure;
use wire::OpeningMessage;
use wire::channel_data::Terms;
use wire::openingd::{AcceptInit, AcceptProposed, OpenProposed, Opened, ToOpeningd};

/// From the peer's proposal to both first commitments.
pub(crate) fn accept(
    line: &mut Partners,
    init: AcceptInit,
    funding_patience: Duration,
) -> Result<Opened, Failure> {
    let negotiated = Negotiated {
        network: init.network,
        features: Sides { local: init.local_features, remote: init.remote_features },
        policy: init.policy,
        temporary_id: init.temporary_id,
    };
    let (basepoints, first_point) = our_keys(line)?;
    let open = line.await_peer("open_channel", |m| {
        let OpeningMessage::OpenChannel(open) = m else { return Err(m.name()) };
        Ok(open)
    })?;
    let (proposal, theirs) = negotiated.judge_open(&open).map_err(at_fault)?;
    let theirs = negotiated.binding(theirs);
    let reserve = negotiated.our_reserve(proposal.amount, Some(&theirs));
    let terms = Terms { reserve, ..negotiated.policy.terms.clone() };
    let ours = PartyTerms { terms, basepoints, first_point, upfront_script: init.upfront_script };
    let parties = Sides { local: ours, remote: theirs };
    let mut agreement = Agreement { opener: Side::Remote, proposal, parties };
    negotiated.judge_together(&agreement).map_err(at_fault)?;

    let minimum_depth = ask_master(line, &negotiated, &mut agreement, open.channel_flags)?;
    let answer = &agreement.parties.local;
    line.say(&agreement.proposal.accept_channel(negotiated.temporary_id, minimum_depth, answer))?;

    let created = line.await_peer_for("funding_created", funding_patience, |m| {
        let OpeningMessage::FundingCreated(created) = m else { return Err(m.name()) };
        Ok(created)
    })?;
    let funding = negotiated.judge_funding(&created).map_err(at_fault)?;
    let funded = FundedAgreement::new(agreement, funding).map_err(at_fault)?;
    begin(line, &funded, created.signature, minimum_depth)
}

/// The master, and whoever it asks, may refuse, or have wishes. What we wait for before
/// `channel_ready`.
fn ask_master(
    line: &mut Partners,
    negotiated: &Negotiated,
    agreement: &mut Agreement,
    channel_flags: u8,
) -> Result<u32, Failure> {
    let Proposal { amount, push, feerate, channel_type, .. } = agreement.proposal.clone();
    line.report(&OpenProposed {
        amount,
        push,
        feerate,
        remote_terms: agreement.parties.remote.terms.clone(),
        channel_flags,
        channel_type: channel_type.clone(),
        remote_upfront_script: agreement.parties.remote.upfront_script.clone(),
    })?;
    let wishes = line.await_master("our answer to open_channel", |order| {
        let ToOpeningd::AcceptProposed(wishes) = order else { return Err(order.name()) };
        Ok(wishes)
    })?;
    let AcceptProposed { upfront_script, minimum_depth, reserve } = wishes;
    // BOLT 2, open_channel: option_zeroconf is for those whom we trust, and only the master knows
    // whom.
    let depth = minimum_depth.unwrap_or(negotiated.policy.minimum_depth);
    if channel_type.has_bit(feature::ZEROCONF) && minimum_depth != Some(0) {
        return Err(at_fault(Refusal::ChannelType { channel_type, why: NOT_TRUSTED }));
    }
    if let Some(script) = upfront_script {
        if !negotiated.forms().allow(&script) {
            return Err(Failure::internal(
                "an upfront_shutdown_script of no form that was negotiated",
            ));
        }
        agreement.parties.local.upfront_script = Some(script);
    }
    if let Some(reserve) = reserve {
        // BOLT 2, accept_channel: not below any dust limit, whoever wishes it.
        let least = negotiated.least_reserve(Some(&agreement.parties.remote));
        agreement.parties.local.terms.reserve = reserve.max(least);
        negotiated.judge_together(agreement).map_err(at_fault)?;
    }
    Ok(depth)
}

/// Their signature on ours, ours on theirs: the channel begins. A peer whose own does not hold gets
/// none of ours.
fn begin(
    line: &mut Partners,
    funded: &FundedAgreement,
    signature: Signature,
    minimum_depth: u32,
) -> Result<Opened, Failure> {
    set_up(line, funded)?;
    let signatures = validate(line, funded, "funding_created", signature)?;
    let funding_signed = sign_remote(line, funded)?;
    // channeld sends `funding_signed`; what the peer answers to it goes to this socket.
    line.also_route(funded.channel_id())?;
    opened(funded, signatures, Some(funding_signed), minimum_depth)
}
