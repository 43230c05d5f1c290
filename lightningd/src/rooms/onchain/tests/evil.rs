//! A captured onchaind says anything in any order, through blocks, reorganisations and restarts;
//! then the worst peer takes what it can. ARCHITECTURE, "Captured daemons": no more is lost than
//! its own channel.

use super::*;
use crate::kernel::children::Role;
use crate::kernel::words::rooms::OnchainEvent;
use crate::rooms::channels::key::Origin;
use crate::rooms::channels::testing::{adds, alias, htlc, moves, point};
use onion::{ForwardPayload, onion_keys};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use std::sync::atomic::{AtomicU32, Ordering};
use wire::channel_data::{LiveHtlc, Removal, Stage};
use wire::channeld::{Peeled, PeeledHtlc, Persist};
use wire::daemon::{Failed, Fault, Log, LogLevel, Status};
use wire::{Bytes, OnionPacket};

/// The captured onchaind's channel. HTLCs of [`UPSTREAM`] go on over it.
pub(super) const CAPTURED: ChannelNumber = CHANNEL;
pub(super) const UPSTREAM: u64 = 2;
/// A channel on chain with an honest onchaind, whose claims are worth as much.
const OTHER: ChannelNumber = ChannelNumber(3);
/// The captured one: a number that the test can see being killed.
pub(super) const CAPTURED_CHILD: ChildId = 2000;
/// HTLCs that go over the captured channel: of 100,000 sat and less.
pub(super) const FORWARDS: u64 = 4;

pub(super) fn preimage(id: u64) -> Preimage {
    Preimage([id as u8 + 1; 32])
}
fn amount(id: u64) -> u64 {
    [200_000, 300_000, 50_000_000, 100_000_000][id as usize]
}

/// An HTLC arrives and goes on over the captured channel.
fn forward(rig: &mut Rig, id: u64) {
    let payload = ForwardPayload {
        short_channel_id: alias(CAPTURED.0),
        amount: Msat(amount(id)),
        cltv_expiry: BlockHeight(200),
    };
    let onion = LiveHtlc {
        onion: OnionPacket(Box::new([id as u8 + 1; 1366])),
        ..htlc(
            Side::Remote,
            (id, 0),
            (amount(id) + 1 + amount(id) / 100_000, 206),
            preimage(id).hash(),
            Stage::Irrevocable,
        )
    };
    let peeled = PeeledHtlc {
        id: HtlcId(id),
        peeled: Peeled::Payload {
            payload: Bytes(payload.to_bytes()),
            next: Some(OnionPacket(Box::new([7; 1366]))),
            keys: onion_keys(&Secret::new([0xaa; 32]), &point(9)),
        },
    };
    let changes = vec![adds(&rig.channel(UPSTREAM).live, onion)];
    let said = rig.persist(UPSTREAM, &Persist { changes, peeled: Long(vec![peeled]) });
    let [Said::Offer(_, offer)] = &said[..] else { panic!("not forwarded: {said:?}") };
    let key = Origin::Forward(id + 1).key();
    assert_eq!(offer.key, key);
    let out = |stage| htlc(Side::Local, (id, key), (amount(id), 200), preimage(id).hash(), stage);
    let changes = vec![adds(&rig.channel(CAPTURED.0).live, out(Stage::InReceivers))];
    assert_eq!(rig.persist(CAPTURED.0, &Persist { changes, peeled: Long(vec![]) }), []);
    let changes = vec![moves(&rig.channel(CAPTURED.0).live, &out(Stage::Irrevocable))];
    assert_eq!(rig.persist(CAPTURED.0, &Persist { changes, peeled: Long(vec![]) }), []);
}

/// Forwards are bound to a channel whose commitment is in block 101 then, and whose onchaind is
/// captured. Another channel on chain claims what it has, with a UTXO of the wallet's.
pub(super) fn captured(name: &str) -> Rig {
    let mut rig = Rig::new(name, &[(CAPTURED.0, 1), (UPSTREAM, 2), (OTHER.0, 3)]);
    rig.db.execute("UPDATE channels SET funding_height = 1", []).unwrap();
    for channel in rig.node.channels.all.values_mut() {
        channel.funding_height = Some(BlockHeight(1));
    }
    for id in 0..FORWARDS {
        forward(&mut rig, id);
    }
    for number in [CAPTURED, OTHER] {
        rig.go_to_chain(number.0);
    }
    let key = rig.node.wallet.script(1, AddressKind::Taproot);
    let coin = spending(&[outpoint(200)], &[(50_000, &key), (20_000, &key), (10_000, &key)]);
    let closes = [commitment_of(&rig, CAPTURED), commitment_of(&rig, OTHER)];
    mine(&mut rig, 101, [coin].into_iter().chain(closes).collect());
    rig.run(Event::Onchain(OTHER, OnchainEvent::Begin));
    honest_resolution(&mut rig);
    enter(&mut rig);
    rig
}

/// What the honest onchaind of the other channel says: all of its outputs are HTLCs of ours.
fn honest_resolution(rig: &mut Rig) {
    let claims = (0..10).map(|vout| paired_of(rig, OTHER, vout, 5_000)).collect();
    let child = rig.node.onchain.cases[&OTHER].child.unwrap();
    let said = Resolved { resolution: resolution(claims) };
    rig.run(Event::Child(child, Frame { body: said.encode(), fds: Default::default() }));
    advance(rig);
}

/// The captured onchaind takes the place of the one that was born, if one is to be.
fn enter(rig: &mut Rig) {
    rig.run(Event::Onchain(CAPTURED, OnchainEvent::Begin));
    if let Some(case) = rig.node.onchain.cases.get_mut(&CAPTURED) {
        assert!(case.child.is_some_and(|child| child < 1000), "no onchaind is born");
        case.child = Some(CAPTURED_CHILD);
        rig.node.supervisor.assign(CAPTURED_CHILD, Role::Onchain(CAPTURED));
    }
}

pub(super) fn says(rig: &mut Rig, resolution: &Resolution) -> Vec<Said> {
    let body = Resolved { resolution: resolution.clone() }.encode();
    rig.run(Event::Child(CAPTURED_CHILD, Frame { body, fds: Default::default() }))
}

/// A transaction of the peer's that spends an output of the commitment: onchaind knows it before it
/// is in a block.
pub(super) fn spend_of_peer(rig: &Rig, vout: u32) -> Transaction {
    let outpoint = OutPoint { txid: commitment(rig).compute_txid(), vout };
    spending(&[outpoint], &[(1_000, &ScriptBuf::from(vec![0x51]))])
}

/// What a captured onchaind says about the close: which outputs it claims, of the commitment and of
/// what the peer may publish, which HTLCs have ended how, and what of that is changed.
#[derive(Debug, Clone)]
struct Lies {
    close: u8,
    claimed: u16,
    coming: u16,
    learned: u8,
    failed: u8,
    overdue: u8,
    settled: Option<u32>,
    changes: Vec<(u8, usize, u64)>,
}

#[derive(Debug, Clone)]
enum Word {
    Says(Lies),
    Bytes(Vec<u8>),
    /// A line for the log, a status, a failure.
    Chatter(u8, String),
    /// A block so many blocks later, perhaps with the peer's spend of this output.
    Block(u32, Option<u32>),
    /// The last block leaves the chain.
    Reorg,
    /// onchaind dies.
    Dies,
    /// lightningd dies and starts again.
    Restart,
}

fn lies() -> impl Strategy<Value = Lies> {
    let settled = prop_oneof![
        6 => Just(None),
        1 => (90u32..400).prop_map(Some),
        1 => any::<u32>().prop_map(Some),
    ];
    let number = prop_oneof![0u64..300, Just(100_000), Just(2_100_000_000_000_000), any::<u64>()];
    let changes = prop::collection::vec((0u8..18, any::<usize>(), number), 0..3);
    // Of HTLCs mostly none; sometimes all.
    let some = || prop_oneof![4 => Just(0u8), 2 => 0u8..16, 1 => Just(15)];
    (0u8..4, any::<u16>(), any::<u16>(), some(), some(), some(), settled, changes).prop_map(
        |(close, claimed, coming, learned, failed, overdue, settled, changes)| Lies {
            close,
            claimed,
            coming: coming & claimed >> 3,
            learned,
            failed,
            overdue,
            settled,
            changes,
        },
    )
}

fn word() -> impl Strategy<Value = Word> {
    let blocks = prop_oneof![6 => Just(1u32), 1 => 2u32..150];
    prop_oneof![
        8 => lies().prop_map(Word::Says),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Word::Bytes),
        1 => (0u8..3, ".{0,20}").prop_map(|(n, text)| Word::Chatter(n, text)),
        6 => (blocks, prop::option::weighted(0.3, 0u32..10)).prop_map(|(n, spend)| Word::Block(n, spend)),
        1 => Just(Word::Reorg),
        1 => Just(Word::Dies),
        1 => Just(Word::Restart),
    ]
}

/// A claim that may be made, of this output.
fn claim_of(rig: &Rig, vout: u32) -> Claim {
    let paired = paired(rig, vout, 150 + vout);
    let (peer, channel) = (rig.channel(CAPTURED.0).peer, CAPTURED);
    match vout {
        0..6 => paired,
        6 => {
            let amount = Sat(AMOUNTS[6] - 500);
            let shape = ClaimShape::Whole { amount, script: ScriptBuf::from(vec![0x52]) };
            Claim { shape, ..paired }
        }
        7 => {
            Claim { key: WalletKey::Anchor { peer, channel }, shape: ClaimShape::Free {}, ..paired }
        }
        _ => {
            let key = WalletKey::Delayed { peer, channel, number: CommitmentNumber(0) };
            Claim { key, shape: ClaimShape::Free {}, deadline: None, ..paired }
        }
    }
}

fn said_of(rig: &Rig, lies: &Lies) -> Resolution {
    let bits = |mask: u16| (0..10u32).filter(move |n| mask >> n & 1 == 1);
    let mut claims: Vec<Claim> = bits(lies.claimed).map(|vout| claim_of(rig, vout)).collect();
    for vout in bits(lies.coming) {
        let outpoint = OutPoint { txid: spend_of_peer(rig, vout).compute_txid(), vout: 0 };
        claims.push(Claim { outpoint, amount: Sat(1_000), ..claim_of(rig, 9) });
    }
    let ids = |mask: u8| bits(mask.into()).map(|id| HtlcId(id.into()));
    let number = CommitmentNumber(lies.failed.into());
    let mut said = Resolution {
        close: match lies.close {
            0 => CloseKind::Ours {},
            1 => CloseKind::Theirs { number },
            2 => CloseKind::Revoked { number },
            _ => CloseKind::Unknown { number },
        },
        claims: Long(vec![]),
        outputs: Long(vec![]),
        learned: Long(ids(lies.learned).map(|id| (id, preimage(id.0))).collect()),
        failed: Long(ids(lies.failed).collect()),
        overdue: Long(ids(lies.overdue).collect()),
        settled: lies.settled.map(BlockHeight),
    };
    for (what, which, n) in &lies.changes {
        match what {
            0 => said.learned.0.push((HtlcId(n % 8), preimage(n / 8 % 8))),
            1 => said.failed.0.push(HtlcId(*n)),
            2 => said.overdue.0.push(HtlcId(*n)),
            _ if claims.is_empty() => {}
            3 => claims.push(claims[which % claims.len()].clone()),
            _ => {
                let at = which % claims.len();
                changed(rig, &mut claims[at], *what, *n);
            }
        }
    }
    Resolution { claims: Long(claims), ..said }
}

fn changed(rig: &Rig, claim: &mut Claim, what: u8, n: u64) {
    let small = n as u32;
    match what {
        4 => claim.amount = Sat(n),
        5 => claim.script = ScriptBuf::from(vec![n as u8]),
        6 => claim.key = paired_of(rig, OTHER, small % 10, 200).key,
        7 => claim.key = WalletKey::Address { index: 1 },
        8 => claim.witness_weight = small,
        9 => {
            let script = ScriptBuf::from(vec![0x66]);
            claim.shape = ClaimShape::Paired { amount: Sat(n), script };
        }
        10 => *claim = Claim { key: claim.key.clone(), ..paired_of(rig, OTHER, small % 10, 200) },
        11 => {
            let mut coins = rig.node.wallet.outputs.keys();
            claim.outpoint = *coins.nth(small as usize % rig.node.wallet.outputs.len()).unwrap();
        }
        12 => claim.deadline = Some(BlockHeight(small)),
        13 => claim.lock_time = small,
        14 => claim.sequence = small,
        15 => claim.ready = BlockHeight(small),
        // Of what comes later: nobody can say yet what it is.
        _ => {
            let txid = spend_of_peer(rig, small % 10).compute_txid();
            claim.outpoint = OutPoint { txid, vout: small / 10 % 2 };
            claim.amount = Sat(n.min(Sat::MAX_MONEY.0));
        }
    }
}

/// The captured onchaind, the chain and lightningd do this.
fn happens(rig: &mut Rig, word: &Word) {
    let tip = rig.node.chain.height().0;
    let body = match word {
        Word::Says(lies) => Resolved { resolution: said_of(rig, lies) }.encode(),
        Word::Bytes(bytes) => bytes.clone(),
        Word::Chatter(n, text) => match n {
            0 => Log { level: LogLevel::Broken, text: text.clone() }.encode(),
            1 => Status { lasting: Some(text.clone()), passing: None }.encode(),
            _ => Failed { fault: Fault::Internal, text: text.clone() }.encode(),
        },
        Word::Block(blocks, vout) => {
            let spent = |o: &OutPoint| {
                let case = rig.node.onchain.cases.get(&CAPTURED);
                let later = case.into_iter().flat_map(|c| &c.later);
                later.flat_map(|s| &s.tx.input).any(|i| i.previous_output == *o)
            };
            let spend = vout.map(|vout| spend_of_peer(rig, vout));
            let spend = spend.filter(|tx| !spent(&tx.input[0].previous_output));
            mine(rig, tip + blocks, spend.into_iter().collect());
            return;
        }
        Word::Reorg if tip > 101 && rig.node.chain.headers.len() > 1 => {
            unmine(rig, tip);
            return;
        }
        Word::Reorg => return,
        Word::Dies => {
            rig.run(Event::ChildGone(CAPTURED_CHILD));
            return enter(rig);
        }
        Word::Restart => return restart(rig, tip),
    };
    let said = rig.run(Event::Child(CAPTURED_CHILD, Frame { body, fds: Default::default() }));
    if said.contains(&Said::Kill(CAPTURED_CHILD - 1000)) {
        rig.run(Event::ChildGone(CAPTURED_CHILD));
        enter(rig);
    }
}

fn restart(rig: &mut Rig, tip: u32) {
    rig.crash();
    let hash = bitcoin::hashes::Hash::all_zeros();
    rig.node.chain.headers.push_back((BlockHeight(tip), hash));
    honest_resolution(rig);
    enter(rig);
}

/// What must hold at any time.
struct Bound {
    upstream: primitives::Sides<Msat>,
    /// The first decision on each received HTLC.
    decided: BTreeMap<HtlcId, Removal>,
    /// Of what the captured onchaind may claim: what is in it.
    amounts: BTreeMap<OutPoint, u64>,
    /// What we had in its channel.
    ours: Msat,
}

impl Bound {
    fn new(rig: &Rig) -> Self {
        let txid = commitment(rig).compute_txid();
        let outputs = (0..10u32).zip(AMOUNTS);
        let of_close = outputs.map(|(vout, amount)| (OutPoint { txid, vout }, amount));
        let of_peer = (0..10).map(|vout| {
            (OutPoint { txid: spend_of_peer(rig, vout).compute_txid(), vout: 0 }, 1_000)
        });
        Self {
            upstream: rig.channel(UPSTREAM).live.balance,
            decided: BTreeMap::new(),
            amounts: of_close.chain(of_peer).collect(),
            ours: rig.channel(CAPTURED.0).live.balance.local,
        }
    }

    fn holds(&mut self, rig: &Rig, words: usize) -> TestCaseResult {
        self.transactions_take_only_what_is_its_channels(rig)?;
        self.others_keep_what_they_have(rig)?;
        self.first_decision_stands(rig)?;
        let rows = |table: &str| {
            let count = format!("SELECT count(*) FROM {table}");
            rig.db.query_row(&count, [], |row| row.get::<_, u32>(0)).unwrap() as usize
        };
        // One resolution per order or birth, of at most twenty outputs.
        prop_assert!(rows("transactions") <= 10 + 40 * (words + 1));
        prop_assert!(rows("claims") <= 30 && rows("claim_starts") <= 30);
        Ok(())
    }

    /// Inputs are outputs of its close, or UTXOs of the wallet that come back but for a fee below
    /// what the outputs hold.
    fn transactions_take_only_what_is_its_channels(&self, rig: &Rig) -> TestCaseResult {
        let wallet = &rig.node.wallet;
        for attempt in rig.node.onchain.attempts.get(&CAPTURED).into_iter().flatten() {
            let (mut worth, mut coins) = (0, 0);
            for (n, input) in attempt.tx.input.iter().enumerate() {
                match (self.amounts.get(&input.previous_output), n < attempt.claims.len()) {
                    (Some(amount), true) => worth += amount,
                    (None, false) => coins += wallet.outputs[&input.previous_output].amount.0,
                    (_, _) => prop_assert!(false, "input {} of {:?}", n, attempt),
                }
            }
            let ours =
                attempt.tx.output.iter().filter(|o| wallet.index_of(&o.script_pubkey).is_some());
            let back: u64 = ours.map(|o| o.value.to_sat()).sum();
            prop_assert!(coins <= back + worth, "{} of {} come back: {:?}", back, coins, attempt);
        }
        Ok(())
    }

    /// The other channel's claims are under way as before, and no UTXO is held for nothing.
    fn others_keep_what_they_have(&self, rig: &Rig) -> TestCaseResult {
        let all = &rig.node.onchain.attempts;
        let claimed: Vec<usize> = all[&OTHER].iter().map(|a| a.claims.len()).collect();
        prop_assert_eq!(claimed, vec![10]);
        let under_way: BTreeSet<Txid> = all.values().flatten().map(|a| a.txid).collect();
        let held = rig.node.wallet.outputs.values().filter_map(|o| o.spent);
        for spend in held.filter(|s| s.height.is_none()) {
            prop_assert!(under_way.contains(&spend.txid), "{} is none of ours", spend.txid);
        }
        Ok(())
    }

    fn first_decision_stands(&mut self, rig: &Rig) -> TestCaseResult {
        let upstream = rig.channel(UPSTREAM);
        prop_assert_eq!(upstream.live.balance, self.upstream);
        for (id, removal) in &upstream.decided {
            prop_assert!(id.0 < FORWARDS);
            if let Removal::Fulfilled { preimage: shown } = removal {
                prop_assert_eq!(*shown, preimage(id.0));
            }
            let first = self.decided.entry(*id).or_insert_with(|| removal.clone());
            prop_assert_eq!(&*first, removal);
        }
        Ok(())
    }

    /// The peer has every preimage and takes all that was failed upstream: that was ours in this
    /// channel.
    fn worst_peer_takes(&self) -> TestCaseResult {
        let failed = self.decided.iter().filter(|(_, r)| !matches!(r, Removal::Fulfilled { .. }));
        let lost: u64 = failed.map(|(id, _)| amount(id.0)).sum();
        prop_assert!(lost <= self.ours.0);
        Ok(())
    }
}

/// Another database for each case.
fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("evil-onchaind-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    /// Whatever a captured onchaind says: it takes nothing but its channel's outputs, holds only
    /// UTXOs that nothing worth more needs, changes no other channel but by the ends of its own
    /// HTLCs, each once, and another one takes its place.
    #[test]
    fn captured_onchaind_costs_no_more_than_its_channel(
        words in prop::collection::vec(word(), 1..40),
    ) {
        let mut rig = captured(&name());
        let mut bound = Bound::new(&rig);
        for (n, word) in words.iter().chain([&Word::Restart]).enumerate() {
            happens(&mut rig, word);
            bound.holds(&rig, n)?;
            if !rig.node.channels.all.contains_key(&CAPTURED) {
                prop_assert_eq!(bound.decided.len() as u64, FORWARDS, "forgotten with open HTLCs");
                break;
            }
        }
        bound.worst_peer_takes()?;
    }
}
