//! What follows from everything that is known: made anew each time, so that a restart or a
//! reorganisation is nothing special. The one thing that grows and never shrinks is what preimages
//! were shown.

use crate::chain::{Chain, OutOfOrder, Spend};
use crate::claim::Preimages;
use crate::close::{
    Close, CommitmentOutput, CommitmentOwner, HtlcOutput, Offered, OutputKind, said_preimages,
};
use bitcoin::Witness;
use channel::Unbuildable;
use primitives::*;
use std::collections::{HashMap, HashSet};
use wire::Long;
use wire::onchaind::*;

/// So many blocks on top of a transaction are for good, as far as HTLCs of other channels are
/// concerned: BOLT 5's "reasonable depth". A reorganisation of so many still undoes nothing that
/// was concluded from it.
pub const DEPTH: u32 = 6;
/// An HTLC that has no output here fails sooner if the one that it forwards expires within so many
/// blocks.
pub const HASTE: u32 = channel::FAIL_BACK_BLOCKS;
/// So long after its expiry an HTLC is given up that may be in a commitment which our rows do not
/// know: two weeks.
const GIVEN_UP: u32 = 2016;

/// One channel's close: everything that is known about it.
#[derive(Debug)]
pub struct Resolver {
    close: Close,
    chain: Chain,
    /// Of HTLCs that the peer offered.
    received: Preimages,
    /// Of HTLCs that we offered, by hash: whoever shows one was paid, and all of that hash may be
    /// fulfilled upstream.
    shown: HashMap<PaymentHash, Preimage>,
    /// The payment hashes whose preimages `shown` may contain.
    wanted: HashSet<PaymentHash>,
}

/// A start that makes no sense: the master's rows contradict themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadStart {
    /// The state makes no channel.
    Unbuildable(Unbuildable),
    /// Its blocks do not follow each other.
    OutOfOrder(OutOfOrder),
}
impl std::fmt::Display for BadStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unbuildable(why) => why.fmt(f),
            Self::OutOfOrder(why) => why.fmt(f),
        }
    }
}
impl std::error::Error for BadStart {}
impl From<Unbuildable> for BadStart {
    fn from(why: Unbuildable) -> Self {
        Self::Unbuildable(why)
    }
}
impl From<OutOfOrder> for BadStart {
    fn from(why: OutOfOrder) -> Self {
        Self::OutOfOrder(why)
    }
}

impl Resolver {
    /// From all that the master knows.
    pub fn new(init: OnchaindInit) -> Result<Self, BadStart> {
        let close = Close::new(&init)?;
        let chain = Chain::new(close.txid, close.height);
        let wanted = close.offered.iter().map(|o| o.payment_hash).collect();
        let mut resolver =
            Self { close, chain, received: HashMap::new(), shown: HashMap::new(), wanted };
        for (_, preimage) in said_preimages(&init.state, Side::Local) {
            resolver.show(preimage);
        }
        let said = said_preimages(&init.state, Side::Remote);
        resolver.received.extend(said.chain(init.preimages.0));
        for mined in init.later.0 {
            resolver.transaction(mined.transaction, mined.height)?;
        }
        resolver.chain.reaches(init.height)?;
        Ok(resolver)
    }

    /// A block joined the chain.
    pub fn block(&mut self, block: OnchainBlock) -> Result<(), OutOfOrder> {
        for transaction in block.transactions.0 {
            self.transaction(transaction, block.height)?;
        }
        self.chain.reaches(block.height)
    }
    /// Blocks left it. What they showed stays known.
    pub fn reorg(&mut self, reorg: &OnchainReorg) -> Result<(), OutOfOrder> {
        self.chain.leaves(reorg.height)
    }
    /// The preimage of an HTLC that the peer offered.
    pub fn preimage(&mut self, known: &OnchainPreimage) {
        self.received.insert(known.id, known.preimage);
    }
    /// A transaction that is in no block yet.
    pub fn unconfirmed(&mut self, seen: &OnchainUnconfirmed) {
        self.read(&seen.transaction);
    }

    fn transaction(
        &mut self,
        transaction: Transaction,
        height: BlockHeight,
    ) -> Result<(), OutOfOrder> {
        self.read(&transaction);
        self.chain.joins(transaction, height)
    }

    /// BOLT 5: "MUST extract the payment preimage". Whatever it opens, and wherever: an HTLC whose
    /// output is gone, or never was, is paid as well.
    fn read(&mut self, transaction: &Transaction) {
        let elements = transaction.input.iter().flat_map(|input| Witness::iter(&input.witness));
        for element in elements {
            if let Ok(preimage) = element.try_into() {
                self.show(Preimage(preimage));
            }
        }
    }
    fn show(&mut self, preimage: Preimage) {
        let hash = preimage.hash();
        if self.wanted.contains(&hash) {
            self.shown.insert(hash, preimage);
        }
    }

    /// Everything that follows.
    pub fn resolution(&self) -> Resolution {
        let mut found = Found { last: self.close.height, ..Found::default() };
        for (vout, part) in self.close.parts.iter().enumerate() {
            self.output(vout, part, &mut found);
        }
        let (mut learned, mut failed, mut overdue) = (Vec::new(), Vec::new(), Vec::new());
        let mut open = false;
        for offered in &self.close.offered {
            match self.shown.get(&offered.payment_hash) {
                Some(preimage) => learned.push((offered.id, *preimage)),
                None if self.has_failed(offered) => failed.push(offered.id),
                None => {
                    open = true;
                    if self.is_overdue(offered) {
                        overdue.push(offered.id);
                    }
                }
            }
        }
        let done = !open && found.outputs.iter().all(|output| output.done);
        Resolution {
            close: self.close.view.kind(),
            claims: Long(found.claims),
            outputs: Long(found.outputs),
            learned: Long(learned),
            failed: Long(failed),
            overdue: Long(overdue),
            settled: done.then_some(found.last),
        }
    }

    /// Where the chain ends.
    pub const fn tip(&self) -> BlockHeight {
        self.chain.tip
    }

    fn output(&self, vout: usize, part: &CommitmentOutput, found: &mut Found) {
        let outpoint = self.close.outpoint(vout);
        let spend = self.chain.spend_of(&outpoint);
        let claim = self.close.claim(vout, part, &self.received);
        let (htlc, done) = match &part.what {
            OutputKind::Htlc(h) => {
                let is_theirs = self.is_theirs_now(h, claim.is_some());
                (Some((h.htlc.offered_by, h.htlc.id)), is_theirs)
            }
            // The peer's own, an anchor, or nothing that we could ever take: unless there is a
            // claim.
            OutputKind::OurToLocal
            | OutputKind::OurToRemote
            | OutputKind::TheirToLocal
            | OutputKind::TheirToRemote
            | OutputKind::Anchor(_)
            | OutputKind::Unknown => (None, claim.is_none()),
        };
        let done = spend.is_some() || done;
        found.outputs.push(OutputStatus {
            outpoint,
            amount: part.amount,
            what: self.name(&part.what),
            htlc,
            spent: spend.map(|s| (s.by.txid, s.by.height)),
            done,
        });
        let Some(spend) = spend else {
            if let OutputKind::Htlc(h) = &part.what
                && h.htlc.offered_by == Side::Remote
                && claim.is_none()
            {
                // Its preimage may come as late as that, and the output may be there as long.
                found.needed(h.htlc.expiry + CltvDelta(DEPTH));
            }
            found.claims.extend(claim);
            return;
        };
        if claim.is_some() || htlc.is_some() {
            found.needed(spend.by.height);
        }
        if let Some(of) = htlc {
            self.second_stage(of, spend, found);
        }
    }

    /// Handles the output of an HTLC transaction: ours after the delay, or ours because it was
    /// revoked.
    fn second_stage(&self, of: (Side, HtlcId), spend: Spend<'_>, found: &mut Found) {
        let Some(claim) = self.close.second_claim(spend) else { return };
        let spent = self.chain.spend_of(&claim.outpoint);
        let name = match of.0 {
            Side::Local => "our",
            Side::Remote => "their",
        };
        found.outputs.push(OutputStatus {
            outpoint: claim.outpoint,
            amount: claim.amount,
            what: format!("{name}_htlc {} second stage", of.1),
            htlc: Some(of),
            spent: spent.map(|s| (s.by.txid, s.by.height)),
            done: spent.is_some(),
        });
        match spent {
            Some(spent) => found.needed(spent.by.height),
            None => found.claims.push(claim),
        }
    }

    /// An unspent HTLC output: is there nothing left to do about it?
    fn is_theirs_now(&self, output: &HtlcOutput, claimable: bool) -> bool {
        match (&self.close.view, output.htlc.offered_by) {
            _ if claimable => false,
            // BOLT 5: "If not otherwise resolved, once the HTLC output has expired, it is
            // considered irrevocably resolved."
            (_, Side::Remote) => self.chain.is_buried(output.htlc.expiry, DEPTH),
            // One that we can never take, since our rows do not know this commitment.
            (CommitmentOwner::Unknown { .. }, Side::Local) => true,
            (
                CommitmentOwner::Ours { .. }
                | CommitmentOwner::Theirs { .. }
                | CommitmentOwner::Revoked { .. },
                Side::Local,
            ) => false,
        }
    }

    /// Has this HTLC, whose preimage nobody has shown, come back to us for good?
    fn has_failed(&self, offered: &Offered) -> bool {
        if let Some(vout) = offered.output {
            // Spent without its preimage: by us. BOLT 5: "once the resolving transaction has
            // reached reasonable depth".
            let spend = self.chain.spend_of(&self.close.outpoint(vout));
            return spend.is_some_and(|s| self.chain.is_buried(s.by.height, DEPTH));
        }
        if matches!(self.close.view, CommitmentOwner::Unknown { .. }) {
            if self.may_be_hidden(offered) {
                return self.chain.is_buried(offered.expiry, GIVEN_UP);
            }
        } else if !offered.valid_output {
            // No commitment that may take this one's place has it either.
            return true;
        }
        // Another commitment may take this one's place in a reorganisation; but the incoming HTLC
        // must fail in time.
        self.chain.is_buried(self.close.height, DEPTH) || self.is_overdue(offered)
    }

    /// Does the incoming HTLC that it forwards expire within [`HASTE`] blocks?
    fn is_overdue(&self, offered: &Offered) -> bool {
        offered.upstream.is_some_and(|expiry| expiry <= self.chain.tip + CltvDelta(HASTE))
    }

    /// May an output of a commitment that our rows do not know be this HTLC's, so that the peer may
    /// still take it?
    fn may_be_hidden(&self, offered: &Offered) -> bool {
        self.close.parts.iter().enumerate().any(|(vout, part)| {
            matches!(part.what, OutputKind::Unknown)
                && part.amount == offered.amount
                && !self
                    .chain
                    .spend_of(&self.close.outpoint(vout))
                    .is_some_and(|s| self.chain.is_buried(s.by.height, DEPTH))
        })
    }

    fn name(&self, what: &OutputKind) -> String {
        match what {
            OutputKind::OurToLocal => "our_to_local".to_owned(),
            OutputKind::OurToRemote => "our_to_remote".to_owned(),
            OutputKind::TheirToLocal => "their_to_local".to_owned(),
            OutputKind::TheirToRemote => "their_to_remote".to_owned(),
            OutputKind::Anchor(Side::Local) => "our_anchor".to_owned(),
            OutputKind::Anchor(Side::Remote) => "their_anchor".to_owned(),
            OutputKind::Htlc(HtlcOutput { htlc, .. }) => match htlc.offered_by {
                Side::Local => format!("our_htlc {}", htlc.id),
                Side::Remote => format!("their_htlc {}", htlc.id),
            },
            OutputKind::Unknown => "unknown".to_owned(),
        }
    }
}

/// Results of one walk over the outputs.
#[derive(Default)]
struct Found {
    claims: Vec<Claim>,
    outputs: Vec<OutputStatus>,
    last: BlockHeight,
}
impl Found {
    fn needed(&mut self, height: BlockHeight) {
        self.last = self.last.max(height);
    }
}
