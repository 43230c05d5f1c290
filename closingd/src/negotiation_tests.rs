use super::*;
use proptest::prelude::*;

const fn range(min: u64, max: u64) -> Range {
    Range { min: Sat(min), max: Sat(max) }
}
/// 300 to 1000, and 500 liked best; the opener has 100,000.
fn negotiation(role: Role) -> Negotiation {
    Negotiation::new(role, range(300, 1000), Sat(500), Sat(100_000))
}
/// The opener after its first offer.
fn opened() -> Negotiation {
    negotiation(Role::Opener).open().unwrap().0
}
fn hear(n: Negotiation, fee: u64, theirs: Option<Range>) -> Result<FeeStep, NegotiationError> {
    n.hear(Sat(fee), theirs).map(|(_, step)| step)
}
const fn offer(fee: u64, range: Range) -> Offer {
    Offer { fee: Sat(fee), range }
}

#[test]
fn opener_speaks_first_and_the_accepter_does_not() {
    let (_, first) = negotiation(Role::Opener).open().unwrap();
    assert_eq!(first, offer(500, range(300, 1000)));
    assert_eq!(negotiation(Role::Accepter).open(), None);
    assert_eq!(hear(negotiation(Role::Opener), 500, None), Err(NegotiationError::TooEarly));
}

#[test]
fn opener_answers_by_the_list() {
    let ours = range(300, 1000);
    let overlap = range(300, 400);
    for (fee, theirs, step) in [
        // Equal to what was sent.
        (500, None, Ok(FeeStep::Agreed(Sat(500)))),
        (500, Some(range(100, 600)), Ok(FeeStep::Agreed(Sat(500)))),
        (500, Some(range(1, 2)), Ok(FeeStep::Agreed(Sat(500)))),
        // Within the range that was sent.
        (301, None, Ok(FeeStep::Accept(offer(301, ours)))),
        (300, Some(range(1, 400)), Ok(FeeStep::Accept(offer(300, ours)))),
        (1000, Some(range(1, 2000)), Ok(FeeStep::Accept(offer(1000, ours)))),
        // A range that has nothing in common, and one that the fee is not in.
        (
            299,
            Some(range(1, 299)),
            Err(NegotiationError::NoOverlap { ours, theirs: range(1, 299) }),
        ),
        (
            299,
            Some(range(400, 1)),
            Err(NegotiationError::NoOverlap { ours, theirs: range(400, 1) }),
        ),
        (
            299,
            Some(range(1, 400)),
            Err(NegotiationError::OutsideOverlap { fee: Sat(299), overlap }),
        ),
        // No range: halfway, as far as ours goes.
        (2000, None, Ok(FeeStep::Counter(offer(1000, ours)))),
        (1200, None, Ok(FeeStep::Counter(offer(850, ours)))),
        (100, None, Ok(FeeStep::Counter(offer(300, ours)))),
        (200, None, Ok(FeeStep::Counter(offer(350, ours)))),
        // What nobody could pay.
        (
            100_001,
            None,
            Err(NegotiationError::BeyondBalance { fee: Sat(100_001), balance: Sat(100_000) }),
        ),
        (
            u64::MAX,
            None,
            Err(NegotiationError::BeyondBalance { fee: Sat(u64::MAX), balance: Sat(100_000) }),
        ),
    ] {
        assert_eq!(hear(opened(), fee, theirs), step, "{fee} {theirs:?}");
    }
}

#[test]
fn accepter_answers_by_the_list() {
    let ours = range(300, 1000);
    for (fee, theirs, step) in [
        // It minds no maximum where the opener has a range.
        (5000, Some(range(100, 9000)), Ok(FeeStep::Accept(offer(5000, range(300, 9000))))),
        (300, Some(range(100, 300)), Ok(FeeStep::Accept(offer(300, ours)))),
        (100, Some(range(100, 400)), Ok(FeeStep::Counter(offer(400, ours)))),
        (100, Some(range(100, 9000)), Ok(FeeStep::Counter(offer(500, range(300, 9000))))),
        // Outside its own range: then ours decides.
        (9500, Some(range(100, 600)), Ok(FeeStep::Counter(offer(500, ours)))),
        (
            100,
            Some(range(1, 299)),
            Err(NegotiationError::NoOverlap { ours, theirs: range(1, 299) }),
        ),
        (
            100,
            Some(range(200_000, 300_000)),
            Err(NegotiationError::NoOverlap {
                ours: range(300, 300_000),
                theirs: range(200_000, 300_000),
            }),
        ),
        // No range.
        (300, None, Ok(FeeStep::Accept(offer(300, ours)))),
        (299, None, Ok(FeeStep::Counter(offer(500, ours)))),
        (1001, None, Ok(FeeStep::Counter(offer(500, ours)))),
    ] {
        assert_eq!(hear(negotiation(Role::Accepter), fee, theirs), step, "{fee} {theirs:?}");
    }
}

#[test]
fn accepter_that_answered_takes_only_its_own_range() {
    let (answered, step) =
        negotiation(Role::Accepter).hear(Sat(100), Some(range(100, 400))).unwrap();
    assert_eq!(step, FeeStep::Counter(offer(400, range(300, 1000))));
    assert_eq!(hear(answered, 400, Some(range(100, 400))), Ok(FeeStep::Agreed(Sat(400))));
    assert_eq!(
        hear(answered, 350, Some(range(100, 400))),
        Ok(FeeStep::Accept(offer(350, range(300, 1000))))
    );
    assert_eq!(
        hear(answered, 200, Some(range(100, 400))),
        Err(NegotiationError::Changed { fee: Sat(200), sent: Sat(400) })
    );
}

#[test]
fn fees_without_ranges_are_strictly_between_the_two_before() {
    let (talk, step) = opened().hear(Sat(2000), None).unwrap();
    assert_eq!(step, FeeStep::Counter(offer(1000, range(300, 1000))));
    for fee in [2000, 2001, 50_000, 299, 100] {
        let (sent, received) = (Sat(1000), Sat(2000));
        let refusal = NegotiationError::NotBetween { fee: Sat(fee), sent, received };
        assert_eq!(hear(talk, fee, None), Err(refusal), "{fee}");
    }
    // Within what we sent is agreed all the same, wherever it was before.
    assert_eq!(hear(talk, 999, None), Ok(FeeStep::Accept(offer(999, range(300, 1000)))));
    // Between, and we are at our end.
    let ours = range(300, 1000);
    let refusal = NegotiationError::NoRoom { fee: Sat(1500), sent: Sat(1000), ours };
    assert_eq!(hear(talk, 1500, None), Err(refusal));
}

#[test]
fn channel_ends_only_where_bolt_2_demands() {
    let (a, b) = (Sat(1), range(1, 2));
    for (discord, ends) in [
        (NegotiationError::TooEarly, false),
        (NegotiationError::BeyondBalance { fee: a, balance: a }, false),
        (NegotiationError::NoOverlap { ours: b, theirs: b }, false),
        (NegotiationError::OutsideOverlap { fee: a, overlap: b }, true),
        (NegotiationError::Changed { fee: a, sent: a }, true),
        (NegotiationError::NotBetween { fee: a, sent: a, received: a }, false),
        (NegotiationError::NoRoom { fee: a, sent: a, ours: b }, false),
    ] {
        assert_eq!(discord.ends_the_channel(), ends, "{discord}");
    }
}

#[test]
fn bounds_come_down_to_what_the_opener_has() {
    for role in [Role::Opener, Role::Accepter] {
        let poor = Negotiation::new(role, range(300, 1000), Sat(500), Sat(200));
        assert_eq!(poor.range, range(200, 200));
        assert_eq!(poor.ideal, Sat(200));
    }
}

/// How two of them fare, the first as opener; with the number of messages.
fn haggle(
    mut a: Negotiation,
    mut b: Negotiation,
    ranges: bool,
) -> (Result<Sat, NegotiationError>, usize) {
    let (next, mut said) = a.open().unwrap();
    a = next;
    let mut messages = 1;
    loop {
        // `b` hears; then they change places.
        match b.hear(said.fee, ranges.then_some(said.range)) {
            Err(discord) => return (Err(discord), messages),
            Ok((_, FeeStep::Agreed(fee))) => return (Ok(fee), messages),
            Ok((next, step @ (FeeStep::Accept(offer) | FeeStep::Counter(offer)))) => {
                messages += 1;
                (b, a) = (a, next);
                let accepted = matches!(step, FeeStep::Accept(_));
                if accepted {
                    // The other side hears its own fee back.
                    let (_, last) = b.hear(offer.fee, ranges.then_some(offer.range)).unwrap();
                    assert_eq!(last, FeeStep::Agreed(offer.fee));
                    assert_eq!(offer.fee, said.fee);
                    return (Ok(offer.fee), messages);
                }
                said = offer;
            }
        }
    }
}

prop_compose! {
    fn any_negotiation(role: Role)(
        low in 0u64..10_000, width in 0u64..10_000, ideal in 0u64..20_000, balance in 0u64..30_000,
    ) -> Negotiation {
        Negotiation::new(role, range(low, low + width), Sat(ideal), Sat(balance))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    /// With ranges the opener's first offer is answered for good: three messages at most.
    #[test]
    fn negotiations_with_ranges_agree_where_a_fee_suits_both(
        a in any_negotiation(Role::Opener), b in any_negotiation(Role::Accepter),
    ) {
        // One channel, one opener's balance.
        let b = Negotiation::new(Role::Accepter, b.range, b.ideal, a.balance);
        let (end, messages) = haggle(a, b, true);
        prop_assert!(messages <= 3, "{messages} messages");
        match end {
            Ok(fee) => {
                prop_assert!(a.range.contains(fee), "the opener pays what it would");
                prop_assert!(fee >= b.range.min);
            }
            Err(discord) => {
                prop_assert!(matches!(discord, NegotiationError::NoOverlap { .. }), "{discord}");
                prop_assert!(a.range.max < b.range.min);
            }
        }
    }

    #[test]
    fn negotiations_without_ranges_agree_or_stop_soon(
        a in any_negotiation(Role::Opener), b in any_negotiation(Role::Accepter),
    ) {
        let b = Negotiation::new(Role::Accepter, b.range, b.ideal, a.balance);
        let (end, messages) = haggle(a, b, false);
        prop_assert!(messages <= 64, "{messages} messages");
        let overlap = a.range.overlap(b.range);
        match end {
            Ok(fee) => prop_assert!(a.range.contains(fee) || b.range.contains(fee)),
            Err(discord) => {
                prop_assert!(!discord.ends_the_channel(), "{discord}");
                prop_assert_eq!(overlap, None);
            }
        }
    }

    #[test]
    fn arbitrary_fees_of_the_peer_keep_us_in_our_range(
        role in prop_oneof![Just(Role::Opener), Just(Role::Accepter)],
        fees in prop::collection::vec((any::<u64>(), prop::option::of((any::<u64>(), any::<u64>()))), 1..80),
        scale in 0u32..64,
    ) {
        let mut talk = negotiation(role);
        if let Some((next, _)) = talk.open() {
            talk = next;
        }
        let mut counters = 0;
        for (fee, theirs) in fees {
            let small = |n: u64| n >> scale;
            match talk.hear(Sat(small(fee)), theirs.map(|(a, b)| range(small(a), small(b)))) {
                Err(discord) => {
                    prop_assert!(!discord.to_string().is_empty());
                    break;
                }
                Ok((_, FeeStep::Agreed(fee))) => {
                    prop_assert_eq!(Some(fee), talk.sent.map(|o| o.fee));
                    break;
                }
                Ok((_, FeeStep::Accept(offer))) => {
                    prop_assert!(offer.fee >= Sat(300) && offer.fee <= talk.balance);
                    prop_assert!(role == Role::Accepter || offer.fee <= Sat(1000));
                    break;
                }
                Ok((next, FeeStep::Counter(offer))) => {
                    prop_assert!(offer.fee >= Sat(300) && offer.fee <= talk.balance);
                    prop_assert!(role == Role::Accepter || offer.fee <= Sat(1000));
                    talk = next;
                    counters += 1;
                }
            }
        }
        prop_assert!(counters <= 64);
    }
}
