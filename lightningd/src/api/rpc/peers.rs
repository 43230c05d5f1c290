//! `connect`, `disconnect`, `listpeers`, `ping`.

use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::node::Node;
use crate::rooms::peers::address::parse_address;
use crate::rooms::peers::line::{dial, hang_up, order};
use crate::rooms::peers::view::{address_json, direction};
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use primitives::NodeId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use wire::connectd::{Address, PingPeer};

/// How long `connect` waits at most.
const CONNECT_TIMEOUT_SECONDS: u64 = 120;
const PING_TIMEOUT_SECONDS: u64 = 60;

/// As people write an address with its port: IPv6 in brackets.
fn show(address: &Address) -> String {
    if address.host.contains(':') {
        format!("[{}]:{}", address.host, address.port)
    } else {
        format!("{}:{}", address.host, address.port)
    }
}

/// Every address, as `getinfo` lists them.
pub fn bindings(node: &Node) -> Value {
    node.peers.listening().iter().map(address_json).collect()
}

/// Where to dial: what was given, `at` or `host`, else where the peer was before.
fn addresses_of(
    node: &Node,
    args: &Args,
    peer: NodeId,
    at: Option<&str>,
) -> Result<Vec<Address>, RpcError> {
    let default_port = match args.number("port") {
        None => node.network.default_port(),
        Some(p) => u16::try_from(p)
            .ok()
            .filter(|p| *p > 0)
            .ok_or_else(|| RpcError::params(format!("port: {p} is no port: 1 to 65535")))?,
    };
    let mut addresses = Vec::new();
    if let Some(text) = at.map(str::to_owned).or_else(|| args.text("host")) {
        let parsed = parse_address(&text, default_port);
        addresses.push(parsed.ok_or_else(|| {
            RpcError::params(format!("host: '{text}' is no address: HOST or HOST:PORT"))
        })?);
    } else {
        addresses.extend(node.peers.all.get(&peer).and_then(|p| p.address.clone()));
    }
    if addresses.is_empty() {
        let text = "Unable to connect, no address known for peer";
        return Err(RpcError::new(code::CONNECT_NO_KNOWN_ADDRESS, text));
    }
    Ok(addresses)
}

/// `connect id [host] [port]`.
pub fn connect(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let text = args.need_text("id")?;
    let (id, at) = text.split_once('@').map_or((text.as_str(), None), |(i, a)| (i, Some(a)));
    let bad = || {
        RpcError::params(
            "id: should be a node id, or id@host:port: invalid token (see logs for details)",
        )
    };
    let peer: NodeId = id.parse().ok().filter(|n: &NodeId| n.point().is_some()).ok_or_else(bad)?;
    if peer == node.id {
        return Err(RpcError::params("id: that is this node").into());
    }
    if at.is_some() && args.text("host").is_some() {
        return Err(
            RpcError::params("Can't specify host as both xxx@yyy and separate argument").into()
        );
    }
    if let Some(connection) = node.peers.connection(peer) {
        return Ok(Answer::Now(json!({
            "id": peer.to_string(),
            "features": connection.features.to_string(),
            "direction": direction(connection.direction),
            "address": address_json(&connection.address),
        })));
    }
    let addresses = addresses_of(node, args, peer, at)?;
    node.peers.needs_connectd()?;
    let already = node.waits.any(|f| crate::rooms::peers::connections::waits_for(f, peer));
    crate::kernel::waiting::add(
        node,
        turn,
        caller,
        For::Connect(peer),
        Some(CONNECT_TIMEOUT_SECONDS),
    );
    if !already {
        dial(node, turn, peer, addresses);
    }
    Ok(Answer::Later)
}

/// `fundchannel` with a peer that is not here: it is dialled, and the command runs again once it
/// is. False: nobody knows where. `Err`: nobody can be dialled at the moment.
pub fn connect_to_fund(
    node: &Node,
    turn: &mut Turn<'_>,
    peer: NodeId,
    args: &Args,
    caller: &Caller,
) -> Result<bool, RpcError> {
    let Some(address) = node.peers.all.get(&peer).and_then(|p| p.address.clone()) else {
        return Ok(false);
    };
    node.peers.needs_connectd()?;
    let already = node.waits.any(|f| crate::rooms::peers::connections::waits_for(f, peer));
    let what = For::Fund(peer, args.to_json());
    crate::kernel::waiting::add(node, turn, caller, what, Some(CONNECT_TIMEOUT_SECONDS));
    if !already {
        dial(node, turn, peer, vec![address]);
    }
    Ok(true)
}

/// `disconnect id [force]`.
pub fn disconnect(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let peer = args.need_node("id")?;
    let Some(connection) = node.peers.connection(peer) else {
        return Err(RpcError::new(code::LIGHTNINGD, "Peer not connected").into());
    };
    if !args.bool("force").unwrap_or(false)
        && let Some(state) = node.channels.busy_with(peer)
    {
        return Err(RpcError::new(
            code::LIGHTNINGD,
            format!("Peer has (at least one) channel in state {state}"),
        )
        .into());
    }
    crate::kernel::waiting::add(node, turn, caller, For::Disconnect(peer, connection.number), None);
    hang_up(node, turn, peer);
    Ok(Answer::Later)
}

/// `listpeers [id] [level]`.
pub fn listpeers(node: &Node, _: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let only = args.node("id");
    let level = match args.text("level") {
        None => None,
        Some(word) => Some(crate::sys::log::level(&word).ok_or_else(|| {
            RpcError::params("level: should be 'io', 'trace', 'debug', 'info', 'unusual' or 'broken': invalid token (see logs for details)")
        })?),
    };
    let mut peers = Vec::new();
    // Those with channels are there even if they always came to us, and are not here now.
    let mut ids: BTreeSet<NodeId> = node.peers.all.keys().copied().collect();
    ids.extend(node.channels.all.values().map(|c| c.peer));
    let nobody = crate::rooms::peers::Peer::default();
    for id in &ids {
        let peer = node.peers.all.get(id).unwrap_or(&nobody);
        let channels = node.channels.count_with(*id);
        if only.is_some_and(|o| o != *id) || (peer.connection.is_none() && channels == 0) {
            continue;
        }
        let mut item = json!({"id": id.to_string(), "connected": peer.connection.is_some(), "num_channels": channels});
        if let Some(c) = &peer.connection {
            crate::sys::json::put(&mut item, "netaddr", Some(json!([show(&c.address)])));
            crate::sys::json::put(&mut item, "remote_addr", c.remote_addr.as_ref().map(show));
            crate::sys::json::put(&mut item, "features", Some(c.features.to_string()));
        }
        if let Some(level) = level {
            let (lines, ..) = crate::sys::log::kept(level);
            let of_peer: Vec<Value> = lines
                .iter()
                .filter(|l| l.node == Some(*id))
                .map(crate::api::rpc::log::log_json)
                .collect();
            crate::sys::json::put(&mut item, "log", Some(of_peer));
        }
        peers.push(item);
    }
    Ok(Answer::Now(json!({"peers": peers})))
}

/// `ping id [len] [pongbytes]`.
pub fn ping(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let peer = args.need_node("id")?;
    let Some(connection) = node.peers.connection(peer) else {
        return Err(RpcError::new(code::LIGHTNINGD, "peer not connected").into());
    };
    let (length, pong) =
        (args.number("len").unwrap_or(128), args.number("pongbytes").unwrap_or(128));
    // BOLT 1, ping: a message is 65535 bytes at most, its number and two lengths included.
    if length > 65535 - 2 - 2 - 2 {
        return Err(RpcError::params(format!("len: {length} would result in oversize ping")).into());
    }
    let pong_bytes = u16::try_from(pong)
        .map_err(|_| RpcError::params(format!("pongbytes: {pong} is above 65535")))?;
    if pong_bytes >= 65532 {
        let ping = PingPeer {
            node: peer,
            connection: connection.number,
            ask: 0,
            length: length as u16,
            pong_bytes,
        };
        order(node, turn, &ping, vec![]);
        return Ok(Answer::Now(json!({"totlen": 0})));
    }
    let ask = node.peers.next_ask();
    let ping = PingPeer {
        node: peer,
        connection: connection.number,
        ask,
        length: length as u16,
        pong_bytes,
    };
    crate::kernel::waiting::add(node, turn, caller, For::Pong(ask), Some(PING_TIMEOUT_SECONDS));
    order(node, turn, &ping, vec![]);
    Ok(Answer::Later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_so_that_its_port_can_be_told_from_it() {
        let show = |host: &str| show(&Address { host: host.to_owned(), port: 9735 });
        assert_eq!(show("127.0.0.1"), "127.0.0.1:9735");
        assert_eq!(show("::1"), "[::1]:9735");
        assert_eq!(show("a.example"), "a.example:9735");
    }
}
