//! Two nodes on one chain.

use crate::{Bitcoind, Node, Scratch};

/// Two nodes with coins for the first, connected.
pub struct Pair {
    /// The chain.
    pub bitcoind: Bitcoind,
    /// Has coins.
    pub alice: Node,
    /// Listens.
    pub bob: Node,
    /// The last to go.
    pub scratch: Scratch,
}

impl Pair {
    /// Both up, alice with 50 bitcoin, no connection yet.
    pub fn new() -> Self {
        Self::with(&[], &[])
    }
    /// The same with options of their own.
    pub fn with(alice_options: &[&str], bob_options: &[&str]) -> Self {
        Self::within(Scratch::new(), alice_options, bob_options)
    }
    /// The same in this folder.
    pub fn within(scratch: Scratch, alice_options: &[&str], bob_options: &[&str]) -> Self {
        let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
        let alice = Node::start(&scratch.path().join("alice"), &bitcoind, alice_options);
        let bob = Node::start(&scratch.path().join("bob"), &bitcoind, bob_options);
        alice.fund(&bitcoind);
        bob.sync(&bitcoind);
        Self { bitcoind, alice, bob, scratch }
    }
    /// A channel of alice's, ready on both sides.
    pub fn open(&self, sat: u64) -> String {
        self.alice.connect(&self.bob);
        let id = self.alice.open(&self.bob, sat);
        self.bitcoind.mine(6);
        self.alice.wait_normal(&id);
        self.bob.wait_normal(&id);
        // A payer that is blocks behind offers less time than the payee wants.
        self.alice.sync(&self.bitcoind);
        self.bob.sync(&self.bitcoind);
        id
    }
}
impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}
