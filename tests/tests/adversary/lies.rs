//! Lies in `channel_reestablish`, in each of its fields: none makes the node give up its commitment
//! or publish an old one.

use crate::disorder::{Reach, Say, everything_said, held};
use crate::signatures::wrong;
use primitives::*;
use tests::stranger::*;
use wire::*;

fn but(live: &Live, change: impl FnOnce(&mut ChannelReestablish)) -> Vec<u8> {
    let mut message = live.reestablish_message();
    change(&mut message);
    message.encode()
}
fn funding(n: u8) -> Option<FundingAndFlags> {
    let txid = bitcoin::hashes::Hash::from_byte_array([n; 32]);
    Some(FundingAndFlags { txid, retransmit_flags: 0xff })
}

const LIES: [(&str, Say); 25] = [
    ("no number of a commitment", |l| but(l, |m| m.next_commitment_number = 0)),
    ("the commitment before", |l| but(l, |m| m.next_commitment_number -= 1)),
    ("the first", |l| but(l, |m| m.next_commitment_number = 1)),
    ("the next", |l| but(l, |m| m.next_commitment_number += 1)),
    ("the one after it", |l| but(l, |m| m.next_commitment_number += 2)),
    ("the last of all", |l| but(l, |m| m.next_commitment_number = 1 << 48)),
    ("one that never comes", |l| but(l, |m| m.next_commitment_number = u64::MAX)),
    ("a revocation fewer", |l| but(l, |m| m.next_revocation_number -= 1)),
    ("a revocation more", |l| but(l, |m| m.next_revocation_number += 1)),
    ("two more", |l| but(l, |m| m.next_revocation_number += 2)),
    ("all of them", |l| but(l, |m| m.next_revocation_number = u64::MAX)),
    ("none", |l| but(l, |m| m.next_revocation_number = 0)),
    ("a secret of nothing", |l| but(l, |m| m.your_last_per_commitment_secret = [0; 32])),
    ("a secret that is none", |l| but(l, |m| m.your_last_per_commitment_secret = [0xff; 32])),
    ("another secret", |l| but(l, |m| m.your_last_per_commitment_secret = [7; 32])),
    ("an older secret", |l| {
        but(l, |m| m.your_last_per_commitment_secret = l.secrets[0].secret_bytes())
    }),
    ("more, with a secret of its own", |l| {
        but(l, |m| {
            m.next_commitment_number += 5;
            m.next_revocation_number += 5;
            m.your_last_per_commitment_secret = [7; 32];
        })
    }),
    ("more, with the last secret there is", |l| {
        but(l, |m| {
            m.next_commitment_number += 1;
            m.next_revocation_number += 1;
        })
    }),
    ("an old backup, whose secret holds", |l| {
        but(l, |m| {
            m.next_commitment_number = 2;
            m.next_revocation_number = 1;
            m.your_last_per_commitment_secret = l.secrets[0].secret_bytes();
        })
    }),
    ("no backup at all", |l| {
        but(l, |m| {
            m.next_commitment_number = 1;
            m.next_revocation_number = 0;
            m.your_last_per_commitment_secret = [0; 32];
        })
    }),
    ("another point", |l| {
        but(l, |m| m.my_current_per_commitment_point = l.keys.commitment_point(40))
    }),
    ("a funding that nobody makes", |l| but(l, |m| m.next_funding = funding(1))),
    ("a funding that nobody locked", |l| but(l, |m| m.my_current_funding_locked = funding(2))),
    ("half of it", |l| but(l, |_| {})[..60].to_vec()),
    ("an update before it", |l| {
        let (channel_id, signature, htlc_signatures) = (l.id, wrong(), vec![]);
        CommitmentSigned { channel_id, signature, htlc_signatures, funding_txid: None }.encode()
    }),
];

fn lies(from: u64, reach: Reach) {
    everything_said(from, true, reach, &LIES);
}

/// The line breaks, and the stranger is there again and has said nothing yet.
fn breaks(world: &World, live: &mut Live) {
    live.stranger.dial(world);
    live.channel = live.channel.after_disconnect();
}

#[test]
fn lies_in_channel_reestablish_of_a_channel_at_rest() {
    lies(2000, |world, live| {
        // Two HTLCs, one after the other: some states are old.
        held(world, live);
        live.settle();
        node_pays_again(world, live);
        breaks(world, live);
    });
}
#[test]
fn lies_in_channel_reestablish_while_a_revocation_is_due() {
    lies(2100, |world, live| {
        node_pays_again(world, live);
        held(world, live);
        live.commit();
        // The node's revocation is heard or not: its commitment is not answered.
        live.hear_commit();
        breaks(world, live);
    });
}
#[test]
fn lies_in_channel_reestablish_while_a_commitment_is_in_flight() {
    lies(2200, |world, live| {
        node_pays_again(world, live);
        held(world, live);
        live.commit();
        breaks(world, live);
    });
}

fn node_pays_again(world: &World, live: &mut Live) {
    crate::scenes::node_pays(world, live, 100_000_000, PaymentHash(live.id.0), 24, 1);
}
