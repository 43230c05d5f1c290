//! Parameters: by position or by name, each of a kind, checked before a handler runs. CLN's words
//! for what is wrong.

use crate::sys::form::RpcError;
use primitives::{FeeratePerKw, Network, ScriptBuf, *};
use serde_json::Value;
use std::collections::BTreeMap;

/// What a parameter may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArgKind {
    /// Text. Numbers are taken as they are written.
    Text,
    /// A whole number from 0.
    Number,
    /// true or false.
    Bool,
    /// An amount: CLN's forms.
    Msat,
    /// An amount or the word `any`.
    MsatOrAny,
    /// Satoshi or the word `all`; bare numbers are satoshi.
    SatOrAll,
    /// A 33-byte key.
    Node,
    /// 32 bytes.
    Hash,
    /// Bytes as hexadecimal.
    Hex,
    /// BxTxO.
    Scid,
    /// A feerate: slow, normal, urgent, minimum, 253perkw, 1000perkb, 1000, 6blocks.
    Feerate,
    /// Its items are the handler's to check.
    Array,
    /// Whatever it is: the handler looks.
    Any,
}

/// One parameter of a method.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// As named callers write it.
    pub name: &'static str,
    /// Must it be given?
    pub required: bool,
    /// What it may be.
    pub kind: ArgKind,
}

/// A parameter that must be given.
pub const fn need(name: &'static str, kind: ArgKind) -> Param {
    Param { name, required: true, kind }
}

/// A parameter that may be left out.
pub const fn may(name: &'static str, kind: ArgKind) -> Param {
    Param { name, required: false, kind }
}

/// The parameters of one call, all of their kind.
#[derive(Debug, Clone, Default)]
pub struct Args(BTreeMap<&'static str, Value>);

/// The text of a string, or a number as it stands.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn check(param: &Param, value: &Value) -> Result<(), RpcError> {
    let text = text_of(value);
    let text = text.as_deref();
    let is_hex = |len: Option<usize>| {
        text.is_some_and(|t| {
            t.len() % 2 == 0
                && t.bytes().all(|b| b.is_ascii_hexdigit())
                && len.is_none_or(|n| t.len() == 2 * n)
        })
    };
    let (fits, should) = match param.kind {
        ArgKind::Any => (true, ""),
        ArgKind::Text => (text.is_some(), "should be a string"),
        ArgKind::Number => {
            (text.is_some_and(|t| t.parse::<u64>().is_ok()), "should be an unsigned 64 bit integer")
        }
        ArgKind::Bool => (
            value.is_boolean() || matches!(text, Some("true" | "false")),
            "should be 'true' or 'false'",
        ),
        ArgKind::Msat => {
            (text.is_some_and(|t| parse_msat(t).is_some()), "should be a millisatoshi amount")
        }
        ArgKind::MsatOrAny => (
            text.is_some_and(|t| t == "any" || parse_msat(t).is_some_and(|m| m.0 > 0)),
            "should be positive msat or 'any'",
        ),
        ArgKind::SatOrAll => (
            text.is_some_and(|t| t == "all" || parse_sat(t).is_some()),
            "should be a satoshi amount or 'all'",
        ),
        ArgKind::Node => (
            text.is_some_and(|t| t.parse::<NodeId>().is_ok_and(|n| n.point().is_some())),
            "should be a node id",
        ),
        ArgKind::Hash => (is_hex(Some(32)), "should be a 32 byte hex value"),
        ArgKind::Hex => (is_hex(None), "should be a hex value"),
        ArgKind::Scid => (
            text.is_some_and(|t| t.parse::<ShortChannelId>().is_ok()),
            "should be a short_channel_id of form NxNxN",
        ),
        ArgKind::Feerate => (
            text.is_some_and(|t| crate::sys::args::Asked::parse(t).is_some()),
            "should be an integer with optional perkw/perkb, <N>blocks, slow, normal, urgent or minimum",
        ),
        ArgKind::Array => (value.is_array(), "should be an array"),
    };
    if fits {
        Ok(())
    } else {
        Err(RpcError::params(format!(
            "{}: {should}: invalid token (see logs for details)",
            param.name
        )))
    }
}

/// An amount that there can be.
fn parse_msat(text: &str) -> Option<Msat> {
    Msat::parse(text).ok().filter(|amount| *amount <= Msat::MAX_MONEY)
}

/// CLN's satoshi amounts: a bare number is satoshi; with a unit it must be whole satoshi.
fn parse_sat(text: &str) -> Option<Sat> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Sat).filter(|s| *s <= Sat::MAX_MONEY);
    }
    let msat = parse_msat(text)?;
    (msat.0 % 1000 == 0).then(|| msat.sat_floor())
}

impl Args {
    /// Matches what was given to what the method takes.
    pub fn parse(params: &'static [Param], given: &Value) -> Result<Self, RpcError> {
        let mut args = BTreeMap::new();
        match given {
            Value::Array(items) => {
                if items.len() > params.len() {
                    let text = format!(
                        "too many parameters: got {}, expected {}",
                        items.len(),
                        params.len()
                    );
                    return Err(RpcError::params(text));
                }
                for (param, value) in params.iter().zip(items).filter(|(_, v)| !v.is_null()) {
                    args.insert(param.name, value.clone());
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    let Some(param) = params.iter().find(|p| p.name == name) else {
                        return Err(RpcError::params(format!(
                            "unknown parameter: {name}, this may be caused by a failure to autodetect \
                             key=value-style parameters. Please try using the -k flag and explicit key=value pairs of parameters."
                        )));
                    };
                    args.insert(param.name, value.clone());
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(RpcError::params("Expected array or object for params"));
            }
        }
        for param in params {
            match args.get(param.name) {
                None if param.required => {
                    return Err(RpcError::params(format!(
                        "missing required parameter: {}",
                        param.name
                    )));
                }
                None => {}
                Some(value) => check(param, value)?,
            }
        }
        Ok(Self(args))
    }

    /// All of them, by name.
    pub fn to_json(&self) -> Value {
        self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }
    /// As it was given.
    pub fn raw(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
    /// Text, or a number's.
    pub fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(text_of)
    }
    /// `Err` if it was left out.
    pub fn need_text(&self, name: &'static str) -> Result<String, RpcError> {
        self.text(name).ok_or_else(|| missing(name))
    }
    /// From 0, of 64 bits.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(|t| t.parse().ok())
    }
    /// `Err` above 32 bits.
    pub fn number32(&self, name: &'static str) -> Result<Option<u32>, RpcError> {
        self.number(name)
            .map(|n| {
                u32::try_from(n)
                    .map_err(|_| RpcError::params(format!("{name}: {n} is above {}", u32::MAX)))
            })
            .transpose()
    }
    /// true or false.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.0.get(name)? {
            Value::Bool(b) => Some(*b),
            text @ (Value::String(_) | Value::Number(_)) => text_of(text).map(|t| t == "true"),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
    /// `None` for the word `any`, too.
    pub fn msat(&self, name: &str) -> Option<Msat> {
        self.text(name).and_then(|t| parse_msat(&t))
    }
    /// `None` for the word `all`; `Err` if it was left out.
    pub fn sat_or_all(&self, name: &'static str) -> Result<Option<Sat>, RpcError> {
        let text = self.need_text(name)?;
        Ok(if text == "all" { None } else { parse_sat(&text) })
    }
    /// A public key; `None` if it was left out.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.text(name).and_then(|t| t.parse().ok())
    }
    /// `Err` if it was left out.
    pub fn need_node(&self, name: &'static str) -> Result<NodeId, RpcError> {
        self.node(name).ok_or_else(|| missing(name))
    }
    /// 32 bytes.
    pub fn hash(&self, name: &str) -> Option<[u8; 32]> {
        self.text(name).and_then(|t| t.parse::<Sha256Digest>().ok()).map(|d| d.0)
    }
    /// Bytes.
    pub fn hex(&self, name: &str) -> Option<Vec<u8>> {
        self.text(name).and_then(|t| crate::sys::json::from_hex(&t))
    }
    /// BOLT 7's block, transaction and output, as `BxTxO`.
    pub fn scid(&self, name: &str) -> Option<ShortChannelId> {
        self.text(name).and_then(|t| t.parse().ok())
    }
    /// A feerate as it was asked for.
    pub fn feerate(&self, name: &str) -> Option<crate::sys::args::Asked> {
        self.text(name).and_then(|t| crate::sys::args::Asked::parse(&t))
    }
}

fn missing(name: &str) -> RpcError {
    RpcError::params(format!("missing required parameter: {name}"))
}

/// A feerate as a person asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// This much.
    Fixed(FeeratePerKw),
    /// Whatever confirms within so many blocks.
    Within(u32),
    /// Whatever is relayed.
    Minimum,
}
impl Asked {
    /// CLN's forms: slow, normal, urgent, minimum, opening, ..., `N`, `Nperkb`, `Nperkw`,
    /// `Nblocks`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |digits: &str| {
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<u32>().ok()).flatten()
        };
        Some(match text {
            "slow" => Self::Within(100),
            "normal" | "opening" => Self::Within(12),
            "urgent" | "unilateral_close" | "penalty" => Self::Within(6),
            "mutual_close" => Self::Within(100),
            "minimum" => Self::Minimum,
            _ => match (
                text.strip_suffix("perkw"),
                text.strip_suffix("perkb"),
                text.strip_suffix("blocks"),
            ) {
                (Some(n), _, _) => Self::Fixed(FeeratePerKw(number(n)?)),
                (_, Some(n), _) => Self::Fixed(FeeratePerKw::from_per_kvb(number(n)?.into())),
                (_, _, Some(n)) => Self::Within(number(n)?),
                _ => Self::Fixed(FeeratePerKw::from_per_kvb(number(text)?.into())),
            },
        })
    }
}

/// Reads an address of this network.
pub fn parse_address(network: Network, name: &str, text: &str) -> Result<ScriptBuf, RpcError> {
    let bad = |why: String| RpcError::params(format!("{name}: '{text}' {why}"));
    let parsed: bitcoin::Address<bitcoin::address::NetworkUnchecked> =
        text.parse().map_err(|e| bad(format!("is no address: {e}")))?;
    let checked = parsed
        .require_network(network.bitcoin())
        .map_err(|_| bad(format!("is no address of {network}")))?;
    Ok(checked.script_pubkey())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PARAMS: &[Param] = &[
        need("amount", ArgKind::MsatOrAny),
        need("label", ArgKind::Text),
        may("expiry", ArgKind::Number),
    ];

    #[test]
    fn positions_and_names_mean_the_same() {
        for given in [json!(["10sat", 7, null]), json!({"label": "7", "amount": 10000})] {
            let args = Args::parse(PARAMS, &given).unwrap();
            assert_eq!(
                (args.msat("amount"), args.text("label").as_deref()),
                (Some(Msat(10_000)), Some("7"))
            );
            assert_eq!(args.number("expiry"), None);
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_clns_words() {
        for (given, says) in [
            (json!(["any"]), "missing required parameter: label"),
            (json!([1, 2, 3, 4]), "too many parameters: got 4, expected 3"),
            (json!({"amount": 1, "label": "x", "foo": 1}), "unknown parameter: foo, "),
            (json!(["-1", "x"]), "amount: should be positive msat or 'any': invalid token"),
            (json!(["21000001btc", "x"]), "amount: should be positive msat or 'any'"),
            (
                json!([1, "x", "soon"]),
                "expiry: should be an unsigned 64 bit integer: invalid token",
            ),
        ] {
            let error = Args::parse(PARAMS, &given).unwrap_err();
            assert!(error.message.starts_with(says), "{}", error.message);
        }
    }
}
