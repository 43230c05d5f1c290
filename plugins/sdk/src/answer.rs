//! The answer of a method: a result, or an error with a code.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

/// JSON-RPC's and CLN's error codes that plugins use.
pub mod code {
    #![allow(missing_docs, reason = "the field is named as the BOLT or its sentence names it")]
    pub const INVALID_REQUEST: i32 = -32600;
    pub const METHOD_NOT_FOUND: i32 = -32601;
    pub const INVALID_PARAMS: i32 = -32602;
    pub const GENERIC: i32 = -1;
    pub const PLUGIN_ERROR: i32 = -3;
}

/// An error as a caller gets it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RpcError {
    /// CLN's error code.
    pub code: i32,
    /// For a person.
    pub message: String,
    /// For a program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
}

impl RpcError {
    /// Without data.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }
    /// The same with data for a program.
    pub fn with_data(mut self, data: &impl Serialize) -> Self {
        self.data = serde_json::value::to_raw_value(data).ok();
        self
    }
    /// A parameter that cannot be.
    pub fn params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }
}
impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}
impl std::error::Error for RpcError {}
impl PartialEq for RpcError {
    fn eq(&self, other: &Self) -> bool {
        let data = |e: &Self| e.data.as_ref().map(|d| d.get().to_owned());
        self.code == other.code && self.message == other.message && data(self) == data(other)
    }
}

/// A result: one JSON object, perhaps in pieces that are never put together.
#[derive(Debug)]
pub struct Answer(Vec<AnswerPart>);

/// A piece of an answer.
#[derive(Debug)]
pub enum AnswerPart {
    /// Text of our own.
    Text(String),
    /// A range of somebody's bytes. Nothing where it lies outside of them.
    Slice(Vec<u8>, Range<usize>),
}

impl AnswerPart {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Slice(bytes, range) => bytes.get(range.clone()).unwrap_or_default(),
        }
    }
}

impl Answer {
    /// A value as JSON.
    pub fn json(value: &impl Serialize) -> Result<Self, RpcError> {
        serde_json::to_string(value)
            .map(|text| Self(vec![AnswerPart::Text(text)]))
            .map_err(|e| RpcError::new(code::PLUGIN_ERROR, format!("no JSON: {e}")))
    }
    /// Pieces that make one JSON value together. Whoever calls this has made sure that they do.
    pub const fn parts(parts: Vec<AnswerPart>) -> Self {
        Self(parts)
    }
    /// Something that is JSON already.
    pub fn raw(value: &RawValue) -> Self {
        Self(vec![AnswerPart::Text(value.get().to_owned())])
    }
    /// An object without members.
    pub fn empty() -> Self {
        Self(vec![AnswerPart::Text("{}".to_owned())])
    }
    /// All of it, put together.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().flat_map(|part| part.bytes().iter().copied()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.0.iter().try_for_each(|part| out.write_all(part.bytes()))
    }
}
