//! hsmd, a master that stores what children tell it, and clients with any rights; beside them the
//! model.

use super::model::Model;
use crate::ends::Ends;
use hsmd::fuzzing::{Answered, Hsm};
use primitives::*;
use std::collections::VecDeque;
use std::sync::LazyLock;
use wire::hsm::*;
use wire::{Request, Wire};

/// The most clients.
const CLIENTS: usize = 12;

pub static ENDS: LazyLock<Vec<Ends>> = LazyLock::new(|| {
    vec![
        Ends::new(2, 7, Side::Local, true),
        Ends::new(2, 8, Side::Remote, false),
        Ends::new(3, 7, Side::Local, true),
    ]
});

pub struct Client {
    pub of: usize,
    rights: Rights,
    stored: bool,
    waiting: Option<Vec<u8>>,
}

pub struct World {
    hsm: Hsm,
    pub channels: Vec<Model>,
    pub clients: Vec<Client>,
}

pub fn question<R: Request>(question: &R) -> Vec<u8> {
    let mut bytes = R::NUMBER.to_be_bytes().to_vec();
    question.put(&mut bytes);
    bytes
}
pub fn answer<R: Request>(answered: &Answered) -> R::Answer {
    R::Answer::from_bytes(&answered.answer).expect("what hsmd answers can be read")
}

/// The right that a question takes.
pub fn needs(asked: &HsmRequest) -> Capability {
    let row = HsmRequest::ROWS.iter().find(|row| row.name == asked.name());
    row.expect("each question has its row").needs
}

const MASTER: &[Capability] = &[Capability::Master];

/// Which of the channels this is.
fn end_of(peer: NodeId, number: ChannelNumber) -> Option<usize> {
    ENDS.iter().position(|e| (e.peer, e.number) == (peer, number))
}

impl World {
    pub fn new() -> Self {
        let channels = ENDS.iter().map(|_| Model::default()).collect();
        Self { hsm: Hsm::new(1), channels, clients: vec![] }
    }

    /// The master asks.
    pub fn master(&mut self, body: &[u8], fds: usize) -> Option<Answered> {
        self.ask(None, &Rights::of(MASTER), body, fds).ok().flatten()
    }

    /// A client asks; a refusal is its end.
    pub fn client(&mut self, at: usize, body: Vec<u8>) {
        let Client { of, rights, waiting, .. } = &self.clients[at];
        if waiting.is_some() {
            return;
        }
        let (of, rights) = (*of, rights.clone());
        match self.ask(Some(of), &rights, &body, 0) {
            Ok(Some(_)) => {}
            Ok(None) => self.clients[at].waiting = Some(body),
            Err(_) => drop(self.clients.swap_remove(at)),
        }
    }

    pub fn order(&mut self, order: &MasterOrder) {
        let id = match order {
            MasterOrder::RevocationStored(o) => (o.peer, o.channel),
            MasterOrder::ClosingStored(o) => (o.peer, o.channel),
        };
        self.hsm.ordered(order);
        if let Some(at) = ENDS.iter().position(|e| (e.peer, e.number) == id) {
            let model = &mut self.channels[at];
            match order {
                _ if !model.met => {}
                MasterOrder::RevocationStored(o) => model.stored = model.stored.max(o.revoked.0),
                MasterOrder::ClosingStored(_) => model.closing_stored = true,
            }
        }
        // Whoever waited asks again.
        for at in (0..self.clients.len()).rev() {
            if let Some(body) = self.clients[at].waiting.take() {
                self.client(at, body);
            }
        }
    }

    /// One question; its answer changes the model, and must fit it.
    fn ask(
        &mut self,
        of: Option<usize>,
        rights: &Rights,
        body: &[u8],
        fds: usize,
    ) -> Result<Option<Answered>, String> {
        let asked = HsmRequest::decode(body);
        // Unlock reads and makes files: it is asked once, before any client is there.
        if matches!(asked, Ok(HsmRequest::Unlock(_))) {
            return Ok(None);
        }
        let who = of.map(|at| (ENDS[at].peer, ENDS[at].number));
        let id = match &asked {
            Ok(HsmRequest::NewClient(q)) => q.seed.as_ref().map(|_| (q.peer, q.channel)),
            Ok(HsmRequest::SignLocalCommitment(q)) => Some((q.peer, q.channel)),
            Ok(HsmRequest::CompleteClosing(q)) => Some((q.peer, q.channel)),
            Ok(HsmRequest::MixEcdh(_) | HsmRequest::PeelOnions(_)) | Err(_) => None,
            Ok(_) => who,
        };
        let allowed = asked.as_ref().is_ok_and(|q| rights.allow(needs(q)));
        if let Some(at) = ENDS.iter().position(|e| Some((e.peer, e.number)) == id) {
            self.channels[at].met |= allowed;
        }
        let null = || std::fs::File::open("/dev/null").expect("it is there").into();
        let fds: VecDeque<_> = (0..fds).map(|_| null()).collect();
        let answered = self.hsm.answer(who, rights, body, fds)?;
        let asked = asked.expect("what is answered can be read");
        assert!(rights.allow(needs(&asked)), "{} without the right", asked.name());
        let Some(answered) = answered else {
            let waits = matches!(asked, HsmRequest::RevokeLocal(_) | HsmRequest::SignClosing(_));
            assert!(waits && of.is_some(), "{} waits", asked.name());
            return Ok(None);
        };
        let drops = |client: &Client, id: Option<(NodeId, ChannelNumber)>| {
            id.is_some_and(|(peer, number)| end_of(peer, number) == Some(client.of))
        };
        self.clients.retain(|c| {
            !drops(c, answered.forgotten) && (c.stored || !drops(c, answered.stored))
        });
        self.follow(of, &asked, &answered);
        Ok(Some(answered))
    }

    /// What the model keeps of an answer that hsmd gave.
    fn follow(&mut self, of: Option<usize>, asked: &HsmRequest, answered: &Answered) {
        match asked {
            HsmRequest::NewClient(q) => {
                if let Some(at) = end_of(q.peer, q.channel) {
                    self.admits(at, q, answered);
                }
            }
            HsmRequest::ForgetChannel(q) => {
                if let Some(at) = end_of(q.peer, q.channel) {
                    self.channels[at] = Model { forgotten: true, ..Model::default() };
                }
            }
            HsmRequest::SignLocalCommitment(q) => {
                let signed = answer::<SignLocalCommitment>(answered);
                if let (Completed::Ready { .. }, Some(at)) = (signed, end_of(q.peer, q.channel)) {
                    self.channels[at].broadcasts(q.state.number.0);
                }
            }
            HsmRequest::SignWallet(q) => {
                if let Completed::Ready { .. } = answer::<SignWallet>(answered) {
                    for input in &q.inputs.0 {
                        if let WalletKey::OwnHtlc { peer, channel, number, .. } = &input.key
                            && let Some(at) = end_of(*peer, *channel)
                        {
                            self.channels[at].broadcasts(number.0);
                        }
                    }
                }
            }
            HsmRequest::CompleteClosing(q) => {
                let signed = answer::<CompleteClosing>(answered);
                if let (Completed::Ready { .. }, Some(at)) = (signed, end_of(q.peer, q.channel)) {
                    self.channels[at].closes(&q.state, &ENDS[at]);
                }
            }
            _ => {
                if let Some(at) = of {
                    self.channels[at].answered(&ENDS[at], asked, answered);
                }
            }
        }
    }

    fn admits(&mut self, at: usize, q: &NewClient, answered: &Answered) {
        assert!(!answered.admitted || !q.rights.allow(Capability::Master), "a second master");
        if !answered.admitted {
            return;
        }
        if let Some(seed) = &q.seed {
            self.channels[at].seeded(seed);
        }
        let stored = q.seed.is_some();
        self.clients.push(Client { of: at, rights: q.rights.clone(), stored, waiting: None });
        if self.clients.len() > CLIENTS {
            self.clients.remove(0);
        }
    }
}
