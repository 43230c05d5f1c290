//! The order in which a question is judged: number, right, length, and only then its contents. And
//! the longest honest question of each row.

use super::*;
use crate::arriving::judge;
use proptest::prelude::*;
use subdaemon::fits_hsmd;
use wire::{Row, Wire};

/// A right that this row does not take.
fn other_rights(row: &Row<Capability>) -> Rights {
    let others = Capability::ALL.iter().filter(|right| **right != row.needs);
    Rights::of(&others.copied().collect::<Vec<_>>())
}
fn who() -> crate::arriving::Asker {
    crate::arriving::Asker::Child(peer().node_id, CHANNEL)
}

#[test]
fn lengths_are_those_of_the_parts() {
    assert_eq!(lengths::HTLCS, 2 * channel::MAX_HTLCS);
    let state = state(Side::Remote, 0, 100_000, &[1000, 1000]);
    assert_eq!(state.to_bytes().len(), lengths::STATE - (lengths::HTLCS - 2) * 53);
    assert_eq!(signed_by_peer(&self::state(Side::Local, 0, 0, &[])).to_bytes().len(), 66);
    let signature = signed_by_peer(&self::state(Side::Local, 0, 0, &[])).signature;
    let input = WalletInput {
        index: 0,
        key: WalletKey::OwnHtlc {
            peer: peer().node_id,
            channel: CHANNEL,
            number: CommitmentNumber(1),
            htlc: state.htlcs.0[0].clone(),
            signature,
            preimage: Some(Preimage([1; 32])),
        },
        amount: Sat(1),
        script: ScriptBuf::from_bytes(vec![0; 34]),
    };
    assert_eq!(input.to_bytes().len(), lengths::INPUT);
}

/// Each row: garbage behind the number is never decoded where the right is missing or the length is
/// above the bound.
#[test]
fn question_is_refused_by_number_right_and_length_first() {
    for row in HsmRequest::ROWS {
        let holds = Rights::of(&[row.needs]);
        let garbage = |length: usize| [&row.number.to_be_bytes()[..], &vec![0xff; length]].concat();
        for length in [0, 1, row.longest, row.longest + 1] {
            let body = garbage(length);
            let why = judge(who(), &other_rights(row), body.len(), &body).unwrap_err();
            assert_eq!(why, format!("{} takes the right {:?}", row.name, row.needs));
            let judged = judge(who(), &holds, body.len(), &body);
            assert_eq!(judged.is_ok(), length <= row.longest, "{}: {judged:?}", row.name);
        }
        // The header is enough: nothing behind the number has come.
        let number = &row.number.to_be_bytes();
        let why = judge(who(), &holds, row.longest + 3, number).unwrap_err();
        let (name, longest) = (row.name, row.longest);
        assert_eq!(why, format!("{name} of {} bytes, of at most {longest}", longest + 1));
    }
    let all = Rights::of(Capability::ALL);
    for number in (0..300).chain([6000, 6001, 6002, u16::MAX]) {
        if HsmRequest::row(number).is_some() {
            continue;
        }
        let why = judge(who(), &all, 1000, &number.to_be_bytes()).unwrap_err();
        assert_eq!(why, format!("{number} is no question"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(5_000) })]

    /// Whatever rights a client holds and whatever it sends: it hears of its contents only if
    /// number, right and length are good, and no length above its longest question is waited for.
    #[test]
    fn question_without_its_right_is_never_decoded(
        bits: u8,
        number in prop_oneof![4 => 0u16..40, 1 => any::<u16>()],
        rest in prop::collection::vec(any::<u8>(), 0..300),
        length in 0..wire::MAX_FRAME,
    ) {
        let held: Vec<_> = Capability::ALL.iter().copied().filter(|c| bits >> c.number() & 1 == 1).collect();
        let rights = Rights::of(&held);
        let body = [&number.to_be_bytes()[..], &rest].concat();
        let row = HsmRequest::row(number);
        let good = row.is_some_and(|row| held.contains(&row.needs) && rest.len() <= row.longest);
        prop_assert_eq!(judge(who(), &rights, body.len(), &body).is_ok(), good);
        let mut hsm = crate::answer::Hsm::default();
        if let Err(why) = hsm.answer(who(), &rights, &body, VecDeque::new()) {
            let judged = ["is no question", "takes the right", " bytes, of at most "];
            prop_assert_eq!(judged.iter().any(|part| why.contains(part)), !good, "{}", why);
        }
        let longest = HsmRequest::ROWS.iter().filter(|r| held.contains(&r.needs)).map(|r| r.longest).max();
        let waits = judge(who(), &rights, length, &[]).is_ok();
        prop_assert_eq!(waits, length >= 2 && length - 2 <= longest.unwrap_or(0));
    }
}

/// A client that announces 16 MiB is closed when the five bytes of the header are there; what
/// others ask is answered meanwhile.
#[test]
fn header_above_the_longest_question_closes_the_client_at_once() {
    let mut rig = Rig::new();
    for (rights, length, why) in [
        (EVERYTHING, wire::MAX_FRAME, "16777216 bytes, of at most"),
        (&[Capability::Points][..], 51, "51 bytes, of at most 42"),
        (&[], 3, "3 bytes, of at most 2"),
        (EVERYTHING, 1, "1 bytes are no question"),
    ] {
        let socket = rig.socket(rights, Some(seed(0)));
        let [a, b, c, d] = u32::try_from(length).unwrap().to_be_bytes();
        nix::unistd::write(&socket, &[a, b, c, d, 0]).unwrap();
        let reported = rig.reported();
        assert!(reported.contains(why), "{reported}");
        rig.master.ask(&MakeSecret { info: Bytes(vec![]) }).unwrap();
    }
    // With its number there, the bound is that of the row.
    let socket = rig.socket(EVERYTHING, Some(seed(0)));
    nix::unistd::write(&socket, &[0, 0, 0, 11, 0, 0, 16]).unwrap();
    assert!(rig.reported().contains("RevokeLocal of 9 bytes, of at most 8"));
}

/// Each answer that is not checked apart below.
fn answers<R: Request>(
    hsm: &mut Hsm,
    question: &R,
    longest_is: &mut Vec<(u16, usize)>,
) -> R::Answer {
    longest_is.push((R::NUMBER, question.to_bytes().len()));
    hsm.ask(question).unwrap()
}

/// 483 HTLCs each way.
fn full(side: Side, number: u64) -> CommitmentState {
    let mut state = state(side, number, 500_000_000, &[]);
    state.htlcs = Long(
        (0..lengths::HTLCS as u64)
            .map(|id| Htlc {
                offered_by: if id % 2 == 0 { Side::Local } else { Side::Remote },
                id: HtlcId(id),
                amount: Msat(700_000),
                payment_hash: Preimage([7; 32]).hash(),
                expiry: BlockHeight(500),
            })
            .collect(),
    );
    let each = 700_000 * lengths::HTLCS as u64 / 2;
    state.balance.local.0 -= each;
    state.balance.remote.0 -= each;
    state.feerate = FeeratePerKw(253);
    state
}

/// OP_RETURN with 80 bytes: the longest that a close may pay to.
fn longest_script() -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x6a, 0x4c, 80][..], &[7; 80]].concat())
}

/// The numbers of questions, and how long they were.
type Asked = Vec<(u16, usize)>;

/// With each field that a seed may have.
fn longest_seed(mut seed: ChannelSeed) -> ChannelSeed {
    seed.broadcast = Some(CommitmentNumber::LAST);
    seed.closing = Some(ClosingTerms { script: longest_script(), max_fee: Sat(10_000) });
    seed
}

/// The channel's client.
fn asks_for_a_client(rig: &mut Rig, asked: &mut Asked) -> Hsm {
    let (ours, theirs) = stream_pair().unwrap();
    let rights = Rights::of(EVERYTHING);
    let (peer, channel) = (peer().node_id, CHANNEL);
    let question = NewClient { peer, channel, rights, seed: Some(longest_seed(seed(2))) };
    asked.push((NewClient::NUMBER, question.to_bytes().len()));
    rig.master.ask_with(&question, &[theirs.as_fd()]).unwrap();
    Hsm::new(ours)
}

/// One round of full commitments, and ours to be published. Returns a signature of the peer's.
fn asks_about_commitments(rig: &mut Rig, asked: &mut Asked) -> Signature {
    let point = peer().node_id.point().unwrap();
    let mut child = asks_for_a_client(rig, asked);
    answers(&mut child, &GetBasepoints {}, asked);
    answers(&mut child, &GetCommitmentPoint { number: CommitmentNumber(3) }, asked);
    answers(&mut child, &SetupChannel { params: params() }, asked);
    let signed = answers(&mut child, &SignRemoteCommitment { state: full(Side::Remote, 3) }, asked);
    assert_eq!(signed.htlcs.len(), lengths::HTLCS);
    let revoked = RemoteRevoked {
        number: CommitmentNumber(2),
        secret: peer_keys().secret(CommitmentNumber(2)).unwrap(),
    };
    assert_eq!(answers(&mut child, &revoked, asked), Verdict::Good);
    let mine = full(Side::Local, 3);
    let signatures = signed_by_peer(&mine);
    let shown = ValidateLocalCommitment { state: mine.clone(), signatures: signatures.clone() };
    assert_eq!(answers(&mut child, &shown, asked), Verdict::Good);
    rig.stored(3);
    answers(&mut child, &RevokeLocal { number: CommitmentNumber(2) }, asked);
    answers(
        &mut child,
        &CheckSecret { number: CommitmentNumber(0), secret: Secret::new([1; 32]) },
        asked,
    );
    let onions = vec![OnionPoint { ephemeral: point, path_key: Some(point) }; lengths::HTLCS];
    assert_eq!(answers(&mut child, &PeelOnions { onions }, asked).len(), lengths::HTLCS);
    asks_about_the_announcement(&mut child, signatures.signature, asked);
    let local = SignLocalCommitment {
        peer: peer().node_id,
        channel: CHANNEL,
        state: mine,
        signatures: signatures.clone(),
    };
    let Completed::Ready { .. } = answers(&mut rig.master, &local, asked) else {
        panic!("our commitment is not signed")
    };
    signatures.signature
}

fn asks_about_the_announcement(child: &mut Hsm, signature: Signature, asked: &mut Asked) {
    let features = Features::none().with(255);
    let short_channel_id = ShortChannelId(1);
    answers(child, &SignAnnouncement { short_channel_id, features: features.clone() }, asked);
    let (node_signature, bitcoin_signature) = (signature, signature);
    answers(
        child,
        &CheckAnnouncement { short_channel_id, features, node_signature, bitcoin_signature },
        asked,
    );
}

/// A close to the longest scripts there are, of a channel without HTLCs.
fn asks_about_a_close(rig: &mut Rig, signature: Signature, asked: &mut Asked) {
    let rows = longest_seed(super::phases::rows(ChannelPhase::Negotiating));
    let mut child = rig.client(EVERYTHING, Some(rows));
    let close = ClosingState {
        balance: Sides { local: Msat(900_000_000), remote: Msat(100_000_000) },
        script: Sides { local: longest_script(), remote: longest_script() },
        fee: Sat(1000),
    };
    answers(&mut child, &SignClosing { state: close.clone() }, asked);
    answers(&mut child, &CheckClosing { state: close.clone(), signature }, asked);
    answers(
        &mut rig.master,
        &CompleteClosing { peer: peer().node_id, channel: CHANNEL, state: close, signature },
        asked,
    );
}

/// What concerns the node and its wallet.
fn asks_about_the_node(rig: &mut Rig, asked: &mut Asked) {
    let point = peer().node_id.point().unwrap();
    let mut connectd = rig.client(&[Capability::Ecdh], None);
    answers(&mut connectd, &MixEcdh { point, chaining_key: Secret::new([1; 32]) }, asked);
    let bytes = |n: usize| Bytes(vec![7; n]);
    answers(&mut rig.master, &SignMessage { message: bytes(65_535) }, asked);
    answers(&mut rig.master, &MakeSecret { info: bytes(65_535) }, asked);
    let (hrp, data) = ("lnbcrt18446744073709551615p".to_owned(), bytes(16 * 1024));
    answers(&mut rig.master, &SignInvoice { hrp, data }, asked);
    let mut update = Network::Regtest.chain_hash().to_vec();
    update.extend_from_slice(&[0; 8 + 4 + 2 + 2 + 8 + 4 + 4 + 8]);
    answers(&mut rig.master, &SignChannelUpdate { unsigned: Bytes(update) }, asked);
    let question = super::node::spending_of(lengths::INPUTS - 60);
    let Completed::Ready { .. } = answers(&mut rig.master, &question, asked) else {
        panic!("the wallet's transaction is not signed")
    };
    answers(&mut rig.master, &CountSignatures {}, asked);
    let (peer, channel) = (peer().node_id, CHANNEL);
    answers(&mut rig.master, &ForgetChannel { peer, channel }, asked);
}

#[test]
fn longest_honest_question_of_each_row_is_answered() {
    let mut asked = Asked::new();
    let signature = asks_about_commitments(&mut Rig::new(), &mut asked);
    let mut rig = Rig::new();
    asks_about_a_close(&mut rig, signature, &mut asked);
    asks_about_the_node(&mut rig, &mut asked);
    for row in HsmRequest::ROWS.iter().filter(|row| row.number != Unlock::NUMBER) {
        let (_, longest) = asked.iter().find(|(number, _)| *number == row.number).unwrap();
        assert!(*longest <= row.longest, "{}", row.name);
        // And the bound is no larger than what was asked here, but for what is rarely so long: a
        // channel_type, each key of a transaction's inputs.
        let spare = if row.number == SignWallet::NUMBER { row.longest } else { 64 };
        assert!(longest + spare >= row.longest, "{}: {longest} of {}", row.name, row.longest);
    }
}

#[test]
fn longest_passphrase_unlocks() {
    let folder = folder();
    let path = folder.join("hsm_secret");
    let (_script, mut master, thread) = start();
    let passphrase = Some(SecretBytes::new(vec![b'x'; 1000]));
    let question = Unlock { passphrase, ..unlock(&path) };
    assert!(matches!(master.ask(&question).unwrap(), UnlockAnswer::Open { .. }));
    let longest = Unlock { path: "x".repeat(4096), network: Network::Testnet4, ..question };
    assert_eq!(fits_hsmd(&longest), Ok(()));
    drop(master);
    assert_eq!(thread.join().unwrap(), Ok(()));
    std::fs::remove_dir_all(folder).unwrap();
}

/// The question that hsmd would close its asker for is not sent.
#[test]
fn question_above_its_bound_is_refused_before_it_is_sent() {
    let mut rig = Rig::new();
    let long = MakeSecret { info: Bytes(vec![0; 65_536]) };
    let why = rig.master.ask(&long).unwrap_err();
    assert!(format!("{why:?}").contains("MakeSecret of 65540 bytes, of at most 65539"), "{why:?}");
    rig.master.ask(&MakeSecret { info: Bytes(vec![]) }).unwrap();
}
