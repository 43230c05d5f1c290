//! One channel from its opening to its end, as the daemons would ask.

use super::*;

/// Our signatures on the remote's commitment hold for a transaction that is built from public keys
/// alone.
fn holds(state: &CommitmentState, signatures: &CommitmentSignatures) {
    let c = constants();
    let keys = CommitmentKeys::derive(&c.params.basepoints, state.side, &state.point);
    build(&c, keys, state).unwrap().verify(&c, signatures).unwrap();
}

fn number(n: u64) -> CommitmentNumber {
    CommitmentNumber(n)
}

#[test]
fn channel_is_opened_used_and_closed() {
    let mut rig = Rig::new();
    opens(&mut rig);
    uses(&mut rig);
    closes(&mut rig);
}

/// As openingd asks.
fn opens(rig: &mut Rig) {
    let ours = our_keys();
    let mut opening =
        rig.client(&[Capability::Points, Capability::SignRemote, Capability::Revoke], None);
    assert_eq!(opening.ask(&GetBasepoints {}).unwrap(), ours.points);
    for n in [0, 1] {
        let point = opening.ask(&GetCommitmentPoint { number: number(n) }).unwrap();
        assert_eq!(Some(point), ours.point(number(n)));
    }
    opening.ask(&SetupChannel { params: params() }).unwrap();
    opening.ask(&SetupChannel { params: params() }).unwrap();
    let first = state(Side::Remote, 0, 0, &[]);
    holds(&first, &opening.ask(&SignRemoteCommitment { state: first.clone() }).unwrap());
    let mine = state(Side::Local, 0, 0, &[]);
    let signatures = signed_by_peer(&mine);
    let shown = opening.ask(&ValidateLocalCommitment { state: mine, signatures }).unwrap();
    assert_eq!(shown, Verdict::Good);
}

/// As channeld asks, after a restart of the master or not.
fn uses(rig: &mut Rig) {
    let ours = our_keys();
    let mut channeld = rig.client(EVERYTHING, Some(seed(0)));
    for n in 1..4u64 {
        let htlcs = [50_000_000, 20_000_000, 100_000];
        let theirs = state(Side::Remote, n, 100_000_000, &htlcs);
        let signed = channeld.ask(&SignRemoteCommitment { state: theirs.clone() }).unwrap();
        assert_eq!(signed.htlcs.len(), 2);
        holds(&theirs, &signed);
        // Retransmission: the same again.
        assert_eq!(channeld.ask(&SignRemoteCommitment { state: theirs }).unwrap(), signed);
        let secret = peer_keys().secret(number(n - 1)).unwrap();
        let revoked = RemoteRevoked { number: number(n - 1), secret };
        assert_eq!(channeld.ask(&revoked).unwrap(), Verdict::Good);
        assert_eq!(channeld.ask(&revoked).unwrap(), Verdict::Good, "said again after a crash");

        let mine = state(Side::Local, n, 100_000_000, &htlcs);
        let signatures = signed_by_peer(&mine);
        let shown = channeld.ask(&ValidateLocalCommitment { state: mine, signatures }).unwrap();
        assert_eq!(shown, Verdict::Good);
        rig.stored(n);
        let out = channeld.ask(&RevokeLocal { number: number(n - 1) }).unwrap();
        assert_eq!(Some(out.secret), ours.secret(number(n - 1)));
        assert_eq!(Some(out.next_point), ours.point(number(n + 1)));
        assert_eq!(channeld.ask(&RevokeLocal { number: number(n - 1) }).unwrap(), out);
    }
    // All HTLCs removed.
    let theirs = state(Side::Remote, 4, 150_000_000, &[]);
    channeld.ask(&SignRemoteCommitment { state: theirs }).unwrap();
    let mine = state(Side::Local, 4, 150_000_000, &[]);
    let signatures = signed_by_peer(&mine);
    channeld.ask(&ValidateLocalCommitment { state: mine, signatures }).unwrap();
}

/// As closingd asks, and lightningd at the end.
fn closes(rig: &mut Rig) {
    let terms = ClosingTerms { script: script(1), max_fee: Sat(1000) };
    let phase = ChannelPhase::Negotiating;
    let rows = ChannelSeed { phase, closing: Some(terms), ..seed(3) };
    let rows = ChannelSeed { local_balance: Msat(850_000_000), ..rows };
    let rows = ChannelSeed { local_number: number(4), remote_number: number(4), ..rows };
    let mut closingd = rig.client(&[Capability::SignClosing], Some(rows));
    let state = ClosingState {
        balance: Sides { local: Msat(850_000_000), remote: Msat(150_000_000) },
        script: Sides { local: script(1), remote: script(2) },
        fee: Sat(500),
    };
    let ours = closingd.ask(&SignClosing { state: state.clone() }).unwrap();
    let c = constants();
    let built = closing::build(&c, &state, Sides { local: true, remote: true }).unwrap();
    SECP256K1.verify_ecdsa(&built.sighash(&c), &ours, &c.params.basepoints.local.funding).unwrap();
    let theirs = SECP256K1.sign_ecdsa(&built.sighash(&c), &peer_keys().funding);
    let check = |signature| CheckClosing { state: state.clone(), signature };
    assert_eq!(closingd.ask(&check(theirs)).unwrap(), Verdict::Good);
    assert!(matches!(closingd.ask(&check(ours)).unwrap(), Verdict::Bad { .. }));

    let complete = |signature| CompleteClosing {
        peer: peer().node_id,
        channel: CHANNEL,
        state: state.clone(),
        signature,
    };
    let Completed::Ready { transaction } = rig.master.ask(&complete(theirs)).unwrap() else {
        panic!()
    };
    assert_eq!(transaction, built.signed(&c, &Sides { local: ours, remote: theirs }));
    assert!(matches!(rig.master.ask(&complete(ours)).unwrap(), Completed::Refused { .. }));
    rig.master.ask(&ForgetChannel { peer: peer().node_id, channel: CHANNEL }).unwrap();
}

/// openingd may die behind a question, and its channel be forgotten before that question's turn
/// comes.
#[test]
fn client_of_a_forgotten_channel_is_closed_without_a_complaint() {
    let mut rig = Rig::new();
    let mut openingd = rig.client(EVERYTHING, Some(seed(0)));
    rig.master.ask(&ForgetChannel { peer: peer().node_id, channel: CHANNEL }).unwrap();
    let state = state(Side::Remote, 1, 100_000_000, &[]);
    assert!(openingd.ask(&SignRemoteCommitment { state }).is_err());
    // Nothing was said of that: the first complaint heard is about another question.
    let other = rig.client(EVERYTHING, None);
    rig.refuses(other, &RevokeLocal { number: CommitmentNumber(5) }, "RevokeLocal");
}

#[test]
fn bad_signature_of_the_peer_is_not_the_clients_fault() {
    let mut rig = Rig::new();
    let mut channeld = rig.client(EVERYTHING, Some(seed(0)));
    let state = state(Side::Local, 1, 100_000_000, &[50_000_000]);
    let good = signed_by_peer(&state);
    let mut judge = |signatures| {
        channeld.ask(&ValidateLocalCommitment { state: state.clone(), signatures }).unwrap()
    };
    let bad = |why: &str| Verdict::Bad { why: why.to_owned() };
    let wrong = CommitmentSignatures { signature: good.htlcs[0], ..good.clone() };
    assert_eq!(judge(wrong), bad("the signature on the commitment transaction does not hold"));
    let wrong = CommitmentSignatures { htlcs: vec![good.signature], ..good.clone() };
    assert_eq!(judge(wrong), bad("the signature on the HTLC of output 2 does not hold"));
    let wrong = CommitmentSignatures { htlcs: vec![], ..good.clone() };
    assert_eq!(judge(wrong), bad("0 HTLC signatures for 1 HTLC outputs"));
    assert_eq!(judge(good), Verdict::Good);
}

#[test]
fn wrong_secret_of_the_peer_is_its_fault_and_revokes_nothing() {
    let mut rig = Rig::new();
    let mut channeld = rig.client(EVERYTHING, Some(seed(0)));
    let theirs = state(Side::Remote, 1, 100_000_000, &[]);
    channeld.ask(&SignRemoteCommitment { state: theirs.clone() }).unwrap();
    let (number, secret) = (CommitmentNumber(0), peer_keys().secret(CommitmentNumber(1)).unwrap());
    let judged = channeld.ask(&RemoteRevoked { number, secret }).unwrap();
    assert!(matches!(judged, Verdict::Bad { .. }));
    channeld.ask(&SignRemoteCommitment { state: theirs }).unwrap();
    let next = SignRemoteCommitment { state: state(Side::Remote, 2, 100_000_000, &[]) };
    rig.refuses(channeld, &next, "only those before 0 are revoked");
}

#[test]
fn our_commitment_completed_for_broadcast_is_never_revoked() {
    let mut rig = Rig::new();
    let mut channeld = rig.client(EVERYTHING, Some(seed(0)));
    let state = state(Side::Local, 1, 100_000_000, &[50_000_000]);
    let signatures = signed_by_peer(&state);
    let question = SignLocalCommitment {
        peer: peer().node_id,
        channel: CHANNEL,
        state: state.clone(),
        signatures: signatures.clone(),
    };
    let Completed::Ready { transaction } = rig.master.ask(&question).unwrap() else { panic!() };
    let witness = &transaction.input[0].witness;
    assert_eq!((witness.len(), &witness[3]), (4, constants().funding_script.as_bytes()));

    channeld.ask(&ValidateLocalCommitment { state: state.clone(), signatures }).unwrap();
    // The one before was not signed for broadcast: it may go. This one may not.
    rig.stored(1);
    channeld.ask(&RevokeLocal { number: CommitmentNumber(0) }).unwrap();
    let next = super::state(Side::Local, 2, 100_000_000, &[]);
    let signatures = signed_by_peer(&next);
    channeld.ask(&ValidateLocalCommitment { state: next, signatures }).unwrap();
    let revoke = RevokeLocal { number: CommitmentNumber(1) };
    rig.refuses(channeld, &revoke, "1 was signed for broadcast");
    // And what was revoked is not signed.
    let old = super::state(Side::Local, 0, 0, &[]);
    let signatures = signed_by_peer(&old);
    let refused =
        rig.master.ask(&SignLocalCommitment { state: old, signatures, ..question }).unwrap();
    assert!(matches!(refused, Completed::Refused { why } if why.contains("0 is revoked")));
}

#[test]
fn broadcast_in_the_rows_is_remembered_after_a_restart() {
    let mut rig = Rig::new();
    let rows = ChannelSeed {
        local_number: CommitmentNumber(5),
        local_revoked: CommitmentNumber(4),
        broadcast: Some(CommitmentNumber(4)),
        ..seed(4)
    };
    let channeld = rig.client(EVERYTHING, Some(rows));
    rig.refuses(
        channeld,
        &RevokeLocal { number: CommitmentNumber(4) },
        "4 was signed for broadcast",
    );
    // A later seed that does not know of it lowers nothing.
    let rows = ChannelSeed { local_number: CommitmentNumber(5), ..seed(4) };
    let channeld = rig.client(EVERYTHING, Some(rows));
    rig.refuses(
        channeld,
        &RevokeLocal { number: CommitmentNumber(4) },
        "4 was signed for broadcast",
    );
}

#[test]
fn secret_that_the_peer_claims_to_have_is_recognised() {
    let mut rig = Rig::new();
    let mut channeld = rig.client(EVERYTHING, Some(seed(3)));
    let number = CommitmentNumber(9);
    let secret = Secret::new(our_keys().secret(number).unwrap().secret_bytes());
    assert!(channeld.ask(&CheckSecret { number, secret: secret.clone() }).unwrap());
    let number = CommitmentNumber(8);
    assert!(!channeld.ask(&CheckSecret { number, secret }).unwrap());
}
