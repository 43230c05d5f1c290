//! Haggling with somebody who names anything: we stay in our range, and it ends.

use closingd::negotiation::{Negotiation, Range, Role, FeeStep};
use primitives::Sat;

struct Numbers<'a>(&'a [u8]);
impl Numbers<'_> {
    fn next(&mut self) -> Option<u64> {
        let (width, rest) = self.0.split_first()?;
        let width = usize::from(*width) % 8 + 1;
        let (number, rest) = rest.split_at_checked(width)?;
        self.0 = rest;
        Some(number.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }
}

pub fn run(data: &[u8]) {
    let Some((flags, rest)) = data.split_first() else { return };
    let mut numbers = Numbers(rest);
    let role = if flags & 1 == 0 { Role::Opener } else { Role::Accepter };
    let mut first = || numbers.next();
    let (Some(min), Some(max), Some(ideal), Some(balance)) = (first(), first(), first(), first())
    else {
        return;
    };
    let range = Range { min: Sat(min), max: Sat(max) };
    let mut talk = Negotiation::new(role, range, Sat(ideal), Sat(balance));
    let mut sent = None;
    if let Some((next, offer)) = talk.open() {
        assert!(offer.fee <= Sat(balance));
        talk = next;
        sent = Some(offer.fee);
    }
    let mut counters = 0;
    while let (Some(fee), Some(ranged)) = (numbers.next(), numbers.next()) {
        let theirs = if ranged % 2 == 0 {
            None
        } else {
            let (Some(min), Some(max)) = (numbers.next(), numbers.next()) else { return };
            Some(Range { min: Sat(min), max: Sat(max) })
        };
        match talk.hear(Sat(fee), theirs) {
            Err(discord) => {
                assert!(!discord.to_string().is_empty());
                return;
            }
            Ok((_, FeeStep::Agreed(fee))) => {
                assert_eq!(Some(fee), sent);
                return;
            }
            Ok((_, FeeStep::Accept(offer))) => {
                assert_eq!(offer.fee, Sat(fee));
                assert!(offer.fee <= Sat(balance) && offer.range.contains(offer.fee));
                assert!(role == Role::Accepter || offer.fee <= Sat(max));
                return;
            }
            Ok((next, FeeStep::Counter(offer))) => {
                assert!(offer.fee <= Sat(balance));
                assert!(role == Role::Accepter || offer.fee <= Sat(max));
                talk = next;
                sent = Some(offer.fee);
                counters += 1;
            }
        }
    }
    assert!(counters <= 66, "{counters} offers");
}
