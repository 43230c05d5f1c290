//! Type-length-value streams. BOLT 1, "Type-Length-Value Format".

use crate::codec::{BigSize, Problem, Wire, take_slice};

/// Walks a TLV stream: each record once, in strictly increasing order, minimal, and none longer
/// than what is there.
#[derive(Debug)]
pub struct TlvReader<'a> {
    rest: &'a [u8],
    last: Option<u64>,
}

impl<'a> TlvReader<'a> {
    /// From the first byte of the stream to the last.
    pub const fn new(stream: &'a [u8]) -> Self {
        Self { rest: stream, last: None }
    }
    /// The next record's type and value, or `None` at the end.
    pub fn next_record(&mut self) -> Result<Option<(u64, &'a [u8])>, Problem> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let kind = BigSize::take(&mut self.rest)?.0;
        if self.last.is_some_and(|last| kind <= last) {
            return Err(Problem::TlvOrder(kind));
        }
        self.last = Some(kind);
        let len = BigSize::take(&mut self.rest)?.0;
        Ok(Some((kind, take_slice(&mut self.rest, len)?)))
    }
}

/// Appends one record.
pub fn put_tlv(kind: u64, value: &impl Wire, out: &mut Vec<u8>) {
    put_raw_tlv(kind, &value.to_bytes(), out);
}
/// Appends one record whose value is ready.
pub fn put_raw_tlv(kind: u64, value: &[u8], out: &mut Vec<u8>) {
    BigSize(kind).put(out);
    BigSize(value.len() as u64).put(out);
    out.extend_from_slice(value);
}
/// BOLT 1: it's okay to be odd. An unknown even record must not be ignored.
pub fn unknown_tlv(kind: u64) -> Result<(), Problem> {
    if kind % 2 == 1 { Ok(()) } else { Err(Problem::UnknownEvenTlv(kind)) }
}
