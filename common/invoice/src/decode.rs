//! From a string to what it says, and who said it.

use crate::amount;
use crate::encode::signing_hash;
use crate::fives::{self, LongBech32, MAX_LEN};
use crate::terms::{Currency, Description, Fallback, RouteHint, Terms, UnknownField};
use bech32::Fe32;
use bech32::primitives::decode::CheckedHrpstring;
use primitives::feature::Context;
use primitives::*;
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};
use std::fmt;

/// Groups of five bits that hold the timestamp.
const TIMESTAMP_LEN: usize = 7;
/// Groups of five bits that hold signature and recovery id.
const SIGNATURE_LEN: usize = 104;

/// An invoice whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    /// Its fields.
    pub terms: Terms,
    /// The payee: its key signed the invoice.
    pub payee: Point,
    /// Did it name the payee (`n`), or does that follow from the signature?
    pub names_payee: bool,
    /// R, S and recovery id.
    pub signature: [u8; 65],
}

/// Why a string is no invoice that one could pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvoiceError {
    /// Longer than [`MAX_LEN`].
    TooLong(usize),
    /// Not a bech32 string, or mistyped.
    Bech32(String),
    /// The part before the data makes no sense.
    Prefix(String),
    /// The data ends in the middle of something.
    TooShort,
    /// A field that must be there is not.
    Missing(&'static str),
    /// A field's content is wrong.
    Field(char, &'static str),
    /// Both a description and the hash of one, or neither.
    Descriptions,
    /// A required feature that we do not have.
    UnknownFeature(FeatureBit),
    /// A signature that is valid for no key.
    Signature(&'static str),
}

impl fmt::Display for InvoiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "{len} characters are no invoice"),
            Self::Bech32(why) => write!(f, "Bad bech32 string: {why}"),
            Self::Prefix(why) => write!(f, "Prefix: {why}"),
            Self::TooShort => f.write_str("it is cut off"),
            Self::Missing(what) => write!(f, "Missing required {what}"),
            Self::Field(letter, why) => write!(f, "{letter}: {why}"),
            Self::Descriptions => {
                f.write_str("it must have either a description (d) or a hash of one (h)")
            }
            Self::UnknownFeature(bit) => write!(f, "9: unknown feature bit {bit}"),
            Self::Signature(why) => write!(f, "Bad signature: {why}"),
        }
    }
}
impl std::error::Error for InvoiceError {}

impl Invoice {
    /// Reads an invoice and checks its signature. Upper case, `lightning:` before it and spaces
    /// around it are fine.
    pub fn decode(text: &str) -> Result<Self, InvoiceError> {
        let text = text.trim();
        let text = match text.split_at_checked("lightning:".len()) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("lightning:") => rest,
            _ => text,
        };
        if text.len() > MAX_LEN {
            return Err(InvoiceError::TooLong(text.len()));
        }
        let checked = CheckedHrpstring::new::<LongBech32>(text)
            .map_err(|e| InvoiceError::Bech32(e.to_string()))?;
        let hrp = checked.hrp().to_lowercase();
        let (currency, amount) = amount::parse(&hrp).map_err(InvoiceError::Prefix)?;
        let data = checked
            .data_part_ascii_no_checksum()
            .iter()
            .map(|c| Fe32::from_char(char::from(*c)).map(Fe32::to_u8))
            .collect::<Result<Vec<u8>, _>>()
            .map_err(|e| InvoiceError::Bech32(e.to_string()))?;

        let signature_at = data.len().checked_sub(SIGNATURE_LEN).ok_or(InvoiceError::TooShort)?;
        let (signed, signature) =
            data.split_at_checked(signature_at).ok_or(InvoiceError::TooShort)?;
        let (timestamp, tagged) =
            signed.split_at_checked(TIMESTAMP_LEN).ok_or(InvoiceError::TooShort)?;
        let timestamp = fives::to_number(timestamp).ok_or(InvoiceError::TooShort)?;
        let fields = Fields::read(tagged)?;
        let named = fields.payee;
        let terms = fields.into_terms(currency, amount, timestamp)?;

        let signature: [u8; 65] =
            fives::to_bytes(signature).try_into().map_err(|_| InvoiceError::TooShort)?;
        let payee = check_signature(&signing_hash(&hrp, signed), &signature, named)?;
        Ok(Self { terms, payee, names_payee: named.is_some(), signature })
    }
}

/// The key that signed. BOLT 11, "Tagged Fields", reader: `n` decides where it is given, and then S
/// must be low.
fn check_signature(
    hash: &[u8; 32],
    signature: &[u8; 65],
    named: Option<Point>,
) -> Result<Point, InvoiceError> {
    let bad = InvoiceError::Signature;
    let (compact, id) =
        signature.split_first_chunk::<64>().ok_or(bad("it is not 65 bytes long"))?;
    let id = id.first().copied().unwrap_or_default();
    let message = Message::from_digest(*hash);
    let Some(payee) = named else {
        let id = RecoveryId::from_i32(id.into()).map_err(|_| bad("its recovery id is above 3"))?;
        return RecoverableSignature::from_compact(compact, id)
            .and_then(|signature| SECP256K1.recover_ecdsa(&message, &signature))
            .map_err(|_| bad("no key can have made it"));
    };
    let signature = Signature::from_compact(compact).map_err(|_| bad("it is out of range"))?;
    let mut low = signature;
    low.normalize_s();
    if low != signature {
        return Err(bad("its S is high"));
    }
    SECP256K1
        .verify_ecdsa(&message, &signature, &payee)
        .map_err(|_| bad("the node named in 'n' did not make it"))?;
    Ok(payee)
}

/// The tagged fields as they come by.
#[derive(Default)]
struct Fields {
    payment_hash: Option<PaymentHash>,
    payment_secret: Option<PaymentSecret>,
    text: Option<String>,
    text_hash: Option<Sha256Digest>,
    payee: Option<Point>,
    expiry: Option<u64>,
    min_final_cltv: Option<CltvDelta>,
    fallbacks: Vec<Fallback>,
    routes: Vec<Vec<RouteHint>>,
    features: Option<Features>,
    metadata: Option<Vec<u8>>,
    unknown: Vec<UnknownField>,
}

impl Fields {
    fn read(mut rest: &[u8]) -> Result<Self, InvoiceError> {
        let mut fields = Self::default();
        while let Some((&tag, after)) = rest.split_first() {
            let ([high, low], after) =
                after.split_first_chunk::<2>().ok_or(InvoiceError::TooShort)?;
            let len = usize::from(*high) * 32 + usize::from(*low);
            let (data, after) = after.split_at_checked(len).ok_or(InvoiceError::TooShort)?;
            if !fields.keep(tag, data)? {
                fields.unknown.push(UnknownField { tag, data: data.to_vec() });
            }
            rest = after;
        }
        Ok(fields)
    }

    /// Reads one field; false where it must be passed over: its type is unknown, was there already,
    /// or its length is not its type's. (BOLT 11's text would fail the payment for the last, its
    /// examples of valid invoices do not; if it was a field that is needed, it is missing then.)
    fn keep(&mut self, tag: u8, data: &[u8]) -> Result<bool, InvoiceError> {
        match tag {
            1 => Ok(keep_first(&mut self.payment_hash, fixed(data).map(PaymentHash))),
            16 => Ok(keep_first(&mut self.payment_secret, fixed(data).map(PaymentSecret))),
            23 => Ok(keep_first(&mut self.text_hash, fixed(data).map(Sha256Digest))),
            13 => {
                let text = String::from_utf8(fives::to_bytes(data))
                    .map_err(|_| InvoiceError::Field('d', "the description is not UTF-8"))?;
                Ok(keep_first(&mut self.text, Some(text)))
            }
            19 => {
                if data.len() != 53 {
                    return Ok(false);
                }
                let node = Point::from_slice(&fives::to_bytes(data))
                    .map_err(|_| InvoiceError::Field('n', "it is no node's key"))?;
                Ok(keep_first(&mut self.payee, Some(node)))
            }
            6 => Ok(keep_first(&mut self.expiry, Some(number('x', data)?))),
            24 => {
                let delta = u32::try_from(number('c', data)?)
                    .map_err(|_| InvoiceError::Field('c', "the delta is beyond reason"))?;
                Ok(keep_first(&mut self.min_final_cltv, Some(CltvDelta(delta))))
            }
            9 => Ok(self.fallback(data)),
            3 => self.route(data).map(|()| true),
            5 => {
                if data.first() == Some(&0) {
                    return Err(InvoiceError::Field('9', "it begins with zeroes"));
                }
                Ok(keep_first(&mut self.features, Some(features(data))))
            }
            27 => Ok(keep_first(&mut self.metadata, Some(fives::to_bytes(data)))),
            _ => Ok(false),
        }
    }

    fn fallback(&mut self, data: &[u8]) -> bool {
        let Some((version, hash)) = data.split_first() else { return false };
        let fallback = Fallback::read(*version, &fives::to_bytes(hash));
        let known = fallback.is_some();
        self.fallbacks.extend(fallback);
        known
    }

    fn route(&mut self, data: &[u8]) -> Result<(), InvoiceError> {
        let bytes = fives::to_bytes(data);
        if bytes.is_empty() || !bytes.len().is_multiple_of(RouteHint::LEN) {
            return Err(InvoiceError::Field('r', "its length is no whole number of hops"));
        }
        let mut from = bytes.as_slice();
        let mut route = Vec::with_capacity(bytes.len() / RouteHint::LEN);
        while !from.is_empty() {
            let hint = RouteHint::take(&mut from)
                .map_err(|_| InvoiceError::Field('r', "it names no node"))?;
            route.push(hint);
        }
        self.routes.push(route);
        Ok(())
    }

    fn into_terms(
        self,
        currency: Currency,
        amount: Option<Msat>,
        timestamp: u64,
    ) -> Result<Terms, InvoiceError> {
        let features = self.features.unwrap_or_default();
        let known = feature::understood(Context::Bolt11);
        if let Some(bit) = features.unknown_compulsory(&known) {
            return Err(InvoiceError::UnknownFeature(bit));
        }
        let description = match (self.text, self.text_hash) {
            (Some(text), None) => Description::Text(text),
            (None, Some(hash)) => Description::Hash(hash),
            (Some(_), Some(_)) | (None, None) => return Err(InvoiceError::Descriptions),
        };
        Ok(Terms {
            currency,
            amount,
            timestamp,
            payment_hash: self.payment_hash.ok_or(InvoiceError::Missing("payment hash (p)"))?,
            payment_secret: self
                .payment_secret
                .ok_or(InvoiceError::Missing("payment secret (s)"))?,
            description,
            expiry: self.expiry,
            min_final_cltv: self.min_final_cltv,
            fallbacks: self.fallbacks,
            routes: self.routes,
            features,
            metadata: self.metadata,
            unknown: self.unknown,
        })
    }
}

fn keep_first<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    if place.is_some() || value.is_none() {
        return false;
    }
    *place = value;
    true
}

/// 32 bytes, which take 52 groups.
fn fixed(data: &[u8]) -> Option<[u8; 32]> {
    if data.len() != 52 {
        return None;
    }
    fives::to_bytes(data).try_into().ok()
}

/// BOLT 11, reader: a number that begins with zeroes makes the invoice invalid.
fn number(letter: char, data: &[u8]) -> Result<u64, InvoiceError> {
    if data.len() > 1 && data.first() == Some(&0) {
        return Err(InvoiceError::Field(letter, "it begins with zeroes"));
    }
    fives::to_number(data).ok_or(InvoiceError::Field(letter, "it is beyond 2^64"))
}

/// The groups as a bit field: aligned to the last group's end, not the first's beginning.
fn features(data: &[u8]) -> Features {
    let pad = (8 - data.len() % 8) % 8;
    let mut aligned = vec![0; pad];
    aligned.extend_from_slice(data);
    Features::from_be_bytes(&fives::to_bytes(&aligned))
}
