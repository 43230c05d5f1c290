//! Numbers for channels. Keys follow from a channel's number, and a peer hears points before
//! anything is agreed: so no number is ever given twice, and none before the database and
//! `lightningd-revocations` know of it.
//!
//! Both are written once for a block of numbers, not for each attempt: peers may begin many that
//! come to nothing. What is left of a block when the process ends is skipped.

use super::store;
use crate::kernel::turn::Turn;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::channels::Scope;
use crate::rooms::channels::reserved::Numbers;
use crate::sys::fatal::Fatal;
use primitives::ChannelNumber;

/// Numbers reserved at a time: one commit and one record for as many attempts.
const BLOCK: u64 = 64;

/// A number for an attempt at a channel. Whoever learns of it does so by what is said after this in
/// the turn.
pub fn draw(node: &Scope, turn: &mut Turn<'_>) -> Result<ChannelNumber, Fatal> {
    if let Some(number) = node.channels.numbers.take() {
        return Ok(number);
    }
    // Where barriers are counted each attempt must pass the same ones: then it reserves its own
    // number.
    let block = if subdaemon::barrier::is_on() { 1 } else { BLOCK };
    let first = store::numbers::reserve_numbers(turn.db, block)?;
    let end = first.0.saturating_add(block);
    // Said before anything else of this event: nobody learns a number of the block before the
    // record is on disk.
    turn.say(Outgoing::Reserved { last: ChannelNumber(end - 1) });
    // An install: if this event is taken back, the row and the record are, too.
    let numbers = Numbers::of(first.0.saturating_add(1), end);
    turn.install(node, move |channels| channels.numbers = numbers);
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::words::event::Event;
    use crate::rooms::channels::Cell;
    use crate::sys::fatal::Stop;
    use crate::sys::revocation_log::RevocationRecords;
    use crate::testing::Rig;

    /// Draws one number in a turn of its own; what the turn says of the last number.
    fn one(rig: &mut Rig) -> (u64, Option<u64>) {
        let drawn = std::rc::Rc::new(Cell::new(0));
        let seen = drawn.clone();
        let outbox = rig.outbox(move |node, turn| {
            seen.set(draw(node, turn)?.0);
            Ok(())
        });
        let record = outbox.into_iter().find_map(|o| match o {
            Outgoing::Reserved { last } => Some(last.0),
            _ => None,
        });
        (drawn.get(), record)
    }

    #[test]
    fn numbers_are_written_once_for_a_block() {
        let mut rig = Rig::new("numbers-block", &[]);
        let (first, record) = one(&mut rig);
        assert_eq!(record, Some(first + BLOCK - 1), "before the first is given");
        let commits = rig.node.counters.commits;
        for n in 1..BLOCK {
            assert_eq!(one(&mut rig), (first + n, None));
        }
        assert_eq!(rig.node.counters.commits, commits);
        assert_eq!(one(&mut rig), (first + BLOCK, Some(first + 2 * BLOCK - 1)));
        assert_eq!(rig.node.counters.commits, commits + 1);
    }

    #[test]
    fn numbers_left_of_a_block_are_skipped_after_a_crash() {
        let mut rig = Rig::new("numbers-crash", &[]);
        let (first, _) = one(&mut rig);
        one(&mut rig);
        rig.crash();
        assert_eq!(one(&mut rig).0, first + BLOCK);
    }

    /// Whatever of the block was given: the database is one from before it, and the record beside
    /// it is not.
    #[test]
    fn channel_numbers_are_not_reused_by_a_restored_database() {
        let mut rig = Rig::new("numbers-put-back", &[]);
        let (first, record) = one(&mut rig);
        crate::sys::db::set_var(&rig.db, "next_channel_number", &crate::sys::db::sql(first))
            .unwrap();
        let reserved = record.map(ChannelNumber);
        let log = RevocationRecords { reserved, ..Default::default() };
        crate::rooms::channels::revocations::compare_rows(&mut rig.node.channels, &rig.db, &log)
            .unwrap();
        rig.crash();
        assert_eq!(one(&mut rig).0, first + BLOCK);
    }

    #[test]
    fn number_of_a_refused_event_is_given_to_nobody_else() {
        let mut rig = Rig::new("numbers-refused", &[]);
        let (first, _) = one(&mut rig);
        rig.outbox(|node, turn| {
            draw(node, turn)?;
            Err(Stop::refused("a test"))
        });
        assert_eq!(one(&mut rig).0, first + 2);
        // A block that was reserved in vain was never known to anybody.
        rig.crash();
        let outbox = rig.outbox(|node, turn| {
            draw(node, turn)?;
            Err(Stop::refused("a test"))
        });
        assert!(outbox.iter().all(|o| !matches!(
            o,
            Outgoing::Reserved { .. } | Outgoing::Then(Event::Reconnect(..))
        )));
        assert_eq!(one(&mut rig), (first + BLOCK, Some(first + 2 * BLOCK - 1)));
    }
}
