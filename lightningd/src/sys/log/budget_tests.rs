use super::*;
use LogLevel::{Broken, Debug, Unusual};
use Speaker::{Daemon, Lightningd, Plugin};

const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1024 * 1024;

fn node(n: u32) -> NodeId {
    let mut id = [2; 33];
    id[1..5].copy_from_slice(&n.to_be_bytes());
    NodeId(id)
}
/// A line of a subdaemon's.
fn said(level: LogLevel, node: Option<NodeId>, source: &str) -> Said<'_> {
    Said { speaker: Daemon, level, node, source, len: 200, wanted: true }
}
/// A line of lightningd's own.
fn ours(level: LogLevel, node: Option<NodeId>, source: &str) -> Said<'_> {
    Said { speaker: Lightningd, ..said(level, node, source) }
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
    let total: usize = (0..50_000).map(|n| written(&mut budgets, Some(node(n)), 1, start)).sum();
    assert!(total <= 512 * 1024, "{total}");
    // BROKEN lines about new identities grow no map either.
    for n in 0..50_000 {
        let _ = budgets.spend(said(Broken, Some(node(n)), "x"), start);
    }
    assert!(budgets.accounts.len() <= MAX_ACCOUNTS + 2, "{}", budgets.accounts.len());
    // Once they have paid for what they wrote they are forgotten.
    budgets.sum_up(start + SECOND * 3600);
    budgets.sum_up(start + SECOND * 7200);
    assert!(budgets.accounts.is_empty(), "{}", budgets.accounts.len());
}

#[test]
fn log_flood_by_strangers_hides_no_channel_peer_or_broken_line() {
    let (mut budgets, now) = (Budgets::new(), Instant::now());
    budgets.set_friends([node(7)].into());
    (0..50_000).for_each(|n| {
        written(&mut budgets, Some(node(100 + n)), 1, now);
    });
    assert_eq!(written(&mut budgets, Some(node(7)), 1000, now), 200_000);
    assert_eq!(budgets.spend(ours(Debug, None, "chain"), now), Ok(None));
    assert_eq!(budgets.spend(said(Broken, Some(node(101)), "x"), now), Ok(None));
    assert_eq!(budgets.spend(said(Unusual, None, "connectd"), now), Ok(None));
    assert_eq!(budgets.spend(said(Debug, None, "connectd"), now), Err(()));
}

#[test]
fn captured_daemon_hides_nothing_broken_of_others() {
    let (mut budgets, now) = (Budgets::new(), Instant::now());
    let mut written = 0;
    for _ in 0..1_000_000 {
        written += 200 * u32::from(budgets.spend(said(Broken, Some(node(1)), "x"), now).is_ok());
    }
    assert!(written <= 256 * 1024, "{written}");
    assert_eq!(budgets.spend(said(Broken, Some(node(2)), "x"), now), Ok(None));
    assert_eq!(budgets.spend(ours(Broken, None, "chain"), now), Ok(None));
    // All daemons of peers together have an end, too; lightningd's own rooms are apart.
    let all =
        (3..100_000).filter(|n| budgets.spend(said(Broken, Some(node(*n)), "x"), now).is_ok());
    assert!(all.count() * 200 <= MIB);
    assert_eq!(budgets.spend(ours(Broken, None, "chain"), now), Ok(None));
}

#[test]
fn captured_daemon_hides_no_line_of_lightningd_about_its_peer() {
    let (mut budgets, now) = (Budgets::new(), Instant::now());
    budgets.set_friends([node(7)].into());
    for peer in [7, 8] {
        for level in [Broken, Unusual, Debug] {
            while budgets.spend(said(level, Some(node(peer)), "channeld-chan#1"), now).is_ok() {}
            let of_ours = budgets.spend(ours(level, Some(node(peer)), "chan#1"), now);
            assert_eq!(of_ours, Ok(None), "{level:?} about peer {peer}");
        }
    }
}

#[test]
fn friends_share_a_limit_whatever_their_number() {
    let (mut budgets, start) = (Budgets::new(), Instant::now());
    budgets.set_friends((0..100).map(node).collect());
    let mut flood = |second: u32| {
        let now = start + SECOND * second;
        let mut bytes = 0;
        for n in 0..100 {
            let line = Said { len: 2000, ..said(Debug, Some(node(n)), "channeld-chan#1") };
            while budgets.spend(line, now).is_ok() {
                bytes += 2000;
            }
        }
        bytes
    };
    let at_once = flood(0);
    assert!((60 * MIB..=64 * MIB).contains(&at_once), "{at_once}");
    let later: usize = (1..=600).map(flood).sum();
    assert!(later <= 600 * 16_384, "{later}");
}

/// All peers, subdaemons, rooms and plugins flood the log at every level that is written;
/// lightningd's rooms are not broken.
#[test]
fn all_groups_write_250_mib_at_once_and_10_gib_a_day_at_most() {
    let (mut budgets, start) = (Budgets::new(), Instant::now());
    budgets.set_friends((0..10).map(node).collect());
    let named: Vec<String> = (0..20).map(|n| format!("source-{n}")).collect();
    let mut flood = |second: u32, bytes: usize| {
        let now = start + SECOND * second;
        let mut total = 0;
        for speaker in [Lightningd, Daemon, Plugin] {
            for level in [Broken, Unusual, Debug] {
                let peers = if speaker == Plugin { 0 } else { 20 };
                let rooms = if (speaker, level) == (Lightningd, Broken) { 0 } else { named.len() };
                let peers = (0..peers).map(|n| (Some(node(n)), "x"));
                let sources = named.iter().take(rooms).map(|name| (None, name.as_str()));
                for (peer, source) in peers.chain(sources) {
                    let line = Said { speaker, len: bytes, ..said(level, peer, source) };
                    while budgets.spend(line, now).is_ok() {
                        total += bytes;
                    }
                }
            }
        }
        total
    };
    let at_once = flood(0, 2000);
    assert!(at_once <= 250 * MIB, "{at_once}");
    let later: usize = (1..=600).map(|second| flood(second, 2000)).sum();
    assert!(later * 6 * 24 <= 10 * 1024 * MIB, "{}", later * 6 * 24 / MIB);
}

#[test]
fn line_takes_nothing_from_the_limit_of_louder_lines() {
    let (mut budgets, now) = (Budgets::new(), Instant::now());
    for node in [Some(node(1)), None] {
        let unwanted = Said { wanted: false, ..said(Debug, node, "hsmd") };
        while budgets.spend(unwanted, now).is_ok() {}
        assert_eq!(budgets.spend(said(Debug, node, "hsmd"), now), Ok(None));
        // Nor do those that are written take anything from louder ones.
        while budgets.spend(said(Debug, node, "hsmd"), now).is_ok() {}
        assert!(budgets.spend(said(Unusual, node, "hsmd"), now).is_ok());
    }
}

#[test]
fn plugin_and_subdaemons_hide_nothing_of_each_other() {
    let (mut budgets, now) = (Budgets::new(), Instant::now());
    for level in [Broken, Unusual] {
        let plugin = |name| Said { speaker: Plugin, ..said(level, None, name) };
        for name in ["plugin-a", "plugin-b", "plugin-c", "connectd"] {
            while budgets.spend(plugin(name), now).is_ok() {}
        }
        assert_eq!(budgets.spend(said(level, None, "connectd"), now), Ok(None));
        assert_eq!(budgets.spend(ours(level, None, "connectd"), now), Ok(None));
    }
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
