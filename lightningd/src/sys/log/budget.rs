//! Rate limits of the log, in bytes. Each source of lines has a token bucket, and so have all
//! sources of a group together. Lines above a limit are dropped and counted; one line says how
//! many.
//!
//! Groups keep floods apart. A line's group is the process that wrote it (lightningd, a subdaemon,
//! a plugin), what it is about (a peer with a funded channel, any other peer, no peer), and whether
//! it is BROKEN, UNUSUAL, goes to a file, or is only kept for `getlog`. So a captured subdaemon
//! cannot use up the limit of what lightningd says about its peer, nor that of lines about no peer,
//! and new identities raise no limit. The sum over all groups bounds what the log takes of the
//! disk.

use crate::sys::log::line_of::Speaker;
use primitives::{Bucket, NodeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use wire::daemon::LogLevel;

/// Accounts at a time. Strangers that come while there are so many share one.
const MAX_ACCOUNTS: usize = 4096;

const KIB: u32 = 1024;
/// So many bytes at once, then so many a second.
const fn bytes(burst: u32, per_second: u32) -> Bucket {
    Bucket::new(burst, Duration::from_nanos(1_000_000_000 / per_second as u64))
}
/// A peer without a funded channel: debug lines of some dozen handshakes or openings.
const STRANGER: Bucket = bytes(64 * KIB, 256);
/// All strangers, per group (speaker and kind): 170 MB a day.
const STRANGERS: Bucket = bytes(512 * KIB, 2 * KIB);
/// A peer with a funded channel: debug lines of some thousands of payments, then of a few each
/// second.
const FRIEND: Bucket = bytes(16 * 1024 * KIB, 16 * KIB);
/// All peers with a funded channel, per group: 1.4 GB a day, whatever their number.
const FRIENDS: Bucket = bytes(64 * 1024 * KIB, 16 * KIB);
/// A subdaemon without a peer, a room of lightningd, a plugin.
const SOURCE: Bucket = bytes(1024 * KIB, 8 * KIB);
/// All subdaemons without a peer, all rooms, all plugins.
const SOURCES: Bucket = bytes(8 * 1024 * KIB, 16 * KIB);
/// UNUSUAL lines of one source, or about one peer with a funded channel.
const UNUSUAL: Bucket = bytes(1024 * KIB, KIB);
/// UNUSUAL lines of all sources of a group.
const ALL_UNUSUAL: Bucket = bytes(4096 * KIB, 4 * KIB);
/// BROKEN lines of one source.
const BROKEN: Bucket = bytes(256 * KIB, KIB);
/// BROKEN lines of all sources of a group.
const ALL_BROKEN: Bucket = bytes(1024 * KIB, 2 * KIB);
/// What a line costs that says how many were dropped.
const SUMMARY_BYTES: u32 = 200;
/// Its lines below UNUSUAL without a peer id are about connections before their handshake is done:
/// strangers'.
const CONNECTD: &str = "connectd";

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Subject {
    /// A peer without a funded channel, or a connection without a peer id.
    Stranger,
    /// A peer with a funded channel.
    Friend,
    NoPeer,
}

/// How loud a line is, or where it goes. BROKEN and UNUSUAL lines have limits of their own, so that
/// no flood of others uses them up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Broken,
    Unusual,
    /// Less than that, and a filter wants it in a file.
    Written,
    /// To memory: no filter wants it in a file.
    OnlyKept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Group {
    speaker: Speaker,
    subject: Subject,
    kind: Kind,
}

impl Group {
    /// The limit of one source, and the one that all sources of the group share.
    const fn limits(self) -> (Bucket, Option<Bucket>) {
        use Kind::*;
        use Speaker::*;
        use Subject::*;
        match (self.kind, self.subject, self.speaker) {
            // Its rooms are few, and none of their BROKEN lines is to be dropped for another
            // room's.
            (Broken, NoPeer, Lightningd) => (BROKEN, None),
            (Broken, NoPeer, Daemon | Plugin)
            | (Broken, Stranger | Friend, Lightningd | Daemon | Plugin) => {
                (BROKEN, Some(ALL_BROKEN))
            }
            (Unusual | Written | OnlyKept, Stranger, Lightningd | Daemon | Plugin) => {
                (STRANGER, Some(STRANGERS))
            }
            (Unusual, Friend | NoPeer, Lightningd | Daemon | Plugin) => {
                (UNUSUAL, Some(ALL_UNUSUAL))
            }
            (Written | OnlyKept, Friend, Lightningd | Daemon | Plugin) => (FRIEND, Some(FRIENDS)),
            (Written | OnlyKept, NoPeer, Lightningd | Daemon | Plugin) => (SOURCE, Some(SOURCES)),
        }
    }
}

/// Whose account within its group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Source {
    Peer(NodeId),
    Named(String),
    /// Connections without a peer id, and strangers beyond [`MAX_ACCOUNTS`]. Limited by what the
    /// group shares alone.
    Others,
}

/// How many lines were dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Who wrote them.
    pub(super) speaker: Speaker,
    /// The one peer that they were about.
    pub(super) node: Option<NodeId>,
    pub(super) text: String,
}

#[derive(Debug)]
struct Account {
    bucket: Bucket,
    left_out: u64,
}

/// A line, before it is known whether it is kept and written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) speaker: Speaker,
    pub(super) level: LogLevel,
    pub(super) node: Option<NodeId>,
    pub(super) source: &'a str,
    pub(super) len: usize,
    /// Does any filter want it in a file? Others are not counted when they are dropped.
    pub(super) wanted: bool,
}

/// All accounts.
#[derive(Debug)]
pub(super) struct Budgets {
    accounts: HashMap<(Group, Source), Account>,
    shared: HashMap<Group, Bucket>,
    friends: BTreeSet<NodeId>,
}

impl Budgets {
    pub(super) fn new() -> Self {
        Self { accounts: HashMap::new(), shared: HashMap::new(), friends: BTreeSet::new() }
    }

    /// These peers have funded channels with us.
    pub(super) fn set_friends(&mut self, friends: BTreeSet<NodeId>) {
        self.friends = friends;
    }

    fn group(&self, said: &Said<'_>) -> Group {
        let is_unnamed = said.node.is_none()
            && said.speaker == Speaker::Daemon
            && said.source == CONNECTD
            && said.level < LogLevel::Unusual;
        let subject = match said.node {
            Some(node) if self.friends.contains(&node) => Subject::Friend,
            Some(_) => Subject::Stranger,
            None if is_unnamed => Subject::Stranger,
            None => Subject::NoPeer,
        };
        let kind = match said.level {
            LogLevel::Broken => Kind::Broken,
            LogLevel::Unusual => Kind::Unusual,
            LogLevel::Io | LogLevel::Trace | LogLevel::Debug | LogLevel::Info if said.wanted => {
                Kind::Written
            }
            LogLevel::Io | LogLevel::Trace | LogLevel::Debug | LogLevel::Info => Kind::OnlyKept,
        };
        Group { speaker: said.speaker, subject, kind }
    }

    fn account(&self, said: &Said<'_>, group: Group) -> (Group, Source) {
        let source = match (said.node, group.subject) {
            (Some(node), _) => Source::Peer(node),
            (None, Subject::Stranger) => Source::Others,
            (None, Subject::Friend | Subject::NoPeer) => Source::Named(said.source.to_owned()),
        };
        let key = (group, source);
        let is_one_of_many = group.subject == Subject::Stranger
            && self.accounts.len() >= MAX_ACCOUNTS
            && !self.accounts.contains_key(&key);
        if is_one_of_many { (group, Source::Others) } else { key }
    }

    /// May a line be kept and written? `Err`: it is above a limit. `Ok` comes with the summary that
    /// is written before it.
    pub(super) fn spend(&mut self, said: Said<'_>, now: Instant) -> Result<Option<LeftOut>, ()> {
        let group = self.group(&said);
        let (own, of_all) = group.limits();
        let key = self.account(&said, group);
        let own = match &key.1 {
            Source::Others => of_all.unwrap_or(own),
            Source::Peer(_) | Source::Named(_) => own,
        };
        let shared = of_all.map(|full| self.shared.entry(group).or_insert(full));
        let account =
            self.accounts.entry(key.clone()).or_insert(Account { bucket: own, left_out: 0 });
        let summary = if account.left_out > 0 { SUMMARY_BYTES } else { 0 };
        let len = u32::try_from(said.len).unwrap_or(u32::MAX).saturating_add(summary);
        if !take(&mut account.bucket, shared, len, now) {
            account.left_out += u64::from(said.wanted);
            return Err(());
        }
        Ok(left_out(&key, std::mem::take(&mut account.left_out)))
    }

    /// From time to time: the summaries of sources that write no more. Strangers have one together,
    /// on what they share. An account with a full bucket is removed.
    pub(super) fn sum_up(&mut self, now: Instant) -> Vec<LeftOut> {
        let mut summaries = Vec::new();
        let mut strangers = BTreeMap::<Group, (u64, u64)>::new();
        for (key, account) in self.accounts.iter_mut().filter(|(_, a)| a.left_out > 0) {
            let shared = self.shared.get_mut(&key.0);
            match key.0.subject {
                Subject::Stranger => {
                    let (sources, lines) = strangers.entry(key.0).or_default();
                    *sources += 1;
                    *lines += account.left_out;
                }
                Subject::Friend | Subject::NoPeer => {
                    if take(&mut account.bucket, shared, SUMMARY_BYTES, now) {
                        summaries.extend(left_out(key, std::mem::take(&mut account.left_out)));
                    }
                }
            }
        }
        for (group, (sources, lines)) in strangers {
            let Some(shared) = self.shared.get_mut(&group) else { continue };
            if shared.take_many(SUMMARY_BYTES, now) {
                let text = format!("{lines} more lines of {sources} strangers");
                summaries.push(LeftOut { speaker: group.speaker, node: None, text });
                let of_group = self.accounts.iter_mut().filter(|(key, _)| key.0 == group);
                of_group.for_each(|(_, account)| account.left_out = 0);
            }
        }
        self.accounts.retain(|_, account| account.left_out > 0 || !account.bucket.is_full(now));
        summaries
    }
}

/// Takes so many bytes from both buckets, or from none.
fn take(own: &mut Bucket, shared: Option<&mut Bucket>, len: u32, now: Instant) -> bool {
    match shared {
        None => own.take_many(len, now),
        Some(shared) => {
            shared.has(len, now) && own.take_many(len, now) && shared.take_many(len, now)
        }
    }
}

fn left_out((group, source): &(Group, Source), lines: u64) -> Option<LeftOut> {
    let (node, name) = match source {
        Source::Peer(node) => (Some(*node), "this peer".to_owned()),
        Source::Named(source) => (None, source.clone()),
        Source::Others => (None, "strangers".to_owned()),
    };
    let text = format!("{lines} more lines of {name}");
    (lines > 0).then_some(LeftOut { speaker: group.speaker, node, text })
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
