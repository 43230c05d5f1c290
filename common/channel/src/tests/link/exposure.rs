//! What trimming may cost each end, over the same lossy link.

use super::*;

impl Link {
    /// As channeld does with what became irrevocable: the newest first, what exposes it to too much
    /// is failed.
    pub(super) fn accept(&mut self, by: Side, done: &Irrevocable) {
        let received = done.added.iter().filter(|l| l.htlc.offered_by == Side::Remote);
        for id in received.map(|l| l.htlc.id).collect::<Vec<_>>().into_iter().rev() {
            if self.ends[by].channel.is_overexposed(id, &self.policy[by]) {
                self.fail(by, id);
            } else {
                self.accepted[by].insert(id);
            }
        }
    }

    fn fail(&mut self, by: Side, id: HtlcId) {
        let removal = Removal::Failed { reason: vec![] };
        self.ends[by].channel = self.ends[by].channel.offer_removal(id, removal.clone()).unwrap();
        self.say(by, Said::Remove(id, removal));
    }

    /// What was decided to fail is decided, whatever the connection made of its removal.
    pub(super) fn fail_again(&mut self, by: Side) {
        let irrevocable = self.ends[by].channel.htlcs().filter(|l| {
            (l.htlc.offered_by, l.added) == (Side::Remote, Stage::Irrevocable)
                && l.removed.is_none()
        });
        let refused = irrevocable.map(|l| l.htlc.id).filter(|id| !self.accepted[by].contains(id));
        refused.collect::<Vec<_>>().into_iter().for_each(|id| self.fail(by, id));
    }

    /// No commitment that counts costs an end more by what has no output in it than that end
    /// allows: HTLCs that it offered or accepted, and its own balance.
    fn bounds_exposure(&self) {
        for side in Side::BOTH {
            let channel = &self.ends[side].channel;
            let params = &channel.constants().params;
            let newest = channel.commitment();
            let mut states = vec![channel.local_commitment(point(side, newest.local.0))];
            let numbers = [channel.revoked().remote, newest.remote];
            states.extend(numbers.map(|number| channel.remote_commitment(number).unwrap()));
            for state in states {
                let tally = commitment::tally_of(channel.constants(), &state).unwrap();
                let own = tally.rest.local;
                let limit = params.terms[state.side].dust_limit;
                let own = if own.sat_floor() < limit { own } else { Msat(0) };
                let trimmed = |h: &&Htlc| {
                    let constants = channel.constants();
                    constants.is_trimmed(state.side, state.feerate, h.offered_by, h.amount)
                };
                let counts =
                    |h: &&Htlc| h.offered_by == Side::Local || self.accepted[side].contains(&h.id);
                let htlcs = state.htlcs.0.iter().filter(trimmed).filter(counts);
                let lost = htlcs.map(|h| h.amount.0).sum::<u64>() + own.0;
                let most = self.policy[side].max_dust_exposure.0;
                assert!(lost <= most, "{lost} of {most} in {state:?}");
            }
        }
    }
}

fn small_step() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![1..2_000_000u64, 500_000..12_000_000u64];
    prop_oneof![
        5 => (side(), amount).prop_map(|(by, amount)| Step::Add { by, amount, exact: false }),
        2 => (side(), any::<usize>(), any::<u8>()).prop_map(|(by, pick, how)| Step::Remove { by, pick, how }),
        2 => (253..20_000u32).prop_map(|feerate| Step::Fee { feerate }),
        4 => side().prop_map(|by| Step::Commit { by }),
        9 => side().prop_map(|to| Step::Deliver { to }),
        1 => Just(Step::Disconnect),
    ]
}

/// BOLT 2, max_dust_htlc_exposure_msat: whatever the order of adds, fee updates, signatures,
/// revocations and reconnects, no commitment that counts has more than the limit trimmed.
#[test]
fn dust_exposure_stays_below_the_limit_in_every_order() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) };
    let limit = || HtlcPolicy { max_dust_exposure: Msat(20_000_000), ..policy() };
    let careful = prop_oneof![
        Just(Sides { local: limit(), remote: policy() }),
        Just(Sides { local: policy(), remote: limit() }),
        Just(Sides { local: limit(), remote: limit() }),
    ];
    let push = prop_oneof![Just(Msat(300_000_000)), (0..2_000_000u64).prop_map(Msat)];
    let runs = (prop::collection::vec(small_step(), 1..100), any::<bool>(), careful, push);
    let (taken, failed) = (Cell::new(0), Cell::new(0));
    // Few orders bring a feerate that is too high: a run without one says nothing of it, and goes
    // on.
    while taken.get() < STEPS / 10 || (failed.get() == 0 && taken.get() < STEPS) {
        TestRunner::new(config.clone())
            .run(&runs, |(steps, anchors, policy, push)| {
                let mut params = params(anchors);
                params.terms.remote.dust_limit = Sat(1000);
                params.push = push;
                let mut link = Link { policy, ..Link::with(params) };
                for step in &steps {
                    link.step(step);
                    taken.set(taken.get() + 1);
                    link.bounds_exposure();
                    if link.fault.is_some() {
                        failed.set(failed.get() + 1);
                        return Ok(());
                    }
                }
                Ok(())
            })
            .unwrap();
    }
    assert!(failed.get() > 0, "no feerate was too high");
}
