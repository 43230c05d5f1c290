//! Between the master and onchaind: one channel whose funding was spent by a commitment.
//!
//! onchaind is told everything that the chain shows and answers with a [`Resolution`], made anew
//! from all of it each time: it keeps nothing that has to survive, so that restarts and
//! reorganisations are nothing special.

use crate::Long;
use crate::channel_data::*;
use crate::daemon::{Failed, Log, Status};
use crate::hsm::WalletKey;
use primitives::*;

crate::data! {
    /// A transaction in a block.
    pub struct Mined {
        /// What it is.
        transaction: Transaction,
        /// Where.
        height: BlockHeight,
    }

    /// Whose commitment spent the funding, and how old it is. BOLT 5.
    pub enum CloseKind {
        /// Our newest.
        0 => Ours {},
        /// The peer's, not revoked: its newest, or the one before.
        1 => Theirs { number: CommitmentNumber },
        /// The peer's, revoked: everything in it is ours.
        2 => Revoked { number: CommitmentNumber },
        /// One that our rows do not know: the peer's future after a loss of ours, or one of ours
        /// from another time. What pays our own keys is taken, and nothing more can be done.
        3 => Unknown { number: CommitmentNumber },
    }

    /// The shape of a transaction that claims this output.
    pub enum ClaimShape {
        /// Anything goes: many may be taken together.
        0 => Free {},
        /// The output of the same index as the input must be this one: the peer signed that, and
        /// nothing else of it.
        1 => Paired { amount: Sat, script: ScriptBuf },
        /// This one input, this one output and nothing more: the peer signed all of it.
        2 => Whole { amount: Sat, script: ScriptBuf },
    }

    /// An output that we can take, now or from some block on.
    pub struct Claim {
        /// Which.
        outpoint: OutPoint,
        /// What is in it.
        amount: Sat,
        /// Its script.
        script: ScriptBuf,
        /// How hsmd opens it.
        key: WalletKey,
        /// The sequence of the input: a relative delay, or none.
        sequence: u32,
        /// The locktime of the transaction: 0, or the block from which on it is valid. Exactly
        /// this, if the shape is not `Free`; at least this, if it is.
        lock_time: u32,
        /// The first block that can contain it.
        ready: BlockHeight,
        /// From this block on somebody else can take the output, or what it stands for is lost: it
        /// should be ours before.
        deadline: Option<BlockHeight>,
        /// Of its witness, in weight units, at most.
        witness_weight: u32,
        /// Its form.
        shape: ClaimShape,
    }

    /// The kind and fate of one output of the close: for people.
    pub struct OutputStatus {
        /// Which.
        outpoint: OutPoint,
        /// What is in it.
        amount: Sat,
        /// What it is, such as "our_to_local" or "their_htlc 3".
        what: String,
        /// Which HTLC, if it is one.
        htlc: Option<(Side, HtlcId)>,
        /// The transaction that spent it, and its block.
        spent: Option<(Txid, BlockHeight)>,
        /// Is nothing more to be done about it? (Spent for good, not ours, or worth less than it
        /// costs.)
        done: bool,
    }

    /// Everything that follows from what the chain shows.
    pub struct Resolution {
        /// Whose commitment it was.
        close: CloseKind,
        /// Outputs that are ours to claim and not claimed, in any order.
        claims: Long<Claim>,
        /// Every output, and those of second stages.
        outputs: Long<OutputStatus>,
        /// Preimages of HTLCs that we offered, shown by whoever took them.
        learned: Long<(HtlcId, Preimage)>,
        /// HTLCs that we offered and that came back to us, or never had an output: for good, by
        /// BOLT 5's rules.
        failed: Long<HtlcId>,
        /// HTLCs that we offered, neither learned nor failed, whose incoming HTLC is about to
        /// expire: whether that one is failed back depends on what is at stake, which lightningd
        /// knows.
        overdue: Long<HtlcId>,
        /// The block of the last transaction that this needed, once every output is done.
        settled: Option<BlockHeight>,
    }
}

crate::internal! {
    /// onchaind's init. No descriptors: it has no peer and no secrets.
    7000 => OnchaindInit {
        /// Whose channel it was, for the keys of claims.
        peer: NodeId,
        /// Which one.
        channel: ChannelNumber,
        /// The channel as it was when it ended.
        state: ChannelState,
        /// The number in the commitment that spent the funding.
        number: CommitmentNumber,
        /// Our commitment point of that number, as far as hsmd gives it.
        local_point: Option<Point>,
        /// Of a revoked commitment of the peer's: all HTLCs that it may contain, settled or not.
        revoked_htlcs: Long<Htlc>,
        /// For HTLCs that we offered and that forward another: when the other one expires.
        upstream: Long<(HtlcId, BlockHeight)>,
        /// Preimages of HTLCs that the peer offered.
        preimages: Long<(HtlcId, Preimage)>,
        /// The transaction that spent the funding output.
        spend: Mined,
        /// Everything in blocks since that spends its outputs, or what such a transaction has at
        /// the same index; by height.
        later: Long<Mined>,
        /// The tip.
        height: BlockHeight,
    }
    /// A block joined the chain. What it has for this channel, in its order.
    7001 => OnchainBlock { height: BlockHeight, transactions: Long<Transaction> }
    /// Blocks of this height and above left the chain; the spend of the funding is still there.
    7002 => OnchainReorg { height: BlockHeight }
    /// A preimage of an HTLC that the peer offered.
    7003 => OnchainPreimage { id: HtlcId, preimage: Preimage }
    /// Seen outside of any block: only its preimages count.
    7004 => OnchainUnconfirmed { transaction: Transaction }
    /// Whenever it differs from the one before.
    7100 => Resolved { resolution: Resolution }
    /// Every order so far was heeded, and what follows from them is said: the newest block that it
    /// knows.
    7101 => OnchainHeeded { tip: BlockHeight }
}
crate::message_set! {
    /// Orders to onchaind.
    pub enum ToOnchaind { OnchaindInit, OnchainBlock, OnchainReorg, OnchainPreimage, OnchainUnconfirmed }
}
crate::message_set! {
    /// Reports of onchaind.
    pub enum FromOnchaind { Log, Status, Failed, Resolved, OnchainHeeded }
}
