//! What the revocation log beside the database proves of the channels' rows, at the start.

use crate::rooms::channels::state::{State, StateTrust};
use crate::rooms::channels::{Channel, Channels, store};
use crate::sys::fatal::Fatal;
use crate::sys::revocation_log::{FILE, RevocationRecords, while_closing};
use primitives::CommitmentNumber;

/// The count for this channel's record in the log.
pub const fn count_of(channel: &Channel) -> CommitmentNumber {
    let revoked = channel.live.revoked.local;
    if channel.closing_begun { while_closing(revoked) } else { revoked }
}

/// Compares the rows with the revocation log beside them: channels whose rows are proved old are
/// lost to us, as if the peer had said so. One that goes to the chain may have been a step behind
/// when it was copied, the last that its daemon asked for. That nobody knows counts only where a
/// peer can still show it.
pub fn compare_rows(
    channels: &mut Channels,
    db: &rusqlite::Connection,
    log: &RevocationRecords,
) -> Result<(), Fatal> {
    if let Some(next) = store::numbers::raise_numbers(db, log.last_number())? {
        log::warn!(
            "channels that this database does not know may have had numbers below {next}: the next channel gets that"
        );
    }
    for channel in channels.all.values_mut() {
        if log.closing.contains(&channel.number) && !channel.closing_begun {
            channel.log(
                wire::daemon::LogLevel::Unusual,
                "the database is older than this channel's closing negotiation; the peer may hold our signature on a closing transaction. No HTLC is accepted or forwarded. Run close on it",
            );
            store::set_closing_begun(db, channel.number)?;
            channel.closing_begun = true;
        }
    }
    let publishes = |state: State| state.is_open() || state.is_unilateral();
    for channel in channels.all.values_mut().filter(|c| publishes(c.state)) {
        let ours = channel.live.revoked.local;
        match log.revoked.get(&channel.number) {
            Some(known) if *known > ours => {
                let text = format!(
                    "this database is old: {known} commitments were revoked, and it knows of {ours}. The peer must close; nothing of ours is broadcast"
                );
                channel.log(wire::daemon::LogLevel::Broken, &text);
                store::set_lost_state(db, channel.number)?;
                channel.trust = StateTrust::Lost;
                channel.reason = text;
            }
            Some(_) => {}
            // One that never revoked anything has a record, too: without it the rows may be from
            // before the first payment.
            None if !channel.state.is_open() || channel.trust == StateTrust::Lost => {}
            None => {
                channel.log(
                    wire::daemon::LogLevel::Unusual,
                    &format!(
                        "{FILE} says nothing of this channel, as after a restore from a backup: nothing is published before the peer has shown where we are"
                    ),
                );
                channel.trust = StateTrust::Unverified;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::channels::state::StateTrust::{Lost, Unverified, Verified};
    use crate::testing::Rig;
    use primitives::ChannelNumber;
    use wire::channel_data::ChannelPhase;

    /// A channel in this state, that has revoked so many, is compared with a log that says so many:
    /// is its state trusted?
    fn trust(state: State, rows: u64, logged: Option<u64>) -> StateTrust {
        let name = format!("revocations-{}-{rows}-{logged:?}", state.name());
        let mut rig = Rig::new(&name, &[(1, 1)]);
        let set = |channel: &mut Channel| {
            channel.state = state;
            channel.live.revoked.local = CommitmentNumber(rows);
        };
        set(rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap());
        let record = logged.map(|n| (ChannelNumber(1), CommitmentNumber(n)));
        let log = RevocationRecords {
            revoked: record.into_iter().collect(),
            ..RevocationRecords::default()
        };
        compare_rows(&mut rig.node.channels, &rig.db, &log).unwrap();
        let channel = rig.channel(1);
        channel.trust
    }

    #[test]
    fn channel_without_record_is_unverified_before_any_revocation() {
        for rows in [0, 5] {
            for state in [State::AwaitingLockin, State::Normal, State::ShuttingDown] {
                assert_eq!(trust(state, rows, None), Unverified, "{state:?} {rows}");
                assert_eq!(trust(state, rows, Some(rows)), Verified, "{state:?} {rows}");
            }
        }
    }

    #[test]
    fn rows_behind_the_log_are_lost_while_they_could_be_published() {
        for (state, lost) in [
            (State::AwaitingLockin, Lost),
            (State::Normal, Lost),
            (State::ClosingSigExchange, Lost),
            // The channel's daemon may have asked for one step more before it died.
            (State::AwaitingUnilateral, Lost),
            // The block may leave the chain.
            (State::FundingSpendSeen, Lost),
            (State::Onchain, Lost),
            // What closes it both have signed.
            (State::ClosingComplete, Verified),
        ] {
            assert_eq!(trust(state, 0, Some(1)), lost, "{state:?}");
            assert_eq!(trust(state, 1, Some(1)), Verified, "{state:?}");
        }
    }

    /// A copy of the database from before the closing: the peer may hold our signature all the
    /// same.
    #[test]
    fn restored_database_with_closing_record_refuses_new_htlcs() {
        for state in [State::AwaitingLockin, State::Normal, State::ShuttingDown] {
            let mut rig = Rig::new(&format!("revocations-closing-{}", state.name()), &[(1, 1)]);
            rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap().state = state;
            let closing = [ChannelNumber(1)].into();
            let revoked = [(ChannelNumber(1), CommitmentNumber(0))].into();
            let log = RevocationRecords { revoked, closing, reserved: None };
            compare_rows(&mut rig.node.channels, &rig.db, &log).unwrap();
            assert_eq!(rig.channel(1).phase(), ChannelPhase::Negotiating, "{state:?}");
            assert_eq!(rig.channel(1).trust, Verified);
            rig.crash();
            assert!(rig.channel(1).closing_begun, "it is in the rows from then on");
        }
    }

    #[test]
    fn force_close_without_revocation_record_is_still_broadcast() {
        // No peer is talked to that could show anything, and no step follows it but one that was
        // under way.
        assert_eq!(trust(State::AwaitingUnilateral, 3, None), Verified);
    }
}
