//! Openings, in both roles, step by step.

use super::connection::{describe, number};
use super::{Connection, Keys, Live, Mine, Stranger, World};
use bitcoin::Amount;
use channel::commitment::{Commitment, build};
use channel::keys::{CommitmentKeys, funding_script};
use channel::{Channel, Constants};
use primitives::*;
use secp256k1::SECP256K1;
use wire::channel_data::*;
use wire::{AcceptChannel, Error, FundingCreated, FundingSigned, Long, Message, OpenChannel, Rest};

/// What a stranger wants of a channel.
#[derive(Clone)]
pub struct Plan {
    /// Secrets of the channel that is opened.
    pub keys: Keys,
    /// How much.
    pub sat: u64,
    /// What the accepter has of it at once.
    pub push_msat: u64,
    /// With anchors, or with static_remotekey alone?
    pub anchors: bool,
    /// Will everybody be told of it?
    pub public: bool,
    /// What the first commitments pay.
    pub feerate: u32,
    /// What we demand of the node.
    pub terms: Terms,
}

/// BOLT 2, "Defined Channel Types".
pub fn channel_type(anchors: bool) -> Features {
    let plain = Features::none().with(feature::STATIC_REMOTEKEY);
    if anchors { plain.with(feature::ANCHORS) } else { plain }
}

impl Plan {
    /// A million satoshi, four tenths of it the node's. The number is that of its keys.
    pub fn new(n: u64) -> Self {
        Self {
            keys: Keys::new(n),
            sat: 1_000_000,
            push_msat: 400_000_000,
            anchors: true,
            public: false,
            feerate: 1000,
            terms: Terms {
                dust_limit: Sat(354),
                max_in_flight: Msat(1_000_000_000_000),
                reserve: Sat(10_000),
                htlc_minimum: Msat(0),
                to_self_delay: 6,
                max_accepted_htlcs: 483,
            },
        }
    }
    /// Without anchors.
    pub fn plain(mut self) -> Self {
        self.anchors = false;
        self
    }
    /// To be announced.
    pub fn announced(mut self) -> Self {
        self.public = true;
        self
    }
    /// Of this size.
    pub fn sized(mut self, sat: u64, push_sat: u64) -> Self {
        (self.sat, self.push_msat) = (sat, push_sat * 1000);
        self
    }
    /// As it is said.
    pub fn open_channel(&self, id: ChannelId) -> OpenChannel {
        let Terms {
            dust_limit,
            max_in_flight,
            reserve,
            htlc_minimum,
            to_self_delay,
            max_accepted_htlcs,
        } = self.terms.clone();
        let points = self.keys.basepoints();
        OpenChannel {
            chain_hash: Network::Regtest.chain_hash(),
            temporary_channel_id: id,
            funding_satoshis: Sat(self.sat),
            push_msat: Msat(self.push_msat),
            dust_limit_satoshis: dust_limit,
            max_htlc_value_in_flight_msat: max_in_flight,
            channel_reserve_satoshis: reserve,
            htlc_minimum_msat: htlc_minimum,
            feerate_per_kw: FeeratePerKw(self.feerate),
            to_self_delay,
            max_accepted_htlcs,
            funding_pubkey: points.funding,
            revocation_basepoint: points.revocation,
            payment_basepoint: points.payment,
            delayed_payment_basepoint: points.delayed_payment,
            htlc_basepoint: points.htlc,
            first_per_commitment_point: self.keys.commitment_point(0),
            channel_flags: u8::from(self.public),
            upfront_shutdown_script: None,
            channel_type: Some(Rest(channel_type(self.anchors).as_be_bytes().to_vec())),
        }
    }
    /// The answer to the node's proposal, as it should be.
    pub fn accept_channel(&self, id: ChannelId) -> AcceptChannel {
        let open = self.open_channel(id);
        AcceptChannel {
            temporary_channel_id: id,
            dust_limit_satoshis: open.dust_limit_satoshis,
            max_htlc_value_in_flight_msat: open.max_htlc_value_in_flight_msat,
            channel_reserve_satoshis: open.channel_reserve_satoshis,
            htlc_minimum_msat: open.htlc_minimum_msat,
            minimum_depth: 1,
            to_self_delay: open.to_self_delay,
            max_accepted_htlcs: open.max_accepted_htlcs,
            funding_pubkey: open.funding_pubkey,
            revocation_basepoint: open.revocation_basepoint,
            payment_basepoint: open.payment_basepoint,
            delayed_payment_basepoint: open.delayed_payment_basepoint,
            htlc_basepoint: open.htlc_basepoint,
            first_per_commitment_point: open.first_per_commitment_point,
            upfront_shutdown_script: None,
            channel_type: open.channel_type,
        }
    }
}

/// What one side said of itself, from either message.
macro_rules! said {
    ($m:expr) => {
        (
            Terms {
                dust_limit: $m.dust_limit_satoshis,
                max_in_flight: $m.max_htlc_value_in_flight_msat,
                reserve: $m.channel_reserve_satoshis,
                htlc_minimum: $m.htlc_minimum_msat,
                to_self_delay: $m.to_self_delay,
                max_accepted_htlcs: $m.max_accepted_htlcs,
            },
            Basepoints {
                funding: $m.funding_pubkey,
                revocation: $m.revocation_basepoint,
                payment: $m.payment_basepoint,
                delayed_payment: $m.delayed_payment_basepoint,
                htlc: $m.htlc_basepoint,
            },
            $m.first_per_commitment_point,
        )
    };
}

/// An opening whose funding is not known yet: both sides said what they want.
pub struct Draft {
    /// Who opens or accepts.
    pub stranger: Stranger,
    /// Our wishes.
    pub plan: Plan,
    /// The id of the negotiation.
    pub temporary: ChannelId,
    /// Who is the opener, seen from the stranger.
    pub opener: Side,
    theirs: (Terms, Basepoints, Point),
    funding: Option<OutPoint>,
}

impl Stranger {
    /// Proposes a channel, and hears that the node accepts: later, where many strangers have
    /// proposed just now.
    pub fn propose(mut self, plan: Plan) -> Draft {
        let temporary =
            ChannelId(plan.keys.commitment_point(0).serialize()[1..].try_into().unwrap());
        let accept = crate::wait_for("the node to accept", || {
            let answer = self.propose_once(&plan, temporary);
            let later = answer.as_ref().is_err_and(|text| text.contains("try again later"));
            if later {
                std::thread::sleep(std::time::Duration::from_secs(1));
                return None;
            }
            Some(answer.expect("the node accepts"))
        });
        self.drafted(plan, temporary, &accept)
    }
    /// Proposes a channel; the node's answer, or the text of its error. Errors about other channels
    /// are of no matter.
    pub fn propose_once(
        &mut self,
        plan: &Plan,
        temporary: ChannelId,
    ) -> Result<AcceptChannel, String> {
        self.say(&plan.open_channel(temporary));
        loop {
            let answer = self.line().hear().expect("the node stays on the line");
            match number(&answer) {
                AcceptChannel::NUMBER => {
                    return Ok(AcceptChannel::take_body(&answer[2..]).unwrap());
                }
                Error::NUMBER if answer.get(2..34) != Some(&temporary.0[..]) => {}
                _ => return Err(describe(&answer)),
            }
        }
    }
    /// The node accepted what was proposed.
    pub fn drafted(self, plan: Plan, temporary: ChannelId, accept: &AcceptChannel) -> Draft {
        let theirs = said!(accept.clone());
        Draft { stranger: self, plan, temporary, opener: Side::Local, theirs, funding: None }
    }
    /// Hears the node's proposal, and accepts.
    pub fn accept(self, plan: Plan) -> Draft {
        self.accept_but(plan, |_| {})
    }
    /// The same with something else in the answer.
    pub fn accept_but(mut self, mut plan: Plan, change: impl FnOnce(&mut AcceptChannel)) -> Draft {
        let open: OpenChannel = self.line().expect();
        plan.sat = open.funding_satoshis.0;
        plan.push_msat = open.push_msat.0;
        plan.feerate = open.feerate_per_kw.0;
        let kind = Features::from_be_bytes(&open.channel_type.clone().unwrap().0);
        plan.anchors = kind.has_bit(feature::ANCHORS);
        let temporary = open.temporary_channel_id;
        let mut accept = plan.accept_channel(temporary);
        change(&mut accept);
        plan.terms = said!(accept.clone()).0;
        self.say(&accept);
        let theirs = said!(open);
        Draft { stranger: self, plan, temporary, opener: Side::Remote, theirs, funding: None }
    }
    /// An honest opening from first to last: a channel whose funding is in the mempool.
    pub fn open(self, world: &World, plan: Plan) -> Live {
        let mut draft = self.propose(plan);
        let tx = world.pay(&[draft.output()]);
        draft.create(OutPoint { txid: tx.compute_txid(), vout: 0 });
        let mut live = draft.signed();
        world.send(&tx);
        live.funding_tx = Some(tx);
        live
    }
}

impl Draft {
    /// The connection with the node. Panics where the test hung up.
    pub fn line(&mut self) -> &mut Connection {
        self.stranger.line()
    }
    /// What the funding must pay.
    pub fn output(&self) -> (ScriptBuf, Amount) {
        let ours = self.plan.keys.basepoints().funding;
        let script = funding_script(&ours, &self.theirs.1.funding).to_p2wsh();
        (script, Amount::from_sat(self.plan.sat))
    }
    fn params(&self, funding: OutPoint) -> ChannelParams {
        ChannelParams {
            opener: self.opener,
            funding,
            amount: Sat(self.plan.sat),
            push: Msat(self.plan.push_msat),
            channel_type: channel_type(self.plan.anchors),
            terms: Sides { local: self.plan.terms.clone(), remote: self.theirs.0.clone() },
            basepoints: Sides { local: self.plan.keys.basepoints(), remote: self.theirs.1.clone() },
        }
    }
    fn first(&self, side: Side, funding: OutPoint) -> (Constants, CommitmentState, Commitment) {
        let constants = Constants::new(self.params(funding)).unwrap();
        let point = match side {
            Side::Local => self.plan.keys.commitment_point(0),
            Side::Remote => self.theirs.2,
        };
        let state = CommitmentState {
            side,
            number: CommitmentNumber::FIRST,
            point,
            feerate: FeeratePerKw(self.plan.feerate),
            balance: constants.first_balance(),
            htlcs: Long(vec![]),
        };
        let keys = CommitmentKeys::derive(&constants.params.basepoints, side, &point);
        let built = build(&constants, keys, &state).unwrap();
        (constants, state, built)
    }
    /// Our signature on the node's first commitment over this funding.
    pub fn signature(&self, funding: OutPoint) -> Signature {
        let (constants, _, built) = self.first(Side::Remote, funding);
        SECP256K1.sign_ecdsa(&built.sighash(&constants), &self.plan.keys.funding)
    }
    /// `funding_created`, as it should be.
    pub fn funding_created(&self, funding: OutPoint) -> FundingCreated {
        FundingCreated {
            temporary_channel_id: self.temporary,
            funding_txid: funding.txid,
            funding_output_index: u16::try_from(funding.vout).unwrap(),
            signature: self.signature(funding),
        }
    }
    /// Says it.
    pub fn create(&mut self, funding: OutPoint) {
        let message = self.funding_created(funding);
        self.stranger.say(&message);
        self.funding = Some(funding);
    }
    /// As opener: hears `funding_signed`, and has a channel.
    pub fn signed(mut self) -> Live {
        let message: FundingSigned = self.line().expect();
        self.begin(message.signature)
    }
    /// As accepter: hears `funding_created`.
    pub fn created(&mut self) -> FundingCreated {
        let message: FundingCreated = self.line().expect();
        self.take_created(&message);
        message
    }
    /// It was heard.
    pub fn take_created(&mut self, message: &FundingCreated) {
        let vout = message.funding_output_index.into();
        self.funding = Some(OutPoint { txid: message.funding_txid, vout });
    }
    /// `funding_signed`, as it should be.
    pub fn funding_signed(&self) -> FundingSigned {
        let funding = self.funding.expect("the funding is known");
        FundingSigned {
            channel_id: ChannelId::from_funding(&funding),
            signature: self.signature(funding),
        }
    }
    /// As accepter: says `funding_signed`, and has a channel.
    pub fn sign(mut self, created: &FundingCreated) -> Live {
        let message = self.funding_signed();
        self.stranger.say(&message);
        self.begin(created.signature)
    }
    fn begin(self, signature: Signature) -> Live {
        let funding = self.funding.expect("the funding is known");
        let (constants, mine, built) = self.first(Side::Local, funding);
        let signatures = CommitmentSignatures { signature, htlcs: vec![] };
        built.verify(&constants, &signatures).expect("the node's first signature holds");
        let (_, theirs, _) = self.first(Side::Remote, funding);
        let state = ChannelState {
            balance: constants.first_balance(),
            params: constants.params.clone(),
            next_htlc_id: Sides::default(),
            htlcs: Long(vec![]),
            fees: Long(vec![FeeChange {
                feerate: FeeratePerKw(self.plan.feerate),
                stage: Stage::Irrevocable,
            }]),
            commitment: Sides::default(),
            revoked: Sides::default(),
            remote_point: self.theirs.2,
            remote_next_point: None,
            remote_secrets: Long(vec![]),
            local_signatures: signatures.clone(),
            last_sent: LastSent::Neither,
        };
        Live {
            id: ChannelId::from_funding(&funding),
            funding,
            stranger: self.stranger,
            keys: self.plan.keys,
            channel: Channel::new(state).unwrap(),
            ours: vec![Mine { state: mine, signatures }],
            theirs: vec![theirs],
            secrets: vec![],
            funding_tx: None,
            preimages: vec![],
        }
    }
}
