//! The line to a node: BOLT 8 over TCP, `init`, pings.

use super::key;
use crate::{Node, PATIENCE};
use noise::{HEADER_LEN, Initiator, TAG_LEN, Transport};
use primitives::*;
use secp256k1::SECP256K1;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use wire::{Error, Init, Message, Ping, Pong, Rest, Warning};

/// Every handshake needs an ephemeral key of its own.
static EPHEMERAL: AtomicU64 = AtomicU64::new(1 << 40);

/// How a line ended: the text of the error or warning that came, if one did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone(pub Option<String>);

/// An encrypted line.
pub struct Connection {
    stream: TcpStream,
    transport: Transport,
    raw: Vec<u8>,
    /// Length of the body whose header was read.
    body: Option<usize>,
    waiting: VecDeque<Vec<u8>>,
    /// The node signed for the announcement of a channel.
    pub announced: bool,
}

/// What any node of today offers.
pub fn usual_features() -> Features {
    Features::optional(&[
        feature::DATA_LOSS_PROTECT,
        feature::LARGE_CHANNELS,
        feature::BASIC_MPP,
        feature::SHUTDOWN_ANYSEGWIT,
        feature::ANCHORS,
        feature::SCID_ALIAS,
    ])
    .union(&Features::compulsory(&[
        feature::VAR_ONION_OPTIN,
        feature::STATIC_REMOTEKEY,
        feature::PAYMENT_SECRET,
        feature::CHANNEL_TYPE,
    ]))
}

impl Connection {
    /// The handshake, and nothing after it.
    pub fn dial(node: &Node, secret: &SecretKey) -> Self {
        let id: Point = node.id.parse().unwrap();
        // A node that was just started answers on its own socket before it listens.
        let mut stream = crate::wait_for("the node to listen", || {
            TcpStream::connect(("127.0.0.1", node.port)).ok()
        });
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let ephemeral = key(EPHEMERAL.fetch_add(1, Ordering::Relaxed));
        let (initiator, act) = Initiator::start(secret.public_key(SECP256K1), id, ephemeral);
        stream.write_all(&act).unwrap();
        let mut answer = [0; noise::ACT_TWO_LEN];
        stream.read_exact(&mut answer).expect("the node answers act one");
        let asks = initiator.act_two(&answer).unwrap();
        let question = asks.question();
        let shared = onion::shared_secret(&question.point, secret);
        let (act, transport) = asks.answer(noise::mix(&question.chaining_key, &shared));
        stream.write_all(&act).unwrap();
        Self {
            stream,
            transport,
            raw: Vec::new(),
            body: None,
            waiting: VecDeque::new(),
            announced: false,
        }
    }
    /// `init`, both ways.
    pub fn greet(&mut self, features: &Features) {
        self.say(&Init {
            global_features: Features::none(),
            features: features.clone(),
            networks: Some(Rest(Network::Regtest.chain_hash().to_vec())),
            remote_addr: None,
        });
        let first = self.hear().expect("the node says init");
        assert_eq!(number(&first), Init::NUMBER, "the first message is init");
    }

    /// Says something. Nobody may be listening any more: that is seen when reading.
    pub fn say(&mut self, message: &impl Message) {
        self.say_raw(&message.encode());
    }
    /// Says these bytes.
    pub fn say_raw(&mut self, message: &[u8]) {
        let mut sealed = Vec::new();
        self.transport.sealer.seal(message, &mut sealed).unwrap();
        let _ = self.stream.write_all(&sealed);
    }

    /// The next message that matters: pings are answered, gossip is skipped.
    pub fn hear(&mut self) -> Result<Vec<u8>, Gone> {
        self.next_within(PATIENCE)?.map_or_else(|| panic!("the node says nothing"), Ok)
    }
    /// The same; `None` if nothing came by then.
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, Gone> {
        let until = Instant::now() + patience;
        loop {
            if let Some(message) = self.waiting.pop_front() {
                match number(&message) {
                    Ping::NUMBER => {
                        let ping = Ping::take_body(&message[2..]).unwrap();
                        self.say(&Pong { ignored: vec![0; ping.num_pong_bytes.into()] });
                    }
                    wire::AnnouncementSignatures::NUMBER => self.announced = true,
                    // Gossip, pongs, what is kept for us.
                    7 | 9 | 19 | 256..=265 => {}
                    _ => return Ok(Some(message)),
                }
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.read(left)?;
        }
    }
    /// The next message, which must be this one.
    pub fn expect<M: Message>(&mut self) -> M {
        let bytes = self.hear().unwrap_or_else(|Gone(text)| {
            panic!("waited for {}; the node hung up: {text:?}", M::NAME)
        });
        assert_eq!(number(&bytes), M::NUMBER, "waited for {}: {}", M::NAME, describe(&bytes));
        M::take_body(&bytes[2..]).unwrap()
    }
    /// Reads on until an error, a warning or the end of the line, and says what was said last.
    pub fn end(&mut self) -> String {
        loop {
            match self.hear() {
                Ok(bytes) => match number(&bytes) {
                    Error::NUMBER => return Error::take_body(&bytes[2..]).unwrap().text(),
                    Warning::NUMBER => return Warning::take_body(&bytes[2..]).unwrap().text(),
                    _ => {}
                },
                Err(Gone(text)) => return text.unwrap_or_default(),
            }
        }
    }
    /// Waits until the node signed for an announcement. Nothing else may come, but a
    /// `channel_ready` again.
    pub fn hear_announcement(&mut self) {
        while !self.announced {
            let other = self.next_within(Duration::from_millis(20)).expect("the line holds");
            let odd = other.filter(|m| number(m) != wire::ChannelReady::NUMBER);
            assert_eq!(odd.map(|m| describe(&m)), None);
        }
    }
    /// Waits until the node hung up.
    pub fn hung_up(&mut self) {
        while self.hear().is_ok() {}
    }

    fn read(&mut self, patience: Duration) -> Result<(), Gone> {
        self.stream.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).unwrap();
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(Gone(None)),
            Ok(n) => self.raw.extend_from_slice(&chunk[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Err(Gone(None)),
        }
        self.open();
        Ok(())
    }
    fn open(&mut self) {
        loop {
            let needed = self.body.map_or(HEADER_LEN, |len| len + TAG_LEN);
            if self.raw.len() < needed {
                return;
            }
            let mut part: Vec<u8> = self.raw.drain(..needed).collect();
            match self.body.take() {
                None => {
                    let header = part.as_slice().try_into().unwrap();
                    self.body = Some(self.transport.opener.open_header(header).unwrap().into());
                }
                Some(_) => {
                    let message = self.transport.opener.open_body(&mut part).unwrap();
                    self.waiting.push_back(message.to_vec());
                }
            }
        }
    }
}

/// The type of a message.
pub(crate) fn number(message: &[u8]) -> u16 {
    message.first_chunk::<2>().map_or(0, |n| u16::from_be_bytes(*n))
}

/// A message for people.
pub(crate) fn describe(message: &[u8]) -> String {
    match number(message) {
        Error::NUMBER => format!("error: {}", Error::take_body(&message[2..]).unwrap().text()),
        Warning::NUMBER => {
            format!("warning: {}", Warning::take_body(&message[2..]).unwrap().text())
        }
        _ => format!("{:?}", wire::ChannelMessage::decode(message)),
    }
}
