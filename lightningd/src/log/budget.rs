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
const SOURCE: Bucket = bytes(1024 * KIB, 16 * KIB);
/// What one of them, or one peer's daemons, call broken.
const BROKEN: Bucket = bytes(256 * KIB, KIB);
/// What all peers' daemons call broken.
const ALL_BROKEN: Bucket = bytes(1024 * KIB, 2 * KIB);
/// What a line costs that says how many were left out.
const SUMMARY_BYTES: u32 = 200;
/// It hears strangers before they have a name: what it says below UNUSUAL is on their common account.
const AT_THE_DOOR: &str = "connectd";

/// Whose account a line is on, and whether it calls something broken: a captured daemon must not hide what others find.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Whose {
    Peer(NodeId, bool),
    Source(String, bool),
    Strangers,
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

/// A line that somebody wants to have written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) level: LogLevel,
    pub(super) node: Option<NodeId>,
    pub(super) source: &'a str,
    pub(super) len: usize,
    /// Does any file want it? What none wants is not counted when it is left out.
    pub(super) wanted: bool,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Budgets {
    accounts: HashMap<Whose, Account>,
    strangers: Bucket,
    broken: Bucket,
    friends: BTreeSet<NodeId>,
}

impl Budgets {
    pub(super) fn new() -> Self {
        let (strangers, broken) = (STRANGERS, ALL_BROKEN);
        Self { accounts: HashMap::new(), strangers, broken, friends: BTreeSet::new() }
    }

    /// These peers have money in channels with us.
    pub(super) fn set_friends(&mut self, friends: BTreeSet<NodeId>) {
        // Who has become one, or is one no more, begins anew.
        let changed: Vec<NodeId> = self.friends.symmetric_difference(&friends).copied().collect();
        for node in changed {
            self.accounts.remove(&Whose::Peer(node, false));
        }
        self.friends = friends;
    }

    /// May a line be kept and written? `Err`: no. `Ok` comes with what is to be said first.
    pub(super) fn spend(&mut self, said: Said<'_>, now: Instant) -> Result<Option<LeftOut>, ()> {
        let is_broken = said.level == LogLevel::Broken;
        let whose = match said.node {
            Some(node) => Whose::Peer(node, is_broken),
            None if said.source == AT_THE_DOOR && said.level < LogLevel::Unusual => {
                Whose::Strangers
            }
            None => Whose::Source(said.source.to_owned(), is_broken),
        };
        let is_stranger = match &whose {
            Whose::Peer(node, _) => !is_broken && !self.friends.contains(node),
            Whose::Source(..) => false,
            Whose::Strangers => true,
        };
        let bucket = match &whose {
            Whose::Peer(_, true) | Whose::Source(_, true) => BROKEN,
            Whose::Peer(_, false) if is_stranger => STRANGER,
            Whose::Peer(_, false) => FRIEND,
            Whose::Source(_, false) => SOURCE,
            Whose::Strangers => STRANGERS,
        };
        // One of very many strangers is counted with all of them.
        let crowd = is_stranger
            && self.accounts.len() >= MAX_ACCOUNTS
            && !self.accounts.contains_key(&whose);
        let whose = if crowd { Whose::Strangers } else { whose };
        let new = Account { bucket, left_out: 0 };
        let account = self.accounts.entry(whose.clone()).or_insert(new);
        let summary = if account.left_out > 0 { SUMMARY_BYTES } else { 0 };
        let len = u32::try_from(said.len).unwrap_or(u32::MAX).saturating_add(summary);
        let of_all = match &whose {
            Whose::Peer(_, true) => Some(&mut self.broken),
            Whose::Peer(_, false) | Whose::Strangers if is_stranger => Some(&mut self.strangers),
            Whose::Peer(_, false) | Whose::Source(..) | Whose::Strangers => None,
        };
        let common = of_all.as_ref().is_none_or(|bucket| bucket.has(len, now));
        if !common || !account.bucket.take_many(len, now) {
            account.left_out += u64::from(said.wanted);
            return Err(());
        }
        if let Some(bucket) = of_all {
            bucket.take_many(len, now);
        }
        Ok(left_out(&whose, std::mem::take(&mut account.left_out)))
    }

    /// From time to time: what was left out of those who have fallen silent. Strangers have one line together, on their account.
    /// Whoever owes nothing is forgotten.
    pub(super) fn sum_up(&mut self, now: Instant) -> Vec<LeftOut> {
        let (mut said_now, mut strangers, mut lines) = (Vec::new(), 0u64, 0);
        let friends = &self.friends;
        let is_strangers = |whose: &Whose| match whose {
            Whose::Peer(node, broken) => !broken && !friends.contains(node),
            Whose::Source(..) => false,
            Whose::Strangers => true,
        };
        for (whose, account) in self.accounts.iter_mut().filter(|(_, a)| a.left_out > 0) {
            if is_strangers(whose) {
                strangers += 1;
                lines += account.left_out;
            } else if account.bucket.take_many(SUMMARY_BYTES, now) {
                said_now.extend(left_out(whose, std::mem::take(&mut account.left_out)));
            }
        }
        if strangers > 0 && self.strangers.take_many(SUMMARY_BYTES, now) {
            let text = format!("{lines} more lines of {strangers} strangers");
            said_now.push(LeftOut { node: None, text });
            for (_, account) in self.accounts.iter_mut().filter(|(whose, _)| is_strangers(whose)) {
                account.left_out = 0;
            }
        }
        self.accounts.retain(|_, account| account.left_out > 0 || !account.bucket.is_full(now));
        said_now
    }
}

fn left_out(whose: &Whose, lines: u64) -> Option<LeftOut> {
    let (node, name) = match whose {
        Whose::Peer(node, _) => (Some(*node), "this peer".to_owned()),
        Whose::Source(source, _) => (None, source.clone()),
        Whose::Strangers => (None, "strangers".to_owned()),
    };
    (lines > 0).then(|| LeftOut { node, text: format!("{lines} more lines of {name}") })
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
    fn said(level: LogLevel, node: Option<NodeId>, source: &str) -> Said<'_> {
        Said { level, node, source, len: 200, wanted: true }
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
            if let Ok(before) = budgets.spend(said(Debug, node, "openingd-chan#1"), now) {
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
        let again = budgets.spend(said(Debug, Some(node(1)), "x"), start + SECOND * 3600);
        assert_eq!(again, Ok(None), "each is said once");
    }

    #[test]
    fn strangers_with_a_new_name_for_each_line_share_one_account() {
        let (mut budgets, start) = (Budgets::new(), Instant::now());
        let total: usize =
            (0..50_000).map(|n| written(&mut budgets, Some(node(n)), 1, start)).sum();
        assert!(total <= 512 * 1024, "{total}");
        assert!(budgets.accounts.len() <= MAX_ACCOUNTS + 1);
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
        assert_eq!(budgets.spend(said(Debug, None, "chain"), now), Ok(None));
        assert_eq!(budgets.spend(said(Broken, Some(node(101)), "x"), now), Ok(None));
        assert_eq!(budgets.spend(said(LogLevel::Unusual, None, "connectd"), now), Ok(None));
        assert_eq!(budgets.spend(said(Debug, None, "connectd"), now), Err(()));
    }

    #[test]
    fn captured_daemon_hides_nothing_broken_of_others() {
        let (mut budgets, now) = (Budgets::new(), Instant::now());
        let mut written = 0;
        for _ in 0..1_000_000 {
            written +=
                200 * u32::from(budgets.spend(said(Broken, Some(node(1)), "x"), now).is_ok());
        }
        assert!(written <= 256 * 1024, "{written}");
        assert_eq!(budgets.spend(said(Broken, Some(node(2)), "x"), now), Ok(None));
        assert_eq!(budgets.spend(said(Broken, None, "chain"), now), Ok(None));
        // All daemons of peers together have an end, too; lightningd's own rooms are apart.
        let all =
            (3..100_000).filter(|n| budgets.spend(said(Broken, Some(node(*n)), "x"), now).is_ok());
        assert!(all.count() * 200 <= 1024 * 1024);
        assert_eq!(budgets.spend(said(Broken, None, "chain"), now), Ok(None));
    }

    #[test]
    fn strangers_have_one_summary_together_on_their_account() {
        let (mut budgets, start) = (Budgets::new(), Instant::now());
        let mut said_in_all = 0;
        for second in 0..600u32 {
            let now = start + SECOND * second;
            for n in 0..200 {
                written(&mut budgets, Some(node(second * 200 + n)), 2, now);
            }
            if second % 10 == 9 {
                said_in_all += budgets.sum_up(now).len();
            }
        }
        assert!(said_in_all <= 60, "{said_in_all} lines that say what was left out");
    }

    #[test]
    fn what_was_left_out_is_said_of_those_who_have_fallen_silent() {
        let (mut budgets, start) = (Budgets::new(), Instant::now());
        written(&mut budgets, Some(node(1)), 1000, start);
        let [said] = &budgets.sum_up(start + SECOND * 11)[..] else { unreachable!("one line") };
        assert_eq!(said.text, "673 more lines of 1 strangers");
        assert_eq!(budgets.sum_up(start + SECOND * 30), [], "once");
    }
}
