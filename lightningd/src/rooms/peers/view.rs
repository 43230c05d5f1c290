//! Connections as JSON.

use primitives::NodeId;
use serde_json::{Value, json};
use wire::connectd::{Address, Connected, Direction};

pub fn address_json(address: &Address) -> Value {
    let kind = match address.host.parse::<std::net::IpAddr>() {
        Ok(std::net::IpAddr::V4(_)) => "ipv4",
        Ok(std::net::IpAddr::V6(_)) => "ipv6",
        Err(_) => "dns",
    };
    json!({"type": kind, "address": address.host, "port": address.port})
}

pub const fn direction(d: Direction) -> &'static str {
    match d {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

/// What `connect` answers.
pub fn connect_result(id: NodeId, c: &Connected) -> Value {
    json!({
        "id": id.to_string(),
        "features": c.features.to_string(),
        "direction": direction(c.direction),
        "address": address_json(&c.address),
    })
}

/// What `ping` answers.
pub fn pong(length: u16) -> Value {
    json!({"totlen": length})
}

/// What `disconnect` answers.
pub fn disconnected() -> Value {
    json!({})
}
