//! Every scenario of the sweeps.

use super::scenario::Scenario;
use super::world::Who;
use super::{channels, fees, forwards, onchain, payments};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "pay-sent", target: Who::L1, run: payments::fulfilled },
    Scenario { name: "pay-received", target: Who::L3, run: payments::fulfilled },
    Scenario { name: "forward-fulfilled", target: Who::L2, run: payments::fulfilled },
    Scenario { name: "forward-failed", target: Who::L2, run: payments::failed },
    Scenario { name: "open-opener", target: Who::L1, run: channels::opened },
    Scenario { name: "open-accepter", target: Who::L2, run: channels::opened },
    Scenario { name: "close-closer", target: Who::L1, run: channels::closed },
    Scenario { name: "close-closee", target: Who::L2, run: channels::closed },
    Scenario { name: "close-again-closer", target: Who::L1, run: channels::closed_again },
    Scenario { name: "close-again-closee", target: Who::L2, run: channels::closed_again },
    Scenario { name: "fee-opener", target: Who::L1, run: fees::updated },
    Scenario { name: "fee-accepter", target: Who::L2, run: fees::updated },
    Scenario { name: "ours-before", target: Who::L1, run: onchain::before },
    Scenario { name: "ours-during", target: Who::L1, run: onchain::during },
    Scenario { name: "ours-after", target: Who::L1, run: onchain::after },
    Scenario { name: "ours-never", target: Who::L1, run: onchain::never },
    Scenario { name: "theirs-before", target: Who::L1, run: onchain::peer_before },
    Scenario { name: "theirs-during", target: Who::L1, run: onchain::peer_during },
    Scenario { name: "theirs-after", target: Who::L1, run: onchain::peer_after },
    Scenario { name: "theirs-never", target: Who::L1, run: onchain::peer_never },
    Scenario { name: "forward-out-taken", target: Who::L2, run: forwards::out_taken },
    Scenario { name: "forward-out-timeout", target: Who::L2, run: forwards::out_timeout },
    Scenario { name: "forward-in-taken", target: Who::L2, run: forwards::in_taken },
    Scenario { name: "penalty", target: Who::L2, run: onchain::penalty },
];
