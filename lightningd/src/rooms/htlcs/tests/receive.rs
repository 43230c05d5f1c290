//! Payments to us, by the time that they leave and by what holds them.

use super::*;
use crate::rooms::channels::state::State;
use crate::rooms::invoices;
use crate::rooms::invoices::Invoice;
use crate::rooms::onchain::{Case, Seen};
use onion::FinalPayload;
use wire::onchaind::{CloseKind, OutputStatus, Resolution};

/// An invoice over 2000 sat that any expiry pays; its preimage has the number 0.
fn payee(name: &str) -> Rig {
    let mut rig = rig(name);
    rig.node.invoices.insert(Invoice {
        created_index: 1,
        updated_index: None,
        label: "label".to_owned(),
        hash: preimage(0).hash(),
        preimage: preimage(0),
        secret: PaymentSecret([9; 32]),
        amount: Some(Msat(2 * AMOUNT)),
        description: None,
        bolt11: String::new(),
        min_final_cltv: CltvDelta(0),
        status: invoices::Status::Unpaid,
        expires_at: u64::MAX,
        paid: None,
    });
    rig
}

/// An HTLC of this amount and expiry pays the invoice, or a part of it.
fn pays(rig: &mut Rig, (channel, id): (u64, u64), amount: u64, expiry: u32) -> Vec<Said> {
    let payload = FinalPayload {
        amount: Msat(amount),
        cltv_expiry: BlockHeight(expiry),
        payment_secret: Some(PaymentSecret([9; 32])),
        total: Msat(2 * AMOUNT),
        payment_metadata: None,
        keysend: None,
        extra: vec![],
    };
    let [ours, _] = secrets();
    let peeled = Peeled::Payload {
        payload: Bytes(payload.to_bytes()),
        next: None,
        keys: onion_keys(&ours, &point(9)),
    };
    let hash = preimage(0).hash();
    let it = htlc(Side::Remote, (id, 0), (amount, expiry), hash, Stage::Irrevocable);
    let changes = vec![adds(&rig.channel(channel).live, it)];
    let peeled = Long(vec![PeeledHtlc { id: HtlcId(id), peeled }]);
    rig.persist(channel, &Persist { changes, peeled })
}

fn tip(rig: &mut Rig, height: u32) -> Vec<Said> {
    let block = (BlockHeight(height), bitcoin::hashes::Hash::all_zeros());
    rig.node.chain.headers.push_back(block);
    rig.run(Event::NewTip(BlockHeight(height)))
}

fn paid(channel: u64, id: u64) -> Said {
    Said::Fulfil(channel, HtlcId(id), preimage(0))
}

/// With a delta of 6 the channel of a fulfilled HTLC is failed three blocks before its expiry.
#[test]
fn final_htlc_past_its_fulfilment_deadline_is_failed() {
    let whole = 2 * AMOUNT;
    for late in [90, 100, 101, 103] {
        let mut rig = payee(&format!("late-final-{late}"));
        let said = pays(&mut rig, (IN, 0), whole, late);
        let height = BlockHeight(100);
        let why = Failure::IncorrectOrUnknownPaymentDetails { htlc: Msat(whole), height };
        assert_eq!(failure(&said), Some((0, why)), "{late}");
    }
    let mut rig = payee("late-final-not");
    assert_eq!(pays(&mut rig, (IN, 0), whole, 104), [paid(IN, 0)]);
}

#[test]
fn held_part_is_failed_at_its_fulfilment_deadline() {
    let mut rig = payee("late-part");
    assert_eq!(pays(&mut rig, (IN, 0), AMOUNT, 110), []);
    assert_eq!(pays(&mut rig, (OUT, 0), AMOUNT / 2, 130), []);
    assert_eq!(tip(&mut rig, 106), []);
    assert_eq!(failure(&tip(&mut rig, 107)), Some((0, Failure::MppTimeout)));
    // The rest alone is not enough, and waits for another part in the place of that one.
    assert_eq!(pays(&mut rig, (OUT, 1), AMOUNT / 2, 130), []);
    assert_eq!(pays(&mut rig, (IN, 1), AMOUNT, 130), [paid(OUT, 0), paid(OUT, 1), paid(IN, 1)]);
    // All of them at once.
    let mut rig = payee("late-parts");
    pays(&mut rig, (IN, 0), AMOUNT, 110);
    assert_eq!(failure(&tip(&mut rig, 120)), Some((0, Failure::MppTimeout)));
    assert_eq!(rig.node.htlcs.sets.len() + rig.node.htlcs.held.len(), 0);
}

/// The first channel's funding, which must be three blocks deep, is at this height.
fn funded_at(rig: &mut Rig, height: Option<u32>) {
    let channel = rig.node.channels.all.get_mut(&ChannelNumber(IN)).unwrap();
    channel.minimum_depth = 3;
    channel.funding_height = height.map(BlockHeight);
}

#[test]
fn complete_set_without_its_invoice_does_not_stop_the_block() {
    let mut rig = payee("set-gone");
    pays(&mut rig, (IN, 0), AMOUNT, 150);
    funded_at(&mut rig, None);
    pays(&mut rig, (OUT, 0), AMOUNT, 150);
    rig.node.invoices.remove(1);
    funded_at(&mut rig, Some(102));
    // With this block an HTLC of ours expires, and its channel is failed.
    let expired = htlc(Side::Local, (7, 0), (AMOUNT, 103), preimage(9).hash(), Stage::Irrevocable);
    rig.node.channels.all.get_mut(&ChannelNumber(OTHER)).unwrap().live.htlcs.0.push(expired);
    let said = tip(&mut rig, 104);
    assert!(said.contains(&Said::Kill(OTHER)), "{said:?}");
}

#[test]
fn complete_set_is_paid_once_its_funding_is_back() {
    let mut rig = payee("set-funding");
    assert_eq!(pays(&mut rig, (IN, 0), AMOUNT, 150), []);
    // The funding's block leaves the chain, and the other part comes.
    funded_at(&mut rig, None);
    assert_eq!(pays(&mut rig, (OUT, 0), AMOUNT, 150), []);
    assert_eq!(tip(&mut rig, 101), []);
    funded_at(&mut rig, Some(102));
    assert_eq!(tip(&mut rig, 102), []);
    assert_eq!(tip(&mut rig, 103), []);
    assert_eq!(tip(&mut rig, 104), [paid(IN, 0), paid(OUT, 0)]);
    assert_eq!(tip(&mut rig, 105), []);
    assert_eq!(rig.node.htlcs.sets.len() + rig.node.htlcs.held.len(), 0);
}

/// The channel's commitment is in a block, and has outputs for these received HTLCs: id, and
/// whether it is spent. `None`: onchaind has not answered yet.
fn confirmed(rig: &mut Rig, close: CloseKind, outputs: Option<&[(u64, bool)]>) {
    let spend = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![],
        output: vec![bitcoin::TxOut {
            value: bitcoin::Amount::from_sat(2 * AMOUNT / 1000),
            script_pubkey: ScriptBuf::new(),
        }],
    };
    let status = |(id, spent): &(u64, bool)| OutputStatus {
        outpoint: OutPoint { txid: spend.compute_txid(), vout: 0 },
        amount: Sat(2 * AMOUNT / 1000),
        what: "their_htlc".to_owned(),
        htlc: Some((Side::Remote, HtlcId(*id))),
        spent: spent.then(|| (spend.compute_txid(), BlockHeight(101))),
        done: *spent,
    };
    let resolution = outputs.map(|outputs| Resolution {
        close,
        claims: Long(vec![]),
        outputs: Long(outputs.iter().map(status).collect()),
        learned: Long(vec![]),
        failed: Long(vec![]),
        overdue: Long(vec![]),
        settled: None,
    });
    let mut case = Case::new(Seen::new(spend, BlockHeight(100), 0));
    case.resolution = resolution;
    rig.node.onchain.cases.insert(ChannelNumber(IN), case);
    rig.node.channels.all.get_mut(&ChannelNumber(IN)).unwrap().state = State::Onchain;
}

/// On chain one commitment counts: the one in a block.
#[test]
fn final_htlc_on_chain_is_accepted_only_with_an_unspent_output() {
    use CloseKind::*;
    let theirs = Theirs { number: CommitmentNumber(0) };
    let unknown = Unknown { number: CommitmentNumber(9) };
    for (n, (close, outputs, accepts)) in [
        (Ours {}, Some(&[(0, false)][..]), true),
        (theirs.clone(), Some(&[(0, false)]), true),
        (theirs.clone(), Some(&[(0, true)]), false),
        (theirs.clone(), Some(&[(1, false)]), false),
        (theirs, None, false),
        (unknown, Some(&[]), false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut rig = payee(&format!("final-chain-{n}"));
        rig.node.htlcs.hold_decisions();
        assert_eq!(pays(&mut rig, (IN, 0), 2 * AMOUNT, 150), []);
        rig.node.htlcs.let_decide();
        let undecided = outputs.is_none();
        confirmed(&mut rig, close, outputs);
        let decide = || Event::Decide(ChannelNumber(IN), HtlcId(0));
        rig.run(decide());
        let decision = rig.channel(IN).decided.get(&HtlcId(0)).cloned();
        let paid = matches!(decision, Some(Removal::Fulfilled { .. }));
        assert_eq!((paid, decision.is_none()), (accepts, undecided), "{n}");
        if undecided {
            confirmed(&mut rig, Ours {}, Some(&[(0, false)]));
            rig.run(decide());
            assert!(rig.channel(IN).decided.contains_key(&HtlcId(0)), "it waited for onchaind");
        }
    }
}

/// The peer closes with the commitment that has no output for one part of a payment.
#[test]
fn set_with_a_part_that_lost_its_output_pays_no_invoice() {
    let mut rig = payee("set-trimmed");
    assert_eq!(pays(&mut rig, (IN, 0), 3 * AMOUNT / 2, 150), []);
    confirmed(&mut rig, CloseKind::Theirs { number: CommitmentNumber(0) }, Some(&[]));
    assert_eq!(pays(&mut rig, (OUT, 0), AMOUNT / 2, 150), []);
    assert_eq!(tip(&mut rig, 101), []);
}
