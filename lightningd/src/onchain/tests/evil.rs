//! A captured onchaind says anything in any order, through blocks, reorganisations and restarts; then the worst peer takes what it
//! can. ARCHITECTURE, "Captured daemons": no more is lost than its own channel.

use super::*;
use crate::channels::testing::{adds, alias, htlc, moves, point};
use crate::htlcs::Origin;
use onion::{ForwardPayload, onion_keys};
use wire::channel_data::{LiveHtlc, Stage};
use wire::channeld::{Peeled, PeeledHtlc, Persist};
use wire::{Bytes, OnionPacket};

/// The captured onchaind's channel. HTLCs of [`UPSTREAM`] go on over it.
pub(super) const CAPTURED: ChannelNumber = CHANNEL;
pub(super) const UPSTREAM: u64 = 2;
/// A channel on chain with an honest onchaind, whose claims are worth as much.
const OTHER: ChannelNumber = ChannelNumber(3);
/// The captured one: a number that the test can see being killed.
pub(super) const CAPTURED_CHILD: ChildId = 2000;
/// HTLCs that go over the captured channel: of 100,000 sat and less.
pub(super) const FORWARDS: u64 = 4;

pub(super) fn preimage(id: u64) -> Preimage {
    Preimage([id as u8 + 1; 32])
}
fn amount(id: u64) -> u64 {
    [200_000, 300_000, 50_000_000, 100_000_000][id as usize]
}

/// An HTLC arrives and goes on over the captured channel.
fn forward(rig: &mut Rig, id: u64) {
    let payload = ForwardPayload {
        short_channel_id: alias(CAPTURED.0),
        amount: Msat(amount(id)),
        cltv_expiry: BlockHeight(200),
    };
    let onion = LiveHtlc {
        onion: OnionPacket(Box::new([id as u8 + 1; 1366])),
        ..htlc(
            Side::Remote,
            (id, 0),
            (amount(id) + 1 + amount(id) / 100_000, 206),
            preimage(id).hash(),
            Stage::Irrevocable,
        )
    };
    let peeled = PeeledHtlc {
        id: HtlcId(id),
        peeled: Peeled::Payload {
            payload: Bytes(payload.to_bytes()),
            next: Some(OnionPacket(Box::new([7; 1366]))),
            keys: onion_keys(&Secret::new([0xaa; 32]), &point(9)),
        },
    };
    let changes = vec![adds(&rig.channel(UPSTREAM).live, onion)];
    let said = rig.persist(UPSTREAM, &Persist { changes, peeled: Long(vec![peeled]) });
    let [Said::Offer(_, offer)] = &said[..] else { panic!("not forwarded: {said:?}") };
    let key = Origin::Forward(id + 1).key();
    assert_eq!(offer.key, key);
    let out = |stage| htlc(Side::Local, (id, key), (amount(id), 200), preimage(id).hash(), stage);
    let changes = vec![adds(&rig.channel(CAPTURED.0).live, out(Stage::InReceivers))];
    assert_eq!(rig.persist(CAPTURED.0, &Persist { changes, peeled: Long(vec![]) }), []);
    let changes = vec![moves(&rig.channel(CAPTURED.0).live, &out(Stage::Irrevocable))];
    assert_eq!(rig.persist(CAPTURED.0, &Persist { changes, peeled: Long(vec![]) }), []);
}

/// Forwards are bound to a channel whose commitment is in block 101 then, and whose onchaind is captured. Another channel on chain
/// claims what it has, with a UTXO of the wallet's.
pub(super) fn captured(name: &str) -> Rig {
    let mut rig = Rig::new(name, &[(CAPTURED.0, 1), (UPSTREAM, 2), (OTHER.0, 3)]);
    rig.db.execute("UPDATE channels SET funding_height = 1", []).unwrap();
    for channel in rig.node.channels.all.values_mut() {
        channel.funding_height = Some(BlockHeight(1));
    }
    for id in 0..FORWARDS {
        forward(&mut rig, id);
    }
    for number in [CAPTURED, OTHER] {
        rig.go_to_chain(number.0);
    }
    let key = rig.node.wallet.script(1, AddressKind::Taproot);
    let coin = spending(&[outpoint(200)], &[(50_000, &key), (20_000, &key), (10_000, &key)]);
    let closes = [commitment_of(&rig, CAPTURED), commitment_of(&rig, OTHER)];
    mine(&mut rig, 101, [coin].into_iter().chain(closes).collect());
    rig.run(Event::Onchain(OTHER, OnchainEvent::Begin));
    honest_resolution(&mut rig);
    enter(&mut rig);
    rig
}

/// What the honest onchaind of the other channel says: all of its outputs are HTLCs of ours.
fn honest_resolution(rig: &mut Rig) {
    let claims = (0..10).map(|vout| paired_of(rig, OTHER, vout, 5_000)).collect();
    let child = rig.node.onchain.cases[&OTHER].child.unwrap();
    let said = Resolved { resolution: resolution(claims) };
    rig.run(Event::Child(child, Frame { body: said.encode(), fds: Default::default() }));
    advance(rig);
}

/// The captured onchaind takes the place of the one that was born, if one is to be.
fn enter(rig: &mut Rig) {
    rig.run(Event::Onchain(CAPTURED, OnchainEvent::Begin));
    if let Some(case) = rig.node.onchain.cases.get_mut(&CAPTURED) {
        assert!(case.child.is_some(), "no onchaind is born");
        case.child = Some(CAPTURED_CHILD);
        rig.node.supervisor.assign(CAPTURED_CHILD, Role::Onchain(CAPTURED));
    }
}

pub(super) fn says(rig: &mut Rig, resolution: &Resolution) -> Vec<Said> {
    let body = Resolved { resolution: resolution.clone() }.encode();
    rig.run(Event::Child(CAPTURED_CHILD, Frame { body, fds: Default::default() }))
}
