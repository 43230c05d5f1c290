//! Onions of a caller's own making.

use super::last_forward;
use serde_json::{Value, json};
use tests::{Bitcoind, Line, Node, RpcError, Scratch};

/// BOLT 4's payloads, with their lengths, as createonion takes them.
fn payload(records: &[(u8, Vec<u8>)]) -> String {
    let mut body = Vec::new();
    for (kind, value) in records {
        body.push(*kind);
        body.push(u8::try_from(value.len()).unwrap());
        body.extend(value);
    }
    body.insert(0, u8::try_from(body.len()).unwrap());
    body.iter().map(|b| format!("{b:02x}")).collect()
}
fn short(n: u64) -> Vec<u8> {
    n.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect()
}
fn unhex(v: &Value) -> Vec<u8> {
    let text = v.as_str().unwrap().as_bytes();
    text.chunks(2)
        .map(|p| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap())
        .collect()
}
fn scid_bytes(v: &Value) -> Vec<u8> {
    let parts: Vec<u64> = v.as_str().unwrap().split('x').map(|p| p.parse().unwrap()).collect();
    (parts[0] << 40 | parts[1] << 16 | parts[2]).to_be_bytes().to_vec()
}

/// `createonion` for two hops that pay the invoice; only `last_node` can open the inner layer.
fn create_onion(
    line: &Line,
    height: u64,
    (hash, secret): &(Value, Value),
    msat: u64,
    last_node: &str,
) -> Value {
    let [_, second] = line.scids();
    let total = [unhex(secret), short(msat)].concat();
    let forward = [(2, short(msat)), (4, short(height + 13)), (6, scid_bytes(&second))];
    let last = [(2, short(msat)), (4, short(height + 13)), (8, total)];
    line.l1.rpc(
        "createonion",
        &json!({"hops": [
            {"pubkey": line.l2.id, "payload": payload(&forward)},
            {"pubkey": last_node, "payload": payload(&last)},
        ], "assocdata": hash}),
    )
}

/// `sendonion`, with the shared secrets and the first hop's channel if it shall name them; and how
/// the payment ended.
fn send_onion(
    line: &Line,
    made: &Value,
    hash: &Value,
    with_secrets: bool,
    channel: bool,
) -> Result<Value, RpcError> {
    let mut first_hop = json!({"id": line.l2.id, "amount_msat": 1_000_011, "delay": 18});
    if channel {
        first_hop["channel"] = line.scids()[0].clone();
    }
    let mut params = json!({"onion": made["onion"], "first_hop": first_hop, "payment_hash": hash});
    if with_secrets {
        params["shared_secrets"] = made["shared_secrets"].clone();
    }
    let sent = line.l1.rpc("sendonion", &params);
    assert_eq!((&sent["status"], &sent["payment_hash"]), (&json!("pending"), hash));
    line.l1.call("waitsendpay", &json!({"payment_hash": hash, "timeout": 40}))
}

/// Onions of `createonion`; the errors of those that fail are read with the shared secrets.
#[test]
fn sendonion_pays_and_its_errors_are_read_with_shared_secrets() {
    let line = Line::new();
    let height = line.bitcoind.height();
    let onion = |invoice: &(Value, Value), msat: u64, last: &str| {
        create_onion(&line, height, invoice, msat, last)
    };
    let send = |made: &Value, hash: &Value, with_secrets: bool, channel: bool| {
        send_onion(&line, made, hash, with_secrets, channel)
    };
    let invoice = line.invoice(1_000_000, "by hand");
    let made = onion(&invoice, 1_000_000, &line.l3.id);
    assert_eq!(made["onion"].as_str().unwrap().len(), 2 * 1366);
    assert_eq!(send(&made, &invoice.0, false, false).unwrap()["status"], "complete");
    // The payee does not know it: read with the secrets, and as it came without.
    let unknown = (json!("77".repeat(32)), json!("88".repeat(32)));
    let made = onion(&unknown, 1_000_000, &line.l3.id);
    let failed = send(&made, &unknown.0, true, true).unwrap_err();
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (203, Some(2)));
    assert_eq!(failed.data["failcodename"], "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS");
    let failed = send(&made, &unknown.0, false, true).unwrap_err();
    assert_eq!(failed.code, 202);
    let reply = failed.data["onionreply"].as_str().unwrap();
    assert_eq!(reply.len(), 2 * (32 + 2 + 2 + 256));
    let listed = line.l1.rpc("listsendpays", &json!({"payment_hash": unknown.0}));
    assert_eq!(listed["payments"][0]["erroronion"], reply);
    // A layer that the payee cannot open: the middle hears of it, and tells the payer.
    let made = onion(&unknown, 1_000_000, &line.l1.id);
    let failed = send(&made, &unknown.0, true, true).unwrap_err();
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (204, Some(1)));
    assert_eq!(failed.data["failcodename"], "WIRE_INVALID_ONION_HMAC");
    let forward = last_forward(&line.l2);
    assert_eq!((&forward["status"], &forward["failcode"]), (&json!("failed"), &json!(0xc005)));
    // One that nobody can open, at the first hop.
    let garbled = json!({"onion": format!("00{}", "11".repeat(1365)), "shared_secrets": made["shared_secrets"]});
    let failed = send(&garbled, &unknown.0, true, true).unwrap_err();
    assert_eq!(failed.data["failcodename"], "WIRE_INVALID_ONION_KEY");
    assert_eq!(line.l1.refused("sendonion", &json!(["00", {}, "77".repeat(32)])).code, -32602);
}

/// Hops of CLN's own example: node id and payload.
const EXAMPLE_HOPS: [(&str, &str); 3] = [
    (
        "033845802d25b4e074ccfd7cd8b339a41dc75bf9978a034800444b51d42b07799a",
        "11020203e804019706080000760000010000",
    ),
    (
        "03cecbfdc68544cc596223b68ce0710c9e5d2c9cb317ee07822d95079acc703d31",
        "11020203e804019706080000780000010000",
    ),
    (
        "02287bfac8b99b35477ebe9334eede1e32b189e24644eb701c079614712331cec0",
        "2b020203e80401910822d7768066e4322f8e4603fac079d72d39757655eae27e46057913bd038bd670cd03e8",
    ),
];

#[test]
fn createonion_makes_the_example_of_cln_and_checks_its_hops() {
    let scratch = Scratch::new();
    let bitcoind = Bitcoind::start(&scratch.path().join("bitcoind"));
    let node = Node::start(&scratch.path().join("node"), &bitcoind, &[]);
    let hops: Vec<Value> =
        EXAMPLE_HOPS.iter().map(|(k, p)| json!({"pubkey": k, "payload": p})).collect();
    let params = json!({"hops": hops, "session_key": "41".repeat(32),
        "assocdata": "c604fdfab4dc32f8efe4d02afb2a8e1284df9bb3853ad9a91324c1c40dfc94da"});
    let made = node.rpc("createonion", &params);
    assert!(made["onion"].as_str().unwrap().starts_with(
        "0002eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619770b0fbc0a1cf999ec960bfbbbba542e05864d0d24ddf4b26b87e2e7eab0e16ada7007461339d5e9df65df74ab5c6cabda0cd4f1186bd07fc5648b2d3cd34deb26384d37838de93e3a4dbb0b6b19f40c8c63ffc17174abe4e2bcb15a9c11a1fa93d526957b3f58bfda08ca932"
    ));
    for (params, what) in [
        (json!({"hops": [], "assocdata": ""}), "no hops"),
        (json!({"hops": [{"pubkey": node.id, "payload": "0501"}], "assocdata": ""}), "its length"),
        (json!({"hops": hops, "assocdata": "", "onion_size": 100}), "bytes"),
    ] {
        let refused = node.refused("createonion", &params);
        assert!(refused.message.contains(what), "{}", refused.message);
    }
}
