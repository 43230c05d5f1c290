//! How much of the log each may fill. Bytes are the currency: whoever has spent theirs is counted, not written, and one line says
//! how many were left out.
//!
//! A peer that has money in a channel with us has an account of its own. Strangers have each a small one, and one together, so
//! that a new name for each line buys nothing. Everybody else is known by the source of the line. Lines that call something
//! broken have an account apart: what a stranger can make happen, it cannot use to hide them.

use primitives::{Bucket, NodeId};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};
use wire::daemon::LogLevel;

/// Accounts at a time. Beyond it strangers who come have only the common one.
const MAX_ACCOUNTS: usize = 4096;

const KIB: u32 = 1024;
/// So many bytes at once, then so many a second.
const fn bytes(burst: u32, per_second: u32) -> Bucket {
    Bucket::new(burst, Duration::from_nanos(1_000_000_000 / per_second as u64))
}
/// Debug lines of some dozen handshakes or openings.
const STRANGER: Bucket = bytes(64 * KIB, 256);
/// 170 MB a day, whatever they do.
const STRANGERS: Bucket = bytes(512 * KIB, 2 * KIB);
/// Debug lines of a thousand payments a second, for a while.
const FRIEND: Bucket = bytes(16 * 1024 * KIB, 64 * KIB);
/// A daemon without a peer, a room of lightningd's, a plugin.
const SOURCE: Bucket = bytes(4 * 1024 * KIB, 16 * KIB);
const BROKEN: Bucket = bytes(1024 * KIB, 4 * KIB);

/// Whose account a line is on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    Peer(NodeId),
    Source(String),
    Broken,
}

impl Whose {
    /// In the line that says how much was left out.
    fn name(&self) -> String {
        match self {
            Self::Peer(_) => "this peer".to_owned(),
            Self::Source(source) => source.clone(),
            Self::Broken => "something broken".to_owned(),
        }
    }
}

/// What was left out of whose lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) node: Option<NodeId>,
    pub(super) text: String,
}

#[derive(Debug)]
struct Account {
    bucket: Bucket,
    left_out: u64,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Budgets {
    accounts: HashMap<Whose, Account>,
    strangers: Bucket,
    friends: BTreeSet<NodeId>,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self { accounts: HashMap::new(), strangers: STRANGERS, friends: BTreeSet::new() }
    }

    /// These peers have money in channels with us.
    pub(super) fn set_friends(&mut self, friends: BTreeSet<NodeId>) {
        // Who has become one, or is one no more, begins anew.
        let changed: Vec<NodeId> = self.friends.symmetric_difference(&friends).copied().collect();
        for node in changed {
            self.accounts.remove(&Whose::Peer(node));
        }
        self.friends = friends;
    }

    /// May a line of so many bytes be kept and written? `Err`: no. `Ok` comes with what is to be said first.
    pub(super) fn spend(
        &mut self,
        level: LogLevel,
        node: Option<NodeId>,
        source: &str,
        len: usize,
        now: Instant,
    ) -> Result<Option<LeftOut>, ()> {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let whose = match node {
            _ if level == LogLevel::Broken => Whose::Broken,
            Some(node) => Whose::Peer(node),
            None => Whose::Source(source.to_owned()),
        };
        let is_stranger = matches!(&whose, Whose::Peer(node) if !self.friends.contains(node));
        let bucket = match &whose {
            Whose::Peer(_) if is_stranger => STRANGER,
            Whose::Peer(_) => FRIEND,
            Whose::Source(_) => SOURCE,
            Whose::Broken => BROKEN,
        };
        if is_stranger && self.accounts.len() >= MAX_ACCOUNTS && !self.accounts.contains_key(&whose)
        {
            return if self.strangers.take_many(len, now) { Ok(None) } else { Err(()) };
        }
        let new = Account { bucket, left_out: 0 };
        let account = self.accounts.entry(whose.clone()).or_insert(new);
        let common = !is_stranger || self.strangers.ready_at(len, now).is_some_and(|at| at <= now);
        if !common || !account.bucket.take_many(len, now) {
            account.left_out += 1;
            return Err(());
        }
        let left_out = std::mem::take(&mut account.left_out);
        if is_stranger {
            self.strangers.take_many(len, now);
        }
        Ok(said(&whose, left_out))
    }

    /// From time to time: what was left out of those who have fallen silent. Whoever owes nothing is forgotten.
    pub(super) fn sum_up(&mut self, now: Instant) -> Vec<LeftOut> {
        let mut said_now = Vec::new();
        for (whose, account) in &mut self.accounts {
            // Only who has something again: what is said here is on the account, too.
            if account.left_out > 0 && account.bucket.take_many(SUMMARY_BYTES, now) {
                said_now.extend(said(whose, std::mem::take(&mut account.left_out)));
            }
        }
        self.accounts.retain(|_, account| account.left_out > 0 || !account.bucket.is_full(now));
        said_now
    }
}

/// What a line costs that says how many were left out.
const SUMMARY_BYTES: u32 = 200;

fn said(whose: &Whose, left_out: u64) -> Option<LeftOut> {
    let node = match whose {
        Whose::Peer(node) => Some(*node),
        Whose::Source(_) | Whose::Broken => None,
    };
    let text = format!("{left_out} more lines of {}", whose.name());
    (left_out > 0).then_some(LeftOut { node, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use LogLevel::{Broken, Debug};

    const SECOND: Duration = Duration::from_secs(1);

    fn node(n: u32) -> NodeId {
        let mut id = [2; 33];
        id[1..5].copy_from_slice(&n.to_be_bytes());
        NodeId(id)
    }
    /// How many bytes of lines of 200 each are written, of so many that are said at once.
    fn written(budgets: &mut Budgets, node: Option<NodeId>, lines: usize, now: Instant) -> usize {
        said_of(budgets, node, lines, now).0
    }
    /// The same, with how many lines are said to have been left out before.
    fn said_of(
        budgets: &mut Budgets,
        node: Option<NodeId>,
        lines: usize,
        now: Instant,
    ) -> (usize, usize) {
        let (mut bytes, mut left_out) = (0, 0);
        for _ in 0..lines {
            if let Ok(before) = budgets.spend(Debug, node, "openingd-chan#1", 200, now) {
                bytes += 200;
                let number = before.and_then(|b| b.text.split(' ').next()?.parse::<usize>().ok());
                left_out += number.unwrap_or(0);
            }
        }
        (bytes, left_out)
    }

    #[test]
    fn a_stranger_fills_no_more_than_its_share_and_is_counted() {
        let (mut budgets, start) = (Budgets::new(), Instant::now());
        let at_once = written(&mut budgets, Some(node(1)), 43_000, start);
        assert!((64_000..=65_536).contains(&at_once), "{at_once}");
        let (mut later, mut left_out) = (0, 0);
        for second in 1..=600 {
            let said = said_of(&mut budgets, Some(node(1)), 1000, start + SECOND * second);
            later += said.0;
            left_out += said.1;
        }
        assert!(later <= 600 * 256, "{later}");
        // Whatever was not written was counted.
        let last = said_of(&mut budgets, Some(node(1)), 1, start + SECOND * 3600);
        assert_eq!(left_out + last.1, 643_000 - (at_once + later) / 200);
        let again = budgets.spend(Debug, Some(node(1)), "x", 200, start + SECOND * 3600);
        assert_eq!(again, Ok(None), "each is said once");
    }

    #[test]
    fn strangers_with_a_new_name_for_each_line_share_one_account() {
        let (mut budgets, start) = (Budgets::new(), Instant::now());
        let total: usize =
            (0..50_000).map(|n| written(&mut budgets, Some(node(n)), 1, start)).sum();
        assert!(total <= 512 * 1024, "{total}");
        assert!(budgets.accounts.len() <= MAX_ACCOUNTS);
        // Once they have paid for what they wrote they are forgotten.
        budgets.sum_up(start + SECOND * 3600);
        budgets.sum_up(start + SECOND * 7200);
        assert!(budgets.accounts.is_empty(), "{}", budgets.accounts.len());
    }

    #[test]
    fn a_flood_of_strangers_hides_no_friend_no_room_and_nothing_broken() {
        let (mut budgets, now) = (Budgets::new(), Instant::now());
        budgets.set_friends([node(7)].into());
        (0..50_000).for_each(|n| {
            written(&mut budgets, Some(node(100 + n)), 1, now);
        });
        assert_eq!(written(&mut budgets, Some(node(7)), 1000, now), 200_000);
        assert_eq!(budgets.spend(Debug, None, "chain", 200, now), Ok(None));
        assert_eq!(budgets.spend(Broken, Some(node(101)), "x", 200, now), Ok(None));
    }

    #[test]
    fn what_was_left_out_is_said_of_those_who_have_fallen_silent() {
        let (mut budgets, start) = (Budgets::new(), Instant::now());
        written(&mut budgets, Some(node(1)), 1000, start);
        assert_eq!(budgets.sum_up(start), []);
        let [said] = &budgets.sum_up(start + SECOND * 11)[..] else { unreachable!("one peer") };
        assert_eq!(said.text, "673 more lines of this peer");
        assert_eq!(budgets.sum_up(start + SECOND * 30), [], "once");
    }
}
