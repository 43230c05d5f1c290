//! An invoice, and a lightningd that a script plays, in front of the plugin.

use crate::PLUGIN;
use invoice::{Currency, Description, Terms};
use primitives::*;
use sdk::Objects;
use secp256k1::{Message, SECP256K1};
use serde_json::{Value, json};
use std::io::{BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const PREIMAGE: [u8; 32] = [7; 32];

pub(super) fn payee() -> SecretKey {
    SecretKey::from_slice(&[3; 32]).unwrap()
}
pub(super) fn payee_id() -> String {
    payee().public_key(SECP256K1).to_string()
}
pub(super) fn hash() -> String {
    Preimage(PREIMAGE).hash().to_string()
}

/// An invoice of the payee's, changed as the test wants it.
pub(super) fn bolt11(change: impl FnOnce(&mut Terms)) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let features = Features::compulsory(&[feature::VAR_ONION_OPTIN, feature::PAYMENT_SECRET]);
    let mut terms = Terms {
        currency: Currency::Regtest,
        amount: Some(Msat(1000)),
        timestamp: now,
        payment_hash: Preimage(PREIMAGE).hash(),
        payment_secret: PaymentSecret([9; 32]),
        description: Description::Text("coffee".into()),
        expiry: Some(3600),
        min_final_cltv: Some(CltvDelta(10)),
        fallbacks: vec![],
        routes: vec![],
        features: features.union(&Features::optional(&[feature::BASIC_MPP])),
        metadata: Some(vec![1, 2]),
        unknown: vec![],
    };
    change(&mut terms);
    let unsigned = terms.unsigned(None).unwrap();
    let message = Message::from_digest(unsigned.hash());
    let (id, compact) = SECP256K1.sign_ecdsa_recoverable(&message, &payee()).serialize_compact();
    let mut signature = [0; 65];
    signature[..64].copy_from_slice(&compact);
    signature[64] = id.to_i32() as u8;
    unsigned.with_signature(&signature)
}

/// What becomes of a part.
#[derive(Clone)]
pub(super) enum Fate {
    /// The payee takes it.
    Paid,
    /// It comes back.
    Failed(i64, Value),
    /// It is not even offered.
    Refused(i64, &'static str),
    /// It ends only when the test says so.
    Held,
}

/// The lightningd in front of which the plugin runs: channels, earlier payments, and what happens
/// to each part in turn.
#[derive(Default)]
pub(super) struct World {
    pub(super) channels: Vec<Value>,
    pub(super) earlier: Vec<Value>,
    pub(super) own_id: Option<String>,
    pub(super) fates: Vec<Fate>,
    pub(super) sent: Vec<Value>,
    pub(super) listed: Vec<Value>,
    /// So many calls of waitsendpay are not answered: their connections end.
    pub(super) hangs_up: usize,
    /// Parts that were held until now come to this.
    pub(super) released: Option<Fate>,
}

#[derive(Clone)]
pub(super) struct Lightningd(Arc<(Mutex<World>, Condvar)>);

impl Lightningd {
    fn answer(&self, method: &str, params: &Value) -> Result<Value, Value> {
        let mut world = self.0.0.lock().unwrap();
        match method {
            "getinfo" => {
                let id = world.own_id.clone().unwrap_or_else(|| "02".repeat(33));
                Ok(json!({ "id": id, "blockheight": 100 }))
            }
            "listsendpays" => {
                world.listed.push(params.clone());
                Ok(json!({ "payments": world.earlier }))
            }
            "listpeerchannels" => {
                assert_eq!(params["id"], payee_id());
                Ok(json!({ "channels": world.channels }))
            }
            "sendpay" => {
                world.sent.push(params.clone());
                match world.fates.get(world.sent.len() - 1).cloned() {
                    Some(Fate::Refused(code, message)) => {
                        Err(json!({ "code": code, "message": message }))
                    }
                    _ => Ok(json!({ "status": "pending" })),
                }
            }
            "waitsendpay" => {
                let same = |sent: &Value| sent.get("partid") == params.get("partid");
                let nth = world.sent.iter().rposition(same).unwrap();
                assert_eq!(params["groupid"], world.sent[nth]["groupid"]);
                loop {
                    let fate = match (&world.fates[nth], &world.released) {
                        (Fate::Held, Some(released)) => released.clone(),
                        (fate, _) => fate.clone(),
                    };
                    match fate {
                        Fate::Paid => {
                            return Ok(
                                json!({ "payment_preimage": "07".repeat(32), "status": "complete" }),
                            );
                        }
                        Fate::Failed(code, data) => {
                            return Err(
                                json!({ "code": code, "message": "WIRE_SOMETHING", "data": data }),
                            );
                        }
                        Fate::Refused(..) => panic!("it was not offered"),
                        Fate::Held => world = self.0.1.wait(world).unwrap(),
                    }
                }
            }
            other => {
                Err(json!({ "code": -32601, "message": format!("Unknown command '{other}'") }))
            }
        }
    }

    fn hangs_up(&self) -> bool {
        let mut world = self.0.0.lock().unwrap();
        let hangs_up = world.hangs_up > 0;
        world.hangs_up -= usize::from(hangs_up);
        hangs_up
    }

    fn serve(&self, mut stream: UnixStream) {
        let mut objects = Objects::new(BufReader::new(stream.try_clone().unwrap()), 100_000);
        while let Ok(Some(object)) = objects.next_object() {
            let request: Value = serde_json::from_slice(&object).unwrap();
            if request["method"] == "waitsendpay" && self.hangs_up() {
                return;
            }
            let answer = self.answer(request["method"].as_str().unwrap(), &request["params"]);
            let id = &request["id"];
            let text = match answer {
                Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
                Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
            };
            if write!(stream, "{text}\n\n").is_err() {
                return;
            }
        }
    }
}

/// A plugin at work.
pub(super) struct Node {
    pub(super) lightningd: Lightningd,
    pub(super) to: UnixStream,
    pub(super) from: Objects<BufReader<UnixStream>>,
    pub(super) dir: PathBuf,
}

impl Node {
    pub(super) fn new(name: &str, world: World) -> Self {
        let dir = std::env::temp_dir().join(format!("pay-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let lightningd = Lightningd(Arc::new((Mutex::new(world), Condvar::new())));
        let listener = UnixListener::bind(dir.join("rpc")).unwrap();
        let server = lightningd.clone();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        std::thread::spawn(move || sdk::serve(&PLUGIN, theirs.try_clone().unwrap(), theirs, false));
        let from = Objects::new(BufReader::new(ours.try_clone().unwrap()), 1_000_000);
        let mut node = Self { lightningd, to: ours, from, dir };
        let configuration = json!({ "lightning-dir": node.dir, "rpc-file": "rpc", "network": "regtest", "startup": true });
        let init = node.ask("init", json!({ "options": {}, "configuration": configuration }));
        assert_eq!(init["result"], json!({}));
        node
    }
    pub(super) fn say(&mut self, method: &str, params: Value) {
        write!(
            self.to,
            "{}",
            json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params })
        )
        .unwrap();
    }
    /// The next answer, past all notifications.
    pub(super) fn hear(&mut self) -> Value {
        loop {
            let object = self.from.next_object().unwrap().unwrap();
            let said: Value = serde_json::from_slice(&object).unwrap();
            if said.get("id").is_some() {
                return said;
            }
        }
    }
    pub(super) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.say(method, params);
        self.hear()
    }
    pub(super) fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.lightningd.0.0.lock().unwrap()
    }
    pub(super) fn until(&self, condition: impl Fn(&World) -> bool) {
        let begun = std::time::Instant::now();
        while !condition(&self.world()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it did not come to pass");
            std::thread::yield_now();
        }
    }
    pub(super) fn release(&self, fate: Fate) {
        self.world().released = Some(fate);
        self.lightningd.0.1.notify_all();
    }
}
impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(super) fn channel(scid: &str, spendable: u64) -> Value {
    json!({
        "peer_id": payee_id(), "peer_connected": true, "state": "CHANNELD_NORMAL", "short_channel_id": scid,
        "direction": 1, "spendable_msat": spendable, "minimum_htlc_out_msat": 1, "maximum_htlc_out_msat": 1_000_000
    })
}
pub(super) fn world(channels: &[(&str, u64)], fates: &[Fate]) -> World {
    World {
        channels: channels.iter().map(|(scid, spendable)| channel(scid, *spendable)).collect(),
        fates: fates.to_vec(),
        ..World::default()
    }
}
pub(super) fn temporary() -> Fate {
    Fate::Failed(
        204,
        json!({ "erring_index": 0, "failcode": 0x1007, "failcodename": "WIRE_TEMPORARY_CHANNEL_FAILURE" }),
    )
}
