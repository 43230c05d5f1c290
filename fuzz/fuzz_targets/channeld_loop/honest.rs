//! A peer that keeps to the law: the channel as its own node has it. While it hears only channeld,
//! and says only what follows, each word of channeld's must be lawful.

use super::{CHANNEL_ID, ENDS, ONION_KEY, point, preimage};
use crate::ends::signature;
use crate::noise_keys::{id, key};
use channel::Channel;
use onion::{ForwardPayload, Hop};
use primitives::*;
use wire::channel_data::*;
use wire::channeld::*;
use wire::*;

/// What the peer has nothing against.
const FEES: FeePolicy =
    FeePolicy { target: FeeratePerKw(1000), min: FeeratePerKw(0), max: FeeratePerKw(u32::MAX) };
const POLICY: HtlcPolicy =
    HtlcPolicy { max_dust_exposure: Msat(u64::MAX), max_offered: 483, commit_time_ms: 0 };

pub struct Honest {
    /// `None`: something else was said in its name.
    channel: Option<Channel>,
    /// Onions made: none is made twice.
    onions: u8,
}

/// An onion that can be peeled, and says where to go on.
pub fn onion(session: u8, amount: Msat, payment_hash: &PaymentHash) -> Option<OnionPacket> {
    let payload = ForwardPayload {
        short_channel_id: ShortChannelId(7),
        amount,
        cltv_expiry: BlockHeight(120),
    };
    let hop = Hop { node: id(ONION_KEY), payload: payload.to_bytes() };
    let built = ::onion::build(&key(session.max(1)), &[hop], &payment_hash.0, 1300).ok()?;
    built.onion_packet()
}

impl Honest {
    /// The channel of this state, seen from the other end.
    pub fn new(state: &ChannelState) -> Self {
        let mirrored = ChannelState {
            params: ENDS.mirrored.params.clone(),
            balance: state.balance.swap(),
            remote_point: point(&ENDS.ours, 0),
            remote_next_point: Some(point(&ENDS.ours, 1)),
            ..state.clone()
        };
        Self { channel: Some(Channel::new(mirrored).expect("a good channel")), onions: 0 }
    }

    /// Something was said in its name that it would not have said.
    pub fn is_betrayed(&mut self) {
        self.channel = None;
    }
    /// How many of its own commitments it has revoked.
    pub fn revoked(&self) -> Option<u64> {
        self.channel.as_ref().map(|channel| channel.revoked().local.0)
    }

    /// What channeld says.
    pub fn hears(&mut self, message: &ChannelMessage) {
        use ChannelMessage as M;
        let Some(channel) = &self.channel else { return };
        let next = match message {
            M::UpdateAddHtlc(m) => channel.receive_add(m),
            M::UpdateFulfillHtlc(m) => channel.receive_fulfill(m.id, m.preimage),
            M::UpdateFailHtlc(m) => channel.receive_fail(m.id, &m.reason),
            M::UpdateFailMalformedHtlc(m) => {
                channel.receive_fail_malformed(m.id, m.sha256_of_onion, m.failure_code)
            }
            M::UpdateFee(m) => channel.receive_fee(m.feerate, &FEES, &POLICY),
            M::CommitmentSigned(m) => {
                let point = point(&ENDS.theirs, channel.commitment().local.0 + 1);
                let (signature, htlcs) = (m.signature, m.htlc_signatures.clone());
                let signatures = CommitmentSignatures { signature, htlcs };
                channel.receive_commit(point, signatures).map(|(next, _)| next)
            }
            M::RevokeAndAck(m) => channel
                .receive_revocation(&m.per_commitment_secret, m.next_per_commitment_point)
                .map(|(next, _)| next),
            _ => return,
        };
        let next = next.unwrap_or_else(|why| panic!("{} to an honest peer: {why}", message.name()));
        self.channel = Some(next);
    }

    /// It offers an HTLC.
    pub fn adds(&mut self, amount: Msat, hash_of: u8) -> Option<Vec<u8>> {
        self.onions = self.onions.wrapping_add(1) % 200;
        let payment_hash = preimage(hash_of).hash();
        let onion = onion(self.onions, amount, &payment_hash)?;
        let expiry = BlockHeight(150);
        let offer =
            Offer { key: 1, amount, payment_hash, expiry, onion: onion.clone(), path_key: None };
        let (next, id) = self.channel.as_ref()?.offer_add(&offer, &POLICY).ok()?;
        self.channel = Some(next);
        let (channel_id, cltv_expiry, path_key) = (*CHANNEL_ID, expiry, None);
        let m = UpdateAddHtlc { channel_id, id, amount, payment_hash, cltv_expiry, onion, path_key };
        Some(m.encode())
    }

    /// It ends an HTLC that channeld offered: the preimage, or not.
    pub fn ends(&mut self, which: u8) -> Option<Vec<u8>> {
        let channel = self.channel.as_ref()?;
        let ours = |h: &&LiveHtlc| h.htlc.offered_by == Side::Remote && h.removed.is_none();
        let id = channel.htlcs().filter(ours).nth(usize::from(which % 4))?.htlc.id;
        let known = (0..4).map(preimage);
        let hash = channel.htlc(Side::Remote, id)?.htlc.payment_hash;
        let preimage = known.into_iter().find(|p| p.hash() == hash).filter(|_| which < 128);
        let (channel_id, attribution_data) = (*CHANNEL_ID, None);
        let (removal, message) = match preimage {
            Some(preimage) => (
                Removal::Fulfilled { preimage },
                UpdateFulfillHtlc { channel_id, id, preimage, attribution_data }.encode(),
            ),
            None => {
                let reason = vec![7; 64];
                let m = UpdateFailHtlc { channel_id, id, reason: reason.clone(), attribution_data };
                (Removal::Failed { reason }, m.encode())
            }
        };
        self.channel = Some(channel.offer_removal(id, removal).ok()?);
        Some(message)
    }

    /// What it owes: a revocation, or a commitment that has what is new.
    pub fn owes(&mut self) -> Option<Vec<u8>> {
        let channel = self.channel.as_ref()?;
        let channel_id = *CHANNEL_ID;
        if channel.owes_revocation() {
            let (next, number, _) = channel.send_revocation().ok()?;
            self.channel = Some(next);
            let per_commitment_secret = ENDS.theirs.secret(number)?;
            let next_per_commitment_point = point(&ENDS.theirs, number.0 + 2);
            let m = RevokeAndAck { channel_id, per_commitment_secret, next_per_commitment_point };
            return Some(m.encode());
        }
        if !channel.can_commit() {
            return None;
        }
        let (next, state) = channel.send_commit().ok()?;
        self.channel = Some(next);
        let signed = ENDS.theirs.sign(&ENDS.mirrored, &state);
        let signed = signed.unwrap_or(CommitmentSignatures { signature: signature(), htlcs: vec![] });
        let (signature, htlc_signatures, funding_txid) = (signed.signature, signed.htlcs, None);
        let m = CommitmentSigned { channel_id, signature, htlc_signatures, funding_txid };
        Some(m.encode())
    }
}
