//! The chain of one run: blocks on top of the master's tip.

use super::{STRANGER, World, transaction};
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::Purpose;
use crate::rooms::channels::testing::peer;
use bitcoin::block::{Block, Header};
use primitives::BlockHeight;
use serde_json::json;

impl World {
    /// A block, with the fundings that are not in any, or with what spends them.
    pub(super) fn mines(&mut self, what: u8) {
        let Some((tip, prev_blockhash)) = self.rig.node.chain.headers.back().copied() else {
            return;
        };
        let mut txdata = vec![];
        for channel in self.rig.node.channels.all.values().filter(|c| c.peer == peer(STRANGER)) {
            let funding = channel.live.params.funding;
            match channel.funding_height {
                None if what < 224 => {
                    let known = self.fundings.iter().find(|tx| tx.compute_txid() == funding.txid);
                    self.funded += known.map_or(0, |_| channel.live.params.amount.0 * 1000);
                    txdata.extend(known.cloned());
                }
                Some(_) if what >= 128 && channel.spend.is_none() => {
                    let closing = channel.close_tx.clone().filter(|_| what < 224);
                    txdata.push(closing.unwrap_or_else(|| transaction(funding, 10)));
                }
                None | Some(_) => {}
            }
        }
        let header = Header {
            version: bitcoin::block::Version::TWO,
            prev_blockhash,
            merkle_root: bitcoin::hashes::Hash::all_zeros(),
            // A tip that is old is not believed.
            time: crate::sys::json::now() as u32,
            bits: bitcoin::CompactTarget::from_consensus(0),
            nonce: what.into(),
        };
        let block = Block { header, txdata };
        let answer = json!({
            "blockhash": block.block_hash().to_string(),
            "block": bitcoin::consensus::encode::serialize_hex(&block),
        });
        self.happens(Event::Backend(Purpose::Block(BlockHeight(tip.0 + 1)), Ok(answer)));
    }
}
