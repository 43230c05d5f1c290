//! What we pay: each part is a row before its HTLC is offered, and ends as its HTLC does.

pub mod ends;
pub mod failure;
pub mod offer;
pub mod route;
pub mod store;
pub mod view;

use crate::kernel::floor::scope;
use crate::sys::form::Caller;
use primitives::*;
use serde_json::Value;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How a part is. As it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Under way.
    Pending = 0,
    /// Paid.
    Complete = 1,
    /// It came to nothing.
    Failed = 2,
}

impl Status {
    /// CLN's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Complete => "complete",
            Self::Failed => "failed",
        }
    }
}

/// A hop of a part's route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteHop {
    /// Who.
    pub node: NodeId,
    /// Over which channel.
    pub channel: ShortChannelId,
}

/// One part of a payment.
#[derive(Debug, Clone)]
pub struct Payment {
    /// The order in which it was made; also its HTLC's key.
    pub created_index: u64,
    /// The order in which it last changed.
    pub updated_index: Option<u64>,
    /// What it is locked with.
    pub hash: PaymentHash,
    /// Which part of its group.
    pub partid: u64,
    /// Which attempt.
    pub groupid: u64,
    /// How it is.
    pub status: Status,
    /// What arrives.
    pub amount: Option<Msat>,
    /// What leaves.
    pub sent: Msat,
    /// What all parts bring together.
    pub total: Msat,
    /// Where to.
    pub destination: Option<NodeId>,
    /// For its maker.
    pub label: Option<String>,
    /// What was paid.
    pub bolt11: Option<String>,
    /// What for.
    pub description: Option<String>,
    /// Seconds since 1970.
    pub created_at: u64,
    /// Seconds since 1970.
    pub completed_at: Option<u64>,
    /// The receipt.
    pub preimage: Option<Preimage>,
    /// Shared with each hop: they read the error that may come back.
    pub secrets: Vec<Secret<32>>,
    /// The way it took.
    pub route: Vec<RouteHop>,
    /// Its first channel.
    pub channel: ChannelNumber,
    /// What `waitsendpay` answers when it failed.
    pub failure: Option<(i64, String, Value)>,
}

/// All parts of all payments.
#[derive(Debug, Default)]
pub struct Payments {
    /// By created_index.
    pub all: BTreeMap<u64, Payment>,
    by_hash: HashMap<PaymentHash, Vec<u64>>,
    pending: BTreeSet<u64>,
    /// Those whose HTLC is with channeld and in no commitment yet: they become rows together with
    /// it, and only then do these callers hear that they are pending. After a crash before that
    /// they never were.
    unstored: BTreeMap<u64, Vec<Caller>>,
    last_index: Cell<u64>,
}

scope! {
    /// This room and those below it.
    pub struct Scope { payments: Payments } on crate::rooms::invoices::Scope
}

impl Payments {
    /// A number that no row has. One that never became a row may be used again after a restart.
    pub fn next_index(&self) -> u64 {
        self.last_index.set(self.last_index.get() + 1);
        self.last_index.get()
    }
    /// Is it only in memory so far?
    pub fn is_unstored(&self, created_index: u64) -> bool {
        self.unstored.contains_key(&created_index)
    }
    /// This caller hears once it is a row.
    pub fn tell_when_stored(&mut self, created_index: u64, caller: Caller) {
        self.unstored.entry(created_index).or_default().push(caller);
    }
    /// Parts of this hash, oldest first.
    pub fn of(&self, hash: PaymentHash) -> impl Iterator<Item = &Payment> {
        self.by_hash.get(&hash).into_iter().flatten().filter_map(|i| self.all.get(i))
    }
    /// Puts one in its place.
    pub fn insert(&mut self, payment: Payment) {
        let of_hash = self.by_hash.entry(payment.hash).or_default();
        if !of_hash.contains(&payment.created_index) {
            of_hash.push(payment.created_index);
        }
        if payment.status == Status::Pending {
            self.pending.insert(payment.created_index);
        } else {
            self.pending.remove(&payment.created_index);
        }
        self.all.insert(payment.created_index, payment);
    }
    /// Forgets one.
    pub fn remove(&mut self, created_index: u64) {
        self.pending.remove(&created_index);
        if let Some(gone) = self.all.remove(&created_index)
            && let Some(of_hash) = self.by_hash.get_mut(&gone.hash)
        {
            of_hash.retain(|i| *i != created_index);
            if of_hash.is_empty() {
                self.by_hash.remove(&gone.hash);
            }
        }
    }
}
