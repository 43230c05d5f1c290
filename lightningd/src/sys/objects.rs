//! JSON objects one after the other, from bytes that come in pieces of any size. However they are
//! cut, each byte is looked at a few times at most: a request that arrives byte by byte costs what
//! it costs in one piece.

use primitives::ObjectEnd;
use serde_json::value::RawValue;

/// What came and is no whole object yet.
#[derive(Debug, Default)]
pub struct Objects {
    bytes: Vec<u8>,
    scan: ObjectEnd,
    /// So many of the bytes were scanned for the object's end.
    scanned: usize,
    /// When there were so many, they were the beginning of an object. Looked at again when there
    /// are twice as many.
    checked: usize,
}

impl Objects {
    /// These bytes came.
    pub fn push(&mut self, read: &[u8]) {
        self.bytes.extend_from_slice(read);
    }
    /// How many bytes wait for the rest of their object.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
    /// The same bytes.
    pub fn waiting(&self) -> &[u8] {
        &self.bytes
    }

    /// The objects that are whole, and what is wrong with the bytes after them, if they can be no
    /// object.
    pub fn take(&mut self) -> (Vec<Box<RawValue>>, Option<String>) {
        let (mut whole, mut start, mut broken) = (Vec::new(), 0, None);
        loop {
            let rest = self.bytes.get(start..).unwrap_or_default();
            if self.scanned == 0 {
                start += rest.len() - rest.trim_ascii_start().len();
            }
            let rest = self.bytes.get(start..).unwrap_or_default();
            if self.scanned == 0 && rest.first().is_some_and(|b| *b != b'{' && *b != b'[') {
                broken = Some(complaint(rest));
                break;
            }
            let Some(more) = self.scan.find(rest.get(self.scanned..).unwrap_or_default()) else {
                self.scanned = rest.len();
                if rest.len() >= self.checked.saturating_mul(2).max(1) {
                    self.checked = rest.len();
                    let parsed = serde_json::from_slice::<&RawValue>(rest);
                    broken = parsed.err().filter(|e| !e.is_eof()).map(|e| e.to_string());
                }
                break;
            };
            let end = self.scanned + more;
            let object = rest.get(..end).unwrap_or_default();
            (self.scan, self.scanned, self.checked) = Default::default();
            match serde_json::from_slice(object) {
                Ok(object) => whole.push(object),
                Err(e) => {
                    broken = Some(e.to_string());
                    break;
                }
            }
            start += end;
        }
        self.bytes.drain(..start.min(self.bytes.len()));
        if self.bytes.is_empty() {
            // A long one must not leave its size behind for good.
            self.bytes.shrink_to(65536);
        }
        (whole, broken)
    }
}

/// Why these bytes, which begin otherwise, begin no object.
fn complaint(bytes: &[u8]) -> String {
    let parsed = serde_json::from_slice::<&RawValue>(bytes);
    parsed.err().map_or_else(|| "expected an object".to_owned(), |e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_pieces(bytes: &[u8], piece: usize) -> (Vec<String>, Option<String>) {
        let (mut objects, mut found) = (Objects::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            objects.push(piece);
            let (whole, broken) = objects.take();
            found.extend(whole.iter().map(|o| o.get().to_owned()));
            if broken.is_some() {
                return (found, broken);
            }
        }
        (found, None)
    }

    #[test]
    fn objects_are_whole_however_they_are_cut() {
        let text = br#" {"a": "}\"{", "b": [1, {"c": "\\"}]}[1]
            {}{"id": 1}"#;
        let want = [r#"{"a": "}\"{", "b": [1, {"c": "\\"}]}"#, "[1]", "{}", r#"{"id": 1}"#];
        for piece in 1..=text.len() {
            assert_eq!(in_pieces(text, piece), (want.map(str::to_owned).to_vec(), None), "{piece}");
        }
    }

    #[test]
    fn objects_end_at_nonsense_with_what_came_before() {
        for nonsense in ["nonsense", "5", r#"{"a": nonsense"#, "{]", "}", r#"{"a" 1}"#] {
            let (found, broken) = in_pieces(format!("{{}}{nonsense}").as_bytes(), usize::MAX);
            assert_eq!(found, ["{}"], "{nonsense}");
            assert!(broken.is_some(), "{nonsense}");
        }
        assert_eq!(in_pieces(br#"{"a": "half"#, 1), (vec![], None));
    }

    #[test]
    fn long_request_costs_no_more_byte_by_byte() {
        // 4 MB, one byte a time: quadratic work would be eight million million steps.
        let text = format!("{{\"a\": \"{}\"}}", "x".repeat(4 << 20));
        assert_eq!(in_pieces(text.as_bytes(), 1).0.len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn any_bytes_are_objects_or_a_complaint(
            bytes in prop::collection::vec(prop::sample::select(&b"{}[]\",:\\ a1\n"[..]), 0..40),
            piece in 1..8usize,
        ) {
            let (found, _) = in_pieces(&bytes, piece);
            for object in found {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&object).is_ok());
            }
        }
    }
}
