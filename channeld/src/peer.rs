//! Messages of the peer: each goes to its handler, and each violation of a BOLT to the failure that
//! it deserves.

use crate::live::{Live, Phase};
use channel::PeerFault;
use channel::phase::{Input, Rule, rule, why_refused};
use subdaemon::{Failure, PeerRecord};
use wire::connectd::PeerControl;
use wire::*;

/// Of one connection, in the log.
const MAX_WARNINGS: u8 = 20;

/// How the law is broken decides what it costs. A proposal that we do not take binds nobody: BOLT 2
/// leaves the choice, so the connection ends and the channel lives. What would come again after
/// every reconnect ends the channel.
pub(crate) fn broke(fault: PeerFault) -> Failure {
    use PeerFault as F;
    let text = format!("{}: {fault}", fault.law());
    match fault {
        F::AmountTooSmall { .. }
        | F::TooManyHtlcs { .. }
        | F::TooMuchInFlight { .. }
        | F::Expiry { .. }
        | F::HtlcId { .. }
        | F::Unaffordable { .. }
        | F::NoSuchHtlc { .. }
        | F::TooEarly { .. }
        | F::AlreadyRemoved { .. }
        | F::Preimage { .. }
        | F::NotBadOnion { .. }
        | F::FeeNotYours
        | F::FeeOutOfBounds { .. }
        | F::FeeUnaffordable { .. }
        | F::EmptyCommitment { .. }
        | F::CommitmentTooEarly { .. }
        | F::RevocationUnasked { .. } => Failure::PeerWarn(text),
        F::FeeDustExposure { .. }
        | F::DustExposure { .. }
        | F::SignatureCount { .. }
        | F::Overspent { .. }
        | F::WrongSecret { .. }
        | F::NotOfTheChain { .. }
        | F::Reestablish { .. }
        | F::ReestablishSecret { .. } => Failure::PeerError(text),
    }
}

fn warn(text: &str) -> Failure {
    Failure::PeerWarn(text.to_owned())
}

/// BOLT's name of a message: `UpdateFee` is `update_fee`.
fn bolt_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

impl Live {
    /// One record of the peer's socket.
    pub(crate) fn on_record(&mut self, record: PeerRecord) -> Result<(), Failure> {
        let bytes = match record {
            PeerRecord::Message(bytes) => bytes,
            PeerRecord::Control(PeerControl::Drained(_)) => return Ok(()),
            PeerRecord::Control(
                PeerControl::AlsoRoute(_) | PeerControl::CloseConnection(_) | PeerControl::Leave(_),
            ) => {
                return Err(Failure::internal("connectd says what only daemons say"));
            }
        };
        let mute = self.phase == Phase::Mute;
        match ChannelMessage::decode(&bytes) {
            // BOLT 1: an error ends the channel, whatever else is wrong with it.
            Ok(Decoded::Known(ChannelMessage::Error(e))) => Err(Failure::PeerSaidError(e.text())),
            Ok(_) | Err(_) if mute => Ok(()),
            Ok(Decoded::Known(ChannelMessage::Warning(w))) => {
                // A peer may warn without limit; our log has a limit.
                if self.warnings < MAX_WARNINGS {
                    self.warnings += 1;
                    log::info!("the peer warns: {}", w.text());
                }
                Ok(())
            }
            Ok(Decoded::Known(message)) if channel_of(&bytes) == Some(self.id) => {
                self.on_message(message)
            }
            Ok(Decoded::Known(message)) => {
                Err(Failure::PeerWarn(format!("{} is of another channel", message.name())))
            }
            Ok(Decoded::UnknownOdd(number)) => {
                log::trace!("ignoring message {number}");
                Ok(())
            }
            Ok(Decoded::UnknownEven(number)) => {
                Err(Failure::PeerWarn(format!("message {number} is not known here")))
            }
            // BOLT 2, revoke_and_ack: a secret that is no key fails the channel, like one of
            // another point.
            Err(malformed) if self.is_our_revocation(&bytes) => {
                Err(Failure::PeerError(format!("BOLT 2, revoke_and_ack: {malformed}")))
            }
            Err(malformed) => Err(Failure::PeerWarn(malformed.to_string())),
        }
    }

    fn is_our_revocation(&self, bytes: &[u8]) -> bool {
        self.phase == Phase::Open
            && bytes.starts_with(&RevokeAndAck::NUMBER.to_be_bytes())
            && channel_of(bytes) == Some(self.id)
    }

    fn on_message(&mut self, message: ChannelMessage) -> Result<(), Failure> {
        use ChannelMessage as M;
        log::trace!("from the peer: {}", message.name());
        if self.phase == Phase::AwaitsReestablish && !matches!(message, M::ChannelReestablish(_)) {
            let text = format!("{} before channel_reestablish", message.name());
            return Err(Failure::PeerWarn(text));
        }
        let phase = self.channel_phase();
        let input = Input::from(&message);
        match rule(phase, input) {
            // Both are for the handler: it knows what was agreed on before.
            Rule::Taken | Rule::Unchanged => {}
            Rule::Ignored => return Ok(()),
            Rule::Refused | Rule::BeforeShutdown | Rule::WithOutput | Rule::Waits | Rule::First => {
                let text = format!("{} {}", bolt_name(message.name()), why_refused(phase, input));
                return Err(Failure::PeerWarn(text));
            }
        }
        if self.batch.is_some() && !matches!(message, M::CommitmentSigned(_)) {
            return Err(Failure::PeerWarn(format!("{} within a batch", message.name())));
        }
        match message {
            M::Error(_) | M::Warning(_) => Err(Failure::internal("error and warning came before")),
            M::FundingSigned(_) | M::ClosingSigned(_) | M::Stfu(_) => {
                Err(Failure::internal("the table of phases refuses this message"))
            }
            M::ChannelReestablish(m) => self.on_reestablish(&m),
            M::ChannelReady(m) => self.on_channel_ready(&m),
            M::AnnouncementSignatures(m) => self.on_announcement(m),
            M::Shutdown(m) => self.on_shutdown(m),
            M::StartBatch(m) => self.on_start_batch(&m),
            M::TxAbort(m) => self.on_tx_abort(&m),
            M::UpdateAddHtlc(m) => self.on_add(&m),
            M::UpdateFulfillHtlc(m) => self.on_fulfill(&m),
            M::UpdateFailHtlc(m) => {
                self.channel = self.channel.receive_fail(m.id, &m.reason).map_err(broke)?;
                Ok(())
            }
            M::UpdateFailMalformedHtlc(m) => {
                let (sha, code) = (m.sha256_of_onion, m.failure_code);
                self.channel =
                    self.channel.receive_fail_malformed(m.id, sha, code).map_err(broke)?;
                Ok(())
            }
            M::UpdateFee(m) => {
                let (bounds, policy) = (&self.fees, &self.policy);
                self.channel =
                    self.channel.receive_fee(m.feerate, bounds, policy).map_err(broke)?;
                Ok(())
            }
            M::CommitmentSigned(m) => match self.unbatched(m)? {
                Some(m) => self.on_commitment_signed(m),
                None => Ok(()),
            },
            M::RevokeAndAck(m) => self.on_revoke_and_ack(m),
        }
    }

    fn on_add(&mut self, add: &UpdateAddHtlc) -> Result<(), Failure> {
        // BOLT 2, shutdown: its sender adds nothing after it.
        if self.closing.is_said_by_peer() {
            return Err(warn("update_add_htlc after shutdown"));
        }
        self.channel = self.channel.receive_add(add).map_err(broke)?;
        Ok(())
    }

    /// BOLT 2, tx_abort: echoed, though there is nothing to forget. It is not answered for ever.
    fn on_tx_abort(&mut self, m: &TxAbort) -> Result<(), Failure> {
        log::info!(
            "the peer sends tx_abort, and no transaction is negotiated: {} bytes",
            m.data.len()
        );
        self.say_tx_abort()
    }

    /// Once per connection.
    pub(crate) fn say_tx_abort(&mut self) -> Result<(), Failure> {
        if self.aborted {
            return Ok(());
        }
        self.aborted = true;
        let data = b"no transaction is being made".to_vec();
        self.peer.send(&TxAbort { channel_id: self.id, data })
    }
}
