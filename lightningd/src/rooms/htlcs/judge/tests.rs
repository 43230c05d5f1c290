//! The decision as a table, and what holds for whatever a stranger asks for.

use super::*;
use proptest::prelude::*;

const POLICY: Policy =
    Policy { fee_base: Msat(1000), fee_ppm: 100, htlc_min: Msat(10), htlc_max: Msat(900_000_000) };
const NOW: Now =
    Now { tip: Some(BlockHeight(500)), delta: CltvDelta(34), max_locktime: CltvDelta(2016) };

fn way(number: u64) -> Way {
    Way { number: ChannelNumber(number), takes: Takes::Now, policy: POLICY, before: None }
}
fn wanted(amount: u64, expiry: u32) -> ForwardPayload {
    ForwardPayload {
        short_channel_id: ShortChannelId(1),
        amount: Msat(amount),
        cltv_expiry: BlockHeight(expiry),
    }
}
fn incoming(amount: u64, expiry: u32) -> Incoming {
    Incoming { amount: Msat(amount), expiry: BlockHeight(expiry) }
}

#[test]
fn each_rule_has_its_failure_with_its_data() {
    let update = || vec![];
    let good = (incoming(1_001_100, 600), wanted(1_000_000, 566));
    let cases = [
        (good.0, good.1.clone(), Ok(ChannelNumber(7))),
        // A msat less than the fee, a block less than the delta.
        (
            incoming(1_001_099, 600),
            wanted(1_000_000, 566),
            Err(Failure::FeeInsufficient { htlc: Msat(1_001_099), channel_update: update() }),
        ),
        (
            incoming(1_001_100, 600),
            wanted(1_000_000, 567),
            Err(Failure::IncorrectCltvExpiry {
                cltv_expiry: BlockHeight(567),
                channel_update: update(),
            }),
        ),
        (
            incoming(5000, 600),
            wanted(9, 566),
            Err(Failure::AmountBelowMinimum { htlc: Msat(9), channel_update: update() }),
        ),
        (
            incoming(5000, 600),
            wanted(0, 566),
            Err(Failure::AmountBelowMinimum { htlc: Msat(0), channel_update: update() }),
        ),
        (incoming(990_000_000, 600), wanted(900_000_001, 566), Err(temporary())),
        (
            incoming(1_001_100, 536),
            wanted(1_000_000, 502),
            Err(Failure::ExpiryTooSoon { channel_update: update() }),
        ),
        (incoming(1_001_100, 537), wanted(1_000_000, 503), Ok(ChannelNumber(7))),
        (incoming(1_001_100, 2550), wanted(1_000_000, 2516), Ok(ChannelNumber(7))),
        (incoming(1_001_100, 2551), wanted(1_000_000, 2517), Err(Failure::ExpiryTooFar)),
        // More out than in; more than there is.
        (
            incoming(100, 600),
            wanted(1_000_000, 566),
            Err(Failure::FeeInsufficient { htlc: Msat(100), channel_update: update() }),
        ),
        (incoming(100, 600), wanted(u64::MAX, 566), Err(temporary())),
    ];
    for (incoming, wanted, expected) in cases {
        assert_eq!(judge(incoming, &wanted, &NOW, &[way(7)]), expected, "{incoming:?} {wanted:?}");
    }
}

#[test]
fn a_channel_that_takes_nothing_says_for_how_long() {
    let (incoming, wanted) = (incoming(1_001_100, 600), wanted(1_000_000, 566));
    let with = |takes| Way { takes, ..way(7) };
    assert_eq!(judge(incoming, &wanted, &NOW, &[]), Err(Failure::UnknownNextPeer));
    assert_eq!(judge(incoming, &wanted, &NOW, &[with(Takes::Later)]), Err(temporary()));
    let closing = judge(incoming, &wanted, &NOW, &[with(Takes::NoMore)]);
    assert_eq!(closing, Err(Failure::PermanentChannelFailure));
    let stale = Now { tip: None, ..NOW };
    assert_eq!(judge(incoming, &wanted, &stale, &[way(7)]), Err(Failure::TemporaryNodeFailure));
}

#[test]
fn forward_takes_a_parallel_channel_or_fails_with_the_named_one() {
    let (incoming, wanted) = (incoming(1_001_100, 600), wanted(1_000_000, 566));
    let away = Way { takes: Takes::Later, ..way(1) };
    let dear = Way { policy: Policy { fee_base: Msat(5000), ..POLICY }, ..way(2) };
    let ways = [away.clone(), dear.clone(), way(3)];
    assert_eq!(judge(incoming, &wanted, &NOW, &ways), Ok(ChannelNumber(3)));
    assert_eq!(judge(incoming, &wanted, &NOW, &[away.clone(), dear.clone()]), Err(temporary()));
    assert!(matches!(
        judge(incoming, &wanted, &NOW, &[dear, away]),
        Err(Failure::FeeInsufficient { .. })
    ));
}

#[test]
fn what_was_asked_for_a_short_time_ago_is_enough() {
    let (incoming, wanted) = (incoming(1_001_100, 600), wanted(1_000_000, 566));
    let dear = Way { policy: Policy { fee_base: Msat(5000), ..POLICY }, ..way(2) };
    assert!(judge(incoming, &wanted, &NOW, std::slice::from_ref(&dear)).is_err());
    let known = Way { before: Some(POLICY), ..dear };
    assert_eq!(judge(incoming, &wanted, &NOW, &[known]), Ok(ChannelNumber(2)));
}

fn any_policy() -> impl Strategy<Value = Policy> {
    (any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(base, ppm, min, max)| {
        Policy { fee_base: Msat(base), fee_ppm: ppm, htlc_min: Msat(min), htlc_max: Msat(max) }
    })
}
/// Small numbers near the edges, and anything.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3000u64, 900_000..1_100_000u64, any::<u64>()]
}
fn height() -> impl Strategy<Value = u32> {
    prop_oneof![480..620u32, 2400..2700u32, any::<u32>()]
}
fn any_way() -> impl Strategy<Value = Way> {
    let takes =
        prop_oneof![4 => Just(Takes::Now), 1 => Just(Takes::Later), 1 => Just(Takes::NoMore)];
    let policy = || prop_oneof![3 => Just(POLICY), 1 => any_policy()];
    (0..20u64, takes, policy(), proptest::option::of(policy())).prop_map(
        |(number, takes, policy, before)| Way {
            number: ChannelNumber(number),
            takes,
            policy,
            before,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    /// We never send more than we got, always have the delta between the two expiries, and never
    /// lock money for longer than we said; what goes, goes over a channel that takes it and is paid
    /// what some policy of its wants.
    #[test]
    fn what_is_forwarded_costs_us_nothing(
        amount_in in number(), amount_out in number(), expiry_in in height(), expiry_out in height(),
        tip in proptest::option::of(height()), ways in proptest::collection::vec(any_way(), 0..4),
    ) {
        let (incoming, wanted) = (incoming(amount_in, expiry_in), wanted(amount_out, expiry_out));
        let now = Now { tip: tip.map(BlockHeight), ..NOW };
        match judge(incoming, &wanted, &now, &ways) {
            Ok(number) => {
                let tip = u64::from(tip.unwrap());
                prop_assert!(0 < amount_out && amount_out <= amount_in);
                prop_assert!(u64::from(expiry_out) + 34 <= u64::from(expiry_in));
                prop_assert!(u64::from(expiry_out) > tip + 2);
                prop_assert!(u64::from(expiry_out) <= tip + 2016);
                let fits = |p: &Policy| {
                    p.fee(wanted.amount).is_some_and(|f| f.0 <= amount_in - amount_out)
                        && (p.htlc_min.0..=p.htlc_max.0).contains(&amount_out)
                };
                let chosen = ways.iter().any(|w| {
                    w.number == number
                        && w.takes == Takes::Now
                        && (fits(&w.policy) || w.before.as_ref().is_some_and(fits))
                });
                prop_assert!(chosen);
            }
            Err(failure) => {
                // What an origin reads is what we said.
                prop_assert_eq!(Failure::from_bytes(&failure.to_bytes()), failure);
                if ways.is_empty() && tip.is_some() {
                    prop_assert_eq!(judge(incoming, &wanted, &now, &ways), Err(Failure::UnknownNextPeer));
                }
            }
        }
    }
}
