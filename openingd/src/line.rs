//! openingd's three partners, and whose turn it is.

use crate::settings::Settings;
use channel::opening::Refusal;
use primitives::ChannelId;
use std::time::{Duration, Instant};
use subdaemon::{Failure, Hsm, Master, Orders, Peer, PeerRecord, Ready};
use wire::connectd::{AlsoRoute, PeerControl};
use wire::openingd::{CancelOpening, Opened, ToOpeningd};
use wire::{Decoded, Error, Message, OpeningMessage, Request, Warning};

/// Master, hsmd and peer of one attempt.
pub(crate) struct Partners {
    orders: Orders,
    master: Master,
    hsm: Hsm,
    peer: Peer,
    /// The channel_id of our errors: the temporary one, until BOLT 1 wants the channel's.
    id: ChannelId,
    /// Every id that is ours.
    ids: Vec<ChannelId>,
    /// The peer's last warning: where the connection ends, that is probably why.
    warned: Option<String>,
    /// How often it warned.
    warnings: u8,
    patience: Duration,
}

/// Something that a state of the negotiation must deal with.
#[allow(clippy::large_enum_variant, reason = "one at a time")]
enum Heard {
    Order(ToOpeningd),
    Message(OpeningMessage),
    Timeout,
}

/// Warnings of one peer's that are logged.
const MAX_WARNINGS: u8 = 20;

impl Partners {
    pub(crate) fn new(
        orders: Orders,
        master: Master,
        hsm: Hsm,
        peer: Peer,
        id: ChannelId,
        settings: &Settings,
    ) -> Self {
        let patience = settings.patience;
        Self { orders, master, hsm, peer, id, ids: vec![id], warned: None, warnings: 0, patience }
    }

    // ---- to the partners

    pub(crate) fn say<M: Message>(&mut self, message: &M) -> Result<(), Failure> {
        self.lost(|line| line.peer.send(message))
    }
    pub(crate) fn report<M: Message>(&self, message: &M) -> Result<(), Failure> {
        self.master.report(message)
    }
    pub(crate) fn ask<R: Request>(&mut self, question: &R) -> Result<R::Answer, Failure> {
        self.hsm.ask(question)
    }

    /// The channel has an id: what the peer says of it is for this socket. Before the peer can know
    /// it.
    pub(crate) fn also_route(&mut self, channel: ChannelId) -> Result<(), Failure> {
        self.ids.push(channel);
        self.lost(|line| line.peer.control(AlsoRoute { channel }))
    }
    /// BOLT 1, error: once `funding_created` is sent, the opener's errors name the channel itself.
    pub(crate) fn speak_of(&mut self, channel: ChannelId) {
        self.id = channel;
    }

    // ---- from the partners

    /// The peer's message of this kind, and nothing else.
    pub(crate) fn await_peer<T>(
        &mut self,
        awaited: &'static str,
        pick: impl FnOnce(OpeningMessage) -> Result<T, &'static str>,
    ) -> Result<T, Failure> {
        self.await_peer_for(awaited, self.patience, pick)
    }
    /// The same, with a patience of its own.
    pub(crate) fn await_peer_for<T>(
        &mut self,
        awaited: &'static str,
        patience: Duration,
        pick: impl FnOnce(OpeningMessage) -> Result<T, &'static str>,
    ) -> Result<T, Failure> {
        match self.next(Some(patience))? {
            Heard::Message(message) => pick(message).map_err(|m| out_of_turn(m, awaited)),
            Heard::Order(order) => Err(unexpected(order.name(), awaited)),
            Heard::Timeout => {
                Err(at_fault(Refusal::Silence { awaited, seconds: patience.as_secs() }))
            }
        }
    }

    /// The master's order of this kind. Here the peer has nothing to say but that it gives up.
    pub(crate) fn await_master<T>(
        &mut self,
        awaited: &'static str,
        pick: impl FnOnce(ToOpeningd) -> Result<T, &'static str>,
    ) -> Result<T, Failure> {
        match self.next(None)? {
            Heard::Order(order) => pick(order).map_err(|o| unexpected(o, awaited)),
            Heard::Message(message) => Err(out_of_turn(message.name(), awaited)),
            Heard::Timeout => Err(Failure::internal("silence without a deadline")),
        }
    }

    /// Handles what is the same in every state: cancelling, errors, warnings, messages to ignore.
    fn next(&mut self, patience: Option<Duration>) -> Result<Heard, Failure> {
        let deadline = patience.and_then(|p| Instant::now().checked_add(p));
        loop {
            match self.lost(|line| subdaemon::wait(&line.orders, &mut line.peer, deadline))? {
                Ready::Timeout => return Ok(Heard::Timeout),
                Ready::Orders => match self.orders.recv_as(ToOpeningd::decode_known)?.0 {
                    ToOpeningd::CancelOpening(CancelOpening { why }) => {
                        return Err(self.cancelled(why));
                    }
                    order @ (ToOpeningd::OpenInit(_)
                    | ToOpeningd::AcceptInit(_)
                    | ToOpeningd::CompleteFunding(_)
                    | ToOpeningd::AcceptProposed(_)) => return Ok(Heard::Order(order)),
                },
                Ready::Peer => match self.lost(|line| line.peer.try_recv())? {
                    None | Some(PeerRecord::Control(PeerControl::Drained(_))) => {}
                    Some(PeerRecord::Control(control)) => {
                        return Err(Failure::internal(format!("{} from connectd", control.name())));
                    }
                    Some(PeerRecord::Message(bytes)) => {
                        if let Some(message) = self.hear(&bytes)? {
                            return Ok(Heard::Message(message));
                        }
                    }
                },
            }
        }
    }

    /// One message of the peer's, unless it is of no matter.
    fn hear(&mut self, bytes: &[u8]) -> Result<Option<OpeningMessage>, Failure> {
        match OpeningMessage::decode(bytes).map_err(|e| at_fault(Refusal::Malformed(e)))? {
            Decoded::Known(OpeningMessage::Error(error)) => {
                if self.concerns_us(error.channel_id) {
                    return Err(Failure::PeerSaidError(error.text()));
                }
                log::info!("the peer's error about another channel: {}", error.text());
                Ok(None)
            }
            Decoded::Known(OpeningMessage::Warning(warning)) => {
                self.heed(&warning);
                Ok(None)
            }
            Decoded::Known(message) => Ok(Some(message)),
            // BOLT 1: odd ones are ignored, if they are unknown; those of BOLT 2 are not.
            Decoded::UnknownOdd(number) if wire::channel_of(bytes).is_none() => {
                log::debug!("ignoring unknown message {number}");
                Ok(None)
            }
            Decoded::UnknownOdd(number) => {
                let message = format!("message {number}");
                Err(at_fault(Refusal::OutOfTurn { message, awaited: "the opening of the channel" }))
            }
            Decoded::UnknownEven(number) => Err(at_fault(Refusal::UnknownEven(number))),
        }
    }

    /// BOLT 1: an unknown channel's error is ignored; zero means all channels.
    fn concerns_us(&self, channel: ChannelId) -> bool {
        channel == ChannelId::ALL || self.ids.contains(&channel)
    }
    /// BOLT 1: a warning ends nothing by itself.
    fn heed(&mut self, warning: &Warning) {
        if self.concerns_us(warning.channel_id) {
            // A peer may warn without limit; our log has a limit.
            if self.warnings < MAX_WARNINGS {
                self.warnings += 1;
                log::warn!("the peer warns: {}", warning.text());
            }
            self.warned = Some(warning.text());
        }
    }
    /// Where the connection ends after an error or a warning, that is the reason to report.
    fn lost<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        match f(self) {
            Err(Failure::ConnectionLost) => {
                let ids = self.ids.clone();
                let said = self.peer.last_words(|id| id == ChannelId::ALL || ids.contains(&id));
                match (said, self.warned.take()) {
                    (Failure::ConnectionLost, Some(warning)) => {
                        Err(Failure::PeerSaidWarning(warning))
                    }
                    (said, _) => Err(said),
                }
            }
            other => other,
        }
    }

    fn cancelled(&mut self, why: String) -> Failure {
        if self.peer.send(&Error::new(self.id, &why)).is_err() {
            log::debug!("could not tell the peer, the connection is lost: {why}");
        }
        Failure::Cancelled(why)
    }

    // ---- the end

    /// Gives the channel and the peer to the master. What the peer said and nobody read stays in
    /// the socket.
    pub(crate) fn hand_over(mut self, opened: &Opened) -> Result<(), Failure> {
        self.lost(|line| line.peer.written())?;
        self.master.hand_over(opened, self.peer.into_fd())
    }
    /// The peer's last word from us.
    ///
    /// A peer that hears an error may propose the channel again at once and under the same id, with
    /// less in it: that is for the next openingd.
    pub(crate) fn tell(&mut self, failure: &Failure) {
        self.peer.tell(self.id, failure);
        if self.peer.written().is_err() {
            log::debug!("could not tell the peer, the connection is lost: {failure}");
        }
    }
}

fn out_of_turn(message: &str, awaited: &'static str) -> Failure {
    at_fault(Refusal::OutOfTurn { message: message.to_owned(), awaited })
}
fn unexpected(order: &str, awaited: &'static str) -> Failure {
    Failure::internal(format!("the order {order} came where {awaited} is awaited"))
}

/// The peer's fault, as the peer hears it.
pub(crate) fn at_fault(why: impl Into<Refusal>) -> Failure {
    Failure::PeerError(why.into().to_string())
}
