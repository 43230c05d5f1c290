//! BOLT 2, "Batching channel messages": several commitment_signed, one for each funding. We have
//! one funding.

use primitives::*;
use wire::CommitmentSigned;

/// BOLT 2: at most this many.
pub(crate) const MAX_BATCH: u16 = 20;

/// A batch that is coming in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    left: u16,
    /// The one that is for our funding.
    ours: Option<CommitmentSigned>,
}

/// The state of a batch after one more commitment_signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BatchProgress {
    More(Batch),
    Whole(CommitmentSigned),
}

impl Batch {
    pub(crate) const fn new(left: u16) -> Self {
        Self { left, ours: None }
    }
    pub(crate) fn with(
        self,
        m: CommitmentSigned,
        funding: Txid,
    ) -> Result<BatchProgress, &'static str> {
        let txid = m.funding_txid.ok_or("commitment_signed without funding_txid in a batch")?;
        // BOLT 2: those for another funding are obsolete.
        let ours = if txid == funding { Some(m) } else { self.ours };
        match (self.left.saturating_sub(1), ours) {
            (0, Some(ours)) => Ok(BatchProgress::Whole(ours)),
            (0, None) => Err("a batch without commitment_signed for the funding"),
            (left, ours) => Ok(BatchProgress::More(Self { left, ours })),
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
    fn batch_counts_only_the_signature_for_our_funding() {
        let funding = txid(7);
        let Ok(BatchProgress::More(batch)) = Batch::new(3).with(signed(1, Some(9)), funding) else {
            panic!()
        };
        let Ok(BatchProgress::More(batch)) = batch.with(signed(2, Some(7)), funding) else {
            panic!()
        };
        let whole = batch.with(signed(3, Some(8)), funding);
        assert_eq!(whole, Ok(BatchProgress::Whole(signed(2, Some(7)))));
    }

    #[test]
    fn batch_without_our_funding_or_without_names_is_refused() {
        let funding = txid(7);
        assert!(Batch::new(2).with(signed(1, None), funding).is_err());
        let Ok(BatchProgress::More(batch)) = Batch::new(2).with(signed(1, Some(9)), funding) else {
            panic!()
        };
        assert!(batch.with(signed(1, Some(9)), funding).is_err());
    }
}
