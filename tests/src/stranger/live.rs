//! An open channel, seen from the stranger: honest verbs, and a memory of everything.

use super::connection::{describe, number};
use super::{Connection, Keys, Stranger, World};
use channel::{Channel, Reestablished, Resend};
use primitives::*;
use secp256k1::SECP256K1;
use wire::channel_data::*;
use wire::channeld::{FeePolicy, HtlcPolicy, Offer};
use wire::*;

/// A commitment of ours that the node signed. It is never forgotten, revoked or not.
#[derive(Clone)]
pub struct Mine {
    /// What it is.
    pub state: CommitmentState,
    /// What the node signed.
    pub signatures: CommitmentSignatures,
}

/// A channel with the node.
pub struct Live {
    /// Whose.
    pub stranger: Stranger,
    /// Its secrets.
    pub keys: Keys,
    /// The channel by the law: `Local` is the stranger.
    pub channel: Channel,
    /// From the funding outpoint (BOLT 2); the temporary one is gone.
    pub id: ChannelId,
    /// Its output.
    pub funding: OutPoint,
    /// What made that, if it was us.
    pub funding_tx: Option<bitcoin::Transaction>,
    /// Every commitment of ours, by number.
    pub ours: Vec<Mine>,
    /// Every commitment of the node's that we signed, by number.
    pub theirs: Vec<CommitmentState>,
    /// What the node revoked, by number.
    pub secrets: Vec<SecretKey>,
    /// Those that the node told us.
    pub preimages: Vec<(HtlcId, Preimage)>,
}

/// An honest peer's own bounds do not matter here.
fn anything() -> HtlcPolicy {
    HtlcPolicy { max_dust_exposure: Msat(u64::MAX), max_offered: 483, commit_time_ms: 0 }
}

impl Live {
    /// Its id, as text.
    pub fn name(&self) -> String {
        self.id.to_string()
    }
    /// The connection with the node. Panics where the test hung up.
    pub fn line(&mut self) -> &mut Connection {
        self.stranger.line()
    }
    /// Says something.
    pub fn say(&mut self, message: &impl Message) {
        self.stranger.say(message);
    }
    /// The scid of its funding.
    pub fn scid(&self, world: &World) -> ShortChannelId {
        let text = world.node.channel(&self.name())["short_channel_id"].clone();
        text.as_str().expect("the funding is confirmed").parse().unwrap()
    }

    /// The funding confirms, and both say `channel_ready`.
    pub fn lock_in(&mut self, world: &World) {
        world.mine(3);
        self.ready();
        world.node.wait_normal(&self.name());
    }
    /// Says `channel_ready` and hears the node's.
    pub fn ready(&mut self) {
        let second_per_commitment_point = self.keys.commitment_point(1);
        self.say(&ChannelReady {
            channel_id: self.id,
            second_per_commitment_point,
            short_channel_id: None,
        });
        self.hear_until(|m| matches!(m, ChannelMessage::ChannelReady(_)));
    }

    // ---- what we say

    /// Offers an HTLC, uncommitted.
    pub fn add(
        &mut self,
        amount: Msat,
        payment_hash: PaymentHash,
        expiry: BlockHeight,
        onion: OnionPacket,
    ) -> HtlcId {
        let offer = Offer { key: 0, amount, payment_hash, expiry, onion, path_key: None };
        let (next, id) = self.channel.offer_add(&offer, &anything()).unwrap();
        self.channel = next;
        self.say_add(id);
        id
    }
    /// Says again what was offered.
    pub fn say_add(&mut self, id: HtlcId) {
        let live = self.channel.htlc(Side::Local, id).expect("it was offered").clone();
        let message = self.add_message(&live);
        self.say(&message);
    }
    fn add_message(&self, live: &LiveHtlc) -> UpdateAddHtlc {
        UpdateAddHtlc {
            channel_id: self.id,
            id: live.htlc.id,
            amount: live.htlc.amount,
            payment_hash: live.htlc.payment_hash,
            cltv_expiry: live.htlc.expiry,
            onion: live.onion.clone(),
            path_key: live.path_key,
        }
    }
    /// Ends one of the node's, uncommitted.
    pub fn remove(&mut self, id: HtlcId, removal: Removal) {
        self.channel = self.channel.offer_removal(id, removal.clone()).unwrap();
        self.say_removal(id, &removal);
    }
    /// With its preimage.
    pub fn fulfil(&mut self, id: HtlcId, preimage: Preimage) {
        self.remove(id, Removal::Fulfilled { preimage });
    }
    /// With nothing.
    pub fn fail(&mut self, id: HtlcId) {
        self.remove(id, Removal::Failed { reason: vec![0; 292] });
    }
    fn say_removal(&mut self, id: HtlcId, removal: &Removal) {
        let channel_id = self.id;
        match removal.clone() {
            Removal::Fulfilled { preimage } => {
                self.say(&UpdateFulfillHtlc { channel_id, id, preimage, attribution_data: None })
            }
            Removal::Failed { reason } => {
                self.say(&UpdateFailHtlc { channel_id, id, reason, attribution_data: None });
            }
            Removal::Malformed { sha256_of_onion, failure_code } => {
                self.say(&UpdateFailMalformedHtlc {
                    channel_id,
                    id,
                    sha256_of_onion,
                    failure_code,
                });
            }
        }
    }
    /// Changes the feerate, uncommitted.
    pub fn fee(&mut self, feerate: u32) {
        let feerate = FeeratePerKw(feerate);
        self.channel = self.channel.offer_fee(feerate, &anything()).unwrap();
        let channel_id = self.id;
        self.say(&UpdateFee { channel_id, feerate });
    }
    /// What we sign a commitment of the node's with.
    pub fn sign(&self, state: &CommitmentState) -> CommitmentSignatures {
        let (constants, built) = (self.channel.constants(), self.built(state));
        let key = self.keys.htlc_at(&state.point);
        let kind = constants.format.htlc_sighash();
        CommitmentSignatures {
            signature: SECP256K1.sign_ecdsa(&built.sighash(constants), &self.keys.funding),
            htlcs: built
                .htlcs
                .iter()
                .map(|h| SECP256K1.sign_ecdsa(&h.sighash(kind), &key))
                .collect(),
        }
    }
    /// The next commitment of the node's, signed: as it should be said.
    pub fn commitment_signed(&mut self) -> CommitmentSigned {
        let (next, state) = self.channel.send_commit().unwrap();
        self.channel = next;
        let signatures = self.sign(&state);
        self.theirs.push(state);
        CommitmentSigned {
            channel_id: self.id,
            signature: signatures.signature,
            htlc_signatures: signatures.htlcs,
            funding_txid: None,
        }
    }
    /// Signs the node's next commitment.
    pub fn commit(&mut self) {
        let message = self.commitment_signed();
        self.say(&message);
    }
    /// Our next revocation: as it should be said.
    pub fn revocation(&mut self) -> RevokeAndAck {
        let (next, number, _) = self.channel.send_revocation().unwrap();
        self.channel = next;
        self.revocation_of(number.0)
    }
    fn revocation_of(&self, number: u64) -> RevokeAndAck {
        RevokeAndAck {
            channel_id: self.id,
            per_commitment_secret: self.keys.secret(number),
            next_per_commitment_point: self.keys.commitment_point(number + 2),
        }
    }
    /// Revokes our commitment before the newest.
    pub fn revoke(&mut self) {
        let message = self.revocation();
        self.say(&message);
    }

    // ---- what we hear

    /// The next message, and what it means for the channel. An honest node says nothing that is
    /// against the law.
    pub fn hear(&mut self) -> ChannelMessage {
        let bytes = self.line().hear().unwrap_or_else(|gone| panic!("the node hung up: {gone:?}"));
        let message = match ChannelMessage::decode(&bytes) {
            Ok(Decoded::Known(message)) => message,
            other => panic!("the node says {}: {other:?}", number(&bytes)),
        };
        self.take(&message);
        message
    }
    /// What a message means for the channel.
    pub fn take(&mut self, message: &ChannelMessage) {
        use ChannelMessage as M;
        self.channel = match message {
            M::UpdateAddHtlc(m) => self.channel.receive_add(m).unwrap(),
            M::UpdateFulfillHtlc(m) => {
                self.preimages.push((m.id, m.preimage));
                self.channel.receive_fulfill(m.id, m.preimage).unwrap()
            }
            M::UpdateFailHtlc(m) => self.channel.receive_fail(m.id, &m.reason).unwrap(),
            M::UpdateFailMalformedHtlc(m) => self
                .channel
                .receive_fail_malformed(m.id, m.sha256_of_onion, m.failure_code)
                .unwrap(),
            M::UpdateFee(m) => {
                let bounds = FeePolicy {
                    target: m.feerate,
                    min: FeeratePerKw(0),
                    max: FeeratePerKw(u32::MAX),
                };
                self.channel.receive_fee(m.feerate, &bounds, &anything()).unwrap()
            }
            M::CommitmentSigned(m) => self.take_commitment(m),
            M::RevokeAndAck(m) => {
                self.secrets.push(m.per_commitment_secret);
                let (secret, point) = (&m.per_commitment_secret, m.next_per_commitment_point);
                self.channel.receive_revocation(secret, point).unwrap().0
            }
            M::ChannelReady(m) => self.channel.receive_ready(m.second_per_commitment_point),
            M::Error(m) => panic!("the node says error: {}", m.text()),
            M::Warning(m) => panic!("the node says warning: {}", m.text()),
            M::FundingSigned(_)
            | M::Shutdown(_)
            | M::ClosingSigned(_)
            | M::Stfu(_)
            | M::TxAbort(_)
            | M::StartBatch(_)
            | M::ChannelReestablish(_)
            | M::AnnouncementSignatures(_) => return,
        };
    }
    fn take_commitment(&mut self, m: &CommitmentSigned) -> Channel {
        let point = self.keys.commitment_point(self.newest() + 1);
        let signatures =
            CommitmentSignatures { signature: m.signature, htlcs: m.htlc_signatures.clone() };
        let (next, state) = self.channel.receive_commit(point, signatures.clone()).unwrap();
        self.built(&state)
            .verify(next.constants(), &signatures)
            .expect("the node signs what holds");
        assert_eq!(state.number.0, self.ours.len() as u64);
        self.ours.push(Mine { state, signatures });
        next
    }
    /// Hears until this, answering nothing.
    pub fn hear_until(&mut self, is_it: impl Fn(&ChannelMessage) -> bool) -> ChannelMessage {
        loop {
            let message = self.hear();
            if is_it(&message) {
                return message;
            }
        }
    }
    /// Hears until the node signed our next commitment.
    pub fn hear_commit(&mut self) {
        self.hear_until(|m| matches!(m, ChannelMessage::CommitmentSigned(_)));
    }
    /// Hears until the node revoked.
    pub fn hear_revoke(&mut self) {
        self.hear_until(|m| matches!(m, ChannelMessage::RevokeAndAck(_)));
    }

    /// Nothing is under way but HTLCs that wait for their end.
    pub fn is_settled(&self) -> bool {
        let still = |l: &LiveHtlc| l.added == Stage::Irrevocable && l.removed.is_none();
        self.channel.htlcs().all(still)
            && !self.channel.awaits_revocation()
            && !self.channel.owes_revocation()
            && self.channel.storable().fees.0.len() == 1
    }
    /// Does its part of the dance as far as it can without hearing.
    pub fn dance(&mut self) {
        if self.channel.owes_revocation() {
            self.revoke();
        }
        if self.channel.can_commit() {
            self.commit();
        }
    }
    /// Commits and revokes until everything said is in force, and nothing is under way.
    pub fn settle(&mut self) {
        self.dance();
        while !self.is_settled() {
            self.hear();
            self.dance();
        }
    }
    /// Dances until so many HTLCs of the node's are there, and nothing else is under way.
    pub fn settle_with(&mut self, received: usize) {
        let count =
            |l: &Self| l.channel.htlcs().filter(|h| h.htlc.offered_by == Side::Remote).count();
        while count(self) != received || !self.is_settled() {
            self.hear();
            self.dance();
        }
    }
    /// Dances until none of our own is left.
    pub fn settle_without_ours(&mut self) {
        self.dance();
        while self.channel.htlcs().any(|h| h.htlc.offered_by == Side::Local) || !self.is_settled() {
            self.hear();
            self.dance();
        }
    }
    /// An HTLC, with both commitments.
    pub fn add_and_settle(
        &mut self,
        amount: Msat,
        hash: PaymentHash,
        expiry: BlockHeight,
        onion: OnionPacket,
    ) -> HtlcId {
        let id = self.add(amount, hash, expiry, onion);
        self.settle();
        id
    }

    // ---- after a reconnect

    /// `channel_reestablish`, as it should be.
    pub fn reestablish_message(&self) -> ChannelReestablish {
        let ours = self.channel.our_numbers();
        ChannelReestablish {
            channel_id: self.id,
            next_commitment_number: ours.next_commitment_number,
            next_revocation_number: ours.next_revocation_number,
            your_last_per_commitment_secret: *ours.your_last_per_commitment_secret.expose(),
            my_current_per_commitment_point: self.keys.commitment_point(self.newest()),
            next_funding: None,
            my_current_funding_locked: None,
        }
    }
    /// Comes back, and tells the truth.
    pub fn reconnect(&mut self, world: &World) {
        self.stranger.dial(world);
        self.channel = self.channel.after_disconnect();
        let ours = self.reestablish_message();
        self.say(&ours);
        let theirs: ChannelReestablish = self.line().expect();
        if self.channel.channel_ready_again(&theirs) {
            self.say(&ChannelReady {
                channel_id: self.id,
                second_per_commitment_point: self.keys.commitment_point(1),
                short_channel_id: None,
            });
        }
        match self.channel.reestablish(&theirs, true) {
            Reestablished::Nothing => {}
            Reestablished::Resend(steps) => steps.into_iter().for_each(|s| self.resend(s)),
            odd @ (Reestablished::WeAreBehind { .. }
            | Reestablished::TheyAreBehind { .. }
            | Reestablished::TheyLie(_)) => panic!("the node's channel_reestablish: {odd:?}"),
        }
    }
    fn resend(&mut self, step: Resend) {
        match step {
            Resend::Revocation { number } => {
                let message = self.revocation_of(number.0);
                self.say(&message);
            }
            Resend::Commitment { updates, state } => {
                for update in updates {
                    match update {
                        channel::Update::Add(live) => {
                            let message = self.add_message(&live);
                            self.say(&message);
                        }
                        channel::Update::Remove { id, removal } => self.say_removal(id, &removal),
                        channel::Update::Fee(feerate) => {
                            let channel_id = self.id;
                            self.say(&UpdateFee { channel_id, feerate });
                        }
                    }
                }
                let CommitmentSignatures { signature, htlcs } = self.sign(&state);
                let channel_id = self.id;
                self.say(&CommitmentSigned {
                    channel_id,
                    signature,
                    htlc_signatures: htlcs,
                    funding_txid: None,
                });
            }
        }
    }
    /// Reads on until the node says error or warning, or hangs up.
    pub fn end(&mut self) -> String {
        self.line().end()
    }
    /// Is this a message that an honest node may say at the end of a broken line? For failures.
    pub fn describe(bytes: &[u8]) -> String {
        describe(bytes)
    }
}

impl Live {
    /// Our signature on a mutual close to these scripts at this fee, when nothing is under way.
    pub fn closing_signed(&self, theirs: &ScriptBuf, ours: ScriptBuf, fee: u64) -> ClosingSigned {
        let constants = self.channel.constants();
        let state = wire::hsm::ClosingState {
            script: Sides { local: ours, remote: theirs.clone() },
            balance: self.channel.balance(),
            fee: Sat(fee),
        };
        let kept = channel::closing::our_choice(constants, &state).unwrap();
        let built = channel::closing::build(constants, &state, kept).unwrap();
        ClosingSigned {
            channel_id: self.id,
            fee_satoshis: Sat(fee),
            signature: SECP256K1.sign_ecdsa(&built.sighash(constants), &self.keys.funding),
            fee_range: None,
        }
    }
}
