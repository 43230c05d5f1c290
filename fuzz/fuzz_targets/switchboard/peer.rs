//! A peer at the other end of a connection: it speaks the cipher honestly, says what it is told to,
//! and counts its pongs.

use crate::noise_keys::{id, key, mixed};
use connectd::link::{Link, LinkStep};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;
use wire::{Decoded, Message, Pong, SetupMessage};

/// What a peer may have to say that its socket does not take: then it says no more.
const MAX_PENDING: usize = 256 * 1024;

pub struct Peer {
    /// `None`: it hung up, or the connection broke.
    socket: Option<UnixStream>,
    /// It was hung up on, and leaves its end open.
    is_over: bool,
    link: Link,
    /// Its node key, one byte.
    pub key: u8,
    /// Bytes that the socket has not taken.
    pending: Vec<u8>,
    /// Does it read, does it answer pings?
    pub reads: bool,
    pub answers: bool,
    /// Since when, and how many pongs it got since; of how many bytes, in KiB each.
    pub since: Instant,
    pub pongs: u64,
    pub kibibytes: u64,
    /// Messages that are no pings, pongs or `init`: at most a few.
    pub heard: Vec<Vec<u8>>,
}

impl Peer {
    /// It dials node 1.
    pub fn dials(socket: OwnedFd, key_byte: u8, ephemeral: u8, now: Instant) -> Self {
        Self::new(socket, key_byte, Link::dialler(id(key_byte), id(1), key(ephemeral)), now)
    }
    /// Node 1 dialled it.
    pub fn answers(socket: OwnedFd, key_byte: u8, ephemeral: u8, now: Instant) -> Self {
        Self::new(socket, key_byte, Link::listener(id(key_byte), key(ephemeral)), now)
    }
    fn new(socket: OwnedFd, key: u8, link: Link, since: Instant) -> Self {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true).expect("a flag");
        Self {
            socket: Some(socket),
            is_over: false,
            link,
            key,
            pending: vec![],
            reads: true,
            answers: true,
            since,
            pongs: 0,
            kibibytes: 0,
            heard: vec![],
        }
    }

    pub fn is_over(&self) -> bool {
        self.is_over || self.socket.is_none()
    }
    pub fn into_socket(self) -> Option<OwnedFd> {
        self.socket.map(OwnedFd::from)
    }
    pub fn hang_up(&mut self) {
        self.socket = None;
    }
    /// Its next bytes go out when it is pumped.
    pub fn says(&mut self, message: &[u8]) {
        if self.pending.len() < MAX_PENDING {
            self.link.say(message).expect("no message of the rig's is too long");
            self.take_out();
        }
    }
    /// Bytes that are no message of the cipher's.
    pub fn writes(&mut self, bytes: &[u8]) {
        if self.pending.len() < MAX_PENDING {
            self.pending.extend_from_slice(bytes);
        }
    }
    /// One of the bytes that wait is another.
    pub fn bends(&mut self, at: u8, mask: u8) {
        self.take_out();
        let len = self.pending.len().max(1);
        if let Some(byte) = self.pending.get_mut(usize::from(at) % len) {
            *byte ^= mask;
        }
    }
    fn take_out(&mut self) {
        let out = self.link.out();
        self.pending.extend_from_slice(out.waiting());
        let len = out.len();
        out.sent(len);
    }

    /// Reads and writes as much as there is, at most so many bytes of its own. True: something
    /// moved.
    pub fn pump(&mut self, most: usize) -> bool {
        let read = self.reads && self.read();
        self.take_out();
        let mut left = most.min(self.pending.len());
        let mut wrote = false;
        while left > 0
            && let Some(socket) = &mut self.socket
        {
            match socket.write(&self.pending[..left]) {
                Ok(n) => {
                    self.pending.drain(..n);
                    left -= n;
                    wrote = true;
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => self.socket = None,
            }
        }
        read || wrote
    }

    fn read(&mut self) -> bool {
        let mut moved = false;
        loop {
            let Some(socket) = &mut self.socket else { return moved };
            let room = self.link.room();
            if room.is_empty() || self.is_over {
                return moved;
            }
            match socket.read(room) {
                Ok(0) => self.is_over = true,
                Ok(n) => {
                    self.link.filled(n);
                    moved = true;
                    if !self.steps() {
                        self.socket = None;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return moved,
                Err(_) => self.socket = None,
            }
        }
    }

    /// False: what the node says is no BOLT 8, which follows only where this peer bent something.
    fn steps(&mut self) -> bool {
        loop {
            let message = match self.link.step() {
                Ok(LinkStep::Wait) => return true,
                Ok(LinkStep::Authenticated(_)) => continue,
                Ok(LinkStep::Mix(question)) => {
                    if self.link.mixed(mixed(self.key, &question)).is_err() {
                        return false;
                    }
                    continue;
                }
                Ok(LinkStep::Message(message)) => message.to_vec(),
                Err(_) => return false,
            };
            match SetupMessage::decode(&message) {
                Ok(Decoded::Known(SetupMessage::Ping(ping))) if self.answers => {
                    let ignored = vec![0; usize::from(ping.num_pong_bytes)];
                    self.says(&Pong { ignored }.encode());
                }
                Ok(Decoded::Known(SetupMessage::Pong(pong))) => {
                    self.pongs += 1;
                    self.kibibytes += pong.ignored.len() as u64 / 1024;
                }
                Ok(Decoded::Known(SetupMessage::Ping(_) | SetupMessage::Init(_))) => {}
                _ if self.heard.len() < 4 => self.heard.push(message),
                _ => {}
            }
        }
    }
}
