//! The revocation log, a file beside the database: how many commitments of each channel we have
//! revoked, and the last number that any channel got.
//!
//! A database that was put back to an earlier state looks like any other, and its commitments are
//! revoked: publishing one gives the whole channel away. This file goes only up. Where it says more
//! than the rows, the rows are proved old, whatever a peer says, and numbers that they do not know
//! of are given to no other channel: the peer has seen secrets under them. Where it is missing,
//! nobody knows, and nothing is published before the peer's `channel_reestablish` has shown where
//! we are: a channel has its record from the opening on, when none is revoked yet. It is written
//! after the commit and before anything is said. A channel's first record waits for the disk, for
//! without it our commitment is not published, and so does the last number; those that follow do
//! not: a machine that loses power loses its last words at most, and then the rows are ahead, which
//! is no danger.

use crate::sys::fatal::Fatal;
use primitives::{ChannelNumber, CommitmentNumber};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Its name, in the network's directory.
pub const FILE: &str = "lightningd-revocations";
/// The record of this number, which no channel has, holds the last number that any channel may have
/// got: the end of the block that was reserved last.
const RESERVED: ChannelNumber = ChannelNumber(0);
/// In a count: a closing transaction of the channel was stored to be signed, so that the peer may
/// hold our signature on it. Rows that do not know of it were put back.
const CLOSING: u64 = 1 << 63;
/// Channel, count, and both together as a check.
const RECORD: usize = 24;

/// The open file, and where each channel's record is.
#[derive(Debug)]
pub struct RevocationLog {
    file: File,
    places: BTreeMap<ChannelNumber, u64>,
    counts: BTreeMap<ChannelNumber, CommitmentNumber>,
    /// Places of channels that came to nothing.
    free: Vec<u64>,
    next: u64,
}

/// The count of a channel whose closing is negotiated.
pub const fn while_closing(revoked: CommitmentNumber) -> CommitmentNumber {
    CommitmentNumber(revoked.0 | CLOSING)
}

/// What the file said at the start.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RevocationRecords {
    /// By channel, how many were revoked at least.
    pub revoked: BTreeMap<ChannelNumber, CommitmentNumber>,
    /// The end of the block of channel numbers that was reserved last.
    pub reserved: Option<ChannelNumber>,
    /// Channels that had a closing transaction stored, which the peer may hold our signature on.
    pub closing: BTreeSet<ChannelNumber>,
}

impl RevocationRecords {
    fn new(records: &BTreeMap<ChannelNumber, CommitmentNumber>) -> Self {
        let channels = || records.iter().filter(|(channel, _)| **channel != RESERVED);
        let closing = |(_, count): &(&ChannelNumber, &CommitmentNumber)| count.0 & CLOSING != 0;
        Self {
            revoked: channels().map(|(c, n)| (*c, CommitmentNumber(n.0 & !CLOSING))).collect(),
            reserved: records.get(&RESERVED).map(|n| ChannelNumber(n.0 & !CLOSING)),
            closing: channels().filter(closing).map(|(c, _)| *c).collect(),
        }
    }

    /// The last number that is known to have been given to a channel.
    pub fn last_number(&self) -> Option<ChannelNumber> {
        self.reserved.max(self.revoked.keys().max().copied())
    }
}

fn record(channel: ChannelNumber, revoked: CommitmentNumber) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let (head, rest) = bytes.split_at_mut(8);
    let (middle, tail) = rest.split_at_mut(8);
    head.copy_from_slice(&channel.0.to_be_bytes());
    middle.copy_from_slice(&revoked.0.to_be_bytes());
    tail.copy_from_slice(&check(channel.0, revoked.0).to_be_bytes());
    bytes
}

/// Tells a record that was written whole from one that was not.
const fn check(channel: u64, revoked: u64) -> u64 {
    (channel ^ revoked.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6675_6c6d_656e
}

/// What is in the file's bytes.
#[derive(Debug, Default)]
struct Records {
    places: BTreeMap<ChannelNumber, u64>,
    revoked: BTreeMap<ChannelNumber, CommitmentNumber>,
    /// Where the next new one goes: after a torn one at the end, everything goes behind it.
    next: u64,
}

impl Records {
    fn read(bytes: &[u8]) -> Self {
        let next = bytes.len().next_multiple_of(RECORD) as u64;
        let mut found = Self { next, ..Self::default() };
        for (index, bytes) in bytes.chunks_exact(RECORD).enumerate() {
            let number = |at: usize| {
                bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
            };
            if number(16) != check(number(0), number(8)) {
                continue;
            }
            let (channel, count) = (ChannelNumber(number(0)), CommitmentNumber(number(8)));
            // Of two for one channel the higher counts, and is the one that is raised: the file
            // goes only up.
            if found.revoked.get(&channel).is_none_or(|known| *known < count) {
                found.places.insert(channel, (index * RECORD) as u64);
                found.revoked.insert(channel, count);
            }
        }
        found
    }
}

/// Whatever is in the file: what is raised on it is read next, and nothing is lost.
///
/// # Panics
/// Where that is not so.
#[cfg(any(test, feature = "fuzzing"))]
pub fn survives(bytes: &[u8]) {
    let before = Records::read(bytes);
    let known = before.revoked.first_key_value().map(|(channel, count)| (*channel, count.0));
    for (channel, count) in [known.unwrap_or((RESERVED, 0)), (ChannelNumber(7), 0)] {
        let place = before.places.get(&channel).copied().unwrap_or(before.next);
        let place = usize::try_from(place).expect("files are smaller than memory");
        let count = before.revoked.get(&channel).map_or(count, |c| c.0).saturating_add(1);
        let mut file = bytes.to_vec();
        file.resize(file.len().max(place + RECORD), 0);
        let raised = record(channel, CommitmentNumber(count));
        file.splice(place..place + RECORD, raised);
        let mut expected = before.revoked.clone();
        expected.insert(channel, CommitmentNumber(count));
        // More may be read: a torn record whose missing bytes were zeros is whole again once
        // something stands behind it.
        let after = Records::read(&file).revoked;
        assert!(expected.iter().all(|(channel, count)| after.get(channel) >= Some(count)));
    }
}

impl RevocationLog {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<(Self, RevocationRecords), Fatal> {
        let broken = |e: std::io::Error| Fatal(format!("{}: {e}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(broken)?;
        // So that its name, too, is there after a loss of power.
        let dir = path.parent().filter(|d| !d.as_os_str().is_empty());
        File::open(dir.unwrap_or(Path::new("."))).and_then(|d| d.sync_all()).map_err(broken)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(broken)?;
        let Records { places, revoked, next } = Records::read(&bytes);
        let records = RevocationRecords::new(&revoked);
        Ok((Self { file, places, counts: revoked, free: vec![], next }, records))
    }

    /// Every number up to this one may have been given to a channel.
    pub fn reserve(&mut self, last: ChannelNumber) -> Result<(), Fatal> {
        self.raise(RESERVED, CommitmentNumber(last.0))
    }

    /// From now on this many are known to be revoked.
    pub fn raise(
        &mut self,
        channel: ChannelNumber,
        revoked: CommitmentNumber,
    ) -> Result<(), Fatal> {
        if self.counts.get(&channel).is_some_and(|known| *known > revoked) {
            return Ok(());
        }
        let known = self.places.get(&channel).copied();
        let place = known.or(self.free.last().copied()).unwrap_or(self.next);
        let written = self.file.write_all_at(&record(channel, revoked), place);
        // The last number is raised once for many channels, and a number given twice may cost one
        // of them.
        let waits = known.is_none() || channel == RESERVED;
        let kept = written.and_then(|()| if waits { self.file.sync_data() } else { Ok(()) });
        kept.map_err(|e| {
            Fatal(format!("{FILE}: {e}: the disk must take this before a secret is given out"))
        })?;
        self.counts.insert(channel, revoked);
        if known.is_none() {
            self.places.insert(channel, place);
            if self.free.pop().is_none() {
                self.next += RECORD as u64;
            }
        }
        Ok(())
    }

    /// A channel that revoked nothing is forgotten: its record's place is for another's, or
    /// strangers who open channels for nothing would make the file grow. Should its row come back
    /// with a database that was put back: it has no record then, or that of nothing revoked until
    /// another channel takes its place. Its first commitment, the only one, is not revoked in
    /// either case.
    pub fn forget(&mut self, channel: ChannelNumber) {
        if self.counts.get(&channel) == Some(&CommitmentNumber(0)) {
            self.counts.remove(&channel);
            self.free.extend(self.places.remove(&channel));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> std::path::PathBuf {
        let dir =
            std::env::temp_dir().join(format!("fulmen-revocation-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn raised_count_is_there_after_a_restart() {
        let path = path("raised");
        let (mut log, records) = RevocationLog::open(&path).unwrap();
        assert_eq!(records, RevocationRecords::default());
        for (channel, count) in [(1, 5), (2, 1), (1, 6), (3, 9), (2, 2)] {
            log.raise(ChannelNumber(channel), CommitmentNumber(count)).unwrap();
        }
        let (mut log, records) = RevocationLog::open(&path).unwrap();
        let expected =
            [(1, 6), (2, 2), (3, 9)].map(|(c, n)| (ChannelNumber(c), CommitmentNumber(n)));
        assert_eq!(
            records,
            RevocationRecords { revoked: expected.into(), ..RevocationRecords::default() }
        );
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 72, "one record a channel");
        log.raise(ChannelNumber(2), CommitmentNumber(3)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 72);
    }

    #[test]
    fn record_of_forgotten_channel_gives_its_place_to_another() {
        let path = path("forgotten");
        let (mut log, _) = RevocationLog::open(&path).unwrap();
        let count = |n| CommitmentNumber(n);
        for channel in [1, 2, 3] {
            log.raise(ChannelNumber(channel), count(0)).unwrap();
        }
        log.raise(ChannelNumber(3), count(1)).unwrap();
        // One that revoked something keeps its place for ever.
        for channel in [2, 2, 3, 9] {
            log.forget(ChannelNumber(channel));
        }
        for channel in [4, 5] {
            log.raise(ChannelNumber(channel), count(7)).unwrap();
            log.raise(ChannelNumber(channel), count(8)).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 * RECORD as u64);
        let expected = [(1, 0), (3, 1), (4, 8), (5, 8)].map(|(c, n)| (ChannelNumber(c), count(n)));
        assert_eq!(RevocationLog::open(&path).unwrap().1.revoked, expected.into());
    }

    #[test]
    fn closing_record_survives_later_lower_count() {
        let path = path("closing");
        let (mut log, _) = RevocationLog::open(&path).unwrap();
        let (channel, count) = (ChannelNumber(1), CommitmentNumber(5));
        for said in [count, while_closing(count), count] {
            log.raise(channel, said).unwrap();
        }
        let (mut log, records) = RevocationLog::open(&path).unwrap();
        let expected = RevocationRecords {
            revoked: [(channel, count)].into(),
            closing: [channel].into(),
            reserved: None,
        };
        assert_eq!(records, expected);
        log.raise(channel, count).unwrap();
        assert_eq!(RevocationLog::open(&path).unwrap().1, expected);
    }

    #[test]
    fn last_channel_number_is_the_reserved_or_the_highest_known() {
        let path = path("numbers");
        let (mut log, records) = RevocationLog::open(&path).unwrap();
        assert_eq!(records.last_number(), None);
        log.raise(ChannelNumber(7), CommitmentNumber(1)).unwrap();
        assert_eq!(RevocationLog::open(&path).unwrap().1.last_number(), Some(ChannelNumber(7)));
        log.reserve(ChannelNumber(9)).unwrap();
        assert_eq!(RevocationLog::open(&path).unwrap().1.last_number(), Some(ChannelNumber(9)));
    }

    #[test]
    fn higher_of_two_records_for_a_channel_counts() {
        let (low, high) = (CommitmentNumber(4), CommitmentNumber(9));
        let channel = ChannelNumber(1);
        for pair in [[low, high], [high, low]] {
            let bytes: Vec<u8> = pair.iter().flat_map(|count| record(channel, *count)).collect();
            assert_eq!(Records::read(&bytes).revoked, [(channel, high)].into());
            survives(&bytes);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(100_000))]

        /// Records that hold, some of them damaged, and noise between and after them.
        #[test]
        fn raised_count_is_read_next_over_any_file(
            parts in proptest::collection::vec((0..4u64, proptest::num::u64::ANY, 0..30usize, proptest::num::u8::ANY), 0..6),
            cut in 0..24usize,
        ) {
            let mut bytes = Vec::new();
            for (channel, count, at, damage) in parts {
                let mut whole = record(ChannelNumber(channel), CommitmentNumber(count));
                if let Some(byte) = whole.get_mut(at) {
                    *byte ^= damage;
                }
                bytes.extend(whole);
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            survives(&bytes);
        }
    }

    #[test]
    fn torn_record_is_skipped() {
        let path = path("torn");
        let (mut log, _) = RevocationLog::open(&path).unwrap();
        log.raise(ChannelNumber(1), CommitmentNumber(5)).unwrap();
        log.raise(ChannelNumber(2), CommitmentNumber(5)).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(40).unwrap();
        let (mut log, records) = RevocationLog::open(&path).unwrap();
        assert_eq!(records.revoked.len(), 1);
        log.raise(ChannelNumber(3), CommitmentNumber(7)).unwrap();
        let (_, records) = RevocationLog::open(&path).unwrap();
        assert_eq!(records.revoked.get(&ChannelNumber(3)), Some(&CommitmentNumber(7)));
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(RevocationLog::open(&path).unwrap().1.revoked.len(), 0);
    }
}
