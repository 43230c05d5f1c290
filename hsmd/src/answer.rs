//! Every question and its answer: one row of `wire::hsm` each.
//!
//! An `Err` here is a question that no client of ours would ask: its socket is closed. What can be
//! wrong without anyone's bug (a peer's signature, a secret file, a row of the database) has its
//! place in the answer.

use crate::arriving::Asker;
use crate::blinding::secp;
use crate::channel::Channel;
use crate::channel_keys::{ChannelKeys, SIGNING_STACK, signatures_made};
use crate::derive::NodeKeys;
use crate::judge::Judge;
use crate::messages::{blinded_key, double_sha256};
use crate::refusal::{Bad, Refusal};
use crate::secret_file::Unusable;
use crate::{arriving, claims, messages, secret_file, wallet};
use channel::cores;
use primitives::*;
use secp256k1::{Message as Digest, SECP256K1};
use std::collections::HashMap;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use subdaemon::memory;
use wire::hsm::*;
use wire::{ChannelAnnouncement, Message, Request, Wire};
use zeroize::Zeroizing;

/// As many as two sides can have in flight at once.
const MAX_ONIONS: usize = 2 * channel::MAX_HTLCS;

/// A client that the master wants served.
pub(crate) struct Admission {
    pub(crate) fd: OwnedFd,
    pub(crate) who: Asker,
    pub(crate) rights: Rights,
    /// The master had the channel on disk when it asked for this client. openingd's comes before.
    pub(crate) stored: bool,
}

/// The outcome of a question.
pub(crate) struct Outcome {
    /// The answer's frame.
    pub(crate) answer: Zeroizing<Vec<u8>>,
    /// A client to serve from now on.
    pub(crate) admit: Option<Admission>,
    /// A channel whose clients have nothing more to ask.
    pub(crate) forgotten: Option<(NodeId, ChannelNumber)>,
    /// A channel that the master has on disk: whoever opened it has nothing more to ask.
    pub(crate) stored: Option<(NodeId, ChannelNumber)>,
    /// Something to tell the master.
    pub(crate) report: Option<BadClient>,
}

/// hsmd without its sockets.
#[derive(Default)]
pub(crate) struct Hsm {
    node: Option<Box<NodeKeys>>,
    channels: HashMap<(NodeId, ChannelNumber), Channel>,
}

/// `None`: the question waits until the master says that what it needs is stored.
type Answered = Result<Option<Outcome>, Bad>;

/// Bytes of stack that an answer uses, and that are wiped after it.
const ANSWER_STACK: usize = 64 * 1024;

/// More than every answer with a secret has, but those about onions.
const ROOM: usize = 512;
/// Bytes of the answer for one onion.
const ONION_KEYS: usize = 4 * 32 + 33;

fn outcome<R: Request>(answer: &R::Answer) -> Outcome {
    outcome_in::<R>(ROOM, answer)
}
/// With room from the start: a vector that grows would leave copies behind.
fn outcome_in<R: Request>(room: usize, answer: &R::Answer) -> Outcome {
    let mut frame = Zeroizing::new(Vec::with_capacity(room));
    frame.extend_from_slice(&R::NUMBER.to_be_bytes());
    answer.put(&mut frame);
    Outcome { answer: frame, admit: None, forgotten: None, stored: None, report: None }
}
fn answered<R: Request>(answer: &R::Answer) -> Answered {
    Ok(Some(outcome::<R>(answer)))
}
/// The same, once there is an answer.
fn answered_once<R: Request>(answer: Option<R::Answer>) -> Answered {
    Ok(answer.map(|answer| outcome::<R>(&answer)))
}

impl Hsm {
    /// With this node's keys, as after `Unlock`.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unlocked(node: NodeKeys) -> Self {
        Self { node: Some(Box::new(node)), ..Self::default() }
    }

    /// Is the secret there?
    pub(crate) fn is_unlocked(&self) -> bool {
        self.node.is_some()
    }

    /// The master has stored something that a child's question may wait for.
    pub(crate) fn ordered(&mut self, order: &MasterOrder) {
        let of = match order {
            MasterOrder::RevocationStored(o) => (o.peer, o.channel),
            MasterOrder::ClosingStored(o) => (o.peer, o.channel),
        };
        let Some(channel) = self.channels.get_mut(&of) else { return };
        match order {
            MasterOrder::RevocationStored(o) => channel.judge.revocation_stored(o.revoked),
            MasterOrder::ClosingStored(_) => channel.judge.closing_stored(),
        }
    }

    /// Answers one question of `who`.
    pub(crate) fn answer(
        &mut self,
        who: Asker,
        rights: &Rights,
        body: &[u8],
        fds: VecDeque<OwnedFd>,
    ) -> Answered {
        arriving::judge(who, rights, body.len(), body)?;
        let question = HsmRequest::decode(body).map_err(|e| e.to_string())?;
        let carries = usize::from(matches!(question, HsmRequest::NewClient(_)));
        if fds.len() != carries {
            return Err(format!("{} with {} descriptors", question.name(), fds.len()));
        }
        let name = question.name();
        let decided = self.decide(who, question, fds).map_err(|why| format!("{name}: {why}"));
        memory::wipe_stack::<ANSWER_STACK>();
        decided
    }

    fn decide(&mut self, who: Asker, question: HsmRequest, fds: VecDeque<OwnedFd>) -> Answered {
        use HsmRequest as Q;
        match question {
            Q::Unlock(q) => answered::<Unlock>(&self.unlock(&q)?),
            Q::NewClient(q) => self.new_client(q, fds).map(Some),
            Q::MixEcdh(q) => answered::<MixEcdh>(&messages::mix_ecdh(self.node()?, &q)?),
            Q::GetBasepoints(_) => answered::<GetBasepoints>(&self.channel(who)?.keys.points),
            Q::GetCommitmentPoint(q) => {
                answered::<GetCommitmentPoint>(&self.channel(who)?.tell_point(q.number)?)
            }
            Q::SetupChannel(q) => answered::<SetupChannel>(&self.channel(who)?.set_up(&q.params)?),
            Q::SignRemoteCommitment(q) => {
                answered::<SignRemoteCommitment>(&self.channel(who)?.sign_remote(&q.state)?)
            }
            Q::RemoteRevoked(q) => {
                let judged = self.channel(who)?.judge.remote_revokes(q.number, &q.secret)?;
                answered::<RemoteRevoked>(&verdict(judged))
            }
            Q::ValidateLocalCommitment(q) => {
                let judged = self.channel(who)?.validate_local(&q.state, &q.signatures)?;
                answered::<ValidateLocalCommitment>(&verdict(judged))
            }
            Q::RevokeLocal(q) => self.revoke_local(who, &q),
            Q::SignClosing(q) => {
                answered_once::<SignClosing>(self.channel(who)?.sign_closing(&q.state)?)
            }
            Q::CheckSecret(q) => answered::<CheckSecret>(&self.channel(who)?.is_secret(&q)),
            Q::PeelOnions(q) => self.peel_onions(&q).map(Some),
            Q::CheckClosing(q) => {
                let judged = self.channel(who)?.check_closing(&q.state, &q.signature)?;
                answered::<CheckClosing>(&verdict(judged))
            }
            Q::CountSignatures(_) => answered::<CountSignatures>(&signatures_made()),
            Q::SignAnnouncement(q) => {
                answered::<SignAnnouncement>(&self.sign_announcement(who, &q)?)
            }
            Q::CheckAnnouncement(q) => {
                answered::<CheckAnnouncement>(&verdict(self.check_announcement(who, &q)?))
            }
            Q::SignLocalCommitment(q) => {
                answered::<SignLocalCommitment>(&completed(self.sign_local(&q)?))
            }
            Q::CompleteClosing(q) => {
                answered::<CompleteClosing>(&completed(self.complete_closing(&q)?))
            }
            Q::SignWallet(q) => answered::<SignWallet>(&completed(self.sign_wallet(q)?)),
            Q::SignInvoice(q) => {
                answered::<SignInvoice>(&messages::sign_invoice(self.node()?, &q.hrp, &q.data.0)?)
            }
            Q::SignMessage(q) => {
                answered::<SignMessage>(&messages::sign_message(self.node()?, &q.message.0))
            }
            Q::MakeSecret(q) => answered::<MakeSecret>(&self.node()?.make_secret(&q.info.0)),
            Q::SignChannelUpdate(q) => answered::<SignChannelUpdate>(
                &messages::sign_channel_update(self.node()?, &q.unsigned.0)?,
            ),
            Q::ForgetChannel(q) => Ok(Some(self.forget_channel(&q))),
        }
    }

    /// `None`: not before the master has stored that it may. The secret is erased once it is in the
    /// answer.
    fn revoke_local(&mut self, who: Asker, q: &RevokeLocal) -> Answered {
        let mut revoked = self.channel(who)?.revoke_local(q.number)?;
        let outcome = revoked.as_ref().map(outcome::<RevokeLocal>);
        if let Some(revocation) = &mut revoked {
            revocation.secret.non_secure_erase();
        }
        Ok(outcome)
    }

    fn sign_local(&mut self, q: &SignLocalCommitment) -> Result<Result<Transaction, String>, Bad> {
        Ok(self.channel(Asker::Child(q.peer, q.channel))?.sign_local(&q.state, &q.signatures))
    }

    fn complete_closing(
        &mut self,
        q: &CompleteClosing,
    ) -> Result<Result<Transaction, String>, Bad> {
        Ok(self.channel(Asker::Child(q.peer, q.channel))?.complete_closing(&q.state, &q.signature))
    }

    fn peel_onions(&self, q: &PeelOnions) -> Result<Outcome, Bad> {
        let room = 2 + 2 + q.onions.len() * ONION_KEYS;
        Ok(outcome_in::<PeelOnions>(room, &self.peel(&q.onions)?))
    }

    fn forget_channel(&mut self, q: &ForgetChannel) -> Outcome {
        self.channels.remove(&(q.peer, q.channel));
        Outcome { forgotten: Some((q.peer, q.channel)), ..outcome::<ForgetChannel>(&()) }
    }

    fn node(&self) -> Result<&NodeKeys, Bad> {
        self.node.as_deref().ok_or_else(|| "the secret is not unlocked".to_owned())
    }

    /// The channel that `who` is bound to. Its keys are derived once.
    fn channel(&mut self, who: Asker) -> Result<&mut Channel, Bad> {
        let Asker::Child(peer, number) = who else { return Err(Refusal::NoChannel.into()) };
        let node = self.node.as_deref().ok_or_else(|| "the secret is not unlocked".to_owned())?;
        match self.channels.entry((peer, number)) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(known.into_mut()),
            std::collections::hash_map::Entry::Vacant(place) => {
                let keys = ChannelKeys::derive(node, &peer, number)
                    .ok_or_else(|| format!("channel number {number} makes no keys"))?;
                Ok(place.insert(Channel { keys, judge: Judge::default() }))
            }
        }
    }

    fn unlock(&mut self, q: &Unlock) -> Result<UnlockAnswer, Bad> {
        if self.is_unlocked() {
            return Err("it was unlocked before".to_owned());
        }
        let passphrase = q.passphrase.as_ref().map(SecretBytes::expose);
        Ok(match secret_file::open(Path::new(&q.path), passphrase) {
            Ok((root, fresh)) => {
                let node = Box::new(NodeKeys::derive(&root, q.network));
                memory::lock_pages_of(&*node);
                let (node_id, wallet_xpub) = (node.node_id, node.wallet_xpub());
                self.node = Some(node);
                UnlockAnswer::Open { unlocked: Unlocked { node_id, wallet_xpub, fresh } }
            }
            Err(Unusable::Other(why)) => UnlockAnswer::Refused { why },
            Err(Unusable::NeedsPassphrase(why)) => UnlockAnswer::NeedsPassphrase { why },
            Err(Unusable::WrongPassphrase(why)) => UnlockAnswer::WrongPassphrase { why },
        })
    }

    fn new_client(&mut self, q: NewClient, mut fds: VecDeque<OwnedFd>) -> Result<Outcome, Bad> {
        self.node()?;
        if q.rights.allow(Capability::Master) {
            return Err("the right Master is the master's alone".to_owned());
        }
        let who = Asker::Child(q.peer, q.channel);
        let mut outcome = outcome::<NewClient>(&());
        if let Some(seed) = &q.seed {
            outcome.stored = Some((q.peer, q.channel));
            let channel = self.channel(who)?;
            if let Err(why) = channel.judge.seed(seed, &channel.keys.points) {
                let why = format!("its seed is refused: {why}");
                outcome.report = Some(BadClient { peer: q.peer, channel: q.channel, why });
                return Ok(outcome);
            }
        }
        let stored = q.seed.is_some();
        outcome.admit = fds.pop_front().map(|fd| Admission { fd, who, rights: q.rights, stored });
        Ok(outcome)
    }

    /// All of them or none. Whoever takes an HTLC of our own commitment has broadcast that.
    fn sign_wallet(&mut self, q: SignWallet) -> Result<Result<Transaction, String>, Bad> {
        let inputs = &q.inputs.0;
        let channel = |key: &WalletKey| self.channels.get(&claims::channel_of(key)?);
        let signed = wallet::sign(self.node()?, channel, q.transaction, inputs, &q.spent.0);
        if signed.is_ok() {
            for key in inputs.iter().map(|input| &input.key) {
                let channel = claims::channel_of(key).and_then(|id| self.channels.get_mut(&id));
                if let (Some(channel), Some(number)) = (channel, claims::broadcast_by(key)) {
                    channel.judge.broadcasts(number);
                }
            }
        }
        Ok(signed)
    }

    fn peel(&self, onions: &[OnionPoint]) -> Result<Vec<OnionKeys>, Bad> {
        if onions.len() > MAX_ONIONS {
            return Err(format!("{} onions at once, of at most {MAX_ONIONS}", onions.len()));
        }
        let node = SigningKey::new(*self.node()?.node);
        Ok(cores::each(&Arc::new(onions.to_vec()), move |_, o| {
            let blinded = o.path_key.as_ref().map(|path_key| blinded_key(&node, path_key));
            let key = blinded.as_ref().unwrap_or(&node);
            let keys = onion::onion_keys(&onion::shared_secret(&o.ephemeral, key), &o.ephemeral);
            // Of another thread than ours nobody else wipes the stack.
            memory::wipe_stack::<SIGNING_STACK>();
            keys
        }))
    }

    fn sign_announcement(
        &mut self,
        who: Asker,
        q: &SignAnnouncement,
    ) -> Result<(Signature, Signature), Bad> {
        let (_, digest) = self.announcement(who, q.short_channel_id, &q.features)?;
        self.channel(who)?.judge.may_announce()?;
        let node_signature = secp().sign_ecdsa(&digest, &self.node()?.node);
        Ok((node_signature, secp().sign_ecdsa(&digest, &self.channel(who)?.keys.funding)))
    }

    /// libsecp256k1 refuses a high S: nobody would relay what it is in.
    fn check_announcement(
        &mut self,
        who: Asker,
        q: &CheckAnnouncement,
    ) -> Result<Result<(), String>, Bad> {
        let (theirs, digest) = self.announcement(who, q.short_channel_id, &q.features)?;
        let holds = |signature, key: NodeId| {
            key.point().is_some_and(|k| SECP256K1.verify_ecdsa(&digest, signature, &k).is_ok())
        };
        Ok(if !holds(&q.node_signature, theirs.0) {
            Err("the node_signature does not hold".to_owned())
        } else if !holds(&q.bitcoin_signature, theirs.1) {
            Err("the bitcoin_signature does not hold".to_owned())
        } else {
            Ok(())
        })
    }

    /// The peer's id and funding key, and what both sides sign of the channel's announcement.
    fn announcement(
        &mut self,
        who: Asker,
        short_channel_id: ShortChannelId,
        features: &Features,
    ) -> Result<((NodeId, NodeId), Digest), Bad> {
        let Asker::Child(peer, _) = who else { return Err(Refusal::NoChannel.into()) };
        let node = self.node()?;
        let (node_id, network) = (node.node_id, node.network);
        let channel = self.channel(who)?;
        let constants = channel.judge.constants()?;
        let keys = &constants.params.basepoints;
        let ours = (node_id, NodeId::from(keys.local.funding));
        let theirs = (peer, NodeId::from(keys.remote.funding));
        let (first, second) = if node_id.0 < peer.0 { (ours, theirs) } else { (theirs, ours) };
        // Only what follows the signatures is signed: any will do in their place.
        let blank = secp().sign_ecdsa(&Digest::from_digest([1; 32]), &channel.keys.funding);
        let announcement = ChannelAnnouncement {
            node_signature_1: blank,
            node_signature_2: blank,
            bitcoin_signature_1: blank,
            bitcoin_signature_2: blank,
            features: features.clone(),
            chain_hash: network.chain_hash(),
            short_channel_id,
            node_id_1: first.0,
            node_id_2: second.0,
            bitcoin_key_1: first.1,
            bitcoin_key_2: second.1,
        };
        // BOLT 7, channel_announcement: from offset 256 of what follows the type.
        let mut bytes = Vec::new();
        announcement.put_body(&mut bytes);
        Ok((theirs, double_sha256(&[bytes.get(256..).unwrap_or_default()])))
    }
}

fn verdict(judged: Result<(), String>) -> Verdict {
    judged.map_or_else(|why| Verdict::Bad { why }, |()| Verdict::Good)
}
fn completed(done: Result<Transaction, String>) -> Completed {
    done.map_or_else(
        |why| Completed::Refused { why },
        |transaction| Completed::Ready { transaction },
    )
}
