//! The five stages of an update, and what moves it from one to the next.
//!
//! ```text
//! PendingOnReceiver --sender's commitment_signed---> InReceivers
//! InReceivers       --receiver's revoke_and_ack----> PendingOnSender
//! PendingOnSender   --receiver's commitment_signed-> InSenders
//! InSenders         --sender's revoke_and_ack------> Irrevocable
//! Irrevocable
//! ```
//!
//! The same five serve additions, removals and fee changes, in both directions; [`print()`] writes
//! this table.

use primitives::Side;
use wire::channel_data::Stage;

/// An end of one update: whoever proposed it is its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Proposed it.
    Sender,
    /// Heard of it.
    Receiver,
}

impl Party {
    /// What `side` is to an update that `sender` proposed.
    pub fn of(side: Side, sender: Side) -> Self {
        if side == sender { Self::Sender } else { Self::Receiver }
    }
}

/// Messages that move updates to their next stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A signature on the other's next commitment.
    CommitmentSigned,
    /// The secret of one's own commitment before the newest.
    RevokeAndAck,
}

/// Which of a side's commitments is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The oldest that is not revoked. The same as the newest unless a revocation is awaited.
    Oldest,
    /// The newest that the other side signed.
    Newest,
    /// The commitment that the other side would sign now.
    Next,
    /// The commitment once every update that was sent is signed.
    Final,
}

/// The one thing that moves this stage on. BOLT 2, "Normal Operation".
pub const fn awaits(stage: Stage) -> Option<(Party, Act, Stage)> {
    use {Act::*, Party::*, Stage::*};
    match stage {
        PendingOnReceiver => Some((Sender, CommitmentSigned, InReceivers)),
        InReceivers => Some((Receiver, RevokeAndAck, PendingOnSender)),
        PendingOnSender => Some((Receiver, CommitmentSigned, InSenders)),
        InSenders => Some((Sender, RevokeAndAck, Irrevocable)),
        Irrevocable => None,
    }
}

/// The stage after `by` did `act`. Acts that it does not await leave it alone.
pub fn after(stage: Stage, by: Party, act: Act) -> Stage {
    match awaits(stage) {
        Some((party, awaited, next)) if (party, awaited) == (by, act) => next,
        Some(_) | None => stage,
    }
}

/// Is an update of this stage part of that commitment of `party`?
pub fn is_in(stage: Stage, party: Party, which: Which) -> bool {
    let first = match (party, which) {
        (_, Which::Final) | (Party::Receiver, Which::Next) => Stage::PendingOnReceiver,
        (Party::Receiver, Which::Newest) => Stage::InReceivers,
        (Party::Receiver, Which::Oldest) | (Party::Sender, Which::Next) => Stage::PendingOnSender,
        (Party::Sender, Which::Newest) => Stage::InSenders,
        (Party::Sender, Which::Oldest) => Stage::Irrevocable,
    };
    stage >= first
}

/// The table of this file's head, made from the machine itself.
pub fn print() -> String {
    let mut table = String::new();
    for stage in Stage::ALL {
        let line = match awaits(*stage) {
            None => format!("{stage:?}"),
            Some((by, act, next)) => {
                let by = match by {
                    Party::Sender => "sender",
                    Party::Receiver => "receiver",
                };
                let act = match act {
                    Act::CommitmentSigned => "commitment_signed",
                    Act::RevokeAndAck => "revoke_and_ack",
                };
                format!("{:<17} {:-<31}> {next:?}", format!("{stage:?}"), format!("--{by}'s {act}"))
            }
        };
        table.push_str(&line);
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_reaches_the_receivers_commitment_first() {
        use {Act::*, Party::*, Stage::*};
        let mut stage = PendingOnReceiver;
        for (by, act, then, in_receivers, in_senders) in [
            (Sender, CommitmentSigned, InReceivers, true, false),
            (Receiver, RevokeAndAck, PendingOnSender, true, false),
            (Receiver, CommitmentSigned, InSenders, true, true),
            (Sender, RevokeAndAck, Irrevocable, true, true),
        ] {
            stage = after(stage, by, act);
            assert_eq!(stage, then);
            assert_eq!(is_in(stage, Receiver, Which::Newest), in_receivers);
            assert_eq!(is_in(stage, Sender, Which::Newest), in_senders);
        }
    }

    #[test]
    fn act_that_is_not_awaited_changes_nothing() {
        for stage in Stage::ALL {
            for by in [Party::Sender, Party::Receiver] {
                for act in [Act::CommitmentSigned, Act::RevokeAndAck] {
                    let awaited = awaits(*stage).is_some_and(|(p, a, _)| (p, a) == (by, act));
                    assert_eq!(
                        after(*stage, by, act) != *stage,
                        awaited,
                        "{stage:?} {by:?} {act:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn oldest_commitment_has_an_update_only_when_the_newest_has() {
        for stage in Stage::ALL {
            for party in [Party::Sender, Party::Receiver] {
                let [old, new, next, last] =
                    [Which::Oldest, Which::Newest, Which::Next, Which::Final]
                        .map(|w| is_in(*stage, party, w));
                assert!(old <= new && new <= next && next <= last, "{stage:?} {party:?}");
            }
        }
    }

    #[test]
    fn machine_prints_as_its_documentation_shows_it() {
        let source = include_str!("stage.rs");
        for line in print().lines() {
            assert!(source.contains(&format!("//! {line}\n")), "{line}");
        }
    }
}
