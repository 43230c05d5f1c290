//! The bytes of one execution, read as choices.

use std::sync::atomic::{AtomicU64, Ordering};

pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }
    /// Any number of bytes up to this many, fewer at the end.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        bytes
    }
    /// A number of so many bytes as the first of them says.
    pub fn number(&mut self) -> Option<u64> {
        let width = usize::from(self.byte()?) % 8 + 1;
        Some(self.exactly(width)?.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }
    /// So many bytes, or none where there are fewer.
    pub fn exactly(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }
    pub fn below(&mut self, limit: usize) -> Option<usize> {
        self.byte().map(|byte| usize::from(byte) % limit)
    }
    pub fn pick<T: Clone>(&mut self, among: &[T]) -> Option<T> {
        self.below(among.len()).map(|at| among[at].clone())
    }
}

/// Says once how deep the inputs of this run have come so far: `cargo xtask fuzz` shows the last
/// line.
pub fn reached(what: &str, depth: u64) {
    static DEEPEST: AtomicU64 = AtomicU64::new(0);
    if depth > DEEPEST.fetch_max(depth, Ordering::Relaxed) {
        eprintln!("reached: {what} {depth}");
    }
}
