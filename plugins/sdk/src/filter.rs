//! The member `filter` of a request: which members of the result the caller wants.

use crate::answer::RpcError;
use serde_json::{Map, Value};

/// The part of `result` that the template asks for. A template is an object whose leaves are
/// `true`, or an array with one.
pub fn filter(result: Value, template: &Value) -> Result<Value, RpcError> {
    match (template, result) {
        (Value::Bool(true), result) => Ok(result),
        (Value::Object(wanted), Value::Object(members)) => {
            let mut kept = Map::new();
            for (name, value) in members {
                if let Some(template) = wanted.get(&name) {
                    kept.insert(name, filter(value, template)?);
                }
            }
            wanted.values().try_for_each(check)?;
            Ok(Value::Object(kept))
        }
        (Value::Array(wanted), Value::Array(items)) => {
            let [template] = wanted.as_slice() else { return Err(bad()) };
            check(template)?;
            items.into_iter().map(|item| filter(item, template)).collect()
        }
        // An object's template on an array, or the other way round: an empty one of what the
        // template is.
        (Value::Object(_), _) => check(template).map(|()| Value::Object(Map::new())),
        (Value::Array(_), _) => check(template).map(|()| Value::Array(Vec::new())),
        _ => Err(bad()),
    }
}

/// Is it a template at all?
fn check(template: &Value) -> Result<(), RpcError> {
    match template {
        Value::Bool(true) => Ok(()),
        Value::Object(wanted) => wanted.values().try_for_each(check),
        Value::Array(wanted) => match wanted.as_slice() {
            [one] => check(one),
            _ => Err(bad()),
        },
        Value::Null | Value::Bool(false) | Value::Number(_) | Value::String(_) => Err(bad()),
    }
}

fn bad() -> RpcError {
    RpcError::params("filter: should be an object or array of objects, with 'true' for each leaf")
}
