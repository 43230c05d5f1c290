//! One frame of each role: words that its socket allows, about what is there, with values that are
//! off.

use super::{HONEST, Input, asked, preimage, signature, transaction};
use crate::rooms::channels::testing::{adds, alias, htlc, peer, point, settles, step};
use crate::rooms::wallet::AddressKind;
use crate::testing::Rig;
use bitcoin::hashes::Hash;
use onion::{ForwardPayload, onion_keys};
use primitives::*;
use wire::channel_data::*;
use wire::channeld::*;
use wire::closingd::{ClosingAgreed, PersistOffer, PersistPeerSignature};
use wire::connectd::*;
use wire::daemon::{Failed, Fault, Log, LogLevel, Status};
use wire::hsm::{ClosingState, WalletKey};
use wire::onchaind::*;
use wire::openingd::{Accepted, Opened};
use wire::{Bytes, Long, Message, OnionPacket, OpenChannel, Rest};

pub(super) fn open_channel(temporary_channel_id: ChannelId, amount: u64) -> OpenChannel {
    OpenChannel {
        chain_hash: Network::Regtest.chain_hash(),
        temporary_channel_id,
        funding_satoshis: Sat(amount),
        push_msat: Msat(0),
        dust_limit_satoshis: Sat(546),
        max_htlc_value_in_flight_msat: Msat(u64::MAX),
        channel_reserve_satoshis: Sat(10_000),
        htlc_minimum_msat: Msat(0),
        feerate_per_kw: FeeratePerKw(1000),
        to_self_delay: 6,
        max_accepted_htlcs: 483,
        funding_pubkey: point(40),
        revocation_basepoint: point(41),
        payment_basepoint: point(42),
        delayed_payment_basepoint: point(43),
        htlc_basepoint: point(44),
        first_per_commitment_point: point(60),
        channel_flags: 0,
        upfront_shutdown_script: None,
        channel_type: Some(Rest(
            Features::compulsory(&[feature::STATIC_REMOTEKEY, feature::ANCHORS])
                .as_be_bytes()
                .to_vec(),
        )),
    }
}

/// What every child may say.
fn chatter(input: &mut Input<'_>) -> Option<Vec<u8>> {
    let text = "a captured child's line ".repeat(usize::from(input.byte()?));
    Some(match input.byte()? % 3 {
        0 => Log { level: LogLevel::Broken, text }.encode(),
        1 => Status { lasting: Some(text), passing: None }.encode(),
        _ => Failed { fault: Fault::Internal, text }.encode(),
    })
}

pub(super) fn connectd_says(input: &mut Input<'_>) -> Option<Vec<u8>> {
    let (what, who, connection) = (input.byte()?, input.byte()?, u64::from(input.byte()? % 4));
    let node = if who == 255 { NodeId([7; 33]) } else { peer(who % 10 + 1) };
    let text = "text".to_owned();
    let address = Address { host: format!("10.0.0.{}", who % 4), port: 9735 };
    Some(match what % 12 {
        0..=2 => {
            let features = if what < 128 {
                primitives::feature::ours(primitives::feature::Context::Init)
            } else {
                Features::from_be_bytes(&input.bytes(usize::from(what % 16)))
            };
            let direction = if what % 2 == 0 { Direction::In } else { Direction::Out };
            let remote_addr = None;
            Connected { node, connection, direction, address, remote_addr, features }.encode()
        }
        3 => Disconnected { node, connection, why: text }.encode(),
        4 => PeerComplained { node, connection, is_error: what >= 128, text }.encode(),
        5..=7 => {
            let channel = ChannelId([input.byte()? % 8; 32]);
            let message = match what / 12 % 4 {
                0 => open_channel(channel, input.number()?).encode(),
                1 => {
                    let data = input.bytes(usize::from(who));
                    wire::Error { channel_id: channel, data }.encode()
                }
                2 => {
                    let next_per_commitment = input.number()?;
                    let mut body = vec![0, 136];
                    body.extend_from_slice(&channel.0);
                    body.extend_from_slice(&next_per_commitment.to_be_bytes());
                    body.extend_from_slice(&input.bytes(8 + 32 + 33));
                    body
                }
                _ => input.bytes(usize::from(who)),
            };
            Spoke { node, connection, channel, message: Bytes(message) }.encode()
        }
        8 => ConnectFailed { node, failures: vec![] }.encode(),
        9 => Listening { addresses: vec![address; usize::from(who)], failures: vec![] }.encode(),
        10 => Ponged { node, ask: connection, length: 1 }.encode(),
        _ if what < 128 => {
            let message = Bytes(input.bytes(usize::from(who)));
            CustomMessage { node, connection, message }.encode()
        }
        _ => chatter(input)?,
    })
}

/// A transaction that pays what this channel is, another for each `salt`.
fn funding(params: &ChannelParams, salt: u8) -> Transaction {
    let points = &params.basepoints;
    let script = channel::keys::funding_script(&points.local.funding, &points.remote.funding);
    let mut tx =
        transaction(OutPoint::new(Txid::all_zeros(), salt.into()), params.funding.vout + 1);
    if let Some(output) = tx.output.last_mut() {
        output.value = bitcoin::Amount::from_sat(params.amount.0);
        output.script_pubkey = script.to_p2wsh();
    }
    tx
}

pub(super) fn openingd_says(
    rig: &Rig,
    fundings: &mut Vec<Transaction>,
    input: &mut Input<'_>,
) -> Option<Vec<u8>> {
    let what = input.byte()?;
    Some(match what % 8 {
        0..=5 => {
            let mut state = rig.node.channels.all.get(&HONEST)?.live.clone();
            state.params.opener = if what < 224 { Side::Remote } else { Side::Local };
            state.params.amount = Sat(input.number()?);
            if what < 128 {
                state.params.amount = Sat(2_000_000);
            }
            let all = Msat(state.params.amount.0.wrapping_mul(1000));
            state.balance = match input.byte()? {
                255 => Sides { local: all, remote: all },
                254 => Sides { local: all, remote: Msat(0) },
                _ => Sides { local: Msat(0), remote: all },
            };
            if input.byte()? < 200 {
                let kind = [feature::STATIC_REMOTEKEY, feature::ANCHORS];
                state.params.channel_type = Features::compulsory(&kind);
            }
            let (vout, salt) = (u32::from(input.byte()? % 4), input.byte()?);
            state.params.funding.vout = vout;
            if salt < 224 {
                let tx = funding(&state.params, salt);
                state.params.funding.txid = tx.compute_txid();
                fundings.push(tx);
            }
            if input.byte()? == 255 {
                state.commitment.local = CommitmentNumber(input.number()?);
            }
            let channel = ChannelId::from_funding(&state.params.funding);
            Opened {
                channel,
                state,
                announce: what == 5,
                funding_signed: (what != 4).then(signature),
                minimum_depth: u32::from(input.byte()?),
                upfront_script: Sides::default(),
                feerate: FeeratePerKw(1000),
            }
            .encode()
        }
        6 => Accepted {
            funding_script: ScriptBuf::from(input.bytes(usize::from(what / 8))),
            channel_type: Features::compulsory(&[feature::STATIC_REMOTEKEY]),
            minimum_depth: u32::from(what),
            remote_upfront_script: None,
        }
        .encode(),
        _ => chatter(input)?,
    })
}

/// What an onion says that goes on over the honest channel with all that it brings, less the fee.
fn peeled(id: u64, amount: u64) -> PeeledHtlc {
    let payload = ForwardPayload {
        short_channel_id: alias(HONEST.0),
        amount: Msat(amount.saturating_sub(1 + amount / 100_000)),
        cltv_expiry: BlockHeight(200),
    };
    let peeled = Peeled::Payload {
        payload: Bytes(payload.to_bytes()),
        next: Some(OnionPacket(Box::new([id as u8; 1366]))),
        keys: onion_keys(&Secret::new([0xaa; 32]), &point(9)),
    };
    PeeledHtlc { id: HtlcId(id), peeled }
}

/// A stage, mostly the last.
fn stage(byte: u8) -> Stage {
    let all = Stage::ALL;
    all.get(usize::from(byte)).copied().unwrap_or(Stage::Irrevocable)
}

pub(super) fn channeld_says(
    rig: &Rig,
    number: ChannelNumber,
    input: &mut Input<'_>,
) -> Option<Vec<u8>> {
    let what = input.byte()?;
    let live = &rig.node.channels.all.get(&number)?.live;
    let there = |n: u8| {
        let htlcs = &live.htlcs.0;
        htlcs.get(usize::from(n) % htlcs.len().max(1)).cloned()
    };
    let shifted = |balance: Sides<Msat>, off: u64| Sides {
        local: Msat(balance.local.0.wrapping_sub(off)),
        remote: Msat(balance.remote.0.wrapping_add(off)),
    };
    let (change, peeled) = match what % 8 {
        0..=2 => {
            let (id, amount) = (live.next_htlc_id.remote.0, input.number()?);
            let hash = preimage(u64::from(input.byte()?)).hash();
            let it = htlc(Side::Remote, (id, 0), (amount, 206), hash, stage(input.byte()?));
            let peeled = if what < 240 { vec![self::peeled(id, amount)] } else { vec![] };
            (adds(live, it), peeled)
        }
        3 => (removes(live, &there(input.byte()?)?, input)?, vec![]),
        4 => {
            let mut change = settles(live, &there(input.byte()?)?);
            if what >= 192 {
                change.balance = shifted(change.balance, input.number()?);
            }
            (change, vec![])
        }
        5 => {
            let mut change = step(live);
            let one = |number: CommitmentNumber, by: u8| CommitmentNumber(number.0 + u64::from(by));
            let (moves, off) = (input.byte()?, input.byte()?);
            change.commitment.local = one(change.commitment.local, moves & 1);
            change.commitment.remote = one(change.commitment.remote, moves >> 1 & 1);
            change.revoked.local = one(change.revoked.local, moves >> 2 & 1);
            change.revoked.remote = one(change.revoked.remote, moves >> 3 & 1);
            if off >= 200 {
                change.balance = shifted(change.balance, input.number()?);
            }
            (change, vec![])
        }
        _ => return word(rig, number, input),
    };
    Some(asked(&Persist { changes: vec![change], peeled: Long(peeled) }))
}

/// An HTLC is removed in some way, at some stage.
fn removes(live: &ChannelState, it: &LiveHtlc, input: &mut Input<'_>) -> Option<ChannelChange> {
    let (how, stage) = (input.byte()?, stage(input.byte()?));
    let removal = match how % 4 {
        0 => Some(Removal::Fulfilled { preimage: preimage(u64::from(how / 4)) }),
        1 => Some(Removal::Failed { reason: vec![] }),
        2 => Some(Removal::Malformed {
            sha256_of_onion: Sha256Digest([0; 32]),
            failure_code: 0xc005,
        }),
        _ => None,
    };
    let mut change = step(live);
    change.moved.0.push(MovedHtlc {
        offered_by: it.htlc.offered_by,
        id: it.htlc.id,
        added: Stage::Irrevocable,
        removed: removal.map(|removal| StagedRemoval { removal, stage }),
        in_remote_from: it.in_remote_from,
        in_remote_until: it.in_remote_until,
    });
    Some(change)
}

/// Any report or ask of channeld's beside `Persist`.
fn word(rig: &Rig, number: ChannelNumber, input: &mut Input<'_>) -> Option<Vec<u8>> {
    let (what, byte) = (input.byte()?, input.byte()?);
    let (id, detail) = (HtlcId(u64::from(byte % 8)), "a lie".to_owned());
    Some(match what % 13 {
        0 => Reestablished {}.encode(),
        1 => OfferRefused { key: id.0, why: OfferRefusal::NotReady {} }.encode(),
        2 | 3 => PreimageLearned { id, preimage: preimage(u64::from(byte)) }.encode(),
        4 => ReadyToClose {}.encode(),
        5 => WeAreBehind { remote_point: point(9), detail }.encode(),
        6 => TheyAreBehind { detail }.encode(),
        7 => asked(&PersistPeerReady { alias: None, next_point: point(byte % 100 + 1) }),
        8 => asked(&PersistReady {}),
        9 => {
            let by = if what < 128 { Side::Local } else { Side::Remote };
            let script = match by {
                // One of the wallet's, mostly.
                Side::Local if byte < 192 => {
                    rig.node.wallet.script(u32::from(byte % 4), AddressKind::Taproot)
                }
                Side::Local | Side::Remote => ScriptBuf::from(input.bytes(usize::from(byte % 48))),
            };
            asked(&PersistShutdown { by, script })
        }
        10 => asked(&GetShutdownScript {}),
        11 => asked(&PersistAnnouncement {
            short_channel_id: alias(number.0),
            node_signature: signature(),
            bitcoin_signature: signature(),
        }),
        _ => chatter(input)?,
    })
}

pub(super) fn closingd_says(
    rig: &Rig,
    number: ChannelNumber,
    input: &mut Input<'_>,
) -> Option<Vec<u8>> {
    let (what, byte) = (input.byte()?, input.byte()?);
    let channel = rig.node.channels.all.get(&number)?;
    let honest = channel.live.balance.local.0;
    let local = if byte < 128 { honest } else { input.number()? };
    let state = ClosingState {
        balance: Sides {
            local: Msat(local),
            remote: Msat((channel.live.params.amount.0 * 1000).wrapping_sub(local)),
        },
        script: Sides {
            local: ScriptBuf::from(vec![byte; 22]),
            remote: ScriptBuf::from(vec![byte; 3]),
        },
        fee: Sat(input.number()?),
    };
    Some(match what % 8 {
        0..=2 => asked(&PersistOffer { state }),
        3..=5 => asked(&PersistPeerSignature { state, signature: signature() }),
        6 => ClosingAgreed { state, signature: signature() }.encode(),
        _ => chatter(input)?,
    })
}

pub(super) fn onchaind_says(
    rig: &Rig,
    channel: ChannelNumber,
    input: &mut Input<'_>,
) -> Option<Vec<u8>> {
    let what = input.byte()?;
    if what >= 240 {
        return chatter(input);
    }
    if what >= 224 {
        return Some(OnchainHeeded { tip: BlockHeight(input.number()? as u32) }.encode());
    }
    let number = CommitmentNumber(u64::from(what / 4 % 4));
    let close = match what % 4 {
        0 => CloseKind::Ours {},
        1 => CloseKind::Theirs { number },
        2 => CloseKind::Revoked { number },
        _ => CloseKind::Unknown { number },
    };
    let funding = rig.node.channels.all.get(&channel)?.live.params.funding;
    let txid = transaction(funding, 10).compute_txid();
    let mut claims = vec![];
    for _ in 0..input.byte()? % 12 {
        claims.push(claim(rig, channel, txid, input)?);
    }
    let ids = |input: &mut Input<'_>| {
        let many = input.byte()? % 4;
        (0..many).map(|_| Some(HtlcId(u64::from(input.byte()? % 8)))).collect::<Option<Vec<_>>>()
    };
    let learned = ids(input)?.into_iter().map(|id| (id, preimage(id.0))).collect();
    let (failed, overdue) = (ids(input)?, ids(input)?);
    let settled = (input.byte()? > 200).then_some(BlockHeight(100));
    let resolution = Resolution {
        close,
        claims: Long(claims),
        outputs: Long(vec![]),
        learned: Long(learned),
        failed: Long(failed),
        overdue: Long(overdue),
        settled,
    };
    Some(Resolved { resolution }.encode())
}

fn claim(rig: &Rig, captured: ChannelNumber, txid: Txid, input: &mut Input<'_>) -> Option<Claim> {
    let (vout, kind, shape) = (u32::from(input.byte()? % 12), input.byte()?, input.byte()?);
    let peer = rig.node.channels.all.get(&captured)?.peer;
    let channel = if kind >= 250 { HONEST } else { captured };
    let payment_hash = preimage(1).hash();
    let key = match kind % 5 {
        0 => WalletKey::Anchor { peer, channel },
        1 => WalletKey::Delayed { peer, channel, number: CommitmentNumber(0) },
        2 => WalletKey::ToRemote { peer, channel, anchors: kind >= 128 },
        3 => WalletKey::OwnHtlc {
            peer,
            channel,
            number: CommitmentNumber(0),
            htlc: Htlc {
                offered_by: Side::Remote,
                id: HtlcId(vout.into()),
                amount: Msat(90_000_000),
                payment_hash,
                expiry: BlockHeight(150),
            },
            signature: signature(),
            preimage: Some(preimage(1)),
        },
        _ => WalletKey::Address { index: u32::from(kind) },
    };
    let script = ScriptBuf::from(vec![0x51]);
    let paid = Sat(input.number()?);
    let shape = match shape % 3 {
        0 => ClaimShape::Free {},
        1 => ClaimShape::Paired { amount: paid, script: script.clone() },
        _ => ClaimShape::Whole { amount: paid, script: script.clone() },
    };
    let amount = if kind < 200 { Sat(90_000) } else { Sat(input.number()?) };
    Some(Claim {
        outpoint: OutPoint { txid, vout },
        amount,
        script,
        key,
        sequence: input.number()? as u32,
        lock_time: input.number()? as u32,
        ready: BlockHeight(input.number()? as u32),
        deadline: (kind % 2 == 0).then_some(BlockHeight(150)),
        witness_weight: input.number()? as u32,
        shape,
    })
}
