//! The rules of BOLT 2, "Channel Establishment v1", and this node's own limits, as pure questions
//! about messages.

use super::agreement::{Agreement, PartyTerms, Proposal};
use super::refusal::Refusal;
use crate::shutdown::Forms;
use crate::{Format, MAX_HTLCS, RESERVE_PART};
use primitives::*;
use wire::channel_data::Terms;
use wire::openingd::{OpenInit, OpeningPolicy};
use wire::{AcceptChannel, FundingCreated, OpenChannel, Rest};

/// BOLT 2, option_support_large_channel: without it a channel is smaller than this.
pub const LARGE: Sat = Sat(1 << 24);
/// BOLT 2: below this some output that a commitment may have is not relayed. BOLT 3, "Dust Limits".
pub const LEAST_DUST_LIMIT: Sat = Sat(354);
/// The largest minimum_depth that we accept: a day. BOLT 2 leaves "unreasonably large" to us.
pub const MAX_MINIMUM_DEPTH: u32 = 144;
/// Why a channel_type with option_zeroconf is refused.
pub const NOT_TRUSTED: &str = "an unconfirmed channel is not for everybody";

/// Network, features and policy that both messages are checked against.
#[derive(Clone, Debug)]
pub struct Negotiated {
    /// Our chain.
    pub network: Network,
    /// The features that each side offered in `init`.
    pub features: Sides<Features>,
    /// Our own bounds.
    pub policy: OpeningPolicy,
    /// The id of the negotiation.
    pub temporary_id: ChannelId,
}

impl Negotiated {
    /// BOLT 9: both offered it, or we did as compulsory and the peer is still here.
    pub fn has(&self, bit: FeatureBit) -> bool {
        let Sides { local, remote } = &self.features;
        local.has_bit(bit & !1) || (local.offers(bit) && remote.offers(bit))
    }
    /// Which scripts a mutual close may pay to.
    pub fn forms(&self) -> Forms {
        Forms {
            any_segwit: self.has(feature::SHUTDOWN_ANYSEGWIT),
            op_return: self.has(feature::SIMPLE_CLOSE),
        }
    }
    /// A party's terms with what binds it. BOLT 2, shutdown: where not both have
    /// option_upfront_shutdown_script, nobody holds the other to a script.
    pub fn binding(&self, mut party: PartyTerms) -> PartyTerms {
        if !self.has(feature::UPFRONT_SHUTDOWN_SCRIPT) {
            party.upfront_script = None;
        }
        party
    }
    /// The largest funding, and why.
    fn largest(&self) -> (Sat, &'static str) {
        let small = Sat(LARGE.0 - 1);
        if !self.policy.large_channels || !self.features.local.offers(feature::LARGE_CHANNELS) {
            (small, "the largest funding without option_support_large_channel")
        } else {
            (Sat::MAX_MONEY, "all the money there is")
        }
    }

    /// The reserve that we ask for in a channel of this size: a hundredth, never below the
    /// policy's, and never so low that either side's outputs could all be dust.
    pub fn our_reserve(&self, amount: Sat, theirs: Option<&PartyTerms>) -> Sat {
        Sat(amount.0 / RESERVE_PART).max(self.policy.terms.reserve).max(self.least_reserve(theirs))
    }
    /// BOLT 2: no reserve of ours may be below a dust limit. (In accept_channel: below either.)
    pub fn least_reserve(&self, theirs: Option<&PartyTerms>) -> Sat {
        let remote = theirs.map_or(Sat::ZERO, |party| party.terms.dust_limit);
        self.policy.terms.dust_limit.max(remote)
    }

    // ---- before open_channel is sent

    /// May we propose this? What is wrong is for whoever asked us, the peer has heard nothing yet.
    pub fn may_propose(&self, init: &OpenInit) -> Result<(), Refusal> {
        let (largest, which_is) = if self.has(feature::LARGE_CHANNELS) {
            self.largest()
        } else {
            (
                Sat(LARGE.0 - 1),
                "the largest funding while not both have option_support_large_channel",
            )
        };
        at_most("funding_satoshis", init.amount.0, largest.0, which_is)?;
        self.judge_push(init.amount, init.push)?;
        // BOLT 2, open_channel: a type should hold nothing that was not negotiated.
        let bits = init.channel_type.bits().filter(|bit| !feature::is_assumed(*bit));
        let missing = bits.filter(|bit| !self.has(*bit)).count();
        if missing > 0 {
            return Err(unsuitable(&init.channel_type, "not both sides offer all of it"));
        }
        let format = judge_type(&init.channel_type, init.announce)?;
        if let Some(script) = &init.upfront_script {
            self.judge_script(script)?;
        }
        let has = init.amount.msat().saturating_sub(init.push);
        let (fee, anchors) = (init.feerate.fee(format.commitment_weight(0)), format.anchors());
        if has < fee.saturating_add(anchors).msat() {
            return Err(Refusal::Unaffordable { has, fee, anchors });
        }
        Ok(())
    }

    // ---- open_channel

    /// BOLT 2, open_channel: the receiver may refuse what is too low for timely processing, or
    /// unreasonably high.
    fn judge_feerate(&self, feerate: FeeratePerKw, kind: &Features) -> Result<(), Refusal> {
        let policy = &self.policy;
        let anchors = kind.offers(feature::ANCHORS);
        let min = if anchors { policy.min_anchors_feerate } else { policy.min_feerate };
        let (feerate, name) = (u64::from(feerate.0), "feerate_per_kw");
        at_least(name, feerate, min.0.into(), "the lowest that we take for timely")?;
        at_most(
            name,
            feerate,
            policy.max_feerate.0.into(),
            "the highest that we take for reasonable",
        )
    }

    /// Reads the peer's `open_channel`, and refuses what stands in it alone.
    pub fn judge_open(&self, open: &OpenChannel) -> Result<(Proposal, PartyTerms), Refusal> {
        if open.chain_hash != self.network.chain_hash() {
            return Err(Refusal::Chain { chain_hash: open.chain_hash, network: self.network });
        }
        self.judge_id(open.temporary_channel_id)?;
        if open.temporary_channel_id == ChannelId::ALL {
            return Err(Refusal::NoId { field: "temporary_channel_id" });
        }
        if self.has(feature::DUAL_FUND) {
            return Err(Refusal::DualFund);
        }
        let (largest, which_is) = self.largest();
        at_most("funding_satoshis", open.funding_satoshis.0, largest.0, which_is)?;
        self.judge_push(open.funding_satoshis, open.push_msat)?;
        let announce = open.channel_flags & Proposal::ANNOUNCE != 0;
        let channel_type = type_in(&open.channel_type)?;
        let format = judge_type(&channel_type, announce)?;
        // BOLT 9: option_static_remotekey is assumed of everybody.
        let bits = channel_type.bits().filter(|bit| !feature::is_assumed(*bit));
        if bits.filter(|bit| !self.features.local.offers(*bit)).count() > 0 {
            return Err(unsuitable(&channel_type, "we do not offer all of it"));
        }
        self.judge_feerate(open.feerate_per_kw, &channel_type)?;
        let party = PartyTerms::from(open);
        self.judge_party(&party, format)?;
        // BOLT 2, accept_channel: our dust limit must not be above the reserve that we are to keep.
        let ours = self.policy.terms.dust_limit.0;
        at_least(
            "channel_reserve_satoshis",
            party.terms.reserve.0,
            ours,
            "our dust_limit_satoshis",
        )?;
        let proposal = Proposal {
            amount: open.funding_satoshis,
            push: open.push_msat,
            feerate: open.feerate_per_kw,
            announce,
            channel_type,
        };
        Ok((proposal, party))
    }

    /// All that can be said of a proposal before we have keys for it: [`Self::judge_open`] and
    /// [`Self::judge_together`] against the terms that we would answer with. Where the master has
    /// nothing to add, openingd refuses nothing that passes here.
    pub fn judge_proposal(&self, open: &OpenChannel) -> Result<Proposal, Refusal> {
        let (proposal, theirs) = self.judge_open(open)?;
        // BOLT 2, open_channel: option_zeroconf is for those whom we trust, and nobody is trusted
        // so.
        if proposal.channel_type.has_bit(feature::ZEROCONF) {
            return Err(unsuitable(&proposal.channel_type, NOT_TRUSTED));
        }
        let theirs = self.binding(theirs);
        let reserve = self.our_reserve(proposal.amount, Some(&theirs));
        // Which keys are ours changes no amount: the peer's own stand in for them.
        let ours = PartyTerms {
            terms: Terms { reserve, ..self.policy.terms.clone() },
            upfront_script: None,
            ..theirs.clone()
        };
        let parties = Sides { local: ours, remote: theirs };
        let agreement = Agreement { opener: Side::Remote, proposal, parties };
        self.judge_together(&agreement)?;
        Ok(agreement.proposal)
    }

    // ---- accept_channel

    /// Reads the peer's `accept_channel`, and refuses what contradicts the `open_channel` that we
    /// said.
    pub fn judge_accept(
        &self,
        proposal: &Proposal,
        ours: &PartyTerms,
        accept: &AcceptChannel,
    ) -> Result<PartyTerms, Refusal> {
        self.judge_id(accept.temporary_channel_id)?;
        let channel_type = type_in(&accept.channel_type)?;
        if channel_type != proposal.channel_type {
            let proposed = proposal.channel_type.clone();
            return Err(Refusal::OtherChannelType { channel_type, proposed });
        }
        let (depth, which_is) = if channel_type.has_bit(feature::ZEROCONF) {
            (0, "what a channel_type with option_zeroconf means")
        } else {
            (MAX_MINIMUM_DEPTH, "the most that we wait for")
        };
        at_most("minimum_depth", accept.minimum_depth.into(), depth.into(), which_is)?;
        let party = PartyTerms::from(accept);
        self.judge_party(&party, judge_type(&channel_type, proposal.announce)?)?;
        let (dust, reserve) = (ours.terms.dust_limit.0, ours.terms.reserve.0);
        at_least(
            "channel_reserve_satoshis",
            party.terms.reserve.0,
            dust,
            "the dust_limit_satoshis of open_channel",
        )?;
        at_most(
            "dust_limit_satoshis",
            party.terms.dust_limit.0,
            reserve,
            "the channel_reserve_satoshis of open_channel",
        )?;
        Ok(party)
    }

    // ---- funding_created

    /// The funding output that the peer's `funding_created` names.
    pub fn judge_funding(&self, created: &FundingCreated) -> Result<OutPoint, Refusal> {
        self.judge_id(created.temporary_channel_id)?;
        let vout = created.funding_output_index.into();
        let funding = OutPoint { txid: created.funding_txid, vout };
        let id = ChannelId::from_funding(&funding);
        let no_transaction = AsRef::<[u8; 32]>::as_ref(&funding.txid) == &[0; 32];
        if no_transaction || id == ChannelId::ALL {
            return Err(Refusal::Funding { funding, why: "there is no such transaction" });
        }
        // BOLT 2, open_channel: the temporary id is that of no channel.
        if id == self.temporary_id {
            return Err(Refusal::Funding {
                funding,
                why: "its channel_id is the temporary_channel_id",
            });
        }
        Ok(funding)
    }

    /// Every message but the first carries the id of the negotiation.
    fn judge_id(&self, got: ChannelId) -> Result<(), Refusal> {
        if got == self.temporary_id {
            return Ok(());
        }
        Err(Refusal::OtherId { field: "temporary_channel_id", got, expected: self.temporary_id })
    }

    fn judge_push(&self, amount: Sat, push: Msat) -> Result<(), Refusal> {
        at_most("push_msat", push.0, amount.msat().0, "1000 * funding_satoshis")
    }

    fn judge_script(&self, script: &ScriptBuf) -> Result<(), Refusal> {
        if self.forms().allow(script) {
            return Ok(());
        }
        Err(Refusal::Script { script: script.clone() })
    }

    /// Checks the fields that both messages have. BOLT 2: "the same requirements as their
    /// counterparts in open_channel".
    fn judge_party(&self, party: &PartyTerms, format: Format) -> Result<(), Refusal> {
        let terms = &party.terms;
        at_most(
            "to_self_delay",
            terms.to_self_delay.into(),
            self.policy.max_to_self_delay.into(),
            "the longest that we wait for our own",
        )?;
        let htlcs = u64::from(terms.max_accepted_htlcs);
        at_most("max_accepted_htlcs", htlcs, MAX_HTLCS as u64, "the most that BOLT 2 allows")?;
        at_least("max_accepted_htlcs", htlcs, 1, "without which nothing can be paid")?;
        let dust = terms.dust_limit.0;
        at_least("dust_limit_satoshis", dust, LEAST_DUST_LIMIT.0, "the least that BOLT 2 allows")?;
        at_most(
            "dust_limit_satoshis",
            dust,
            terms.reserve.0,
            "channel_reserve_satoshis of the same message",
        )?;
        // BOLT 2, open_channel: not what is too large. Each commitment of the peer may cost us that
        // much of our balance.
        let highest = self.policy.max_dust_limit.0;
        at_most("dust_limit_satoshis", dust, highest, "the highest dust limit that we take")?;
        let exposure = self.policy.max_dust_exposure.sat_floor().0;
        at_most("dust_limit_satoshis", dust, exposure, "the most that we let be trimmed")?;
        let odd = |script: &&ScriptBuf| !self.forms().allow_from_peer(script, format);
        match party.upfront_script.as_ref().filter(odd) {
            Some(script) => Err(Refusal::Script { script: script.clone() }),
            None => Ok(()),
        }
    }

    // ---- both together

    /// Whether what both said makes a channel worth having.
    pub fn judge_together(&self, agreement: &Agreement) -> Result<(), Refusal> {
        let opener = agreement.opener;
        let balance = agreement.constants(OutPoint::null())?.first_balance();
        for owner in Side::BOTH {
            let tally = agreement.first_tally(owner)?;
            // BOLT 2, open_channel: the opener pays the whole fee of the first commitment. BOLT 3,
            // "Fee Payment".
            if balance[opener] < tally.cost().msat() {
                let (fee, anchors) = (tally.fee, tally.anchors);
                return Err(Refusal::Unaffordable { has: balance[opener], fee, anchors });
            }
            for reserve in Side::BOTH.map(|side| agreement.parties[side].terms.reserve) {
                if Side::BOTH.into_iter().all(|side| tally.rest[side].sat_floor() <= reserve) {
                    return Err(Refusal::NothingAboveReserve {
                        opener: tally.rest[opener],
                        accepter: tally.rest[!opener],
                        reserve,
                    });
                }
            }
        }
        self.judge_capacity(agreement)
    }

    /// The usable capacity: each side's balance above its reserve, after the opener has paid the
    /// fee.
    fn judge_capacity(&self, agreement: &Agreement) -> Result<(), Refusal> {
        let cost = agreement.first_tally(Side::Local)?.cost();
        let Sides { local, remote } = &agreement.parties;
        let kept = local.terms.reserve.saturating_add(remote.terms.reserve).saturating_add(cost);
        let capacity = agreement.proposal.amount.saturating_sub(kept);
        let minimum = self.policy.min_capacity;
        if capacity < minimum {
            return Err(Refusal::Capacity { capacity, minimum });
        }
        at_most(
            "htlc_minimum_msat",
            remote.terms.htlc_minimum.0,
            capacity.msat().0,
            "the usable capacity of the channel in msat",
        )?;
        at_least(
            "max_htlc_value_in_flight_msat",
            remote.terms.max_in_flight.0,
            minimum.msat().0,
            "the least usable capacity in msat",
        )
    }
}

/// BOLT 2, "Defined Channel Types": is it one, and may a channel that is (not) announced have it?
fn judge_type(channel_type: &Features, announce: bool) -> Result<Format, Refusal> {
    let format = Format::of(channel_type)
        .ok_or_else(|| unsuitable(channel_type, "it is no type that we know"))?;
    if announce && channel_type.has_bit(feature::SCID_ALIAS) {
        return Err(unsuitable(channel_type, "option_scid_alias is for channels not announced"));
    }
    Ok(format)
}

/// BOLT 2: neither message is without.
fn type_in(tlv: &Option<Rest>) -> Result<Features, Refusal> {
    tlv.as_ref().map(|t| Features::from_be_bytes(&t.0)).ok_or(Refusal::NoChannelType)
}

fn unsuitable(channel_type: &Features, why: &'static str) -> Refusal {
    Refusal::ChannelType { channel_type: channel_type.clone(), why }
}

fn at_least(
    field: &'static str,
    got: u64,
    minimum: u64,
    which_is: &'static str,
) -> Result<(), Refusal> {
    if got < minimum { Err(Refusal::TooSmall { field, got, minimum, which_is }) } else { Ok(()) }
}
fn at_most(
    field: &'static str,
    got: u64,
    maximum: u64,
    which_is: &'static str,
) -> Result<(), Refusal> {
    if got > maximum { Err(Refusal::TooLarge { field, got, maximum, which_is }) } else { Ok(()) }
}
