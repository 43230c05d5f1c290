//! Where something stands in the chain, and how far apart two places are.

use std::{fmt, ops, str::FromStr};

/// A block's height. Also an absolute locktime below 500,000,000 (BOLT 2: `cltv_expiry`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockHeight(pub u32);

/// A number of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CltvDelta(pub u32);

impl ops::Sub for BlockHeight {
    type Output = CltvDelta;
    /// How many blocks later this is; zero where it is earlier.
    fn sub(self, earlier: Self) -> CltvDelta {
        CltvDelta(self.0.saturating_sub(earlier.0))
    }
}
impl ops::Add<CltvDelta> for BlockHeight {
    type Output = BlockHeight;
    /// Saturates: no height beyond 2^32 exists.
    fn add(self, delta: CltvDelta) -> BlockHeight {
        BlockHeight(self.0.saturating_add(delta.0))
    }
}
impl fmt::Display for BlockHeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Display for CltvDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A feature's number (BOLT 9): even is compulsory, odd optional.
pub type FeatureBit = usize;

/// Block, transaction and output of a funding, as one number. BOLT 7, "Definition of
/// short_channel_id".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortChannelId(pub u64);

impl ShortChannelId {
    /// `None` where a part does not fit its 3, 3 and 2 bytes.
    pub fn new(block: u32, tx: u32, output: u16) -> Option<Self> {
        if block >= 1 << 24 || tx >= 1 << 24 {
            return None;
        }
        Some(Self(u64::from(block) << 40 | u64::from(tx) << 16 | u64::from(output)))
    }
    /// Height of the funding's block.
    pub const fn block(self) -> BlockHeight {
        BlockHeight((self.0 >> 40) as u32)
    }
    /// Index of the funding transaction in its block.
    pub const fn tx(self) -> u32 {
        (self.0 >> 16) as u32 & 0xff_ffff
    }
    /// Index of the funding output.
    pub const fn output(self) -> u16 {
        self.0 as u16
    }
}
impl fmt::Display for ShortChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}", self.block(), self.tx(), self.output())
    }
}
impl fmt::Debug for ShortChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for ShortChannelId {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("'{s}' is no short channel id: write it as BLOCKxTXxOUTPUT");
        let mut parts = s.split('x');
        let (Some(b), Some(t), Some(o), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let number = |p: &str| {
            p.bytes().all(|c| c.is_ascii_digit()).then(|| p.parse::<u32>().ok()).flatten()
        };
        let (b, t, o) =
            (number(b).ok_or_else(bad)?, number(t).ok_or_else(bad)?, number(o).ok_or_else(bad)?);
        Self::new(b, t, u16::try_from(o).map_err(|_| bad())?).ok_or_else(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_channel_id_reads_back_what_it_prints() {
        let scid: ShortChannelId = "539268x845x1".parse().unwrap();
        assert_eq!(scid.0, 539268 << 40 | 845 << 16 | 1);
        assert_eq!(scid.to_string(), "539268x845x1");
        for bad in ["", "1x2", "1x2x3x4", "16777216x0x0", "1x2x65536", "+1x2x3", "-1x2x3"] {
            assert!(bad.parse::<ShortChannelId>().is_err(), "{bad}");
        }
    }
}
