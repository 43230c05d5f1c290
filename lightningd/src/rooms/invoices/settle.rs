//! Payments that come: which invoice they are for, and that it is paid.

use crate::kernel::turn::Turn;
use crate::kernel::waits::For;
use crate::kernel::words::news::News;
use crate::rooms::invoices::{Invoice, Paid, Scope, Status, store};
use crate::sys::fatal::Stop;
use crate::sys::form::{RpcError, code};
use onion::FinalPayload;
use primitives::*;
use wire::channel_data::Htlc;

/// Does this HTLC pay an invoice of ours? The payer hears only that it does not; the log hears why.
pub fn accepts(
    node: &Scope,
    htlc: &Htlc,
    wanted: &FinalPayload,
    height: BlockHeight,
) -> Result<(), String> {
    let invoice = node.invoices.by_hash(htlc.payment_hash).ok_or("no invoice has this hash")?;
    if invoice.status == Status::Paid {
        return Err("it is paid already".to_owned());
    }
    if invoice.is_expired(crate::sys::json::now()) {
        return Err("it is expired".to_owned());
    }
    // BOLT 4: the secret shows that the sender has the invoice, and is no node on the way that
    // probes us.
    if wanted.payment_secret != Some(invoice.secret) {
        return Err("the payment secret is missing or another".to_owned());
    }
    if let Some(amount) = invoice.amount {
        if wanted.total < amount {
            return Err(format!("it asks for {amount}, and {} is announced", wanted.total));
        }
        // BOLT 4: more than twice as much is a mistake that we do not profit from.
        if wanted.total.0 > amount.0.saturating_mul(2) {
            return Err(format!(
                "it asks for {amount}, and {} is more than twice that",
                wanted.total
            ));
        }
    }
    let left = htlc.expiry - height;
    if left < invoice.min_final_cltv {
        return Err(format!("it leaves {left} blocks, and {} are needed", invoice.min_final_cltv));
    }
    Ok(())
}

/// All parts are there: the invoice is paid. What comes back opens them.
pub fn paid(
    node: &Scope,
    turn: &mut Turn<'_>,
    hash: PaymentHash,
    received: Msat,
) -> Result<Preimage, Stop> {
    let invoice = node
        .invoices
        .by_hash(hash)
        .ok_or_else(|| Stop::refused("an invoice was paid that is gone"))?;
    let mut invoice = invoice.clone();
    invoice.status = Status::Paid;
    invoice.paid = Some(Paid {
        index: crate::sys::db::next_index(turn.db, "pay_index")?,
        received,
        at: crate::sys::json::now(),
    });
    invoice.updated_index = Some(crate::sys::db::next_index(turn.db, "invoices_updated")?);
    store::update(turn.db, &invoice)?;
    log::info!("Resolved invoice '{}' with amount {received}", invoice.label);
    let preimage = invoice.preimage;
    let result = Ok(crate::rooms::invoices::view::to_json(&invoice));
    let label = invoice.label.clone();
    crate::kernel::waiting::answer_all(node, turn, |f| *f == For::Invoice(label.clone()), &result);
    let index = invoice.paid.map_or(0, |p| p.index);
    crate::kernel::waiting::answer_all(
        node,
        turn,
        |f| matches!(f, For::AnyInvoice(after) if *after < index),
        &result,
    );
    turn.tell(News::InvoicePaid { label, preimage, received });
    turn.install(node, move |invoices| invoices.insert(invoice));
    Ok(preimage)
}

/// An invoice is made: its row and its value.
pub fn add(node: &Scope, turn: &mut Turn<'_>, invoice: Invoice) -> Result<(), Stop> {
    store::insert(turn.db, &invoice)?;
    turn.install(node, move |invoices| invoices.insert(invoice));
    Ok(())
}

/// The description of an invoice goes. Returns the invoice as it is then.
pub fn forget_description(
    node: &Scope,
    turn: &mut Turn<'_>,
    invoice: &Invoice,
) -> Result<Invoice, Stop> {
    let updated_index = Some(crate::sys::db::next_index(turn.db, "invoices_updated")?);
    let changed = Invoice { description: None, updated_index, ..invoice.clone() };
    store::update(turn.db, &changed)?;
    let copy = changed.clone();
    turn.install(node, move |invoices| invoices.insert(copy));
    Ok(changed)
}

/// An invoice is deleted: whoever waits for it hears so.
pub fn remove(node: &Scope, turn: &mut Turn<'_>, invoice: &Invoice) -> Result<(), Stop> {
    let index = invoice.created_index;
    store::remove(turn.db, index)?;
    turn.install(node, move |invoices| invoices.remove(index));
    let gone = Err(RpcError::new(code::LIGHTNINGD, "invoice deleted during wait"));
    let label = invoice.label.clone();
    crate::kernel::waiting::answer_all(node, turn, |f| *f == For::Invoice(label.clone()), &gone);
    Ok(())
}
