//! The scripts that closings of our channels pay to.

use crate::kernel::turn::Turn;
use crate::rooms::channels::Scope;
use crate::rooms::wallet;
use crate::rooms::wallet::AddressKind;
use crate::sys::fatal::Stop;
use primitives::*;

/// The script to fix from the start, if one was asked for and the peer knows how to hold us to it.
/// BOLT 2, option_upfront_shutdown_script. Any other would leave `close` no choice of a
/// destination.
pub fn upfront_script(
    connection: &crate::rooms::peers::Connection,
    close_to: Option<&ScriptBuf>,
) -> Option<ScriptBuf> {
    let holds = connection.features.offers(feature::UPFRONT_SHUTDOWN_SCRIPT);
    close_to.filter(|_| holds).cloned()
}

/// A new script of ours to be paid by at a closing, in a form that the peer must take.
pub fn closing_script(
    node: &Scope,
    turn: &mut Turn<'_>,
    remote: &Features,
) -> Result<ScriptBuf, Stop> {
    // BOLT 2, shutdown: newer witness versions need option_shutdown_anysegwit.
    let kind = if remote.offers(feature::SHUTDOWN_ANYSEGWIT) {
        AddressKind::Taproot
    } else {
        AddressKind::Bech32
    };
    Ok(wallet::spend::next_script(node, turn, kind)?)
}
