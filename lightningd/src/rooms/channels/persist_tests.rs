//! A channeld that was captured: what it has stored may ruin its channel, and nothing else. And an
//! error that no channeld reads.

use crate::kernel::words::event::Event;
use crate::rooms::channels::state::State;
use crate::rooms::channels::testing::{adds, htlc, moves, settles};
use crate::rooms::wallet::AddressKind;
use crate::testing::{Rig, Said};
use primitives::*;
use subdaemon::Frame;
use wire::channel_data::*;
use wire::channeld::{Peeled, PeeledHtlc, Persist, PersistShutdown, ReadyToClose};
use wire::connectd::{FromConnectd, PeerComplained};
use wire::{Long, Message, Request, Wire};

fn received(id: u64, amount: u64, expiry: u32) -> LiveHtlc {
    let hash = PaymentHash([1; 32]);
    htlc(Side::Remote, (id, 0), (amount, expiry), hash, Stage::InReceivers)
}

/// An honest step, and what this makes of it.
fn lie(rig: &Rig, what: impl FnOnce(&mut ChannelChange)) -> Persist {
    let mut change = adds(&rig.channel(1).live, received(0, 1000, 200));
    what(&mut change);
    Persist { changes: vec![change], peeled: Long(vec![]) }
}

type Lie = fn(&mut ChannelChange);

#[test]
fn channeld_that_lies_about_its_channel_is_killed_alone() {
    let lies: [Lie; 16] = [
        |c| c.added.0[0].htlc.amount = Msat(u64::MAX),
        |c| c.added.0[0].htlc.amount = Msat(1_000_000_001),
        |c| c.added.0[0].htlc.expiry = BlockHeight(u32::MAX),
        |c| c.added.0[0].htlc.id = HtlcId(u64::MAX),
        |c| c.added.0[0].in_remote_until = Some(CommitmentNumber(u64::MAX)),
        // The key of somebody else's HTLC: only ours have one.
        |c| c.added.0[0].key = 7,
        |c| c.next_htlc_id.remote = HtlcId(0),
        |c| c.next_htlc_id.local = HtlcId(u64::MAX),
        |c| c.balance.local = Msat(u64::MAX),
        |c| c.balance = Sides { local: Msat(600_000_000), remote: Msat(500_000_000) },
        // Money that no HTLC moved.
        |c| c.balance = Sides { local: Msat(500_000_001), remote: Msat(499_999_999) },
        // More than the peer has to offer.
        |c| c.added.0[0].htlc.amount = Msat(500_000_001),
        |c| {
            let removal = Removal::Failed { reason: vec![] };
            c.added.0[0].removed = Some(StagedRemoval { removal, stage: Stage::InReceivers });
        },
        |c| c.commitment.remote = CommitmentNumber(1 << 63),
        |c| c.revoked.local = CommitmentNumber(1 << 48),
        |c| {
            let secret = Secret::new([1; 32]);
            c.remote_secrets.0.push(StoredSecret { index: u64::MAX, secret });
        },
    ];
    for (n, what) in lies.into_iter().enumerate() {
        let mut rig = Rig::new(&format!("lies-{n}"), &[(1, 1)]);
        let said = rig.persist(1, &lie(&rig, what));
        assert_eq!(said, [Said::Kill(1)], "lie {n}");
        assert!(rig.channel(1).live.htlcs.0.is_empty(), "lie {n}");
        assert_eq!(rig.persist(1, &lie(&rig, |_| ())), []);
    }
}

/// The peer's HTLC of 1000 msat is there and irrevocable, and the master has read its payload. What
/// this makes of it.
fn peeled_and(rig: &mut Rig, removed: Option<Removal>, settle: bool) -> Vec<Said> {
    let mut it = received(0, 1000, 200);
    it.added = Stage::Irrevocable;
    it.removed = removed.map(|removal| StagedRemoval { removal, stage: Stage::InReceivers });
    let live = &rig.channel(1).live;
    let change = if settle { settles(live, &it) } else { moves(live, &it) };
    rig.persist(1, &Persist { changes: vec![change], peeled: Long(vec![]) })
}

/// Otherwise the money that the switch paid for it over another channel would be gone, time after
/// time.
#[test]
fn received_htlc_ends_as_the_master_decided_and_not_otherwise() {
    let preimage = Preimage([3; 32]);
    let fulfilled = || Removal::Fulfilled { preimage };
    let failed = || Removal::Failed { reason: vec![1] };
    let rig = |name: &str, decided: Option<Removal>| {
        let mut rig = Rig::new(name, &[(1, 1)]);
        let mut it = received(0, 1000, 200);
        it.htlc.payment_hash = preimage.hash();
        it.added = Stage::Irrevocable;
        let changes = vec![adds(&rig.channel(1).live, it)];
        assert_eq!(rig.persist(1, &Persist { changes, peeled: Long(vec![]) }), []);
        let channel = rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap();
        let peeled =
            Peeled::Unreadable { sha256_of_onion: Sha256Digest([0; 32]), failure_code: 0xc005 };
        channel.peeled.insert(HtlcId(0), PeeledHtlc { id: HtlcId(0), peeled });
        channel.decided.extend(decided.map(|d| (HtlcId(0), d)));
        rig
    };
    let killed = [Said::Kill(1)];
    for (n, (decided, says, holds)) in [
        (Some(fulfilled()), fulfilled(), true),
        (Some(fulfilled()), failed(), false),
        (Some(failed()), failed(), true),
        (Some(failed()), fulfilled(), false),
        (None, failed(), false),
        (None, fulfilled(), false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut rig = rig(&format!("ends-{n}"), decided);
        let said = peeled_and(&mut rig, Some(says.clone()), false);
        assert_eq!(said.is_empty(), holds, "case {n}");
        // It cannot leave without an end, nor with another one than it has.
        if holds {
            assert_eq!(peeled_and(&mut rig, None, false), killed, "case {n}");
            let mut rig = self::rig_again(rig);
            assert_eq!(peeled_and(&mut rig, Some(says), true), [], "case {n}");
        } else {
            assert_eq!(peeled_and(&mut rig, None, true), killed, "case {n}");
        }
    }
}

/// channeld removes by itself what is too much dust. Where it signs the removal in the step that
/// says so, the removal is stored before lightningd decides, and goes on from stage to stage.
#[test]
fn removal_that_channeld_stored_with_its_refusal_goes_on() {
    let mut rig = Rig::new("refused-at-once", &[(1, 1)]);
    let it = received(0, 1000, 200);
    let changes = vec![adds(&rig.channel(1).live, it.clone())];
    assert_eq!(rig.persist(1, &Persist { changes, peeled: Long(vec![]) }), []);
    let removal = Removal::Failed { reason: vec![1] };
    let refused =
        PeeledHtlc { id: HtlcId(0), peeled: Peeled::Refused { removal: removal.clone() } };
    let at = |rig: &mut Rig, stage, peeled| {
        let mut it = it.clone();
        it.added = Stage::Irrevocable;
        it.removed = Some(StagedRemoval { removal: removal.clone(), stage });
        let changes = vec![moves(&rig.channel(1).live, &it)];
        rig.persist(1, &Persist { changes, peeled: Long(peeled) })
    };
    assert_eq!(at(&mut rig, Stage::InReceivers, vec![refused]), []);
    assert_eq!(at(&mut rig, Stage::PendingOnSender, vec![]), []);
}

/// BOLT 2, update_add_htlc: what the peer fulfils in a commitment it may offer again in the same
/// one.
#[test]
fn htlc_paid_from_a_fulfil_of_the_same_commitment_is_stored() {
    let mut rig = Rig::new("spends-at-once", &[(1, 1)]);
    let preimage = Preimage([3; 32]);
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap();
    channel.live.balance = Sides { local: Msat(1_000_000_000), remote: Msat(0) };
    let ours = htlc(Side::Local, (0, 7), (50_000, 200), preimage.hash(), Stage::Irrevocable);
    channel.live.next_htlc_id.local = HtlcId(1);
    channel.live.htlcs.0.push(ours.clone());
    // Without that it has nothing to offer.
    assert_eq!(rig.persist(1, &lie(&rig, |_| ())), [Said::Kill(1)]);
    let removal = Removal::Fulfilled { preimage };
    let removed = Some(StagedRemoval { removal, stage: Stage::InReceivers });
    let mut change = moves(&rig.channel(1).live, &LiveHtlc { removed, ..ours });
    change.added.0.push(received(0, 50_000, 200));
    change.next_htlc_id.remote = HtlcId(1);
    assert_eq!(rig.persist(1, &Persist { changes: vec![change], peeled: Long(vec![]) }), []);
}

/// After a daemon was killed: the same rows with another one.
fn rig_again(mut rig: Rig) -> Rig {
    rig.crash();
    rig
}

#[test]
fn a_daemon_cannot_have_more_htlcs_stored_than_a_channel_has() {
    let mut rig = Rig::new("flood", &[(1, 1)]);
    for n in 0..4 {
        let mut change = adds(&rig.channel(1).live, received(n * 483 + 482, 1000, 200));
        change.added.0 = (0..483).map(|i| received(n * 483 + i, 1000, 200)).collect();
        let ask = Persist { changes: vec![change], peeled: Long(vec![]) };
        assert_eq!(rig.persist(1, &ask), []);
    }
    let change = adds(&rig.channel(1).live, received(4 * 483, 1000, 200));
    let ask = Persist { changes: vec![change], peeled: Long(vec![]) };
    assert_eq!(rig.persist(1, &ask), [Said::Kill(1)]);
}

fn says_shutdown(rig: &mut Rig, by: Side, script: &ScriptBuf) -> Vec<Said> {
    let mut body = PersistShutdown::NUMBER.to_be_bytes().to_vec();
    PersistShutdown { by, script: script.clone() }.put(&mut body);
    rig.run(Event::Child(1001, Frame { body, fds: Default::default() }))
}

#[test]
fn a_daemon_cannot_have_us_closed_to_a_script_that_is_not_ours() {
    let theirs = ScriptBuf::from(vec![0x51]);
    let mut rig = Rig::new("script", &[(1, 1)]);
    assert_eq!(says_shutdown(&mut rig, Side::Remote, &theirs), []);
    assert_eq!(says_shutdown(&mut rig, Side::Local, &theirs), [Said::Kill(1)]);
    assert_eq!(rig.channel(1).shutdown.local, None);
    // One that it asked for is.
    let ours = rig.node.wallet.script(1, AddressKind::Taproot);
    assert_eq!(says_shutdown(&mut rig, Side::Local, &ours), []);
    assert_eq!(rig.channel(1).shutdown.local.as_ref(), Some(&ours));
    // What was said before, or fixed at the opening, is the only one.
    let other = rig.node.wallet.script(2, AddressKind::Taproot);
    assert_eq!(says_shutdown(&mut rig, Side::Local, &other), [Said::Kill(1)]);
    assert_eq!(says_shutdown(&mut rig, Side::Local, &ours), []);
    let mut rig = Rig::new("script-fixed", &[(1, 1)]);
    rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap().upfront.local = Some(theirs.clone());
    assert_eq!(says_shutdown(&mut rig, Side::Local, &ours), [Said::Kill(1)]);
    assert_eq!(says_shutdown(&mut rig, Side::Local, &theirs), []);
}

#[test]
fn a_daemon_cannot_close_over_what_is_pending() {
    let mut rig = Rig::new("pending", &[(1, 1)]);
    rig.persist(1, &lie(&rig, |_| ()));
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap();
    channel.state = State::ShuttingDown;
    let script = || Some(ScriptBuf::from(vec![0x51]));
    channel.shutdown = Sides { local: script(), remote: script() };
    let (ours, _theirs) = subdaemon::peer_pair().unwrap();
    let frame = Frame { body: ReadyToClose {}.encode(), fds: [ours].into() };
    assert_eq!(rig.run(Event::Child(1001, frame)), [Said::Kill(1)]);
}

#[test]
fn error_about_all_channels_fails_those_without_a_daemon_too() {
    let mut rig = Rig::new("error-about-all", &[(1, 1), (2, 1), (3, 2)]);
    rig.node.channels.all.get_mut(&ChannelNumber(1)).unwrap().reestablished = false;
    let said = PeerComplained {
        node: crate::rooms::channels::testing::peer(1),
        connection: 1,
        is_error: false,
        text: "we have lost our state".to_owned(),
    };
    assert_eq!(rig.run(Event::Connectd(FromConnectd::PeerComplained(said.clone()))), []);
    assert_eq!(rig.channel(1).state, State::Normal, "a warning fails nothing");
    let error = PeerComplained { is_error: true, ..said };
    let said = rig.run(Event::Connectd(FromConnectd::PeerComplained(error)));
    assert!(said.contains(&Said::Publish(1)), "{said:?}");
    assert_eq!(rig.channel(1).state, State::AwaitingUnilateral);
    // Its daemon has the error behind whatever the peer said before.
    assert_eq!(rig.channel(2).state, State::Normal);
    assert_eq!(rig.channel(3).state, State::Normal, "another peer's");
}
