use crate::args::{Args, Format, Level, Style};
use crate::client::progress;
use crate::config::{self, Place};
use crate::exit::Exit;
use crate::format;
use crate::json::{Json, parse};
use crate::request::{build, id, params};
use primitives::Network;
use proptest::prelude::*;

fn args(line: &[&str]) -> Result<Args, crate::exit::Failed> {
    Args::parse(line.iter().map(Into::into))
}
fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn options_stand_anywhere_and_end_at_two_dashes() {
    let a = args(&["-kJ", "pay", "--regtest", "bolt11=x", "-N", "none", "--lightning-dir", "/d"])
        .unwrap();
    assert_eq!((a.style, a.format, a.notifications), (Style::Keywords, Format::Json, None));
    assert_eq!((a.network, a.lightning_dir), (Some(Network::Regtest), Some("/d".into())));
    assert_eq!(a.command, ["pay", "bolt11=x"]);
    let a = args(&["-Ndebug", "--network=signet", "--filter={}", "-o", "x", "--", "-R", "--y"])
        .unwrap();
    assert_eq!((a.notifications, a.network), (Some(Level::Debug), Some(Network::Signet)));
    assert_eq!(
        (a.format, a.style, a.filter.as_deref()),
        (Format::Default, Style::Ordered, Some("{}"))
    );
    assert_eq!(a.command, ["x", "-R", "--y"]);
    let a = args(&["-c", "02ab:rune=", "getinfo"]).unwrap();
    assert_eq!(a.commando, Some(("02ab".into(), Some("rune=".into()))));
    for bad in [
        &["-d"][..],
        &["--nonsense"],
        &["--json=1"],
        &["--network=litecoin"],
        &["-N"],
        &["-N", "loud"],
        &["-kX"],
    ] {
        assert_eq!(args(bad).unwrap_err().0, Exit::Usage, "{bad:?}");
    }
}

#[test]
fn of_options_that_exclude_each_other_the_last_holds() {
    crate::command().debug_assert();
    let a = args(&["-k", "-J", "--regtest", "x", "-o", "-R", "--network=signet", "a", "b"]);
    let a = a.unwrap();
    assert_eq!(
        (a.style, a.format, a.network),
        (Style::Ordered, Format::Raw, Some(Network::Signet))
    );
    assert_eq!(a.command, ["x", "a", "b"]);
    let a = args(&["-o", "-F", "--network=signet", "x", "-k", "--mainnet", "", "-", "-H", "-H"]);
    let a = a.unwrap();
    assert_eq!(
        (a.style, a.format, a.network),
        (Style::Keywords, Format::Human, Some(Network::Bitcoin))
    );
    assert_eq!(a.command, ["x", "", "-"]);
    let a = args(&["--conf=a", "--conf", "-b", "-N", "io", "-Nnone", "-l", "-1"]).unwrap();
    assert_eq!((a.conf, a.notifications, a.filter), (Some("-b".into()), None, Some("-1".into())));
}

#[test]
fn mistyped_option_is_told_what_was_meant() {
    let said = args(&["--regtst", "getinfo"]).unwrap_err().1;
    assert!(said.contains("'--regtst'") && said.contains("'--regtest'"), "{said}");
    let said = args(&["-N", "loud"]).unwrap_err().1;
    assert!(said.contains("loud") && said.contains("should be trace, io, debug"), "{said}");
    let said = args(&["--network=moon"]).unwrap_err().1;
    assert!(said.contains("moon") && said.contains("signet"), "{said}");
    for said in [args(&["-N"]), args(&["--json=1"]), args(&["-kX"])] {
        let said = said.unwrap_err().1;
        assert!(said.ends_with(" (see --help)") && !said.contains("\n\n"), "{said}");
    }
}

#[test]
fn words_become_json_as_clns_cli_makes_it() {
    for (word, json) in [
        ("123", "123"),
        ("0", "0"),
        ("1.5", "1.5"),
        ("0123", "\"0123\""),
        ("127.0.0.1", "\"127.0.0.1\""),
        ("1.", "\"1.\""),
        ("-1", "\"-1\""),
        ("1e3", "\"1e3\""),
        ("9007199254740993000000", "9007199254740993000000"),
        ("true", "true"),
        ("null", "null"),
        ("True", "\"True\""),
        ("1000sat", "\"1000sat\""),
        ("", "\"\""),
        ("{\"a\":1}", "{\"a\":1}"),
        ("[1, 2]", "[1, 2]"),
        ("\"12\"", "\"12\""),
        ("\"", "\"\\\"\""),
        ("a\"b\\c\n", "\"a\\\"b\\\\c\\n\""),
    ] {
        assert_eq!(params(Style::Guess, &words(&[word])).unwrap(), format!("[{json}]"), "{word}");
    }
    assert_eq!(params(Style::Guess, &words(&["a=1", "b=x=y"])).unwrap(), r#"{"a":1,"b":"x=y"}"#);
    assert_eq!(params(Style::Guess, &words(&["x", "b=1"])).unwrap(), r#"["x","b=1"]"#);
    assert_eq!(params(Style::Ordered, &words(&["a=1"])).unwrap(), r#"["a=1"]"#);
    assert_eq!(params(Style::Keywords, &[]).unwrap(), "{}");
    for bad in [&["{x}"][..], &["[1"], &["\"a\"b\""]] {
        // What is wrapped like JSON must be JSON; half a bracket is text.
        let given = params(Style::Guess, &words(bad));
        assert_eq!(given.is_err(), !bad.contains(&"[1"), "{bad:?}");
    }
    assert_eq!(params(Style::Keywords, &words(&["x"])).unwrap_err().0, Exit::Usage);
}

#[test]
fn the_request_carries_what_lightningd_wants() {
    let a = args(&["--filter={\"id\":true}", "-c", "02ab:r"]).unwrap();
    let direct = Args { commando: None, ..args(&["-l", "{\"id\":true}"]).unwrap() };
    assert_eq!(
        build(&direct, "cli:x#1", "x", &words(&["1"])).unwrap(),
        "{\"jsonrpc\":\"2.0\",\"id\":\"cli:x#1\",\"method\":\"x\",\"filter\":{\"id\":true},\"params\":[1]}\n\n"
    );
    assert_eq!(
        build(&a, "i", "x", &[]).unwrap(),
        "{\"jsonrpc\":\"2.0\",\"id\":\"i\",\"method\":\"commando\",\"params\":{\"peer_id\":\"02ab\",\"method\":\"x\",\
         \"filter\":{\"id\":true},\"rune\":\"r\",\"params\":[]}}\n\n"
    );
    assert!(id("getinfo").starts_with("cli:getinfo#"));
    assert!(id("get\"info").starts_with("cli:weirdmethod!#"));
    let bad = Args { filter: Some("{".into()), ..args(&[]).unwrap() };
    assert_eq!(build(&bad, "i", "x", &[]).unwrap_err().0, Exit::Usage);
}

const RESULT: &str =
    r#"{"b":9007199254740993,"a":[],"o":{},"n":[1,{"c":"x\n\"y\"\u001b"}],"f":1.50}"#;

fn shown(text: &str, format: Format) -> String {
    format::result(text, format, "x", &[]).unwrap()
}

#[test]
fn json_is_indented_by_three_and_otherwise_left_alone() {
    let expected = r#"{
   "b": 9007199254740993,
   "a": [],
   "o": {},
   "n": [
      1,
      {
         "c": "x\n\"y\"\u001b"
      }
   ],
   "f": 1.50
}
"#;
    assert_eq!(shown(RESULT, Format::Json), expected);
    assert_eq!(shown(RESULT, Format::Default), expected);
    assert_eq!(shown(RESULT, Format::Raw), format!("{RESULT}\n"));
    assert_eq!(
        format::error(r#"{"code":-1,"message":"no"}"#, Format::Human).unwrap(),
        "{\n   \"code\": -1,\n   \"message\": \"no\"\n}\n"
    );
    assert_eq!(format::error("{\"code\":-1}", Format::Raw).unwrap(), "{\"code\":-1}\n");
}

#[test]
fn flat_and_human_formats_are_clns() {
    assert_eq!(
        shown(RESULT, Format::Flat),
        "b=9007199254740993\nn[0]=1\nn[1].c=x\\n\\\"y\\\"\\u001b\nf=1.50\n"
    );
    // No escape sequence of a stranger's comes alive.
    assert_eq!(
        shown(RESULT, Format::Human),
        "b=9007199254740993\na=\no=\nn=1\nx\n\"y\"u001b\nf=1.50\n"
    );
    assert_eq!(shown(r#"{"only":"a\tb"}"#, Format::Human), "a\tb\n");
    let hinted = r#"{"text":"simple","format-hint":"simple"}"#;
    assert_eq!(shown(hinted, Format::Default), "simple\n");
    assert!(shown(hinted, Format::Json).contains("format-hint"));
}

#[test]
fn help_is_a_list_sorted_where_it_has_categories() {
    let help = |text: &str, params: &[&str]| {
        format::result(text, Format::Default, "help", &words(params)).unwrap()
    };
    let hint =
        "---\nrun `lightning-cli help <command>` for more information on a specific command\n";
    let plain = r#"{"help":[{"command":"b [x]"},{"command":"a y"}]}"#;
    assert_eq!(help(plain, &[]), format!("b [x]\n\na y\n\n{hint}"));
    let sorted = r#"{"help":[{"command":"b","category":"z"},{"command":"c","category":"a"},{"command":"a","category":"z"}]}"#;
    assert_eq!(help(sorted, &[]), format!("c\n\na\n\nb\n\n{hint}"));
    assert_eq!(
        help(r#"{"help":[{"command":"pay bolt11"}],"format-hint":"simple"}"#, &["pay"]),
        "pay bolt11\n"
    );
}

#[test]
fn progress_is_a_bar_over_itself() {
    let half = progress(r#"{"id":"x","num":0,"total":2,"stage":{"num":0,"total":3}}"#).unwrap();
    let bar = |full: usize| format!("|{}{}|", "=".repeat(full), " ".repeat(60 - full));
    assert_eq!(half, format!("\r# Stage 1/3 1/2 {}", bar(30)));
    let whole = progress(r#"{"num":6,"total":7}"#).unwrap();
    assert_eq!(whole, format!("\r# 7/7 {}\n", bar(60)));
    assert!(progress(r#"{"num":18446744073709551615,"total":0}"#).is_some());
    assert_eq!(progress("[]"), None);
}

#[test]
fn the_socket_is_where_lightningds_configuration_puts_it() {
    let dir = std::env::temp_dir().join(format!("cli-config-{}", std::process::id()));
    let write = |name: &str, text: &str| {
        let file = dir.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    let found = |line: &[&str]| {
        let base = format!("--lightning-dir={}", dir.display());
        config::find(&args(&[&[base.as_str()], line].concat()).unwrap())
    };
    let place =
        |network: &str, socket: &str| Place { directory: dir.join(network), socket: socket.into() };
    std::fs::create_dir_all(&dir).unwrap();
    assert_eq!(found(&[]).unwrap(), place("bitcoin", "lightning-rpc"));
    write("config", "# mine\r\nalias=x y \nregtest\nrpc-file=base-rpc\ninclude more\n");
    write("more", "signet\n");
    assert_eq!(found(&[]).unwrap(), place("signet", "base-rpc"));
    write("signet/config", "rpc-file=net-rpc");
    assert_eq!(found(&[]).unwrap(), place("signet", "net-rpc"));
    assert_eq!(found(&["--regtest", "--rpc-file=own"]).unwrap(), place("regtest", "own"));
    write("conf", "network=testnet4\nrpc-file=conf-rpc");
    let conf = format!("--conf={}", dir.join("conf").display());
    assert_eq!(found(&[&conf]).unwrap(), place("testnet4", "conf-rpc"));
    write("more", "include config");
    assert_eq!(found(&[]).unwrap_err().0, Exit::Usage);
    write("more", "network=moon");
    assert_eq!(found(&[]).unwrap_err().0, Exit::Usage);
    assert_eq!(found(&["--conf=/nowhere/at/all"]).unwrap_err().0, Exit::Usage);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn answers_that_stand_too_deep_are_refused() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(parse(&deep(100)).is_some());
    assert!(parse(&deep(100_000)).is_none());
    assert!(format::result(&deep(100_000), Format::Json, "x", &[]).is_err());
}

/// The tree's text without any space.
fn written(value: &Json<'_>) -> String {
    match value {
        Json::Scalar(text) => (*text).to_owned(),
        Json::Array(items) => {
            format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(","))
        }
        Json::Object(members) => {
            let member = |(key, value): &(&str, Json<'_>)| format!("\"{key}\":{}", written(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn any_text_that_is_json_is_read_whole(parts in proptest::collection::vec(0usize..14, 0..16)) {
        let words = ["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\\"\"", "1", "-1.5e3", "true", "null", " ", "\"\\\\\""];
        let text: String = parts.iter().map(|i| words[*i]).collect();
        let json = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        let read = parse(&text);
        prop_assert_eq!(read.is_some(), json);
        if let Some(read) = read {
            prop_assert_eq!(written(&read), text.replace(' ', ""));
        }
    }

    #[test]
    fn any_words_are_params_or_a_usage_error(word in "[ -~ä]{0,8}", other in "[\\[\\]{}\"a-b0-9.=]{0,10}") {
        for style in [Style::Guess, Style::Keywords, Style::Ordered] {
            if let Ok(json) = params(style, &words(&[&word, &other])) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{}", json);
            }
        }
    }
}
