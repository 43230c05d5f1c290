//! connectd's loop, at times that the bytes choose: who connects from where, how far it comes, what
//! peers, daemons and the master say, who closes, and how time passes.

mod peer;
mod world;

use crate::input::Input;
use crate::noise_keys::node_id;
use connectd::fuzzing::REFUSED;
use connectd::init;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use primitives::*;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;
use subdaemon::send_record;
use wire::connectd::*;
use wire::{Bytes, Error, Init, Message, Ping, Rest, StartBatch, Warning};
use world::{OTHERS, World};

/// Steps of one execution.
const STEPS: usize = 80;

/// A full pool of strangers is a thousand descriptors, with both ends.
static DESCRIPTORS: LazyLock<()> = LazyLock::new(|| {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192), hard).expect("up to the hard limit");
});

/// Addresses near each other and far apart: local ones, of one network, and of many.
fn source(kind: u8, n: u8) -> SocketAddr {
    match kind % 8 {
        0 => ([127, 0, 0, 1], 1).into(),
        1 => ([192, 168, 1, n], 1).into(),
        2 => ([203, 0, 113, 7], 1).into(),
        3 => ([203, 0, 113, n], 1).into(),
        4 => ([203, 0, n, 1], 1).into(),
        5 => ([n | 1, n, 9, 9], 1).into(),
        6 => (Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(n) << 8, 0, 0, 0, 1), 1).into(),
        _ => (Ipv6Addr::new(0x2001, 0xdb8 + u16::from(n), 1, 0, 0, 0, 0, 1), 1).into(),
    }
}

fn channel(n: u8) -> ChannelId {
    // Not the friend's.
    ChannelId([n % 80 + 3; 32])
}

/// Numbers of messages that some daemon reads, and others.
fn number(byte: u8) -> u16 {
    match byte {
        0..=199 => [128, 132, 133, 130, 136, 38, 134, 131][usize::from(byte % 8)],
        200..=229 => u16::from(byte),
        230..=249 => 256 + u16::from(byte % 10),
        _ => 0x8000 | u16::from(byte),
    }
}

fn message(number: u16, channel: ChannelId, len: usize) -> Vec<u8> {
    let mut message = [&number.to_be_bytes()[..], &channel.0].concat();
    message.resize(len.clamp(2, 65_535), 0xab);
    message
}

/// Few bytes, or as many as fit.
fn length(byte: u8) -> usize {
    if byte < 200 { usize::from(byte) + 34 } else { usize::from(byte - 199) * 1170 }
}

fn init(what: u8, input: &mut Input<'_>) -> Option<Vec<u8>> {
    Some(match what {
        0..=159 => init::ours(&world::features(), Network::Regtest, None),
        160..=179 => init::ours(&world::features(), Network::Bitcoin, None),
        180..=209 => {
            let features = Features::from_be_bytes(input.bytes(usize::from(what - 170)));
            let none = Features::none();
            Init { global_features: none, features, networks: None, remote_addr: None }.encode()
        }
        210..=229 => {
            let remote_addr = Some(Rest(input.bytes(usize::from(what % 24)).to_vec()));
            let features = world::features();
            let global_features = Features::none();
            Init { global_features, features, networks: None, remote_addr }.encode()
        }
        _ => input.bytes(usize::from(what - 220)).to_vec(),
    })
}

/// What a peer says once it has said `init`; or anything that it likes before.
fn peer_says(what: u8, input: &mut Input<'_>) -> Option<Vec<u8>> {
    let (kind, byte) = (input.byte()?, input.byte()?);
    Some(match kind % 8 {
        0 | 1 => message(number(byte), channel(kind), length(what)),
        2 | 3 => {
            let num_pong_bytes = if byte < 128 { u16::from(byte) } else { u16::from(byte) * 257 };
            Ping { num_pong_bytes, ignored: vec![0; usize::from(kind / 8)] }.encode()
        }
        4 => {
            let of = if byte < 128 { ChannelId::ALL } else { channel(byte) };
            let text = "no ".repeat(usize::from(what));
            if kind >= 248 { Error::new(of, &text).encode() } else { Warning::new(of, &text).encode() }
        }
        5 => init(byte, input)?,
        6 => message(number(byte), ChannelId::ALL, length(what)),
        _ => input.bytes(usize::from(byte)).to_vec(),
    })
}

/// A daemon's record.
fn daemon_says(what: u8, input: &mut Input<'_>) -> Option<Vec<u8>> {
    let (kind, byte) = (input.byte()?, input.byte()?);
    let says = |message: Vec<u8>| [&[PEER_RECORD_MESSAGE], &message[..]].concat();
    let controls = |control: Vec<u8>| [&[PEER_RECORD_CONTROL], &control[..]].concat();
    Some(match kind % 8 {
        0..=2 => says(message(number(byte), channel(kind), length(what))),
        3 => {
            let (channel_id, batch_size) = (channel(kind), u16::from(byte % 8));
            says(StartBatch { channel_id, batch_size, message_type: Some(132) }.encode())
        }
        4 if byte >= 200 => says(Error::new(ChannelId::ALL, "all of them").encode()),
        4 => says(Error::new(channel(byte), "this one").encode()),
        5 => controls(AlsoRoute { channel: channel(byte) }.encode()),
        6 if byte >= 200 => controls(CloseConnection {}.encode()),
        6 if byte >= 100 => controls(Leave {}.encode()),
        6 => controls(Drained {}.encode()),
        _ => input.bytes(usize::from(byte)).to_vec(),
    })
}

fn order(world: &mut World, input: &mut Input<'_>) -> Option<()> {
    let (what, byte) = (input.byte()?, input.byte()?);
    if what % 8 == 0 {
        let node = node_id(OTHERS + byte % 4);
        let mut addresses = vec![];
        for _ in 0..what / 8 % 6 {
            let at = input.byte()?;
            let port = match at {
                0..=39 => REFUSED,
                // Whoever is there has this key.
                40..=199 => u16::from(OTHERS + byte % 4),
                _ => u16::from(OTHERS + at % 4),
            };
            let host = if at >= 248 { "a.name".to_owned() } else { "10.0.0.1".to_owned() };
            addresses.push(Address { host, port });
        }
        world.dial(node, addresses);
        return Some(());
    }
    // The friend's connection is the first: nothing is ordered about that.
    let others = world.connected.len().saturating_sub(1);
    let (node, connection) = match world.connected.get(1 + usize::from(byte) % others.max(1)) {
        Some(it) => *it,
        None => (node_id(OTHERS), 99),
    };
    match what % 8 {
        1..=3 => match world.spoken.pop() {
            Some((node, connection, channel)) if what >= 64 => {
                world.attach(node, connection, channel);
            }
            _ => world.attach(node, connection, channel(byte / 8)),
        },
        4 => {
            let text = "x".repeat(usize::from(input.byte()?) * 8);
            let of = if what >= 224 { ChannelId::ALL } else { channel(byte) };
            let message = Bytes(Error::new(of, &text).encode());
            for _ in 0..=what / 64 {
                world.order(&Send { node, connection, message: message.clone() }, None);
            }
        }
        5 => {
            let (node, connection, channel) =
                world.spoken.pop().unwrap_or((node, connection, channel(byte)));
            world.order(&Refuse { node, connection, channel }, None);
        }
        6 => {
            let (length, pong) = (u16::from(input.byte()?) * 250, u16::from(what) * 257);
            world.ping(node, connection, length, pong);
        }
        _ => world.order(&Disconnect { node, connection }, None),
    }
    Some(())
}

/// A daemon sends the same record again and again.
fn daemon_speaks(world: &mut World, what: u8, input: &mut Input<'_>) -> Option<()> {
    let (length, many) = (input.byte()?, input.byte()?);
    let says = daemon_says(length, input)?;
    let at = usize::from(what / 16) % world.daemons.len().max(1);
    let daemon = world.daemons.get_mut(at)?;
    for _ in 0..=many / 4 {
        use std::os::fd::AsFd;
        if says.is_empty() || !matches!(send_record(daemon.socket.as_fd(), &says), Ok(true)) {
            break;
        }
    }
    Some(())
}

/// The master or a daemon stops reading or reads on, the wire slows down, a daemon dies.
fn line_changes(world: &mut World, what: u8, input: &mut Input<'_>) -> Option<()> {
    let at = usize::from(what / 64) % world.daemons.len().max(1);
    match what / 16 % 4 {
        0 => world.master_reads = !world.master_reads,
        1 => world.drip = usize::from(input.byte()?).max(1) * 64,
        2 => world.daemons.get_mut(at).map(|d| d.reads = !d.reads).unwrap_or(()),
        _ if at < world.daemons.len() => drop(world.daemons.remove(at)),
        _ => {}
    }
    Some(())
}

/// A peer writes bytes of its own, bends what it writes, stops reading or answering, or goes on.
fn peer_misbehaves(world: &mut World, at: usize, input: &mut Input<'_>) -> Option<()> {
    let byte = input.byte()?;
    let bytes = input.bytes(usize::from(byte % 64));
    let peer = world.peers.get_mut(at)?;
    match byte / 64 {
        0 => peer.writes(bytes),
        1 => peer.bends(byte, bytes.first().copied().unwrap_or(1)),
        2 => peer.reads = !peer.reads,
        _ => peer.answers = !peer.answers,
    }
    Some(())
}

fn step(world: &mut World, input: &mut Input<'_>) -> Option<()> {
    let what = input.byte()?;
    let at = usize::from(what / 16) % world.peers.len().max(1);
    match what % 16 {
        3..=9 if world.peers.is_empty() => {}
        12 | 13 if world.daemons.is_empty() => {}
        0 => {
            let (many, kind) = (usize::from(input.byte()?), input.byte()?);
            let many = if what >= 128 { many * 2 } else { many };
            world.crowd(many, |n| source(kind, n));
        }
        // Somebody comes, mostly all the way.
        1 | 2 => {
            let (who, kind) = (input.byte()?, input.byte()?);
            world.comes(OTHERS + who % 4, source(kind, who));
            if what < 192 {
                world.settle();
                // Of these some are told that their network is another, and that is all.
                let says = init(if what < 160 { 0 } else { 160 }, input)?;
                world.peers.last_mut()?.says(&says);
            }
        }
        3 => {
            let (says, byte) = (input.byte()?, input.byte()?);
            let says = init(says, input)?;
            let peer = world.peers.get_mut(at)?;
            peer.says(&says);
            if byte >= 240 {
                peer.bends(byte, byte);
            }
        }
        4..=7 => {
            let (length, many) = (input.byte()?, input.byte()?);
            let says = peer_says(length, input)?;
            let peer = world.peers.get_mut(at)?;
            for _ in 0..=many / 4 {
                peer.says(&says);
            }
        }
        8 => peer_misbehaves(world, at, input)?,
        9 => world.peers.get_mut(at)?.hang_up(),
        10 | 11 => order(world, input)?,
        12 | 13 => daemon_speaks(world, what, input)?,
        14 => line_changes(world, what, input)?,
        _ => {
            let byte = input.byte()?;
            let time = Duration::from_millis(u64::from(byte) * 7);
            world.passes(if what >= 128 { time * 64 } else { time });
        }
    }
    world.settle();
    if what >= 192 {
        world.exchange();
    }
    Some(())
}

pub fn run(data: &[u8]) {
    LazyLock::force(&DESCRIPTORS);
    let mut input = Input(data);
    let Some(first) = input.byte() else { return };
    let descriptors = [3500, 24, 100, 600][usize::from(first % 4)];
    let out = [64 << 20, 1 << 20][usize::from(first / 4 % 2)];
    let mut world = World::new(descriptors, out);
    for _ in 0..STEPS {
        if step(&mut world, &mut input).is_none() {
            break;
        }
    }
    world.finish();
}
