//! Signatures by the hundred, on up to eight cores: in hsmd. Elsewhere each is made or checked by
//! the thread that asks.
//!
//! A commitment may have 966 HTLC outputs, each with a signature to make or to check, and a peer
//! that waits meanwhile. The threads are started once ([`begin`]): a sandboxed process makes none.

use std::num::NonZero;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, available_parallelism};

/// To wake a thread costs about as much as one signature: it is not called for fewer.
const FEWEST: usize = 8;
/// Others want to run as well.
const MOST: usize = 8;

type Job = Box<dyn FnOnce() + Send>;
/// One for each thread but the caller's.
static WORKERS: OnceLock<Vec<Sender<Job>>> = OnceLock::new();

/// Starts the threads, and returns once they run. Without that [`each`] works alone.
pub fn begin() {
    WORKERS.get_or_init(|| {
        let cores = available_parallelism().map_or(1, NonZero::get).min(MOST);
        (1..cores).filter_map(|_| worker()).collect()
    });
}

/// A thread that does what it is sent, one after the other. `None` if none could be made.
fn worker() -> Option<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let (started, runs) = channel();
    let work = move || {
        // The receiver is gone only if the process ends.
        let _ = started.send(());
        jobs.iter().for_each(|job| job());
    };
    Builder::new().spawn(work).ok()?;
    runs.recv().ok().map(|()| sender)
}

/// `work` on every item with its place, the results in the items' order. Neither is held by anybody
/// once it returns.
pub fn each<I, O>(
    items: &Arc<Vec<I>>,
    work: impl Fn(usize, &I) -> O + Send + Sync + 'static,
) -> Vec<O>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
{
    on(WORKERS.get().map_or(&[], Vec::as_slice), items, work)
}

fn on<I, O>(
    workers: &[Sender<Job>],
    items: &Arc<Vec<I>>,
    work: impl Fn(usize, &I) -> O + Send + Sync + 'static,
) -> Vec<O>
where
    I: Send + Sync + 'static,
    O: Send + 'static,
{
    let shares = (workers.len() + 1).min(items.len() / FEWEST).max(1);
    if shares == 1 {
        return items.iter().enumerate().map(|(at, item)| work(at, item)).collect();
    }
    let length = items.len().div_ceil(shares);
    let share = move |items: &[I], at: usize| -> Vec<O> {
        let all = items.iter().enumerate();
        all.skip(at * length).take(length).map(|(at, item)| work(at, item)).collect()
    };
    let share = Arc::new(share);
    let (done, results) = channel();
    for (at, worker) in (1..shares).zip(workers) {
        let (items, share, done) = (Arc::clone(items), Arc::clone(&share), done.clone());
        let job = move || {
            let part = share(&items, at);
            // Secrets in `work` are erased when the caller has its results.
            drop((items, share));
            let _ = done.send((at, part));
        };
        // A thread that is gone takes no job: that share is missing below.
        let _ = worker.send(Box::new(job));
    }
    drop(done);
    let mut parts: Vec<Option<Vec<O>>> = (0..shares).map(|_| None).collect();
    let own = share(items, 0);
    for (at, part) in std::iter::once((0, own)).chain(results) {
        if let Some(place) = parts.get_mut(at) {
            *place = Some(part);
        }
    }
    let parts = parts.into_iter().enumerate();
    parts.flat_map(|(at, part)| part.unwrap_or_else(|| share(items, at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workers(cores: usize) -> Vec<Sender<Job>> {
        (1..cores).map(|_| worker().unwrap()).collect()
    }

    #[test]
    fn items_are_worked_on_once_and_keep_their_order() {
        for cores in 1..=5 {
            let workers = workers(cores);
            for count in (0..70).chain([966]) {
                let items = Arc::new((0..count).collect::<Vec<usize>>());
                let expected: Vec<usize> = items.iter().map(|i| i * 2).collect();
                assert_eq!(on(&workers, &items, |_, i| i * 2), expected, "{cores} cores");
            }
        }
    }

    #[test]
    fn long_list_is_shared_and_a_short_one_is_not() {
        let workers = workers(4);
        let threads = |count| {
            let items = Arc::new(vec![(); count]);
            let mut ids =
                on(&workers, &items, |_, ()| format!("{:?}", std::thread::current().id()));
            ids.dedup();
            ids.len()
        };
        assert_eq!(threads(2 * FEWEST - 1), 1);
        assert_eq!(threads(2 * FEWEST), 2);
        assert_eq!(threads(966), 4);
    }

    #[test]
    fn work_is_done_without_a_lost_thread_and_dropped_after() {
        let mut workers = workers(4);
        let (gone, jobs) = channel::<Job>();
        drop(jobs);
        workers.push(gone);
        let (items, held) = (Arc::new((0..966).collect::<Vec<usize>>()), Arc::new(()));
        let inside = Arc::clone(&held);
        let work = move |_: usize, i: &usize| {
            let _ = &inside;
            *i
        };
        assert_eq!(on(&workers, &items, work), *items);
        assert_eq!((Arc::strong_count(&items), Arc::strong_count(&held)), (1, 1));
    }
}
