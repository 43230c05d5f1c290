//! Channel numbers that are reserved and were given to nobody.

use primitives::ChannelNumber;
use std::cell::Cell;

/// Numbers that are reserved and were given to nobody.
#[derive(Debug, Default)]
pub struct Numbers {
    /// A cell: one that was given is gone, though the event that asked for it is taken back.
    next: Cell<u64>,
    end: u64,
}

impl Numbers {
    /// Every number from `next` on, below `end`.
    pub const fn of(next: u64, end: u64) -> Self {
        Self { next: Cell::new(next), end }
    }
    /// The next of them, which nobody gets again.
    pub fn take(&self) -> Option<ChannelNumber> {
        let number = self.next.get();
        (number < self.end).then(|| {
            self.next.set(number + 1);
            ChannelNumber(number)
        })
    }
}
