//! Which channels to a direct peer a payment goes over. Pure.

use primitives::Msat;
use std::fmt;

/// Parts of one payment that are under way at the same time. A peer takes 483 HTLCs on a channel at
/// most.
pub(crate) const MAX_PARTS: usize = 32;

/// A channel to the payee, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Channel {
    /// Its short channel id, or our alias for it.
    pub(crate) id: String,
    pub(crate) direction: u32,
    /// Is the peer there, and the channel ready?
    pub(crate) usable: bool,
    /// Our spendable balance in it.
    pub(crate) spendable: Msat,
    /// Least of one HTLC.
    pub(crate) least: Msat,
    /// Most of one HTLC.
    pub(crate) most: Msat,
    /// How often it failed this payment already.
    pub(crate) failures: u32,
}

/// One part: one HTLC over one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoutePart {
    pub(crate) channel: String,
    pub(crate) direction: u32,
    pub(crate) amount: Msat,
}

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// No channel leads there.
    NoChannel,
    /// There are some, but none works now.
    NoneUsable(usize),
    /// They hold too little, together.
    TooLittle { spendable: Msat, needed: Msat },
    /// Together they hold enough, but the payee takes no payment in parts.
    NoParts { largest: Msat, needed: Msat },
    /// The amount is below the least htlc_minimum_msat of the channels.
    TooSmall { least: Msat, needed: Msat },
}

impl fmt::Display for NoWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChannel => f.write_str(
                "we have no channel with the destination, and this node can only pay direct peers yet",
            ),
            Self::NoneUsable(n) => {
                write!(f, "the destination is not connected, or none of our {n} channels with it is ready")
            }
            Self::TooLittle { spendable, needed } => {
                write!(f, "our channels with the destination can send {spendable}, and {needed} are needed")
            }
            Self::NoParts { largest, needed } => write!(
                f,
                "no single channel with the destination can send {needed} (the largest: {largest}), and the invoice \
                 does not allow payment in parts"
            ),
            Self::TooSmall { least, needed } => {
                write!(f, "our channels with the destination send no less than {least} at once, and {needed} are needed")
            }
        }
    }
}

/// The parts that bring `needed` to the payee: one if that is possible, else as few as possible.
pub(crate) fn split(
    channels: &[Channel],
    needed: Msat,
    may_split: bool,
) -> Result<Vec<RoutePart>, NoWay> {
    if channels.is_empty() {
        return Err(NoWay::NoChannel);
    }
    let mut usable: Vec<&Channel> = channels.iter().filter(|channel| channel.usable).collect();
    if usable.is_empty() {
        return Err(NoWay::NoneUsable(channels.len()));
    }
    // Those that have not failed first; of these the fullest.
    usable.sort_by_key(|channel| (channel.failures, std::cmp::Reverse(channel.spendable)));
    let single =
        usable.iter().find(|c| c.least <= needed && needed <= c.most && needed <= c.spendable);
    if let Some(channel) = single {
        return Ok(vec![part(channel, needed)]);
    }
    let spendable = usable.iter().fold(Msat::ZERO, |sum, c| sum.saturating_add(c.spendable));
    if spendable < needed {
        return Err(NoWay::TooLittle { spendable, needed });
    }
    let least = usable.iter().map(|c| c.least).min().unwrap_or_default();
    if needed < least {
        return Err(NoWay::TooSmall { least, needed });
    }
    if !may_split {
        let largest = usable.iter().map(|c| c.spendable.min(c.most)).max().unwrap_or_default();
        return Err(NoWay::NoParts { largest, needed });
    }
    fill(&usable, needed).ok_or(NoWay::TooLittle { spendable, needed })
}

/// Fills one channel after the other.
fn fill(channels: &[&Channel], needed: Msat) -> Option<Vec<RoutePart>> {
    let mut parts: Vec<(RoutePart, Msat)> = Vec::new();
    let mut missing = needed;
    for channel in channels {
        let mut left = channel.spendable;
        while missing > Msat::ZERO && parts.len() < MAX_PARTS {
            let mut amount = missing.min(left).min(channel.most);
            if amount < channel.least {
                // The last bit is too small for a part of its own: take from the one before what it
                // can spare.
                let short = channel.least.checked_sub(amount)?;
                let spare =
                    amount == missing && channel.least <= left && channel.least <= channel.most;
                let before = parts
                    .last_mut()
                    .filter(|(part, least)| spare && part.amount >= least.saturating_add(short));
                let Some((before, _)) = before else { break };
                before.amount = before.amount.checked_sub(short)?;
                missing = missing.checked_add(short)?;
                amount = channel.least;
            }
            if amount == Msat::ZERO {
                break;
            }
            parts.push((part(channel, amount), channel.least));
            left = left.checked_sub(amount)?;
            missing = missing.checked_sub(amount)?;
        }
    }
    (missing == Msat::ZERO).then(|| parts.into_iter().map(|(part, _)| part).collect())
}

fn part(channel: &Channel, amount: Msat) -> RoutePart {
    RoutePart { channel: channel.id.clone(), direction: channel.direction, amount }
}
