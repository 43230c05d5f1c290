//! What others are to pay us.

pub mod settle;
pub mod store;
pub mod view;

use crate::kernel::floor::scope;
use primitives::*;
use std::collections::{BTreeMap, HashMap};

/// How far an invoice is. As it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It may be paid.
    Unpaid = 0,
    /// It was.
    Paid = 1,
}

/// A BOLT 11 invoice of ours, paid or not, as `listinvoices` shows it.
#[derive(Debug, Clone)]
pub struct Invoice {
    /// The order in which it was made.
    pub created_index: u64,
    /// The order in which it last changed.
    pub updated_index: Option<u64>,
    /// What its maker calls it.
    pub label: String,
    /// What it is locked with.
    pub hash: PaymentHash,
    /// What opens it.
    pub preimage: Preimage,
    /// What a payer must show.
    pub secret: PaymentSecret,
    /// How much; `None` leaves it to the payer.
    pub amount: Option<Msat>,
    /// What for.
    pub description: Option<String>,
    /// As payers get it.
    pub bolt11: String,
    /// How much time the last HTLC must leave.
    pub min_final_cltv: CltvDelta,
    /// How far.
    pub status: Status,
    /// Seconds since 1970.
    pub expires_at: u64,
    /// Set when paid.
    pub paid: Option<Paid>,
}

/// How it was paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// The order of payments.
    pub index: u64,
    /// All parts together.
    pub received: Msat,
    /// Seconds since 1970.
    pub at: u64,
}

impl Invoice {
    /// Can it no longer be paid, and was not?
    pub fn is_expired(&self, now: u64) -> bool {
        self.status == Status::Unpaid && now >= self.expires_at
    }
    /// CLN's word.
    pub fn status_name(&self, now: u64) -> &'static str {
        match self.status {
            Status::Paid => "paid",
            Status::Unpaid if self.is_expired(now) => "expired",
            Status::Unpaid => "unpaid",
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Invoices {
    /// By created_index.
    pub all: BTreeMap<u64, Invoice>,
    by_hash: HashMap<PaymentHash, u64>,
    by_label: HashMap<String, u64>,
    by_pay_index: BTreeMap<u64, u64>,
}

scope! {
    /// This room and those below it.
    pub struct Scope { invoices: Invoices } on crate::rooms::channels::Scope
}

impl Invoices {
    /// The one of this hash.
    pub fn by_hash(&self, hash: PaymentHash) -> Option<&Invoice> {
        self.by_hash.get(&hash).and_then(|i| self.all.get(i))
    }
    /// The one of this label.
    pub fn by_label(&self, label: &str) -> Option<&Invoice> {
        self.by_label.get(label).and_then(|i| self.all.get(i))
    }
    /// The first that was paid after this one.
    pub fn paid_after(&self, pay_index: u64) -> Option<&Invoice> {
        let next = pay_index.checked_add(1)?;
        self.by_pay_index.range(next..).next().and_then(|(_, i)| self.all.get(i))
    }
    /// Puts one in its place.
    pub fn insert(&mut self, invoice: Invoice) {
        self.by_hash.insert(invoice.hash, invoice.created_index);
        self.by_label.insert(invoice.label.clone(), invoice.created_index);
        if let Some(paid) = invoice.paid {
            self.by_pay_index.insert(paid.index, invoice.created_index);
        }
        self.all.insert(invoice.created_index, invoice);
    }
    /// Forgets one.
    pub fn remove(&mut self, created_index: u64) {
        if let Some(gone) = self.all.remove(&created_index) {
            self.by_hash.remove(&gone.hash);
            self.by_label.remove(&gone.label);
            if let Some(paid) = gone.paid {
                self.by_pay_index.remove(&paid.index);
            }
        }
    }
}
