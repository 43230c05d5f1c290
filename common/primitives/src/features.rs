//! Feature bit fields. BOLT 9.

use crate::chain::FeatureBit;
use std::fmt;

/// A bit field as it travels: big-endian, bit 0 in the last byte, kept without leading zero bytes.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Features(Vec<u8>);

impl Features {
    /// Bits of a peer's `init` from here on are judged and forgotten: a message has room for half a
    /// million of them. BOLT 9 ends at 63, and the experiments of other implementations are below
    /// this.
    pub const KEPT: FeatureBit = 2048;

    /// No bit set.
    pub const fn none() -> Self {
        Self(Vec::new())
    }
    /// From what the wire had; leading zeroes are dropped.
    pub fn from_be_bytes(bytes: &[u8]) -> Self {
        let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
        Self(bytes.get(start..).unwrap_or_default().to_vec())
    }
    /// As the wire wants it: minimal length.
    pub fn as_be_bytes(&self) -> &[u8] {
        &self.0
    }
    /// Is exactly this bit set?
    pub fn has_bit(&self, bit: FeatureBit) -> bool {
        let Some(from_start) = self.0.len().checked_sub(1 + bit / 8) else { return false };
        self.0.get(from_start).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }
    /// Is this feature offered, as compulsory or as optional? `feature` may be either bit of the
    /// pair.
    pub fn offers(&self, feature: FeatureBit) -> bool {
        self.has_bit(feature & !1) || self.has_bit(feature | 1)
    }
    /// The same with this bit set.
    pub fn with(mut self, bit: FeatureBit) -> Self {
        let needed = bit / 8 + 1;
        if self.0.len() < needed {
            let mut longer = vec![0; needed - self.0.len()];
            longer.append(&mut self.0);
            self.0 = longer;
        }
        let at = self.0.len() - 1 - bit / 8;
        if let Some(byte) = self.0.get_mut(at) {
            *byte |= 1 << (bit % 8);
        }
        self
    }
    /// The optional bits of these features: how a node that merely likes them says so.
    pub fn optional(features: &[FeatureBit]) -> Self {
        features.iter().fold(Self::none(), |f, bit| f.with(bit | 1))
    }
    /// The compulsory bits of these features.
    pub fn compulsory(features: &[FeatureBit]) -> Self {
        features.iter().fold(Self::none(), |f, bit| f.with(bit & !1))
    }
    /// Every bit of either.
    pub fn union(&self, other: &Self) -> Self {
        let (long, short) =
            if self.0.len() < other.0.len() { (other, self) } else { (self, other) };
        let mut all = long.0.clone();
        all.iter_mut().rev().zip(short.0.iter().rev()).for_each(|(a, b)| *a |= b);
        Self(all)
    }
    /// The bits below this one.
    pub fn below(&self, end: FeatureBit) -> Self {
        let (bytes, bits) = (end.div_ceil(8), end % 8);
        let skipped = self.0.len().saturating_sub(bytes);
        let mut kept = self.0.get(skipped..).unwrap_or_default().to_vec();
        if bits > 0
            && kept.len() == bytes
            && let Some(highest) = kept.first_mut()
        {
            *highest &= (1 << bits) - 1;
        }
        Self::from_be_bytes(&kept)
    }
    /// Those of a peer's that are kept while it is connected, and shown: below [`Self::KEPT`].
    pub fn kept(&self) -> Self {
        self.below(Self::KEPT)
    }
    /// The bits that are set, lowest first.
    pub fn bits(&self) -> impl Iterator<Item = FeatureBit> + '_ {
        (0..self.0.len() * 8).filter(|bit| self.has_bit(*bit))
    }
    /// The first compulsory bit that `ours` does not offer in either form. BOLT 1: such a peer is
    /// left alone.
    pub fn unknown_compulsory(&self, ours: &Self) -> Option<FeatureBit> {
        self.bits().find(|bit| bit % 2 == 0 && !ours.offers(*bit))
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
/// Bits that [`fmt::Debug`] lists: it goes into logs and errors, and a peer may set half a million.
const MAX_SHOWN: usize = 40;

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        list.entries(self.bits().take(MAX_SHOWN));
        let set: usize = self.0.iter().map(|b| b.count_ones() as usize).sum();
        if set > MAX_SHOWN {
            list.entry(&format_args!("and {} more", set - MAX_SHOWN));
        }
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_count_from_the_last_byte() {
        let f = Features::none().with(0).with(15);
        assert_eq!(f.as_be_bytes(), [0x80, 0x01]);
        assert_eq!(f.bits().collect::<Vec<_>>(), [0, 15]);
        assert!(f.offers(1) && f.offers(14) && !f.has_bit(14) && !f.has_bit(4000));
        assert_eq!(Features::from_be_bytes(&[0, 0, 0x80, 1]), f);
    }

    #[test]
    fn union_has_the_bits_of_both_and_is_quick_for_the_longest() {
        let (a, b) = (Features::none().with(1).with(40), Features::none().with(2));
        assert_eq!(a.union(&b).bits().collect::<Vec<_>>(), [1, 2, 40]);
        assert_eq!(b.union(&a), a.union(&b));
        let longest = Features::from_be_bytes(&[0xff; 65535]);
        assert_eq!(Features::none().union(&longest), longest);
    }

    #[test]
    fn features_list_a_bounded_number_of_bits() {
        let text = format!("{:?}", Features::from_be_bytes(&[0xff; 65535]));
        assert!(
            text.starts_with("[0, 1, 2, ") && text.ends_with(", 39, and 524240 more]"),
            "{text}"
        );
        assert_eq!(format!("{:?}", Features::none().with(1).with(40)), "[1, 40]");
    }

    #[test]
    fn features_below_a_bit_are_those_below_it() {
        let all = Features::from_be_bytes(&[0xff; 65535]);
        for end in [0, 1, 7, 8, 9, 63, 64, 2047, 2048] {
            assert_eq!(all.below(end).bits().collect::<Vec<_>>(), Vec::from_iter(0..end));
        }
        let few = Features::none().with(3).with(20);
        assert_eq!(few.below(20).bits().collect::<Vec<_>>(), [3]);
        assert_eq!(few.below(20).as_be_bytes(), [8]);
        assert_eq!(few.below(1000), few);
        assert_eq!(all.kept().as_be_bytes().len(), 256);
    }

    #[test]
    fn unknown_even_bit_is_found_and_an_odd_one_is_fine() {
        let ours = Features::optional(&[22]);
        assert_eq!(Features::none().with(22).with(101).unknown_compulsory(&ours), None);
        assert_eq!(Features::none().with(100).unknown_compulsory(&ours), Some(100));
    }
}
