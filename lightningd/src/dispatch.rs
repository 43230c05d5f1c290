//! One event, one hearer.

use crate::api::{late, rpc};
use crate::flows::{backend, block, children, hooks, htlc, peer};
use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::{births, plugins, waiting};
use crate::node::Node;
use crate::rooms::{channels, onchain, payments, peers};
use crate::sys::fatal::{Fatal, Stop};

/// Hands an event to the flow or the room that hears it. No `_`: a new event does not compile
/// without its hearer.
pub fn handle(node: &Node, turn: &mut Turn<'_>, event: Event) -> Result<(), Stop> {
    match event {
        Event::Rpc(caller, request) => rpc::handle(node, turn, caller, request)?,
        Event::Child(child, frame) => children::heard(node, turn, child, frame)?,
        Event::ChildGone(child) => children::gone(node, turn, child)?,
        Event::Overdue(child) => {
            turn.say(Outgoing::Kill { child, why: "its work is done".to_owned() });
        }
        Event::Connectd(said) => peer::heard(node, turn, said)?,
        Event::PeerRefused(peer, connection, channel) => {
            peer::refused(node, turn, peer, connection, channel);
        }
        Event::PeerConnected(peer, connection) => {
            channels::strangers::connected(node, turn, peer, connection)?;
        }
        Event::ServePeer(peer, connection) => {
            channels::strangers::serve_late(node, turn, peer, connection)?;
        }
        Event::Reconnect(peer, at) => peer::reconnect(node, turn, peer, at),
        Event::StartConnectd(at) => peer::start_connectd(node, turn, at)?,
        Event::ActivateConnectd => peer::activate(node, turn),
        Event::ListenAgain(child) => peers::connectd::listen_again(node, turn, child)?,
        Event::TellFundedPeers => peer::tell_funded(node, turn),
        Event::Plugin(plugin, message) => plugins::heard::heard(node, turn, plugin, message)?,
        Event::PluginGone(plugin, why) => plugins::life::gone(node, turn, plugin, &why)?,
        Event::PluginBorn(plugin) => plugins::life::ask_manifest(node, turn, plugin),
        Event::PluginDue(plugin, stage) => plugins::life::due(node, turn, plugin, &stage),
        Event::PluginsChanged => plugins::life::continue_start(node, turn)?,
        Event::PluginsReady => backend::begin(node, turn)?,
        // Taken back, the question would never be asked again: the node would stand still and not
        // know it.
        Event::Backend(purpose, result) => {
            backend::answered(node, turn, purpose, result).map_err(never_refused)?;
        }
        Event::Chain(event) => backend::handle(node, turn, event)?,
        Event::FeesChanged => channels::seed::fees_changed(node, turn),
        Event::NewTip(height) => block::is_tip(node, turn, height)?,
        Event::Channel(number, event) => channels::events::handle(node, turn, number, event)?,
        Event::ForgetChannels(over) => channels::forget::forget_some(node, turn, over)?,
        Event::ChannelForgotten(number, peer) => peer::channel_forgotten(node, turn, number, peer)?,
        Event::Onchain(number, event) => onchain::events::handle(node, turn, number, event)?,
        Event::AllocateFees => onchain::events::fees_due(node, turn)?,
        Event::Decide(channel, id) => htlc::decide(node, turn, channel, id),
        Event::HookAnswered(point, plugin, answer) => {
            hooks::answered(node, turn, point, plugin, answer);
        }
        Event::Decided(verdict) => htlc::decided(node, turn, verdict)?,
        Event::Htlc(event) => htlc::handle(node, turn, event)?,
        Event::StorePayment(index) => payments::ends::keep(node, turn, index)?,
        Event::RpcTimeout(id) => late::timed_out(node, turn, id),
        Event::RpcGone(conn) => waiting::forget(node, turn, conn),
        Event::Shutdown(caller) => {
            log::info!("shutting down");
            births::shut_down(node, turn, caller);
        }
    }
    Ok(())
}

fn never_refused(stop: Stop) -> Stop {
    match stop {
        Stop::Refused(e) => {
            Fatal(format!("an answer of the Bitcoin backend cannot be used: {e}")).into()
        }
        Stop::Fatal(fatal) => fatal.into(),
    }
}
