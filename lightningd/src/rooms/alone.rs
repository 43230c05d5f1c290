//! Each room alone: with its rows and the rooms below it, and nothing above. What it would tell
//! those above is looked at.

use crate::kernel;
use crate::kernel::children::Supervisor;
use crate::kernel::turn;
use crate::kernel::turn::{House, Turn};
use crate::kernel::words::event::Event;
use crate::kernel::words::news::News;
use crate::kernel::words::outgoing::Outgoing;
use crate::kernel::words::rooms::{HtlcEvent, OnchainEvent};
use crate::rooms::channels::state::Cause;
use crate::rooms::channels::testing as channel;
use crate::rooms::{chain, channels, htlcs, invoices, onchain, payments, peers, wallet};
use crate::sys::fatal::Stop;
use crate::sys::hsm::HsmClient;
use crate::sys::options::Config;
use bitcoin::absolute::LockTime;
use bitcoin::bip32::{Xpriv, Xpub};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, Transaction, TxIn, TxOut};
use primitives::*;
use rusqlite::Connection;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use wire::connectd::{Address, Connected, Direction};

fn db() -> Connection {
    crate::sys::db::open(Path::new(":memory:")).unwrap()
}

fn ground() -> kernel::Scope {
    let config = Config::for_network(Network::Regtest);
    crate::start::ground(config, channel::peer(9), Supervisor::default()).unwrap()
}

fn to_wallet() -> wallet::Scope {
    let key = Xpriv::new_master(bitcoin::Network::Regtest, &[1; 32]).unwrap();
    let xpub = Xpub::from_priv(secp256k1::SECP256K1, &key);
    let below = chain::Scope::on(ground(), chain::Chain::default());
    wallet::Scope::on(below, wallet::Wallet::new(xpub, 0, BTreeMap::new()))
}

fn to_peers() -> peers::Scope {
    peers::Scope::on(to_wallet(), peers::Peers::default())
}

fn to_channels(db: &Connection) -> channels::Scope {
    channels::Scope::on(to_peers(), channels::store::load::load(db).unwrap())
}

fn to_payments(db: &Connection) -> payments::Scope {
    let below = invoices::Scope::on(to_channels(db), invoices::Invoices::default());
    payments::Scope::on(below, payments::Payments::default())
}

fn to_htlcs(db: &Connection) -> htlcs::Scope {
    htlcs::Scope::on(to_payments(db), htlcs::store::load(db).unwrap())
}

/// One turn on this floor: what is said, and the events for whoever stands above.
fn turn<S: House>(
    scope: &mut S,
    db: &Connection,
    what: impl Fn(&S, &mut Turn<'_>) -> Result<(), Stop>,
) -> (Vec<Outgoing>, Vec<Event>) {
    let (ours, _theirs) = subdaemon::stream_pair().unwrap();
    let mut hsm = HsmClient::new(ours).unwrap();
    let told = RefCell::new(Vec::new());
    let first = RefCell::new(true);
    let handle = |scope: &S, turn: &mut Turn<'_>, event: Event| {
        if first.replace(false) {
            return what(scope, turn);
        }
        told.borrow_mut().push(event);
        Ok(())
    };
    let begin = vec![Event::Reconnect(channel::peer(1), Instant::now())];
    let (outbox, _) = turn::run(scope, db, &mut hsm, (begin, true), handle).unwrap();
    (outbox.0, told.into_inner())
}

fn block(outputs: Vec<TxOut>) -> Block {
    let mut block = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    block.txdata.push(transaction(outputs));
    block
}

fn transaction(output: Vec<TxOut>) -> Transaction {
    let input = vec![TxIn::default()];
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}

#[test]
fn chain_alone_keeps_headers() {
    let (db, block) = (db(), block(vec![]));
    let mut scope = chain::Scope::on(ground(), chain::Chain::default());
    turn(&mut scope, &db, |node, turn| chain::headers::add(node, turn, BlockHeight(7), &block));
    assert_eq!(scope.chain.height(), BlockHeight(7));
    assert_eq!(chain::store::hash_at(&db, 7).unwrap(), Some(block.block_hash()));
    turn(&mut scope, &db, |node, turn| {
        chain::headers::forget(turn, BlockHeight(7))?;
        chain::headers::remove_tip(node, turn);
        Ok(())
    });
    assert_eq!(
        (scope.chain.height(), chain::store::hash_at(&db, 7).unwrap()),
        (BlockHeight(0), None)
    );
}

#[test]
fn wallet_alone_receives_in_a_block_and_undoes_on_refusal() {
    let (db, mut scope) = (db(), to_wallet());
    let script_pubkey = scope.wallet.script(1, wallet::AddressKind::Taproot);
    let block = block(vec![TxOut { value: Amount::from_sat(5000), script_pubkey }]);
    let rows =
        || -> u32 { db.query_row("SELECT count(*) FROM outputs", [], |row| row.get(0)).unwrap() };
    turn(&mut scope, &db, |node, turn| {
        wallet::blocks::joined(node, turn, BlockHeight(7), &block)?;
        Err(Stop::refused("a test"))
    });
    assert_eq!((scope.wallet.outputs.len(), rows()), (0, 0));
    turn(&mut scope, &db, |node, turn| wallet::blocks::joined(node, turn, BlockHeight(7), &block));
    assert_eq!((scope.wallet.outputs.len(), rows()), (1, 1));
}

#[test]
fn peers_alone_remember_a_connection_until_it_ends() {
    let (db, mut scope, peer) = (db(), to_peers(), channel::peer(1));
    let connected = Connected {
        node: peer,
        connection: 3,
        direction: Direction::In,
        address: Address { host: "127.0.0.1".to_owned(), port: 9735 },
        remote_addr: None,
        features: Features::default(),
    };
    turn(&mut scope, &db, |node, turn| {
        peers::connections::begin(node, turn, connected.clone()).map(|_| ())
    });
    assert_eq!(scope.peers.connections(), [(peer, 3)]);
    turn(&mut scope, &db, |node, turn| {
        assert!(peers::connections::end(node, turn, (peer, 3), "a test", false));
        Ok(())
    });
    assert!(scope.peers.all.is_empty(), "a peer without channel and address leaves nothing behind");
}

#[test]
fn channels_alone_fail_a_channel_and_tell_nobody_above() {
    let db = db();
    channel::insert(&db, 1, 1);
    let mut scope = to_channels(&db);
    let (said, told) = turn(&mut scope, &db, |node, turn| {
        let channel = &node.channels.all[&ChannelNumber(1)];
        channels::fail::fail_channel(node, turn, channel, Cause::Protocol, "a test")
    });
    let state = channels::state::State::AwaitingUnilateral;
    assert_eq!(scope.channels.all[&ChannelNumber(1)].state, state);
    assert!(said.iter().any(|o| matches!(o, Outgoing::Then(Event::Channel(..)))), "{said:?}");
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn invoices_alone_are_paid_once_and_tell_the_news() {
    let db = db();
    let mut scope = invoices::Scope::on(to_channels(&db), invoices::Invoices::default());
    let preimage = Preimage([7; 32]);
    let invoice = invoices::Invoice {
        created_index: 1,
        updated_index: None,
        label: "a".to_owned(),
        hash: preimage.hash(),
        preimage,
        secret: PaymentSecret([8; 32]),
        amount: Some(Msat(1000)),
        description: None,
        bolt11: "lnbcrt".to_owned(),
        min_final_cltv: CltvDelta(10),
        status: invoices::Status::Unpaid,
        expires_at: u64::MAX >> 1,
        paid: None,
    };
    turn(&mut scope, &db, |node, turn| invoices::settle::add(node, turn, invoice.clone()));
    let (said, _) = turn(&mut scope, &db, |node, turn| {
        let shown = invoices::settle::paid(node, turn, preimage.hash(), Msat(1001))?;
        assert_eq!(shown, preimage);
        Ok(())
    });
    let news = News::InvoicePaid { label: "a".to_owned(), preimage, received: Msat(1001) };
    assert!(said.iter().any(|o| matches!(o, Outgoing::News(n) if *n == news)), "{said:?}");
    assert_eq!(invoices::store::load(&db).unwrap().by_label("a").unwrap().status_name(0), "paid");
}

#[test]
fn payments_alone_fail_what_no_htlc_was_offered_for() {
    let db = db();
    let mut scope = to_payments(&db);
    let payment = payments::Payment {
        created_index: 1,
        updated_index: None,
        hash: PaymentHash([7; 32]),
        partid: 0,
        groupid: 0,
        status: payments::Status::Pending,
        amount: Some(Msat(1000)),
        sent: Msat(1000),
        total: Msat(1000),
        destination: None,
        label: None,
        bolt11: None,
        description: None,
        created_at: 0,
        completed_at: None,
        preimage: None,
        secrets: vec![],
        route: vec![payments::RouteHop { node: channel::peer(1), channel: ShortChannelId(1) }],
        channel: ChannelNumber(1),
        failure: None,
    };
    payments::store::insert(&db, &payment).unwrap();
    scope.payments.insert(payment);
    turn(&mut scope, &db, |node, turn| payments::ends::fail_unbound(node, turn, None));
    assert_eq!(scope.payments.all[&1].status, payments::Status::Failed);
}

#[test]
fn htlcs_alone_wait_for_the_tip_and_then_decide() {
    let db = db();
    let mut scope = to_htlcs(&db);
    turn(&mut scope, &db, htlcs::decide::begin);
    let (_, told) = turn(&mut scope, &db, |node, turn| {
        htlcs::decide::tip_found(node, turn);
        Ok(())
    });
    assert!(matches!(told.as_slice(), [Event::Htlc(HtlcEvent::DecideAll)]), "{told:?}");
}

#[test]
fn onchain_alone_remembers_a_commitment_that_was_sent() {
    let db = db();
    channel::insert(&db, 1, 1);
    let mut scope = onchain::Scope::on(to_htlcs(&db), onchain::Onchain::default());
    let sent = OnchainEvent::CommitmentSent(transaction(vec![]));
    turn(&mut scope, &db, |node, turn| {
        onchain::events::handle(node, turn, ChannelNumber(1), sent.clone())
    });
    assert!(onchain::any_open(&scope));
    let gone = OnchainEvent::ChannelForgotten;
    turn(&mut scope, &db, |node, turn| {
        onchain::events::handle(node, turn, ChannelNumber(1), gone.clone())
    });
    assert!(!onchain::any_open(&scope));
}
