//! Who is at the other end of a connection.

use super::connection::{self, Connection};
use super::keys::key;
use super::world::{Call, World};
use crate::wait_for;
use primitives::{Point, SecretKey};
use secp256k1::SECP256K1;
use serde_json::json;
use wire::Message;

/// Somebody with a node id, and a connection while there is one.
pub struct Stranger {
    /// Its node key.
    pub secret: SecretKey,
    /// Its features, as it says them in `init`.
    pub features: primitives::Features,
    connection: Option<Connection>,
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
    /// Closes the connection without a word.
    pub fn hang_up(&mut self) {
        self.connection = None;
    }
    /// The connection with the node. Panics where the test hung up.
    pub fn line(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the test connected this stranger")
    }
    /// Says something.
    pub fn say(&mut self, message: &impl Message) {
        self.line().say(message);
    }
}

impl World {
    /// The node opens a channel of half a million satoshi to this stranger.
    pub fn fund(&self, to: &Stranger) -> Call {
        let id = to.id();
        wait_for("the node to know the stranger", || {
            let peers = self.node.rpc("listpeers", &json!([id]));
            (peers["peers"][0]["connected"] == true).then_some(())
        });
        self.call("fundchannel", &json!({"id": id, "amount": 500_000}))
    }
}
