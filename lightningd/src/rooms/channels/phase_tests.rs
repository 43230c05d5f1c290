//! Each ask and report of a channel's daemons, and each decision of the switch, in each phase of a
//! channel: while the node lives, and after it was started again from its rows. What
//! `channel::phase` refuses kills the daemon and changes nothing.

use super::testing::{adds, alias, htlc, point, step};
use crate::kernel::children::Role;
use crate::kernel::words::event::Event;
use crate::rooms::channels::state::{Cause, State, StateTrust};
use crate::rooms::channels::{Channel, Owner, store};
use crate::testing::{Rig, Said};
use ::channel::phase::{Input, Rule, rule};
use onion::{Failure, FinalPayload, ForwardPayload, onion_keys, unwrap_error};
use primitives::*;
use subdaemon::Frame;
use wire::channel_data::*;
use wire::channeld::*;
use wire::closingd::PersistOffer;
use wire::hsm::ClosingState;
use wire::{Bytes, Long, OnionPacket, Request};

/// Every phase that a row can have while a daemon may still speak for it.
const PHASES: [ChannelPhase; 9] = [
    ChannelPhase::AwaitingLockin,
    ChannelPhase::Normal,
    ChannelPhase::ShuttingDown,
    ChannelPhase::Negotiating,
    ChannelPhase::ClosingAgreed,
    ChannelPhase::AwaitingUnilateral,
    ChannelPhase::ClosingFailed,
    ChannelPhase::Onchain,
    ChannelPhase::DataLoss,
];
const CHANNEL: ChannelNumber = ChannelNumber(1);
const DAEMON: u64 = 1001;

fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array([byte; 20]))
}

const fn state_of(phase: ChannelPhase) -> State {
    use ChannelPhase as P;
    match phase {
        P::Opening | P::AwaitingLockin => State::AwaitingLockin,
        P::Normal => State::Normal,
        P::ShuttingDown => State::ShuttingDown,
        P::Negotiating => State::ClosingSigExchange,
        P::ClosingAgreed => State::ClosingComplete,
        P::AwaitingUnilateral | P::ClosingFailed | P::DataLoss => State::AwaitingUnilateral,
        P::Onchain => State::Onchain,
        P::Closed => State::Closed,
    }
}

/// Brings a channel into a phase, in its rows and in memory; then its daemon speaks for it, in this
/// life or in the next.
fn enter(rig: &mut Rig, number: ChannelNumber, phase: ChannelPhase, restart: bool) {
    use ChannelPhase as P;
    let begun = matches!(phase, P::Negotiating | P::ClosingAgreed | P::ClosingFailed);
    let shut = begun || phase == P::ShuttingDown;
    store::set_state(&rig.db, number, state_of(phase), Cause::User, "a test").unwrap();
    if begun {
        store::set_closing_begun(&rig.db, number).unwrap();
    }
    if phase == P::DataLoss {
        store::set_lost_state(&rig.db, number).unwrap();
    }
    if shut {
        for (side, byte) in [(Side::Local, 1), (Side::Remote, 2)] {
            store::set_shutdown(&rig.db, number, side, &script(byte)).unwrap();
        }
    }
    if restart {
        rig.crash();
    }
    let channel = rig.node.channels.all.get_mut(&number).unwrap();
    if !restart {
        channel.state = state_of(phase);
        channel.closing_begun = begun;
        if phase == P::DataLoss {
            channel.trust = StateTrust::Lost;
        }
        if shut {
            channel.shutdown = Sides { local: Some(script(1)), remote: Some(script(2)) };
        }
    }
    // A start fails a channel with HTLCs whose closing began.
    let busy = restart && !channel.live.htlcs.0.is_empty() && channel.closing_begun;
    let fails = busy && phase == P::Negotiating;
    assert_eq!(channel.phase(), if fails { P::ClosingFailed } else { phase });
    channel.owner = Owner::Channeld(number.0 + 1000);
    channel.reestablished = true;
}

fn ask<R: Request>(rig: &mut Rig, ask: &R) -> Vec<Said> {
    let mut body = R::NUMBER.to_be_bytes().to_vec();
    ask.put(&mut body);
    rig.run(Event::Child(DAEMON, Frame { body, fds: Default::default() }))
}

/// What a daemon says is answered as the table has it.
fn follows(phase: ChannelPhase, input: Input, changes: bool, said: &[Said], what: &str) {
    let refused = match rule(phase, input) {
        Rule::Taken | Rule::Ignored => false,
        Rule::Unchanged => changes,
        Rule::BeforeShutdown | Rule::WithOutput | Rule::Waits | Rule::First | Rule::Refused => true,
    };
    let killed = said.contains(&Said::Kill(1));
    assert_eq!(killed, refused, "{phase:?}, {input:?}, {what}: {said:?}");
}

fn visit(phase: ChannelPhase, restart: bool) {
    let name = |n: &str| format!("phase-{n}-{phase:?}-{restart}");
    let fresh = |n: &str| {
        let mut rig = Rig::new(&name(n), &[(1, 1)]);
        enter(&mut rig, CHANNEL, phase, restart);
        rig
    };
    let what = if restart { "after a restart" } else { "live" };

    let mut rig = fresh("persist");
    let changes = vec![step(&rig.channel(1).live)];
    let said = ask(&mut rig, &Persist { changes, peeled: Long(vec![]) });
    follows(phase, Input::Persist, true, &said, what);

    let mut rig = fresh("ready");
    let said = ask(&mut rig, &PersistReady {});
    follows(phase, Input::PersistReady, true, &said, what);
    let mut rig = fresh("peer-ready");
    let said = ask(&mut rig, &PersistPeerReady { alias: None, next_point: point(61) });
    follows(phase, Input::PersistReady, true, &said, what);

    let known = rule(phase, Input::PersistShutdown) == Rule::Unchanged;
    let mut rig = fresh("shutdown");
    let said = ask(&mut rig, &PersistShutdown { by: Side::Remote, script: script(2) });
    follows(phase, Input::PersistShutdown, !known, &said, what);
    let mut rig = fresh("other-shutdown");
    let other = PersistShutdown { by: Side::Remote, script: script(3) };
    let had = rig.channel(1).shutdown.remote.is_some();
    let said = ask(&mut rig, &other);
    assert!(!had || said.contains(&Said::Kill(1)), "{phase:?}: a second script is stored");

    let mut rig = fresh("script");
    let said = ask(&mut rig, &GetShutdownScript {});
    follows(phase, Input::GetShutdownScript, true, &said, what);

    let mut rig = fresh("learned");
    let said = rig.report(1, &PreimageLearned { id: HtlcId(9), preimage: Preimage([1; 32]) });
    follows(phase, Input::HtlcNews, true, &said, what);
    let mut rig = fresh("behind");
    let said = rig.report(1, &TheyAreBehind { detail: String::new() });
    follows(phase, Input::LostData, true, &said, what);
    let mut rig = fresh("reestablished");
    let said = rig.report(1, &Reestablished {});
    follows(phase, Input::Reestablished, true, &said, what);

    let mut rig = fresh("closing");
    rig.node.supervisor.assign(DAEMON, Role::Closing(CHANNEL));
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().owner = Owner::Closingd(DAEMON);
    let state = ClosingState {
        balance: rig.channel(1).live.balance,
        script: Sides { local: script(1), remote: script(2) },
        fee: Sat(500),
    };
    let said = ask(&mut rig, &PersistOffer { state });
    follows(phase, Input::PersistClosing, true, &said, what);
}

#[test]
fn phase_table_rules_each_ask_and_report() {
    for phase in PHASES {
        for restart in [false, true] {
            visit(phase, restart);
        }
    }
}

/// An irrevocable HTLC of the peer's whose onion holds this, and which waits for its decision.
fn arrive(rig: &mut Rig, id: u64, payload: Vec<u8>, next: bool) {
    let ours = Secret::new([0xaa; 32]);
    let peeled = Peeled::Payload {
        payload: Bytes(payload),
        next: next.then(|| OnionPacket(Box::new([7; 1366]))),
        keys: onion_keys(&ours, &point(9)),
    };
    let hash = Preimage([5; 32]).hash();
    let it = htlc(Side::Remote, (id, 0), (10_000_011, 206), hash, Stage::Irrevocable);
    rig.node.htlcs.hold_decisions();
    let ask = Persist {
        changes: vec![adds(&rig.channel(1).live, it)],
        peeled: Long(vec![PeeledHtlc { id: HtlcId(id), peeled }]),
    };
    assert_eq!(rig.persist(1, &ask), []);
}

fn forward() -> Vec<u8> {
    ForwardPayload {
        short_channel_id: alias(2),
        amount: Msat(1_000_000),
        cltv_expiry: BlockHeight(200),
    }
    .to_bytes()
}

fn is_final() -> Vec<u8> {
    FinalPayload {
        amount: Msat(1_000_011),
        cltv_expiry: BlockHeight(200),
        payment_secret: Some(PaymentSecret([9; 32])),
        total: Msat(1_000_011),
        payment_metadata: None,
        keysend: None,
        extra: vec![],
    }
    .to_bytes()
}

/// What the HTLC of this id failed with, if it did.
fn failure(channel: &Channel, id: u64) -> Option<Failure> {
    match channel.decided.get(&HtlcId(id))? {
        Removal::Failed { reason } => {
            unwrap_error(&[Secret::new([0xaa; 32])], reason).map(|u| u.failure)
        }
        Removal::Fulfilled { .. } | Removal::Malformed { .. } => None,
    }
}

/// The HTLC of id 0 came before our shutdown, that of id 1 after it.
fn decides(
    phase: ChannelPhase,
    restart: bool,
    payload: &dyn Fn() -> Vec<u8>,
    next: bool,
) -> [bool; 2] {
    let name = format!("decides-{phase:?}-{restart}-{next}");
    let mut rig = Rig::new(&name, &[(1, 1), (2, 2)]);
    arrive(&mut rig, 0, payload(), next);
    store::set_shutdown_at(&rig.db, CHANNEL, HtlcId(1)).unwrap();
    arrive(&mut rig, 1, payload(), next);
    enter(&mut rig, CHANNEL, phase, restart);
    rig.node.channels.all.get_mut(&CHANNEL).unwrap().shutdown_at = Some(HtlcId(1));
    rig.node.htlcs.let_decide();
    [0, 1].map(|id| {
        rig.run(Event::Decide(CHANNEL, HtlcId(id)));
        // Without an invoice a final HTLC that is let in is not known; a forward that is let go is
        // with the next daemon.
        failure(rig.channel(1), id) != Some(Failure::PermanentChannelFailure)
    })
}

#[test]
fn phase_table_rules_htlc_decisions() {
    for phase in PHASES {
        for restart in [false, true] {
            for (input, payload, next) in [
                (Input::AcceptHtlc, &is_final as &dyn Fn() -> Vec<u8>, false),
                (Input::ForwardFrom, &forward, true),
            ] {
                let expected = match rule(phase, input) {
                    Rule::Taken => [true, true],
                    // The HTLCs of this test have outputs.
                    Rule::WithOutput => [true, true],
                    Rule::BeforeShutdown => [true, false],
                    Rule::Unchanged | Rule::Waits | Rule::First | Rule::Ignored | Rule::Refused => {
                        [false, false]
                    }
                };
                let got = decides(phase, restart, payload, next);
                assert_eq!(got, expected, "{phase:?}, {input:?}, restart: {restart}");
            }
        }
    }
}

/// A channel takes the HTLC of a forward only in the phase that the table has.
#[test]
fn forward_goes_over_a_channel_only_in_the_phases_of_the_table() {
    for phase in PHASES {
        for restart in [false, true] {
            let name = format!("over-{phase:?}-{restart}");
            let mut rig = Rig::new(&name, &[(1, 1), (2, 2)]);
            arrive(&mut rig, 0, forward(), true);
            enter(&mut rig, ChannelNumber(2), phase, restart);
            rig.node.htlcs.let_decide();
            let said = rig.run(Event::Decide(CHANNEL, HtlcId(0)));
            let over = said.iter().any(|s| matches!(s, Said::Offer(2, _)));
            let expected = rule(phase, Input::ForwardOver) == Rule::Taken;
            assert_eq!(over, expected, "{phase:?}, restart: {restart}: {said:?}");
        }
    }
}

/// A trimmed HTLC is the miners' once a commitment is published: it pays no invoice any more, even
/// if another one has an output for it.
#[test]
fn dust_htlc_is_accepted_only_while_the_channel_is_open() {
    for (phase, takes) in [
        (ChannelPhase::Normal, true),
        (ChannelPhase::AwaitingUnilateral, false),
        (ChannelPhase::Onchain, false),
    ] {
        // At 1000 sat/kW it takes 1209 sat to have an output on the peer's commitment, and 1249 sat
        // on ours.
        for (sat, takes) in [(1_000, takes), (1_230, takes), (1_249, true)] {
            for restart in [false, true] {
                let mut rig = Rig::new(&format!("dust-{phase:?}-{restart}"), &[(1, 1)]);
                let hash = Preimage([5; 32]).hash();
                let amount = (sat * 1000, 206);
                let dust = htlc(Side::Remote, (0, 0), amount, hash, Stage::Irrevocable);
                let changes = vec![adds(&rig.channel(1).live, dust)];
                assert_eq!(rig.persist(1, &Persist { changes, peeled: Long(vec![]) }), []);
                enter(&mut rig, CHANNEL, phase, restart);
                let lets = rig.channel(1).lets(Input::AcceptHtlc, HtlcId(0));
                assert_eq!(lets, takes, "{phase:?}, {sat} sat");
            }
        }
    }
}
