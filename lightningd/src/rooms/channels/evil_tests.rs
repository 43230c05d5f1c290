//! Captured daemons: whatever they ask and report, then a restart, then the worst peer. The bounds
//! are those that ARCHITECTURE gives for each role; what hsmd owes to them is in its own
//! `tests/evil.rs` and `tests/phases.rs`.

use super::testing::{adds, alias, htlc, point, step};
use crate::kernel::children::Role;
use crate::kernel::words::event::Event;
use crate::rooms::channels::Owner;
use crate::rooms::channels::key::Origin;
use crate::rooms::channels::state::State;
use crate::testing::{Rig, Said};
use ::channel::phase::{Input, Rule, rule};
use onion::{ForwardPayload, onion_keys};
use primitives::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use subdaemon::Frame;
use wire::channel_data::*;
use wire::channeld::*;
use wire::closingd::{ClosingAgreed, PersistOffer, PersistPeerSignature};
use wire::hsm::ClosingState;
use wire::{Bytes, Long, Message, OnionPacket, Request};

/// The captured daemon's channel, and the one over which its HTLCs go on.
const EVIL: u64 = 1;
const HONEST: u64 = 2;

/// Another database for each case.
fn name(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("evil-{what}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// One word of a captured channeld.
#[derive(Clone, Debug)]
enum Lie {
    /// An HTLC that no peer signed, of so much, whose onion asks for it to go on.
    Add { amount: u64, stage: Stage, peeled: bool },
    /// The HTLC of this id ends: how, and in which stage.
    Remove { id: u64, how: u8, stage: Stage },
    /// The HTLC of this id leaves, with balances that are off by so much.
    Settle { id: u64, off: i64 },
    /// Balances that moved for nothing.
    Move { off: i64 },
    /// Any other report or ask that its socket allows, about this HTLC, with this byte wherever one
    /// can be chosen.
    Say { what: u8, id: u64, byte: u8 },
    /// Bytes.
    Nonsense(Vec<u8>),
    /// lightningd dies and starts again.
    Restart,
}

fn stage() -> impl Strategy<Value = Stage> {
    prop::sample::select(Stage::ALL.to_vec())
}

fn lie() -> impl Strategy<Value = Lie> {
    let amount = prop_oneof![Just(100_000_000u64), Just(500_000_000), 0u64..600_000_000];
    let off = prop_oneof![4 => Just(0i64), 1 => -500_000_000i64..500_000_000];
    let mostly_irrevocable = || prop_oneof![4 => Just(Stage::Irrevocable), 1 => stage()];
    prop_oneof![
        4 => (amount, mostly_irrevocable(), prop::bool::weighted(0.9))
            .prop_map(|(amount, stage, peeled)| Lie::Add { amount, stage, peeled }),
        3 => (0u64..8, 0u8..4, stage()).prop_map(|(id, how, stage)| Lie::Remove { id, how, stage }),
        3 => (0u64..8, off.clone()).prop_map(|(id, off)| Lie::Settle { id, off }),
        1 => off.prop_map(|off| Lie::Move { off }),
        3 => (0u8..12, 0u64..8, any::<u8>()).prop_map(|(what, id, byte)| Lie::Say { what, id, byte }),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Lie::Nonsense),
        1 => Just(Lie::Restart),
    ]
}

fn preimage(id: u64) -> Preimage {
    Preimage([id as u8 + 100; 32])
}

/// What an onion says that goes on over the honest channel with all that it brings, less the fee.
fn peeled(id: u64, amount: u64) -> PeeledHtlc {
    let payload = ForwardPayload {
        short_channel_id: alias(HONEST),
        amount: Msat(amount.saturating_sub(1 + amount / 100_000)),
        cltv_expiry: BlockHeight(200),
    };
    let peeled = Peeled::Payload {
        payload: Bytes(payload.to_bytes()),
        next: Some(OnionPacket(Box::new([id as u8; 1366]))),
        keys: onion_keys(&Secret::new([0xaa; 32]), &point(9)),
    };
    PeeledHtlc { id: HtlcId(id), peeled }
}

fn removal(how: u8, id: u64) -> Option<Removal> {
    match how {
        0 => Some(Removal::Fulfilled { preimage: preimage(id) }),
        1 => Some(Removal::Failed { reason: vec![] }),
        2 => Some(Removal::Malformed {
            sha256_of_onion: Sha256Digest([0; 32]),
            failure_code: 0xc005,
        }),
        _ => None,
    }
}

fn shifted(balance: Sides<Msat>, off: i64) -> Sides<Msat> {
    Sides {
        local: Msat(balance.local.0.wrapping_add_signed(off)),
        remote: Msat(balance.remote.0.wrapping_add_signed(-off)),
    }
}

/// The lie as an ask, if it can be told of what is there.
fn told(rig: &Rig, lie: &Lie) -> Option<Persist> {
    let live = &rig.channel(EVIL).live;
    let there = |id: u64| live.htlcs.0.iter().find(|l| l.htlc.id == HtlcId(id)).cloned();
    let (change, peeled) = match lie {
        Lie::Add { amount, stage, peeled } => {
            let id = live.next_htlc_id.remote.0;
            let hash = preimage(id).hash();
            let it = htlc(Side::Remote, (id, 0), (*amount, 206), hash, *stage);
            let peeled: Vec<_> = peeled.then(|| self::peeled(id, *amount)).into_iter().collect();
            (adds(live, it), peeled)
        }
        Lie::Remove { id, how, stage } => {
            let it = there(*id)?;
            let mut change = step(live);
            change.moved.0.push(MovedHtlc {
                offered_by: Side::Remote,
                id: HtlcId(*id),
                added: Stage::Irrevocable,
                removed: removal(*how, *id).map(|removal| StagedRemoval { removal, stage: *stage }),
                in_remote_from: it.in_remote_from,
                in_remote_until: it.in_remote_until,
            });
            (change, vec![])
        }
        Lie::Settle { id, off } => {
            let it = there(*id)?;
            let mut change = super::testing::settles(live, &it);
            change.balance = shifted(change.balance, *off);
            (change, vec![])
        }
        Lie::Move { off } => {
            let mut change = step(live);
            change.balance = shifted(change.balance, *off);
            (change, vec![])
        }
        Lie::Say { .. } | Lie::Nonsense(_) | Lie::Restart => return None,
    };
    Some(Persist { changes: vec![change], peeled: Long(peeled) })
}

/// Any report or ask beside `Persist`.
fn word(what: u8, id: u64, byte: u8) -> Vec<u8> {
    let (id, script) = (HtlcId(id), ScriptBuf::from(vec![byte; 22]));
    let signature = Signature::from_compact(&[1; 64]).unwrap();
    let detail = "a lie".to_owned();
    match what {
        0 => Reestablished {}.encode(),
        1 => OfferRefused { key: id.0, why: OfferRefusal::NotReady {} }.encode(),
        2 => PreimageLearned { id, preimage: preimage(u64::from(byte % 100)) }.encode(),
        3 => PreimageLearned { id, preimage: preimage(id.0) }.encode(),
        4 => ReadyToClose {}.encode(),
        5 => WeAreBehind { remote_point: point(9), detail }.encode(),
        6 => TheyAreBehind { detail }.encode(),
        7 => asked(&PersistPeerReady { alias: None, next_point: point(byte % 100 + 1) }),
        8 => asked(&PersistReady {}),
        9 => asked(&PersistShutdown { by: Side::BOTH[usize::from(byte % 2)], script }),
        10 => asked(&GetShutdownScript {}),
        _ => asked(&PersistAnnouncement {
            short_channel_id: alias(EVIL),
            node_signature: signature,
            bitcoin_signature: signature,
        }),
    }
}

/// The honest channel's daemon and peer do as they are told: the HTLC is offered, and fulfilled at
/// once. What that cost.
fn pays(rig: &mut Rig, said: &[Said]) -> u64 {
    let mut paid = 0;
    for one in said {
        let Said::Offer(HONEST, offer) = one else { continue };
        let id = rig.channel(HONEST).live.next_htlc_id.local.0;
        let index = match Origin::of(offer.key) {
            Origin::Forward(index) => Origin::Forward(index).key(),
            Origin::Payment(_) => panic!("nobody pays"),
        };
        let it = htlc(
            Side::Local,
            (id, index),
            (offer.amount.0, offer.expiry.0),
            offer.payment_hash,
            Stage::InReceivers,
        );
        let changes = vec![adds(&rig.channel(HONEST).live, it)];
        assert_eq!(rig.persist(HONEST, &Persist { changes, peeled: Long(vec![]) }), []);
        // The peer of the captured daemon has told its friend the preimage.
        let known = (0..255).map(preimage).find(|p| p.hash() == offer.payment_hash);
        let shown = PreimageLearned { id: HtlcId(id), preimage: known.unwrap() };
        rig.report(HONEST, &shown);
        paid += offer.amount.0;
    }
    paid
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// What the switch pays over other channels for a captured channeld is never more than its peer
    /// had in its own channel, however often that is tried.
    #[test]
    fn captured_channeld_brings_in_no_more_than_its_channel_has(
        lies in prop::collection::vec(lie(), 1..40),
    ) {
        let mut rig = Rig::new(&name("channeld"), &[(EVIL, 1), (HONEST, 2)]);
        let has = rig.channel(EVIL).live.balance.remote.0;
        let honest = rig.node.channels.all[&ChannelNumber(HONEST)].live.balance;
        let mut paid = 0;
        for lie in &lies {
            match told(&rig, lie) {
                Some(ask) => {
                    let said = rig.persist(EVIL, &ask);
                    paid += pays(&mut rig, &said);
                }
                None => {
                    let said = match lie {
                        Lie::Restart => rig.crash(),
                        Lie::Say { what, id, byte } => rig.say(EVIL, word(*what, *id, *byte)),
                        Lie::Nonsense(bytes) => rig.say(EVIL, bytes.clone()),
                        Lie::Add { .. } | Lie::Remove { .. } | Lie::Settle { .. } | Lie::Move { .. } => vec![],
                    };
                    paid += pays(&mut rig, &said);
                }
            }
            let now = rig.channel(EVIL).live.balance;
            prop_assert_eq!(now.local.0 + now.remote.0, 1_000_000_000);
            prop_assert!(paid <= has, "{} paid of {}, after {:?}", paid, has, lie);
        }
        prop_assert_eq!(rig.channel(HONEST).live.balance, honest);
    }

    /// A captured closingd may have any closing written down; none of it moves a balance, changes a
    /// script or ends in a transaction that hsmd has not judged.
    #[test]
    fn captured_closingd_changes_nothing_but_what_may_confirm(
        words in prop::collection::vec((0u8..3, any::<u64>(), any::<u64>(), any::<u64>(), any::<u8>()), 1..60),
        state in prop::sample::select(vec![
            State::Normal, State::ShuttingDown, State::ClosingSigExchange, State::AwaitingUnilateral, State::Onchain,
        ]),
    ) {
        let mut rig = Rig::new(&name("closingd"), &[(EVIL, 1)]);
        let number = ChannelNumber(EVIL);
        let channel = rig.node.channels.all.get_mut(&number).unwrap();
        channel.state = state;
        channel.closing_begun = state >= State::ClosingSigExchange;
        channel.owner = Owner::Closingd(1001);
        let (before, shutdown) = (channel.live.clone(), channel.shutdown.clone());
        rig.node.supervisor.assign(1001, Role::Closing(number));
        for (what, local, remote, fee, byte) in words {
            let state = ClosingState {
                balance: Sides { local: Msat(local), remote: Msat(remote) },
                script: Sides {
                    local: ScriptBuf::from(vec![byte; 22]),
                    remote: ScriptBuf::from(vec![byte; 3]),
                },
                fee: Sat(fee),
            };
            let signature = Signature::from_compact(&[1; 64]).unwrap();
            let body = match what {
                0 => asked(&PersistOffer { state }),
                1 => asked(&PersistPeerSignature { state, signature }),
                // hsmd's judgement: its tests.
                _ if rule(rig.channel(EVIL).phase(), Input::ClosingAgreed) == Rule::Taken => continue,
                _ => ClosingAgreed { state, signature }.encode(),
            };
            rig.run(Event::Child(1001, Frame { body, fds: Default::default() }));
        }
        let channel = rig.channel(EVIL);
        prop_assert_eq!((&channel.live, &channel.shutdown), (&before, &shutdown));
        prop_assert_eq!((channel.state, channel.close_tx.is_none()), (state, true));
        let rows: u32 =
            rig.db.query_row("SELECT count(*) FROM close_offers", [], |row| row.get(0)).unwrap();
        prop_assert!(rows <= 20, "{} rows", rows);
    }
}

fn asked<R: Request>(ask: &R) -> Vec<u8> {
    let mut body = R::NUMBER.to_be_bytes().to_vec();
    ask.put(&mut body);
    body
}
