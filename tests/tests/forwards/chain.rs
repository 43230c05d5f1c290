//! A forward whose outgoing channel goes to the chain: what the chain says goes back over the
//! channel that lives.

use serde_json::{Value, json};
use tests::{Line, Node, hop, wait_for};

const HALF: u64 = 100_000_000;
const FEE: u64 = 1001;

struct Held {
    line: Line,
    invoice: (Value, Value),
}

impl Held {
    /// Half a payment waits at the payee. The delta leaves time for a transaction on chain to be
    /// buried.
    fn new() -> Self {
        let line = Line::with([&[], &["--cltv-delta=30"], &[]]);
        // With anchors whoever claims an HTLC on chain pays for that with other coins.
        line.l3.fund(&line.bitcoind);
        line.wait_ready();
        let invoice = line.invoice(2 * HALF, "held");
        let held = Self { line, invoice };
        let [first, second] = held.line.scids();
        let route = json!([
            hop(&held.line.l2, &first, HALF + FEE, 42),
            hop(&held.line.l3, &second, HALF, 12),
        ]);
        held.send(&route, 1);
        wait_for("the part to be held", || {
            let channel = held.line.l3.channel(&held.line.second);
            (channel["htlcs"][0]["state"] == "RCVD_ADD_ACK_REVOCATION").then_some(())
        });
        held
    }
    fn send(&self, route: &Value, part: u64) {
        let (hash, secret) = &self.invoice;
        self.line.l1.rpc(
            "sendpay",
            &json!({"route": route, "payment_hash": hash, "payment_secret": secret, "partid": part, "groupid": 1,
                "amount_msat": 2 * HALF}),
        );
    }
    /// A channel from the payer to the payee, for the other half.
    fn another_way(&self) -> Value {
        let line = &self.line;
        line.l1.connect(&line.l3);
        let direct = line.l1.open(&line.l3, 1_000_000);
        line.bitcoind.mine(1);
        line.l1.wait_normal(&direct);
        line.l3.wait_normal(&direct);
        line.wait_ready();
        line.l1.channel(&direct)["short_channel_id"].clone()
    }
    fn part(&self, part: u64) -> Value {
        let list = self.line.l1.rpc("listsendpays", &json!({"payment_hash": self.invoice.0}));
        let list = list["payments"].as_array().unwrap().clone();
        list.into_iter().find(|p| p["partid"] == part).unwrap()
    }
    /// One of them gives the second channel up.
    fn close(&self, who: &Node) {
        let line = &self.line;
        let id = json!({"id": line.second, "unilateraltimeout": 1});
        assert_eq!(who.rpc("close", &id)["type"], "unilateral");
        wait_for("a commitment in the mempool", || {
            let pool = line.bitcoind.rpc("getrawmempool", &json!([]));
            (!pool.as_array()?.is_empty()).then_some(())
        });
        line.bitcoind.mine(1);
        line.l2.sync(&line.bitcoind);
        line.l2.wait_state(&line.second, "ONCHAIN");
    }
    /// Blocks, one by one, until the first part ends.
    fn mine_until_over(&self, nodes: &[&Node]) -> Value {
        for _ in 0..40 {
            self.line.bitcoind.mine(1);
            nodes.iter().for_each(|node| node.sync(&self.line.bitcoind));
            let part = self.part(1);
            if part["status"] != "pending" {
                return part;
            }
        }
        panic!("40 blocks ended nothing: {}", self.line.l2.channel(&self.line.second));
    }
    fn assert_first_lives(&self) {
        let line = &self.line;
        for node in [&line.l1, &line.l2] {
            let channel = node.channel(&line.first);
            assert_eq!(channel["state"], "CHANNELD_NORMAL", "{channel}");
            node.settled_balance(&line.first);
        }
    }
}

#[test]
fn preimage_on_chain_is_fulfilled_upstream() {
    for by_payee in [true, false] {
        let held = Held::new();
        let line = &held.line;
        let scid = held.another_way();
        held.close(if by_payee { &line.l3 } else { &line.l2 });
        line.l3.sync(&line.bitcoind);
        line.l3.wait_state(&line.second, "ONCHAIN");
        held.send(&json!([hop(&line.l3, &scid, HALF, 12)]), 2);
        wait_for("the other half", || (held.part(2)["status"] == "complete").then_some(()));
        let part = held.mine_until_over(&[&line.l1, &line.l2, &line.l3]);
        assert_eq!(part["status"], "complete", "{part}");
        assert_eq!(part["payment_preimage"], held.part(2)["payment_preimage"]);
        held.assert_first_lives();
        let forward = line.l2.rpc("listforwards", &json!({}))["forwards"][0].clone();
        assert_eq!((&forward["status"], &forward["fee_msat"]), (&json!("settled"), &json!(FEE)));
        assert_eq!(line.l2.settled_balance(&line.first), HALF + FEE);
    }
}

/// Half of it came another way, so that the payee may show the preimage of the half that is on
/// chain: and shows it in the mempool.
#[test]
fn preimage_in_the_mempool_is_fulfilled_upstream_at_once() {
    for by_payee in [true, false] {
        let held = Held::new();
        let line = &held.line;
        let scid = held.another_way();
        held.close(if by_payee { &line.l3 } else { &line.l2 });
        line.l3.sync(&line.bitcoind);
        line.l3.wait_state(&line.second, "ONCHAIN");
        let height = line.bitcoind.height();
        held.send(&json!([hop(&line.l3, &scid, HALF, 12)]), 2);
        wait_for("the half that is on chain", || {
            (held.part(1)["status"] == "complete").then_some(())
        });
        assert_eq!(line.bitcoind.height(), height, "no block was needed");
        held.assert_first_lives();
        assert_eq!(line.l2.settled_balance(&line.first), HALF + FEE);
    }
}

#[test]
fn htlc_timeout_fails_back_before_upstream_force_closes() {
    let held = Held::new();
    let line = &held.line;
    line.l3.kill();
    held.close(&line.l2);
    // The forwarder dies in between.
    line.l2.kill();
    line.l2.start_again();
    line.l2.sync(&line.bitcoind);
    let to = json!({"id": line.l2.id, "host": "127.0.0.1", "port": line.l2.port});
    wait_for("a connection", || line.l1.call("connect", &to).ok());
    line.l1.wait_normal(&line.first);
    let part = held.mine_until_over(&[&line.l1, &line.l2]);
    assert_eq!(part["status"], "failed");
    let wait = json!({"payment_hash": held.invoice.0, "partid": 1, "groupid": 1});
    let failed = line.l1.refused("waitsendpay", &wait);
    assert_eq!((failed.code, failed.data["erring_index"].as_u64()), (204, Some(1)));
    assert_eq!(failed.data["failcodename"], "WIRE_PERMANENT_CHANNEL_FAILURE");
    held.assert_first_lives();
    let forward = line.l2.rpc("listforwards", &json!({}))["forwards"][0].clone();
    assert_eq!((&forward["status"], &forward["failcode"]), (&json!("failed"), &json!(0x4008)));
    assert_eq!(line.l2.settled_balance(&line.first), 0);
}
