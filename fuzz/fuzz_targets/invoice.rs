//! BOLT 11: any text, and any data under a checksum that holds.

use bech32::primitives::iter::{ByteIterExt, Fe32IterExt};
use bech32::{Bech32, Fe32, Hrp};
use invoice::Invoice;

const PREFIXES: [&str; 6] = ["lnbc", "lnbcrt", "lntb10u", "lnbc2500u", "lntbs1p", "lnbc1m"];

pub fn run(data: &[u8]) {
    let Some(([mode, prefix], data)) = data.split_first_chunk::<2>() else { return };
    if mode % 4 == 0 {
        if let Ok(text) = std::str::from_utf8(data) {
            let _ = Invoice::decode(text);
        }
        return;
    }
    let hrp = Hrp::parse(PREFIXES[usize::from(*prefix) % PREFIXES.len()]).expect("ours");
    let text: String = if mode % 4 == 1 {
        data.iter().copied().bytes_to_fes().with_checksum::<Bech32>(&hrp).chars().collect()
    } else {
        let fives = data.iter().map(|b| Fe32::try_from(b & 31).expect("five bits"));
        fives.with_checksum::<Bech32>(&hrp).chars().collect()
    };
    let _ = Invoice::decode(&text);
}
