//! Two channels against each other over a lossy link: anything at any time, the connection lost at
//! any point, everything restored from what was stored.

use super::*;
use crate::testing::{
    any_fee, built, offer, pair, params, point, policy, preimage, said, secret, signatures,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::LazyLock;
use wire::UpdateAddHtlc;

mod exposure;

/// What travels.
#[derive(Clone, Debug)]
enum Said {
    Add(UpdateAddHtlc),
    Remove(HtlcId, Removal),
    Fee(FeeratePerKw),
    /// The transaction that was signed, and how many HTLC signatures came along.
    Commit(Txid, usize),
    Revoke(SecretKey, Point),
}

/// What the test does next.
#[derive(Clone, Debug)]
enum Step {
    Add { by: Side, amount: u64, exact: bool },
    Remove { by: Side, pick: usize, how: u8 },
    Fee { feerate: u32 },
    Commit { by: Side },
    Deliver { to: Side },
    Disconnect,
}

struct End {
    which: Side,
    channel: Channel,
    /// The last that was stored, as the master has it and as a channel.
    stored: ChannelState,
    stored_channel: Channel,
    inbox: VecDeque<Said>,
}

impl End {
    fn new(which: Side, channel: Channel) -> Self {
        let stored = channel.storable();
        Self { which, stored_channel: channel.clone(), channel, stored, inbox: VecDeque::new() }
    }
    /// A barrier: what is stored is what was, and the change.
    fn persist(&mut self) {
        let change = diff(&self.stored_channel, &self.channel);
        let bytes = wire::Wire::to_bytes(&change);
        let read = <ChannelChange as wire::Wire>::from_bytes(&bytes).unwrap();
        assert_eq!(read, change);
        self.stored = apply(self.stored.clone(), &read);
        assert_eq!(self.stored, self.channel.storable());
        self.stored_channel = self.channel.clone();
    }
    fn restart(&mut self) {
        self.inbox.clear();
        let restored = Channel::new(self.stored.clone()).unwrap();
        assert_eq!(restored, self.channel.after_disconnect());
        self.channel = restored;
    }
    fn conserves(&self) {
        let b = self.channel.balance();
        assert_eq!(b.local.0 + b.remote.0, self.channel.constants().params.amount.msat().0);
        // Whatever passed the checks can be built, for either side.
        let c = &self.channel;
        built(c, &c.local_commitment(point(self.which, c.commitment().local.0)));
        for number in [c.revoked().remote, c.commitment().remote] {
            built(c, &c.remote_commitment(number).unwrap());
        }
    }
}

struct Link {
    ends: Sides<End>,
    hashes: u64,
    policy: Sides<HtlcPolicy>,
    /// Ends that let something depend on received HTLCs, and which those are; the rest of what they
    /// received they fail.
    accepted: Sides<BTreeSet<HtlcId>>,
    /// Why a channel failed.
    fault: Option<PeerFault>,
}

impl Link {
    fn new(anchors: bool, max_accepted: u16) -> Self {
        let mut params = params(anchors);
        params.terms.local.max_accepted_htlcs = max_accepted;
        params.terms.remote.dust_limit = Sat(1000);
        Self::with(params)
    }

    fn with(params: ChannelParams) -> Self {
        let (a, b) = pair(params);
        Self {
            ends: Sides { local: End::new(Side::Local, a), remote: End::new(Side::Remote, b) },
            hashes: 0,
            policy: Sides { local: policy(), remote: policy() },
            accepted: Sides::default(),
            fault: None,
        }
    }

    fn say(&mut self, by: Side, said: Said) {
        self.ends[!by].inbox.push_back(said);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Add { by, amount, exact } => self.add(by, amount, exact),
            Step::Remove { by, pick, how } => self.remove(by, pick, how),
            Step::Fee { feerate } => self.fee(FeeratePerKw(feerate)),
            Step::Commit { by } => self.commit(by),
            Step::Deliver { to } => self.deliver(to),
            Step::Disconnect => self.disconnect(),
        }
        self.ends.local.conserves();
        self.ends.remote.conserves();
    }

    fn add(&mut self, by: Side, amount: u64, exact: bool) {
        let channel = &self.ends[by].channel;
        let most = channel.spendable();
        let amount = if exact { most.0 } else { amount };
        self.hashes += 1;
        let result = channel.offer_add(&offer(self.hashes % 200, Msat(amount)), &self.policy[by]);
        if exact && amount > 0 && self.policy[by] == policy() {
            assert!(result.is_ok(), "{result:?} of {most}");
            assert!(channel.offer_add(&offer(1, Msat(amount + 1)), &policy()).is_err());
        }
        if let Ok((next, id)) = result {
            let add = said(next.htlc(Side::Local, id).unwrap());
            self.ends[by].channel = next;
            self.say(by, Said::Add(add));
        }
    }

    fn remove(&mut self, by: Side, pick: usize, how: u8) {
        let channel = &self.ends[by].channel;
        let open: Vec<_> = channel
            .htlcs()
            .filter(|l| l.htlc.offered_by == Side::Remote && l.removed.is_none())
            .map(|l| (l.htlc.id, l.htlc.payment_hash))
            .collect();
        let Some((id, hash)) = open.get(pick % open.len().max(1)).copied() else { return };
        let removal = match how % 3 {
            0 => {
                let preimage = (0..200).map(preimage).find(|p| p.hash() == hash).unwrap();
                Removal::Fulfilled { preimage }
            }
            1 => Removal::Failed { reason: vec![how; 300] },
            _ => {
                Removal::Malformed { sha256_of_onion: Sha256Digest([1; 32]), failure_code: 0xc000 }
            }
        };
        if let Ok(next) = channel.offer_removal(id, removal.clone()) {
            self.ends[by].channel = next;
            if !matches!(removal, Removal::Fulfilled { .. }) {
                self.accepted[by].remove(&id);
            }
            self.say(by, Said::Remove(id, removal));
        }
    }

    fn fee(&mut self, feerate: FeeratePerKw) {
        let by = Side::Local;
        if let Ok(next) = self.ends[by].channel.offer_fee(feerate, &self.policy[by]) {
            self.ends[by].channel = next;
            self.say(by, Said::Fee(feerate));
        }
    }

    fn commit(&mut self, by: Side) {
        let end = &mut self.ends[by];
        if let Ok((next, state)) = end.channel.send_commit() {
            assert_eq!(next.may_bind(&end.stored_channel, &self.policy[by]), Ok(()));
            end.channel = next;
            end.persist();
            let (txid, count) = built(&end.channel, &state);
            self.say(by, Said::Commit(txid, count));
        }
    }

    /// An honest peer's word is never refused, and both ends build the same transaction.
    fn deliver(&mut self, to: Side) {
        let Some(said) = self.ends[to].inbox.pop_front() else { return };
        let end = &mut self.ends[to];
        let channel = &end.channel;
        end.channel = match said {
            Said::Add(add) => channel.receive_add(&add).unwrap(),
            Said::Remove(id, Removal::Fulfilled { preimage }) => {
                channel.receive_fulfill(id, preimage).unwrap()
            }
            Said::Remove(id, Removal::Failed { reason }) => {
                channel.receive_fail(id, &reason).unwrap()
            }
            Said::Remove(id, Removal::Malformed { sha256_of_onion, failure_code }) => {
                channel.receive_fail_malformed(id, sha256_of_onion, failure_code).unwrap()
            }
            Said::Fee(feerate) => {
                match channel.receive_fee(feerate, &any_fee(), &self.policy[to]) {
                    Ok(next) => next,
                    // One end may allow what the other does not.
                    Err(fault @ PeerFault::FeeDustExposure { .. })
                        if self.policy[to] != policy() =>
                    {
                        self.fault = Some(fault);
                        return;
                    }
                    Err(fault) => panic!("an honest peer's word: {fault}"),
                }
            }
            Said::Commit(txid, count) => {
                let point = point(to, channel.commitment().local.0 + 1);
                let (next, state) = channel.receive_commit(point, signatures(count)).unwrap();
                assert_eq!(built(&next, &state), (txid, count));
                assert_eq!(next.may_bind(&end.stored_channel, &self.policy[to]), Ok(()));
                let (next, number, done) = next.send_revocation().unwrap();
                end.channel = next;
                self.accept(to, &done);
                self.ends[to].persist();
                self.revoke(to, number);
                return;
            }
            Said::Revoke(secret, point) => {
                let (next, done) = channel.receive_revocation(&secret, point).unwrap();
                end.channel = next;
                self.accept(to, &done);
                let end = &self.ends[to];
                let binds = end.channel.may_bind(&end.stored_channel, &self.policy[to]);
                assert_eq!(binds, Ok(()));
                self.ends[to].persist();
                return;
            }
        };
    }

    fn revoke(&mut self, by: Side, number: CommitmentNumber) {
        self.say(by, Said::Revoke(secret(by, number.0), point(by, number.0 + 2)));
    }

    /// Everything on its way is lost; both ends are born again from what they stored, and say again
    /// what is missing.
    fn disconnect(&mut self) {
        for side in Side::BOTH {
            self.ends[side].restart();
        }
        let numbers = Sides::from_fn(|side| {
            let ours = self.ends[side].channel.our_numbers();
            reestablish(
                ours.next_commitment_number,
                ours.next_revocation_number,
                *ours.your_last_per_commitment_secret.expose(),
            )
        });
        for side in Side::BOTH {
            let theirs = &numbers[!side];
            let holds = Channel::claimed_secret(theirs).is_none_or(|(number, claimed)| {
                secret(side, number.0).secret_bytes() == *claimed.expose()
            });
            match self.ends[side].channel.reestablish(theirs, holds) {
                Reestablished::Nothing => {}
                Reestablished::Resend(steps) => {
                    steps.into_iter().for_each(|s| self.resend(side, s))
                }
                other @ (Reestablished::WeAreBehind { .. }
                | Reestablished::TheyAreBehind { .. }
                | Reestablished::TheyLie(_)) => panic!("two honest ends: {other:?}"),
            }
        }
        Side::BOTH.into_iter().for_each(|side| self.fail_again(side));
    }

    fn resend(&mut self, by: Side, step: Resend) {
        match step {
            Resend::Revocation { number } => self.revoke(by, number),
            Resend::Commitment { updates, state } => {
                for update in updates {
                    self.say(
                        by,
                        match update {
                            Update::Add(live) => Said::Add(said(&live)),
                            Update::Remove { id, removal } => Said::Remove(id, removal),
                            Update::Fee(feerate) => Said::Fee(feerate),
                        },
                    );
                }
                let (txid, count) = built(&self.ends[by].channel, &state);
                self.say(by, Said::Commit(txid, count));
            }
        }
    }

    /// Lets both ends finish what they began.
    fn drain(&mut self) {
        for _ in 0..1000 {
            let moves = Side::BOTH.into_iter().any(|side| {
                !self.ends[side].inbox.is_empty() || self.ends[side].channel.can_commit()
            });
            if !moves {
                return;
            }
            for side in Side::BOTH {
                self.deliver(side);
                if self.ends[side].inbox.is_empty() {
                    self.commit(side);
                }
            }
        }
        panic!("two honest ends never come to rest");
    }

    /// Both ends agree, and once every HTLC is removed nothing is left.
    fn converges(&mut self) {
        self.drain();
        for side in Side::BOTH {
            let open = |end: &End| {
                let received = |l: &&LiveHtlc| l.htlc.offered_by == Side::Remote;
                let mut open = end.channel.htlcs().filter(received).filter(|l| l.removed.is_none());
                open.next().map(|l| l.htlc.id)
            };
            while let Some(id) = open(&self.ends[side]) {
                let removal = Removal::Failed { reason: vec![] };
                let next = self.ends[side].channel.offer_removal(id, removal.clone()).unwrap();
                self.ends[side].channel = next;
                self.say(side, Said::Remove(id, removal));
            }
        }
        self.drain();
        let (a, b) = (&self.ends.local.channel, &self.ends.remote.channel);
        assert!(a.is_quiet() && b.is_quiet());
        assert_eq!(a.balance(), b.balance().swap());
        assert_eq!(a.feerate(), b.feerate());
        assert_eq!(a.commitment(), b.commitment().swap());
    }
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Local), Just(Side::Remote)]
}
fn step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![1..2_000_000u64, 1..100_000_000u64];
    prop_oneof![
        4 => (side(), amount, prop::bool::weighted(0.1))
            .prop_map(|(by, amount, exact)| Step::Add { by, amount, exact }),
        3 => (side(), any::<usize>(), any::<u8>()).prop_map(|(by, pick, how)| Step::Remove { by, pick, how }),
        1 => (0..20_000u32).prop_map(|feerate| Step::Fee { feerate }),
        4 => side().prop_map(|by| Step::Commit { by }),
        9 => side().prop_map(|to| Step::Deliver { to }),
        1 => Just(Step::Disconnect),
    ]
}

/// Said before the opener heard of the other's HTLCs, signed after, and said again after a
/// reconnect.
#[test]
fn repeated_feerate_is_not_held_against_later_htlcs() {
    use Side::{Local, Remote};
    let mut link = Link::new(true, 483);
    for step in [
        Step::Fee { feerate: 6972 },
        Step::Commit { by: Local },
        Step::Add { by: Remote, amount: 1_000_000, exact: false },
        Step::Deliver { to: Remote },
        Step::Add { by: Remote, amount: 1_000_000, exact: false },
        Step::Deliver { to: Local },
        Step::Add { by: Local, amount: 1, exact: true },
        Step::Fee { feerate: 13945 },
        Step::Deliver { to: Local },
        Step::Deliver { to: Remote },
        Step::Deliver { to: Local },
        Step::Commit { by: Remote },
        Step::Deliver { to: Local },
        Step::Commit { by: Local },
        Step::Disconnect,
    ] {
        link.step(&step);
    }
    link.converges();
}

/// Fulfilled, and spent at once by who fulfilled it.
#[test]
fn balance_can_be_spent_in_the_commitment_that_brings_it() {
    use Side::{Local, Remote};
    let mut link = Link::new(false, 483);
    for step in [
        Step::Add { by: Local, amount: 1, exact: true },
        Step::Commit { by: Local },
        Step::Deliver { to: Remote },
        Step::Deliver { to: Remote },
        Step::Deliver { to: Local },
        Step::Commit { by: Remote },
        Step::Deliver { to: Local },
        Step::Deliver { to: Remote },
        Step::Remove { by: Remote, pick: 0, how: 0 },
        Step::Add { by: Remote, amount: 1, exact: true },
        Step::Commit { by: Remote },
    ] {
        link.step(&step);
    }
    link.disconnect();
    link.converges();
}

/// So many random steps in all, whatever lengths chance gives the runs.
const STEPS: usize = 100_000;

#[test]
fn ends_of_a_channel_agree_whatever_gets_lost() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) };
    let runs =
        (prop::collection::vec(step(), 1..60), any::<bool>(), prop_oneof![Just(483u16), Just(2)]);
    let taken = Cell::new(0);
    while taken.get() < STEPS {
        // A runner counts its cases over all its runs: each round takes a fresh one.
        TestRunner::new(config.clone())
            .run(&runs, |(steps, anchors, max_accepted)| {
                let mut link = Link::new(anchors, max_accepted);
                for step in &steps {
                    link.step(step);
                    taken.set(taken.get() + 1);
                }
                link.disconnect();
                link.converges();
                Ok(())
            })
            .unwrap();
    }
    assert!(taken.get() >= STEPS, "{} steps", taken.get());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100_000) })]

    #[test]
    fn arbitrary_bytes_are_no_state_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        use wire::Wire;
        let _ = ChannelState::from_bytes(&bytes);
        let _ = ChannelChange::from_bytes(&bytes);
        let _ = CommitmentState::from_bytes(&bytes);
        let _ = LiveHtlc::from_bytes(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100_000) })]

    /// A stored state with a few bytes changed is refused, or it is a channel that can be read out
    /// without a panic.
    #[test]
    fn damaged_state_is_refused_or_harmless(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        use wire::Wire;
        static BUSY: LazyLock<Vec<u8>> = LazyLock::new(|| busy().0.storable().to_bytes());
        let mut bytes = BUSY.clone();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        if let Ok(state) = ChannelState::from_bytes(&bytes)
            && let Ok(channel) = Channel::new(state)
        {
            let _ = (channel.spendable(), channel.receivable(), channel.storable());
            let _ = channel.send_commit();
            let _ = channel.offer_add(&offer(1, Msat(1000)), &policy());
            let _ = channel.local_commitment(point(Side::Local, 0));
        }
    }
}
