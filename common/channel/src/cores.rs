//! Signatures by the hundred, on as many cores as there are.
//!
//! A commitment may have 966 HTLC outputs, each with a signature to make or to check, and a peer that waits meanwhile.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::thread::{Builder, ScopedJoinHandle, available_parallelism, scope};

/// A thread costs about as much as one signature: it is not called for fewer.
const FEWEST: usize = 8;
/// Others want to run as well.
const MOST: usize = 8;

/// `work` on every item, the results in the items' order.
pub fn each<I: Sync, O: Send>(items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    on(cores(), items, &work)
}

fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, NonZero::get).min(MOST))
}

fn on<I: Sync, O: Send>(cores: usize, items: &[I], work: &(impl Fn(&I) -> O + Sync)) -> Vec<O> {
    let hands = cores.min(items.len() / FEWEST).max(1);
    let mut shares = items.chunks(items.len().div_ceil(hands).max(1));
    let own = shares.next().unwrap_or_default();
    let alone = |share: &[I]| share.iter().map(work).collect::<Vec<O>>();
    scope(|scope| {
        // Whoever cannot have a thread does that share as well.
        let called: Vec<_> = shares
            .map(|share| (share, Builder::new().spawn_scoped(scope, move || alone(share)).ok()))
            .collect();
        let mut done = alone(own);
        done.reserve(items.len() - done.len());
        for (share, thread) in called {
            let theirs = thread.map(ScopedJoinHandle::join);
            done.extend(match theirs {
                Some(theirs) => theirs.unwrap_or_else(|panic| resume_unwind(panic)),
                None => alone(share),
            });
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_the_order_stays() {
        for cores in 1..=5 {
            for count in (0..70).chain([966]) {
                let items: Vec<usize> = (0..count).collect();
                let expected: Vec<usize> = items.iter().map(|i| i * 2).collect();
                assert_eq!(on(cores, &items, &|i| i * 2), expected, "{cores} cores");
            }
        }
    }

    #[test]
    fn a_long_list_is_shared_and_a_short_one_is_not() {
        let threads = |count| {
            let items = vec![(); count];
            let mut ids = on(4, &items, &|()| format!("{:?}", std::thread::current().id()));
            ids.dedup();
            ids.len()
        };
        assert_eq!(threads(2 * FEWEST - 1), 1);
        assert_eq!(threads(2 * FEWEST), 2);
        assert_eq!(threads(966), 4);
    }
}
