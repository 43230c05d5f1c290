//! A method's parameters, by position or by name, read with CLN's words for what is wrong.

use crate::answer::RpcError;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// How one kind of parameter is read.
#[derive(Debug)]
pub struct Kind<T> {
    /// Continues "the parameter should be ...".
    pub should_be: &'static str,
    /// `None` if it is not.
    pub read: fn(&str) -> Option<T>,
}

/// The kinds there are. Numbers and booleans may come as strings, as lightning-cli may send them.
pub mod kind {
    #![allow(missing_docs, reason = "the field is named as the BOLT or its sentence names it")]
    use super::Kind;
    use primitives::{Msat, PaymentHash};

    pub const STRING: Kind<String> = Kind { should_be: "should be a string", read: string };
    /// A string, or any number as it stands.
    pub const LABEL: Kind<String> =
        Kind { should_be: "should be a string or number", read: string_or_number };
    pub const U64: Kind<u64> =
        Kind { should_be: "should be an unsigned 64 bit integer", read: number::<u64> };
    pub const U32: Kind<u32> = Kind { should_be: "should be an integer", read: number::<u32> };
    pub const U16: Kind<u16> =
        Kind { should_be: "should be an unsigned 16 bit integer", read: number::<u16> };
    pub const BOOL: Kind<bool> = Kind { should_be: "should be 'true' or 'false'", read: boolean };
    pub const MSAT: Kind<Msat> = Kind { should_be: "should be a millisatoshi amount", read: msat };
    pub const HASH: Kind<PaymentHash> =
        Kind { should_be: "should be a 32 byte hex value", read: hash };
    /// A decimal in millionths: `0.5` is 500000. Never a float.
    pub const MILLIONTHS: Kind<u64> =
        Kind { should_be: "should be a positive floating-point number", read: millionths };
    /// Whatever it is, as JSON.
    pub const ANY: Kind<Box<serde_json::value::RawValue>> =
        Kind { should_be: "should be JSON", read: any };

    fn string(token: &str) -> Option<String> {
        serde_json::from_str(token).ok()
    }
    /// The content of a string, any other token as it stands.
    fn string_or_number(token: &str) -> Option<String> {
        if token.starts_with('"') {
            return string(token);
        }
        token.starts_with(|c: char| c == '-' || c.is_ascii_digit()).then(|| token.to_owned())
    }
    fn number<T: std::str::FromStr>(token: &str) -> Option<T> {
        let text = string_or_number(token)?;
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    }
    fn boolean(token: &str) -> Option<bool> {
        match token {
            "true" | "\"true\"" => Some(true),
            "false" | "\"false\"" => Some(false),
            _ => None,
        }
    }
    fn msat(token: &str) -> Option<Msat> {
        Msat::parse(&string_or_number(token)?).ok()
    }
    fn hash(token: &str) -> Option<PaymentHash> {
        string_or_number(token)?.parse().ok()
    }
    fn millionths(token: &str) -> Option<u64> {
        let text = string_or_number(token)?;
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) {
            return None;
        }
        let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
        whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction.parse().ok()?)
    }
    fn any(token: &str) -> Option<Box<serde_json::value::RawValue>> {
        serde_json::value::RawValue::from_string(token.to_owned()).ok()
    }
}

/// The parameters of one call.
#[derive(Debug)]
pub struct Params(HashMap<&'static str, String>);

impl Params {
    /// Sorts what came into names. `names` are in positional order; `a|b` is one parameter with two
    /// names, asked for as `a`.
    pub fn read(given: &RawValue, names: &'static [&'static str]) -> Result<Self, RpcError> {
        let text = given.get();
        let mut params = HashMap::new();
        if let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(text) {
            if list.len() > names.len() {
                let (got, expected) = (list.len(), names.len());
                return Err(RpcError::params(format!(
                    "too many parameters: got {got}, expected {expected}"
                )));
            }
            for (name, value) in names.iter().zip(list) {
                params.insert(main_name(name), value.get().to_owned());
            }
        } else {
            let members: Members = serde_json::from_str(text)
                .map_err(|e| RpcError::params(format!("params should be a list or object: {e}")))?;
            for (name, value) in members.0 {
                let known = names.iter().find(|known| known.split('|').any(|n| n == name));
                let known = known.map(|known| main_name(known)).ok_or_else(|| {
                    RpcError::params(format!(
                        "unknown parameter: {name}, this may be caused by a failure to autodetect key=value-style \
                         parameters. Please try using the -k flag and explicit key=value pairs of parameters."
                    ))
                })?;
                if params.insert(known, value).is_some() {
                    return Err(RpcError::params(format!("duplicate parameter: {name}")));
                }
            }
        }
        // A null stands for what was left out.
        params.retain(|_, token| token != "null");
        Ok(Self(params))
    }

    /// A parameter that may be left out.
    pub fn optional<T>(&self, name: &str, kind: &Kind<T>) -> Result<Option<T>, RpcError> {
        let Some(token) = self.0.get(name) else { return Ok(None) };
        match (kind.read)(token) {
            Some(value) => Ok(Some(value)),
            None => Err(RpcError::params(format!(
                "{name}: {}: invalid token (see logs for details)",
                kind.should_be
            ))),
        }
    }
    /// A parameter that must be there.
    pub fn required<T>(&self, name: &str, kind: &Kind<T>) -> Result<T, RpcError> {
        self.optional(name, kind)?
            .ok_or_else(|| RpcError::params(format!("missing required parameter: {name}")))
    }
}

fn main_name(names: &'static str) -> &'static str {
    names.split('|').next().unwrap_or(names)
}

/// An object's members in order, duplicates included, values as they stand.
struct Members(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((name, value.get().to_owned()));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Visitor)
    }
}
