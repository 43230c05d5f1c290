//! BOLT 2, open_channel: one test for each demand. `CHECKLIST.md` has them in the BOLT's order.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says where")]

mod common;

use common::scenes::*;
use common::*;
use primitives::*;
use subdaemon::Failure;
use wire::channel_data::Basepoints;
use wire::openingd::*;
use wire::*;

// ---- the sender

#[test]
fn our_open_names_our_chain_and_the_masters_temporary_id() {
    let open = our_open(open_init());
    assert_eq!(open.chain_hash, Network::Regtest.chain_hash());
    assert_eq!(open.temporary_channel_id, TEMPORARY);
}

#[test]
fn we_open_2_24_only_where_both_have_large_channels() {
    let large = OpenInit { amount: Sat(1 << 24), ..open_init() };
    assert_eq!(our_open(large.clone()).funding_satoshis, Sat(1 << 24));
    let less = without(&features(), feature::LARGE_CHANNELS);
    let part = "funding_satoshis 16777216 is above 16777215";
    never_said(OpenInit { remote_features: less.clone(), ..large.clone() }, part);
    never_said(OpenInit { local_features: less.clone(), ..large.clone() }, part);
    let mut unwanted = large.clone();
    unwanted.policy.large_channels = false;
    never_said(unwanted, part);
    let below = OpenInit { amount: Sat((1 << 24) - 1), remote_features: less, ..large };
    assert_eq!(our_open(below).funding_satoshis, Sat(16_777_215));
    never_said(OpenInit { amount: Sat(u64::MAX), ..open_init() }, "all the money there is");
}

#[test]
fn we_push_no_more_than_there_is() {
    let push = Msat(1_000_000_001);
    never_said(OpenInit { push, ..open_init() }, "push_msat 1000000001 is above 1000000000");
    let push = Msat(999_000_000);
    never_said(
        OpenInit { push, ..open_init() },
        "cannot pay a fee of 2810sat and 660sat of anchors",
    );
}

#[test]
fn our_open_carries_our_keys_and_our_first_point() {
    let open = our_open(open_init());
    let keys = Basepoints {
        funding: open.funding_pubkey,
        revocation: open.revocation_basepoint,
        payment: open.payment_basepoint,
        delayed_payment: open.delayed_payment_basepoint,
        htlc: open.htlc_basepoint,
    };
    assert_eq!(keys, OURS.basepoints());
    assert_eq!(open.first_per_commitment_point, OURS.point(CommitmentNumber::FIRST));
}

#[test]
fn our_reserve_is_never_below_our_dust_limit() {
    let mut init = open_init();
    init.policy.terms.reserve = Sat(0);
    let open = our_open(init);
    assert_eq!(open.channel_reserve_satoshis, Sat(546));
    assert_eq!(open.dust_limit_satoshis, Sat(546));
}

#[test]
fn our_flags_hold_nothing_but_announce() {
    assert_eq!(our_open(OpenInit { announce: true, ..open_init() }).channel_flags, 1);
    assert_eq!(our_open(OpenInit { announce: false, ..open_init() }).channel_flags, 0);
}

#[test]
fn our_upfront_script_is_there_even_if_empty() {
    assert_eq!(our_open(open_init()).upfront_shutdown_script, Some(Rest(vec![])));
    let script = ScriptBuf::from_bytes([&[0, 20][..], &[7; 20]].concat());
    let open = our_open(OpenInit { upfront_script: Some(script.clone()), ..open_init() });
    assert_eq!(open.upfront_shutdown_script, Some(Rest(script.as_bytes().to_vec())));
}

#[test]
fn we_fix_no_script_of_a_form_that_was_not_negotiated() {
    let taproot = ScriptBuf::from_bytes([&[0x51, 32][..], &[7; 32]].concat());
    let init = OpenInit { upfront_script: Some(taproot), ..open_init() };
    assert!(our_open(init.clone()).upfront_shutdown_script.is_some());
    let remote_features = without(&features(), feature::SHUTDOWN_ANYSEGWIT);
    never_said(OpenInit { remote_features, ..init }, "is of no form that was negotiated");
}

#[test]
fn our_channel_type_is_a_defined_one_in_the_smallest_bitmap() {
    assert_eq!(our_open(open_init()).channel_type, Some(Rest(vec![0x40, 0x10, 0x00])));
    for bits in [&[22usize][..], &[12, 14], &[13], &[]] {
        let channel_type = bits.iter().fold(Features::none(), |f, b| f.with(*b));
        // Where features would forbid it first, they are all there.
        let all = Features::from_be_bytes(&[0xff; 16]);
        let init = OpenInit {
            channel_type,
            local_features: all.clone(),
            remote_features: all,
            ..open_init()
        };
        never_said(init, "it is no type that we know");
    }
}

#[test]
fn our_channel_type_holds_nothing_that_was_not_negotiated() {
    let less = without(&features(), feature::ANCHORS);
    let part = "not both sides offer all of it";
    never_said(OpenInit { remote_features: less.clone(), ..open_init() }, part);
    never_said(OpenInit { local_features: less, ..open_init() }, part);
    // BOLT 9: this one is assumed.
    let channel_type = Features::compulsory(&[feature::STATIC_REMOTEKEY]);
    let none = Features::none();
    let plain = OpenInit { channel_type, remote_features: none, ..open_init() };
    assert_eq!(our_open(plain).channel_type, Some(Rest(vec![0x10, 0x00])));
}

#[test]
fn we_ask_for_no_alias_in_a_channel_that_is_announced() {
    let init = OpenInit { channel_type: anchors().with(feature::SCID_ALIAS), ..open_init() };
    never_said(init.clone(), "option_scid_alias is for channels not announced");
    let open = our_open(OpenInit { announce: false, ..init });
    assert!(open.channel_type.is_some());
}

// ---- the receiver

#[test]
fn undefined_flags_are_ignored() {
    assert_eq!(takes_open(|o| o.channel_flags = 0xff).channel_flags, 0xff);
    assert_eq!(takes_open(|o| o.channel_flags = 0xfe).channel_flags, 0xfe);
}

#[test]
fn open_without_a_channel_type_is_refused() {
    refuses_open(|o| o.channel_type = None, "there is no channel_type");
}

#[test]
fn new_open_on_a_new_connection_replaces_the_old_one() {
    let mut first = with_open(accept_init(), |_| {});
    first.proposed();
    first.peer = None;
    assert_eq!(first.end(), Err(Failure::ConnectionLost));
    let again = with_open(accept_init(), |o| o.funding_satoshis = Sat(2_000_000)).proposed();
    assert_eq!(again.amount, Sat(2_000_000));
}

#[test]
fn open_channel_is_refused_where_dual_funding_was_negotiated() {
    let both = features().union(&Features::optional(&[feature::DUAL_FUND]));
    let init = AcceptInit { local_features: both.clone(), remote_features: both, ..accept_init() };
    with_open(init, |_| {}).fails_with(TEMPORARY, "option_dual_fund was negotiated");
}

#[test]
fn unknown_chain_is_refused() {
    refuses_open(|o| o.chain_hash = [0xab; 32], "chain_hash abababab");
    refuses_open(|o| o.chain_hash = Network::Bitcoin.chain_hash(), "is not that of regtest");
}

#[test]
fn push_of_more_than_the_funding_is_refused() {
    refuses_open(
        |o| o.push_msat = Msat(1_000_000_001),
        "push_msat 1000000001 is above 1000000000, 1000 * funding_satoshis",
    );
    refuses_open(|o| o.push_msat = Msat(u64::MAX), "push_msat 18446744073709551615");
}

#[test]
fn to_self_delay_beyond_reason_is_refused() {
    refuses_open(|o| o.to_self_delay = 2017, "to_self_delay 2017 is above 2016");
    takes_open(|o| o.to_self_delay = 2016);
}

#[test]
fn more_than_483_htlcs_are_refused_and_none_too() {
    refuses_open(|o| o.max_accepted_htlcs = 484, "max_accepted_htlcs 484 is above 483");
    refuses_open(|o| o.max_accepted_htlcs = 0, "max_accepted_htlcs 0 is below 1");
}

#[test]
fn feerate_beyond_our_bounds_is_refused() {
    refuses_open(|o| o.feerate_per_kw = FeeratePerKw(252), "feerate_per_kw 252 is below 253");
    refuses_open(
        |o| o.feerate_per_kw = FeeratePerKw(50_001),
        "feerate_per_kw 50001 is above 50000",
    );
    refuses_open(|o| o.feerate_per_kw = FeeratePerKw(u32::MAX), "4294967295 is above 50000");
}

#[test]
fn invalid_key_is_refused_by_its_name() {
    let fields = [
        "funding_pubkey",
        "revocation_basepoint",
        "payment_basepoint",
        "delayed_payment_basepoint",
        "htlc_basepoint",
        "first_per_commitment_point",
    ];
    // After the number: the chain, the id, six u64, u32, two u16.
    let first_key = 2 + 32 + 32 + 6 * 8 + 4 + 2 + 2;
    for (n, field) in fields.iter().enumerate() {
        for prefix in [0x00, 0x04, 0x05] {
            let mut accepter = start(&accept_init(), OURS);
            let mut bytes = their_open().encode();
            bytes[first_key + 33 * n] = prefix;
            accepter.peer().send_raw(&bytes).unwrap();
            accepter.fails_with(TEMPORARY, field);
        }
    }
}

#[test]
fn dust_limit_above_the_reserve_is_refused() {
    refuses_open(
        |o| (o.dust_limit_satoshis, o.channel_reserve_satoshis) = (Sat(1001), Sat(1000)),
        "dust_limit_satoshis 1001 is above 1000, channel_reserve_satoshis of the same message",
    );
}

#[test]
fn dust_limit_below_354_is_refused() {
    refuses_open(|o| o.dust_limit_satoshis = Sat(353), "dust_limit_satoshis 353 is below 354");
    takes_open(|o| o.dust_limit_satoshis = Sat(354));
}

#[test]
fn opener_that_cannot_pay_the_first_fee_is_refused() {
    // 1124 weight at 2500, and two anchors: 3470.
    refuses_open(
        |o| o.push_msat = Msat(1_000_000_000 - 3_469_999),
        "the opener's 3469999msat cannot pay a fee of 2810sat and 660sat of anchors",
    );
    takes_open(|o| o.push_msat = Msat(1_000_000_000 - 3_470_000));
    // Without anchors: 724 weight.
    let plain = rest(&Features::compulsory(&[feature::STATIC_REMOTEKEY]));
    refuses_open(
        |o| {
            o.channel_type = plain;
            o.push_msat = Msat(1_000_000_000 - 1_809_999);
        },
        "cannot pay a fee of 1810sat and 0sat",
    );
}

#[test]
fn channel_in_which_nobody_has_more_than_a_reserve_is_refused() {
    refuses_open(
        |o| {
            o.push_msat = Msat(0);
            o.channel_reserve_satoshis = Sat(996_530);
        },
        "neither the opener's 996530000msat nor the accepter's 0msat is above channel_reserve_satoshis 996530sat",
    );
}

#[test]
fn large_channel_is_refused_where_we_do_not_offer_them() {
    let local_features = without(&features(), feature::LARGE_CHANNELS);
    let init = AcceptInit { local_features, ..accept_init() };
    with_open(init, |o| o.funding_satoshis = Sat(1 << 24)).fails_with(
        TEMPORARY,
        "funding_satoshis 16777216 is above 16777215, the largest funding without option_support_large_channel",
    );
    takes_open(|o| o.funding_satoshis = Sat(1 << 24));
    refuses_open(|o| o.funding_satoshis = Sat(2_100_000_000_000_001), "all the money there is");
    refuses_open(|o| o.funding_satoshis = Sat(u64::MAX), "all the money there is");
}

#[test]
fn unsuitable_channel_type_is_refused() {
    for (bits, part) in [
        (&[][..], "it is no type that we know"),
        (&[22], "it is no type that we know"),
        (&[13], "it is no type that we know"),
        (&[12, 20], "it is no type that we know"),
        (&[12, 22, 100], "it is no type that we know"),
        (&[12, 22, 46], "option_scid_alias is for channels not announced"),
    ] {
        let channel_type = bits.iter().fold(Features::none(), |f, b| f.with(*b));
        refuses_open(|o| o.channel_type = rest(&channel_type), part);
    }
    let local_features = without(&features(), feature::ANCHORS);
    with_open(AcceptInit { local_features, ..accept_init() }, |_| {})
        .fails_with(TEMPORARY, "channel_type [12, 22] is not suitable: we do not offer all of it");
}

#[test]
fn zeroconf_channel_is_refused_unless_the_master_trusts() {
    let zeroconf = rest(&anchors().with(feature::ZEROCONF));
    for minimum_depth in [None, Some(1)] {
        let mut accepter = with_open(accept_init(), |o| o.channel_type = zeroconf.clone());
        accepter.proposed();
        accepter.master.order(&AcceptProposed { minimum_depth, ..yes() }, vec![]);
        accepter.fails_with(TEMPORARY, "an unconfirmed channel is not for everybody");
    }
}

#[test]
fn script_of_no_negotiated_form_is_refused_and_an_empty_is_none() {
    let legacy = [&[0x76, 0xa9, 20][..], &[7; 20], &[0x88, 0xac]].concat();
    let part = "upfront_shutdown_script 76a914";
    refuses_open(|o| o.upfront_shutdown_script = Some(Rest(legacy.clone())), part);
    // BOLT 2, shutdown, rationale: old nodes, which have no anchors, name such scripts.
    let plain = Features::compulsory(&[feature::STATIC_REMOTEKEY]);
    let proposed = takes_open(|o| {
        o.channel_type = rest(&plain);
        o.upfront_shutdown_script = Some(Rest(legacy.clone()));
    });
    assert_eq!(proposed.remote_upfront_script, Some(ScriptBuf::from_bytes(legacy)));
    let op_return = [&[0x6a, 10][..], &[7; 10]].concat();
    refuses_open(|o| o.upfront_shutdown_script = Some(Rest(op_return)), "6a0a07");
    let taproot = [&[0x51, 32][..], &[7; 32]].concat();
    let proposed = takes_open(|o| o.upfront_shutdown_script = Some(Rest(taproot.clone())));
    assert_eq!(proposed.remote_upfront_script, Some(ScriptBuf::from_bytes(taproot.clone())));
    let remote_features = without(&features(), feature::SHUTDOWN_ANYSEGWIT);
    with_open(AcceptInit { remote_features, ..accept_init() }, |o| {
        o.upfront_shutdown_script = Some(Rest(taproot));
    })
    .fails_with(TEMPORARY, "is of no form that was negotiated");
    for none in [None, Some(Rest(vec![]))] {
        assert_eq!(takes_open(|o| o.upfront_shutdown_script = none).remote_upfront_script, None);
    }
}

#[test]
fn script_binds_nobody_where_the_feature_was_not_negotiated() {
    let script = [&[0, 20][..], &[7; 20]].concat();
    let remote_features = without(&features(), feature::UPFRONT_SHUTDOWN_SCRIPT);
    let mut accepter = with_open(AcceptInit { remote_features, ..accept_init() }, |o| {
        o.upfront_shutdown_script = Some(Rest(script));
    });
    assert_eq!(accepter.proposed().remote_upfront_script, None);
}

#[test]
fn another_temporary_id_than_the_sockets_is_refused() {
    let other = ChannelId([9; 32]);
    refuses_open(
        |o| o.temporary_channel_id = other,
        &format!("temporary_channel_id {other} is not {TEMPORARY}"),
    );
}

// What BOLT 2 lets us refuse, and we do.

#[test]
fn channel_too_small_to_be_of_use_is_refused() {
    // Two reserves of 546 and 10,000, and 3,470 of fee: 10,000 are left of 24,016.
    let open = |o: &mut OpenChannel, amount: u64| {
        (o.funding_satoshis, o.push_msat) = (Sat(amount), Msat(0));
    };
    let mut init = accept_init();
    init.policy.terms.reserve = Sat(546);
    with_open(init.clone(), |o| open(o, 24_015))
        .fails_with(TEMPORARY, "a usable capacity of 9999sat is below 10000sat");
    with_open(init, |o| open(o, 24_016)).proposed();
    refuses_open(|o| open(o, 0), "cannot pay");
}

#[test]
fn reserve_that_leaves_nothing_is_refused() {
    refuses_open(
        |o| (o.channel_reserve_satoshis, o.push_msat) = (Sat(980_000), Msat(0)),
        "a usable capacity of 6530sat is below 10000sat",
    );
    refuses_open(|o| o.channel_reserve_satoshis = Sat(u64::MAX), "channel_reserve_satoshis");
}

#[test]
fn reserve_below_our_dust_limit_is_refused() {
    refuses_open(
        |o| (o.channel_reserve_satoshis, o.dust_limit_satoshis) = (Sat(545), Sat(354)),
        "channel_reserve_satoshis 545 is below 546, our dust_limit_satoshis",
    );
}

#[test]
fn htlcs_that_are_too_large_or_too_few_at_a_time_are_refused() {
    refuses_open(
        |o| o.htlc_minimum_msat = Msat(976_530_001),
        "htlc_minimum_msat 976530001 is above 976530000",
    );
    refuses_open(
        |o| o.max_htlc_value_in_flight_msat = Msat(9_999_999),
        "max_htlc_value_in_flight_msat 9999999 is below 10000000",
    );
}

#[test]
fn dust_limit_that_would_burn_too_much_is_refused() {
    let mut init = accept_init();
    init.policy.max_dust_exposure = Msat(600_000);
    with_open(init, |o| o.dust_limit_satoshis = Sat(601)).fails_with(
        TEMPORARY,
        "dust_limit_satoshis 601 is above 600, the most that we let be trimmed",
    );
}

/// BOLT 2, open_channel and accept_channel: a dust limit that is too large. What all
/// implementations have is taken.
#[test]
fn dust_limit_above_the_policy_is_refused() {
    for known in [354, 546, 1062] {
        takes_open(|o| o.dust_limit_satoshis = Sat(known));
    }
    let says = "dust_limit_satoshis 1063 is above 1062, the highest dust limit that we take";
    refuses_open(|o| o.dust_limit_satoshis = Sat(1063), says);
    refuses_accept(|a| a.dust_limit_satoshis = Sat(1063), says);
    with_accept(open_init(), |a| a.dust_limit_satoshis = Sat(1062)).accepted();
}
