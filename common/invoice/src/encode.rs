//! From what an invoice shall say to what is signed, and to the string.

use crate::amount;
use crate::fives::{self, LongBech32, MAX_LEN};
use crate::terms::{Description, Terms};
use bech32::{ByteIterExt, Fe32, Fe32IterExt, Hrp};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use primitives::{Features, Point};
use std::fmt;

/// The longest data of a field, in groups of five bits.
const MAX_FIELD: usize = 1023;

/// An invoice that only lacks its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// Prefix, currency, amount.
    pub hrp: String,
    /// Timestamp and fields, five bits a byte.
    pub data: Vec<u8>,
}

/// Why these terms fit no invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncodeError {
    /// An amount of nothing. Leave it out to let the payer choose.
    ZeroAmount,
    /// Later than 35 bits can say.
    Timestamp(u64),
    /// This field holds at most 639 bytes.
    TooLong(char),
    /// All of it together.
    InvoiceTooLong(usize),
    /// A route of no hops.
    EmptyRoute,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroAmount => f.write_str("an invoice cannot ask for an amount of zero"),
            Self::Timestamp(at) => write!(f, "the timestamp {at} does not fit 35 bits"),
            Self::TooLong('d') => {
                f.write_str("the description is longer than 639 bytes: commit to its hash instead")
            }
            Self::TooLong(letter) => write!(f, "the field '{letter}' is longer than 639 bytes"),
            Self::InvoiceTooLong(len) => write!(f, "the invoice would be {len} characters long"),
            Self::EmptyRoute => f.write_str("a route hint has no hops"),
        }
    }
}
impl std::error::Error for EncodeError {}

/// The hash that an invoice's signature commits to. BOLT 11, "Data Part": hsmd signs it, and
/// readers check it. `data` has five bits a byte.
pub fn signing_hash(hrp: &str, data: &[u8]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    engine.input(hrp.as_bytes());
    engine.input(&fives::to_bytes_padded(data));
    sha256::Hash::from_engine(engine).to_byte_array()
}

impl Terms {
    /// The invoice to sign. `name_payee` adds the field `n` with the payee's id.
    pub fn unsigned(&self, name_payee: Option<&Point>) -> Result<Unsigned, EncodeError> {
        if self.amount.is_some_and(|amount| amount.0 == 0) {
            return Err(EncodeError::ZeroAmount);
        }
        if self.timestamp >> 35 != 0 {
            return Err(EncodeError::Timestamp(self.timestamp));
        }
        let mut data = fives::from_number(self.timestamp, 7);
        put(16, &fives::from_bytes(&self.payment_secret.0), &mut data)?;
        put(1, &fives::from_bytes(&self.payment_hash.0), &mut data)?;
        match &self.description {
            Description::Text(text) => put(13, &fives::from_bytes(text.as_bytes()), &mut data)?,
            Description::Hash(hash) => put(23, &fives::from_bytes(&hash.0), &mut data)?,
        }
        if let Some(metadata) = &self.metadata {
            put(27, &fives::from_bytes(metadata), &mut data)?;
        }
        if let Some(node) = name_payee {
            put(19, &fives::from_bytes(&node.serialize()), &mut data)?;
        }
        if let Some(expiry) = self.expiry {
            put(6, &fives::from_number_minimal(expiry), &mut data)?;
        }
        if let Some(delta) = self.min_final_cltv {
            put(24, &fives::from_number_minimal(delta.0.into()), &mut data)?;
        }
        for fallback in &self.fallbacks {
            let (version, bytes) = fallback.parts();
            let mut field = vec![version];
            field.append(&mut fives::from_bytes(bytes));
            put(9, &field, &mut data)?;
        }
        for route in &self.routes {
            if route.is_empty() {
                return Err(EncodeError::EmptyRoute);
            }
            let mut bytes = Vec::new();
            route.iter().for_each(|hint| hint.put(&mut bytes));
            put(3, &fives::from_bytes(&bytes), &mut data)?;
        }
        let features = feature_field(&self.features);
        if !features.is_empty() {
            put(5, &features, &mut data)?;
        }
        for field in &self.unknown {
            put(field.tag & 31, &field.data, &mut data)?;
        }
        let unsigned = Unsigned { hrp: amount::format(self.currency, self.amount), data };
        // Separator, signature and checksum are still to come.
        let len = unsigned.hrp.len() + 1 + unsigned.data.len() + 104 + 6;
        if len > MAX_LEN {
            return Err(EncodeError::InvoiceTooLong(len));
        }
        Ok(unsigned)
    }
}

fn put(tag: u8, field: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if field.len() > MAX_FIELD {
        return Err(EncodeError::TooLong(fives::to_char(tag)));
    }
    out.push(tag);
    out.extend(fives::from_number(field.len() as u64, 2));
    out.extend_from_slice(field);
    Ok(())
}

/// The bit field, its last bit at the end of the last group, in as few groups as it takes.
fn feature_field(features: &Features) -> Vec<u8> {
    let bytes = features.as_be_bytes();
    let pad = (5 - bytes.len() % 5) % 5;
    let mut aligned = vec![0; pad];
    aligned.extend_from_slice(bytes);
    fives::from_bytes(&aligned).into_iter().skip_while(|five| *five == 0).collect()
}

impl Unsigned {
    /// The hash to sign.
    pub fn hash(&self) -> [u8; 32] {
        signing_hash(&self.hrp, &self.data)
    }

    /// The invoice. `signature` is R, S and recovery id, as hsmd answers it.
    pub fn with_signature(&self, signature: &[u8; 65]) -> String {
        let hrp = Hrp::parse(&self.hrp).expect("hrp is 'ln', a currency, and at most 21 digits");
        let groups = self.data.iter().filter_map(|five| Fe32::try_from(*five).ok());
        let signature = signature.iter().copied().bytes_to_fes();
        groups.chain(signature).with_checksum::<LongBech32>(&hrp).chars().collect()
    }
}
