//! JSON objects on a stream, as plugins read them from lightningd, and parameters of their methods.

use sdk::{Objects, Params, RawValue, kind};

const MOST: usize = 1000;

pub fn run(data: &[u8]) {
    let mut objects = Objects::new(data, MOST);
    while let Ok(Some(object)) = objects.next_object() {
        assert!(object.first() == Some(&b'{') && object.len() <= MOST);
        let Ok(text) = String::from_utf8(object) else { continue };
        let Ok(raw) = RawValue::from_string(text) else { continue };
        if let Ok(params) = Params::read(&raw, &["a", "b|c", "d"]) {
            let _ = (params.optional("a", &kind::MSAT), params.optional("a", &kind::HASH));
            let _ = (params.optional("b", &kind::U16), params.optional("b", &kind::MILLIONTHS));
            let _ = (params.required("d", &kind::LABEL), params.required("d", &kind::ANY));
        }
    }
}
