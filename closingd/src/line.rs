//! closingd's three partners.

use crate::settings::Settings;
use primitives::ChannelId;
use std::time::{Duration, Instant};
use subdaemon::{Failure, Hsm, Master, Orders, Peer, PeerRecord, Ready};
use wire::connectd::PeerControl;
use wire::{ClosingMessage, ClosingSigned, Decoded, Message, Request, Warning};

/// Master, hsmd and peer of one closing.
pub(crate) struct Partners {
    orders: Orders,
    master: Master,
    hsm: Hsm,
    peer: Peer,
    channel: ChannelId,
    /// The peer's last warning: where the connection ends, that is probably why.
    warned: Option<String>,
    patience: Duration,
}

/// An event while a closing is negotiated, or after.
enum Heard {
    Message(ClosingMessage),
    /// An order of the master's, which has none to give: or it is gone.
    Order(Failure),
    Timeout,
}

impl Partners {
    pub(crate) fn new(
        orders: Orders,
        master: Master,
        hsm: Hsm,
        peer: Peer,
        channel: ChannelId,
        settings: &Settings,
    ) -> Self {
        Self { orders, master, hsm, peer, channel, warned: None, patience: settings.patience }
    }

    pub(crate) fn say<M: Message>(&mut self, message: &M) -> Result<(), Failure> {
        self.lost(|line| line.peer.send(message))
    }
    pub(crate) fn report<M: Message>(&self, message: &M) -> Result<(), Failure> {
        self.master.report(message)
    }
    pub(crate) fn status(&self, what: &str) -> Result<(), Failure> {
        self.master.status(Some(what), None)
    }
    /// An answer means: it is on disk.
    pub(crate) fn persist<R: Request>(&self, what: &R) -> Result<R::Answer, Failure> {
        self.master.ask(what)
    }
    pub(crate) fn ask_hsm<R: Request>(&mut self, question: &R) -> Result<R::Answer, Failure> {
        self.hsm.ask(question)
    }

    /// The peer's next `closing_signed`.
    pub(crate) fn await_offer(&mut self) -> Result<ClosingSigned, Failure> {
        let deadline = Instant::now().checked_add(self.patience);
        loop {
            match self.next(deadline)? {
                Heard::Message(ClosingMessage::ClosingSigned(signed)) => return Ok(signed),
                Heard::Message(message) => self.bear(&message)?,
                Heard::Order(why) => return Err(why),
                // BOLT 2, closing_signed: after how many silences the channel fails, is the
                // master's to count.
                Heard::Timeout => {
                    let seconds = self.patience.as_secs();
                    let text = format!("no closing_signed within {seconds} seconds");
                    return Err(Failure::PeerWarn(text));
                }
            }
        }
    }

    /// Handles messages other than `closing_signed`.
    fn bear(&mut self, message: &ClosingMessage) -> Result<(), Failure> {
        match message {
            ClosingMessage::Error(error) => {
                if self.concerns_us(error.channel_id) {
                    return Err(Failure::PeerSaidError(error.text()));
                }
                log::info!("the peer's error about another channel: {}", error.text());
                Ok(())
            }
            ClosingMessage::Warning(warning) => {
                self.heed(warning);
                Ok(())
            }
            // BOLT 2: redundant ones are ignored.
            ClosingMessage::ChannelReady(_) | ClosingMessage::AnnouncementSignatures(_) => Ok(()),
            // BOLT 2, shutdown: only one; channel_reestablish: only first.
            ClosingMessage::Shutdown(_) | ClosingMessage::ChannelReestablish(_) => {
                Err(out_of_turn(message.name()))
            }
            ClosingMessage::ClosingSigned(_) => Ok(()),
        }
    }

    fn next(&mut self, deadline: Option<Instant>) -> Result<Heard, Failure> {
        loop {
            match self.lost(|line| subdaemon::wait(&line.orders, &mut line.peer, deadline))? {
                Ready::Timeout => return Ok(Heard::Timeout),
                Ready::Orders => {
                    let why = match self.orders.recv() {
                        Ok(_) => Failure::internal("an order while a closing is negotiated"),
                        Err(gone) => gone,
                    };
                    return Ok(Heard::Order(why));
                }
                Ready::Peer => match self.lost(|line| line.peer.try_recv())? {
                    None | Some(PeerRecord::Control(PeerControl::Drained(_))) => {}
                    Some(PeerRecord::Control(control)) => {
                        return Err(Failure::internal(format!("{} from connectd", control.name())));
                    }
                    Some(PeerRecord::Message(bytes)) => {
                        if let Some(message) = hear(&bytes)? {
                            return Ok(Heard::Message(message));
                        }
                    }
                },
            }
        }
    }

    /// BOLT 1: an unknown channel's error is ignored; zero means all channels.
    fn concerns_us(&self, channel: ChannelId) -> bool {
        channel == ChannelId::ALL || channel == self.channel
    }
    /// BOLT 1: a warning ends nothing by itself.
    fn heed(&mut self, warning: &Warning) {
        if self.concerns_us(warning.channel_id) {
            log::warn!("the peer warns: {}", warning.text());
            self.warned = Some(warning.text());
        }
    }
    /// Where the connection ends after an error or a warning, that is the reason to report.
    fn lost<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        match f(self) {
            Err(Failure::ConnectionLost) => {
                let channel = self.channel;
                let said = self.peer.last_words(|id| id == ChannelId::ALL || id == channel);
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

    /// It is agreed. A peer that had not heard it yet may say something more: that changes nothing.
    /// Until it hangs up, the master does, or nothing came for a while.
    pub(crate) fn linger(mut self, patience: Duration) -> Result<(), Failure> {
        if self.peer.written().is_err() {
            log::debug!("could not send our last message to the peer: the connection is lost");
            return Ok(());
        }
        let deadline = Instant::now().checked_add(patience);
        loop {
            match self.next(deadline) {
                Ok(Heard::Message(message)) => {
                    log::debug!("after the agreement: {}", message.name())
                }
                Ok(Heard::Order(_) | Heard::Timeout) => return Ok(()),
                Err(why) => {
                    log::debug!("after the agreement: {why}");
                    return Ok(());
                }
            }
        }
    }

    /// The peer's last word from us.
    pub(crate) fn tell(&mut self, failure: &Failure) {
        self.peer.tell(self.channel, failure);
        if self.peer.written().is_err() {
            log::debug!("could not tell the peer, the connection is lost: {failure}");
        }
    }
}

/// One message of the peer's, unless it is of no matter.
fn hear(bytes: &[u8]) -> Result<Option<ClosingMessage>, Failure> {
    match ClosingMessage::decode(bytes).map_err(|e| Failure::PeerWarn(e.to_string()))? {
        Decoded::Known(message) => Ok(Some(message)),
        // BOLT 1: odd ones are ignored, if they are unknown. BOLT 2, shutdown: there are no updates
        // any more.
        Decoded::UnknownOdd(number) if wire::channel_of(bytes).is_none() => {
            log::debug!("ignoring unknown message {number}");
            Ok(None)
        }
        Decoded::UnknownOdd(number) | Decoded::UnknownEven(number) => {
            Err(out_of_turn(&format!("message {number}")))
        }
    }
}

fn out_of_turn(message: &str) -> Failure {
    Failure::PeerWarn(format!("{message} came where closing_signed is awaited"))
}
