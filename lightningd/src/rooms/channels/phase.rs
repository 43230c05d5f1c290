//! Which phase of its life a channel is in, and what it takes in that phase.

use crate::rooms::channels::Channel;
use crate::rooms::channels::state::{State, StateTrust};
use crate::sys::fatal::Stop;
use channel::phase::{Input, Rule, rule, why_refused};
use primitives::*;
use wire::channel_data::ChannelPhase;

impl Channel {
    /// The column of the table `channel::phase` that this channel is in.
    pub fn phase(&self) -> ChannelPhase {
        if self.trust == StateTrust::Lost {
            return ChannelPhase::DataLoss;
        }
        match self.state {
            // The database was restored from before the closing negotiation.
            State::AwaitingLockin | State::Normal | State::ShuttingDown if self.closing_begun => {
                ChannelPhase::Negotiating
            }
            State::AwaitingLockin => ChannelPhase::AwaitingLockin,
            State::Normal => ChannelPhase::Normal,
            State::ClosingSigExchange if self.closing_begun => ChannelPhase::Negotiating,
            // Nothing was signed: the peer's `update_fee` may have crossed our last
            // `revoke_and_ack`.
            State::ShuttingDown | State::ClosingSigExchange => ChannelPhase::ShuttingDown,
            State::ClosingComplete => ChannelPhase::ClosingAgreed,
            State::AwaitingUnilateral | State::FundingSpendSeen | State::Onchain
                if self.closing_begun =>
            {
                ChannelPhase::ClosingFailed
            }
            State::AwaitingUnilateral => ChannelPhase::AwaitingUnilateral,
            State::FundingSpendSeen | State::Onchain => ChannelPhase::Onchain,
            State::Closed => ChannelPhase::Closed,
        }
    }
    /// True if the received HTLC of this id may be accepted or forwarded in this phase. BOLT 2,
    /// shutdown.
    pub fn lets(&self, input: Input, id: HtlcId) -> bool {
        self.lets_with(input, id, || self.has_output(id))
    }
    /// The same where the chain tells whether the HTLC has an output.
    pub fn lets_with(&self, input: Input, id: HtlcId, output: impl FnOnce() -> bool) -> bool {
        match rule(self.phase(), input) {
            Rule::Taken => true,
            Rule::BeforeShutdown => self.shutdown_at.is_none_or(|at| id < at),
            Rule::WithOutput => output(),
            Rule::Unchanged | Rule::Waits | Rule::First | Rule::Ignored | Rule::Refused => false,
        }
    }
    /// True if each commitment that may still confirm has an output for the received HTLC of this
    /// id.
    fn has_output(&self, id: HtlcId) -> bool {
        let value = ::channel::Channel::new(self.live.clone());
        let live = self.htlc(Side::Remote, id);
        value.is_ok_and(|value| live.is_some_and(|live| value.has_output_in_each(live)))
    }
}

/// A daemon, or the switch, wants what the phase of its channel forbids.
pub(super) fn refused(channel: &Channel, input: Input) -> Stop {
    let why = why_refused(channel.phase(), input);
    Stop::refused(format!("channel {}: {input:?} {why}", channel.number))
}

/// Refuses what the channel does not take whole in its phase.
pub(super) fn takes(channel: &Channel, input: Input) -> Result<(), Stop> {
    if rule(channel.phase(), input) == Rule::Taken { Ok(()) } else { Err(refused(channel, input)) }
}

/// Is this report of a daemon to be acted on? False if it was sent before the daemon heard of what
/// ended its channel. Refuses one that no daemon sends in the channel's phase.
pub(super) fn hears(channel: &Channel, report: Option<Input>) -> Result<bool, Stop> {
    // What is not about the channel counts in every phase.
    let Some(input) = report else { return Ok(true) };
    match rule(channel.phase(), input) {
        Rule::Taken => Ok(true),
        Rule::Ignored => Ok(false),
        Rule::Unchanged
        | Rule::BeforeShutdown
        | Rule::WithOutput
        | Rule::Waits
        | Rule::First
        | Rule::Refused => Err(refused(channel, input)),
    }
}
