//! The turn: nothing leaves before it is on disk.
//!
//! The loop gathers what is ready, opens one transaction, lets the rooms handle each event inside a savepoint of its own,
//! commits once, and only then delivers what they said. Handlers see the node as it is (`&Node`) and leave the values that
//! shall be as *installs*, run after their savepoint was released: a refusal takes back its rows, its values and its words.

use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::node::Node;
use crate::sys::disk::Space;
use crate::sys::fatal::{Fatal, Stop};
use crate::sys::form::{Caller, RpcError};
use crate::sys::hsm::HsmClient;
use rusqlite::Connection;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Instant;
use subdaemon::barrier;

type Install = Box<dyn FnOnce(&mut Node)>;

/// What a handler may do.
pub struct Turn<'a> {
    /// Inside the turn's transaction and this event's savepoint.
    pub db: &'a Connection,
    /// Answers at once, or the node stops.
    pub hsm: &'a mut HsmClient,
    said: Vec<Outgoing>,
    installs: Vec<Install>,
    also: Vec<Event>,
    last: Vec<Event>,
}

impl Turn<'_> {
    /// Says something once the turn is committed.
    pub fn say(&mut self, what: Outgoing) {
        self.said.push(what);
    }
    /// Answers an RPC caller once the turn is committed.
    pub fn reply(&mut self, caller: Caller, result: Result<Value, RpcError>) {
        self.said.push(Outgoing::Reply { caller, result });
    }
    /// Makes a new value hold, once this event's rows do.
    pub fn install(&mut self, change: impl FnOnce(&mut Node) + 'static) {
        self.installs.push(Box::new(change));
    }
    /// Handles this in the same turn, after this event: it sees what was installed.
    pub fn also(&mut self, event: Event) {
        self.also.push(event);
    }
    /// Handles this in the same turn, after all other events of it.
    pub fn last(&mut self, event: Event) {
        self.last.push(event);
    }
    /// Handles this in a turn of its own, after this one is on disk.
    pub fn then(&mut self, event: Event) {
        self.said.push(Outgoing::Then(event));
    }
    /// Handles this at a time. It may come after what it was for is gone: handlers check.
    pub fn at(&mut self, when: Instant, event: Event) {
        self.said.push(Outgoing::At(when, event));
    }
}

/// What benchmarks count.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counters {
    /// Rounds of the loop that had events.
    pub turns: u64,
    /// Those whose commit wrote something: one fsync each.
    pub commits: u64,
    /// Processes of daemons that were started.
    pub births: u64,
}

/// What a committed turn has to say. Whoever holds it delivers it.
#[must_use]
pub struct Outbox(pub Vec<Outgoing>);

/// Runs the events of one round through `handle`, in one transaction. What is returned is on disk.
pub fn run(
    node: &mut Node,
    db: &Connection,
    hsm: &mut HsmClient,
    events: Vec<Event>,
    handle: impl Fn(&Node, &mut Turn<'_>, Event) -> Result<(), Stop>,
) -> Result<Outbox, Fatal> {
    let mut waiting: VecDeque<Event> = events.into();
    let mut outbox = Vec::new();
    let before = db.total_changes();
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    while let Some(event) = waiting.pop_front() {
        db.prepare_cached("SAVEPOINT event")?.execute([])?;
        let blame = event.blame();
        let may_store = node.space != Space::Exhausted || !matches!(event, Event::Rpc(..));
        let stored = db.total_changes();
        let mut turn = Turn {
            db,
            hsm,
            said: Vec::new(),
            installs: Vec::new(),
            also: Vec::new(),
            last: Vec::new(),
        };
        let result = handle(node, &mut turn, event);
        let Turn { said, installs, also, last, .. } = turn;
        let result = match result {
            Ok(()) if !may_store && db.total_changes() != stored => {
                Err(Stop::refused(crate::sys::disk::NO_ROOM))
            }
            other => other,
        };
        match result {
            Ok(()) => {
                db.prepare_cached("RELEASE event")?.execute([])?;
                for install in installs {
                    install(node);
                }
                outbox.extend(said);
                // In the order they were asked for, before anything that was waiting.
                for event in also.into_iter().rev() {
                    waiting.push_front(event);
                }
                waiting.extend(last);
            }
            Err(Stop::Refused(refusal)) => {
                db.prepare_cached("ROLLBACK TO event")?.execute([])?;
                db.prepare_cached("RELEASE event")?.execute([])?;
                outbox.extend(blame.told(refusal));
            }
            Err(Stop::Fatal(fatal)) => return Err(fatal),
        }
    }
    let changed = db.total_changes() != before;
    if changed {
        barrier::pass("before a commit");
    }
    db.prepare_cached("COMMIT")?.execute([])?;
    if changed {
        crate::sys::barriers::committed(&node.config, db);
    }
    node.counters.turns += 1;
    // A commit of nothing writes nothing: only these reach the disk.
    node.counters.commits += u64::from(changed);
    if changed && let ms @ 1.. = node.config.u32_or("dev-commit-delay", 0) {
        std::thread::sleep(std::time::Duration::from_millis(ms.into()));
    }
    Ok(Outbox(outbox))
}
