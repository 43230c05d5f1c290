//! A breach of a rule, as it is told to people.

use std::fmt;

/// What was found wrong. `count` is how much, 1 where that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Violation {
    pub kind: &'static str,
    /// A file, or a function in it.
    pub place: String,
    pub what: String,
    pub count: usize,
    /// Where exactly.
    pub detail: Vec<String>,
}

impl Violation {
    pub(super) fn new(kind: &'static str, place: &str, what: impl Into<String>) -> Self {
        Self { kind, place: place.to_owned(), what: what.into(), count: 1, detail: Vec::new() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.kind, self.what)?;
        if self.count > 1 {
            write!(f, " ({})", self.count)?;
        }
        self.detail.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violation_tells_place_kind_number_and_lines() {
        let detail = vec!["line 7".to_owned()];
        let long = Violation { count: 61, detail, ..Violation::new("long-function", "a.rs", "f") };
        assert_eq!(long.to_string(), "a.rs: long-function: f (61)\n    line 7");
        assert_eq!(Violation::new("doc", "a.rs", "repeats").to_string(), "a.rs: doc: repeats");
    }
}
