//! News: facts that plugins may subscribe to, one row for each topic. They leave after the commit.

use primitives::{Msat, NodeId, Preimage};
use wire::connectd::{Address, Direction};

/// A fact that some plugin may want to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// `connect`: a peer has exchanged `init` with us.
    Connected { peer: NodeId, direction: Direction, address: Address },
    /// `invoice_payment`: an invoice of ours was paid, with this much.
    InvoicePaid { label: String, preimage: Preimage, received: Msat },
}
