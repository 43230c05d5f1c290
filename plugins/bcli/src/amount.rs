//! bitcoind writes amounts as decimal fractions of a bitcoin. They are read as text: no float ever
//! touches them.

/// Decimal places of a bitcoin that a satoshi is.
const PLACES: i64 = 8;

/// Rounding of amounts below a satoshi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dust {
    /// There must not be any: an amount.
    Refuse,
    /// Round up: a feerate.
    Up,
}

/// Reads a JSON number, `0.00001000` or `1e-5`, in bitcoin. `None` if it is negative, too large or
/// no number.
pub(crate) fn sat(json: &str, dust: Dust) -> Option<u64> {
    let (mantissa, exponent) = match json.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (json, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: String = [whole, fraction].concat();
    if whole.is_empty() || digits.len() > 40 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The value is `digits` times ten to the power of `shift`, in satoshis.
    let shift = PLACES.checked_add(exponent)?.checked_sub(fraction.len() as i64)?;
    let number: u128 = digits.parse().ok()?;
    if number == 0 {
        return Some(0);
    }
    let power = |n: i64| 10u128.checked_pow(u32::try_from(n).ok()?);
    if shift >= 0 {
        return u64::try_from(number.checked_mul(power(shift)?)?).ok();
    }
    // Whatever is divided by more than that rounds to nothing or to one.
    let divisor = power(shift.checked_neg()?.min(38))?;
    let rest = number % divisor;
    let up = match (rest, dust) {
        (0, _) => 0,
        (_, Dust::Refuse) => return None,
        (_, Dust::Up) => 1,
    };
    u64::try_from((number / divisor).checked_add(up)?).ok()
}
