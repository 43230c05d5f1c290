//! How long to wait before something that failed is tried again. Time comes in as a value.

use std::time::{Duration, Instant};

/// The first failure after a time of health costs no pause, the second `first`, and each further
/// one twice as long, up to `longest`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    /// What has worked for so long begins anew.
    healthy_after: Duration,
    failures: u32,
    begun: Option<Instant>,
}

impl Backoff {
    /// Nothing has failed.
    pub const fn new(first: Duration, longest: Duration, healthy_after: Duration) -> Self {
        Self { first, longest, healthy_after, failures: 0, begun: None }
    }

    /// It is tried now.
    pub const fn begin(&mut self, now: Instant) {
        self.begun = Some(now);
    }

    /// It failed, or ended when it should not. How long to wait before it is tried again.
    pub fn fail(&mut self, now: Instant) -> Duration {
        let begun = self.begun.take();
        if begun.is_some_and(|at| now.saturating_duration_since(at) >= self.healthy_after) {
            self.failures = 0;
        }
        let doubled = self.failures.checked_sub(1).map(|n| self.first * (1 << n.min(16)));
        self.failures = self.failures.saturating_add(1);
        doubled.map_or(Duration::ZERO, |pause| pause.min(self.longest))
    }

    /// Failures since the last time of health.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn backoff_doubles_up_to_its_bound_and_ends_with_health() {
        let mut backoff = Backoff::new(SECOND, SECOND * 60, SECOND * 120);
        let mut now = Instant::now();
        for expected in [0, 1, 2, 4, 8, 16, 32, 60, 60, 60] {
            backoff.begin(now);
            now += SECOND * 119;
            assert_eq!(backoff.fail(now), SECOND * expected);
        }
        assert_eq!(backoff.failures(), 10);
        backoff.begin(now);
        assert_eq!(backoff.fail(now + SECOND * 120), Duration::ZERO);
        assert_eq!(backoff.fail(now + SECOND * 999), SECOND, "it was not tried since");
    }

    #[test]
    fn backoff_of_a_thousand_failures_is_its_bound() {
        let mut backoff = Backoff::new(SECOND, SECOND * 60, SECOND);
        let last = (0..1000).map(|_| backoff.fail(Instant::now())).last();
        assert_eq!(last, Some(SECOND * 60));
    }
}
