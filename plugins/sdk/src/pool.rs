//! A bounded number of threads for a bounded number of jobs.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Handlers that may run at the same time.
const MAX_THREADS: usize = 128;
/// Jobs that may wait for a thread; then whoever brings another waits.
const MAX_WAITING: usize = 1024;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// Threads that come with work and go without.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a job as soon as a thread is free. Waits while too many wait already.
    pub(crate) fn run(&self, job: Job) {
        let mut state = self.lock();
        while state.waiting.len() >= MAX_WAITING {
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting.push_back(job);
        if state.waiting.len() > state.idle && state.threads < MAX_THREADS {
            let pool = self.clone();
            let started = std::thread::Builder::new().spawn(move || pool.work());
            // Without a new thread, those that there are get to it.
            state.threads += usize::from(started.is_ok());
            if state.threads == 0 {
                let jobs = std::mem::take(&mut state.waiting);
                drop(state);
                jobs.into_iter().for_each(|job| job());
                return;
            }
        }
        drop(state);
        self.0.1.notify_all();
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                drop(state);
                self.0.1.notify_all();
                job();
                state = self.lock();
                continue;
            }
            state.idle += 1;
            let (again, timeout) =
                self.0.1.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if timeout.timed_out() && state.waiting.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}
