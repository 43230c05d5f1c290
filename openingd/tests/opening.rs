//! Whole openings: two openingds against each other, and one against a scripted peer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::*;
use primitives::*;

use wire::connectd::{AlsoRoute, PeerControl};
use wire::openingd::*;
use wire::*;

const OURS: Signer = Signer(0x10);
const THEIRS: Signer = Signer(0x40);

/// Two openingds, connected; how both ended.
fn two(open: &OpenInit, accept: &AcceptInit, wishes: &AcceptProposed) -> (Opened, Opened) {
    let (mut opener, mut accepter) = (start(open, OURS), start(accept, THEIRS));
    let between = relay(opener.peer.take().unwrap(), accepter.peer.take().unwrap());
    let proposed = accepter.proposed();
    assert_eq!((proposed.amount, proposed.push), (open.amount, open.push));
    accepter.master.order(wishes, vec![]);
    let script = opener.accepted().funding_script;
    opener.master.order(&CompleteFunding { funding: funding() }, vec![]);
    let (theirs, their_socket) = accepter.opened();
    // channeld's part.
    let mut their_socket = their_socket;
    let (channel_id, signature) = (theirs.channel, theirs.funding_signed.unwrap());
    their_socket.send(&FundingSigned { channel_id, signature }).unwrap();
    let (ours, our_socket) = opener.opened();
    assert!(opener.end().is_ok() && accepter.end().is_ok());
    drop((our_socket, their_socket));
    let also = PeerControl::from(AlsoRoute { channel: ChannelId::from_funding(&funding()) });
    assert_eq!(between.join().unwrap(), [also.clone(), also]);
    let (constants, _) = built(&ours.state.params, &commitments(&ours, OURS).local);
    assert_eq!(script, constants.funding_script_pubkey());
    (ours, theirs)
}

/// Both first commitments as this end describes them.
fn commitments(opened: &Opened, signer: Signer) -> Sides<wire::channel_data::CommitmentState> {
    let channel = channel::Channel::new(opened.state.clone()).unwrap();
    Sides {
        local: channel.local_commitment(signer.point(CommitmentNumber::FIRST)),
        remote: channel.remote_commitment(CommitmentNumber::FIRST).unwrap(),
    }
}

fn agree(ours: &Opened, theirs: &Opened) {
    assert_eq!(ours.channel, ChannelId::from_funding(&funding()));
    assert_eq!(ours.channel, theirs.channel);
    assert_eq!((ours.announce, ours.feerate), (theirs.announce, theirs.feerate));
    assert_eq!(ours.minimum_depth, theirs.minimum_depth);
    assert_eq!(ours.upfront_script.clone().swap(), theirs.upfront_script);
    assert!(ours.funding_signed.is_none() && theirs.funding_signed.is_some());
    let (mine, other) = (&ours.state, &theirs.state);
    assert_eq!(mine.balance.swap(), other.balance);
    assert_eq!(mine.params.terms.clone().swap(), other.params.terms);
    assert_eq!(mine.params.basepoints.clone().swap(), other.params.basepoints);
    assert_eq!(mine.params.opener, !other.params.opener);
    assert_eq!(mine.params.channel_type, other.params.channel_type);
    let (a, b) = (commitments(ours, OURS), commitments(theirs, THEIRS));
    for side in Side::BOTH {
        let mine = built(&ours.state.params, &a[side]).1;
        let other = built(&theirs.state.params, &b[!side]).1;
        assert_eq!(mine.tx, other.tx, "{side:?}");
    }
    for (opened, states) in [(ours, &a), (theirs, &b)] {
        let (constants, built) = built(&opened.state.params, &states.local);
        built.verify(&constants, &opened.state.local_signatures).unwrap();
    }
}

#[test]
fn openingds_agree_on_both_first_commitments() {
    for channel_type in [anchors(), Features::compulsory(&[feature::STATIC_REMOTEKEY])] {
        for push in [Msat(0), Msat(1), Msat(100_000_000), Msat(900_000_999)] {
            let open = OpenInit { push, channel_type: channel_type.clone(), ..open_init() };
            let (ours, theirs) = two(&open, &accept_init(), &yes());
            agree(&ours, &theirs);
            assert_eq!(theirs.state.balance.local, push);
            assert_eq!(ours.state.params.channel_type, channel_type);
        }
    }
}

#[test]
fn scripts_depth_and_reserve_reach_the_other_side() {
    let script = |n: u8| ScriptBuf::from_bytes([&[0, 20][..], &[n; 20]].concat());
    let open = OpenInit { upfront_script: Some(script(1)), announce: false, ..open_init() };
    let wishes = AcceptProposed {
        upfront_script: Some(script(2)),
        minimum_depth: Some(6),
        reserve: Some(Sat(20_000)),
    };
    let (ours, theirs) = two(&open, &accept_init(), &wishes);
    agree(&ours, &theirs);
    assert_eq!(ours.upfront_script, Sides { local: Some(script(1)), remote: Some(script(2)) });
    assert_eq!(ours.minimum_depth, 6);
    assert!(!ours.announce);
    assert_eq!(ours.state.params.terms.remote.reserve, Sat(20_000));
}

#[test]
fn accepter_asks_for_a_hundredth_and_never_less_than_dust() {
    for (amount, floor, reserve) in
        [(5_000_000, 546, 50_000), (30_000, 0, 546), (30_000, 1000, 1000)]
    {
        let open = OpenInit { amount: Sat(amount), push: Msat(0), ..open_init() };
        let mut accept = accept_init();
        accept.policy.terms.reserve = Sat(floor);
        let mut open_small = open.clone();
        open_small.policy.terms.reserve = Sat(546);
        let (_, theirs) = two(&open_small, &accept, &yes());
        assert_eq!(theirs.state.params.terms.local.reserve, Sat(reserve), "{amount}");
    }
}

#[test]
fn zeroconf_channel_opens_only_where_lightningd_trusts() {
    let channel_type = anchors().with(feature::SCID_ALIAS).with(feature::ZEROCONF);
    let open = OpenInit { channel_type, announce: false, ..open_init() };
    let trusting = AcceptProposed { minimum_depth: Some(0), ..yes() };
    let (ours, theirs) = two(&open, &accept_init(), &trusting);
    agree(&ours, &theirs);
    assert_eq!(ours.minimum_depth, 0);
}
