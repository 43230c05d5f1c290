//! The chain as the backend tells it: tip, reorgs, fee estimates, broadcasting.
//!
//! One question is under way at a time; the answer decides on the next. Blocks are handled one a turn, in order, each with
//! all it means to the other rooms.

pub mod answers;
pub mod broadcast;
pub mod feerates;
pub mod rescan;
pub mod stale;
pub mod store;

use crate::kernel::plugins::BACKEND_METHODS;
use crate::kernel::plugins::calls::call_backend;
use crate::kernel::turn::{Stop, Turn};
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::{ChainEvent, HtlcEvent, Purpose};
use crate::node::Node;
use crate::rooms::chain::broadcast::rebroadcast;
use crate::sys::fatal::Fatal;
use crate::sys::form::RpcError;
use answers::ChainInfo;
use bitcoin::{BlockHash, Txid};
use feerates::Estimates;
use primitives::BlockHeight;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Headers in memory: what a reorganisation needs beyond them is read from the database.
pub const KEPT_HEADERS: usize = 144;
/// Blocks between progress lines in the log.
const PROGRESS_EVERY: u32 = 1000;

/// A reorganisation of more blocks than this is read like blocks that were missed: what depends on the tip waits until it is there.
const SHALLOW: u32 = 12;

/// So long estimates are good enough. Of note only where a developer's node polls more often than that.
const FEES_STAY: Duration = Duration::from_millis(900);

/// What the backend said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Blocks it has.
    pub blocks: u32,
    /// Headers it has.
    pub headers: u32,
    /// Is it in its initial download?
    pub syncing: bool,
}

/// What we know of the chain.
#[derive(Debug, Default)]
pub struct Chain {
    /// The last headers, oldest first. The last one is our tip.
    pub headers: VecDeque<(BlockHeight, BlockHash)>,
    /// When those were made, as they say themselves, in seconds since 1970. Unknown for those that an older version kept.
    pub times: BTreeMap<BlockHeight, u32>,
    /// When the log last heard that the tip is old.
    stale_since: Option<Instant>,
    /// What the backend said last.
    pub backend: Option<Backend>,
    /// Fee estimates, once there are some.
    pub fees: Option<Estimates>,
    /// When they were asked for last.
    fees_asked: Option<Instant>,
    /// Fundings of ours that nobody else can have: each sending of them was refused. How many sendings are not answered yet, or were
    /// not when a process died. As the rows say.
    pub untaken: BTreeMap<Txid, u32>,
    /// Old blocks that are to be looked at again.
    pub rescan: rescan::Rescan,
    /// What it found so far of the wallet's, and saw spent by nothing.
    pub found: BTreeMap<bitcoin::OutPoint, crate::rooms::wallet::Output>,
    /// True where the first block of all was read in this life of the process, as far back as `rescan` says.
    pub began_here: bool,
    /// True once our tip was the backend's.
    pub caught_up: bool,
    /// True once the RPC socket is open and the children are at work.
    pub serving: bool,
}

impl Chain {
    /// Our tip's height; zero before there is one.
    pub fn height(&self) -> BlockHeight {
        self.headers.back().map_or(BlockHeight(0), |(h, _)| *h)
    }
    /// Older headers, the highest first.
    fn prepend(&mut self, older: Vec<store::Header>) {
        for (height, hash, time) in older {
            self.headers.push_front((height, hash));
            self.times.extend(time.map(|time| (height, time)));
        }
    }
    /// Is it certain that no bitcoind ever took this transaction of ours, and that none is about to?
    pub fn nobody_has(&self, txid: Txid) -> bool {
        self.untaken.get(&txid) == Some(&0)
    }
    /// Is our tip the backend's, and the backend in sync as far as it knows? Whether that tip is believed is another question:
    /// [`Node::trusts_tip`].
    pub fn is_synced(&self) -> bool {
        self.caught_up && self.backend.as_ref().is_some_and(|b| !b.syncing)
    }
}

/// Something in this room.
pub fn handle(node: &Node, turn: &mut Turn<'_>, event: ChainEvent) -> Result<(), Stop> {
    match event {
        ChainEvent::PluginsChanged => crate::kernel::plugins::life::continue_start(node, turn),
        ChainEvent::Begin => {
            if let Some(missing) =
                BACKEND_METHODS.iter().find(|m| node.plugins.owner_of(m).is_none())
            {
                return Err(Fatal(format!(
                    "no plugin provides {missing}: a Bitcoin backend such as bcli is needed"
                ))
                .into());
            }
            poll(node, turn);
            Ok(())
        }
        ChainEvent::Poll => {
            poll(node, turn);
            Ok(())
        }
        ChainEvent::Forget(below) => forget(node, turn, below),
    }
}

fn poll(node: &Node, turn: &mut Turn<'_>) {
    call_backend(
        node,
        turn,
        "getchaininfo",
        &json!({"last_height": node.chain.height().0}),
        Purpose::ChainInfo,
    );
}

fn poll_later(node: &Node, turn: &mut Turn<'_>) {
    let seconds =
        if node.config.developer() { node.config.int_or("dev-bitcoind-poll", 30) } else { 30 };
    let wait = match seconds.unsigned_abs() {
        0 => Duration::from_millis(50),
        seconds => Duration::from_secs(seconds),
    };
    turn.at(Instant::now() + wait, Event::Chain(ChainEvent::Poll));
}

/// The backend answered.
pub fn answered(
    node: &Node,
    turn: &mut Turn<'_>,
    purpose: Purpose,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    match purpose {
        Purpose::ChainInfo => chain_info(node, turn, result),
        Purpose::Block(height) => block(node, turn, height, result),
        Purpose::Again(height, since) => rescan::answered(node, turn, (height, since), result),
        Purpose::Fees => {
            fees(node, turn, result);
            Ok(())
        }
        Purpose::Broadcast(txid, why) => broadcast::answered(node, turn, txid, why, result),
        Purpose::MempoolSpends => {
            crate::rooms::onchain::watch::mempool_has(node, turn, result);
            Ok(())
        }
        Purpose::FundingSeen(number, caller) => {
            crate::api::rpc::open::funding_seen(node, turn, number, &caller, result)
        }
    }
}

/// The backend's answer lacks what CLN's contract says it has: nothing can be built on it.
fn malformed(method: &str, what: &str) -> Stop {
    Fatal(format!("the Bitcoin backend's answer to {method} is wrong: {what}")).into()
}

fn chain_info(
    node: &Node,
    turn: &mut Turn<'_>,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let info = match result {
        Ok(info) => info,
        Err(e) => {
            log::warn!("the Bitcoin backend does not answer: {}; asking again", e.message);
            poll_later(node, turn);
            return Ok(());
        }
    };
    let info = ChainInfo::parse(&info).map_err(|e| malformed("getchaininfo", &e))?;
    if info.chain != node.network.bip70_name() {
        return Err(Fatal(format!(
            "the Bitcoin backend is on the chain '{}', this node on '{}' (--network={}): point --bitcoin-rpcport \
             and --bitcoin-datadir at a bitcoind of that chain",
            info.chain,
            node.network.bip70_name(),
            node.network
        ))
        .into());
    }
    let backend = Backend { blocks: info.blocks, headers: info.headers, syncing: info.syncing };
    if !node.chain.serving {
        serve(node, turn)?;
    }
    let ours = our_block(node, turn, backend.blocks)?;
    if let Some(tip) = info.best.and_then(|best| outdated(&node.chain, ours, best)) {
        disconnect(node, turn, tip, backend.blocks)?;
        turn.install(move |node| node.chain.backend = Some(backend));
        // Whether the block before is still there is the same question.
        poll(node, turn);
        return Ok(());
    }
    let first = first_height(node, turn, &backend)?;
    if let Some(before) = &node.chain.backend
        && before.syncing != backend.syncing
    {
        log::info!(
            "bitcoind is {}",
            if backend.syncing { "downloading the chain" } else { "in sync with the network" }
        );
    }
    turn.install(move |node| node.chain.backend = Some(backend));
    ask_fees(node, turn);
    ask_block(node, turn, first);
    Ok(())
}

/// Each look at the estimates is work for bitcoind, and they do not change twenty times a second.
fn ask_fees(node: &Node, turn: &mut Turn<'_>) {
    let now = Instant::now();
    if node.chain.fees_asked.is_none_or(|at| now.duration_since(at) >= FEES_STAY) {
        turn.install(move |node| node.chain.fees_asked = Some(now));
        call_backend(node, turn, "estimatefees", &json!({}), Purpose::Fees);
    }
}

/// Our block at this height.
fn our_block(node: &Node, turn: &Turn<'_>, height: u32) -> Result<Option<BlockHash>, Stop> {
    if BlockHeight(height) > node.chain.height() {
        return Ok(None);
    }
    let known = node.chain.headers.iter().find(|(h, _)| h.0 == height);
    Ok(known.map_or_else(|| store::hash_at(turn.db, height), |(_, hash)| Ok(Some(*hash)))?)
}

/// Our tip, if the backend's chain does not have it: that ends in `best`, where we have `ours`. A backend that is merely behind
/// has not left it.
fn outdated(
    chain: &Chain,
    ours: Option<BlockHash>,
    best: BlockHash,
) -> Option<(BlockHeight, BlockHash)> {
    (ours? != best).then(|| chain.headers.back().copied())?
}

/// Our tip is no longer in the chain, which has so many blocks.
fn disconnect(
    node: &Node,
    turn: &mut Turn<'_>,
    (height, hash): (BlockHeight, BlockHash),
    blocks: u32,
) -> Result<(), Stop> {
    log::info!("block {height} ({hash}) is no longer in the chain");
    crate::flows::block::leaves(node, turn, height)?;
    if node.chain.headers.len() <= 1 {
        let older = store::headers_below(turn.db, height)?;
        if older.is_empty() {
            log::warn!(
                "the reorganisation goes deeper than block {height}, the first that is known: blocks are read anew from the oldest that matters on"
            );
            store::set_read_from(turn.db, height)?;
            turn.also(Event::Chain(ChainEvent::Forget(height)));
            // Without any header nobody knows the height.
            turn.install(|node| node.chain.caught_up = false);
        }
        turn.install(move |node| node.chain.prepend(older));
    }
    if node.chain.caught_up && blocks.saturating_sub(height.0) >= SHALLOW {
        log::warn!(
            "a deep reorganisation: until its last block is read, nothing new is received, forwarded or opened"
        );
        turn.install(|node| node.chain.caught_up = false);
    }
    Ok(())
}

/// Nobody can tell which blocks below this height are still in the chain: what was in them is found again, or not, from the oldest one
/// of them on. All in one turn, so that a crash loses none of it.
fn forget(node: &Node, turn: &mut Turn<'_>, below: BlockHeight) -> Result<(), Stop> {
    let highest = [
        crate::rooms::wallet::blocks::confirmed_below(node, below),
        crate::rooms::channels::watch::confirmed_below(node, below),
        crate::rooms::onchain::watch::confirmed_below(node, below),
        store::confirmed_below(turn.db, below)?,
    ];
    if let Some(height) = highest.into_iter().flatten().max() {
        store::set_read_from(turn.db, height)?;
        crate::flows::block::forget(node, turn, height)?;
        turn.also(Event::Chain(ChainEvent::Forget(height)));
    }
    Ok(())
}

fn ask_block(node: &Node, turn: &mut Turn<'_>, height: BlockHeight) {
    call_backend(
        node,
        turn,
        "getrawblockbyheight",
        &json!({"height": height.0}),
        Purpose::Block(height),
    );
}

/// The block after our tip, or for a new node one that lies `rescan` before the backend's tip.
fn first_height(node: &Node, turn: &mut Turn<'_>, backend: &Backend) -> Result<BlockHeight, Stop> {
    if let Some((tip, _)) = node.chain.headers.back() {
        if tip.0 > backend.blocks && node.chain.backend.is_none() {
            log::warn!(
                "our chain has {} blocks, bitcoind's {}: waiting for it to catch up",
                tip.0,
                backend.blocks
            );
        }
        return Ok(BlockHeight(tip.0.saturating_add(1)));
    }
    if let Some(height) = store::read_from(turn.db)? {
        return Ok(height);
    }
    turn.install(|node| node.chain.began_here = true);
    Ok(rescan_height(node, backend.blocks))
}

/// How far `rescan` looks back from a tip.
fn rescan_height(node: &Node, blocks: u32) -> BlockHeight {
    let default = if node.network.is_test() { 30 } else { 15 };
    match node.config.int_or("rescan", default) {
        back @ 0.. => BlockHeight(blocks.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX))),
        absolute => {
            BlockHeight(u32::try_from(absolute.unsigned_abs()).unwrap_or(u32::MAX).min(blocks))
        }
    }
}

/// The backend is the right one: open for business, though the chain may not be caught up.
fn serve(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    turn.say(Outgoing::OpenRpc);
    crate::rooms::peers::connectd::begin(node, turn)?;
    crate::rooms::channels::begin(node, turn)?;
    turn.install(|node| {
        node.chain.serving = true;
        crate::start::announce_ready(node);
    });
    Ok(())
}

fn block(
    node: &Node,
    turn: &mut Turn<'_>,
    height: BlockHeight,
    result: Result<Value, RpcError>,
) -> Result<(), Stop> {
    let answer = match result {
        Ok(answer) => answer,
        Err(e) => {
            log::warn!("the Bitcoin backend gives no block {height}: {}; asking again", e.message);
            poll_later(node, turn);
            return Ok(());
        }
    };
    let read = answers::block(&answer, height);
    let Some(block) = read.map_err(|e| malformed("getrawblockbyheight", &e))? else {
        // It said that it had more, when it was asked last.
        if node.chain.backend.as_ref().is_some_and(|b| b.blocks >= height.0) {
            turn.install(move |node| {
                if let Some(backend) = &mut node.chain.backend {
                    backend.blocks = height.0.saturating_sub(1);
                }
            });
            turn.also(Event::Htlc(HtlcEvent::CheckExpiring));
        }
        caught_up(node, turn)?;
        stale::look(node, turn);
        crate::rooms::onchain::watch::ask_mempool(node, turn);
        if !rescan::go_on(node, turn)? {
            poll_later(node, turn);
        }
        return Ok(());
    };
    let tip = node.chain.headers.back().copied();
    if let Some((tip_height, tip_hash)) = tip
        && (block.header.prev_blockhash != tip_hash || height.0 != tip_height.0 + 1)
    {
        let blocks = node.chain.backend.as_ref().map_or(0, |b| b.blocks);
        disconnect(node, turn, (tip_height, tip_hash), blocks)?;
        if node.chain.headers.len() > 1 {
            ask_block(node, turn, tip_height);
        } else {
            // Where to go on is known after this turn.
            poll(node, turn);
        }
        return Ok(());
    }
    crate::flows::block::joins(node, turn, height, &block)?;
    if height.0.is_multiple_of(PROGRESS_EVERY) && !node.chain.caught_up {
        let of = node.chain.backend.as_ref().map_or(0, |b| b.blocks);
        log::info!("caught up to block {height} of {of}");
    }
    ask_block(node, turn, BlockHeight(height.0 + 1));
    Ok(())
}

/// Our tip is the backend's.
pub(crate) fn caught_up(node: &Node, turn: &mut Turn<'_>) -> Result<(), Stop> {
    if node.chain.caught_up {
        return Ok(());
    }
    log::info!("in sync with bitcoind at block {}", node.chain.height());
    turn.install(|node| node.chain.caught_up = true);
    crate::rooms::onchain::caught_up(node, turn);
    crate::rooms::htlcs::decide::tip_found(node, turn);
    turn.also(Event::Htlc(HtlcEvent::CheckExpiring));
    crate::rooms::peers::connectd::activate(node, turn);
    rebroadcast(node, turn)
}

fn fees(node: &Node, turn: &mut Turn<'_>, result: Result<Value, RpcError>) {
    let estimates = match result.map(|v| Estimates::parse(&v)) {
        Ok(Ok(estimates)) => estimates,
        Ok(Err(e)) => {
            log::warn!("the Bitcoin backend's fee estimates are unreadable: {e}");
            return;
        }
        Err(e) => {
            log::debug!("no fee estimates: {}", e.message);
            return;
        }
    };
    if node.chain.fees.as_ref() != Some(&estimates) {
        turn.install(move |node| node.chain.fees = Some(estimates));
        crate::rooms::channels::fees_changed(node, turn);
    }
}

/// From here on no reorganisation is expected: the channel is forgotten.
pub const BURIED: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    #[test]
    fn a_tip_is_outdated_when_the_backends_chain_ends_in_another_block_that_we_know_the_height_of()
    {
        let hash = |n: u8| BlockHash::from_byte_array([n; 32]);
        let headers = (5..=7).map(|n| (BlockHeight(n.into()), hash(n))).collect();
        let chain = Chain { headers, ..Chain::default() };
        let tip = Some((BlockHeight(7), hash(7)));
        for (ours, best, says) in [
            (Some(hash(7)), hash(7), None),
            (Some(hash(7)), hash(99), tip),
            (Some(hash(6)), hash(99), tip),
            // Behind us, and ahead of us or before all that we know.
            (Some(hash(6)), hash(6), None),
            (None, hash(99), None),
        ] {
            assert_eq!(outdated(&chain, ours, best), says, "{ours:?} {best}");
        }
        assert_eq!(outdated(&Chain::default(), None, hash(7)), None);
    }
}
