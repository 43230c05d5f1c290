//! Where a JSON object ends, found while its bytes come: by its braces, outside of strings. Whether
//! it is JSON, a parser says.

/// How far into an object the bytes so far have led. Begins before its first brace.
#[derive(Debug, Default)]
pub struct ObjectEnd {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ObjectEnd {
    /// How many of these bytes, which come next, belong to the object, if its last brace is among
    /// them. `None`: all do, and more.
    pub fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match (self.in_string, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.in_string = !self.in_string,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                (true | false, _) => {}
            }
        }
        None
    }
}
