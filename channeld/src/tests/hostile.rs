//! Peers that break the law, by one message or by whatever comes to their mind.

use super::link::Filter;
use super::master::{Decide, words};
use super::rig::*;
use primitives::*;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::RefCell;
use subdaemon::Failure;
use wire::channel_data::Terms;
use wire::channeld::*;
use wire::daemon::Fault;
use wire::*;

/// What a peer that never was the second node may make: a signature of nothing.
fn signature() -> Signature {
    Signature::from_compact(&[1; 64]).unwrap()
}

fn add(channel_id: ChannelId, id: u64, amount: u64) -> UpdateAddHtlc {
    UpdateAddHtlc {
        channel_id,
        id: HtlcId(id),
        amount: Msat(amount),
        payment_hash: PaymentHash([7; 32]),
        cltv_expiry: BlockHeight(500),
        onion: OnionPacket(Box::new([0; 1366])),
        path_key: None,
    }
}

/// What the peer says, and in which words it is refused. `error:` ends the channel, `warned:` the
/// connection.
type Refusal = (&'static str, fn(ChannelId) -> Vec<Vec<u8>>);

const REFUSALS: &[Refusal] = &[
    ("warned: BOLT 2, update_add_htlc: an HTLC of 0msat", |c| vec![add(c, 0, 0).encode()]),
    ("warned: BOLT 2, update_add_htlc: HTLC id 3 where 0 is next", |c| {
        vec![add(c, 3, 1_000_000).encode()]
    }),
    ("warned: BOLT 2, update_add_htlc: an HTLC of 395000000msat", |c| {
        vec![add(c, 0, 395_000_000).encode()]
    }),
    ("warned: BOLT 2, update_add_htlc: cltv_expiry 500000000", |c| {
        let cltv_expiry = BlockHeight(500_000_000);
        vec![UpdateAddHtlc { cltv_expiry, ..add(c, 0, 1_000_000) }.encode()]
    }),
    ("warned: BOLT 2, update_add_htlc: 3 HTLCs, of at most 2", |c| {
        (0..3).map(|id| add(c, id, 1_000_000).encode()).collect()
    }),
    ("warned: BOLT 2, update_add_htlc: 398000000msat in flight", |c| {
        vec![add(c, 0, 199_000_000).encode(), add(c, 1, 199_000_000).encode()]
    }),
    ("warned: update_add_htlc after shutdown", |c| {
        let shutdown = Shutdown { channel_id: c, scriptpubkey: script(1) };
        vec![add(c, 0, 1_000_000).encode(), shutdown.encode(), add(c, 1, 1_000_000).encode()]
    }),
    ("warned: BOLT 2, removing an HTLC: there is no HTLC 9", |c| {
        let preimage = preimage(1);
        let (channel_id, id) = (c, HtlcId(9));
        vec![UpdateFulfillHtlc { channel_id, id, preimage, attribution_data: None }.encode()]
    }),
    ("warned: BOLT 2, removing an HTLC: there is no HTLC 9", |c| {
        let (channel_id, id, reason) = (c, HtlcId(9), vec![]);
        vec![UpdateFailHtlc { channel_id, id, reason, attribution_data: None }.encode()]
    }),
    ("warned: BOLT 2, removing an HTLC: there is no HTLC 9", |c| {
        let sha256_of_onion = Sha256Digest([0; 32]);
        let (channel_id, id, failure_code) = (c, HtlcId(9), 0xc005);
        vec![UpdateFailMalformedHtlc { channel_id, id, sha256_of_onion, failure_code }.encode()]
    }),
    ("warned: BOLT 2, update_fee: update_fee from the side", |c| {
        vec![UpdateFee { channel_id: c, feerate: FeeratePerKw(2000) }.encode()]
    }),
    ("error: BOLT 2, commitment_signed: 1 HTLC signatures for 0", |c| {
        vec![signed(c, None, 1).encode()]
    }),
    ("error: BOLT 2, commitment_signed: commitment 1: the signature", |c| {
        vec![signed(c, None, 0).encode()]
    }),
    ("warned: commitment_signed for the funding 09", |c| {
        let other = bitcoin::hashes::Hash::from_byte_array([9; 32]);
        vec![signed(c, Some(other), 0).encode()]
    }),
    ("warned: BOLT 2, revoke_and_ack: commitment 0 is revoked while none", |c| {
        vec![revocation(c).encode()]
    }),
    ("warned: start_batch of 21", |c| {
        vec![StartBatch { channel_id: c, batch_size: 21, message_type: Some(132) }.encode()]
    }),
    ("error: BOLT 2, start_batch: commitment_signed without funding_txid", |c| {
        let start = StartBatch { channel_id: c, batch_size: 2, message_type: Some(132) };
        vec![start.encode(), signed(c, None, 0).encode()]
    }),
    ("warned: UpdateAddHtlc within a batch", |c| {
        let start = StartBatch { channel_id: c, batch_size: 2, message_type: Some(132) };
        vec![start.encode(), add(c, 0, 1_000_000).encode()]
    }),
    ("warned: a second channel_reestablish", |c| {
        let message = ChannelReestablish {
            channel_id: c,
            next_commitment_number: 1,
            next_revocation_number: 0,
            your_last_per_commitment_secret: [0; 32],
            my_current_per_commitment_point: some_point(1),
            next_funding: None,
            my_current_funding_locked: None,
        };
        vec![message.encode()]
    }),
    ("warned: funding_signed", |c| {
        vec![FundingSigned { channel_id: c, signature: signature() }.encode()]
    }),
    ("warned: closing_signed", |c| {
        let (fee_satoshis, signature) = (Sat(1), signature());
        vec![ClosingSigned { channel_id: c, fee_satoshis, signature, fee_range: None }.encode()]
    }),
    ("warned: stfu", |c| vec![Stfu { channel_id: c, initiator: 1 }.encode()]),
    ("warned: message 32 is not known here", |_| vec![vec![0, 32, 1, 2, 3]]),
    ("warned: message 1000 is not known here", |_| vec![1000u16.to_be_bytes().to_vec()]),
    ("warned: UpdateFee is of another channel", |_| {
        let channel_id = ChannelId([9; 32]);
        vec![UpdateFee { channel_id, feerate: FeeratePerKw(2000) }.encode()]
    }),
    ("error: BOLT 2, revoke_and_ack: RevokeAndAck, per_commitment_secret", |c| {
        let mut bytes = revocation(c).encode();
        bytes[34..66].fill(0);
        vec![bytes]
    }),
    ("warned: UpdateAddHtlc, id", |c| vec![[&[0, 128], &c.0[..], &[1, 2]].concat()]),
    ("they said: I give up", |c| vec![Error::new(c, "I give up").encode()]),
    ("they said: all of you", |_| vec![Error::new(ChannelId::ALL, "all of you").encode()]),
    ("they said: ?evil?", |c| vec![Error { channel_id: c, data: b"\x1bevil\n".to_vec() }.encode()]),
];

fn signed(channel_id: ChannelId, funding_txid: Option<Txid>, htlcs: usize) -> CommitmentSigned {
    let htlc_signatures = vec![signature(); htlcs];
    CommitmentSigned { channel_id, signature: signature(), htlc_signatures, funding_txid }
}
fn revocation(channel_id: ChannelId) -> RevokeAndAck {
    RevokeAndAck {
        channel_id,
        per_commitment_secret: SecretKey::from_slice(&[5; 32]).unwrap(),
        next_per_commitment_point: some_point(5),
    }
}

fn narrow() -> Wish {
    let terms = Terms { max_in_flight: Msat(396_000_000), max_accepted_htlcs: 2, ..terms() };
    Wish { terms, ..Wish::default() }
}

#[test]
fn unlawful_message_is_refused_with_the_rule_it_breaks() {
    let mut pair = Pair::ready(&narrow());
    for (expected, messages) in REFUSALS {
        pair.master(Side::Local).rows().shutdown = Sides { local: None, remote: None };
        let before = pair.master(Side::Local).rows().state.clone();
        let mut stranger = pair.reestablished_stranger();
        for message in messages(pair.nodes.local.init.channel) {
            stranger.send_bytes(&message);
        }
        let heard = stranger.rest();
        let ended = pair.nodes.local.ended();
        let words = words(&pair.master(Side::Local).rows().failed);
        assert!(words.starts_with(expected), "{words} instead of {expected}: {ended:?}");
        // The peer heard the same, and nothing of it is on disk.
        let last = heard.last().cloned().unwrap_or_default();
        let text = |data: Vec<u8>| String::from_utf8(data).unwrap();
        match words.split_once(": ").unwrap() {
            ("warned", told) => {
                assert_eq!(text(Warning::take_body(&last[2..]).unwrap().data), told);
            }
            ("error", told) => assert_eq!(text(Error::take_body(&last[2..]).unwrap().data), told),
            _ => assert!(!last.starts_with(&Error::NUMBER.to_be_bytes())),
        }
        assert_eq!(pair.master(Side::Local).rows().state, before);
    }
}

#[test]
fn odd_but_lawful_messages_are_accepted() {
    let mut pair = Pair::ready(&Wish::default());
    let mut stranger = pair.reestablished_stranger();
    let channel_id = pair.nodes.local.init.channel;
    stranger.send(&Warning::new(channel_id, "careful"));
    stranger.send(&Warning::new(ChannelId::ALL, "careful"));
    stranger.send_bytes(&[0x83, 0x01, 1, 2, 3]);
    let batch = |batch_size, message_type| StartBatch { channel_id, batch_size, message_type };
    stranger.send(&batch(2, None));
    stranger.send(&batch(2, Some(133)));
    stranger.send(&batch(1, Some(132)));
    assert!(stranger.until::<Warning>().text().contains("start_batch of 1 is ignored"));
    let abort = TxAbort { channel_id, data: vec![] };
    stranger.send(&abort);
    stranger.until::<TxAbort>();
    // An echo of ours is not echoed again.
    stranger.send(&abort);
    stranger.send(&batch(0, Some(132)));
    assert!(stranger.hear().unwrap().starts_with(&Warning::NUMBER.to_be_bytes()));
}

#[test]
fn messages_before_reestablish_or_channel_ready_are_refused() {
    let mut pair = Pair::ready(&Wish::default());
    let channel_id = pair.nodes.local.init.channel;
    let mut stranger = pair.stranger(Birth::Reconnected);
    stranger.send(&add(channel_id, 0, 1_000_000));
    assert!(stranger.until::<Warning>().text().contains("before channel_reestablish"));
    let _ = pair.nodes.local.ended();

    pair.master(Side::Local).rows().ready.remote = false;
    for message in [
        add(channel_id, 0, 1_000_000).encode(),
        signed(channel_id, None, 0).encode(),
        revocation(channel_id).encode(),
        UpdateFee { channel_id, feerate: FeeratePerKw(2000) }.encode(),
    ] {
        let mut stranger = pair.reestablished_stranger();
        stranger.send_bytes(&message);
        assert!(stranger.until::<Warning>().text().contains("before both sides said"));
        let _ = pair.nodes.local.ended();
    }
}

#[test]
fn interactive_transaction_that_we_do_not_know_is_aborted() {
    let mut pair = Pair::ready(&Wish::default());
    let mut stranger = pair.stranger(Birth::Reconnected);
    let txid = bitcoin::hashes::Hash::from_byte_array([4; 32]);
    let next_funding = Some(FundingAndFlags { txid, retransmit_flags: 1 });
    stranger.send(&ChannelReestablish { next_funding, ..pair.their_reestablish() });
    stranger.until::<TxAbort>();
    pair.master(Side::Local).until("it goes on", |rows| rows.established);
}

#[test]
fn feerate_beyond_our_bounds_or_the_peers_means_is_refused() {
    for (feerate, expected) in
        [(100, "update_fee 100"), (60_000, "update_fee 60000"), (49_000, "update_fee 49000")]
    {
        // The first node opened the channel: a stranger in its place, and the second one judges.
        let mut pair = Pair::ready(&Wish { push: Msat(970_000_000), ..Wish::default() });
        let mut stranger = pair.stranger_to(Side::Remote, Birth::Reconnected);
        stranger.until::<ChannelReestablish>();
        stranger.send(&pair.reestablish_of(Side::Local));
        let feerate = FeeratePerKw(feerate);
        stranger.send(&UpdateFee { channel_id: channel_id(), feerate });
        let text = stranger.until::<Warning>().text();
        assert!(text.contains(expected), "{text}");
        assert!(matches!(pair.nodes.remote.ended(), Err(Failure::PeerWarn(_))));
    }
}

#[test]
fn signatures_and_secrets_that_do_not_hold_end_the_channel() {
    let one = signature().serialize_compact();
    let cases: [(u16, usize, &[u8], &str); 3] = [
        (RevokeAndAck::NUMBER, 34, &[5; 32], "the secret for commitment 0 is not"),
        (CommitmentSigned::NUMBER, 34, &one, "the signature on the commitment transaction"),
        (CommitmentSigned::NUMBER, 100, &one, "the signature on the HTLC"),
    ];
    for (kind, at, bytes, expected) in cases {
        let mut pair = Pair::ready(&Wish::default());
        pair.master(Side::Remote).rows().decide = Decide::Hold;
        let bytes = bytes.to_vec();
        pair.reconnect_over(Box::new(move |side, mut message| {
            if side == Side::Remote && message.starts_with(&kind.to_be_bytes()) {
                message[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Some(vec![message])
        }));
        pair.until_normal();
        pair.pay(Side::Local, 1, Msat(50_000_000));
        let ended = pair.await_end();
        let Err(Failure::PeerError(told)) = ended.local else { panic!("{ended:?}") };
        assert!(told.contains(expected), "{told}");
        assert_eq!(ended.remote, Err(Failure::PeerSaidError(told)));
    }
}

#[test]
fn preimage_is_good_even_if_nothing_else_the_peer_says_is() {
    let mut pair = Pair::ready(&Wish::default());
    pair.master(Side::Remote).rows().decide = Decide::Hold;
    pair.reconnect();
    pair.until_normal();
    pair.pay(Side::Local, 1, Msat(50_000_000));
    pair.master(Side::Remote).until("it is there", |rows| rows.peeled.len() == 1);
    pair.disconnect();
    let mut stranger = pair.reestablished_stranger();
    let channel_id = pair.nodes.local.init.channel;
    let fulfil = |key| UpdateFulfillHtlc {
        channel_id,
        id: HtlcId(0),
        preimage: preimage(key),
        attribution_data: None,
    };
    stranger.send(&fulfil(1));
    stranger.send(&fulfil(1));
    assert!(stranger.until::<Warning>().text().contains("HTLC 0 is removed twice"));
    let _ = pair.nodes.local.ended();
    let rows = pair.master(Side::Local).rows();
    assert_eq!(rows.learned, [(HtlcId(0), preimage(1)); 2]);
    drop(rows);
    let mut stranger = pair.reestablished_stranger();
    stranger.send(&fulfil(2));
    assert!(stranger.until::<Warning>().text().contains("does not hash to"));
    assert_eq!(pair.master(Side::Local).rows().learned.len(), 2);
}

#[test]
fn peer_that_does_not_read_is_read_and_gets_all_later() {
    let mut pair = Pair::ready(&Wish::default());
    let mut stranger = pair.reestablished_stranger();
    for key in 0..400 {
        pair.offer(Side::Local, key, Msat(600_000));
    }
    // More than any socket takes. What it says meanwhile is heard.
    let channel_id = pair.nodes.local.init.channel;
    stranger.send(&Shutdown { channel_id, scriptpubkey: script(1) });
    let ours = pair.master(Side::Local);
    ours.until("it is heard", |rows| rows.shutdown.remote.is_some());
    let mut adds = 0;
    loop {
        let kind = stranger.hear().unwrap();
        match u16::from_be_bytes(*kind.first_chunk().unwrap()) {
            128 => adds += 1,
            132 if adds > 0 => break,
            _ => {}
        }
    }
    let offered = |rows: &mut super::master::Rows| rows.state.htlcs.0.len() + rows.refused.len();
    ours.until("every offer is answered", |rows| offered(rows) <= 400);
}

#[test]
fn peer_that_never_revokes_is_hung_up_on() {
    let mut pair = Pair::ready(&Wish::default());
    pair.nodes.local.patience = std::time::Duration::from_millis(1);
    let mut stranger = pair.reestablished_stranger();
    pair.offer(Side::Local, 1, Msat(1_000_000));
    stranger.until::<CommitmentSigned>();
    assert_eq!(stranger.until::<Warning>().text(), "revoke_and_ack does not come");
    assert!(matches!(pair.nodes.local.ended(), Err(Failure::PeerWarn(_))));
}

/// A message of a kind that channeld knows, about the right channel, with any body.
fn any_message(channel_id: ChannelId) -> impl Strategy<Value = Vec<u8>> {
    let kinds = vec![
        1u16, 2, 35, 36, 38, 39, 74, 127, 128, 130, 131, 132, 133, 134, 135, 136, 259, 1001, 32,
    ];
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        (0u8..4, 0usize..1500).prop_map(|(byte, len)| vec![byte; len]),
        Just(vec![0; 8 + 8 + 32 + 4 + 1366]),
    ];
    (proptest::sample::select(kinds), body)
        .prop_map(move |(kind, body)| [&kind.to_be_bytes()[..], &channel_id.0, &body].concat())
}

#[test]
fn arbitrary_bytes_of_a_peer_are_no_internal_error() {
    let said = prop_oneof![
        4 => any_message(channel_id()),
        1 => proptest::collection::vec(any::<u8>(), 1..300),
    ];
    let case = (proptest::collection::vec(said, 1..20), any::<bool>());
    let pair = RefCell::new(Pair::ready(&Wish::default()));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(2000));
    let outcome = runner.run(&case, |(messages, greeted)| {
        let mut pair = pair.borrow_mut();
        pair.master(Side::Local).rows().shutdown = Sides { local: None, remote: None };
        let stranger =
            if greeted { pair.reestablished_stranger() } else { pair.stranger(Birth::Reconnected) };
        pair.offer(Side::Local, 1, Msat(1_000_000));
        for message in messages {
            stranger.send_bytes(&message);
        }
        drop(stranger);
        let ended = pair.nodes.local.ended();
        prop_assert!(!matches!(ended, Ok(()) | Err(Failure::Internal(_))), "{ended:?}");
        let balance = pair.master(Side::Local).rows().state.balance;
        prop_assert_eq!(balance, Sides { local: Msat(600_000_000), remote: Msat(400_000_000) });
        Ok(())
    });
    outcome.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn repeated_lost_or_swapped_messages_cost_the_channel_at_most(
        tricks in proptest::collection::vec((0usize..30, 0u8..3), 1..4),
        amounts in proptest::collection::vec(1u64..50_000_000, 1..4),
    ) {
        let mut pair = Pair::ready(&Wish::default());
        pair.reconnect_over(tricky(tricks));
        for (key, amount) in (1..).zip(&amounts) {
            pair.pay(if key % 2 == 0 { Side::Local } else { Side::Remote }, key, Msat(*amount));
        }
        // It may be stuck for want of what was dropped: that is a connection to give up.
        let ended = |pair: &Pair| {
            Side::BOTH.iter().any(|side| pair.master(*side).rows().failed.is_some())
        };
        let done = |pair: &Pair| {
            let rows = pair.master(Side::Local).rows();
            rows.settled.len() + rows.refused.len() == amounts.len() && rows.is_quiet()
        };
        let until = std::time::Instant::now() + std::time::Duration::from_millis(150);
        while !ended(&pair) && !done(&pair) && std::time::Instant::now() < until {
            std::thread::yield_now();
        }
        pair.disconnect();
        for side in Side::BOTH {
            let rows = pair.master(side).rows();
            let internal = matches!(&rows.failed, Some(f) if f.fault == Fault::Internal);
            prop_assert!(!internal, "{:?}", rows.failed);
        }
        // On a wire that keeps its promises they go on, unless what was lost was no promise to
        // break: BOLT 2 builds on messages that come in order or not at all.
        pair.reconnect();
        for side in Side::BOTH {
            pair.master(side).until("an end", |rows| {
                (rows.is_normal() && rows.is_quiet()) || rows.failed.is_some()
            });
        }
        pair.disconnect();
        for side in Side::BOTH {
            let rows = pair.master(side).rows();
            let fault = rows.failed.as_ref().map(|f| &f.fault);
            prop_assert!(fault != Some(&Fault::Internal), "{:?}", rows.failed);
            let balance = rows.state.balance;
            prop_assert_eq!(balance.local.0 + balance.remote.0, 1_000_000_000);
        }
    }
}

/// Repeats (0), drops (1) or swaps with the next (2) what the remote side says at these places.
fn tricky(tricks: Vec<(usize, u8)>) -> Filter {
    let (mut count, mut kept) = (0, None);
    Box::new(move |side, message| {
        if side == Side::Local {
            return Some(vec![message]);
        }
        count += 1;
        let mut out: Vec<Vec<u8>> = vec![message];
        for (_, trick) in tricks.iter().filter(|(at, _)| *at == count) {
            match trick {
                0 => out.push(out[0].clone()),
                1 => out.clear(),
                _ => kept = out.pop(),
            }
            if out.is_empty() {
                return Some(out);
            }
        }
        out.extend(kept.take());
        Some(out)
    })
}

fn channel_id() -> ChannelId {
    let txid = bitcoin::hashes::Hash::from_byte_array([5; 32]);
    ChannelId::from_funding(&OutPoint { txid, vout: 0 })
}
