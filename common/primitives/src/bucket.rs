//! A token bucket: how often something may happen on average, and how often in a row. Time comes in
//! as a value.

use std::time::{Duration, Instant};

/// A token is added every `every`, up to `burst` tokens. Begins full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    burst: u32,
    every: Duration,
    /// When the bucket is full again; `None` or a time in the past: it is full.
    full_at: Option<Instant>,
}

impl Bucket {
    /// A full bucket. With an `every` of zero it never runs out of tokens.
    pub const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, full_at: None }
    }

    /// Takes one token. False: there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_many(1, now)
    }

    /// Takes `tokens`, or none of them (false) where there are fewer.
    pub fn take_many(&mut self, tokens: u32, now: Instant) -> bool {
        let ready = self.has(tokens, now);
        if ready {
            self.full_at = Some(self.full_at.unwrap_or(now).max(now) + self.every * tokens);
        }
        ready
    }

    /// Are `tokens` there? Takes none.
    pub fn has(&self, tokens: u32, now: Instant) -> bool {
        self.ready_at(tokens, now).is_some_and(|at| at <= now)
    }

    /// When so many tokens are there, `now` at the earliest. `None`: never, the bucket does not
    /// hold so many.
    pub fn ready_at(&self, tokens: u32, now: Instant) -> Option<Instant> {
        // The bucket may lack `spare` tokens and still have those that are wanted.
        let spare = self.burst.checked_sub(tokens)?;
        let full_at = self.full_at.unwrap_or(now);
        // A time before the machine's clock began has passed.
        Some(full_at.checked_sub(self.every * spare).map_or(now, |at| at.max(now)))
    }

    /// Is the bucket full? Then it tells nothing of the past, and whoever keeps one per peer may
    /// forget it.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bucket_gives_its_burst_at_once_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, SECOND);
        assert!(bucket.is_full(start));
        let taken = |bucket: &mut Bucket, now| (0..100).filter(|_| bucket.take(now)).count();
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(bucket.ready_at(1, start), Some(start + SECOND));
        assert_eq!(taken(&mut bucket, start + SECOND / 2), 0);
        assert_eq!(taken(&mut bucket, start + SECOND), 1);
        assert_eq!(taken(&mut bucket, start + SECOND * 3), 2);
        assert!(!bucket.is_full(start + SECOND * 5));
        assert!(bucket.is_full(start + SECOND * 6));
        assert_eq!(taken(&mut bucket, start + SECOND * 1000), 3, "no more than a burst is saved");
    }

    #[test]
    fn bucket_takes_many_tokens_or_none() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10, SECOND);
        assert!(!bucket.take_many(11, now));
        assert_eq!(bucket.ready_at(11, now), None);
        assert!(bucket.take_many(8, now));
        assert!(!bucket.take_many(3, now));
        assert!(bucket.take_many(2, now));
        assert_eq!(bucket.ready_at(10, now), Some(now + SECOND * 10));
    }

    #[test]
    fn bucket_has_what_it_would_give_and_gives_nothing_when_asked() {
        let now = Instant::now();
        let mut bucket = Bucket::new(2, SECOND);
        assert!((0..100).all(|_| bucket.has(2, now) && !bucket.has(3, now)));
        assert!(bucket.take_many(2, now));
        assert!(!bucket.has(1, now) && bucket.has(1, now + SECOND));
    }

    #[test]
    fn bucket_never_exceeds_its_rate_whatever_the_times() {
        // A clock that stands still, goes backwards, and jumps: a few thousand times, drawn by a
        // fixed sequence.
        let start = Instant::now() + SECOND * 100;
        let (mut seed, mut taken) = (1u64, 0);
        let mut bucket = Bucket::new(5, SECOND);
        for _ in 0..5000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = start + Duration::from_millis((seed >> 33) % 60_000);
            taken += u64::from(bucket.take(at));
        }
        assert!(taken <= 5 + 60, "{taken}");
    }

    #[test]
    fn bucket_without_interval_never_runs_out() {
        let now = Instant::now();
        let mut bucket = Bucket::new(1, Duration::ZERO);
        assert!((0..1000).all(|_| bucket.take(now)));
    }
}
