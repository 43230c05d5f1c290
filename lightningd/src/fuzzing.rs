//! Doors for those who throw anything at our parsers: what a stranger wrote, and every question
//! that is asked of it.

mod master;
mod rows;

pub use master::hears;
pub use rows::Damaged;

use crate::api::rpc::table;
use crate::kernel::plugins::manifest::Manifest;
use crate::rooms::chain::estimates::Estimates;
use crate::sys::args::Args;
use crate::sys::form::{check_form, reply_text};
use crate::sys::objects::Objects;
use crate::sys::options::Config;
use serde_json::{Map, Value};

/// Bytes on the socket of JSON-RPC: each request has a form, or an answer that says why not.
///
/// # Panics
/// Where what we answer is no answer.
pub fn socket(bytes: &[u8]) {
    let mut read = Objects::default();
    read.push(bytes);
    let (objects, _) = read.take();
    assert!(read.len() <= bytes.len(), "nothing is added to what came");
    for raw in objects {
        let text = match check_form(&raw) {
            Ok((id, request, filter)) => {
                parameters(&request.params);
                reply_text(&id, &Ok(request.params), filter.as_ref())
            }
            Err((id, error)) => {
                assert!(error.message.len() <= primitives::MAX_CUT_TEXT, "{error:?}");
                reply_text(&id, &Err(error), None)
            }
        };
        assert!(text.ends_with("\n\n"), "{text}");
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    }
}

/// Parameters as they are, tried on every method, by position and by name too.
pub fn parameters(given: &Value) {
    let positions = match given {
        Value::Array(items) => items.clone(),
        Value::Object(members) => members.values().cloned().collect(),
        _ => vec![given.clone()],
    };
    for method in table::METHODS {
        let names = method.params.iter().map(|p| p.name.to_owned());
        let by_name: Map<String, Value> = names.zip(positions.iter().cloned()).collect();
        for given in [given, &Value::from(positions.clone()), &Value::Object(by_name)] {
            let args = match Args::parse(method.params, given) {
                Ok(args) => args,
                Err(e) => {
                    assert!(e.message.len() <= primitives::MAX_CUT_TEXT, "{e:?}");
                    continue;
                }
            };
            for name in method.params.iter().map(|p| p.name) {
                let _ = (args.text(name), args.number(name), args.number32(name), args.bool(name));
                let _ = (args.msat(name), args.sat_or_all(name), args.node(name), args.hash(name));
                let _ = (args.hex(name), args.scid(name), args.feerate(name), args.to_json());
            }
        }
    }
}

/// A command line, and the bytes of a configuration file.
pub fn configuration(words: &[String], file: Vec<u8>) {
    if let Ok(config) = Config::of_bytes(words, file) {
        let _ = config.check_all_known(&Default::default());
        for option in config.list() {
            let _ = option.values.iter().map(ToString::to_string).collect::<Vec<_>>();
        }
    }
}

/// What the backend answers to each question but that of fees.
pub fn backend(answer: &Value) {
    use crate::rooms::chain::answers::{ChainInfo, block, is_unspent, mempool};
    let _ = (ChainInfo::parse(answer), block(answer, primitives::BlockHeight(7)));
    let _ = (mempool(answer), is_unspent(answer));
}

/// The revocation log beside the database, as it might be on a disk.
///
/// # Panics
/// Where what is raised over such a file is not what is read next.
pub fn revocation_log(bytes: &[u8]) {
    crate::sys::revocation_log::survives(bytes);
}

/// What a plugin says it is, and what the backend says of fees.
pub fn plugin(value: &Value) {
    let _ = Manifest::parse(value, &Default::default());
    let _ = Estimates::parse(value);
}
