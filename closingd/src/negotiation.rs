//! The negotiation of a closing fee, as a value. BOLT 2, "Legacy Closing Negotiation".
//!
//! Three ways to end it well: the peer names what we named; it names something within the range
//! that we sent; it is our turn for the first time, and what it named suits us. Signatures are not
//! its business: whoever calls has checked them.

use primitives::Sat;
use std::fmt;
use wire::FeeRange;

/// The opener pays the fee, and sends the first `closing_signed`. BOLT 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Speaks first, and pays.
    Opener,
    /// Answers.
    Accepter,
}

/// Our `closing_signed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The fee that we sign for.
    pub fee: Sat,
    /// Those that we would sign for.
    pub range: Range,
}

/// Fees, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub min: Sat,
    /// The most.
    pub max: Sat,
}

impl Range {
    /// Is this fee one of them?
    pub fn contains(self, fee: Sat) -> bool {
        self.min <= fee && fee <= self.max
    }
    /// Those that are in both.
    fn overlap(self, other: Self) -> Option<Self> {
        let both = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }
    /// The one that is nearest to `fee`.
    fn nearest(self, fee: Sat) -> Sat {
        fee.min(self.max).max(self.min)
    }
}
impl From<&FeeRange> for Range {
    fn from(r: &FeeRange) -> Self {
        Self { min: r.min_fee, max: r.max_fee }
    }
}
impl From<Range> for FeeRange {
    fn from(r: Range) -> Self {
        Self { min_fee: r.min, max_fee: r.max }
    }
}
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}

/// Our reaction to the peer's `closing_signed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeStep {
    /// Both have signed for this fee.
    Agreed(Sat),
    /// Say the peer's fee back to it: then both have.
    Accept(Offer),
    /// Say this, and listen.
    Counter(Offer),
}

/// Why there is no fee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named for what the sentences say")]
pub enum NegotiationError {
    /// The opener has to speak first.
    TooEarly,
    /// More than the opener has.
    BeyondBalance { fee: Sat, balance: Sat },
    /// No fee suits both.
    NoOverlap { ours: Range, theirs: Range },
    /// The accepter named a fee that does not suit us both.
    OutsideOverlap { fee: Sat, overlap: Range },
    /// The opener has our answer and names another fee.
    Changed { fee: Sat, sent: Sat },
    /// Fees must close in on each other.
    NotBetween { fee: Sat, sent: Sat, received: Sat },
    /// And we cannot come any closer.
    NoRoom { fee: Sat, sent: Sat, ours: Range },
}

impl NegotiationError {
    /// BOLT 2 leaves no choice: the channel must fail. Everything else ends in a warning, and may
    /// go better on the next connection: for how long, is the master's to say.
    pub const fn ends_the_channel(&self) -> bool {
        match self {
            Self::OutsideOverlap { .. } | Self::Changed { .. } => true,
            Self::TooEarly
            | Self::BeyondBalance { .. }
            | Self::NoOverlap { .. }
            | Self::NotBetween { .. }
            | Self::NoRoom { .. } => false,
        }
    }
}

impl fmt::Display for NegotiationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooEarly => f.write_str("closing_signed before the opener's"),
            Self::BeyondBalance { fee, balance } => {
                write!(f, "fee_satoshis {fee} is above {balance}, all that the opener has")
            }
            Self::NoOverlap { ours, theirs } => {
                write!(f, "fee_range {theirs} and our {ours} have no fee in common")
            }
            Self::OutsideOverlap { fee, overlap } => {
                write!(f, "fee_satoshis {fee} is outside {overlap}, which suits both")
            }
            Self::Changed { fee, sent } => {
                write!(f, "fee_satoshis {fee} is not {sent}, which was our answer")
            }
            Self::NotBetween { fee, sent, received } => {
                write!(f, "fee_satoshis {fee} is not strictly between {received} and our {sent}")
            }
            Self::NoRoom { fee, sent, ours } => {
                write!(
                    f,
                    "between fee_satoshis {fee} and our {sent} there is no fee within our {ours}"
                )
            }
        }
    }
}
impl std::error::Error for NegotiationError {}

/// Where the haggling is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiation {
    role: Role,
    range: Range,
    ideal: Sat,
    /// The opener's balance: the upper bound of any fee.
    balance: Sat,
    sent: Option<Offer>,
    received: Option<Sat>,
}

impl Negotiation {
    /// On a new connection: BOLT 2 begins anew each time. Bounds beyond what the opener has come
    /// down to that.
    pub fn new(role: Role, range: Range, ideal: Sat, balance: Sat) -> Self {
        let max = range.max.min(balance);
        let range = Range { min: range.min.min(max), max };
        Self { role, range, ideal: range.nearest(ideal), balance, sent: None, received: None }
    }

    /// Our first offer as opener. `None` for the accepter.
    pub fn open(&self) -> Option<(Self, Offer)> {
        match self.role {
            Role::Accepter => None,
            Role::Opener => Some(self.say(self.ideal, self.range)),
        }
    }

    fn say(&self, fee: Sat, range: Range) -> (Self, Offer) {
        let offer = Offer { fee, range };
        (Self { sent: Some(offer), ..*self }, offer)
    }

    /// Judges the peer's `closing_signed` in the order of BOLT 2's list.
    pub fn hear(
        &self,
        fee: Sat,
        theirs: Option<Range>,
    ) -> Result<(Self, FeeStep), NegotiationError> {
        if self.role == Role::Opener && self.sent.is_none() {
            return Err(NegotiationError::TooEarly);
        }
        if fee > self.balance {
            return Err(NegotiationError::BeyondBalance { fee, balance: self.balance });
        }
        let heard = Self { received: Some(fee), ..*self };
        match self.sent {
            Some(sent) if sent.fee == fee => Ok((heard, FeeStep::Agreed(fee))),
            Some(sent) if sent.range.contains(fee) => Ok(heard.accept(fee, sent.range)),
            sent => match theirs {
                Some(theirs) => heard.answer_range(fee, theirs, sent),
                None => heard.answer_fee(fee, self.received, sent),
            },
        }
    }

    fn accept(&self, fee: Sat, range: Range) -> (Self, FeeStep) {
        let (next, offer) = self.say(fee, range);
        (next, FeeStep::Accept(offer))
    }
    fn counter(&self, fee: Sat, range: Range) -> (Self, FeeStep) {
        let (next, offer) = self.say(fee, range);
        (next, FeeStep::Counter(offer))
    }

    /// The peer has a range, and its fee is not in the one that we sent.
    fn answer_range(
        &self,
        fee: Sat,
        theirs: Range,
        sent: Option<Offer>,
    ) -> Result<(Self, FeeStep), NegotiationError> {
        let ours = match sent {
            Some(sent) => sent.range,
            // BOLT 2: an accepter, who does not pay, minds no maximum.
            None => Range { min: self.range.min, max: self.range.max.max(theirs.max) },
        };
        let payable = Range { min: Sat::ZERO, max: self.balance };
        let overlap = ours.overlap(theirs).and_then(|both| both.overlap(payable));
        let overlap = overlap.ok_or(NegotiationError::NoOverlap { ours, theirs })?;
        match sent {
            Some(_) if self.role == Role::Opener => {
                Err(NegotiationError::OutsideOverlap { fee, overlap })
            }
            Some(sent) => Err(NegotiationError::Changed { fee, sent: sent.fee }),
            None if overlap.contains(fee) => Ok(self.accept(fee, ours)),
            None => Ok(self.counter(overlap.nearest(self.ideal), ours)),
        }
    }

    /// The peer has no range: the old way, in which fees close in on each other.
    fn answer_fee(
        &self,
        fee: Sat,
        before: Option<Sat>,
        sent: Option<Offer>,
    ) -> Result<(Self, FeeStep), NegotiationError> {
        let Some(sent) = sent.map(|offer| offer.fee) else {
            return Ok(if self.range.contains(fee) {
                self.accept(fee, self.range)
            } else {
                self.counter(self.ideal, self.range)
            });
        };
        if let Some(received) = before
            && !strictly_between(fee, sent, received)
        {
            return Err(NegotiationError::NotBetween { fee, sent, received });
        }
        // Halfway, or as far as our range goes.
        let halfway = Sat(fee.0.min(sent.0) + fee.0.abs_diff(sent.0) / 2);
        let next = self.range.nearest(halfway);
        if !strictly_between(next, fee, sent) {
            return Err(NegotiationError::NoRoom { fee, sent, ours: self.range });
        }
        Ok(self.counter(next, self.range))
    }
}

fn strictly_between(fee: Sat, a: Sat, b: Sat) -> bool {
    a.min(b) < fee && fee < a.max(b)
}

#[cfg(test)]
#[path = "negotiation_tests.rs"]
mod tests;
