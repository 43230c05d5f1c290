//! Options: that each is taken, does what it says, and can be read back.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use tests::{Bitcoind, Node, Options, Pair, Scratch, free_port, wait_for};

/// The developer's options and CLN's, each away from its default, and what `listconfigs` shows of
/// it.
fn unusual(dir: &str) -> Vec<(&'static str, String, Value)> {
    let int = |name, value: i64| (name, value.to_string(), json!({ "value_int": value }));
    let msat = |name, value: i64| (name, value.to_string(), json!({ "value_msat": value }));
    let flag = |name| (name, String::new(), json!({ "set": true }));
    let bool = |name, value: bool| (name, value.to_string(), json!({ "value_bool": value }));
    let text = |name, value: &str| (name, value.to_owned(), json!({ "value_str": value }));
    vec![
        flag("dev-fast-gossip"),
        int("dev-bitcoind-poll", 1),
        flag("dev-no-reconnect"),
        flag("dev-fail-on-subdaemon-fail"),
        text("dev-save-plugin-io", &format!("{dir}/plugin-io")),
        int("dev-crash-after", 100_000),
        int("autoconnect-seeker-peers", 0),
        flag("disable-dns"),
        text("log-prefix", "unusual "),
        int("rescan", 3),
        int("watchtime-blocks", 7),
        int("cltv-delta", 8),
        int("cltv-final", 9),
        bool("ignore-fee-limits", false),
        bool("allow-deprecated-apis", true),
        int("commit-time", 20),
        int("max-concurrent-htlcs", 11),
        msat("htlc-minimum-msat", 1200),
        msat("htlc-maximum-msat", 500_000_000),
        int("funding-confirms", 2),
        msat("max-dust-htlc-exposure-msat", 600_000),
        int("fee-base", 13),
        int("fee-per-satoshi", 14),
        int("min-capacity-sat", 150_000),
        msat("min-emergency-msat", 4_000_000_000),
        int("max-locktime-blocks", 1000),
        int("bitcoin-retry-timeout", 61),
    ]
}

fn command_line(options: &[(&str, String, Value)]) -> Vec<String> {
    let one = |(name, value, _): &(&str, String, Value)| match value.as_str() {
        "" => format!("--{name}"),
        value => format!("--{name}={value}"),
    };
    options.iter().map(one).collect()
}

fn listconfigs_shows(bob: &Node, options: &[(&str, String, Value)]) {
    for (name, _, shown) in options {
        let config = bob.rpc("listconfigs", &json!([name]))["configs"][name].clone();
        for (member, value) in shown.as_object().unwrap() {
            assert_eq!(&config[member], value, "--{name}: {config}");
        }
        assert_eq!(config["source"], "cmdline", "--{name}");
    }
}

/// `min-capacity-sat` and `funding-confirms`. Returns the id of a channel that is ready.
fn opens_within_limits(pair: &Pair) -> String {
    let bob = &pair.bob;
    // min-capacity-sat.
    pair.alice.connect(bob);
    let small = pair.alice.refused("fundchannel", &json!({"id": bob.id, "amount": 149_000}));
    assert!(small.message.contains("150000"), "{small:?}");
    // funding-confirms: one block is not enough.
    let id = pair.alice.open(bob, 1_000_000);
    pair.bitcoind.mine(1);
    bob.sync(&pair.bitcoind);
    let channel = bob.channel(&id);
    assert_eq!(channel["state"], "CHANNELD_AWAITING_LOCKIN");
    assert_eq!(
        channel["status"][0],
        "CHANNELD_AWAITING_LOCKIN:Funding needs 1 more confirmations to be ready."
    );
    pair.bitcoind.mine(1);
    pair.alice.wait_normal(&id);
    bob.wait_normal(&id);
    pair.alice.sync(&pair.bitcoind);
    bob.sync(&pair.bitcoind);
    id
}

fn channel_shows_the_limits(pair: &Pair, id: &str) {
    let channel = pair.bob.channel(id);
    for (member, value) in [
        ("fee_base_msat", json!(13)),
        ("fee_proportional_millionths", json!(14)),
        ("minimum_htlc_out_msat", json!(1200)),
        ("maximum_htlc_out_msat", json!(500_000_000)),
        ("minimum_htlc_in_msat", json!(1200)),
        ("max_accepted_htlcs", json!(11)),
        // The delay of the peer's own money.
        ("their_to_self_delay", json!(7)),
        ("ignore_fee_limits", json!(false)),
    ] {
        assert_eq!(channel[member], value, "{member}: {channel}");
    }
    assert_eq!(channel["updates"]["local"]["cltv_expiry_delta"], 8);
    let of_alice = pair.alice.channel(id);
    assert_eq!(of_alice["our_to_self_delay"], 7, "{of_alice}");
}

/// `cltv-final` and `htlc-minimum-msat`.
fn pays_within_limits(pair: &Pair, id: &str) {
    let bob = &pair.bob;
    // cltv-final.
    let invoice = bob.invoice(100_000_000, "some coins");
    assert_eq!(bob.rpc("decode", &json!([invoice]))["min_final_cltv_expiry"], 9);
    pair.alice.pay(&invoice);
    // htlc-minimum-msat binds who pays bob.
    let send = |from: &Node, to: &Node, msat: u64, label: &str| {
        let params = json!({"amount_msat": msat, "label": label, "description": label});
        let invoice = to.rpc("invoice", &params);
        let scid = from.channel(id)["short_channel_id"].clone();
        let route = json!([{"id": to.id, "channel": scid, "amount_msat": msat, "delay": 12}]);
        let sent = json!({"route": route, "payment_hash": invoice["payment_hash"],
            "payment_secret": invoice["payment_secret"]});
        from.call("sendpay", &sent).and_then(|_| {
            from.call("waitsendpay", &json!({"payment_hash": invoice["payment_hash"]}))
        })
    };
    assert!(send(&pair.alice, bob, 1199, "below").is_err());
    assert!(send(&pair.alice, bob, 1200, "not below").is_ok());
}

/// `min-emergency-msat`: bob has less than that and the amount.
fn withdraw_keeps_the_emergency_reserve(pair: &Pair) {
    let bob = &pair.bob;
    bob.fund(&pair.bitcoind);
    let all = bob.rpc("listfunds", &json!({}))["outputs"][0]["amount_msat"].as_u64().unwrap();
    let sat = (all - 3_999_000_000) / 1000;
    let to = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk";
    let refused = bob.refused("withdraw", &json!({"destination": to, "satoshi": sat}));
    assert!([301, 313].contains(&refused.code), "{refused:?}");
}

/// `dev-save-plugin-io`: the plugin's input and output. The folder of `dir` is removed.
fn plugin_io_is_saved(dir: &str) {
    let saved = |end: &str| {
        let files = std::fs::read_dir(dir).unwrap().flatten();
        let mut files = files.filter(|f| {
            let name = f.file_name().to_string_lossy().into_owned();
            name.starts_with("bcli-") && name.ends_with(end)
        });
        std::fs::read_to_string(files.next().expect("bcli's file").path()).unwrap()
    };
    assert!(saved(".in").contains("\"method\":\"getmanifest\""));
    assert!(saved(".out").contains("getrawblockbyheight"));
    std::fs::remove_dir_all(std::path::Path::new(dir).parent().unwrap()).unwrap();
}

#[test]
fn limits_set_by_options_are_enforced_and_shown() {
    let scratch = Scratch::new();
    let options = unusual(&scratch.path().display().to_string());
    drop(scratch);
    let line = command_line(&options);
    let given: Vec<&str> = line.iter().map(String::as_str).collect();
    // Bob has the limits, alice meets them.
    let pair = Pair::with(&[], &given);
    let bob = &pair.bob;
    listconfigs_shows(bob, &options);
    let id = opens_within_limits(&pair);
    channel_shows_the_limits(&pair, &id);
    pays_within_limits(&pair, &id);
    withdraw_keeps_the_emergency_reserve(&pair);
    // log-prefix.
    assert!(bob.log().lines().all(|line| line.starts_with("unusual ")));
    // allow-deprecated-apis: both addresses, as once.
    assert!(bob.rpc("newaddr", &json!({})).get("p2tr").is_some());
    plugin_io_is_saved(&unusual_value(&options, "dev-save-plugin-io"));
    bob.stop();
}

fn unusual_value(options: &[(&str, String, Value)], name: &str) -> String {
    options.iter().find(|(n, ..)| *n == name).unwrap().1.clone()
}

#[test]
fn opening_is_refused_for_a_too_high_dust_limit() {
    let pair = Pair::with(&[], &["--max-dust-htlc-exposure-msat=400sat"]);
    pair.alice.connect(&pair.bob);
    let params = json!({"id": pair.bob.id, "amount": 1_000_000});
    let refused = pair.alice.refused("fundchannel", &params);
    let says = "dust_limit_satoshis 546 is above 400, the most that we let be trimmed";
    assert!(refused.message.contains(says), "{refused:?}");
}

#[test]
fn options_without_effect_yet_are_accepted_and_logged() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let node = Node::start(
        &scratch.path().join("node"),
        &bitcoind,
        &[
            "--announce-addr=192.0.2.1:9735",
            "--database-upgrade=true",
            "--i-promise-to-fix-broken-api-user=x",
            "--autoconnect-seeker-peers=0",
        ],
    );
    for name in [
        "dev-fast-gossip",
        "announce-addr",
        "database-upgrade",
        "i-promise-to-fix-broken-api-user",
        "autoconnect-seeker-peers",
    ] {
        let says = format!("--{name} is accepted, and has no effect");
        let line = node.log().lines().find(|l| l.contains(&says)).map(str::to_owned);
        assert!(line.unwrap_or_default().contains(" DEBUG "), "--{name}");
    }
    node.stop();
}

#[test]
fn dev_no_reconnect_keeps_the_node_from_dialling() {
    let pair = Pair::with(&["--dev-no-reconnect"], &[]);
    let id = pair.open(1_000_000);
    pair.bob.stop();
    wait_for("alice to notice", || {
        (pair.alice.channel(&id)["peer_connected"] == false).then_some(())
    });
    // Longer than her first attempt would take.
    pair.bob.start_again();
    pair.bitcoind.mine(2);
    pair.alice.sync(&pair.bitcoind);
    pair.bob.sync(&pair.bitcoind);
    assert_eq!(pair.alice.channel(&id)["peer_connected"], false);
    assert!(!pair.alice.logged("Connection establishment"));
    pair.alice.connect(&pair.bob);
    pair.alice.wait_normal(&id);
}

#[test]
fn developer_node_ends_when_its_time_is_up() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let mut options = Options::usual(&scratch.path().join("node"), &bitcoind, free_port());
    options.args.push("--dev-crash-after=1".into());
    assert!(!options.run_to_end().0.success());
}

#[test]
fn rescan_option_sets_how_far_the_node_looks_back() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    bitcoind.mine(40);
    let first = |name: &str, rescan: &str| {
        let node = Node::start(&scratch.path().join(name), &bitcoind, &[rescan]);
        let log = node.log();
        let line = log.lines().find(|l| l.contains(" chain: block ")).map(str::to_owned);
        node.stop();
        line.unwrap_or_default()
    };
    assert!(first("relative", "--rescan=3").contains("block 38"));
    assert!(first("absolute", "--rescan=-7").contains("block 7"));
}

#[test]
fn rescan_of_an_existing_wallet_finds_its_utxos_again() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let before = Node::start(&scratch.path().join("before"), &bitcoind, &[]);
    let address = before.rpc("newaddr", &json!({}))["p2tr"].as_str().unwrap().to_owned();
    let secret = std::fs::read(before.network_dir().join("hsm_secret")).unwrap();
    // One coin stays, one comes and goes, and its change comes.
    bitcoind.mine_to(2, &address);
    bitcoind.mine(100);
    before.sync(&bitcoind);
    before.rpc(
        "withdraw",
        &json!({"destination": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "satoshi": 100_000}),
    );
    bitcoind.mine(110);
    before.sync(&bitcoind);
    let coins = |node: &Node| -> BTreeSet<String> {
        let funds = node.rpc("listfunds", &json!({}));
        let outputs = funds["outputs"].as_array().unwrap().iter();
        outputs.map(|o| format!("{}:{} {}", o["txid"], o["output"], o["amount_msat"])).collect()
    };
    let all = coins(&before);
    assert_eq!(all.len(), 2);
    before.stop();
    // What is left after a loss: the secret.
    let dir = scratch.path().join("after");
    std::fs::create_dir_all(dir.join("regtest")).unwrap();
    std::fs::write(dir.join("regtest/hsm_secret"), secret).unwrap();
    let mut node = Node::start(&dir, &bitcoind, &["--rescan=1"]);
    node.sync(&bitcoind);
    assert_eq!(coins(&node), BTreeSet::new());
    node.stop();
    // Twice: what is known is known once.
    for _ in 0..2 {
        node.start_again_with(&["--rescan=230"]);
        node.wait_log("were looked at once more");
        bitcoind.mine(1);
        node.sync(&bitcoind);
        assert_eq!(coins(&node), all);
        assert!(node.rpc("getinfo", &json!({}))["blockheight"] == bitcoind.height());
        node.stop();
    }
}

/// Clients of CLN read defaults in `listconfigs`; an option of a plugin may stand before its value.
#[test]
fn listconfigs_shows_defaults_and_the_word_behind_an_option() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    let words = ["--bitcoin-retry-timeout", "61", "--fee-base", "5"];
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &words);
    let configs = node.rpc("listconfigs", &json!({}))["configs"].clone();
    for (name, shown) in [
        ("fee-base", json!({"value_int": 5, "source": "cmdline"})),
        ("fee-per-satoshi", json!({"value_int": 10, "source": "default"})),
        ("cltv-final", json!({"value_int": 10, "source": "default"})),
        ("always-use-proxy", json!({"value_bool": false, "source": "default"})),
        ("max-dust-htlc-exposure-msat", json!({"value_msat": 50_000_000, "source": "default"})),
        ("offline", json!({"set": false, "source": "default"})),
        ("plugin", json!({"values_str": [], "sources": []})),
    ] {
        assert_eq!(configs[name], shown, "{name}");
    }
    let timeout = &configs["bitcoin-retry-timeout"];
    assert_eq!((&timeout["value_int"], &timeout["source"]), (&json!(61), &json!("cmdline")));
    assert_eq!(configs["alias"]["value_str"], node.rpc("getinfo", &json!({}))["alias"]);
    node.stop();
}

/// What is wrong with an option ends the start, with what was given and what is allowed.
#[test]
fn start_refuses_mistyped_option_and_number_out_of_range() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(scratch.path());
    for (word, says) in [
        ("--fee-bse=1", "--fee-bse: unrecognized option: did you mean --fee-base?"),
        (
            "--bitcoin-rpcusr=hunter2",
            "--bitcoin-rpcusr: unrecognized option: did you mean --bitcoin-rpcuser?",
        ),
        (
            "--max-concurrent-htlcs=484",
            "--max-concurrent-htlcs: '484' is out of range: 1 to 483 are allowed",
        ),
    ] {
        let dir = scratch.path().join("node");
        let mut options = Options::usual(&dir, &bitcoind, free_port());
        options.args.push(word.into());
        let (status, said) = options.run_to_end();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(says) && !said.contains("hunter2"), "{said}");
    }
}
