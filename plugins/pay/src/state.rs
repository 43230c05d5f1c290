//! The plugin's state between calls.

use crate::code;
use primitives::{Network, PaymentHash};
use sdk::RpcError;
use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The state between calls.
pub struct State {
    pub(crate) network: Network,
    /// How lightningd is reached.
    calls: sandbox::Calls,
    /// The hashes that somebody waits for right now.
    paying: Mutex<HashSet<PaymentHash>>,
    /// Our node id, once asked.
    pub(crate) own_id: OnceLock<String>,
}

impl State {
    pub(crate) fn new(network: Network, calls: sandbox::Calls) -> Self {
        Self { network, calls, paying: Mutex::default(), own_id: OnceLock::new() }
    }
    pub(crate) const fn calls(&self) -> sandbox::Calls {
        self.calls
    }
}

/// While it lives, no second call pays the same hash.
pub(crate) struct Claim<'a>(&'a State, PaymentHash);

impl<'a> Claim<'a> {
    pub(crate) fn new(state: &'a State, hash: PaymentHash) -> Result<Self, RpcError> {
        let mut paying = state.paying.lock().unwrap_or_else(PoisonError::into_inner);
        if paying.insert(hash) { Ok(Self(state, hash)) } else { Err(in_progress()) }
    }
}
impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.paying.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// CLN's error while another call pays the same invoice.
pub(crate) fn in_progress() -> RpcError {
    RpcError::new(code::IN_PROGRESS, "Payment is pending by some other request.")
}
