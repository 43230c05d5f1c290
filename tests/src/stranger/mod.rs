//! A peer that speaks BOLT by hand, so that it can lie: at any step, in any field, in any order.
//!
//! [`Connection`] is the line, [`Stranger`] who is at its other end, [`Draft`] an opening half-way, [`Live`] an open channel.
//! By itself it is honest, and checks what the node says as an honest peer would; tests make it deviate. It forgets nothing:
//! [`Live`] keeps every commitment that was ever signed for it, and signs whatever spends one of them.

mod announcement;
mod connection;
mod keys;
mod live;
mod onions;
mod opening;
mod spends;
mod world;

pub use connection::{Connection, Gone};
pub use keys::Keys;
pub use live::{Live, Mine};
pub use onions::{Onion, forward_onion, onion_to, raw_onion};
pub use opening::{Draft, Plan, channel_type};
pub use spends::{Spend, purse_key, purse_script, sign_purse};
pub use world::{Call, World};

use primitives::{Point, SecretKey};
use secp256k1::SECP256K1;
use wire::Message;

/// Somebody with a node id, and a connection while there is one.
pub struct Stranger {
    /// Its node key.
    pub secret: SecretKey,
    /// Its features, as it says them in `init`.
    pub features: primitives::Features,
    connection: Option<Connection>,
}

/// A key of this number, for whatever needs one.
pub fn key(n: u64) -> SecretKey {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    SecretKey::from_slice(&bytes).unwrap()
}

/// A signature of somebody else's, on something else.
pub fn sign_anything() -> primitives::Signature {
    SECP256K1.sign_ecdsa(&secp256k1::Message::from_digest([8; 32]), &key(99))
}

impl Stranger {
    /// The one of this number, not connected.
    pub fn new(n: u64) -> Self {
        Self { secret: key(n), features: connection::usual_features(), connection: None }
    }
    /// The same, connected to the world's node.
    pub fn meet(n: u64, world: &World) -> Self {
        let mut stranger = Self::new(n);
        stranger.dial(world);
        stranger
    }
    /// Its public half.
    pub fn point(&self) -> Point {
        self.secret.public_key(SECP256K1)
    }
    /// Its node id, as text.
    pub fn id(&self) -> String {
        self.point().to_string()
    }
    /// Connects, anew if it must, and says `init`.
    pub fn dial(&mut self, world: &World) {
        self.connection = None;
        let mut fresh = Connection::dial(&world.node, &self.secret);
        fresh.greet(&self.features);
        self.connection = Some(fresh);
    }
    /// Hangs up.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }
    /// The line.
    pub fn line(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the test connected this stranger")
    }
    /// Says something.
    pub fn say(&mut self, message: &impl Message) {
        self.line().say(message);
    }
}
