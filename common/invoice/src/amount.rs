//! The human-readable part: currency and amount. BOLT 11, "Human-Readable Part".

use crate::terms::Currency;
use primitives::Msat;

/// Millisatoshis in a bitcoin.
const BTC: u64 = 100_000_000_000;
/// The value of each multiplier in msat, but pico, of which ten make one.
const MULTIPLIERS: [(&str, u64); 4] =
    [("", BTC), ("m", BTC / 1_000), ("u", BTC / 1_000_000), ("n", BTC / 1_000_000_000)];

/// Reads `lnbc2500u`, in lower case.
pub(crate) fn parse(hrp: &str) -> Result<(Currency, Option<Msat>), String> {
    let rest = hrp.strip_prefix("ln").ok_or("it does not begin with 'ln'")?;
    let digits_at = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (prefix, amount) = rest.split_at_checked(digits_at).unwrap_or((rest, ""));
    let currency =
        Currency::from_prefix(prefix).ok_or_else(|| format!("unknown prefix 'ln{prefix}'"))?;
    if amount.is_empty() {
        return Ok((currency, None));
    }
    let msat = parse_amount(amount).map_err(|why| format!("amount '{amount}': {why}"))?;
    Ok((currency, Some(msat)))
}

fn parse_amount(text: &str) -> Result<Msat, &'static str> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, multiplier) = text.split_at_checked(digits_end).unwrap_or((text, ""));
    if digits.starts_with('0') {
        return Err("it must be positive and without leading zeroes");
    }
    let number: u128 = digits.parse().map_err(|_| "it is too large")?;
    if multiplier == "p" {
        if !number.is_multiple_of(10) {
            return Err("it is no whole number of millisatoshis");
        }
        return in_msat(number / 10);
    }
    let (_, unit) =
        MULTIPLIERS.iter().find(|(m, _)| *m == multiplier).ok_or("unknown multiplier")?;
    in_msat(number.saturating_mul(u128::from(*unit)))
}

fn in_msat(amount: u128) -> Result<Msat, &'static str> {
    let msat = u64::try_from(amount).map(Msat).ok().filter(|amount| *amount <= Msat::MAX_MONEY);
    msat.ok_or("it is more than 21 million bitcoin")
}

/// Writes it with the largest multiplier that fits. An amount of zero is none.
pub(crate) fn format(currency: Currency, amount: Option<Msat>) -> String {
    let mut out = format!("ln{}", currency.prefix());
    if let Some(Msat(msat)) = amount {
        match MULTIPLIERS.iter().find(|(_, unit)| msat.is_multiple_of(*unit)) {
            Some((multiplier, unit)) => out += &format!("{}{multiplier}", msat / unit),
            None => out += &format!("{}p", u128::from(msat) * 10),
        }
    }
    out
}
