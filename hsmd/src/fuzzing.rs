//! Entry points for fuzz/: the secret file, hsmd without its sockets, and the keys of whoever is at
//! a channel's other end.

use crate::answer;
use crate::arriving::Asker;
use crate::blinding::secp;
use crate::channel_keys::ChannelKeys;
use crate::derive::{NodeKeys, Root};
use channel::{Constants, closing};
use primitives::*;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use wire::channel_data::{Basepoints, CommitmentSignatures, CommitmentState};
use wire::hsm::{ClosingState, MasterOrder, Rights};
use zeroize::Zeroizing;

/// Bytes of an `hsm_secret`, read with this passphrase. True where they are a secret.
pub fn reads_as_secret(content: &[u8], passphrase: Option<&str>) -> bool {
    let path = std::path::Path::new("hsm_secret");
    crate::secret_file::understand(path, content, passphrase).is_ok()
}

fn node(secret: u8) -> NodeKeys {
    NodeKeys::derive(&Root::Raw(Zeroizing::new([secret; 32])), Network::Regtest)
}

/// An unlocked hsmd without its sockets.
pub struct Hsm(answer::Hsm);

/// The outcome of a question.
pub struct Answered {
    /// The answer's bytes, without the question's number.
    pub answer: Vec<u8>,
    /// True where `NewClient` admitted its client.
    pub admitted: bool,
    /// The channel whose clients are to be dropped: all of them, or those from before it was
    /// stored.
    pub forgotten: Option<(NodeId, ChannelNumber)>,
    /// See `forgotten`.
    pub stored: Option<(NodeId, ChannelNumber)>,
}

impl Hsm {
    /// An hsmd whose secret is 32 times this byte.
    pub fn new(secret: u8) -> Self {
        Self(answer::Hsm::unlocked(node(secret)))
    }

    /// One of the master's orders.
    pub fn ordered(&mut self, order: &MasterOrder) {
        self.0.ordered(order);
    }

    /// One question. `who`: the channel that the client is bound to, `None` for the master.
    /// `Ok(None)`: it waits.
    ///
    /// # Errors
    /// Why the client is closed.
    pub fn answer(
        &mut self,
        who: Option<(NodeId, ChannelNumber)>,
        rights: &Rights,
        body: &[u8],
        fds: VecDeque<OwnedFd>,
    ) -> Result<Option<Answered>, String> {
        let who = who.map_or(Asker::Master, |(peer, channel)| Asker::Child(peer, channel));
        let outcome = self.0.answer(who, rights, body, fds)?;
        Ok(outcome.map(|o| Answered {
            answer: o.answer.get(2..).unwrap_or_default().to_vec(),
            admitted: o.admit.is_some(),
            forgotten: o.forgotten,
            stored: o.stored,
        }))
    }
}

/// The keys of one end of a channel.
pub struct Keys(ChannelKeys);

impl Keys {
    /// Of the node whose secret is 32 times this byte, for its channel with that peer.
    ///
    /// # Panics
    /// Where the derivation hits no key: nobody has seen that.
    pub fn new(secret: u8, peer: &NodeId, channel: ChannelNumber) -> Self {
        let keys = ChannelKeys::derive(&node(secret), peer, channel);
        Self(*keys.expect("a number that makes keys"))
    }
    /// That node's id.
    pub fn node_id(secret: u8) -> NodeId {
        node(secret).node_id
    }
    /// Its public keys.
    pub fn points(&self) -> Basepoints {
        self.0.points.clone()
    }
    /// Its secret of this commitment.
    pub fn secret(&self, number: CommitmentNumber) -> Option<SecretKey> {
        self.0.commitment_secret(number).map(|key| *key)
    }
    /// Its signatures on the other end's commitment, as this end sees it. `None` where there is no
    /// such transaction.
    pub fn sign(
        &self,
        constants: &Constants,
        state: &CommitmentState,
    ) -> Option<CommitmentSignatures> {
        self.0.sign_remote(constants, state).ok()
    }
    /// Its signature on a closing, as this end sees it.
    pub fn sign_closing(&self, constants: &Constants, state: &ClosingState) -> Option<Signature> {
        let kept = closing::our_choice(constants, state).ok()?;
        let closing = closing::build(constants, state, kept).ok()?;
        Some(secp().sign_ecdsa(&closing.sighash(constants), &self.0.funding))
    }
}
