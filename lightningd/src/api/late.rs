//! Callers that have waited for as long as they said: what each hears.

use crate::kernel::turn::Turn;
use crate::kernel::waiting;
use crate::kernel::waits::{For, Wait};
use crate::kernel::words::rooms::WaitId;
use crate::node::Node;
use crate::sys::form::{RpcError, code};

/// Somebody waited long enough. It may have been answered in this very round.
pub fn timed_out(node: &Node, turn: &mut Turn<'_>, id: WaitId) {
    let Some(Wait { caller, what, .. }) = node.waits.all.get(&id) else { return };
    let error = match what {
        For::Height(h) => {
            RpcError::new(code::WAIT_TIMEOUT, format!("Timed out while waiting for block {h}"))
        }
        For::Invoice(label) => match node.invoices.by_label(label) {
            Some(invoice) => crate::rooms::invoices::view::expired(invoice),
            None => RpcError::new(code::LIGHTNINGD, "the invoice is gone"),
        },
        For::AnyInvoice(_) => RpcError::new(
            code::INVOICE_WAIT_TIMED_OUT,
            "Timed out while waiting for invoice to be paid",
        ),
        For::Payment(..) => RpcError::new(code::PAY_IN_PROGRESS, "Timed out while waiting"),
        For::Connect(_) | For::Fund(..) => {
            RpcError::new(code::CONNECT_ALL_ADDRESSES_FAILED, "Timed out while connecting")
        }
        For::Disconnect(..) => RpcError::new(code::LIGHTNINGD, "Timed out while disconnecting"),
        For::Pong(_) => RpcError::new(code::LIGHTNINGD, "Timed out while waiting for the pong"),
        For::Close(_) => RpcError::new(code::LIGHTNINGD, "Timed out: the channel is still closing"),
    };
    turn.reply(caller.clone(), Err(error));
    waiting::end(node, turn, id);
}
