//! What is asked and ordered: mostly what an honest node would say next, and everything near it.

use super::model::Model;
use super::world::question;
use crate::ends::{CAPACITY, Ends, signature};
use crate::input::Input;
use bitcoin::hashes::Hash;
use primitives::*;
use wire::channel_data::*;
use wire::hsm::*;
use wire::Long;

pub fn number(input: &mut Input<'_>, near: u64) -> Option<u64> {
    Some(match input.byte()? {
        // Mostly one that matters.
        byte @ 0..=239 => (near + u64::from(byte % 5)).saturating_sub(2),
        byte @ 240..=253 => u64::from(byte % 7),
        254 => CommitmentNumber::LAST.0 - 1,
        _ => u64::from(u32::MAX),
    })
}

/// A commitment, mostly one that can be built.
pub fn state(input: &mut Input<'_>, ends: &Ends, side: Side, number: u64) -> Option<CommitmentState> {
    let point = match input.byte()? {
        255 => ends.point(!side, 0),
        254 => ends.point(side, number + 1),
        _ => ends.point(side, number),
    };
    let mut htlcs = vec![];
    for id in 0..u64::from(input.byte()?.saturating_sub(128) % 4) {
        let amount = Msat(1_000_000 * u64::from(input.byte()?));
        let offered_by = if id % 2 == 0 { Side::Local } else { Side::Remote };
        let payment_hash = Preimage([id as u8; 32]).hash();
        let expiry = BlockHeight(500 + id as u32);
        htlcs.push(Htlc { offered_by, id: HtlcId(id), amount, payment_hash, expiry });
    }
    let in_htlcs = |by| htlcs.iter().filter(|h| h.offered_by == by).map(|h| h.amount.0).sum::<u64>();
    let remote = 100_000_000 + 3_000_000 * u64::from(input.byte()? / 4);
    let mut balance = Sides {
        local: Msat((CAPACITY - remote).saturating_sub(in_htlcs(Side::Local))),
        remote: Msat(remote.saturating_sub(in_htlcs(Side::Remote))),
    };
    if input.byte()? == 255 {
        balance.local.0 += 1;
    }
    let feerate = FeeratePerKw(1000);
    let number = CommitmentNumber(number);
    Some(CommitmentState { side, number, point, feerate, balance, htlcs: Long(htlcs) })
}

pub fn signatures(input: &mut Input<'_>, ends: &Ends, state: &CommitmentState) -> Option<CommitmentSignatures> {
    let other = CommitmentState { number: state.number.next(), ..state.clone() };
    let none = CommitmentSignatures { signature: signature(), htlcs: vec![] };
    Some(match input.byte()? {
        255 => none,
        254 => ends.signed_by_peer(&other).unwrap_or(none),
        _ => ends.signed_by_peer(state).unwrap_or(none),
    })
}

pub fn closing_state(input: &mut Input<'_>, model: &Model) -> Option<ClosingState> {
    let local = match input.byte()? {
        255 => 500_000_000,
        254 => CAPACITY + 1,
        _ => model.owed.local.max(model.owed.remote).map_or(900_000_000, |m| m.0),
    };
    let remote = CAPACITY.saturating_sub(local);
    let script = |byte| ScriptBuf::new_p2wpkh(&Hash::from_byte_array([byte; 20]));
    Some(ClosingState {
        balance: Sides { local: Msat(local), remote: Msat(remote) },
        script: Sides { local: script(1 + u8::from(input.byte()? > 240)), remote: script(3) },
        fee: Sat(u64::from(input.byte()?) * 8),
    })
}

/// Rows of the master's: mostly as the model has them, for a child may have had anything stored.
pub fn seed(input: &mut Input<'_>, ends: &Ends, model: &Model) -> Option<ChannelSeed> {
    let mut params = ends.params.clone();
    if input.byte()? == 255 {
        params.amount = Sat(2_000_000);
    }
    let near = |input: &mut Input<'_>, value: u64| {
        Some(match input.byte()? {
            byte @ 0..=239 => value + u64::from(byte % 8 == 7),
            byte => value.saturating_sub(u64::from(byte % 4)),
        })
    };
    let local_revoked = near(input, model.stored.min(model.shown.unwrap_or(0)))?;
    let local_number = near(input, model.shown.unwrap_or(0))?;
    let remote_revoked = near(input, model.remote_revoked)?;
    let remote_number = near(input, model.remote_signed.unwrap_or(0))?;
    let phases = [
        ChannelPhase::Opening,
        ChannelPhase::AwaitingLockin,
        ChannelPhase::Normal,
        ChannelPhase::Normal,
        ChannelPhase::Normal,
        ChannelPhase::Normal,
        ChannelPhase::ShuttingDown,
        ChannelPhase::Negotiating,
        ChannelPhase::ClosingAgreed,
        ChannelPhase::AwaitingUnilateral,
        ChannelPhase::ClosingFailed,
        ChannelPhase::Onchain,
        ChannelPhase::DataLoss,
        ChannelPhase::Closed,
    ];
    let phase = input.pick(&phases)?;
    let flags = input.byte()?;
    let script = ScriptBuf::new_p2wpkh(&Hash::from_byte_array([1; 20]));
    Some(ChannelSeed {
        params,
        phase,
        local_number: CommitmentNumber(local_number),
        local_revoked: CommitmentNumber(local_revoked),
        remote_number: CommitmentNumber(remote_number),
        remote_revoked: CommitmentNumber(remote_revoked),
        remote_point: ends.point(Side::Remote, remote_revoked + u64::from(flags >= 250)),
        remote_next_point: (flags % 2 == 0).then(|| ends.point(Side::Remote, remote_revoked + 1)),
        local_balance: model.owed.local.unwrap_or(Msat(900_000_000)),
        broadcast: model.broadcast.map(CommitmentNumber),
        closing: (flags & 6 != 0).then(|| ClosingTerms { script, max_fee: Sat(1000) }),
    })
}

/// An HTLC of our own commitment, taken through its HTLC transaction.
pub fn own_htlc(input: &mut Input<'_>, ends: &Ends, near: u64) -> Option<SignWallet> {
    let number = number(input, near)?;
    let state = state(input, ends, Side::Local, number)?;
    let built = ends.built(&state)?;
    let signed = ends.signed_by_peer(&state)?;
    let at = input.below(built.htlcs.len().max(1))?;
    let (output, signature) = (built.htlcs.get(at)?, *signed.htlcs.get(at)?);
    let preimage = (output.htlc.offered_by == Side::Remote)
        .then_some(Preimage([output.htlc.id.0 as u8; 32]));
    let key = WalletKey::OwnHtlc {
        peer: ends.peer,
        channel: ends.number,
        number: CommitmentNumber(number),
        htlc: output.htlc.clone(),
        signature,
        preimage,
    };
    let script = output.script.to_p2wsh();
    let input = WalletInput { index: 0, key, amount: output.amount, script: script.clone() };
    Some(SignWallet {
        transaction: output.tx.clone(),
        inputs: Long(vec![input]),
        spent: Long(vec![SpentOutput { amount: output.amount, script }]),
    })
}

/// What a captured child asks about its channel.
/// A question that a child asks at its birth, or once.
fn asks_once(what: u8, model: &Model, ends: &Ends, input: &mut Input<'_>) -> Option<Vec<u8>> {
    Some(match input.byte()? % 6 {
        0 => question(&SetupChannel { params: ends.params.clone() }),
        1 => question(&GetBasepoints {}),
        2 => {
            let number = number(input, model.shown.unwrap_or(0) + 2)?;
            question(&GetCommitmentPoint { number: CommitmentNumber(number) })
        }
        3 => question(&CheckSecret {
            number: CommitmentNumber(u64::from(what)),
            secret: Secret::new([what; 32]),
        }),
        4 => question(&SignAnnouncement {
            short_channel_id: ShortChannelId(u64::from(what)),
            features: Features::none(),
        }),
        _ => question(&CheckAnnouncement {
            short_channel_id: ShortChannelId(1),
            features: Features::none(),
            node_signature: signature(),
            bitcoin_signature: signature(),
        }),
    })
}

pub fn child_asks(what: u8, model: &Model, ends: &Ends, input: &mut Input<'_>) -> Option<Vec<u8>> {
    Some(match what % 16 {
        6 | 7 => {
            let number = number(input, model.remote_signed.map_or(0, |n| n + 1))?;
            let side = if what > 250 { Side::Local } else { Side::Remote };
            question(&SignRemoteCommitment { state: state(input, ends, side, number)? })
        }
        8 => {
            let number = number(input, model.remote_revoked)?;
            let of = if what > 250 { number + 1 } else { number };
            let secret = ends.theirs.secret(CommitmentNumber(of))?;
            question(&RemoteRevoked { number: CommitmentNumber(number), secret })
        }
        9 | 10 => {
            let number = number(input, model.shown.map_or(0, |n| n + 1))?;
            let side = if what > 250 { Side::Remote } else { Side::Local };
            let state = state(input, ends, side, number)?;
            let signatures = signatures(input, ends, &state)?;
            question(&ValidateLocalCommitment { state, signatures })
        }
        11 | 12 => {
            let number = CommitmentNumber(number(input, model.stored)?);
            question(&RevokeLocal { number })
        }
        13 => question(&SignClosing { state: closing_state(input, model)? }),
        14 => asks_once(what, model, ends, input)?,
        _ => match input.byte()? % 4 {
            0 => question(&CheckClosing { state: closing_state(input, model)?, signature: signature() }),
            1 => question(&MixEcdh {
                point: ends.point(Side::Remote, 1),
                chaining_key: Secret::new([input.byte()?; 32]),
            }),
            2 => {
                let onions = usize::from(input.byte()?) * 8;
                let onion = OnionPoint { ephemeral: ends.point(Side::Remote, 1), path_key: None };
                question(&PeelOnions { onions: vec![onion; onions % 12] })
            }
            // What only the master may.
            _ => question(&ForgetChannel { peer: ends.peer, channel: ends.number }),
        },
    })
}
