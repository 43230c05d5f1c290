//! Money and what it costs to move it. Arithmetic is checked: a sum that does not fit is an answer,
//! not a wrap.

use std::fmt;

/// The amount a person typed, or a peer sent, that is no amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AmountError(pub String);

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for AmountError {}

macro_rules! amount {
    ($(#[$m:meta])* $name:ident, $unit:literal) => {
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);
        impl $name {
            /// Nothing.
            pub const ZERO: Self = Self(0);
            /// The sum, or `None` beyond 2^64.
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) { Some(v) => Some(Self(v)), None => None }
            }
            /// The difference. `None` where `other` is more.
            pub const fn checked_sub(self, other: Self) -> Option<Self> {
                match self.0.checked_sub(other.0) { Some(v) => Some(Self(v)), None => None }
            }
            /// The sum, or the largest amount there is.
            pub const fn saturating_add(self, other: Self) -> Self { Self(self.0.saturating_add(other.0)) }
            /// The difference, 0 where `other` is more.
            pub const fn saturating_sub(self, other: Self) -> Self { Self(self.0.saturating_sub(other.0)) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, concat!("{}", $unit), self.0) }
        }
    };
}
amount!(
    /// Whole satoshis: what a transaction output can hold.
    Sat, "sat"
);
amount!(
    /// Thousandths of a satoshi: what a channel counts in.
    Msat, "msat"
);

impl Sat {
    /// All the money there will ever be. No honest amount is larger.
    pub const MAX_MONEY: Self = Self(21_000_000 * 100_000_000);
    /// In msat; saturates far beyond [`Sat::MAX_MONEY`].
    pub const fn msat(self) -> Msat {
        Msat(self.0.saturating_mul(1000))
    }
}

impl Msat {
    /// [`Sat::MAX_MONEY`] in msat.
    pub const MAX_MONEY: Self = Sat::MAX_MONEY.msat();
    /// Whole satoshis, rounded down. BOLT 3: outputs are rounded down.
    pub const fn sat_floor(self) -> Sat {
        Sat(self.0 / 1000)
    }
    /// Whole satoshis, rounded up.
    pub const fn sat_ceil(self) -> Sat {
        Sat(self.0.div_ceil(1000))
    }

    /// Reads what CLN's RPC takes for an amount: `1000`, `1000msat`, `1sat`, `1.001sat`,
    /// `0.00000001btc`.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let bad = || {
            AmountError(format!(
                "'{text}' is no amount: write it as 1000msat, 1sat or 0.00000001btc"
            ))
        };
        if let Some(n) = text.strip_suffix("msat") {
            return whole(n).map(Self).ok_or_else(bad);
        }
        if let Some(n) = text.strip_suffix("sat") {
            return decimal(n, 3).map(Self).ok_or_else(bad);
        }
        if let Some(n) = text.strip_suffix("btc") {
            return decimal(n, 11).map(Self).ok_or_else(bad);
        }
        whole(text).map(Self).ok_or_else(bad)
    }
}

fn whole(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// `12.34` in units of 10^-places.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (int, frac) = text.split_once('.').unwrap_or((text, ""));
    if frac.len() > places || (text.contains('.') && frac.is_empty()) {
        return None;
    }
    let scale = 10u64.checked_pow(u32::try_from(places).ok()?)?;
    let mut value = whole(int)?.checked_mul(scale)?;
    if !frac.is_empty() {
        let missing = u32::try_from(places - frac.len()).ok()?;
        value = value.checked_add(whole(frac)?.checked_mul(10u64.checked_pow(missing)?)?)?;
    }
    Some(value)
}

/// Satoshis per 1000 units of weight, the unit of every feerate on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FeeratePerKw(pub u32);

impl FeeratePerKw {
    /// The lowest that any node relays today: 1 sat per virtual byte, rounded as Core rounds.
    pub const FLOOR: Self = Self(253);
    /// The fee of `weight` units, rounded down. BOLT 3, "Fee Calculation".
    pub const fn fee(self, weight: u64) -> Sat {
        Sat((self.0 as u64).saturating_mul(weight) / 1000)
    }
    /// From satoshis per 1000 virtual bytes, never below what it says.
    pub fn from_per_kvb(per_kvb: u64) -> Self {
        Self(u32::try_from(per_kvb.div_ceil(4)).unwrap_or(u32::MAX))
    }
    /// In satoshis per 1000 virtual bytes.
    pub const fn per_kvb(self) -> u64 {
        self.0 as u64 * 4
    }
}

impl fmt::Display for FeeratePerKw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}perkw", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_cln_reads_them() {
        for (text, msat) in [
            ("1000", 1000),
            ("1000msat", 1000),
            ("1sat", 1000),
            ("1.001sat", 1001),
            ("0.00000001btc", 1000),
            ("0.00000000001btc", 1),
            ("1.5btc", 150_000_000_000),
        ] {
            assert_eq!(Msat::parse(text), Ok(Msat(msat)), "{text}");
        }
        for text in
            ["", "-1", "1.", "1.0001sat", "msat", "1 sat", "1e3", "99999999999999999999", "0x10"]
        {
            assert!(Msat::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn outputs_round_down() {
        assert_eq!(Msat(1999).sat_floor(), Sat(1));
        assert_eq!(FeeratePerKw(253).fee(724), Sat(183));
    }
}
