//! connectd dies, and again, and cannot listen: the node goes on.

use super::connectd::listening;
use super::*;
use crate::flows::peer::{connectd_gone, start_connectd};
use crate::kernel::waits::For;
use crate::kernel::words::event::Event;
use crate::kernel::words::outgoing::Outgoing;
use crate::rooms::channels::testing::peer;
use crate::rooms::peers::connectd::begin;
use crate::sys::args::Args;
use crate::sys::children::ChildId;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError};
use crate::testing::Rig;
use primitives::{BlockHeight, ChannelNumber};
use serde_json::json;
use std::cell::RefCell;
use wire::Message;

fn child(rig: &Rig) -> ChildId {
    rig.node.peers.connectd.child().expect("connectd runs")
}

/// connectd dies now. How long nobody starts another.
fn dies(rig: &mut Rig, now: Instant) -> Duration {
    rig.turn(move |node, turn| {
        connectd_gone(node, turn, now);
        Ok(())
    });
    rig.node.peers.connectd.down_until().expect("connectd is down") - now
}

/// The pause is over.
fn starts(rig: &mut Rig) {
    let at = rig.node.peers.connectd.down_until().unwrap();
    rig.turn(move |node, turn| start_connectd(node, turn, at));
}

#[test]
fn connectd_numbers_its_connections_apart_from_the_last_one() {
    let mut rig = Rig::new("connectd-numbers", &[]);
    let begin = |rig: &mut Rig| {
        let said = rig.outbox(|node, turn| super::connectd::begin(node, turn));
        let init = said.into_iter().find_map(|o| match o {
            Outgoing::Spawn(spec) => ConnectdInit::take_body(&spec.init[2..]).ok(),
            _ => None,
        });
        init.expect("connectd is born").last_connection
    };
    let first = begin(&mut rig);
    dies(&mut rig, Instant::now());
    assert!(begin(&mut rig) >= first + (1 << 40));
    assert_eq!(first % (1 << 40), 0);
}

fn info(rig: &mut Rig) -> serde_json::Value {
    let told = RefCell::new(json!(null));
    rig.turn(|node, turn| {
        let caller = Caller { conn: 1, id: "1".to_owned(), filter: None, notify: false };
        let answer = crate::api::rpc::basics::getinfo(node, turn, &Args::default(), &caller)?;
        let Answer::Now(value) = answer else { unreachable!("getinfo waits for nobody") };
        told.replace(value);
        Ok(())
    });
    told.into_inner()
}

fn connect_at_once(rig: &mut Rig) -> Result<(), RpcError> {
    let told = RefCell::new(Ok(()));
    rig.turn(|node, turn| {
        turn.install_as::<super::Scope, _>(|_| ());
        drop(told.replace(node.peers.needs_connectd()));
        Ok(())
    });
    told.into_inner()
}

#[test]
fn connectd_that_dies_forever_is_started_forever_ever_later() {
    let mut rig = Rig::new("connectd-dies", &[(1, 1)]);
    rig.turn(|node, turn| begin(node, turn));
    let start = Instant::now();
    // Whatever the machine's time between two of these lines is: all of them died young.
    for expected in [0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60] {
        let before = child(&rig);
        assert_eq!(dies(&mut rig, start), Duration::from_secs(expected));
        assert_eq!(rig.node.peers.connectd.child(), None);
        starts(&mut rig);
        assert_ne!(child(&rig), before);
    }
    let healthy = Instant::now() + Duration::from_secs(120);
    assert_eq!(dies(&mut rig, healthy), Duration::ZERO, "it lived for two minutes");
}

#[test]
fn connectd_that_is_down_is_said_to_be_and_nobody_waits_for_it() {
    let mut rig = Rig::new("connectd-down", &[(1, 1)]);
    rig.turn(|node, turn| begin(node, turn));
    assert_eq!(info(&mut rig).get("warning_connectd"), None);
    assert!(connect_at_once(&mut rig).is_ok());
    // Somebody waits for a connection when it dies: it is answered in the same turn.
    let stranger = peer(5);
    rig.turn(move |node, turn| {
        let caller = Caller { conn: 1, id: "7".to_owned(), filter: None, notify: false };
        crate::kernel::waiting::add(node, turn, &caller, For::Connect(stranger), Some(120));
        Ok(())
    });
    for _ in 0..3 {
        dies(&mut rig, Instant::now());
        assert!(!rig.node.waits.any(|f| *f == For::Connect(stranger)));
        let warning = info(&mut rig)["warning_connectd"].as_str().unwrap().to_owned();
        assert!(warning.contains("connectd died"), "{warning}");
        let refused = connect_at_once(&mut rig).unwrap_err();
        assert!(refused.message.contains("try again then"), "{}", refused.message);
        // Neither is the pause over for a time of another death.
        rig.turn(|node, turn| start_connectd(node, turn, Instant::now()));
        assert_eq!(rig.node.peers.connectd.child(), None);
        starts(&mut rig);
    }
    assert_eq!(info(&mut rig).get("warning_connectd"), None);
}

fn says(rig: &mut Rig, addresses: usize, failures: usize) -> Result<(), Stop> {
    let at = |n| Address { host: "10.0.0.1".to_owned(), port: n as u16 };
    let failed = || DialFailure { address: "10.0.0.1:1".to_owned(), why: "in use".to_owned() };
    let told = RefCell::new(Ok(()));
    rig.turn(|node, turn| {
        let addresses = (0..addresses).map(at).collect();
        let failures = (0..failures).map(|_| failed()).collect();
        drop(told.replace(listening(node, turn, Listening { addresses, failures })));
        Ok(())
    });
    told.into_inner()
}

#[test]
fn connectd_without_an_address_fails_the_first_start_only() {
    let mut rig = Rig::new("connectd-deaf", &[]);
    rig.turn(|node, turn| begin(node, turn));
    assert!(matches!(says(&mut rig, 0, 2), Err(Stop::Fatal(_))), "an option is wrong");
    says(&mut rig, 1, 2).unwrap();
    assert_eq!(rig.node.peers.listening().len(), 1);
    assert!(matches!(says(&mut rig, 0, 2), Err(Stop::Refused(_))), "once is enough");
    for _ in 0..3 {
        dies(&mut rig, Instant::now());
        starts(&mut rig);
        says(&mut rig, 0, 2).unwrap();
        assert!(rig.node.peers.listening().is_empty());
        assert!(info(&mut rig)["warning_listen"].is_string());
        assert!(says(&mut rig, 1, 0).is_err(), "once is enough");
    }
    dies(&mut rig, Instant::now());
    starts(&mut rig);
    says(&mut rig, 100_000, 0).unwrap();
    assert_eq!(rig.node.peers.listening().len(), 64);
    assert_eq!(info(&mut rig).get("warning_listen"), None);
}

#[test]
fn connectd_knows_funded_peers_before_any_may_come() {
    let mut rig = Rig::new("connectd-friends", &[(1, 1), (2, 2)]);
    let channels = &mut rig.node.channels.all;
    channels.get_mut(&ChannelNumber(1)).unwrap().funding_height = Some(BlockHeight(50));
    channels.get_mut(&ChannelNumber(2)).unwrap().funding_height = None;
    rig.turn(|node, turn| begin(node, turn));
    let orders = |outbox: Vec<Outgoing>| -> Vec<ToConnectd> {
        let order = |outgoing| match outgoing {
            Outgoing::Order { body, .. } => Some(ToConnectd::decode_known(&body).unwrap()),
            _ => None,
        };
        outbox.into_iter().filter_map(order).collect()
    };
    let said = orders(rig.outbox(|node, turn| {
        crate::flows::peer::activate(node, turn);
        Ok(())
    }));
    let [ToConnectd::FundedPeers(first), ToConnectd::Activate(_), ..] = &said[..] else {
        unreachable!("{said:?}")
    };
    assert_eq!(first.nodes, [peer(1)]);
    assert!(!rig.node.peers.is_news_to_connectd(&rig.node.channels.funded_peers()));
    // Another funding confirms.
    let second = rig.node.channels.all.get_mut(&ChannelNumber(2)).unwrap();
    second.funding_height = Some(BlockHeight(60));
    assert!(rig.node.peers.is_news_to_connectd(&rig.node.channels.funded_peers()));
    let said = orders(rig.outgoing(Event::TellFundedPeers));
    let [ToConnectd::FundedPeers(both)] = &said[..] else { unreachable!("{said:?}") };
    assert_eq!(both.nodes.len(), 2);
    assert!(!rig.node.peers.is_news_to_connectd(&rig.node.channels.funded_peers()));
}
