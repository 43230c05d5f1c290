use super::*;
use std::time::Duration;

#[test]
fn time_is_written_as_cln_writes_it() {
    let at = UNIX_EPOCH + Duration::from_millis(1_795_248_000_123);
    assert_eq!(iso_time(at), "2026-11-21T08:00:00.123Z");
    assert_eq!(iso_time(UNIX_EPOCH + Duration::from_secs(951_782_400)), "2000-02-29T00:00:00.000Z");
}

fn log_of(prefix: &str, timestamps: bool) -> State {
    State {
        begun: Instant::now(),
        prefix: prefix.to_owned(),
        timestamps,
        filters: vec![],
        paths: vec![],
        files: vec![],
        kept: Kept::default(),
        budgets: Budgets::new(),
        only_broken: false,
        unread: 0,
    }
}

fn peer() -> NodeId {
    "0266e4598d1d3c415f572a8488830b60f7e744ed9235eb0b1ba93283b315c03518".parse().unwrap()
}

#[test]
fn lines_are_written_as_cln_writes_them() {
    const PEER: &str = "0266e4598d1d3c415f572a8488830b60f7e744ed9235eb0b1ba93283b315c03518";
    let golden = [
        (LogLevel::Io, None, "hsmd", "IO      hsmd: said".to_owned()),
        (LogLevel::Trace, None, "connectd", "TRACE   connectd: said".to_owned()),
        (
            LogLevel::Debug,
            Some(peer()),
            "channeld-chan#1",
            format!("DEBUG   {PEER}-channeld-chan#1: said"),
        ),
        (LogLevel::Info, None, "lightningd", "INFO    lightningd: said".to_owned()),
        (LogLevel::Unusual, Some(peer()), "chan#7", format!("UNUSUAL {PEER}-chan#7: said")),
        (LogLevel::Broken, None, "plugin-bcli", "**BROKEN** plugin-bcli: said".to_owned()),
    ];
    for (level, node, source, line) in golden {
        assert_eq!(
            format_line(&log_of("", false), level, node, source, "said"),
            format!("{line}\n")
        );
        // The prefix is as it was given, before everything.
        let prefixed = format_line(&log_of("mine ", false), level, node, source, "said");
        assert_eq!(prefixed, format!("mine {line}\n"));
    }
    let timed = format_line(&log_of("a-", true), LogLevel::Info, None, "lightningd", "said");
    let (time, rest) = timed.strip_prefix("a-").unwrap().split_once(' ').unwrap();
    assert_eq!(rest, "INFO    lightningd: said\n");
    assert_eq!((time.len(), &time[10..11], &time[23..]), (24, "T", "Z"), "{time}");
}

#[test]
fn log_filter_sets_a_level_for_sources_or_peers_with_its_word() {
    let filters =
        |texts: &[&str]| -> Vec<Filter> { texts.iter().map(|t| filter(t).unwrap()).collect() };
    let several = filters(&["unusual", "debug:chan#1", "io:0266e4", "trace:"]);
    let wants = |filters: &[Filter], level, node, source| is_wanted(filters, level, node, source);
    use LogLevel::*;
    for (level, node, source, wanted) in [
        // `trace:` names no subsystem: it is for all.
        (Trace, None, "lightningd", true),
        (Io, None, "lightningd", false),
        (Io, Some(peer()), "connectd", true),
        (Io, None, "channeld-chan#1", false),
    ] {
        assert_eq!(wants(&several, level, node, source), wanted, "{level:?} {source}");
    }
    let two = filters(&["unusual", "debug:chan#1"]);
    for (level, source, wanted) in [
        (Unusual, "lightningd", true),
        (Info, "lightningd", false),
        (Debug, "channeld-chan#1", true),
        (Debug, "channeld-chan#2", false),
        (Trace, "channeld-chan#1", false),
    ] {
        assert_eq!(wants(&two, level, None, source), wanted, "{level:?} {source}");
    }
    let error = filter("loud:hsmd").unwrap_err();
    assert!(error.contains("'loud' is none of io, trace, debug, info, unusual, broken"));
}

#[test]
fn a_text_is_few_lines_and_each_of_them_short() {
    let mut log = log_of("", false);
    let text = format!("{}\n{}", "x".repeat(65_536), "y\n".repeat(65_536));
    say(&mut log, Speaker::Lightningd, LogLevel::Info, None, "lightningd", &text);
    let (lines, skipped) = log.kept.at_least(LogLevel::Debug);
    let longest = lines.iter().map(|line| line.text.len()).max();
    assert_eq!((longest, skipped), (Some(primitives::MAX_CUT_TEXT), 0));
    assert_eq!(lines.len(), MAX_LINES + 1);
    assert_eq!(lines.last().unwrap().text, "... (65505 lines more)");
}

/// A flood of debug lines, and one of a captured subdaemon's BROKEN lines.
#[test]
fn getlog_keeps_loud_lines_of_lightningd_through_floods() {
    let mut log = log_of("", false);
    let loud = |log: &mut State, speaker, level, n: usize| {
        say(log, speaker, level, Some(peer()), "chan#1", &format!("line {n}"));
    };
    loud(&mut log, Speaker::Lightningd, LogLevel::Unusual, 0);
    loud(&mut log, Speaker::Daemon, LogLevel::Broken, 1);
    for n in 0..10 {
        for _ in 0..10_000 {
            let (room, text) = (format!("room-{n}"), "x".repeat(1000));
            say(&mut log, Speaker::Lightningd, LogLevel::Debug, None, &room, &text);
        }
    }
    loud(&mut log, Speaker::Lightningd, LogLevel::Broken, 2);
    let texts = |log: &State, least| -> Vec<String> {
        log.kept.at_least(least).0.into_iter().map(|line| line.text).collect()
    };
    assert_eq!(texts(&log, LogLevel::Unusual), ["line 0", "line 1", "line 2"]);
    let all = texts(&log, LogLevel::Debug);
    assert_eq!((&*all[0], &*all[1], &**all.last().unwrap()), ("line 0", "line 1", "line 2"));
    assert!(log.kept.bytes() <= kept::MAX_BYTES && log.kept.at_least(LogLevel::Debug).1 > 0);
    for n in 0..100_000u32 {
        let captured = Some(primitives::NodeId(std::array::from_fn(|i| (n >> (i % 4 * 8)) as u8)));
        let text = "x".repeat(1000);
        say(&mut log, Speaker::Daemon, LogLevel::Broken, captured, "channeld-chan#2", &text);
        say(&mut log, Speaker::Plugin, LogLevel::Unusual, None, &format!("plugin-{n}"), &text);
    }
    let kept = texts(&log, LogLevel::Unusual);
    assert!(kept.contains(&"line 0".to_owned()) && kept.contains(&"line 2".to_owned()));
    assert!(!kept.contains(&"line 1".to_owned()), "the flood was one");
}

#[test]
fn subsystem_of_a_log_target_is_its_room_whatever_the_floor() {
    for (target, says) in [
        ("lightningd::rooms::channels::watch", "channels"),
        ("lightningd::api::rpc::peers", "peers"),
        ("lightningd::flows::block", "chain"),
        ("lightningd::flows::hooks::htlc_accepted", "plugin_host"),
        ("lightningd::sys::disk", "disk"),
        ("lightningd::event_loop", "event_loop"),
        ("lightningd::start", "lightningd"),
        ("lightningd", "lightningd"),
    ] {
        assert_eq!(subsystem(target), says, "{target}");
    }
}
