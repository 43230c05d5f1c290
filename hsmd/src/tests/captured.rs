//! Captured clients that ask anything in any order: no secret of ours that has no stored successor
//! comes out, openingd has one commitment signed, and a closing pays us what we are owed.

use super::*;
use proptest::prelude::*;

fn number(n: u64) -> CommitmentNumber {
    CommitmentNumber(n)
}

/// Bytes that begin like a question of a channel's client, with whatever after.
fn question() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0u16..40, any::<u16>()];
    (number, prop::collection::vec(any::<u8>(), 0..200)).prop_map(|(number, rest)| {
        let mut bytes = number.to_be_bytes().to_vec();
        bytes.extend_from_slice(&rest);
        bytes
    })
}

/// A good question with some bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let mine = state(Side::Local, 3, 100_000_000, &[50_000_000, 20_000_000]);
    let theirs = state(Side::Remote, 3, 100_000_000, &[50_000_000, 20_000_000]);
    let signatures = signed_by_peer(&mine);
    fn whole<R: Request>(question: &R) -> Vec<u8> {
        let mut bytes = R::NUMBER.to_be_bytes().to_vec();
        question.put(&mut bytes);
        bytes
    }
    let good = prop_oneof![
        Just(whole(&SignRemoteCommitment { state: theirs })),
        Just(whole(&ValidateLocalCommitment { state: mine, signatures })),
        Just(whole(&RevokeLocal { number: number(1) })),
        Just(whole(&SetupChannel { params: params() })),
    ];
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    (good, damage).prop_map(|(mut bytes, damage)| {
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        bytes
    })
}

/// hsmd without its sockets, with one channel: as its rows are, or before it has any.
fn judge_of(seed: Option<ChannelSeed>) -> (crate::answer::Hsm, crate::arriving::Asker, PathBuf) {
    use crate::answer::Hsm;
    use crate::arriving::Asker;
    let folder = folder();
    let path = folder.join("hsm_secret");
    std::fs::write(&path, [1; 32]).unwrap();
    let mut hsm = Hsm::default();
    let mut ask = |body: Vec<u8>, fds: VecDeque<OwnedFd>| {
        hsm.answer(Asker::Master, &Rights::of(&[Capability::Master]), &body, fds)
            .map(|_| ())
            .unwrap();
    };
    let mut body = Unlock::NUMBER.to_be_bytes().to_vec();
    wire::Wire::put(&unlock(&path), &mut body);
    ask(body, VecDeque::new());
    let question =
        NewClient { peer: peer().node_id, channel: CHANNEL, rights: Rights::of(EVERYTHING), seed };
    let mut body = NewClient::NUMBER.to_be_bytes().to_vec();
    wire::Wire::put(&question, &mut body);
    ask(body, VecDeque::from([stream_pair().unwrap().0]));
    (hsm, Asker::Child(peer().node_id, CHANNEL), folder)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Three hundred clients, each with questions in a row: nothing panics, and no secret of ours
    /// that has no shown successor comes out.
    #[test]
    fn newest_secret_stays_whatever_a_captured_client_asks(
        questions in prop::collection::vec(prop_oneof![3 => question(), 1 => damaged()], 300),
    ) {
        let (mut hsm, who, folder) = judge_of(Some(seed(2)));
        let rights = Rights::of(EVERYTHING);
        let newest = our_keys().secret(number(3)).unwrap().secret_bytes();
        for body in &questions {
            if let Ok(Some(outcome)) = hsm.answer(who, &rights, body, VecDeque::new()) {
                prop_assert!(!outcome.answer.windows(32).any(|w| w == newest));
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// A question of a captured openingd: good ones, in any order, with any contents.
fn openings_question() -> impl Strategy<Value = Vec<u8>> {
    fn whole<R: Request>(question: &R) -> Vec<u8> {
        let mut bytes = R::NUMBER.to_be_bytes().to_vec();
        question.put(&mut bytes);
        bytes
    }
    let agreed = constants().first_balance();
    let commitment = move |side: Side| {
        (0u64..3, any::<bool>(), any::<bool>()).prop_map(move |(n, first, busy)| {
            let htlcs: &[u64] = if busy { &[1_000_000] } else { &[] };
            let some = state(side, n, 100_000_000, htlcs);
            if first {
                CommitmentState { balance: agreed, htlcs: Long(vec![]), ..some }
            } else {
                some
            }
        })
    };
    prop_oneof![
        1 => Just(whole(&SetupChannel { params: params() })),
        2 => commitment(Side::Remote).prop_map(|state| whole(&SignRemoteCommitment { state })),
        2 => commitment(Side::Local).prop_map(|state| {
            let signatures = signed_by_peer(&state);
            whole(&ValidateLocalCommitment { state, signatures })
        }),
        1 => (0u64..3).prop_map(|n| whole(&RevokeLocal { number: number(n) })),
        1 => (0u64..3).prop_map(|n| {
            let secret = peer_keys().secret(number(n)).unwrap();
            whole(&RemoteRevoked { number: number(n), secret })
        }),
    ]
}

/// A mutual close of anything to anywhere.
fn any_closing() -> impl Strategy<Value = ClosingState> {
    let total = 1_000_000_000u64;
    let local = prop_oneof![Just(900_000_000), 0..=total];
    (local, 1u8..4, prop_oneof![Just(1000u64), 0u64..100_000]).prop_map(move |(local, to, fee)| {
        ClosingState {
            balance: Sides { local: Msat(local), remote: Msat(total - local) },
            script: Sides { local: script(to), remote: script(9) },
            fee: Sat(fee),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// A captured openingd has one commitment of the peer's signed, the first as it was agreed, and
    /// no secret of ours.
    #[test]
    fn captured_openingd_gets_one_signature_and_no_secret(
        questions in prop::collection::vec(openings_question(), 1..30),
    ) {
        let (mut hsm, who, folder) = judge_of(None);
        let (rights, mut signed) = (Rights::of(EVERYTHING), 0);
        for body in &questions {
            if let Ok(Some(outcome)) = hsm.answer(who, &rights, body, VecDeque::new()) {
                signed += usize::from(body.starts_with(&SignRemoteCommitment::NUMBER.to_be_bytes()));
                for n in 0..3 {
                    let secret = our_keys().secret(number(n)).unwrap().secret_bytes();
                    prop_assert!(!outcome.answer.windows(32).any(|w| w == secret));
                }
            }
        }
        prop_assert!(signed <= 1, "{} signatures", signed);
        std::fs::remove_dir_all(folder).unwrap();
    }

    /// Whatever a captured closingd has signed pays us what the last commitment owed us, less the
    /// fee that the master bears.
    #[test]
    fn captured_closingd_has_nothing_signed_that_pays_us_less(
        closings in prop::collection::vec(any_closing(), 1..20),
    ) {
        let (mut hsm, who, folder) = judge_of(Some(super::phases::rows(ChannelPhase::Negotiating)));
        for state in closings {
            let mut body = SignClosing::NUMBER.to_be_bytes().to_vec();
            wire::Wire::put(&SignClosing { state: state.clone() }, &mut body);
            let rights = Rights::of(&[Capability::SignClosing]);
            if let Ok(Some(_)) = hsm.answer(who, &rights, &body, VecDeque::new()) {
                let c = constants();
                let kept = closing::our_choice(&c, &state).unwrap();
                let built = closing::build(&c, &state, kept).unwrap();
                let ours = built.tx.output.iter().filter(|o| o.script_pubkey == script(1));
                let ours: u64 = ours.map(|o| o.value.to_sat()).sum();
                prop_assert!(ours >= 900_000 - 1000, "{} of {:?}", ours, state);
            }
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
