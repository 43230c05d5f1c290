//! JSON-RPC's form: what a request is, who asks, what an answer or an error is.
//!
//! CLN's rules: `jsonrpc`, `id`, `method` and `params` are all mandatory; ids come back as they
//! were written.

use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fmt;

/// CLN's codes, by name.
#[allow(missing_docs, reason = "the names are CLN's, and say all there is")]
pub mod code {
    pub const INVALID_REQUEST: i64 = -32600;
    pub const METHOD_NOT_FOUND: i64 = -32601;
    pub const INVALID_PARAMS: i64 = -32602;
    pub const LIGHTNINGD: i64 = -1;
    pub const PLUGIN_ERROR: i64 = -3;
    pub const PLUGIN_TERMINATED: i64 = -4;
    pub const PAY_IN_PROGRESS: i64 = 200;
    pub const PAY_RHASH_ALREADY_USED: i64 = 201;
    pub const PAY_UNPARSEABLE_ONION: i64 = 202;
    pub const PAY_DESTINATION_PERM_FAIL: i64 = 203;
    pub const PAY_TRY_OTHER_ROUTE: i64 = 204;
    pub const PAY_NO_SUCH_PAYMENT: i64 = 208;
    pub const PAY_UNSPECIFIED_ERROR: i64 = 209;
    pub const FUND_CANNOT_AFFORD: i64 = 301;
    pub const FUND_OUTPUT_IS_DUST: i64 = 302;
    pub const FUNDING_BROADCAST_FAIL: i64 = 303;
    pub const FUNDING_STILL_SYNCING_BITCOIN: i64 = 304;
    pub const FUNDING_PEER_NOT_CONNECTED: i64 = 305;
    pub const FUNDING_UNKNOWN_PEER: i64 = 306;
    pub const FUNDING_NOTHING_TO_CANCEL: i64 = 307;
    pub const FUNDING_CANCEL_NOT_SAFE: i64 = 308;
    pub const FUNDING_PSBT_INVALID: i64 = 309;
    pub const FUNDING_STATE_INVALID: i64 = 312;
    pub const FUND_CANNOT_AFFORD_WITH_EMERGENCY: i64 = 313;
    pub const CONNECT_NO_KNOWN_ADDRESS: i64 = 400;
    pub const CONNECT_ALL_ADDRESSES_FAILED: i64 = 401;
    pub const CONNECT_DISCONNECTED_DURING: i64 = 402;
    pub const INVOICE_LABEL_ALREADY_EXISTS: i64 = 900;
    pub const INVOICE_PREIMAGE_ALREADY_EXISTS: i64 = 901;
    pub const INVOICE_EXPIRED_DURING_WAIT: i64 = 903;
    pub const INVOICE_WAIT_TIMED_OUT: i64 = 904;
    pub const INVOICE_NOT_FOUND: i64 = 905;
    pub const INVOICE_STATUS_UNEXPECTED: i64 = 906;
    pub const INVOICE_NO_DESCRIPTION: i64 = 908;
    pub const WAIT_TIMEOUT: i64 = 2000;
}

/// What an RPC caller hears when it gets no result.
#[derive(Debug, Clone)]
pub struct RpcError {
    /// CLN's number.
    pub code: i64,
    /// For people: what was wrong, with both values, and what to do.
    pub message: String,
    /// For programs.
    pub data: Option<Value>,
}
impl RpcError {
    /// Without data. A text is cut: it may repeat what a caller or a peer wrote.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message: primitives::cut_text(&message).into_owned(), data: None }
    }
    /// A parameter was wrong.
    pub fn params(message: impl Into<String>) -> Self {
        Self::new(code::INVALID_PARAMS, message)
    }
    /// As it is sent.
    pub fn to_json(&self) -> Value {
        let mut error = json!({"code": self.code, "message": self.message});
        if let (Some(data), Some(object)) = (&self.data, error.as_object_mut()) {
            object.insert("data".to_owned(), data.clone());
        }
        error
    }
}
impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Number of a connection to the RPC socket, new for each.
pub type ConnId = u64;
/// Whoever waits for an answer: a client of the socket.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Its connection.
    pub conn: ConnId,
    /// Its id, as it was written.
    pub id: String,
    /// Which members of the result it wants.
    pub filter: Option<Value>,
    /// Does it want to hear about progress?
    pub notify: bool,
}
impl Eq for Caller {}
/// A request, checked as far as its form goes.
#[derive(Debug, Clone)]
pub struct RpcRequest {
    /// Its name, as the table of methods has it.
    pub method: String,
    /// An array or an object.
    pub params: Value,
    /// The whole request as it came: plugins get it with another id.
    pub raw: String,
}

/// What a handler has for its caller.
pub enum Answer {
    /// This, now.
    Now(Value),
    /// Something later: the handler left the caller where it will be found.
    Later,
}

/// Checks the form of one request. CLN's order and words; an error that has no usable id answers
/// `null`.
pub fn check_form(
    raw: &RawValue,
) -> Result<(String, RpcRequest, Option<Value>), (String, RpcError)> {
    let null = || "null".to_owned();
    let bad = |id: String, text: &str| (id, RpcError::new(code::INVALID_REQUEST, text));
    let members = crate::sys::json::members(raw)
        .ok_or_else(|| bad(null(), "Expected {} for json command"))?
        .map_err(|twice| bad(null(), &twice.to_string()))?;
    let strict = |name: &str| members.get(name).map(|v| crate::sys::json::strict(v));
    let plain = |name: &str| match strict(name) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(e)) => Err(bad(null(), &format!("{name}: {e}"))),
    };
    if plain("jsonrpc")?.is_none_or(|v| v != "2.0") {
        return Err(bad(
            null(),
            "JSON-RPC message does not contain \"jsonrpc\" field: it must say \"2.0\"",
        ));
    }
    let id = match plain("id")? {
        None => return Err(bad(null(), "No id")),
        Some(Value::Array(_) | Value::Object(_)) => {
            return Err(bad(null(), "Expected string/primitive for id"));
        }
        // Byte for byte.
        Some(_) => members.get("id").map_or_else(null, |v| v.get().to_owned()),
    };
    let method = match plain("method")? {
        None => return Err(bad(id, "No method")),
        Some(Value::String(m)) => m,
        Some(_) => return Err(bad(id, "Expected string for method")),
    };
    let params = match strict("params") {
        None => return Err(bad(id, "No params")),
        Some(Ok(p @ (Value::Array(_) | Value::Object(_)))) => p,
        Some(Ok(_)) => return Err(bad(id, "Expected {} or [] for params")),
        Some(Err(e)) => return Err((id, RpcError::params(format!("params: {e}")))),
    };
    let filter = plain("filter")?;
    Ok((id, RpcRequest { method, params, raw: raw.get().to_owned() }, filter))
}

/// The text of a reply, with the two newlines that end everything we write.
pub fn reply_text(id: &str, result: &Result<Value, RpcError>, filter: Option<&Value>) -> String {
    let member = match result {
        Ok(value) => match filter.map(|f| apply_filter(value, f)) {
            None => format!("\"result\":{value}"),
            Some(Ok(filtered)) => format!("\"result\":{filtered}"),
            Some(Err(e)) => format!("\"error\":{}", e.to_json()),
        },
        Err(e) => format!("\"error\":{}", e.to_json()),
    };
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},{member}}}\n\n")
}

/// CLN's `filter`: an object template with `true` at the leaves, arrays with one element.
fn apply_filter(value: &Value, filter: &Value) -> Result<Value, RpcError> {
    let bad = |what: &str| RpcError::params(format!("filter: {what}"));
    match (filter, value) {
        (Value::Bool(true), v) => Ok(v.clone()),
        (Value::Object(wanted), Value::Object(have)) => {
            let mut out = serde_json::Map::new();
            for (key, v) in have {
                if let Some(f) = wanted.get(key) {
                    out.insert(key.clone(), apply_filter(v, f)?);
                }
            }
            Ok(Value::Object(out))
        }
        (Value::Array(template), Value::Array(have)) => match template.as_slice() {
            [one] => have
                .iter()
                .map(|v| apply_filter(v, one))
                .collect::<Result<_, _>>()
                .map(Value::Array),
            _ => Err(bad("an array in a filter has exactly one element")),
        },
        (Value::Array(_), Value::Object(_)) => Ok(json!({})),
        (Value::Object(_), Value::Array(_)) => Ok(json!([])),
        (Value::Object(_) | Value::Array(_), v) => Ok(v.clone()),
        _ => Err(bad("a filter's leaves are true")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Result<(String, RpcRequest, Option<Value>), (String, RpcError)> {
        check_form(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn ids_come_back_as_they_were_written() {
        for id in ["1", "\"a\\u0041\"", "1.50", "true", "null", "-0"] {
            let (got, request, _) =
                form(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x","params":[]}}"#))
                    .unwrap();
            assert_eq!((got.as_str(), request.method.as_str()), (id, "x"));
        }
    }

    #[test]
    fn each_missing_member_is_named() {
        for (text, says) in [
            (r#"[]"#, "Expected {}"),
            (r#"{"id":1,"method":"x","params":[]}"#, "jsonrpc"),
            (r#"{"jsonrpc":"2.0","method":"x","params":[]}"#, "No id"),
            (r#"{"jsonrpc":"2.0","id":1,"params":[]}"#, "No method"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x"}"#, "No params"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"x","params":3}"#, "Expected {} or []"),
        ] {
            let (_, error) = form(text).unwrap_err();
            assert_eq!(error.code, code::INVALID_REQUEST);
            assert!(error.message.contains(says), "{text}: {}", error.message);
        }
    }

    #[test]
    fn what_is_said_twice_is_refused() {
        for (text, id, code, says) in [
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":1,"b":2,"a":3}}"#,
                "1",
                code::INVALID_PARAMS,
                "params: the name 'a' comes twice",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[{"route":[{"id":1,"\u0069d":1}]}]}"#,
                "1",
                code::INVALID_PARAMS,
                "params: the name 'id' comes twice",
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"x","params":[],"method":"y"}"#,
                "null",
                code::INVALID_REQUEST,
                "the name 'method' comes twice",
            ),
        ] {
            let (got, error) = form(text).unwrap_err();
            assert_eq!((got.as_str(), error.code), (id, code), "{text}");
            assert!(error.message.contains(says), "{text}: {}", error.message);
        }
    }

    #[test]
    fn a_filter_keeps_what_it_names_in_the_order_it_was() {
        let value = json!({"b": 1, "a": [{"x": 1, "y": 2}], "c": {"d": 3}});
        let filtered = apply_filter(&value, &json!({"a": [{"y": true}], "b": true})).unwrap();
        assert_eq!(filtered.to_string(), r#"{"b":1,"a":[{"y":2}]}"#);
        assert!(apply_filter(&value, &json!({"a": [true, true]})).is_err());
        assert!(apply_filter(&value, &json!({"b": 3})).is_err());
    }
}
