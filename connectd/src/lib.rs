//! connectd: the node's ears and mouth. It owns every TCP connection with a peer and everything
//! that is encrypted on it.
//!
//! It listens and dials, makes BOLT 8's handshake and exchanges `init`, answers pings and sends its
//! own, and passes each channel's messages between the peer and the daemon that serves the channel,
//! over a plain socket per daemon. It knows no channel's state and reads no further into a message
//! than its number and its channel id. The node's secret is not here: hsmd answers the two
//! Diffie-Hellmans that need it.
//!
//! One thread, one loop, which waits for nobody but hsmd. Names are looked up in a process apart
//! ([`resolver`]). What is fed from outside is bounded by name in [`limits`]: a source whose queue
//! is full is not read until there is room.
//!
//! From pure to impure: [`link`] is a connection as bytes, [`duplicates`] says which of two
//! connections with one peer stays, [`unauthenticated`] which connection makes room for another,
//! [`init`] judges an `init`, [`pings`] knows who is still there, [`sort`] whose a message is. Then
//! `conn` and `mux` have the sockets of one peer, `dial`, `listen`, `orders`, `serve` and `talk`
//! are what the `switchboard` does.
#![deny(clippy::indexing_slicing)]

pub mod bytes;
mod conn;
mod dial;
mod dials;
pub mod duplicates;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod init;
pub mod limits;
pub mod link;
mod listen;
mod listeners;
mod mux;
mod orders;
pub mod pings;
mod pongs;
pub mod resolver;
mod serve;
pub mod sort;
mod switchboard;
mod talk;
mod tokens;
pub mod unauthenticated;

use crate::duplicates::DuplicateConnections;
use crate::limits::{
    IDLE_PONGS_BURST, IDLE_PONGS_EVERY, MAX_DESCRIPTORS, SPARE_DESCRIPTORS, Times,
};
use crate::resolver::Resolver;
use crate::switchboard::{Outside, Switchboard};
use crate::tokens::{ORDERS, REPORTS, RESOLVER};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry};
use primitives::Bucket;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Instant;
use subdaemon::{Child, Failure, Hsm, Master, Orders, Sandbox, SandboxMode};
use wire::connectd::ToConnectd;

/// Settings that differ between a node and a test.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The executable that looks up names when started with [`resolver::ARGUMENT`].
    pub resolver: Option<PathBuf>,
    /// Go into the box once everything is open.
    pub sandbox: bool,
    /// How long things may take.
    pub times: Times,
    /// [`limits::MAX_DESCRIPTORS`].
    pub max_descriptors: usize,
    /// [`limits::TOTAL_OUT_HIGH`].
    pub max_out: usize,
}

impl Default for Settings {
    /// A node's.
    fn default() -> Self {
        Self {
            resolver: std::env::current_exe().ok(),
            sandbox: true,
            times: Times::default(),
            max_descriptors: MAX_DESCRIPTORS,
            max_out: limits::TOTAL_OUT_HIGH,
        }
    }
}

//~ The tour comes from hsmd. Here begins what strangers can reach: every byte from the network
//~ passes `link`, then `serve`, then one socket to one daemon. Read `duplicates` for the one hard
//~ question of this process, then go on to openingd.
/// connectd, from its start until lightningd is gone.
pub fn run(child: Child, settings: &Settings) -> Result<(), Failure> {
    let mode = child.sandbox;
    let mut board = prepare(child, settings)?;
    if settings.sandbox {
        subdaemon::enter_sandbox(&Sandbox::Network, mode)?;
    }
    board.max_descriptors = allowed_descriptors()?.min(settings.max_descriptors);
    board.run()
}

/// How many connections and daemons' sockets this process can have.
fn allowed_descriptors() -> Result<usize, Failure> {
    use nix::sys::resource::{Resource, getrlimit};
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Failure::internal)?;
    let soft = usize::try_from(soft).unwrap_or(usize::MAX);
    Ok(soft.saturating_sub(SPARE_DESCRIPTORS).min(MAX_DESCRIPTORS))
}

/// The process that looks up names. Without it peers are dialled by address only.
fn start_resolver(program: &Path, sandbox: SandboxMode) -> Option<Resolver> {
    match Resolver::spawn(program, sandbox) {
        Ok(resolver) => Some(resolver),
        Err(e) => {
            log::warn!("no resolver process ({e}): names are not looked up");
            None
        }
    }
}

/// Has poll report what the master and the resolver say, and when our reports can be written.
fn register(
    registry: &Registry,
    orders: &Orders,
    master: &Master,
    resolver: Option<&Resolver>,
) -> Result<(), Failure> {
    let register = |fd: RawFd, token, interest| {
        registry.register(&mut SourceFd(&fd), token, interest).map_err(Failure::internal)
    };
    register(orders.as_fd().as_raw_fd(), ORDERS, Interest::READABLE)?;
    register(master.raw_fd(), REPORTS, Interest::WRITABLE)?;
    if let Some(resolver) = resolver {
        register(resolver.as_fd().as_raw_fd(), RESOLVER, Interest::READABLE)?;
    }
    Ok(())
}

/// Reads the init, opens every listener, and starts the resolver: the sandbox would refuse it
/// later.
fn prepare(child: Child, settings: &Settings) -> Result<Switchboard, Failure> {
    let Child { mut orders, master, sandbox, .. } = child;
    let (order, mut fds) = orders.recv_as(ToConnectd::decode_known)?;
    let ToConnectd::ConnectdInit(init) = order else {
        return Err(Failure::internal("no init"));
    };
    let hsm = Hsm::new(Orders::take_fd(&mut fds, "hsmd socket")?);
    let our_id = init.node_id.point().ok_or_else(|| Failure::internal("our id is no key"))?;

    let resolver = settings.resolver.as_ref().filter(|_| !init.disable_dns);
    let resolver = resolver.and_then(|program| start_resolver(program, sandbox));
    let (listeners, listening) = listeners::bind_all(&init.listen);

    let now = Instant::now();
    let poll = Poll::new().map_err(Failure::internal)?;
    let registry = poll.registry().try_clone().map_err(Failure::internal)?;
    orders.never_wait()?;
    master.never_wait();
    register(&registry, &orders, &master, resolver.as_ref())?;

    // The master decides what an address that cannot be had means: it knows which of them must be.
    master.report(&listening)?;
    Ok(Switchboard {
        outside: Outside::MACHINE,
        now,
        node_id: init.node_id,
        our_id,
        network: init.network,
        features: init.features,
        disable_dns: init.disable_dns,
        times: settings.times,
        poll,
        registry,
        orders,
        master,
        hsm,
        resolver,
        listeners,
        active: false,
        max_descriptors: settings.max_descriptors,
        max_out: settings.max_out,
        first_resumed: 0,
        conns: HashMap::new(),
        next_id: init.last_connection,
        funded_peers: BTreeSet::new(),
        unauthenticated: BTreeSet::new(),
        lingering: Default::default(),
        duplicates: DuplicateConnections::new(init.node_id),
        dials: Default::default(),
        ready: VecDeque::new(),
        next_scan: now,
        total_held: 0,
        total_out: 0,
        idle_pongs: Bucket::new(IDLE_PONGS_BURST, IDLE_PONGS_EVERY),
        stopped: Default::default(),
        record: Vec::new(),
    })
}
