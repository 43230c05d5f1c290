//! Small things between values and JSON.

use bitcoin::hex::{DisplayHex, FromHex};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.to_lower_hex_string()
}

/// Hexadecimal, of either case, as bytes; `None` where it is none.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    Vec::from_hex(text).ok()
}

/// Puts a member into an object that is being built, if there is a value for it.
pub fn put(object: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(members), Some(value)) = (object.as_object_mut(), value) {
        members.insert(name.to_owned(), value.into());
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX >> 1)
}

/// A name that comes twice in one object: which of the two counts is anybody's guess, and ours may
/// not be the caller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twice(String);
impl fmt::Display for Twice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name '{}' comes twice", self.0)
    }
}

/// An object's members, each as it was written. `None`: it is no object.
pub fn members(raw: &RawValue) -> Option<Result<BTreeMap<String, Box<RawValue>>, Twice>> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Result<BTreeMap<String, Box<RawValue>>, Twice>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut out, mut twice) = (BTreeMap::new(), None);
            while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                if out.insert(name.clone(), value).is_some() {
                    twice = Some(Twice(name));
                }
            }
            Ok(twice.map_or(Ok(out), Err))
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_map(Members).ok()
}

/// A value in which no object has a name twice.
pub fn strict(raw: &RawValue) -> Result<Value, String> {
    let mut twice = None;
    let parsed = Strict(&mut twice).deserialize(&mut serde_json::Deserializer::from_str(raw.get()));
    match (twice, parsed) {
        (Some(twice), _) => Err(twice.to_string()),
        (None, Ok(value)) => Ok(value),
        (None, Err(e)) => Err(e.to_string()),
    }
}

/// Where the first name that comes twice is left.
struct Strict<'a>(&'a mut Option<Twice>);
impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}
impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = seq.next_element_seed(Strict(self.0))? {
            out.push(value);
        }
        Ok(Value::Array(out))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Strict(self.0))?;
            if out.insert(name.clone(), value).is_some() {
                *self.0 = Some(Twice(name));
                return Err(A::Error::custom("a name comes twice"));
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strict_value_is_what_serde_json_makes_of_it() {
        let text = r#" {"b":[1,-2,1.5,18446744073709551615,"\u00e9",null,true],"a":{},"c":{"a":{"a":1}}} "#;
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        let usual: Value = serde_json::from_str(text).unwrap();
        assert_eq!(strict(&raw).unwrap().to_string(), usual.to_string());
    }
}
