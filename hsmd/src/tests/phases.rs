//! Each signature and secret of a channel in each phase: asked of an hsmd that lives on, after a
//! client with another seed, and of one that was started again. What `channel::phase` refuses
//! closes the client.

use super::*;
use channel::phase::{Input, Rule, rule, why_refused};

fn number(n: u64) -> CommitmentNumber {
    CommitmentNumber(n)
}
fn terms() -> ClosingTerms {
    ClosingTerms { script: script(1), max_fee: Sat(1000) }
}
/// The rows of a channel in this phase whose commitments of number 2 count, with nothing under way.
pub(super) fn rows(phase: ChannelPhase) -> ChannelSeed {
    ChannelSeed { phase, closing: Some(terms()), ..seed(2) }
}
fn closing_state() -> ClosingState {
    ClosingState {
        balance: Sides { local: Msat(900_000_000), remote: Msat(100_000_000) },
        script: Sides { local: script(1), remote: script(2) },
        fee: Sat(1000),
    }
}

/// What a client is told: nothing of it, or why its socket was closed.
fn told<R: Request + std::fmt::Debug>(
    rig: &mut Rig,
    phase: ChannelPhase,
    question: &R,
) -> Result<R::Answer, String> {
    let mut client = rig.client(EVERYTHING, Some(rows(phase)));
    client.ask(question).map_err(|_| rig.reported())
}

fn follows<A>(phase: ChannelPhase, input: Input, changes: bool, told: Result<A, String>) {
    let refused = match rule(phase, input) {
        Rule::Taken => None,
        Rule::Unchanged if !changes => None,
        Rule::Unchanged => Some("has other balances than the closing"),
        Rule::First => Some("only the first"),
        Rule::BeforeShutdown | Rule::WithOutput | Rule::Waits | Rule::Ignored | Rule::Refused => {
            Some(why_refused(phase, input))
        }
    };
    match (refused, told) {
        (None, Ok(_)) => {}
        (Some(why), Err(told)) => assert!(told.contains(why), "{phase:?}, {input:?}: {told}"),
        (None, Err(told)) => panic!("{phase:?}, {input:?} is refused: {told}"),
        (Some(_), Ok(_)) => panic!("{phase:?}, {input:?} is taken"),
    }
}

fn visit(rig: &mut Rig, phase: ChannelPhase) {
    // Of the same balances as before, and of others.
    let (same, other) = (100_000_000, 50_000_000);
    for (given, changes) in [(same, false), (other, true)] {
        let theirs = state(Side::Remote, 2, given, &[]);
        follows(
            phase,
            Input::SignRemote,
            changes,
            told(rig, phase, &SignRemoteCommitment { state: theirs }),
        );
        let mine = state(Side::Local, 2, given, &[]);
        let question =
            ValidateLocalCommitment { signatures: signed_by_peer(&mine), state: mine.clone() };
        follows(phase, Input::ShowLocal, changes, told(rig, phase, &question));
    }
    // With an HTLC.
    let theirs = state(Side::Remote, 3, same, &[1_000_000]);
    follows(
        phase,
        Input::SignRemote,
        true,
        told(rig, phase, &SignRemoteCommitment { state: theirs }),
    );
    // A secret that is out already.
    let revoke = RevokeLocal { number: number(1) };
    follows(phase, Input::RevokeLocal, false, told(rig, phase, &revoke));
    // One that is not: the commitment after it was shown before this phase began.
    if matches!(phase, ChannelPhase::Negotiating | ChannelPhase::ClosingAgreed) {
        let mut rig = Rig::new();
        let next = state(Side::Local, 3, same, &[]);
        let shown = ValidateLocalCommitment { signatures: signed_by_peer(&next), state: next };
        let mut earlier = rig.client(EVERYTHING, Some(seed(2)));
        assert_eq!(earlier.ask(&shown).unwrap(), Verdict::Good);
        drop(earlier);
        let revoke = RevokeLocal { number: number(2) };
        let told = told(&mut rig, phase, &revoke).unwrap_err();
        assert!(told.contains("2 cannot be revoked after the closing"), "{phase:?}: {told}");
    }
    let question =
        SignAnnouncement { short_channel_id: ShortChannelId(1), features: Features::none() };
    follows(phase, Input::SignAnnouncement, false, told(rig, phase, &question));
}

#[test]
fn phase_table_rules_each_hsmd_signature() {
    for phase in ChannelPhase::ALL.iter().copied().filter(|p| *p != ChannelPhase::Opening) {
        // An hsmd that heard of the channel just now, as after a restart.
        let mut rig = Rig::new();
        visit(&mut rig, phase);
        if rule(phase, Input::SignClosing) != Rule::Waits {
            let signs = told(&mut rig, phase, &SignClosing { state: closing_state() });
            follows(phase, Input::SignClosing, false, signs);
        }
        let mut rig = Rig::new();
        let mine = state(Side::Local, 2, 100_000_000, &[]);
        rig.client(EVERYTHING, Some(rows(phase))).ask(&GetBasepoints {}).unwrap();
        let question = SignLocalCommitment {
            peer: peer().node_id,
            channel: CHANNEL,
            signatures: signed_by_peer(&mine),
            state: mine,
        };
        let signed = match rig.master.ask(&question).unwrap() {
            Completed::Ready { .. } => Ok(()),
            Completed::Refused { why } => Err(why),
        };
        follows(phase, Input::SignLocal, false, signed);
        // One that knew the channel in an earlier phase.
        let mut rig = Rig::new();
        let mut earlier = rig.client(EVERYTHING, Some(rows(ChannelPhase::Normal)));
        earlier.ask(&GetBasepoints {}).unwrap();
        visit(&mut rig, phase);
    }
}

/// Whatever the rows of a later client say, a closing that was signed binds us for as long as hsmd
/// lives.
#[test]
fn closing_signature_binds_whatever_phase_a_later_seed_names() {
    for phase in [ChannelPhase::AwaitingLockin, ChannelPhase::Normal, ChannelPhase::ShuttingDown] {
        let mut rig = Rig::new();
        let mut closingd =
            rig.client(&[Capability::SignClosing], Some(rows(ChannelPhase::Negotiating)));
        closingd.ask(&SignClosing { state: closing_state() }).unwrap();
        let theirs = state(Side::Remote, 3, 50_000_000, &[]);
        let told = told(&mut rig, phase, &SignRemoteCommitment { state: theirs });
        assert!(told.unwrap_err().contains("other balances"), "{phase:?}");
    }
}

/// closingd may be captured: without the master's word that a closing is stored it has none signed.
#[test]
fn closing_signature_waits_until_the_closing_is_stored() {
    let mut rig = Rig::new();
    let mut closingd =
        rig.client(&[Capability::SignClosing], Some(rows(ChannelPhase::ShuttingDown)));
    let asks = std::thread::spawn(move || closingd.ask(&SignClosing { state: closing_state() }));
    for _ in 0..100 {
        rig.master.ask(&MakeSecret { info: Bytes(vec![]) }).unwrap();
        assert!(!asks.is_finished(), "a closing is signed that the master knows nothing of");
    }
    rig.master.order(&ClosingStored { peer: peer().node_id, channel: CHANNEL }).unwrap();
    asks.join().unwrap().unwrap();
    // From then on no commitment has other balances.
    let client = rig.client(EVERYTHING, Some(rows(ChannelPhase::ShuttingDown)));
    let theirs = state(Side::Remote, 3, 50_000_000, &[]);
    rig.refuses(client, &SignRemoteCommitment { state: theirs }, "other balances");
}

/// Before the master has stored a channel, its openingd gets one signature: on the first commitment
/// as it was agreed.
#[test]
fn openingd_gets_the_first_commitment_signed_once_and_no_other() {
    let agreed = constants().first_balance();
    let first = |change: fn(&mut CommitmentState)| {
        let mut first = CommitmentState { balance: agreed, ..state(Side::Remote, 0, 0, &[]) };
        change(&mut first);
        SignRemoteCommitment { state: first }
    };
    let openingd = |rig: &mut Rig| {
        let mut client = rig.client(EVERYTHING, None);
        client.ask(&SetupChannel { params: params() }).unwrap();
        client
    };
    let mut rig = Rig::new();
    for (question, why) in [
        (first(|s| s.number = number(1)), "only the first"),
        (
            first(|s| {
                s.balance.local.0 -= 1000;
                s.balance.remote.0 += 1000;
            }),
            "only the first",
        ),
        (SignRemoteCommitment { state: state(Side::Remote, 0, 0, &[1_000_000]) }, "only the first"),
    ] {
        let client = openingd(&mut rig);
        rig.refuses(client, &question, why);
    }
    let mut client = openingd(&mut rig);
    client.ask(&first(|_| ())).unwrap();
    rig.refuses(client, &first(|_| ()), "only the first");
}

/// What openingd was given is of no use to it once the master has stored the channel.
#[test]
fn openingd_is_heard_no_more_once_the_channel_is_stored() {
    let mut rig = Rig::new();
    let mut openingd = rig.client(EVERYTHING, None);
    openingd.ask(&SetupChannel { params: params() }).unwrap();
    let first = state(Side::Remote, 0, 0, &[]);
    openingd.ask(&SignRemoteCommitment { state: first }).unwrap();
    let mut channeld = rig.client(EVERYTHING, Some(seed(0)));
    channeld.ask(&GetBasepoints {}).unwrap();
    let question = SignRemoteCommitment { state: state(Side::Remote, 1, 0, &[]) };
    assert!(openingd.ask(&question).is_err());
    channeld.ask(&question).unwrap();
}
