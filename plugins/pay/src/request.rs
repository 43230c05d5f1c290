//! The parameters of `pay`, checked as far as that goes without asking lightningd.

use crate::code;
use crate::state::State;
use invoice::{Currency, Invoice};
use primitives::{Msat, feature};
use sdk::{Call, Kind, Params, RpcError, kind};
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The parameters in their order.
pub(crate) const USAGE: &str = "invstring [amount_msat] [label] [riskfactor] [maxfeepercent] [retry_for] [maxdelay] [exemptfee] \
     [localinvreqid] [exclude] [maxfee] [description] [partial_msat] [dev_use_shadow]";

const NAMES: &[&str] = &[
    "bolt11|invstring",
    "amount_msat",
    "label",
    "riskfactor",
    "maxfeepercent",
    "retry_for",
    "maxdelay",
    "exemptfee",
    "localinvreqid",
    "exclude",
    "maxfee",
    "description",
    "partial_msat",
    "dev_use_shadow",
];

/// Seconds for which it is tried again unless told otherwise.
const RETRY_FOR: u16 = 60;
/// Blocks that a payment may take at most unless told otherwise.
const MAX_DELAY: u16 = 2016;
/// Blocks that the payee may have seen and we not, or that come while the payment is on its way: it
/// would refuse what has too little time left.
const LATE_BLOCKS: u32 = 3;

/// Pay this.
#[derive(Debug)]
pub(crate) struct Request {
    /// The invoice as it was given.
    pub(crate) text: String,
    pub(crate) invoice: Invoice,
    /// The amount that the payee gets in the end, from all payers.
    pub(crate) total: Msat,
    /// The part of `total` that this call pays.
    pub(crate) share: Msat,
    pub(crate) label: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) localinvreqid: Option<String>,
    /// Channels (with direction) and nodes to leave out.
    pub(crate) exclude: Vec<String>,
    pub(crate) retry_for: Duration,
    /// Blocks that the payee has to take it.
    pub(crate) delay: u32,
}

impl Request {
    pub(crate) fn read(call: &Call<'_, State>) -> Result<Self, RpcError> {
        const EXCLUDE: Kind<Vec<String>> = Kind {
            should_be: "should be an array of short_channel_id/direction or node id",
            read: |token| serde_json::from_str(token).ok(),
        };
        let params = call.named(NAMES)?;
        let text = params.required("bolt11", &kind::STRING)?;
        let amount = params.optional("amount_msat", &kind::MSAT)?;
        let partial = params.optional("partial_msat", &kind::MSAT)?;
        let description = params.optional("description", &kind::STRING)?;
        let max_delay = params.optional("maxdelay", &kind::U16)?.unwrap_or(MAX_DELAY);
        check_fee_limits(&params)?;
        // riskfactor weighs the time that money is locked against fees: there is no such choice
        // with a direct peer.
        params.optional("riskfactor", &kind::MILLIONTHS)?;

        let invoice = decode(&text, Currency::of(call.state.network))?;
        let total = total(&invoice, amount)?;
        let share = share(&invoice, total, partial)?;
        if let Some(given) = &description
            && !invoice.terms.description.describes(given)
        {
            return Err(RpcError::params("description does not match the one in the invoice"));
        }
        let delay = invoice.terms.min_final_cltv();
        let max_delay = u32::from(max_delay);
        if delay.0 > max_delay {
            let why = format!(
                "the invoice asks for {delay} blocks, which is more than maxdelay, {max_delay}"
            );
            return Err(RpcError::new(code::ROUTE_TOO_EXPENSIVE, why).with_data(
                &json!({ "delay": delay.0, "maxdelay": max_delay, "fee": 0, "feepercent": 0 }),
            ));
        }
        let request = Self {
            label: params.optional("label", &kind::LABEL)?,
            localinvreqid: params.optional("localinvreqid", &kind::STRING)?,
            exclude: params.optional("exclude", &EXCLUDE)?.unwrap_or_default(),
            retry_for: Duration::from_secs(
                params.optional("retry_for", &kind::U16)?.unwrap_or(RETRY_FOR).into(),
            ),
            text,
            invoice,
            total,
            share,
            description,
            delay: (delay.0 + LATE_BLOCKS).min(max_delay),
        };
        request.check_expiry()?;
        Ok(request)
    }

    /// BOLT 11, "Payer / Payee Requirements": an expired invoice should not be paid.
    pub(crate) fn check_expiry(&self) -> Result<(), RpcError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expiry = self.invoice.terms.expires_at();
        if now < expiry {
            return Ok(());
        }
        Err(RpcError::new(code::INVOICE_EXPIRED, "Invoice expired")
            .with_data(&json!({ "now": now, "expiry": expiry })))
    }
}

/// How much of the total this call pays.
fn share(invoice: &Invoice, total: Msat, partial: Option<Msat>) -> Result<Msat, RpcError> {
    let share = partial.unwrap_or(total);
    if share > total || (partial.is_some() && share == Msat::ZERO) {
        return Err(RpcError::params(
            "partial_msat must be more than 0, and no more than amount_msat",
        ));
    }
    // BOLT 11, "Feature Bits": a payee without basic_mpp takes one HTLC, which would be too small.
    if share < total && !invoice.terms.features.offers(feature::BASIC_MPP) {
        return Err(RpcError::params(
            "partial_msat: the invoice does not offer basic_mpp, its payee takes nothing in parts",
        ));
    }
    Ok(share)
}

fn decode(text: &str, ours: Currency) -> Result<Invoice, RpcError> {
    let bad = |why: String| RpcError::params(format!("Invalid bolt11: {why}"));
    let invoice = Invoice::decode(text).map_err(|e| bad(e.to_string()))?;
    let theirs = invoice.terms.currency;
    if theirs != ours {
        let (theirs, ours) = (theirs.prefix(), ours.prefix());
        return Err(bad(format!("it asks for '{theirs}', this node has '{ours}'")));
    }
    Ok(invoice)
}

/// The amount is said exactly once, here or there.
fn total(invoice: &Invoice, given: Option<Msat>) -> Result<Msat, RpcError> {
    match (invoice.terms.amount, given) {
        (Some(_), Some(_)) => Err(RpcError::params("amount_msat parameter unnecessary")),
        (None, None) => Err(RpcError::params("amount_msat parameter required")),
        (None, Some(Msat::ZERO)) => Err(RpcError::params("amount_msat must be more than 0")),
        (Some(amount), None) | (None, Some(amount)) => Ok(amount),
    }
}

/// A direct peer takes no fee, so every limit on fees is kept; but two limits at once are a
/// mistake.
fn check_fee_limits(params: &Params) -> Result<(), RpcError> {
    let percent = params.optional("maxfeepercent", &kind::MILLIONTHS)?;
    let exempt = params.optional("exemptfee", &kind::MSAT)?;
    let most = params.optional("maxfee", &kind::MSAT)?;
    if most.is_some() && (percent.is_some() || exempt.is_some()) {
        let why = "maxfee: you cannot specify both maxfee and maxfeepercent or exemptfee";
        return Err(RpcError::params(why));
    }
    Ok(())
}
