//! JSON objects one after the other on a stream, with or without space between them.

use primitives::ObjectEnd;
use std::fmt;
use std::io::{self, BufRead};

/// Why no further object can be read.
#[derive(Debug)]
pub enum FrameError {
    /// The stream failed.
    Io(io::Error),
    /// Something else than `{` where an object should begin.
    NotAnObject(u8),
    /// The stream ended inside an object.
    CutOff,
    /// Longer than whoever reads here wants to hold: so many bytes. Its beginning; the next call
    /// skips the rest of it.
    TooLong(usize, Vec<u8>),
}
impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(e) => write!(f, "{e}"),
            Self::NotAnObject(byte) => {
                write!(f, "'{}' where a JSON object should begin", byte.escape_ascii())
            }
            Self::CutOff => f.write_str("the stream ended inside a JSON object"),
            Self::TooLong(max, _) => write!(f, "a JSON object is longer than {max} bytes"),
        }
    }
}
impl std::error::Error for FrameError {}

/// So much of an object that is too long is kept: it says what the object is.
const BEGINNING: usize = 512;

/// Reads one object after the other. What it returns has matching braces; whether it is JSON, the
/// parser says.
#[derive(Debug)]
pub struct Objects<R> {
    from: R,
    max: usize,
    /// Where the object ends that was too long.
    skipping: Option<ObjectEnd>,
}

impl<R: BufRead> Objects<R> {
    /// None may be longer than `max`.
    pub const fn new(from: R, max: usize) -> Self {
        Self { from, max, skipping: None }
    }
    /// The stream behind.
    pub const fn get_mut(&mut self) -> &mut R {
        &mut self.from
    }

    /// The next object's bytes, or `None` at the end of the stream.
    pub fn next_object(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        self.skip()?;
        let mut object = Vec::new();
        let mut scan = ObjectEnd::default();
        loop {
            let available = match self.from.fill_buf() {
                Ok(available) => available,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(FrameError::Io(e)),
            };
            if available.is_empty() {
                return if object.is_empty() { Ok(None) } else { Err(FrameError::CutOff) };
            }
            let mut rest = available;
            if object.is_empty() {
                rest = rest.trim_ascii_start();
                if let Some(first) = rest.first().filter(|b| **b != b'{') {
                    return Err(FrameError::NotAnObject(*first));
                }
            }
            let skipped = available.len() - rest.len();
            let end = scan.find(rest);
            let taken = rest.get(..end.unwrap_or(rest.len())).unwrap_or(rest);
            let is_too_long = object.len() + taken.len() > self.max;
            let kept = if is_too_long { BEGINNING } else { usize::MAX };
            object.extend_from_slice(taken.get(..taken.len().min(kept)).unwrap_or_default());
            let consumed = skipped + taken.len();
            self.from.consume(consumed);
            if is_too_long {
                self.skipping = end.is_none().then_some(scan);
                object.truncate(BEGINNING);
                return Err(FrameError::TooLong(self.max, object));
            }
            if end.is_some() {
                return Ok(Some(object));
            }
        }
    }

    /// Reads past an object that was too long.
    fn skip(&mut self) -> Result<(), FrameError> {
        while let Some(scan) = &mut self.skipping {
            let available = match self.from.fill_buf() {
                Ok(available) => available,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(FrameError::Io(e)),
            };
            if available.is_empty() {
                return Err(FrameError::CutOff);
            }
            let end = scan.find(available);
            let consumed = end.unwrap_or(available.len());
            self.from.consume(consumed);
            if end.is_some() {
                self.skipping = None;
            }
        }
        Ok(())
    }
}
