//! The turn: nothing leaves before it is on disk.
//!
//! The loop gathers what is ready, opens one transaction, lets the rooms handle each event inside a
//! savepoint of its own, commits once, and only then delivers what they said. Handlers see the node
//! as it is and leave the values that shall be as *installs*, run after their savepoint was
//! released: a refusal takes back its rows, its values and its words.

use crate::kernel::words::event::Event;
use crate::kernel::words::news::News;
use crate::kernel::words::outgoing::Outgoing;
use crate::sys::fatal::{Fatal, Stop};
use crate::sys::form::{Caller, RpcError};
use crate::sys::hsm::HsmClient;
use rusqlite::Connection;
use serde_json::Value;
use std::any::{Any, TypeId};
use std::collections::VecDeque;
use std::time::Instant;
use subdaemon::barrier;

/// The right of `Self`, a scope, to install into the room `R`. Given by `scope!` to the scope that
/// owns `R`, to no other.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not change `{R}`: an install changes the room of its own scope",
    note = "call a function of the room that owns `{R}`, or tell it by `turn.also(Event::..)`"
)]
pub trait Holds<R: Any> {}

/// The owner of the rooms during a turn: the node, or in a test the scope of one room.
pub trait House {
    /// The room of this type. `None` if it stands on no step of these stairs.
    fn room(&mut self, which: TypeId) -> Option<&mut dyn Any>;
}

type Install = Box<dyn FnOnce(&mut dyn House)>;

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
    /// Tells plugins a fact once the turn is committed: those that subscribed to its topic.
    pub fn tell(&mut self, news: News) {
        self.said.push(Outgoing::News(news));
    }
    /// Changes a room of `scope` once this event's rows hold. Until then every handler sees the old
    /// value.
    pub fn install<S: Holds<R>, R: Any>(
        &mut self,
        _scope: &S,
        change: impl FnOnce(&mut R) + 'static,
    ) {
        self.install_as::<S, R>(change);
    }
    /// The same for a function that has no scope at hand: it names its own.
    ///
    /// # Panics
    /// When the install runs in a house without the room `R`.
    pub fn install_as<S: Holds<R>, R: Any>(&mut self, change: impl FnOnce(&mut R) + 'static) {
        self.installs.push(Box::new(move |house| {
            let room = house.room(TypeId::of::<R>()).and_then(<dyn Any>::downcast_mut::<R>);
            change(room.expect("the house lends out scopes of its own rooms alone"));
        }));
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

/// Runs the events of one round through `handle`, in one transaction. What is returned is on disk;
/// true if the commit wrote something. Where `may_store_rpc` is false, a request that would store a
/// row is refused: the disk has no room.
pub fn run<N: House>(
    node: &mut N,
    db: &Connection,
    hsm: &mut HsmClient,
    (events, may_store_rpc): (Vec<Event>, bool),
    handle: impl Fn(&N, &mut Turn<'_>, Event) -> Result<(), Stop>,
) -> Result<(Outbox, bool), Fatal> {
    let mut waiting: VecDeque<Event> = events.into();
    let mut outbox = Vec::new();
    let before = db.total_changes();
    db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    while let Some(event) = waiting.pop_front() {
        db.prepare_cached("SAVEPOINT event")?.execute([])?;
        let blame = event.blame();
        let may_store = may_store_rpc || !matches!(event, Event::Rpc(..));
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
    Ok((Outbox(outbox), changed))
}
