//! BOLT 2, "Batching channel messages": several commitment_signed, one for each funding. We have one funding.

use crate::live::Live;
use primitives::*;
use subdaemon::Failure;
use wire::{CommitmentSigned, Message, StartBatch, Warning};

/// BOLT 2: at most this many.
const MAX_BATCH: u16 = 20;

/// A batch that is coming in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    left: u16,
    /// The one that is for our funding.
    ours: Option<CommitmentSigned>,
}

/// What one more commitment_signed makes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    More(Batch),
    Whole(CommitmentSigned),
}

impl Batch {
    pub(crate) const fn new(left: u16) -> Self {
        Self { left, ours: None }
    }
    pub(crate) fn with(self, m: CommitmentSigned, funding: Txid) -> Result<Next, &'static str> {
        let txid = m.funding_txid.ok_or("commitment_signed without funding_txid in a batch")?;
        // BOLT 2: those for another funding are obsolete.
        let ours = if txid == funding { Some(m) } else { self.ours };
        match (self.left.saturating_sub(1), ours) {
            (0, Some(ours)) => Ok(Next::Whole(ours)),
            (0, None) => Err("a batch without commitment_signed for the funding"),
            (left, ours) => Ok(Next::More(Self { left, ours })),
        }
    }
}

impl Live {
    pub(crate) fn on_start_batch(&mut self, m: &StartBatch) -> Result<(), Failure> {
        if m.batch_size > MAX_BATCH {
            let text = format!("start_batch of {}, of at most {MAX_BATCH}", m.batch_size);
            return Err(Failure::PeerWarn(text));
        }
        if m.batch_size <= 1 {
            let text = format!("start_batch of {} is ignored", m.batch_size);
            return self.peer.send(&Warning::new(self.id, &text));
        }
        // BOLT 2: of anything else the messages are taken one by one.
        if m.message_type == Some(CommitmentSigned::NUMBER) {
            self.batch = Some(Batch::new(m.batch_size));
        }
        Ok(())
    }

    /// The commitment_signed to act on: this one, or the one of a batch that is now whole.
    pub(crate) fn unbatched(
        &mut self,
        m: CommitmentSigned,
    ) -> Result<Option<CommitmentSigned>, Failure> {
        let funding = self.channel.constants().params.funding.txid;
        let Some(batch) = self.batch.take() else {
            return match m.funding_txid {
                Some(other) if other != funding => {
                    Err(Failure::PeerWarn(format!("commitment_signed for the funding {other}")))
                }
                Some(_) | None => Ok(Some(m)),
            };
        };
        match batch.with(m, funding) {
            Ok(Next::More(batch)) => {
                self.batch = Some(batch);
                Ok(None)
            }
            Ok(Next::Whole(m)) => Ok(Some(m)),
            Err(why) => Err(Failure::PeerError(format!("BOLT 2, start_batch: {why}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(byte: u8, funding_txid: Option<u8>) -> CommitmentSigned {
        CommitmentSigned {
            channel_id: ChannelId([byte; 32]),
            signature: Signature::from_compact(&[1; 64]).unwrap(),
            htlc_signatures: vec![],
            funding_txid: funding_txid.map(txid),
        }
    }
    fn txid(byte: u8) -> Txid {
        bitcoin::hashes::Hash::from_byte_array([byte; 32])
    }

    #[test]
    fn of_a_batch_only_the_one_for_our_funding_counts() {
        let funding = txid(7);
        let Ok(Next::More(batch)) = Batch::new(3).with(signed(1, Some(9)), funding) else {
            panic!()
        };
        let Ok(Next::More(batch)) = batch.with(signed(2, Some(7)), funding) else { panic!() };
        let whole = batch.with(signed(3, Some(8)), funding);
        assert_eq!(whole, Ok(Next::Whole(signed(2, Some(7)))));
    }

    #[test]
    fn a_batch_without_our_funding_or_without_names_is_refused() {
        let funding = txid(7);
        assert!(Batch::new(2).with(signed(1, None), funding).is_err());
        let Ok(Next::More(batch)) = Batch::new(2).with(signed(1, Some(9)), funding) else {
            panic!()
        };
        assert!(batch.with(signed(1, Some(9)), funding).is_err());
    }
}
