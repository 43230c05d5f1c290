//! The two byte queues of a connection. Both give their memory back when they run empty: most
//! connections are idle.

/// Above this capacity an empty queue is given back.
const KEEP: usize = 4096;

/// Sealed bytes on their way to the peer.
#[derive(Debug, Default)]
pub struct OutQueue {
    bytes: Vec<u8>,
    sent: usize,
}

impl OutQueue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }
    /// Has everything left?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The waiting bytes in one slice, for one write.
    pub fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }
    /// Where to append.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        // Move what is left to the front before growing, once that frees more than it moves.
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.bytes
    }
    /// The first `n` of what waits have left.
    pub fn sent(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.bytes.len());
        if self.is_empty() {
            self.sent = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
        }
    }
}

/// Bytes from the peer that are not yet a whole act or message.
#[derive(Debug, Default)]
pub struct InQueue {
    bytes: Vec<u8>,
    /// Before this: consumed.
    start: usize,
    /// From here: room.
    end: usize,
}

impl InQueue {
    /// How many are there.
    pub fn len(&self) -> usize {
        self.end - self.start
    }
    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
    /// Room to read into: at least `wanted` bytes beyond what is there.
    pub fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.len() < self.end + wanted {
            self.bytes.resize(self.end + wanted, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }
    /// `n` bytes of the room are now filled.
    pub fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.bytes.len());
    }
    /// The next `n` bytes, consumed, if they are all there.
    pub fn take(&mut self, n: usize) -> Option<&mut [u8]> {
        if self.len() < n {
            return None;
        }
        let from = self.start;
        self.start += n;
        self.bytes.get_mut(from..from + n)
    }
    /// To be called when everything taken is done with.
    pub fn rest(&mut self) {
        if self.is_empty() {
            self.start = 0;
            self.end = 0;
            if self.bytes.len() > KEEP {
                self.bytes = Vec::new();
            }
        }
    }
    /// Bytes of memory that it holds.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn queue_gives_back_the_bytes_it_was_given(steps in prop::collection::vec((0..3000usize, 0..3000usize), 0..60)) {
            let (mut inq, mut outq) = (InQueue::default(), OutQueue::default());
            let mut next_in = 0u8;
            let mut next_in_out = 0u8;
            let mut next_out_out = 0u8;
            for (put, take) in steps {
                let data: Vec<u8> = (0..put).map(|_| { next_in = next_in.wrapping_add(1); next_in }).collect();
                inq.room(put)[..put].copy_from_slice(&data);
                inq.filled(put);
                outq.tail().extend_from_slice(&data);
                if let Some(bytes) = inq.take(take) {
                    for b in bytes {
                        next_in_out = next_in_out.wrapping_add(1);
                        prop_assert_eq!(*b, next_in_out);
                    }
                    inq.rest();
                }
                let take = take.min(outq.len());
                for b in &outq.waiting()[..take] {
                    next_out_out = next_out_out.wrapping_add(1);
                    prop_assert_eq!(*b, next_out_out);
                }
                outq.sent(take);
            }
        }
    }

    #[test]
    fn idle_queue_holds_no_memory_to_speak_of() {
        let (mut inq, mut outq) = (InQueue::default(), OutQueue::default());
        inq.room(100_000);
        inq.filled(100_000);
        inq.take(100_000);
        inq.rest();
        outq.tail().resize(100_000, 0);
        outq.sent(100_000);
        assert!(inq.capacity() <= KEEP && outq.bytes.capacity() <= KEEP);
    }
}
