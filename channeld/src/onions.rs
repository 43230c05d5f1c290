//! What is inside the onions of received HTLCs: keys from hsmd, reading here. BOLT 4, "Onion
//! Decryption".

use onion::Failure as OnionFailure;
use std::sync::Arc;
use subdaemon::{Failure, Hsm};
use wire::Bytes;
use wire::channel_data::{LiveHtlc, Removal};
use wire::channeld::{Peeled, PeeledHtlc};
use wire::hsm::{OnionKeys, OnionPoint, PeelOnions};

/// BOLT 4: `invalid_onion_blinding`, all that a node inside a blinded path may say.
const INVALID_ONION_BLINDING: u16 = 0xc018;

/// Opens a batch with one question, in order.
pub(crate) fn open(hsm: &mut Hsm, htlcs: &[Arc<LiveHtlc>]) -> Result<Vec<PeeledHtlc>, Failure> {
    let ephemerals: Vec<_> =
        htlcs.iter().map(|live| onion::ephemeral(live.onion.0.as_slice())).collect();
    let onions: Vec<_> = htlcs
        .iter()
        .zip(&ephemerals)
        .filter_map(|(live, ephemeral)| {
            let ephemeral = *ephemeral.as_ref().ok()?;
            Some(OnionPoint { ephemeral, path_key: live.path_key })
        })
        .collect();
    let keys = if onions.is_empty() { Vec::new() } else { hsm.ask(&PeelOnions { onions })? };
    let mut keys = keys.into_iter();
    let mut opened = Vec::with_capacity(htlcs.len());
    for (live, ephemeral) in htlcs.iter().zip(ephemerals) {
        opened.push(match ephemeral {
            Err(failure) => unreadable(live, &failure),
            Ok(_) => {
                let keys = keys.next();
                read(live, keys.ok_or_else(|| Failure::internal("fewer keys than onions"))?)
            }
        });
    }
    Ok(opened)
}

fn read(live: &LiveHtlc, keys: OnionKeys) -> PeeledHtlc {
    let id = live.htlc.id;
    match onion::peel(live.onion.0.as_slice(), &keys, &live.htlc.payment_hash.0) {
        Ok(layer) => {
            let next = layer.next_packet();
            let peeled = Peeled::Payload { payload: Bytes(layer.payload), next, keys };
            PeeledHtlc { id, peeled }
        }
        Err(failure) if failure.is_bad_onion() || live.path_key.is_some() => {
            unreadable(live, &failure)
        }
        // Made by its origin so that nobody can read it: it goes back to it, encrypted.
        Err(failure) => {
            let removal = Removal::Failed { reason: onion::begin_error(&keys, &failure) };
            PeeledHtlc { id, peeled: Peeled::Refused { removal } }
        }
    }
}

fn unreadable(live: &LiveHtlc, failure: &OnionFailure) -> PeeledHtlc {
    let sha256_of_onion = onion::sha256_of_onion(live.onion.0.as_slice());
    // BOLT 2, update_fail_malformed_htlc: beside a path key nothing else may be said.
    let failure_code =
        if live.path_key.is_some() { INVALID_ONION_BLINDING } else { failure.code() };
    let peeled = Peeled::Unreadable { sha256_of_onion, failure_code };
    PeeledHtlc { id: live.htlc.id, peeled }
}

/// The failure for an HTLC that exposes us to too much trimming. BOLT 2,
/// max_dust_htlc_exposure_msat.
pub(crate) fn overexposed(all: &[Arc<LiveHtlc>], htlc: &PeeledHtlc) -> Removal {
    let sha256_of_onion = |live: &Arc<LiveHtlc>| onion::sha256_of_onion(live.onion.0.as_slice());
    let live = all.iter().find(|live| live.htlc.id == htlc.id);
    match &htlc.peeled {
        Peeled::Unreadable { sha256_of_onion, failure_code } => {
            Removal::Malformed { sha256_of_onion: *sha256_of_onion, failure_code: *failure_code }
        }
        Peeled::Refused { removal } => removal.clone(),
        Peeled::Payload { keys, .. } => match live.filter(|live| live.path_key.is_some()) {
            Some(live) => Removal::Malformed {
                sha256_of_onion: sha256_of_onion(live),
                failure_code: INVALID_ONION_BLINDING,
            },
            None => {
                let failure = OnionFailure::TemporaryChannelFailure { channel_update: vec![] };
                Removal::Failed { reason: onion::begin_error(keys, &failure) }
            }
        },
    }
}
