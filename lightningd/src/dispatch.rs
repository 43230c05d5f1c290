//! Who handles what.

use crate::api::rpc;
use crate::kernel::plugins as plugin_host;
use crate::kernel::turn::{Stop, Turn};
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::node::Node;
use crate::rooms::{chain, channels, htlcs};
use crate::sys::fatal::Fatal;

/// One event to its room.
pub fn handle(node: &Node, turn: &mut Turn<'_>, event: Event) -> Result<(), Stop> {
    match event {
        Event::Rpc(caller, request) => rpc::handle(node, turn, caller, request),
        Event::Child(child, frame) => crate::flows::children::heard(node, turn, child, frame),
        Event::Connectd(said) => crate::rooms::peers::heard(node, turn, said),
        Event::PeerRefused(peer, connection, channel) => {
            crate::rooms::peers::refused(node, turn, peer, connection, channel);
            Ok(())
        }
        Event::ChildGone(child) => crate::flows::children::gone(node, turn, child),
        Event::Overdue(child) => {
            turn.say(Outgoing::Kill { child, why: "its work is done".to_owned() });
            Ok(())
        }
        Event::Plugin(plugin, message) => plugin_host::heard::heard(node, turn, plugin, message),
        Event::PluginGone(plugin, why) => plugin_host::life::gone(node, turn, plugin, &why),
        Event::PluginBorn(plugin) => {
            plugin_host::life::ask_manifest(node, turn, plugin);
            Ok(())
        }
        Event::PluginDue(plugin, stage) => {
            plugin_host::life::due(node, turn, plugin, &stage);
            Ok(())
        }
        Event::Backend(purpose, result) => {
            // Taken back, the question would never be asked again: the node would stand still and not know it.
            chain::answered(node, turn, purpose, result).map_err(|stop| match stop {
                Stop::Refused(e) => Stop::Fatal(Fatal(format!(
                    "an answer of the Bitcoin backend cannot be used: {e}"
                ))),
                Stop::Fatal(fatal) => Stop::Fatal(fatal),
            })
        }
        Event::Chain(event) => chain::handle(node, turn, event),
        Event::Channel(number, event) => channels::handle(node, turn, number, event),
        Event::Onchain(number, event) => crate::rooms::onchain::handle(node, turn, number, event),
        Event::AllocateFees => crate::rooms::onchain::fees_due(node, turn),
        Event::Decide(channel, id) => htlcs::decide::decide(node, turn, channel, id),
        Event::Htlc(event) => htlcs::decide::handle(node, turn, event),
        Event::RpcTimeout(id) => crate::api::late::timed_out(node, turn, id),
        Event::RpcGone(conn) => {
            turn.install(move |node| node.waits.forget(conn));
            Ok(())
        }
        Event::Reconnect(peer, at) => crate::rooms::peers::reconnect(node, turn, peer, at),
        Event::StartConnectd(at) => crate::rooms::peers::connectd::start_again(node, turn, at),
        Event::ListenAgain(child) => crate::rooms::peers::connectd::listen_again(node, turn, child),
        Event::TellFriends => {
            crate::rooms::peers::connectd::tell_friends(node, turn);
            Ok(())
        }
        Event::Shutdown(caller) => {
            log::info!("shutting down");
            turn.install(|node| node.shutting_down = true);
            turn.say(Outgoing::ShutDown(caller));
            Ok(())
        }
    }
}
