//! The agreement of `open_channel` and `accept_channel`, and the first state of the channel that
//! follows from it.

use super::refusal::Refusal;
use crate::commitment::{self, Commitment, Tally, tally};
use crate::keys::CommitmentKeys;
use crate::{Constants, Unbuildable};
use primitives::*;
use wire::channel_data::*;
use wire::{AcceptChannel, Long, OpenChannel, Rest};

/// One side of an opening: what its `open_channel` or `accept_channel` says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartyTerms {
    /// Limits and reserve that it demands of the other side.
    pub terms: Terms,
    /// Its keys.
    pub basepoints: Basepoints,
    /// Its point for its commitment 0.
    pub first_point: Point,
    /// Where a mutual close must pay it, if it fixed that.
    pub upfront_script: Option<ScriptBuf>,
}

/// Reads a [`PartyTerms`] off either message: they share these fields.
macro_rules! party_terms_of {
    ($message:expr) => {
        PartyTerms {
            terms: Terms {
                dust_limit: $message.dust_limit_satoshis,
                max_in_flight: $message.max_htlc_value_in_flight_msat,
                reserve: $message.channel_reserve_satoshis,
                htlc_minimum: $message.htlc_minimum_msat,
                to_self_delay: $message.to_self_delay,
                max_accepted_htlcs: $message.max_accepted_htlcs,
            },
            basepoints: Basepoints {
                funding: $message.funding_pubkey,
                revocation: $message.revocation_basepoint,
                payment: $message.payment_basepoint,
                delayed_payment: $message.delayed_payment_basepoint,
                htlc: $message.htlc_basepoint,
            },
            first_point: $message.first_per_commitment_point,
            upfront_script: script_in(&$message.upfront_shutdown_script),
        }
    };
}

/// BOLT 2: a script of length 0 fixes nothing.
fn script_in(tlv: &Option<Rest>) -> Option<ScriptBuf> {
    let bytes = &tlv.as_ref()?.0;
    (!bytes.is_empty()).then(|| ScriptBuf::from_bytes(bytes.clone()))
}

impl From<&OpenChannel> for PartyTerms {
    fn from(m: &OpenChannel) -> Self {
        party_terms_of!(m)
    }
}
impl From<&AcceptChannel> for PartyTerms {
    fn from(m: &AcceptChannel) -> Self {
        party_terms_of!(m)
    }
}

/// The fields of `open_channel` that `accept_channel` does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// How much goes into the channel.
    pub amount: Sat,
    /// How much of it is the accepter's at once.
    pub push: Msat,
    /// The feerate of the first commitments.
    pub feerate: FeeratePerKw,
    /// Is the channel to be announced?
    pub announce: bool,
    /// BOLT 2, "Defined Channel Types".
    pub channel_type: Features,
}

impl Proposal {
    /// The one bit of channel_flags that means something. BOLT 2: others are ignored.
    pub const ANNOUNCE: u8 = 1;

    /// As the opener says it.
    pub fn open_channel(&self, network: Network, id: ChannelId, party: &PartyTerms) -> OpenChannel {
        let PartyTerms { terms, basepoints, first_point, .. } = party;
        OpenChannel {
            chain_hash: network.chain_hash(),
            temporary_channel_id: id,
            funding_satoshis: self.amount,
            push_msat: self.push,
            dust_limit_satoshis: terms.dust_limit,
            max_htlc_value_in_flight_msat: terms.max_in_flight,
            channel_reserve_satoshis: terms.reserve,
            htlc_minimum_msat: terms.htlc_minimum,
            feerate_per_kw: self.feerate,
            to_self_delay: terms.to_self_delay,
            max_accepted_htlcs: terms.max_accepted_htlcs,
            funding_pubkey: basepoints.funding,
            revocation_basepoint: basepoints.revocation,
            payment_basepoint: basepoints.payment,
            delayed_payment_basepoint: basepoints.delayed_payment,
            htlc_basepoint: basepoints.htlc,
            first_per_commitment_point: *first_point,
            channel_flags: if self.announce { Self::ANNOUNCE } else { 0 },
            upfront_shutdown_script: Some(script_tlv(party)),
            channel_type: Some(self.type_tlv()),
        }
    }

    /// As the accepter answers it.
    pub fn accept_channel(
        &self,
        id: ChannelId,
        minimum_depth: u32,
        party: &PartyTerms,
    ) -> AcceptChannel {
        let PartyTerms { terms, basepoints, first_point, .. } = party;
        AcceptChannel {
            temporary_channel_id: id,
            dust_limit_satoshis: terms.dust_limit,
            max_htlc_value_in_flight_msat: terms.max_in_flight,
            channel_reserve_satoshis: terms.reserve,
            htlc_minimum_msat: terms.htlc_minimum,
            minimum_depth,
            to_self_delay: terms.to_self_delay,
            max_accepted_htlcs: terms.max_accepted_htlcs,
            funding_pubkey: basepoints.funding,
            revocation_basepoint: basepoints.revocation,
            payment_basepoint: basepoints.payment,
            delayed_payment_basepoint: basepoints.delayed_payment,
            htlc_basepoint: basepoints.htlc,
            first_per_commitment_point: *first_point,
            upfront_shutdown_script: Some(script_tlv(party)),
            channel_type: Some(self.type_tlv()),
        }
    }

    /// BOLT 2: the smallest bitmap, the same in both messages.
    fn type_tlv(&self) -> Rest {
        Rest(self.channel_type.as_be_bytes().to_vec())
    }
}

/// BOLT 2: present in either message, and empty where nothing is fixed.
fn script_tlv(party: &PartyTerms) -> Rest {
    Rest(party.upfront_script.as_ref().map(|s| s.to_bytes()).unwrap_or_default())
}

/// `open_channel` and `accept_channel` together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The side that sent `open_channel`.
    pub opener: Side,
    /// The opener's proposal.
    pub proposal: Proposal,
    /// Each side's own terms.
    pub parties: Sides<PartyTerms>,
}

impl Agreement {
    /// The channel's parameters, once the funding is known.
    pub fn params(&self, funding: OutPoint) -> ChannelParams {
        ChannelParams {
            opener: self.opener,
            funding,
            amount: self.proposal.amount,
            push: self.proposal.push,
            channel_type: self.proposal.channel_type.clone(),
            terms: self.parties.clone().map(|party| party.terms),
            basepoints: self.parties.clone().map(|party| party.basepoints),
        }
    }
    /// What follows from that. Where the funding is, changes neither money nor keys.
    pub fn constants(&self, funding: OutPoint) -> Result<Constants, Unbuildable> {
        Constants::new(self.params(funding))
    }
    /// The money of `owner`'s first commitment.
    pub fn first_tally(&self, owner: Side) -> Result<Tally, Unbuildable> {
        let constants = self.constants(OutPoint::null())?;
        let balance = constants.first_balance();
        Ok(tally(&constants, owner, self.proposal.feerate, balance, std::iter::empty()))
    }
    /// The script that the funding must pay to.
    pub fn funding_script_pubkey(&self) -> ScriptBuf {
        let keys = self.parties.clone().map(|party| party.basepoints.funding);
        crate::keys::funding_script(&keys.local, &keys.remote).to_p2wsh()
    }
}

/// An agreement with its funding output: what the channel is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FundedAgreement {
    agreement: Agreement,
    constants: Constants,
}

impl FundedAgreement {
    /// Of this funding. The peer's choice is judged, ours is our own to answer for.
    pub fn new(agreement: Agreement, funding: OutPoint) -> Result<Self, Unbuildable> {
        let constants = agreement.constants(funding)?;
        Ok(Self { agreement, constants })
    }
    /// The channel's parameters.
    pub fn params(&self) -> &ChannelParams {
        &self.constants.params
    }
    /// The id that the channel has from now on.
    pub fn channel_id(&self) -> ChannelId {
        ChannelId::from_funding(&self.constants.params.funding)
    }
    /// The description of `side`'s commitment 0.
    pub fn commitment(&self, side: Side) -> CommitmentState {
        CommitmentState {
            side,
            number: CommitmentNumber::FIRST,
            point: self.agreement.parties[side].first_point,
            feerate: self.agreement.proposal.feerate,
            balance: self.constants.first_balance(),
            htlcs: Long(vec![]),
        }
    }
    /// The transaction that it describes.
    pub fn transaction(&self, side: Side) -> Result<Commitment, Unbuildable> {
        let state = self.commitment(side);
        let keys = CommitmentKeys::derive(&self.constants.params.basepoints, side, &state.point);
        commitment::build(&self.constants, keys, &state)
    }
    /// A signature of the peer's that does not hold. BOLT 1, error: with the transaction that it is
    /// not for.
    pub fn bad_signature(&self, message: &'static str) -> Refusal {
        match self.transaction(Side::Local) {
            Ok(built) => Refusal::Signature {
                message,
                transaction: bitcoin::consensus::encode::serialize_hex(&built.tx),
            },
            Err(why) => why.into(),
        }
    }
    /// Everything that commitments depend on from here.
    pub fn state(&self, local_signatures: CommitmentSignatures) -> ChannelState {
        ChannelState {
            params: self.constants.params.clone(),
            balance: self.constants.first_balance(),
            next_htlc_id: Sides::default(),
            htlcs: Long(vec![]),
            fees: Long(vec![FeeChange {
                feerate: self.agreement.proposal.feerate,
                stage: Stage::Irrevocable,
            }]),
            commitment: Sides::default(),
            revoked: Sides::default(),
            remote_point: self.agreement.parties.remote.first_point,
            remote_next_point: None,
            remote_secrets: Long(vec![]),
            local_signatures,
            last_sent: LastSent::Neither,
        }
    }
    /// What both sides agreed on, without the funding.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }
}
