//! Whatever an RPC client, a plugin, the backend or a file says: an answer or an error, never a
//! panic.

use crate::kernel::plugins::manifest::Manifest;
use crate::rooms::chain::estimates::Estimates;
use crate::sys::args::Asked;
use crate::sys::form::{check_form, reply_text};
use crate::sys::options::Config;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Words that mean something to some parser, and some that mean nothing to any.
fn word() -> impl Strategy<Value = String> {
    let known = [
        "all",
        "any",
        "1sat",
        "-1",
        "1.5btc",
        "99999999999999999999",
        "0x10",
        "slow",
        "6blocks",
        "253perkw",
        "1x2x3",
        "16777216x0x0",
        "true",
        "null",
        "",
        "id",
        "params",
        "method",
        "jsonrpc",
        "2.0",
        "bcrt1q",
        "lnbcrt1",
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        "éé",
        "\u{0}",
        "127.0.0.1:9735",
        "[::1]:1",
    ];
    prop_oneof![
        prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        ".{0,30}",
        "[0-9a-f]{60,70}"
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..6)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// What a backend's answers consist of.
const ANSWERED: [&str; 9] = [
    "chain",
    "blockcount",
    "headercount",
    "bestblockhash",
    "blockhash",
    "block",
    "transactions",
    "amount",
    "script",
];

/// What may stand there: a block and its hash, damaged or not, and whatever else.
fn answered() -> impl Strategy<Value = Value> {
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    let hex = bitcoin::consensus::encode::serialize_hex(&genesis);
    let tx = bitcoin::consensus::encode::serialize_hex(&genesis.txdata);
    let hash = genesis.block_hash().to_string();
    let whole = prop::sample::select(vec![hex.clone(), tx.clone(), hash]);
    let damaged = (prop::sample::select(vec![hex, tx]), any::<prop::sample::Index>(), "[0-9a-f]");
    let damaged = damaged.prop_map(|(text, at, digit)| {
        let at = at.index(text.len());
        text.char_indices()
            .map(|(i, c)| if i == at { digit.clone() } else { c.to_string() })
            .collect()
    });
    let text = prop_oneof![whole, damaged, "[0-9a-f]{0,80}"];
    prop_oneof![
        4 => text.clone().prop_map(Value::String),
        1 => prop::collection::vec(text.prop_map(Value::String), 0..3).prop_map(Value::from),
        1 => any::<u32>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn arbitrary_bytes_on_the_socket_are_objects_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        crate::fuzzing::socket(&bytes);
    }

    #[test]
    fn arbitrary_text_parses_as_amounts_feerates_addresses_or_errs(text in word()) {
        let _ = (primitives::Msat::parse(&text), Asked::parse(&text), crate::rooms::peers::address::parse_address(&text, 1));
        let _ = (crate::sys::json::from_hex(&text), text.parse::<primitives::ShortChannelId>(), text.parse::<primitives::Network>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn arbitrary_requests_parse_or_give_a_writable_error(request in value(), filter in value()) {
        let raw = serde_json::value::to_raw_value(&request).unwrap();
        let text = match check_form(&raw) {
            Ok((id, request, _)) => reply_text(&id, &Ok(request.params), Some(&filter)),
            Err((id, error)) => reply_text(&id, &Err(error), None),
        };
        prop_assert!(text.ends_with("\n\n"));
        prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
    }

    #[test]
    fn arbitrary_words_of_a_plugin_are_a_manifest_or_an_error(manifest in value(), methods in value(), options in value()) {
        let _ = Manifest::parse(&manifest, &Default::default());
        let _ = Manifest::parse(&json!({"rpcmethods": methods, "options": options}), &Default::default());
        let _ = Manifest::parse(&json!({"rpcmethods": [methods], "options": [options]}), &Default::default());
    }

    #[test]
    fn arbitrary_estimates_of_the_backend_are_feerates_or_an_error(estimates in value(), a in any::<u64>(), b in any::<u64>()) {
        let _ = Estimates::parse(&estimates);
        let made = Estimates::parse(&json!({"feerate_floor": a, "feerates": [{"blocks": b, "feerate": a}, {"blocks": 2, "feerate": b}]}));
        if let Ok(estimates) = made {
            prop_assert!(estimates.within(6).is_some_and(|rate| rate >= estimates.floor));
        }
    }

    #[test]
    fn arbitrary_answers_of_the_backend_are_read_or_refused(
        answer in value(),
        members in prop::collection::vec((prop::sample::select(ANSWERED.to_vec()), answered()), 0..6),
    ) {
        crate::fuzzing::backend(&answer);
        let named = members.into_iter().map(|(name, value)| (name.to_owned(), value));
        crate::fuzzing::backend(&Value::Object(named.collect()));
    }
}

// clap takes a fraction of a millisecond for each.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn arbitrary_command_lines_are_a_configuration_or_an_error(words in prop::collection::vec(word(), 0..5)) {
        let args: Vec<String> = words.iter().map(|w| format!("--{w}")).chain(["--lightning-dir=/nonexistent".to_owned()]).collect();
        if let Ok(config) = Config::load(&args, None) {
            let _ = config.check_all_known(&Default::default());
        }
    }
}

// Each case is tried on every method, twice in three forms: 24,000 readings by each method, more
// than two million in all. A case costs milliseconds: that is all there is time for.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn arbitrary_parameters_fit_a_method_or_are_refused(params in prop::collection::vec(value(), 0..8), named in value()) {
        for given in [Value::from(params), named] {
            crate::fuzzing::parameters(&given);
        }
    }
}

#[test]
fn arbitrary_config_files_parse_or_give_an_error_with_its_line() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(100_000));
    let line = prop_oneof![
        "[a-z-]{1,12}(=[ -~]{0,12})?",
        Just("network=regtest".to_owned()),
        Just("include /nonexistent".to_owned()),
        Just("fee-base=12".to_owned()),
        "\\PC{0,12}",
    ];
    let text = prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n").into_bytes());
    let bytes = prop_oneof![4 => text, 1 => prop::collection::vec(any::<u8>(), 0..40)];
    runner
        .run(&bytes, |bytes| {
            crate::fuzzing::configuration(&[], bytes);
            Ok(())
        })
        .unwrap();
}
