//! shutdown, and the hand-over to closingd.

use super::link::{all, numbers};
use super::master::{Decide, words};
use super::rig::*;
use primitives::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use subdaemon::Failure;
use wire::channel_data::Removal;
use wire::channeld::*;
use wire::*;

fn until_handed_over(pair: &mut Pair) {
    for side in Side::BOTH {
        pair.master(side).until("it is closingd's turn", |rows| rows.handed_over.is_some());
        assert_eq!(pair.nodes[side].ended(), Ok(()));
    }
}

#[test]
fn quiet_channel_is_closingds_at_once() {
    for by in Side::BOTH {
        let mut pair = Pair::normal(&Wish::default());
        pair.master(by).order(&StartShutdown { script: script(9) });
        until_handed_over(&mut pair);
        // Who did not begin was never told where to be paid: its master was asked.
        let theirs = pair.master(!by).rows().script.clone();
        for (side, local, remote) in [(by, script(9), theirs.clone()), (!by, theirs, script(9))] {
            let rows = pair.master(side).rows();
            assert_eq!(rows.shutdown, Sides { local: Some(local), remote: Some(remote) });
        }
        let last = Sides::from_fn(|s| numbers(&pair.link.as_ref().unwrap().said, s).pop());
        assert_eq!(last, Sides { local: Some(38), remote: Some(38) });
    }
}

#[test]
fn unread_messages_are_left_for_closingd() {
    let mut pair = Pair::ready(&Wish::default());
    let mut stranger = pair.reestablished_stranger();
    let channel_id = pair.nodes.local.init.channel;
    pair.master(Side::Local).order(&StartShutdown { script: script(9) });
    stranger.until::<Shutdown>();
    let mine = Shutdown { channel_id, scriptpubkey: script(8) };
    stranger.send(&mine);
    let ours = pair.master(Side::Local);
    ours.until("it is closingd's turn", |rows| rows.handed_over.is_some());
    stranger.send_bytes(b"for closingd");
    let socket = ours.rows().handed_over.take().unwrap();
    let mut buffer = Vec::new();
    let record = loop {
        if let Some(len) =
            subdaemon::recv_record(std::os::fd::AsFd::as_fd(&socket), &mut buffer).unwrap()
        {
            break buffer[1..len.unwrap()].to_vec();
        }
    };
    assert_eq!(record, b"for closingd");
}

#[test]
fn shutdown_waits_for_htlcs_and_takes_no_new_ones() {
    let mut pair = Pair::ready(&Wish::default());
    pair.master(Side::Remote).rows().decide = Decide::Hold;
    pair.reconnect();
    pair.until_normal();
    for key in 1..=2 {
        pair.pay(Side::Local, key, Msat(50_000_000));
    }
    pair.master(Side::Remote).until("both are there", |rows| rows.peeled.len() == 2);
    pair.master(Side::Remote).order(&StartShutdown { script: script(9) });
    for side in Side::BOTH {
        let both = |s: &Sides<Option<ScriptBuf>>| s.local.is_some() && s.remote.is_some();
        pair.master(side).until("both said it", |rows| both(&rows.shutdown));
        pair.offer(side, 7, Msat(1_000_000));
        pair.master(side).until("nothing new", |rows| !rows.refused.is_empty());
        assert_eq!(pair.master(side).rows().refused[0].why, OfferRefusal::Closing);
        assert!(pair.master(side).rows().handed_over.is_none());
    }
    let fulfil = Removal::Fulfilled { preimage: preimage(1) };
    let fail = Removal::Failed { reason: vec![1; 292] };
    pair.master(Side::Remote).rows().order_removal(HtlcId(0), &fulfil);
    pair.master(Side::Remote).rows().order_removal(HtlcId(1), &fail);
    until_handed_over(&mut pair);
    let balance = pair.master(Side::Local).rows().state.balance;
    assert_eq!(balance, Sides { local: Msat(550_000_000), remote: Msat(450_000_000) });
}

#[test]
fn feerate_follows_estimates_while_htlcs_outlive_a_shutdown() {
    let mut pair = Pair::ready(&Wish::default());
    pair.master(Side::Remote).rows().decide = Decide::Hold;
    pair.reconnect();
    pair.until_normal();
    pair.pay(Side::Local, 1, Msat(50_000_000));
    pair.master(Side::Remote).until("it is there", |rows| rows.peeled.len() == 1);
    pair.master(Side::Remote).order(&StartShutdown { script: script(9) });
    pair.master(Side::Local).until("both said it", |rows| rows.shutdown.local.is_some());
    let fees = |target| FeePolicy {
        target: FeeratePerKw(target),
        min: FeeratePerKw(253),
        max: FeeratePerKw(50_000),
    };
    pair.master(Side::Local).order(&FeesChanged { fees: fees(2000) });
    for side in Side::BOTH {
        let in_force = |rows: &mut super::master::Rows| rows.feerates == [FeeratePerKw(2000)];
        pair.master(side).until("the feerate is in force", in_force);
        assert!(pair.master(side).rows().handed_over.is_none());
    }
    let fulfil = Removal::Fulfilled { preimage: preimage(1) };
    pair.master(Side::Remote).rows().order_removal(HtlcId(0), &fulfil);
    // BOLT 2, shutdown: with the last HTLC updates end.
    pair.master(Side::Local).until("it is on its way out", |rows| !rows.learned.is_empty());
    pair.master(Side::Local).order(&FeesChanged { fees: fees(9000) });
    until_handed_over(&mut pair);
    assert_eq!(pair.master(Side::Local).rows().feerates, [FeeratePerKw(2000)]);
}

#[test]
fn our_updates_are_signed_before_our_shutdown() {
    for _ in 0..10 {
        let mut pair = Pair::normal(&Wish::default());
        {
            // Together in the socket: decided together.
            let rows = pair.master(Side::Local).rows();
            for key in 1..=5 {
                rows.order(&pair.an_offer(Side::Local, key, Msat(10_000_000)));
            }
            rows.order(&StartShutdown { script: script(9) });
        }
        until_handed_over(&mut pair);
        let said = numbers(&pair.link.as_ref().unwrap().said, Side::Local);
        let adds_after = said.iter().skip_while(|n| **n != 38).filter(|n| **n == 128).count();
        let before = said.iter().take_while(|n| **n != 38).filter(|n| [128, 132].contains(n));
        assert_eq!((adds_after, before.last()), (0, Some(&132)), "{said:?}");
        let rows = pair.master(Side::Local).rows();
        assert_eq!(rows.settled.len() + rows.refused.len(), 5);
    }
}

#[test]
fn shutdown_that_is_interrupted_at_any_message_goes_on() {
    for count in 0.. {
        let mut pair = Pair::normal(&Wish::default());
        pair.master(Side::Remote).rows().decide = Decide::Hold;
        pair.pay(Side::Local, 1, Msat(50_000_000));
        pair.master(Side::Remote).until("it is there", |rows| rows.peeled.len() == 1);
        pair.disconnect();

        let delivered = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&delivered);
        pair.reconnect_over(Box::new(move |_, message| {
            (counter.fetch_add(1, Ordering::SeqCst) < count).then(|| vec![message])
        }));
        let go = |pair: &Pair| {
            pair.master(Side::Local).order(&StartShutdown { script: script(9) });
            let mut rows = pair.master(Side::Remote).rows();
            let fulfil = Removal::Fulfilled { preimage: preimage(1) };
            rows.order_removal(HtlcId(0), &fulfil);
            rows.decided.insert(HtlcId(0), fulfil);
        };
        go(&pair);
        loop {
            for side in Side::BOTH {
                pair.master(side)
                    .until("an end", |r| r.handed_over.is_some() || r.failed.is_some());
            }
            let done = Side::BOTH.iter().all(|s| pair.master(*s).rows().handed_over.is_some());
            pair.nodes.local.ended().ok();
            pair.nodes.remote.ended().ok();
            for side in Side::BOTH {
                pair.master(side).rows().handed_over = None;
            }
            if done {
                break;
            }
            pair.link.take().unwrap().join();
            pair.reconnect();
            go(&pair);
        }
        let rows = pair.master(Side::Local).rows();
        assert_eq!(rows.shutdown.local, Some(script(9)));
        assert!(rows.shutdown.remote.is_some() && rows.is_quiet() && rows.settled.len() == 1);
        drop(rows);
        if delivered.load(Ordering::SeqCst) <= count {
            assert!(count > 6, "{count}");
            return;
        }
    }
}

#[test]
fn scripts_that_were_fixed_at_the_opening_are_the_only_ones() {
    let mut pair = Pair::ready(&Wish::default());
    pair.nodes.local.init.upfront_script =
        Sides { local: Some(script(3)), remote: Some(script(4)) };
    let mut stranger = pair.reestablished_stranger();
    let channel_id = pair.nodes.local.init.channel;
    stranger.send(&Shutdown { channel_id, scriptpubkey: script(4) });
    assert_eq!(stranger.until::<Shutdown>().scriptpubkey, script(3));
    assert_eq!(pair.nodes.local.ended(), Ok(()));

    pair.master(Side::Local).rows().shutdown = Sides { local: None, remote: None };
    let mut stranger = pair.reestablished_stranger();
    stranger.send(&Shutdown { channel_id, scriptpubkey: script(5) });
    assert!(stranger.until::<Warning>().text().contains("fixed when the channel was opened"));
    assert!(matches!(pair.nodes.local.ended(), Err(Failure::PeerWarn(_))));
    assert_eq!(pair.master(Side::Local).rows().shutdown.remote, None);
}

#[test]
fn shutdowns_that_the_law_forbids_are_refused() {
    let odd = ScriptBuf::from_bytes(vec![0x6a, 1, 7]);
    for (scripts, words_) in [
        (vec![odd], "a form that BOLT 2 does not list"),
        (vec![script(1), script(2)], "a second shutdown, to another script"),
    ] {
        let mut pair = Pair::ready(&Wish::default());
        pair.master(Side::Remote).rows().decide = Decide::Hold;
        pair.reconnect();
        pair.until_normal();
        // With an HTLC under way nobody closes at once.
        pair.pay(Side::Local, 1, Msat(50_000_000));
        pair.master(Side::Remote).until("it is there", |rows| rows.peeled.len() == 1);
        pair.disconnect();
        let mut stranger = pair.reestablished_stranger();
        let channel_id = pair.nodes.local.init.channel;
        for scriptpubkey in scripts {
            stranger.send(&Shutdown { channel_id, scriptpubkey: scriptpubkey.clone() });
            stranger.send(&Shutdown { channel_id, scriptpubkey });
        }
        assert!(stranger.until::<Warning>().text().contains(words_));
        let _ = pair.nodes.local.ended();
        assert!(words(&pair.master(Side::Local).rows().failed).contains(words_));
    }
}

#[test]
fn shutdown_is_said_again_on_a_new_connection() {
    let mut pair = Pair::ready(&Wish::default());
    pair.master(Side::Local).rows().shutdown.local = Some(script(9));
    let mut stranger = pair.reestablished_stranger();
    assert_eq!(stranger.until::<Shutdown>().scriptpubkey, script(9));
    let said = all::<Shutdown>(&Arc::default(), Side::Local);
    assert_eq!(said, []);
}

#[test]
fn peers_shutdown_is_awaited_on_each_connection() {
    // BOLT 2, "Message Retransmission": it says it again, and closingd must not be the one who
    // hears it.
    let mut pair = Pair::ready(&Wish::default());
    pair.master(Side::Local).rows().shutdown =
        Sides { local: Some(script(9)), remote: Some(script(8)) };
    let mut stranger = pair.reestablished_stranger();
    assert_eq!(stranger.until::<Shutdown>().scriptpubkey, script(9));
    let channel_id = pair.nodes.local.init.channel;
    stranger.send(&Shutdown { channel_id, scriptpubkey: script(8) });
    let ours = pair.master(Side::Local);
    ours.until("it is closingd's turn", |rows| rows.handed_over.is_some());
    let socket = ours.rows().handed_over.take().unwrap();
    let mut buffer = Vec::new();
    while let Some(Some(len)) =
        subdaemon::recv_record(std::os::fd::AsFd::as_fd(&socket), &mut buffer).unwrap()
    {
        assert_ne!(buffer[1..len][..2], 38u16.to_be_bytes());
    }
}

/// What is left in the socket that was handed over.
fn left_for_closingd(pair: &Pair, side: Side) -> Vec<u16> {
    let socket = pair.master(side).rows().handed_over.take().unwrap();
    let (mut buffer, mut left) = (Vec::new(), Vec::new());
    while let Ok(Some(Some(len))) =
        subdaemon::recv_record(std::os::fd::AsFd::as_fd(&socket), &mut buffer)
    {
        left.push(u16::from_be_bytes(buffer[1..len][..2].try_into().unwrap()));
    }
    left
}

fn first_offer(channel_id: ChannelId) -> ClosingSigned {
    let signature = Signature::from_compact(&[1; 64]).unwrap();
    ClosingSigned { channel_id, fee_satoshis: Sat(1), signature, fee_range: None }
}

#[test]
fn closing_signed_right_behind_the_last_revocation_is_closingds() {
    // The funder owes nothing after its revoke_and_ack, and goes on at once.
    for _ in 0..5 {
        let mut pair = Pair::ready(&Wish::default());
        pair.master(Side::Remote).rows().decide = Decide::Hold;
        let offer = first_offer(pair.nodes.local.init.channel).encode();
        let mut is_last = false;
        pair.reconnect_over(Box::new(move |side, message| {
            is_last |= side == Side::Remote && message.starts_with(&[0, 130]);
            let goes_on = side == Side::Remote && is_last && message.starts_with(&[0, 133]);
            Some(if goes_on { vec![message, offer.clone()] } else { vec![message] })
        }));
        pair.until_normal();
        pair.pay(Side::Local, 1, Msat(50_000_000));
        pair.master(Side::Remote).until("it is there", |rows| rows.peeled.len() == 1);
        pair.master(Side::Local).order(&StartShutdown { script: script(9) });
        pair.master(Side::Remote).until("both said it", |rows| rows.shutdown.local.is_some());
        let fulfil = Removal::Fulfilled { preimage: preimage(1) };
        pair.master(Side::Remote).rows().order_removal(HtlcId(0), &fulfil);
        until_handed_over(&mut pair);
        assert_eq!(left_for_closingd(&pair, Side::Local), [39]);
    }
}

#[test]
fn closing_signed_behind_a_repeated_shutdown_is_closingds() {
    let mut pair = Pair::ready(&Wish::default());
    pair.master(Side::Local).rows().shutdown =
        Sides { local: Some(script(9)), remote: Some(script(8)) };
    let channel_id = pair.nodes.local.init.channel;
    let theirs = pair.their_reestablish();
    let stranger = pair.stranger(Birth::Reconnected);
    stranger.send(&theirs);
    stranger.send(&Shutdown { channel_id, scriptpubkey: script(8) });
    stranger.send(&first_offer(channel_id));
    let ours = pair.master(Side::Local);
    ours.until("an end", |rows| rows.handed_over.is_some() || rows.failed.is_some());
    assert!(ours.rows().failed.is_none(), "{}", words(&ours.rows().failed));
    assert_eq!(left_for_closingd(&pair, Side::Local), [39]);
}

#[test]
fn updates_before_a_shutdown_are_taken_when_resent() {
    // The peer's add, its signature and its shutdown came together, and only the shutdown is on
    // disk.
    let mut pair = Pair::ready(&Wish::default());
    pair.reconnect_over(Box::new(|side, message| {
        let is_lost = side == Side::Remote && (message[1] == 128 || message[1] == 132);
        Some(if is_lost { vec![] } else { vec![message] })
    }));
    pair.until_normal();
    pair.know(Side::Remote, 1);
    {
        let rows = pair.master(Side::Remote).rows();
        rows.order(&pair.an_offer(Side::Remote, 1, Msat(10_000_000)));
        rows.order(&StartShutdown { script: script(9) });
    }
    pair.master(Side::Local).until("it is on disk", |rows| rows.shutdown.remote.is_some());
    pair.disconnect();
    for side in Side::BOTH {
        pair.master(side).rows().failed = None;
    }
    pair.reconnect();
    until_handed_over(&mut pair);
    assert_eq!(pair.master(Side::Remote).rows().settled.len(), 1);
}
