//! After a new connection: who lost what, and what is said again in which order. BOLT 2, "Message
//! Retransmission".

use crate::channel::{Channel, stage_of_removal};
use crate::fault::PeerFault;
use crate::keys::index_of;
use crate::stage::Which;
use primitives::*;
use wire::ChannelReestablish;
use wire::channel_data::*;

/// An update as it is said (again).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// update_add_htlc.
    Add(Box<LiveHtlc>),
    /// update_fulfill_htlc, update_fail_htlc or update_fail_malformed_htlc.
    Remove {
        /// Which of the peer's.
        id: HtlcId,
        /// How.
        removal: Removal,
    },
    /// update_fee.
    Fee(FeeratePerKw),
}

/// A step that the peer has not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resend {
    /// revoke_and_ack: the secret of this number, and our point for the number two after.
    Revocation {
        /// Which is revoked.
        number: CommitmentNumber,
    },
    /// These updates, then commitment_signed for this, signed anew.
    Commitment {
        /// Updates that it commits to for the first time.
        updates: Vec<Update>,
        /// The commitment to sign: the same one as before.
        state: CommitmentState,
    },
}

/// Our reaction to the peer's channel_reestablish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reestablished {
    /// Both know the same.
    Nothing,
    /// The peer lacks these, in this order.
    Resend(Vec<Resend>),
    /// The peer proved that it knows more than we do: never publish, never sign; wait for it to
    /// close.
    WeAreBehind {
        /// The numbers and secrets that show it.
        detail: String,
    },
    /// The peer lost data. No force close by us: it has to say so by an error.
    TheyAreBehind {
        /// The numbers and secrets that show it.
        detail: String,
    },
    /// Nothing explains what it says.
    TheyLie(PeerFault),
}

/// The numbers and the secret of our channel_reestablish, without our point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurNumbers {
    /// The next commitment that the peer will sign.
    pub next_commitment_number: u64,
    /// The next of its commitments that it will revoke.
    pub next_revocation_number: u64,
    /// The last secret that it gave, or zeroes.
    pub your_last_per_commitment_secret: Secret<32>,
}

impl Channel {
    /// Ours.
    pub fn our_numbers(&self) -> OurNumbers {
        let last = self.revoked.remote.previous();
        OurNumbers {
            next_commitment_number: self.commitment.local.next().0,
            next_revocation_number: self.revoked.remote.0,
            your_last_per_commitment_secret: last
                .and_then(|number| self.secrets.get(index_of(number)))
                .unwrap_or(Secret::new([0; 32])),
        }
    }

    /// BOLT 2: is `channel_ready` to be said again?
    pub fn channel_ready_again(&self, theirs: &ChannelReestablish) -> bool {
        theirs.next_commitment_number == 1 && self.our_numbers().next_commitment_number == 1
    }

    /// The secret that the peer claims to have from us, and its number: hsmd is asked whether it is
    /// (`CheckSecret`).
    pub fn claimed_secret(theirs: &ChannelReestablish) -> Option<(CommitmentNumber, Secret<32>)> {
        let number = CommitmentNumber(theirs.next_revocation_number).previous()?;
        (number <= CommitmentNumber::LAST)
            .then(|| (number, Secret::new(theirs.your_last_per_commitment_secret)))
    }

    /// Judges the peer's numbers. `secret_holds`: what hsmd said of [`Channel::claimed_secret`];
    /// without a claim it is not looked at. To be called on a channel
    /// [`Channel::after_disconnect`].
    pub fn reestablish(&self, theirs: &ChannelReestablish, secret_holds: bool) -> Reestablished {
        let (next_commitment, next_revocation) =
            (theirs.next_commitment_number, theirs.next_revocation_number);
        let (signed, revoked) = (self.commitment.remote.0, self.revoked.local.0);
        if next_commitment == 0 {
            let (got, expected) = (0, signed + 1);
            return lie("next_commitment_number", got, expected);
        }
        match Self::claimed_secret(theirs) {
            None if next_revocation == 0 => {
                if theirs.your_last_per_commitment_secret != [0; 32] {
                    return lie("your_last_per_commitment_secret for number 0", 1, 0);
                }
            }
            None => return lie("next_revocation_number", next_revocation, revoked),
            Some((number, _)) if !secret_holds => {
                return Reestablished::TheyLie(PeerFault::ReestablishSecret { number });
            }
            Some((number, _)) if next_revocation > revoked => {
                let detail = format!(
                    "the peer knows our secret for commitment {number}, and we remember revoking none from {revoked} on"
                );
                return Reestablished::WeAreBehind { detail };
            }
            Some(_) => {}
        }
        if next_commitment > signed + 1 {
            return lie("next_commitment_number", next_commitment, signed + 1);
        }
        // A peer that revoked the commitment before has received this one.
        let lost_commitment =
            next_commitment < signed || (next_commitment == signed && !self.awaits_revocation());
        if lost_commitment || next_revocation + 1 < revoked {
            let detail = format!(
                "the peer expects commitment {next_commitment} and revocation {next_revocation} where it had {signed} and {}",
                revoked.saturating_sub(1)
            );
            return Reestablished::TheyAreBehind { detail };
        }
        self.what_to_resend(next_commitment == signed, next_revocation != revoked)
    }

    fn what_to_resend(&self, commitment: bool, revocation: bool) -> Reestablished {
        let mut steps = Vec::with_capacity(2);
        if let Some(number) = self.revoked.local.previous().filter(|_| revocation) {
            steps.push(Resend::Revocation { number });
        }
        if let Some(state) = self.remote_commitment(self.commitment.remote).filter(|_| commitment) {
            steps.push(Resend::Commitment { updates: self.unacknowledged(), state });
        }
        // BOLT 2: in the order in which they went out first.
        match self.last_sent {
            LastSent::Revocation => steps.reverse(),
            LastSent::Commitment | LastSent::Neither => {}
        }
        if steps.is_empty() { Reestablished::Nothing } else { Reestablished::Resend(steps) }
    }

    /// Updates that our last commitment_signed committed to for the first time. Removals first,
    /// since adds may need what they free; a lower feerate before the adds, a higher one after
    /// them.
    fn unacknowledged(&self) -> Vec<Update> {
        let mut updates = Vec::new();
        for live in self.htlcs().filter(|l| l.htlc.offered_by == Side::Remote) {
            if let Some(r) =
                live.removed.as_ref().filter(|_| stage_of_removal(live) == Some(Stage::InReceivers))
            {
                updates.push(Update::Remove { id: live.htlc.id, removal: r.removal.clone() });
            }
        }
        let ours = self.constants.params.opener == Side::Local;
        let fee = self.fees.iter().find(|f| ours && f.stage == Stage::InReceivers);
        let rises = fee.is_some_and(|f| f.feerate > self.feerate_in(Side::Remote, Which::Oldest));
        let fee = fee.map(|f| Update::Fee(f.feerate));
        if !rises {
            updates.extend(fee.clone());
        }
        let adds = self
            .htlcs()
            .filter(|l| l.htlc.offered_by == Side::Local && l.added == Stage::InReceivers);
        updates.extend(adds.map(|l| Update::Add(Box::new(l.clone()))));
        if rises {
            updates.extend(fee);
        }
        updates
    }
}

const fn lie(what: &'static str, got: u64, expected: u64) -> Reestablished {
    Reestablished::TheyLie(PeerFault::Reestablish { what, got, expected })
}
