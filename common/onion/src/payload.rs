//! The payload of a hop: the TLV stream inside its layer. BOLT 4, "`payload` format".

use crate::failure::Failure;
use primitives::*;
use wire::tlv::{put_raw_tlv, put_tlv};
use wire::{BigSize, Problem, Tu32, Tu64, Wire, take_slice};

/// Numbers of the records that this crate knows.
pub mod tlv {
    #![allow(missing_docs, reason = "the field is named as the BOLT or its sentence names it")]
    pub const AMT_TO_FORWARD: u64 = 2;
    pub const OUTGOING_CLTV_VALUE: u64 = 4;
    pub const SHORT_CHANNEL_ID: u64 = 6;
    pub const PAYMENT_DATA: u64 = 8;
    pub const ENCRYPTED_RECIPIENT_DATA: u64 = 10;
    pub const CURRENT_PATH_KEY: u64 = 12;
    pub const PAYMENT_METADATA: u64 = 16;
    pub const TOTAL_AMOUNT_MSAT: u64 = 18;
    /// The preimage of a payment nobody asked for: keysend, which no BOLT describes and everybody
    /// speaks.
    pub const KEYSEND_PREIMAGE: u64 = 5_482_373_484;
}

/// The instructions to this hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Pass it on.
    Forward(ForwardPayload),
    /// It is for us.
    Final(FinalPayload),
    /// It came through a blinded path: what to do is in `encrypted`.
    Blinded(BlindedPayload),
}

/// To a hop in the middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardPayload {
    /// Over this channel, or another to the same peer.
    pub short_channel_id: ShortChannelId,
    /// This much.
    pub amount: Msat,
    /// Expiring here.
    pub cltv_expiry: BlockHeight,
}

/// To the last hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalPayload {
    /// amt_to_forward: the least amount of this part.
    pub amount: Msat,
    /// When it should expire at the earliest.
    pub cltv_expiry: BlockHeight,
    /// From the invoice: the sender has seen it.
    pub payment_secret: Option<PaymentSecret>,
    /// total_msat: the amount of all parts; this part's amount where the payload has none.
    pub total: Msat,
    /// From the invoice, returned.
    pub payment_metadata: Option<Vec<u8>>,
    /// A payment without an invoice.
    pub keysend: Option<Preimage>,
    /// Records of odd types that we do not know, ours to hand to plugins; in a payload to be built,
    /// any others.
    pub extra: Vec<(u64, Vec<u8>)>,
}

/// To a hop of a blinded path, first, middle or last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlindedPayload {
    /// Sealed by the recipient of the payment.
    pub encrypted: Vec<u8>,
    /// The path key, for the path's first hop only.
    pub current_path_key: Option<Point>,
    /// Amount, expiry and total, for the last hop only.
    pub last: Option<(Msat, BlockHeight, Msat)>,
}

/// Why a payload is refused: the record, and its offset in the decrypted bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadError {
    /// The record's type; for a missing record, the one that was missed.
    pub tlv_type: u64,
    /// Where it begins, counted from the payload's length on; 0 for a missing record.
    pub offset: u16,
}

impl From<PayloadError> for Failure {
    fn from(e: PayloadError) -> Self {
        Self::InvalidOnionPayload { tlv_type: e.tlv_type, offset: e.offset }
    }
}

impl ForwardPayload {
    /// As a TLV stream.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_tlv(tlv::AMT_TO_FORWARD, &Tu64(self.amount.0), &mut out);
        put_tlv(tlv::OUTGOING_CLTV_VALUE, &Tu32(self.cltv_expiry.0), &mut out);
        put_tlv(tlv::SHORT_CHANNEL_ID, &self.short_channel_id, &mut out);
        out
    }
}

impl FinalPayload {
    /// As a TLV stream. Where `extra` repeats a type that a field has, the field wins.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut records = std::collections::BTreeMap::new();
        records.extend(self.extra.iter().map(|(kind, value)| (*kind, value.clone())));
        records.insert(tlv::AMT_TO_FORWARD, Tu64(self.amount.0).to_bytes());
        records.insert(tlv::OUTGOING_CLTV_VALUE, Tu32(self.cltv_expiry.0).to_bytes());
        if let Some(secret) = self.payment_secret {
            let mut value = secret.to_bytes();
            Tu64(self.total.0).put(&mut value);
            records.insert(tlv::PAYMENT_DATA, value);
        }
        if let Some(metadata) = &self.payment_metadata {
            records.insert(tlv::PAYMENT_METADATA, metadata.clone());
        }
        if let Some(preimage) = self.keysend {
            records.insert(tlv::KEYSEND_PREIMAGE, preimage.to_bytes());
        }
        let mut out = Vec::new();
        records.iter().for_each(|(kind, value)| put_raw_tlv(*kind, value, &mut out));
        out
    }
}

impl Payload {
    /// Reads a payload. `is_final`: the layer had no next packet. `path_key_beside`:
    /// `update_add_htlc` carried one.
    pub fn parse(
        bytes: &[u8],
        is_final: bool,
        path_key_beside: bool,
    ) -> Result<Self, PayloadError> {
        let records = Records::read(bytes)?;
        if let Some(encrypted) = records.encrypted.clone() {
            return records.blinded(encrypted, is_final, path_key_beside).map(Self::Blinded);
        }
        // BOLT 4, reader: a path key without encrypted_recipient_data is an error.
        if path_key_beside {
            return Err(missing(tlv::ENCRYPTED_RECIPIENT_DATA));
        }
        if let Some((_, at)) = records.current_path_key {
            return Err(PayloadError { tlv_type: tlv::CURRENT_PATH_KEY, offset: at });
        }
        let amount = records.amount.ok_or(missing(tlv::AMT_TO_FORWARD))?;
        let cltv_expiry = records.cltv_expiry.ok_or(missing(tlv::OUTGOING_CLTV_VALUE))?;
        if !is_final {
            let short_channel_id =
                records.short_channel_id.ok_or(missing(tlv::SHORT_CHANNEL_ID))?;
            return Ok(Self::Forward(ForwardPayload { short_channel_id, amount, cltv_expiry }));
        }
        Ok(Self::Final(FinalPayload {
            amount,
            cltv_expiry,
            payment_secret: records.payment_data.map(|(secret, _)| secret),
            // BOLT 4, reader: without total_msat, amt_to_forward is the total.
            total: records.payment_data.map_or(amount, |(_, total)| total),
            payment_metadata: records.metadata,
            keysend: records.keysend,
            extra: records.unknown_odd,
        }))
    }
}

/// An amount that there can be.
fn amount(bytes: &[u8]) -> Result<Msat, Problem> {
    let amount = Msat(Tu64::from_bytes(bytes)?.0);
    if amount > Msat::MAX_MONEY { Err(Problem::TooMuch(amount.0)) } else { Ok(amount) }
}

const fn missing(tlv_type: u64) -> PayloadError {
    PayloadError { tlv_type, offset: 0 }
}

/// The records of a payload, as they stand.
#[derive(Default)]
struct Records {
    amount: Option<Msat>,
    cltv_expiry: Option<BlockHeight>,
    short_channel_id: Option<ShortChannelId>,
    payment_data: Option<(PaymentSecret, Msat)>,
    encrypted: Option<Vec<u8>>,
    current_path_key: Option<(Point, u16)>,
    metadata: Option<Vec<u8>>,
    total: Option<Msat>,
    keysend: Option<Preimage>,
    unknown_odd: Vec<(u64, Vec<u8>)>,
    /// Type and place of each, for the rules about what must not be there.
    seen: Vec<(u64, u16)>,
}

impl Records {
    fn read(bytes: &[u8]) -> Result<Self, PayloadError> {
        let mut records = Self::default();
        let prefix = BigSize(bytes.len() as u64).to_bytes().len();
        let mut rest = bytes;
        let mut last = None;
        while !rest.is_empty() {
            let offset = prefix + bytes.len() - rest.len();
            let offset = u16::try_from(offset).unwrap_or(u16::MAX);
            let at = |tlv_type| PayloadError { tlv_type, offset };
            let tlv_type = BigSize::take(&mut rest).map_err(|_| at(0))?.0;
            if last.is_some_and(|last| tlv_type <= last) {
                return Err(at(tlv_type));
            }
            last = Some(tlv_type);
            let len = BigSize::take(&mut rest).map_err(|_| at(tlv_type))?.0;
            let value = take_slice(&mut rest, len).map_err(|_| at(tlv_type))?;
            records.seen.push((tlv_type, offset));
            if !records.keep(tlv_type, offset, value).map_err(|_| at(tlv_type))? {
                // BOLT 1: an unknown even record must not be ignored.
                if tlv_type % 2 == 0 {
                    return Err(at(tlv_type));
                }
                records.unknown_odd.push((tlv_type, value.to_vec()));
            }
        }
        Ok(records)
    }

    /// Reads one record; false if we do not know its type.
    fn keep(&mut self, tlv_type: u64, offset: u16, value: &[u8]) -> Result<bool, Problem> {
        match tlv_type {
            tlv::AMT_TO_FORWARD => self.amount = Some(amount(value)?),
            tlv::OUTGOING_CLTV_VALUE => {
                self.cltv_expiry = Some(BlockHeight(Tu32::from_bytes(value)?.0));
            }
            tlv::SHORT_CHANNEL_ID => self.short_channel_id = Some(Wire::from_bytes(value)?),
            tlv::PAYMENT_DATA => {
                let mut from = value;
                let secret = PaymentSecret::take(&mut from)?;
                self.payment_data = Some((secret, amount(from)?));
            }
            tlv::ENCRYPTED_RECIPIENT_DATA => self.encrypted = Some(value.to_vec()),
            tlv::CURRENT_PATH_KEY => {
                self.current_path_key = Some((Point::from_bytes(value)?, offset));
            }
            tlv::PAYMENT_METADATA => self.metadata = Some(value.to_vec()),
            tlv::TOTAL_AMOUNT_MSAT => self.total = Some(amount(value)?),
            tlv::KEYSEND_PREIMAGE => self.keysend = Some(Preimage::from_bytes(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// BOLT 4, reader, "If `encrypted_recipient_data` is present".
    fn blinded(
        self,
        encrypted: Vec<u8>,
        is_final: bool,
        path_key_beside: bool,
    ) -> Result<BlindedPayload, PayloadError> {
        use tlv::*;
        let allowed: &[u64] = if is_final {
            &[
                ENCRYPTED_RECIPIENT_DATA,
                CURRENT_PATH_KEY,
                AMT_TO_FORWARD,
                OUTGOING_CLTV_VALUE,
                TOTAL_AMOUNT_MSAT,
            ]
        } else {
            &[ENCRYPTED_RECIPIENT_DATA, CURRENT_PATH_KEY]
        };
        if let Some((tlv_type, offset)) = self.seen.iter().find(|(kind, _)| !allowed.contains(kind))
        {
            return Err(PayloadError { tlv_type: *tlv_type, offset: *offset });
        }
        // Exactly one path key: beside the onion, or in it.
        let current_path_key = match (path_key_beside, self.current_path_key) {
            (true, Some((_, offset))) => {
                return Err(PayloadError { tlv_type: CURRENT_PATH_KEY, offset });
            }
            (false, None) => return Err(missing(CURRENT_PATH_KEY)),
            (_, key) => key.map(|(key, _)| key),
        };
        let last = if is_final {
            Some((
                self.amount.ok_or(missing(AMT_TO_FORWARD))?,
                self.cltv_expiry.ok_or(missing(OUTGOING_CLTV_VALUE))?,
                self.total.ok_or(missing(TOTAL_AMOUNT_MSAT))?,
            ))
        } else {
            None
        };
        Ok(BlindedPayload { encrypted, current_path_key, last })
    }
}
