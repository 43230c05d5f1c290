//! Today's violations, which are let be: `xtask/tidy-debts.tsv`, a list that can only shrink.
//!
//! A violation that is not in the list fails, and so does a row that is no longer true, or whose
//! number is too great.

use std::collections::BTreeMap;

/// What was found wrong. Kind, place and what are the row's key; `count` is how much, 1 where that
/// makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Violation {
    pub kind: &'static str,
    /// A file, or a function in it.
    pub place: String,
    pub what: String,
    pub count: usize,
    /// Where exactly, for people.
    pub detail: Vec<String>,
}

impl Violation {
    pub(super) fn new(kind: &'static str, place: &str, what: impl Into<String>) -> Self {
        Self { kind, place: place.to_owned(), what: what.into(), count: 1, detail: Vec::new() }
    }

    fn key(&self) -> Key {
        (self.kind.to_owned(), self.place.clone(), self.what.clone())
    }
}

type Key = (String, String, String);

/// The list: each row's key and number.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Debts(BTreeMap<Key, usize>);

/// How the violations of today compare with the list.
pub(super) struct Judgement {
    /// Not in the list, or more than it says.
    pub wrong: Vec<String>,
    /// Rows to strike or lower.
    pub paid: Vec<String>,
    /// The list without them.
    pub left: Debts,
}

impl Debts {
    /// Reads the list: `kind TAB place TAB what TAB number`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rows = BTreeMap::new();
        for (at, line) in
            text.lines().enumerate().filter(|(_, l)| !l.is_empty() && !l.starts_with('#'))
        {
            let wrong = || format!("tidy-debts.tsv:{}: no row: {line}", at + 1);
            let fields: Vec<&str> = line.split('\t').collect();
            let [kind, place, what, count] = fields.as_slice() else { return Err(wrong()) };
            let count = count.parse().map_err(|_| wrong())?;
            rows.insert(((*kind).to_owned(), (*place).to_owned(), (*what).to_owned()), count);
        }
        Ok(Self(rows))
    }

    pub(super) fn print(&self) -> String {
        let head = "# What `cargo xtask tidy` finds wrong and lets be. Rows are only struck: `cargo xtask tidy --strike`.\n";
        let rows = self
            .0
            .iter()
            .map(|((kind, place, what), count)| format!("{kind}\t{place}\t{what}\t{count}\n"));
        head.to_owned() + &rows.collect::<String>()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Every violation as a row.
    pub(super) fn all_of(found: &[Violation]) -> Self {
        let mut rows = BTreeMap::new();
        for violation in found {
            // Two functions of one name are one row: the longer one's.
            let count = rows.entry(violation.key()).or_insert(0);
            *count = violation.count.max(*count);
        }
        Self(rows)
    }

    /// Compares today's violations with the list.
    pub(super) fn judge(&self, found: &[Violation]) -> Judgement {
        let mut judgement =
            Judgement { wrong: Vec::new(), paid: Vec::new(), left: Self::default() };
        let today = Self::all_of(found);
        for violation in found {
            let listed = self.0.get(&violation.key()).copied().unwrap_or(0);
            if violation.count > listed {
                judgement.wrong.push(said(violation, listed));
            }
        }
        for ((kind, place, what), listed) in &self.0 {
            let key = (kind.clone(), place.clone(), what.clone());
            let now = today.0.get(&key).copied().unwrap_or(0);
            if now < *listed {
                let then = if now == 0 { "strike".to_owned() } else { format!("lower to {now}") };
                judgement.paid.push(format!("{then}: {kind}\t{place}\t{what}\t{listed}"));
            }
            if now > 0 {
                judgement.left.0.insert(key, now.min(*listed));
            }
        }
        judgement
    }
}

fn said(violation: &Violation, listed: usize) -> String {
    let mut text = format!("{}: {}: {}", violation.place, violation.kind, violation.what);
    if violation.count > 1 || listed > 0 {
        text += &format!(" ({}; the list of debts allows {listed})", violation.count);
    }
    for line in &violation.detail {
        text += &format!("\n    {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(count: usize) -> Vec<Violation> {
        vec![Violation { count, ..Violation::new("long-file", "a.rs", "long") }]
    }

    #[test]
    fn new_violation_fails_and_a_listed_one_does_not() {
        let judgement = Debts::default().judge(&found(510));
        assert_eq!((judgement.wrong.len(), judgement.paid.len(), judgement.left.len()), (1, 0, 0));
        let judgement = Debts::all_of(&found(510)).judge(&found(510));
        assert_eq!((judgement.wrong.len(), judgement.paid.len(), judgement.left.len()), (0, 0, 1));
    }

    #[test]
    fn violation_that_grew_fails_and_its_row_does_not_grow() {
        let judgement = Debts::all_of(&found(510)).judge(&found(511));
        assert_eq!((judgement.wrong.len(), judgement.paid.len()), (1, 0));
        assert_eq!(judgement.left, Debts::all_of(&found(510)));
    }

    #[test]
    fn paid_row_must_be_struck_and_a_smaller_one_lowered() {
        let judgement = Debts::all_of(&found(510)).judge(&found(505));
        assert_eq!(judgement.paid, ["lower to 505: long-file\ta.rs\tlong\t510"]);
        assert_eq!(judgement.left, Debts::all_of(&found(505)));
        let judgement = Debts::all_of(&found(510)).judge(&[]);
        assert_eq!(judgement.paid, ["strike: long-file\ta.rs\tlong\t510"]);
        assert_eq!(judgement.left.len(), 0);
    }

    #[test]
    fn list_is_read_as_it_was_printed() {
        let debts = Debts::all_of(&found(510));
        assert_eq!(Debts::parse(&debts.print()).unwrap(), debts);
        assert!(Debts::parse("long-file\ta.rs\t510").is_err());
    }
}
