//! `invoice`, `listinvoices`, `delinvoice`, `waitinvoice`, `waitanyinvoice`.

use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::node::Node;
use crate::rooms::channels::policy;
use crate::rooms::invoices::view::{expired, to_json};
use crate::rooms::invoices::{Invoice, Status, settle};
use crate::sys::args::Args;
use crate::sys::fatal::Stop;
use crate::sys::form::{Answer, Caller, RpcError, code};
use crate::sys::json::{hex, now, put};
use invoice::{Currency, Description, Fallback, Terms};
use primitives::*;
use serde_json::{Value, json};
use wire::Bytes;
use wire::hsm::SignInvoice;

/// CLN's: a week.
const DEFAULT_EXPIRY_SECONDS: u64 = 604_800;

/// Is there no such invoice yet, and can there be one?
fn check(
    node: &Node,
    (label, text, hash_only): (&str, &str, bool),
    amount: Option<Msat>,
    hash: PaymentHash,
) -> Result<(), RpcError> {
    if let Some(existing) = node.invoices.by_label(label) {
        let error = RpcError {
            code: code::INVOICE_LABEL_ALREADY_EXISTS,
            message: format!("Duplicate label '{label}'"),
            data: Some(to_json(existing)),
        };
        return Err(error);
    }
    if amount.is_some_and(|a| a > Sat::MAX_MONEY.msat()) {
        return Err(RpcError::params("amount_msat: that is more than all the money there is"));
    }
    if node.invoices.by_hash(hash).is_some() {
        return Err(RpcError::new(code::INVOICE_PREIMAGE_ALREADY_EXISTS, "preimage already used"));
    }
    // BOLT 11: a field has 639 bytes at most. Longer texts travel as their hash, and only if that
    // is wanted.
    if !hash_only && text.len() > 639 {
        let long = format!(
            "Descriptions greater than 639 bytes need deschashonly=true, this one has {}",
            text.len()
        );
        return Err(RpcError::params(long));
    }
    Ok(())
}

/// What `invoice` answers.
fn answer(node: &Node, made: &Invoice) -> Value {
    let mut out = json!({
        "payment_hash": made.hash.to_string(),
        "expires_at": made.expires_at,
        "bolt11": made.bolt11,
        "payment_secret": hex(&made.secret.0),
        "created_index": made.created_index,
    });
    let receivable = node.channels.receivable();
    let warning = made
        .amount
        .is_some_and(|amount| amount > receivable)
        .then(|| format!("Insufficient incoming channel capacity to pay invoice: {receivable}"));
    put(&mut out, "warning_capacity", warning);
    out
}

/// BOLT 11, signed by hsmd.
fn sign(turn: &mut Turn<'_>, terms: &Terms) -> Result<String, Stop> {
    let unsigned = terms.unsigned(None).map_err(|e| RpcError::params(e.to_string()))?;
    let question = SignInvoice { hrp: unsigned.hrp.clone(), data: Bytes(unsigned.data.clone()) };
    subdaemon::fits_hsmd(&question).map_err(RpcError::params)?;
    Ok(unsigned.with_signature(&turn.hsm.ask(&question)?))
}

/// `invoice amount_msat label description [expiry] [fallbacks] [preimage]
/// [exposeprivatechannels] [cltv] [deschashonly]`.
pub fn invoice(node: &Node, turn: &mut Turn<'_>, args: &Args, _: &Caller) -> Result<Answer, Stop> {
    let label = args.need_text("label")?;
    let text = args.need_text("description")?;
    let amount = args.msat("amount_msat");
    let preimage = Preimage(args.hash("preimage").unwrap_or_else(subdaemon::random));
    let hash = preimage.hash();
    let hash_only = args.bool("deschashonly").unwrap_or(false);
    check(node, (&label, &text, hash_only), amount, hash)?;
    let expiry = args.number("expiry").unwrap_or(DEFAULT_EXPIRY_SECONDS);
    // With less than that nobody can pay it: what comes past its fulfilment deadline is failed.
    let least = policy::fulfilment_margin(node).0 + 1;
    let usual = node.config.options.cltv_final.0.max(least);
    let cltv = CltvDelta(args.number32("cltv")?.unwrap_or(usual));
    let secret = PaymentSecret(subdaemon::random());
    let timestamp = now();
    let terms = Terms {
        currency: Currency::of(node.network),
        amount,
        timestamp,
        payment_hash: hash,
        payment_secret: secret,
        description: if hash_only {
            Description::hash_of(&text)
        } else {
            Description::Text(text.clone())
        },
        expiry: Some(expiry),
        min_final_cltv: Some(cltv),
        fallbacks: fallbacks(node, args)?,
        routes: vec![],
        features: node.invoice_features.clone(),
        metadata: None,
        unknown: vec![],
    };
    let bolt11 = sign(turn, &terms)?;
    let made = Invoice {
        created_index: crate::sys::db::next_index(turn.db, "invoices_created")?,
        updated_index: None,
        label,
        hash,
        preimage,
        secret,
        amount,
        description: Some(text),
        bolt11,
        min_final_cltv: cltv,
        status: Status::Unpaid,
        expires_at: timestamp.saturating_add(expiry).min(i64::MAX as u64),
        paid: None,
    };
    let out = answer(node, &made);
    settle::add(node, turn, made)?;
    Ok(Answer::Now(out))
}

fn fallbacks(node: &Node, args: &Args) -> Result<Vec<Fallback>, RpcError> {
    let Some(given) = args.raw("fallbacks") else { return Ok(vec![]) };
    let bad = || RpcError::params("fallbacks: should be an array of addresses");
    let list = given.as_array().ok_or_else(bad)?;
    list.iter()
        .map(|v| {
            let script = crate::sys::args::parse_address(
                node.network,
                "fallbacks",
                v.as_str().ok_or_else(bad)?,
            )?;
            Fallback::of_script(&script).ok_or_else(bad)
        })
        .collect()
}

/// Where a page begins and how long it is.
pub struct Page {
    by_updated: bool,
    start: u64,
    limit: usize,
}

impl Page {
    /// `index`, `start`, `limit`, as every list takes them.
    pub fn parse(args: &Args) -> Result<Self, RpcError> {
        let by_updated = match args.text("index").as_deref() {
            None | Some("created") => false,
            Some("updated") => true,
            Some(_) => {
                return Err(RpcError::params(
                    "index: should be 'created' or 'updated': invalid token (see logs for details)",
                ));
            }
        };
        if args.raw("index").is_none()
            && (args.raw("start").is_some() || args.raw("limit").is_some())
        {
            return Err(RpcError::params("Can only specify {start} or {limit} with {index}"));
        }
        let limit =
            args.number("limit").map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Ok(Self { by_updated, start: args.number("start").unwrap_or(0), limit })
    }
    /// The page of these, each with its two indices.
    pub fn of<T>(&self, items: impl Iterator<Item = (u64, Option<u64>, T)>) -> Vec<T> {
        let mut picked: Vec<(u64, T)> = items
            .filter_map(|(created, updated, item)| {
                let index = if self.by_updated { updated? } else { created };
                (index >= self.start).then_some((index, item))
            })
            .collect();
        picked.sort_by_key(|(index, _)| *index);
        picked.into_iter().take(self.limit).map(|(_, item)| item).collect()
    }
}

/// The payment hash of a BOLT 11 string.
pub fn hash_of_string(text: &str) -> Result<PaymentHash, RpcError> {
    invoice::Invoice::decode(text.trim_start_matches("lightning:"))
        .map(|i| i.terms.payment_hash)
        .map_err(|e| RpcError::params(format!("Invalid invstring: {e}")))
}

/// `listinvoices [label] [invstring] [payment_hash] [offer_id] [index] [start] [limit]`.
pub fn listinvoices(
    node: &Node,
    _: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let label = args.text("label");
    let mut hash = args.hash("payment_hash").map(PaymentHash);
    let keys = [
        label.is_some(),
        hash.is_some(),
        args.raw("invstring").is_some(),
        args.raw("offer_id").is_some(),
    ];
    if keys.iter().filter(|k| **k).count() > 1 {
        return Err(RpcError::params(
            "Can only specify one of {label}, {invstring}, {payment_hash} or {offer_id}",
        )
        .into());
    }
    if let Some(text) = args.text("invstring") {
        hash = Some(hash_of_string(&text)?);
    }
    let page = Page::parse(args)?;
    let one = |found: Option<&Invoice>| found.map(to_json).into_iter().collect::<Vec<_>>();
    let list = match (&label, hash) {
        (Some(label), _) => one(node.invoices.by_label(label)),
        (None, Some(hash)) => one(node.invoices.by_hash(hash)),
        (None, None) if args.raw("offer_id").is_some() => vec![],
        (None, None) => {
            let picked =
                page.of(node.invoices.all.values().map(|i| (i.created_index, i.updated_index, i)));
            picked.into_iter().map(to_json).collect()
        }
    };
    Ok(Answer::Now(json!({"invoices": list})))
}

/// `delinvoice label status [desconly]`.
pub fn delinvoice(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    _: &Caller,
) -> Result<Answer, Stop> {
    let label = args.need_text("label")?;
    let wanted = args.need_text("status")?;
    let found = node
        .invoices
        .by_label(&label)
        .ok_or_else(|| RpcError::new(code::INVOICE_NOT_FOUND, "Unknown invoice"))?;
    let status = found.status_name(now());
    if status != wanted {
        let error = RpcError {
            code: code::INVOICE_STATUS_UNEXPECTED,
            message: format!("Invoice status is {status} not {wanted}"),
            data: Some(json!({"current_status": status, "expected_status": wanted})),
        };
        return Err(error.into());
    }
    if args.bool("desconly").unwrap_or(false) {
        if found.description.is_none() {
            return Err(RpcError::new(
                code::INVOICE_NO_DESCRIPTION,
                "Invoice description already removed",
            )
            .into());
        }
        return Ok(Answer::Now(to_json(&settle::forget_description(node, turn, found)?)));
    }
    settle::remove(node, turn, found)?;
    Ok(Answer::Now(to_json(found)))
}

/// `waitinvoice label`.
pub fn waitinvoice(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let label = args.need_text("label")?;
    let found = node
        .invoices
        .by_label(&label)
        .ok_or_else(|| RpcError::new(code::LIGHTNINGD, "Label not found"))?;
    if found.status == Status::Paid {
        return Ok(Answer::Now(to_json(found)));
    }
    if found.is_expired(now()) {
        return Err(expired(found).into());
    }
    let left = found.expires_at.saturating_sub(now()).saturating_add(1);
    crate::kernel::waiting::add(node, turn, caller, For::Invoice(label), Some(left));
    Ok(Answer::Later)
}

/// `waitanyinvoice [lastpay_index] [timeout]`.
pub fn waitanyinvoice(
    node: &Node,
    turn: &mut Turn<'_>,
    args: &Args,
    caller: &Caller,
) -> Result<Answer, Stop> {
    let after = args.number("lastpay_index").unwrap_or(0);
    let timeout = args.number("timeout");
    if let Some(paid) = node.invoices.paid_after(after) {
        return Ok(Answer::Now(to_json(paid)));
    }
    if timeout == Some(0) {
        return Err(RpcError::new(
            code::INVOICE_WAIT_TIMED_OUT,
            "Timed out while waiting for invoice to be paid",
        )
        .into());
    }
    crate::kernel::waiting::add(node, turn, caller, For::AnyInvoice(after), timeout);
    Ok(Answer::Later)
}
