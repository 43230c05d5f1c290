//! One payment, from the first part to the preimage or the reason why not.
//!
//! The loop sends what is missing, waits for the next part to end, and decides: done, try again, or
//! give up. Giving up waits for the parts that are under way: as long as one is, the payee can
//! still take the money.

use crate::code;
use crate::direct::{MAX_PARTS, NoWay, RoutePart, split};
use crate::lightningd::{self, Done, Status};
use crate::request::Request;
use crate::state::State;
use primitives::{Msat, feature};
use sdk::{Answer, Call, CallError, RpcError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Parts that one payment may try, all together.
const MAX_ATTEMPTS: usize = 200;
/// The first pause before a part that failed is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How long the other parts' ends are waited for once there is a preimage.
const LINGER: Duration = Duration::from_secs(5);
/// BOLT 4's flag for failures that trying again does not cure.
const PERM: u64 = 0x4000;

/// The outcome of a part.
type Ended = (u64, Result<Success, CallError>);

#[derive(Debug, Deserialize)]
struct Success {
    payment_preimage: String,
}

/// A part that failed, for the error's data.
#[derive(Debug, Serialize)]
struct PaymentAttempt {
    status: &'static str,
    failreason: String,
    partid: u64,
    amount_msat: u64,
    channel: String,
}

struct Payment<'a> {
    call: &'a Call<'a, State>,
    request: &'a Request,
    group: u64,
    begun: Instant,
    /// Under way, by part id.
    outstanding: BTreeMap<u64, RoutePart>,
    next_part: u64,
    attempts: Vec<PaymentAttempt>,
    /// Per channel; [`u32::MAX`] is for good.
    failures: HashMap<String, u32>,
    /// Why nothing is sent any more.
    gave_up: Option<RpcError>,
    pause: Duration,
    ended: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
}

/// Pays, and answers as `pay` does.
pub(crate) fn run(
    call: &Call<'_, State>,
    request: &Request,
    group: u64,
) -> Result<Answer, RpcError> {
    let created_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut payment = Payment {
        call,
        request,
        group,
        begun: Instant::now(),
        outstanding: BTreeMap::new(),
        next_part: 0,
        attempts: Vec::new(),
        failures: HashMap::new(),
        gave_up: None,
        pause: PAUSES.0,
        ended: mpsc::channel(),
    };
    let preimage = payment.until_preimage()?;
    let warning = payment.linger();
    let sent = payment.sent().0;
    Answer::json(&Done {
        destination: request.invoice.payee.to_string(),
        payment_hash: request.invoice.terms.payment_hash.to_string(),
        created_at,
        parts: (payment.attempts.len() + payment.outstanding.len()) as u64,
        amount_msat: sent,
        amount_sent_msat: sent,
        warning_partial_completion: warning,
        payment_preimage: preimage,
        status: Status::Complete,
    })
}

impl Payment<'_> {
    fn until_preimage(&mut self) -> Result<String, RpcError> {
        if self.request.invoice.payee.to_string() == lightningd::own_id(self.call)? {
            let whole =
                RoutePart { channel: String::new(), direction: 0, amount: self.request.share };
            self.send(whole, true);
        }
        loop {
            if self.gave_up.is_none() && self.outstanding.len() < MAX_PARTS {
                self.send_missing();
            }
            if self.outstanding.is_empty() {
                if let Some(why) = self.gave_up.take() {
                    return Err(self.explain(why));
                }
                std::thread::sleep(self.pause);
                self.pause = (self.pause * 2).min(PAUSES.1);
                continue;
            }
            // We hold a sender: this ends only with a part.
            let Ok((id, ended)) = self.ended.1.recv() else { continue };
            match ended {
                Ok(success) => return Ok(success.payment_preimage),
                Err(error) => self.failed(id, error),
            }
        }
    }

    /// The amount of the parts under way.
    fn sent(&self) -> Msat {
        self.outstanding.values().fold(Msat::ZERO, |sum, part| sum.saturating_add(part.amount))
    }

    /// Sends parts for what is not under way. Gives up where there is no way and no hope for one.
    fn send_missing(&mut self) {
        let missing = self.request.share.saturating_sub(self.sent());
        if missing == Msat::ZERO {
            return;
        }
        if let Err(expired) = self.request.check_expiry() {
            self.gave_up = Some(expired);
            return;
        }
        let tried = self.attempts.len();
        if tried > 0 && (self.begun.elapsed() >= self.request.retry_for || tried >= MAX_ATTEMPTS) {
            self.gave_up = Some(RpcError::new(
                code::STOPPED_RETRYING,
                format!("Ran out of routes to try after {tried} attempts: see `listsendpays`"),
            ));
            return;
        }
        match self.find(missing) {
            Ok(Ok(parts)) => parts.into_iter().for_each(|part| self.send(part, false)),
            // The rest of the payment is still at the payee, who will let go of it in time.
            Ok(Err(_)) if !self.outstanding.is_empty() => {}
            // A channel that just failed may work again in a moment.
            Ok(Err(_)) if tried > 0 && self.failures.values().any(|n| *n < u32::MAX) => {}
            Ok(Err(no_way)) => {
                self.gave_up = Some(RpcError::new(code::ROUTE_NOT_FOUND, self.no_route(&no_way)));
            }
            Err(error) => self.gave_up = Some(error),
        }
    }

    fn no_route(&self, why: &NoWay) -> String {
        format!("Could not find a route to {}: {why}", self.request.invoice.payee)
    }

    /// The parts that would bring this much.
    fn find(&self, missing: Msat) -> Result<Result<Vec<RoutePart>, NoWay>, RpcError> {
        let request = self.request;
        let payee = request.invoice.payee.to_string();
        let excluded = |id: &str, direction: u32| {
            self.failures.get(id) == Some(&u32::MAX)
                || request.exclude.iter().any(|entry| {
                    *entry == payee || *entry == id || *entry == format!("{id}/{direction}")
                })
        };
        let channels = lightningd::channels_with(self.call, &payee, &self.failures, excluded)?;
        // BOLT 11, "Feature Bits": in parts only where the payee offers it.
        let may_split = request.invoice.terms.features.offers(feature::BASIC_MPP);
        Ok(split(&channels, missing, may_split))
    }

    /// Has lightningd offer a part, and somebody wait for its end.
    fn send(&mut self, part: RoutePart, to_ourselves: bool) {
        if self.gave_up.is_some() {
            return;
        }
        // The first is 0 if it is all there is: then it is no part.
        let alone = part.amount == self.request.share && self.request.share == self.request.total;
        if self.next_part == 0 && !alone {
            self.next_part = 1;
        }
        let id = self.next_part;
        self.next_part = self.next_part.saturating_add(1);
        let hops = (!to_ourselves).then_some(&part);
        let sent = lightningd::sendpay(self.call, self.request, self.group, id, hops);
        self.outstanding.insert(id, part);
        match sent {
            Ok(()) => {}
            // The part may be under way or not: `waitsendpay` tells.
            Err(CallError::Transport(_)) => {}
            Err(error @ CallError::Rpc(_)) => return self.failed(id, error),
        }
        let (rpc, cause) = (self.call.init().rpc.clone(), self.call.cause());
        let (group, report) = (self.group, self.ended.0.clone());
        let hash = self.request.invoice.terms.payment_hash.to_string();
        let wait = move || {
            let mut params = json!({ "payment_hash": hash, "groupid": group });
            if let (true, Some(params)) = (id > 0, params.as_object_mut()) {
                params.insert("partid".to_owned(), json!(id));
            }
            let asked = || rpc.call_for(&cause, "waitsendpay", &params);
            let mut ended = asked();
            let mut pause = PAUSES.0;
            // A connection that ended says nothing of the payment, which may be under way for days.
            // With lightningd we end, too.
            while matches!(ended, Err(CallError::Transport(_))) {
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSES.1);
                ended = asked();
            }
            let ended = ended.and_then(|result| {
                serde_json::from_str(result.get())
                    .map_err(|e| CallError::Transport(format!("its answer to waitsendpay: {e}")))
            });
            // The receiver is gone once there is a preimage.
            let _unheard = report.send((id, ended));
        };
        if std::thread::Builder::new().spawn(wait).is_err() {
            // The part is under way and we cannot watch it: say so rather than send it again.
            let why =
                "no thread to wait for the payment: see `listsendpays` for what becomes of it";
            self.gave_up = Some(RpcError::new(code::IN_PROGRESS, why));
            self.outstanding.remove(&id);
        }
    }

    /// A part came back.
    fn failed(&mut self, id: u64, error: CallError) {
        let Some(part) = self.outstanding.remove(&id) else { return };
        let error = RpcError::from(error);
        self.call.message("debug", &format!("part {id} failed: {}", error.message));
        let channel = part.channel.clone();
        self.attempts.push(PaymentAttempt {
            status: "failed",
            failreason: error.message.clone(),
            partid: id,
            amount_msat: part.amount.0,
            channel: part.channel,
        });
        match error.code {
            // To ourselves there is one way only.
            _ if channel.is_empty() => {
                self.gave_up.get_or_insert(error);
            }
            code::TRY_OTHER_ROUTE
            | code::UNPARSEABLE_ONION
            | code::UNSPECIFIED
            | code::ROUTE_NOT_FOUND => {
                let count = self.failures.entry(channel).or_default();
                *count = if is_permanent(&error) { u32::MAX } else { count.saturating_add(1) };
            }
            // 203: the payee does not want it. Any other: something that trying again cannot cure.
            _ => {
                self.gave_up.get_or_insert(error);
            }
        }
    }

    /// After the preimage: waits a moment for the other parts, so that the caller sees the payment
    /// whole.
    fn linger(&mut self) -> Option<&'static str> {
        let begun = Instant::now();
        let mut ended = 1;
        while ended < self.outstanding.len() {
            let left = LINGER.saturating_sub(begun.elapsed());
            match self.ended.1.recv_timeout(left) {
                Ok((_, Ok(_))) => ended += 1,
                Ok((id, Err(error))) => self.failed(id, error),
                Err(_) => {
                    return Some(
                        "Some parts of the payment are not yet completed, but we have the confirmation from the recipient.",
                    );
                }
            }
        }
        None
    }

    /// Adds what was tried to an error.
    fn explain(&self, error: RpcError) -> RpcError {
        let given = error.data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok());
        let mut data: Map<String, Value> = given.unwrap_or_default();
        data.insert("sendpay_tries".to_owned(), json!(self.attempts.len()));
        data.insert("attempts".to_owned(), json!(self.attempts));
        let message = match (error.code, self.attempts.last()) {
            (code::STOPPED_RETRYING, Some(last)) => {
                format!("{} (the last: {})", error.message, last.failreason)
            }
            (code::DESTINATION_PERM_FAIL, _) => {
                format!("Destination said: {}", error.message)
            }
            (_, _) => error.message,
        };
        RpcError::new(error.code, message).with_data(&data)
    }
}

/// Will this channel never do?
fn is_permanent(error: &RpcError) -> bool {
    #[derive(Deserialize)]
    struct Data {
        #[serde(default)]
        failcode: u64,
    }
    let data = error.data.as_ref().and_then(|d| serde_json::from_str::<Data>(d.get()).ok());
    data.is_some_and(|data| data.failcode & PERM != 0)
}
