//! Strangers who lie, against a whole node on a real chain. One test for each threat, named after
//! it; each counts the money at its end, and fails if lightningd took 100 MB or 200 descriptors, or
//! found a bug in itself ([`tests::stranger::World`]).
//!
//! | flaw, attack | what defeats it here | tests |
//! |---|---|---|
//! | CVE-2019-12998, -12999, -13000 | the funding's outpoint, script and amount are checked when it confirms | `openings::cve_2019_12998_*` |
//! | C-Lightning's small cltv, eclair's far cltv | an HTLC at the ends of its numbers comes back, a final one past its fulfilment deadline too | `bounds::c_lightning_small_cltv_and_eclair_far_cltv`, `bounds::final_htlc_past_*` |
//! | CVE-2020-26895, high S | refused in each signature of each message, announcements too | `signatures::*`, `openings::cve_2020_26895_*` |
//! | CVE-2020-26896, an invoice's preimage | a forward of the same hash is no payment to us | `upstream::cve_2020_26896_*` |
//! | CVE-2021-41591 to -41593, dust | exposure is bounded when HTLCs come and when fees rise | `exposure::cve_2021_*` |
//! | dust exposure in the order of messages | counted for every commitment that the peer can still reach | `exposure::dust_exposure_*`; all orders: `common/channel/src/tests/link/exposure.rs` |
//! | excess-fee theft with a miner | no commitment is all fees | `exposure::excess_fee_theft_*` |
//! | LND's and btcd's block parsing | a block that is one witness | `bounds::lnd_and_btcd_block_parsing_*` |
//! | replayed onions | an onion's HMAC is good for one HTLC | `forwards::replayed_onion_*` |
//! | LND's onion bomb | lengths in onions, at each width | `bounds::lnd_onion_bomb` |
//! | flood and loot | claims of ninety HTLCs of one expiry begin in time for blocks that are full; 37 channels fail at once | `flood::*`, `disorder::disorder_while_an_htlc_is_held` |
//! | pinning by a cheap commitment with a large child | the node bumps whichever commitment stands in the mempool, with or without packages | `pinned::*` |
//! | time dilation | nothing new begins on a tip that is too old | `tests/tests/stale.rs`; `lightningd/src/rooms/htlcs/tests.rs` |
//! | a funding that leaves the chain under a ready channel | it founds nothing until it is as deep again; a double spend ends the channel; a complete payment waits for it | `fundings::*` |
//! | a log that strangers fill | a line is cut, each stranger and all of them have a share, what is left out is counted | `logs::*`; `lightningd/src/sys/log/budget.rs` |
//! | fake channels | 10,000 openings; a bounded number of rows, processes and descriptors | `openings::fake_channels_dos_*` |
//! | fake channels, by many strangers | a proposal that is refused costs no process and no commit; births have a budget per peer and for all strangers; idle openings and unfunded channels give way to newcomers; no daemon for an unfunded channel before its peer speaks of it, and no closing before its funding is seen; reconnects of pending channels have budgets apart from proposals | `crowds::*` |
//! | LDK's monitor bloat | channels that are given up before they are funded keep their place among few, and end after 2016 blocks | `openings::ldk_monitor_bloat_*`, `tests/tests/openings.rs` |
//! | CLN's channel open race | a storm of reconnects in the middle of openings | `openings::cln_channel_open_race_*` |
//! | CLN's all-zero txid | every field of the opening's messages at its ends | `openings::cln_zero_txid_assertion_*` |
//! | CLN's duplicate outpoint, eclair's channel id collision | one channel for each outpoint, one for each id | `openings::cln_duplicate_*`, `openings::eclair_channel_id_collision` |
//! | CLN's unsigned non-segwit PSBT | a funding whose id somebody could change is refused | `tests/tests/openings.rs`: `cln_non_segwit_psbt_*` |
//! | eclair's late claims | a preimage in the last block is still in time upstream; one on chain beats our timeout | `silence::eclair_late_claim_*`, `upstream::lnd_excessive_failback_last_moment_*` |
//! | replacement cycling | the timeout is there again in each block, a preimage in the mempool is enough | `upstream::replacement_cycling_*` |
//! | LND's replacement stalling | a batch is split where one input of it is contested | `revoked::lnd_replacement_stalling_*` |
//! | LDK's invalid claims | second stages of a cheat get into blocks one by one | `revoked::ldk_invalid_claims_*`; all orders: `onchaind/tests/orders.rs` |
//! | LDK's duplicate HTLCs | alike in hash and amount, in a revoked commitment | `revoked::ldk_duplicate_htlc_*` |
//! | LDK's confusion of claims | the same in one that counts, from two offerers | `upstream::ldk_equal_hash_and_amount_*` |
//! | LND's excessive failback 1 and 2 | an HTLC fails upstream when nothing can bring it back, through restarts and reorganisations | `upstream::lnd_excessive_failback_*` |
//! | LND's close reorg | each close gives way to each other kind, and comes again from each depth, one to six blocks | `reorgs::*`, `revoked::lnd_close_reorg_*` |
//! | a reorganisation deeper than what is kept | it is followed to the fork, or everything is read anew | `deep::*` |
//! | eclair's preimage extraction | current, previous, next, our own and revoked commitment | `forwards::eclair_preimage_extraction_*` |
//! | panics at a peer's word | 37 messages in ten states of a channel, twice each | `disorder::*` |
//! | an HTLC after our closing signature, or after our `shutdown` | it is refused, or failed, on any connection and after a restart | `closings::*` |
//! | a failed channel of which the peer knows nothing; two nodes that answer each other's errors | an `error` on each connection, none in answer to one | `endings::error_*` |
//! | a `revoke_and_ack` that is none | the channel fails | `endings::revocation_*` |
//! | a close that the peer begins and never ends | the channel fails after two days | `endings::stalled_close_*` |
//! | lies in `channel_reestablish` | each field, in three states | `lies::*` |
//! | one close with small HTLCs takes its neighbours' channels along | before the incoming HTLC expires it is failed back, if less can be lost than a close costs | `small::*` |
//! | a large commitment's dear child, a high market, a raised mempool minimum | packages and replacements by bitcoind's own rules | `packages::*` |
//! | one process captured | it costs its channel at most, and never makes us punishable | `captured::*`; all sequences: the table "Captured daemons" of ARCHITECTURE |
//! | an HTLC that one valid commitment trims, on a channel that failed | it pays no invoice: each commitment that may confirm must have it | `small::htlc_that_*` |
//! | a flood of connections that say nothing, a byte, or act one | the source that takes most loses; a friend with 800 ms of round trip is in at its first try | `doors::stranger_flood_*`; all orders: `connectd/src/unauthenticated_tests.rs` |
//! | one address with many identities | idle peers make room by the same rule; one with a funded channel never does | `connectd/tests/crowds.rs`: `many_identities_*`, `friend_keeps_*` |
//! | pings that ask for 65 kB, features of 65 kB | 32 pongs at once, then one a second; bits from 2048 on are not kept | `connectd/tests/bounds.rs`: `ping_flood_*`, `peers_without_a_channel_*`; `lightningd/src/rooms/peers/evil_tests.rs` |
//! | connectd is crashed again and again; processes or descriptors are used up | the node goes on with the chain, its claims and its RPC, and starts them again, later each time | `doors::connectd_that_*`, `doors::daemon_that_*` |
//! | a peer that is silent | at each step of an opening, an HTLC, a return and a closing | `openings::peer_silent_*`, `silence::*`, `upstream::peer_silent_*` |
//!
//! Elsewhere: the adversary who orders the chain (`onchaind/tests/model.rs`), check and
//! construction of a commitment by one builder (`common/channel`), persistence
//! (`tests/tests/crash.rs`).

mod bounds;
mod captured;
mod closings;
mod crowds;
mod deep;
mod disorder;
mod doors;
mod endings;
mod exposure;
mod flood;
mod forwards;
mod fundings;
mod lies;
mod logs;
mod openings;
mod packages;
mod pinned;
mod reorgs;
mod revoked;
mod scenes;
mod signatures;
mod silence;
mod small;
mod upstream;
