//! The floors of lightningd: where each file stands, and which file may name a definition of which.

/// Where a file of lightningd stands. A floor may use those listed above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Floor {
    /// Pipes, files, parsers. Nothing of ours here.
    Sys,
    /// What can happen, be said, be changed; who helps.
    Kernel,
    /// What is known, kept in rows, and done about it.
    Room(String),
    /// The rooms, and what is the node's alone.
    Node,
    /// What happens across rooms, in order.
    Flows,
    /// What clients and plugins see.
    Api,
    /// From the command line to the loop.
    Top,
}

/// The rooms from below, each with the rooms that it may name and read.
pub(super) const ROOMS: &[(&str, &[&str])] = &[
    ("chain", &[]),
    ("wallet", &["chain"]),
    ("peers", &[]),
    ("channels", &["chain", "wallet", "peers"]),
    ("invoices", &[]),
    ("payments", &["chain", "channels"]),
    ("htlcs", &["chain", "channels", "invoices", "payments"]),
    ("onchain", &["chain", "wallet", "channels", "htlcs"]),
];

/// Files that stand on no floor's folder.
const SINGLE: &[(&str, Floor)] = &[
    ("node.rs", Floor::Node),
    ("start.rs", Floor::Top),
    ("event_loop.rs", Floor::Top),
    ("dispatch.rs", Floor::Top),
    ("lib.rs", Floor::Top),
    ("main.rs", Floor::Top),
];

/// The floor of a file below `lightningd/src`; `None` where it stands on none.
pub(super) fn floor_of(path: &str) -> Option<Floor> {
    if let Some((_, floor)) = SINGLE.iter().find(|(name, _)| *name == path) {
        return Some(floor.clone());
    }
    let (first, rest) =
        path.split_once('/').or_else(|| Some((path.strip_suffix(".rs")?, "mod.rs")))?;
    match first {
        "sys" => Some(Floor::Sys),
        "kernel" => Some(Floor::Kernel),
        "flows" => Some(Floor::Flows),
        "api" => Some(Floor::Api),
        "start" | "event_loop" | "dispatch" => Some(Floor::Top),
        // `rooms/mod.rs` only lists the rooms.
        "rooms" if rest == "mod.rs" => Some(Floor::Node),
        "rooms" => {
            let room = rest.split('/').next().unwrap_or_default();
            Some(Floor::Room(room.strip_suffix(".rs").unwrap_or(room).to_owned()))
        }
        _ => None,
    }
}

/// Whether a file of one floor may name `item` of a file of another.
pub(super) fn may_name(from: &Floor, to: &Floor, item: &str) -> bool {
    match (from, to) {
        (Floor::Room(from), Floor::Room(to)) => {
            let on_stairs = item.rsplit("::").next() == Some("Scope") && place(to) < place(from);
            from == to || on_stairs || may_read(from, to)
        }
        _ => height(to) <= height(from),
    }
}

/// Whether a room may name or read another.
pub(super) fn may_read(from: &str, to: &str) -> bool {
    from == to || ROOMS.iter().any(|(room, below)| *room == from && below.contains(&to))
}

fn height(floor: &Floor) -> usize {
    match floor {
        Floor::Sys => 0,
        Floor::Kernel => 1,
        Floor::Room(_) => 2,
        Floor::Node => 3,
        Floor::Flows => 4,
        Floor::Api => 5,
        Floor::Top => 6,
    }
}

/// A room's place on the stairs.
fn place(room: &str) -> Option<usize> {
    ROOMS.iter().position(|(name, _)| *name == room)
}

/// Whether a room that a file stands in has its row.
pub(super) fn is_known(floor: &Floor) -> bool {
    match floor {
        Floor::Room(room) => place(room).is_some(),
        Floor::Sys | Floor::Kernel | Floor::Node | Floor::Flows | Floor::Api | Floor::Top => true,
    }
}

/// Whether a file of this floor may read `node.<field>`. Fields that are no rooms are everybody's.
pub(super) fn may_read_field(from: &Floor, field: &str) -> bool {
    match (from, place(field)) {
        (_, None) => true,
        (Floor::Sys | Floor::Kernel, Some(_)) => false,
        (Floor::Room(from), Some(_)) => may_read(from, field),
        (Floor::Node | Floor::Flows | Floor::Api | Floor::Top, Some(_)) => true,
    }
}

impl std::fmt::Display for Floor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Floor::Sys => f.write_str("sys"),
            Floor::Kernel => f.write_str("kernel"),
            Floor::Room(room) => write!(f, "rooms/{room}"),
            Floor::Node => f.write_str("node"),
            Floor::Flows => f.write_str("flows"),
            Floor::Api => f.write_str("api"),
            Floor::Top => f.write_str("top"),
        }
    }
}
