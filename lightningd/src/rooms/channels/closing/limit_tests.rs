//! The limit of a close that the peer began, beside what a local `close` asks for, and after a
//! restart.

use crate::api::rpc::table;
use crate::kernel::words::event::Event;
use crate::kernel::words::rooms::ChannelEvent;
use crate::rooms::channels::state::{Cause, State};
use crate::rooms::channels::testing::htlc;
use crate::rooms::channels::{Owner, store};
use crate::sys::args::Args;
use crate::sys::form::Caller;
use crate::sys::json::now;
use crate::testing::{Rig, Said};
use primitives::*;
use serde_json::{Value, json};
use wire::channel_data::Stage;

const CHANNEL: ChannelNumber = ChannelNumber(1);
const TWO_DAYS: u64 = 172_800;

fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array([byte; 20]))
}

/// The peer said `shutdown`, and so did we; `pending`: an HTLC is not settled. What the next block
/// says.
fn peer_closes(name: &str, pending: bool) -> (Rig, Vec<Said>) {
    let mut rig = Rig::new(name, &[(1, 1)]);
    store::set_state(&rig.db, CHANNEL, State::ShuttingDown, Cause::Remote, "a test").unwrap();
    store::set_closer(&rig.db, CHANNEL, Side::Remote).unwrap();
    for (side, byte) in [(Side::Local, 1), (Side::Remote, 2)] {
        store::set_shutdown(&rig.db, CHANNEL, side, &script(byte)).unwrap();
    }
    rig.crash();
    if pending {
        let hash = Preimage([1; 32]).hash();
        let it = htlc(Side::Local, (0, 7), (400_000_000, 500), hash, Stage::Irrevocable);
        rig.node.channels.all.get_mut(&CHANNEL).unwrap().live.htlcs.0.push(it);
    }
    let said = tip(&mut rig);
    (rig, said)
}

fn tip(rig: &mut Rig) -> Vec<Said> {
    let said = rig.run(Event::NewTip(BlockHeight(100)));
    said.into_iter().filter(|s| matches!(s, Said::CloseTimeout(..))).collect()
}

/// `close` with this timeout.
fn close(rig: &mut Rig, unilateraltimeout: Value) -> Vec<Said> {
    let method = table::find("close").unwrap();
    let id = rig.channel(1).id.to_string();
    rig.turn(move |node, turn| {
        let mut given = json!({"id": id});
        if !unilateraltimeout.is_null() {
            given["unilateraltimeout"] = unilateraltimeout.clone();
        }
        let args = Args::parse(method.params, &given).unwrap();
        let caller = Caller { conn: 1, id: "1".into(), filter: None, notify: false };
        (method.run.unwrap())(node, turn, &args, &caller).map(|_| ())
    })
}

/// In how many seconds the channel fails. On disk, too.
fn limit(rig: &mut Rig) -> Option<u64> {
    let live = rig.channel(1).close_by;
    rig.crash();
    assert_eq!(rig.channel(1).close_by, live);
    live.map(|by| by.saturating_sub(now()))
}

/// The peer has used up all but this of its time.
fn left(rig: &mut Rig, seconds: u64) {
    let by = Some(now() + seconds);
    store::set_close_by(&rig.db, CHANNEL, by).unwrap();
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().close_by = by;
}

fn is_about(limit: Option<u64>, seconds: u64) -> bool {
    limit.is_some_and(|limit| (seconds - 60..=seconds).contains(&limit))
}

#[test]
fn close_without_a_timeout_keeps_the_limit_of_the_peers_close() {
    let (mut rig, said) = peer_closes("limit-kept", false);
    assert_eq!(said, [Said::CloseTimeout(1, TWO_DAYS)]);
    left(&mut rig, 5000);
    close(&mut rig, Value::Null);
    tip(&mut rig);
    assert!(is_about(limit(&mut rig), 5000));
}

#[test]
fn close_with_timeout_0_waits_for_the_peer_without_limit() {
    let (mut rig, _) = peer_closes("limit-none", false);
    left(&mut rig, 5000);
    assert_eq!(close(&mut rig, json!(0)), []);
    assert_eq!(tip(&mut rig), [], "two days are given again");
    assert_eq!(limit(&mut rig), None);
    assert_eq!(tip(&mut rig), [], "after a restart, too");
    // What was due before that `close` is not due any more.
    rig.run(Event::Channel(CHANNEL, ChannelEvent::CloseTimeout));
    assert!(rig.channel(1).state.is_open());
    // Who wants a limit again says so.
    close(&mut rig, Value::Null);
    assert!(is_about(limit(&mut rig), TWO_DAYS));
}

#[test]
fn close_with_a_timeout_replaces_the_limit_of_the_peers_close() {
    for (pending, seconds) in [(false, 600), (false, 400_000), (true, 600)] {
        let (mut rig, _) = peer_closes(&format!("limit-asked-{pending}-{seconds}"), pending);
        assert_eq!(close(&mut rig, json!(seconds)), [Said::CloseTimeout(1, seconds)]);
        tip(&mut rig);
        assert!(is_about(rig.channel(1).close_by.map(|by| by - now()), seconds), "{pending}");
        left(&mut rig, 0);
        rig.run(Event::Channel(CHANNEL, ChannelEvent::CloseTimeout));
        // Also while HTLCs are pending: so it was asked.
        assert_eq!(rig.channel(1).state, State::AwaitingUnilateral);
    }
}

/// Its time is that of the peer, not of what is pending: it begins with the last HTLC's end.
#[test]
fn close_without_timeout_sets_no_limit_while_htlcs_are_pending() {
    let (mut rig, said) = peer_closes("limit-pending", true);
    assert_eq!(said, []);
    assert_eq!(close(&mut rig, Value::Null), []);
    assert_eq!(rig.channel(1).close_by, None);
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().live.htlcs.0.clear();
    assert_eq!(tip(&mut rig), [Said::CloseTimeout(1, TWO_DAYS)]);
}

/// The node was down when the peer's time ended: the peer has an hour from the start to bring its
/// close to an end.
#[test]
fn limit_of_the_peers_close_leaves_an_hour_after_a_restart() {
    let (mut rig, _) = peer_closes("limit-restart", false);
    // (The time left or over at the start, the time that the peer gets.)
    for (left_at_start, expected) in [(0, 3600), (600, 3600), (5000, 5000)] {
        left(&mut rig, left_at_start);
        let said = rig.crash();
        let found = said.iter().find_map(|s| match s {
            Said::CloseTimeout(1, seconds) => Some(*seconds),
            _ => None,
        });
        assert!(is_about(found, expected), "{left_at_start}: {said:?}");
        assert!(rig.channel(1).state.is_open());
    }
    // The hour is over.
    left(&mut rig, 0);
    rig.crash();
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().owner = Owner::Nobody;
    rig.run(Event::Channel(CHANNEL, ChannelEvent::CloseTimeout));
    assert_eq!(rig.channel(1).state, State::AwaitingUnilateral);
}
