//! BOLT 2, accept_channel, funding_created and funding_signed: one test for each demand.
//! `CHECKLIST.md` has them in the BOLT's order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::scenes::*;
use common::*;
use primitives::*;
use wire::openingd::*;
use wire::*;

// ---- accept_channel, the sender

#[test]
fn our_accept_repeats_the_temporary_id_and_the_channel_type() {
    let accept = our_accept(accept_init(), yes(), |_| {});
    assert_eq!(accept.temporary_channel_id, TEMPORARY);
    assert_eq!(accept.channel_type, rest(&anchors()));
    assert_eq!(accept.minimum_depth, 3);
    assert_eq!(accept.upfront_shutdown_script, Some(Rest(vec![])));
    // A peer that writes zeroes before it gets the smallest bitmap back.
    let long = Some(Rest(vec![0, 0, 0x40, 0x10, 0]));
    let accept = our_accept(accept_init(), yes(), |o| o.channel_type = long);
    assert_eq!(accept.channel_type, rest(&anchors()));
}

#[test]
fn zeroconf_channel_has_minimum_depth_zero() {
    let trusting = AcceptProposed { minimum_depth: Some(0), ..yes() };
    let zeroconf = rest(&anchors().with(feature::ZEROCONF));
    let accept = our_accept(accept_init(), trusting, |o| o.channel_type = zeroconf);
    assert_eq!(accept.minimum_depth, 0);
}

#[test]
fn our_reserve_is_never_below_the_dust_limit_of_their_open() {
    let open = |o: &mut OpenChannel| o.dust_limit_satoshis = Sat(1000);
    let mut init = accept_init();
    init.policy.terms.reserve = Sat(546);
    for wish in [None, Some(Sat(0)), Some(Sat(999))] {
        let accept = our_accept(init.clone(), AcceptProposed { reserve: wish, ..yes() }, |o| {
            open(o);
            o.funding_satoshis = Sat(60_000);
            o.push_msat = Msat(0);
        });
        assert_eq!(accept.channel_reserve_satoshis, Sat(1000), "{wish:?}");
    }
    let accept = our_accept(init, AcceptProposed { reserve: Some(Sat(0)), ..yes() }, |_| {});
    assert_eq!(accept.channel_reserve_satoshis, Sat(546), "nor below ours");
}

#[test]
fn our_dust_limit_is_never_above_the_reserve_of_their_open() {
    refuses_open(
        |o| (o.channel_reserve_satoshis, o.dust_limit_satoshis) = (Sat(400), Sat(400)),
        "channel_reserve_satoshis 400 is below 546",
    );
}

// ---- accept_channel, the receiver

#[test]
fn accept_of_another_negotiation_is_refused() {
    let other = ChannelId([9; 32]);
    refuses_accept(|a| a.temporary_channel_id = other, &format!("{other} is not {TEMPORARY}"));
}

#[test]
fn minimum_depth_beyond_reason_is_refused() {
    refuses_accept(|a| a.minimum_depth = 145, "minimum_depth 145 is above 144");
    with_accept(open_init(), |a| a.minimum_depth = 144).accepted();
    let channel_type = anchors().with(feature::ZEROCONF);
    with_accept(OpenInit { channel_type, ..open_init() }, |a| a.minimum_depth = 1).fails_with(
        TEMPORARY,
        "minimum_depth 1 is above 0, what a channel_type with option_zeroconf",
    );
}

#[test]
fn accept_whose_reserve_is_below_our_dust_limit_is_refused() {
    refuses_accept(
        |a| (a.channel_reserve_satoshis, a.dust_limit_satoshis) = (Sat(545), Sat(354)),
        "channel_reserve_satoshis 545 is below 546, the dust_limit_satoshis of open_channel",
    );
}

#[test]
fn accept_whose_dust_limit_is_above_our_reserve_is_refused() {
    let mut init = OpenInit { amount: Sat(60_000), push: Msat(0), ..open_init() };
    init.policy.terms.reserve = Sat(546);
    with_accept(init, |a| {
        (a.channel_reserve_satoshis, a.dust_limit_satoshis) = (Sat(2000), Sat(601));
    })
    .fails_with(
        TEMPORARY,
        "dust_limit_satoshis 601 is above 546, the channel_reserve_satoshis of open_channel",
    );
}

#[test]
fn accept_without_a_channel_type_or_with_another_is_refused() {
    refuses_accept(|a| a.channel_type = None, "there is no channel_type");
    let plain = Features::compulsory(&[feature::STATIC_REMOTEKEY]);
    refuses_accept(
        |a| a.channel_type = rest(&plain),
        "channel_type [12] is not [12, 22], which was proposed",
    );
}

#[test]
fn accept_is_refused_for_what_an_open_is_refused_for() {
    refuses_accept(|a| a.to_self_delay = 2017, "to_self_delay 2017 is above 2016");
    refuses_accept(|a| a.max_accepted_htlcs = 484, "max_accepted_htlcs 484 is above 483");
    refuses_accept(|a| a.max_accepted_htlcs = 0, "max_accepted_htlcs 0 is below 1");
    refuses_accept(|a| a.dust_limit_satoshis = Sat(353), "dust_limit_satoshis 353 is below 354");
    refuses_accept(
        |a| (a.dust_limit_satoshis, a.channel_reserve_satoshis) = (Sat(1001), Sat(1000)),
        "dust_limit_satoshis 1001 is above 1000",
    );
    with_accept(OpenInit { push: Msat(0), ..open_init() }, |a| {
        a.channel_reserve_satoshis = Sat(980_000);
    })
    .fails_with(TEMPORARY, "a usable capacity of 6530sat is below 10000sat");
    refuses_accept(|a| a.channel_reserve_satoshis = Sat(999_999), "neither the opener's");
    refuses_accept(|a| a.htlc_minimum_msat = Msat(u64::MAX), "htlc_minimum_msat");
    refuses_accept(|a| a.max_htlc_value_in_flight_msat = Msat(1), "max_htlc_value_in_flight_msat");
    let legacy = Some(Rest([&[0xa9, 20][..], &[7; 20], &[0x87]].concat()));
    refuses_accept(|a| a.upfront_shutdown_script = legacy, "upfront_shutdown_script a914");
    let mut opener = start(&open_init(), OURS);
    opener.says();
    let mut bytes = their_accept().encode();
    bytes[2 + 32 + 4 * 8 + 4 + 2 + 2] = 0x07;
    opener.peer().send_raw(&bytes).unwrap();
    opener.fails_with(TEMPORARY, "funding_pubkey");
}

// ---- funding_created

#[test]
fn our_funding_created_names_the_funding_and_is_signed() {
    let (_opener, created, _) = awaiting_signature();
    assert_eq!(created.temporary_channel_id, TEMPORARY);
    assert_eq!((created.funding_txid, created.funding_output_index), (funding().txid, 3));
    let params = their_params(Side::Remote, &policy().terms);
    let (constants, built) = built(
        &params,
        &wire::channel_data::CommitmentState {
            side: Side::Local,
            number: CommitmentNumber::FIRST,
            point: THEIRS.point(CommitmentNumber::FIRST),
            feerate: proposal().feerate,
            balance: Sides { local: Msat(100_000_000), remote: Msat(900_000_000) },
            htlcs: Long(vec![]),
        },
    );
    let signature = created.signature;
    let signatures = wire::channel_data::CommitmentSignatures { signature, htlcs: vec![] };
    built.verify(&constants, &signatures).unwrap();
}

#[test]
fn funding_created_with_the_right_signature_begins_the_channel() {
    let (mut accepter, signature) = awaiting_funding();
    accepter.say(&created(signature));
    assert_eq!(accepter.also_routes(), ChannelId::from_funding(&funding()));
    let (opened, _socket) = accepter.opened();
    assert_eq!(opened.state.local_signatures.signature, signature);
    assert_eq!(
        *accepter.questions.lock().unwrap(),
        [
            "GetBasepoints",
            "GetCommitmentPoint",
            "SetupChannel",
            "ValidateLocalCommitment",
            "SignRemoteCommitment"
        ]
    );
    assert!(accepter.end().is_ok());
}

#[test]
fn wrong_signature_on_our_commitment_gets_none_of_ours() {
    for message in ["funding_created", "funding_signed"] {
        let wrong = Signature::from_compact(&[1; 64]).unwrap();
        let (attempt, id) = if message == "funding_created" {
            let (mut accepter, _) = awaiting_funding();
            accepter.say(&created(wrong));
            (accepter, TEMPORARY)
        } else {
            let (mut opener, ..) = awaiting_signature();
            let channel_id = ChannelId::from_funding(&funding());
            opener.say(&FundingSigned { channel_id, signature: wrong });
            (opener, channel_id)
        };
        let questions = attempt.questions.clone();
        // BOLT 1, error: with the transaction in hexadecimal.
        let told = attempt
            .fails_with(id, &format!("the signature of {message} does not hold for 02000000"));
        assert!(!told.contains("hsmd"), "{told}");
        let signed = questions.lock().unwrap().contains(&"SignRemoteCommitment");
        assert_eq!(signed, message == "funding_signed");
    }
}

#[test]
fn signature_with_a_high_s_is_refused() {
    let (mut accepter, signature) = awaiting_funding();
    let high = with_signature(&created(signature), high_s(&signature));
    accepter.peer().send_raw(&high).unwrap();
    accepter.fails_with(TEMPORARY, "high S");
    let (mut opener, _, signature) = awaiting_signature();
    let channel_id = ChannelId::from_funding(&funding());
    let high = with_signature(&FundingSigned { channel_id, signature }, high_s(&signature));
    opener.peer().send_raw(&high).unwrap();
    opener.fails_with(channel_id, "high S");
}

#[test]
fn funding_created_of_another_negotiation_is_refused() {
    let (mut accepter, signature) = awaiting_funding();
    let other = ChannelId([9; 32]);
    accepter.say(&FundingCreated { temporary_channel_id: other, ..created(signature) });
    accepter.fails_with(TEMPORARY, &format!("{other} is not {TEMPORARY}"));
}

#[test]
fn funding_of_no_transaction_is_refused() {
    use bitcoin::hashes::Hash;
    let mut folded = [0; 32];
    folded[31] = 5;
    for (txid, funding_output_index, part) in [
        ([0; 32], 0, "there is no such transaction"),
        ([0; 32], u16::MAX, "there is no such transaction"),
        // This one folds to the id that means all channels.
        (folded, 5, "there is no such transaction"),
        (TEMPORARY.0, 0, "its channel_id is the temporary_channel_id"),
    ] {
        let (mut accepter, signature) = awaiting_funding();
        let funding_txid = Txid::from_byte_array(txid);
        accepter.say(&FundingCreated { funding_txid, funding_output_index, ..created(signature) });
        accepter.fails_with(TEMPORARY, part);
    }
}

// ---- funding_signed

#[test]
fn funding_signed_with_the_right_signature_begins_the_channel() {
    let (mut opener, _, signature) = awaiting_signature();
    let channel_id = ChannelId::from_funding(&funding());
    opener.say(&FundingSigned { channel_id, signature });
    let (opened, _socket) = opener.opened();
    assert_eq!(opened.channel, channel_id);
    assert_eq!(opened.state.params.channel_type, anchors());
    assert_eq!(opened.state.local_signatures.signature, signature);
    assert!(opener.end().is_ok());
}

#[test]
fn funding_signed_of_another_channel_is_refused() {
    let (mut opener, _, signature) = awaiting_signature();
    opener.say(&FundingSigned { channel_id: TEMPORARY, signature });
    let channel = ChannelId::from_funding(&funding());
    opener.fails_with(channel, &format!("channel_id {TEMPORARY} is not {channel}"));
}

#[test]
fn errors_name_the_channel_once_funding_created_is_sent() {
    refuses_accept(|a| a.max_accepted_htlcs = 484, "484");
    let (mut opener, ..) = awaiting_signature();
    opener.say(&their_open());
    opener.fails_with(ChannelId::from_funding(&funding()), "OpenChannel came where funding_signed");
}
