//! Paying invoices: `pay` and `listpays`.
//!
//! `pay` decides which parts a payment is made of and over which channels they go, and goes on until the payee has all
//! or says no. Each part is lightningd's: `sendpay` offers it, `waitsendpay` tells what became of it, and only what
//! lightningd has stored counts. Today a part goes to a direct peer ([`direct`] finds the channels); a way through the
//! graph takes the place of that one module. This plugin keeps nothing on disk and holds no key.
#![deny(clippy::indexing_slicing)]

mod direct;
mod lightningd;
mod listpays;
mod payment;
mod request;

use primitives::PaymentHash;
use sdk::{Answer, Call, Init, Method, RpcError, Spec};
use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

/// CLN's codes of `pay`.
mod code {
    pub(crate) const IN_PROGRESS: i32 = 200;
    pub(crate) const RHASH_ALREADY_USED: i32 = 201;
    pub(crate) const UNPARSEABLE_ONION: i32 = 202;
    pub(crate) const DESTINATION_PERM_FAIL: i32 = 203;
    pub(crate) const TRY_OTHER_ROUTE: i32 = 204;
    pub(crate) const ROUTE_NOT_FOUND: i32 = 205;
    pub(crate) const ROUTE_TOO_EXPENSIVE: i32 = 206;
    pub(crate) const INVOICE_EXPIRED: i32 = 207;
    pub(crate) const UNSPECIFIED: i32 = 209;
    pub(crate) const STOPPED_RETRYING: i32 = 210;
}

/// What this plugin is.
pub static PLUGIN: Spec<State> = Spec {
    name: "pay",
    dynamic: true,
    options: &[],
    methods: &[
        Method { name: "pay", usage: request::USAGE, handler: pay },
        Method { name: "listpays", usage: listpays::USAGE, handler: listpays::listpays },
    ],
    hooks: &[],
    subscriptions: &[],
    notifications: &["pay_success", "pay_failure"],
    start: |init: &Init| {
        let network = init.network.parse()?;
        let calls = init.rpc.calls();
        Ok(State { network, calls, paying: Mutex::default(), own_id: OnceLock::new() })
    },
    // lightningd, and nothing else.
    confine: |state| sandbox::Box::Plugin { reads: vec![], calls: state.calls },
};

/// What is known between calls.
pub struct State {
    network: primitives::Network,
    /// How lightningd is reached.
    calls: sandbox::Calls,
    /// The hashes that somebody waits for right now.
    paying: Mutex<HashSet<PaymentHash>>,
    /// Who we are, once asked.
    own_id: OnceLock<String>,
}

/// Pays an invoice, and answers when that is done or has failed.
fn pay(call: &Call<'_, State>) -> Result<Answer, RpcError> {
    let request = request::Request::read(call)?;
    let _ours_alone = Claim::new(call.state, request.invoice.terms.payment_hash)?;
    let group = match lightningd::earlier(call, &request)? {
        lightningd::Earlier::Paid(answer) => return Ok(answer),
        lightningd::Earlier::Never { next_group } => next_group,
    };
    let paid = payment::run(call, &request, group);
    let hash = request.invoice.terms.payment_hash.to_string();
    let about = serde_json::json!({ "payment_hash": hash, "bolt11": request.text });
    match &paid {
        Ok(_) => call.notify("pay_success", &serde_json::json!({ "pay_success": about })),
        Err(e) => {
            let error = serde_json::json!({ "code": e.code, "message": e.message });
            let about =
                serde_json::json!({ "payment_hash": hash, "bolt11": request.text, "error": error });
            call.notify("pay_failure", &serde_json::json!({ "pay_failure": about }));
        }
    }
    paid
}

/// While it lives, no second call pays the same hash.
struct Claim<'a>(&'a State, PaymentHash);

impl<'a> Claim<'a> {
    fn new(state: &'a State, hash: PaymentHash) -> Result<Self, RpcError> {
        let mut paying = state.paying.lock().unwrap_or_else(PoisonError::into_inner);
        if paying.insert(hash) { Ok(Self(state, hash)) } else { Err(in_progress()) }
    }
}
impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.paying.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

fn in_progress() -> RpcError {
    RpcError::new(code::IN_PROGRESS, "Payment is pending by some other request.")
}

#[cfg(test)]
mod tests;
