//! The first words of a connection: those of a channel that was just opened, or channel_reestablish
//! and what it takes to be as far as before. BOLT 2, "Message Retransmission".

use crate::live::{Live, Phase};
use crate::peer::broke;
use channel::phase::ChannelPhase;
use channel::{Channel, Reestablished, Resend};
use primitives::*;
use subdaemon::Failure;
use wire::channeld::{self, TheyAreBehind, WeAreBehind};
use wire::hsm::{CheckSecret, GetCommitmentPoint, SignRemoteCommitment};
use wire::*;

impl Live {
    /// openingd just ended here. As accepter the peer awaits our `funding_signed`: it is stored, so
    /// it may go.
    pub(crate) fn first_words(&mut self, signed: Option<Signature>) -> Result<(), Failure> {
        if let Some(signature) = signed {
            self.peer.send(&FundingSigned { channel_id: self.id, signature })?;
        }
        self.open_up()
    }

    /// Says where we are.
    pub(crate) fn say_reestablish(&mut self) -> Result<(), Failure> {
        let ours = self.channel.our_numbers();
        let number = self.channel.commitment().local;
        let point = self.hsm.ask(&GetCommitmentPoint { number })?;
        self.peer.send(&ChannelReestablish {
            channel_id: self.id,
            next_commitment_number: ours.next_commitment_number,
            next_revocation_number: ours.next_revocation_number,
            your_last_per_commitment_secret: *ours.your_last_per_commitment_secret.expose(),
            my_current_per_commitment_point: point,
            next_funding: None,
            my_current_funding_locked: None,
        })
    }

    /// The peer says where it is.
    pub(crate) fn on_reestablish(&mut self, theirs: &ChannelReestablish) -> Result<(), Failure> {
        if self.phase != Phase::AwaitsReestablish {
            return Err(Failure::PeerWarn("a second channel_reestablish".to_owned()));
        }
        if let Some(text) = self.failed.take() {
            return self.say_failed(&text);
        }
        let secret_holds = match Channel::claimed_secret(theirs) {
            Some((number, secret)) => self.hsm.ask(&CheckSecret { number, secret })?,
            None => false,
        };
        let data_is_old = self.channel_phase() == ChannelPhase::DataLoss;
        match self.channel.after_disconnect().reestablish(theirs, secret_holds) {
            // hsmd would sign none of it, and reveal no secret.
            Reestablished::Nothing
            | Reestablished::Resend(_)
            | Reestablished::TheyAreBehind { .. }
                if data_is_old =>
            {
                self.ask_to_close(theirs, "the peer did not say so".to_owned())
            }
            Reestablished::Nothing => self.resume(theirs, Vec::new()),
            Reestablished::Resend(steps) => self.resume(theirs, steps),
            Reestablished::WeAreBehind { detail } => self.ask_to_close(theirs, detail),
            Reestablished::TheyAreBehind { detail } => {
                self.master.report(&TheyAreBehind { detail })?;
                // BOLT 2: it has to say by an error that it wants us to close.
                self.phase = Phase::Mute;
                Ok(())
            }
            Reestablished::TheyLie(fault) => Err(broke(fault)),
        }
    }

    /// Our data is old. BOLT 2, "Message Retransmission": an error asks the peer to close, which we
    /// must not.
    fn ask_to_close(&mut self, theirs: &ChannelReestablish, detail: String) -> Result<(), Failure> {
        let remote_point = theirs.my_current_per_commitment_point;
        self.master.report(&WeAreBehind { remote_point, detail })?;
        self.say_failed("we lost data: please close this channel")
    }

    /// Says again what the peer lacks, in the old order.
    fn resume(&mut self, theirs: &ChannelReestablish, steps: Vec<Resend>) -> Result<(), Failure> {
        if self.ready.local && self.channel.channel_ready_again(theirs) {
            self.say_channel_ready()?;
        }
        for step in steps {
            match step {
                Resend::Revocation { number } => self.say_revocation(number)?,
                Resend::Commitment { updates, state } => {
                    let signatures = self.hsm.ask(&SignRemoteCommitment { state })?;
                    for update in updates {
                        self.say_update(update)?;
                    }
                    self.say_commitment(signatures)?;
                }
            }
        }
        // BOLT 2: an interactive transaction that we do not know of is to be forgotten.
        if theirs.next_funding.is_some() {
            self.say_tx_abort()?;
        }
        let funding = self.channel.constants().params.funding.txid;
        let locked = theirs.my_current_funding_locked.as_ref();
        if locked.is_some_and(|l| l.txid == funding && l.retransmit_flags & 1 == 1) {
            self.announcement.is_wanted();
        }
        self.open_up()
    }

    /// From here on updates may flow.
    fn open_up(&mut self) -> Result<(), Failure> {
        self.phase = Phase::Open;
        self.master.report(&channeld::Reestablished {})?;
        self.answer_shutdown()?;
        self.when_ready()
    }

    /// Says that this channel is over, and listens no more: the peer knows, or hears it now.
    pub(crate) fn say_failed(&mut self, text: &str) -> Result<(), Failure> {
        self.phase = Phase::Mute;
        self.peer.send(&Error::new(self.id, text))
    }
}
