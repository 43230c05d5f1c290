//! Paying invoices: `pay` and `listpays`.
//!
//! `pay` decides which parts a payment is made of and over which channels they go, and goes on
//! until the payee has all or says no. Each part is lightningd's: `sendpay` offers it,
//! `waitsendpay` tells what became of it, and only what lightningd has stored counts. Today a part
//! goes to a direct peer ([`direct`] finds the channels); a way through the graph takes the place
//! of that one module. This plugin keeps nothing on disk and holds no key.
#![deny(clippy::indexing_slicing)]

mod code;
mod direct;
mod lightningd;
mod listpays;
mod payment;
mod request;
mod state;

pub use state::State;

use crate::state::Claim;
use sdk::{Answer, Call, Init, Method, RpcError, Spec};

/// The plugin's table.
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
    start: |init: &Init| Ok(State::new(init.network.parse()?, init.rpc.calls())),
    // lightningd, and nothing else.
    confine: |state| sandbox::Sandbox::Plugin { reads: vec![], calls: state.calls() },
};

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

#[cfg(test)]
mod tests;
