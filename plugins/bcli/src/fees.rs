//! Feerate estimates of bitcoind. All rates in satoshis per 1000 virtual bytes.

use crate::amount::{Dust, sat};
use crate::bitcoind::{BCLI_ERROR, Bitcoind};
use sdk::{Answer, Call, RpcError};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::PoisonError;

/// Blocks to confirm in, and the mode bitcoind is asked in: CLN's.
const TARGETS: [(u32, &str); 4] =
    [(2, "CONSERVATIVE"), (6, "ECONOMICAL"), (12, "ECONOMICAL"), (100, "ECONOMICAL")];
/// The estimate that CLN makes up on regtest, where nobody else pays fees.
const FAKE: u64 = 1000;

/// The floor, and one estimate for each target that bitcoind has one for.
pub(crate) fn estimatefees(call: &Call<'_, Bitcoind>) -> Result<Answer, RpcError> {
    call.named(&[])?;
    let bitcoind = call.state;
    let floor = floor(bitcoind)?;
    let mut feerates = Vec::new();
    for (blocks, mode) in TARGETS {
        let estimate = match estimate(bitcoind, blocks, mode)? {
            Some(feerate) => feerate,
            None if bitcoind.config.fake_fees => {
                note(
                    bitcoind,
                    "bitcoind has no fee estimates on this regtest: taking 1000 sat/kvB",
                );
                FAKE
            }
            None => {
                note(bitcoind, "bitcoind has no fee estimates yet: only its floor is known");
                continue;
            }
        };
        feerates.push(json!({ "blocks": blocks, "feerate": estimate.max(floor) }));
    }
    Answer::json(&json!({ "feerate_floor": floor, "feerates": feerates }))
}

/// The least feerate at which bitcoind's mempool accepts a transaction now.
fn floor(bitcoind: &Bitcoind) -> Result<u64, RpcError> {
    #[derive(Deserialize)]
    struct MempoolInfo<'a> {
        #[serde(borrow)]
        mempoolminfee: &'a RawValue,
        #[serde(borrow)]
        minrelaytxfee: &'a RawValue,
    }
    let found = bitcoind.must("getmempoolinfo", &json!([]))?;
    let info: MempoolInfo<'_> = found.read("getmempoolinfo")?;
    Ok(rate(info.mempoolminfee)?.max(rate(info.minrelaytxfee)?))
}

fn estimate(bitcoind: &Bitcoind, blocks: u32, mode: &str) -> Result<Option<u64>, RpcError> {
    #[derive(Deserialize)]
    struct Estimate<'a> {
        #[serde(borrow, default)]
        feerate: Option<&'a RawValue>,
    }
    let found = bitcoind.must("estimatesmartfee", &json!([blocks, mode]))?;
    let estimate: Estimate<'_> = found.read("estimatesmartfee")?;
    estimate.feerate.map(rate).transpose()
}

fn rate(json: &RawValue) -> Result<u64, RpcError> {
    sat(json.get(), Dust::Up).ok_or_else(|| {
        RpcError::new(BCLI_ERROR, format!("bitcoind says {json}, which is no feerate"))
    })
}

/// Says something once.
fn note(bitcoind: &Bitcoind, text: &'static str) {
    let mut noted = bitcoind.noted.lock().unwrap_or_else(PoisonError::into_inner);
    if !noted.contains(&text) {
        noted.push(text);
        log::info!("{text}");
    }
}
