//! channel_ready, announcement_signatures, and what is said of a channel for people.

use super::link::{all, numbers};
use super::rig::*;
use primitives::*;
use subdaemon::Failure;
use wire::channeld::*;
use wire::hsm::SignAnnouncement;
use wire::*;

const SCID: Option<ShortChannelId> = Some(ShortChannelId(90 << 40 | 1 << 16));

#[test]
fn channel_ready_is_stored_and_sent_once_the_funding_is_deep() {
    let mut pair = Pair::opened(&Wish::default());
    for side in Side::BOTH {
        pair.nodes[side].init.funding_deep = false;
    }
    pair.connect_just_opened();
    pair.master(Side::Local).until("it waits", |rows| rows.established);
    pair.master(Side::Local).order(&FundingDeep {});
    let theirs = pair.master(Side::Remote);
    theirs.until("it is told", |rows| rows.ready.remote);
    assert_eq!(theirs.rows().alias, Some(pair.nodes.local.init.alias));
    assert!(!theirs.rows().ready.local && !theirs.rows().is_normal());
    let ours = pair.master(Side::Local);
    let waiting = "We are ready, awaiting the peer's channel_ready.".to_owned();
    ours.until("it says so", |rows| rows.statuses.last() == Some(&waiting));
    theirs.order(&FundingDeep {});
    theirs.order(&FundingDeep {});
    pair.until_normal();
    let normal = "Channel ready for use.".to_owned();
    ours.until("it says so", |rows| rows.statuses.last() == Some(&normal));
    pair.pay(Side::Local, 1, Msat(1_000_000));
    pair.master(Side::Local).until("it is paid", |rows| rows.settled.len() == 1);
    let ready = all::<ChannelReady>(&pair.link.as_ref().unwrap().said, Side::Remote);
    assert_eq!(ready.len(), 1);
}

#[test]
fn second_channel_ready_is_ignored_unless_it_contradicts() {
    let mut pair = Pair::opened(&Wish::default());
    let birth = Birth::JustOpened { funding_signed: None };
    let mut stranger = pair.stranger(birth.clone());
    let ready = ChannelReady {
        channel_id: pair.nodes.local.init.channel,
        second_per_commitment_point: some_point(1),
        short_channel_id: None,
    };
    stranger.send(&ready);
    stranger.send(&ready);
    stranger.send(&ChannelReady { second_per_commitment_point: some_point(2), ..ready });
    assert!(stranger.until::<Error>().text().contains("another point"));
    assert!(matches!(pair.nodes.local.ended(), Err(Failure::PeerError(_))));
    let next = pair.master(Side::Local).rows().state.remote_next_point;
    assert_eq!(next, Some(some_point(1)));
}

fn public(pair: &mut Pair) {
    for side in Side::BOTH {
        pair.nodes[side].init.announce = true;
    }
}

#[test]
fn announcement_is_signed_once_funding_is_deep_on_both_sides() {
    let mut pair = Pair::opened(&Wish::default());
    public(&mut pair);
    pair.connect_just_opened();
    pair.until_normal();
    let at = Announceable { short_channel_id: SCID.unwrap() };
    // Early for the second node: kept, and answered once it is as deep.
    pair.master(Side::Local).order(&at);
    pair.master(Side::Remote).until("it is kept", |rows| rows.announcement.is_some());
    pair.master(Side::Remote).order(&at);
    pair.master(Side::Local).until("it is answered", |rows| rows.announcement.is_some());
    for side in Side::BOTH {
        let said = all::<AnnouncementSignatures>(&pair.link.as_ref().unwrap().said, side);
        assert_eq!(said.len(), 1);
        let kept = pair.master(!side).rows().announcement.clone().unwrap();
        assert_eq!(
            (kept.short_channel_id, kept.node_signature),
            (at.short_channel_id, said[0].node_signature)
        );
    }
    // Both have both: nothing is said on a new connection.
    pair.disconnect();
    for side in Side::BOTH {
        pair.nodes[side].init.announceable = SCID;
    }
    pair.reconnect();
    pair.until_normal();
    pair.pay(Side::Local, 1, Msat(1_000_000));
    pair.master(Side::Local).until("it is paid", |rows| rows.settled.len() == 1);
    assert!(!numbers(&pair.link.as_ref().unwrap().said, Side::Local).contains(&259));
    // One lost the other's half: it says its own, and gets the other.
    pair.disconnect();
    pair.master(Side::Local).rows().announcement = None;
    pair.reconnect();
    pair.master(Side::Local).until("it comes again", |rows| rows.announcement.is_some());
}

#[test]
fn private_channel_signs_nothing_and_keeps_nothing() {
    let mut pair = Pair::opened(&Wish::default());
    pair.nodes.local.init.announce = true;
    for side in Side::BOTH {
        pair.nodes[side].init.announceable = SCID;
    }
    pair.connect_just_opened();
    pair.until_normal();
    pair.pay(Side::Local, 1, Msat(1_000_000));
    pair.master(Side::Local).until("it is paid", |rows| rows.settled.len() == 1);
    assert!(pair.master(Side::Remote).rows().announcement.is_none());
    assert!(!numbers(&pair.link.as_ref().unwrap().said, Side::Remote).contains(&259));
}

/// The second node's half of the announcement at this place.
fn their_half(pair: &mut Pair, ours: &AnnouncementSignatures) -> AnnouncementSignatures {
    let mut hsm = subdaemon::Hsm::new(pair.nodes.remote.client());
    let short_channel_id = ours.short_channel_id;
    let question = SignAnnouncement { short_channel_id, features: Features::none() };
    let (node_signature, bitcoin_signature) = hsm.ask(&question).unwrap();
    AnnouncementSignatures { node_signature, bitcoin_signature, ..ours.clone() }
}

#[test]
fn announcement_for_another_place_is_warned_about_and_not_kept() {
    let mut pair = Pair::ready(&Wish::default());
    public(&mut pair);
    pair.nodes.local.init.announceable = SCID;
    let mut stranger = pair.reestablished_stranger();
    let ours = stranger.until::<AnnouncementSignatures>();
    let elsewhere = ShortChannelId::new(91, 1, 0).unwrap();
    stranger.send(&AnnouncementSignatures { short_channel_id: elsewhere, ..ours.clone() });
    assert!(stranger.until::<Warning>().text().contains("another short_channel_id"));
    assert!(pair.master(Side::Local).rows().announcement.is_none());
    // The connection goes on. Said again, ours is not repeated: that would never end.
    let theirs = their_half(&mut pair, &ours);
    stranger.send(&theirs);
    stranger.send(&theirs);
    stranger.send(&AnnouncementSignatures { short_channel_id: elsewhere, ..ours.clone() });
    pair.master(Side::Local).until("it is kept", |rows| rows.announcement.is_some());
    pair.master(Side::Local).hang_up();
    assert_eq!(stranger.rest(), Vec::<Vec<u8>>::new());
}

#[test]
fn announcement_with_bad_signatures_ends_the_connection() {
    // With the place known, and before it is.
    for at in [SCID, None] {
        for broken in 0..3 {
            let mut pair = Pair::ready(&Wish::default());
            public(&mut pair);
            pair.nodes.local.init.announceable = at;
            let mut stranger = pair.reestablished_stranger();
            let any = secp256k1::SECP256K1.sign_ecdsa(
                &secp256k1::Message::from_digest([3; 32]),
                &SecretKey::from_slice(&[3; 32]).unwrap(),
            );
            let ours = AnnouncementSignatures {
                channel_id: pair.nodes.local.init.channel,
                short_channel_id: SCID.unwrap(),
                node_signature: any,
                bitcoin_signature: any,
            };
            let good = their_half(&mut pair, &ours);
            stranger.send(&match broken {
                0 => AnnouncementSignatures { node_signature: any, ..good },
                1 => AnnouncementSignatures { bitcoin_signature: any, ..good },
                _ => ours,
            });
            assert!(stranger.until::<Warning>().text().contains("does not hold"));
            assert!(matches!(pair.nodes.local.ended(), Err(Failure::PeerWarn(_))));
            assert!(pair.master(Side::Local).rows().announcement.is_none());
        }
    }
}
