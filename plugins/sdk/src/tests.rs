use crate::*;
use primitives::Msat;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::{BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A stream that gives what it has in pieces of this size.
struct Pieces(Vec<u8>, usize);
impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.len().min(self.1).min(into.len());
        into[..n].copy_from_slice(&self.0[..n]);
        self.0.drain(..n);
        Ok(n)
    }
}

fn objects(text: &str, piece: usize) -> Result<Vec<String>, FrameError> {
    let reader = BufReader::with_capacity(16, Pieces(text.as_bytes().to_vec(), piece));
    let mut objects = Objects::new(reader, 100);
    let mut found = Vec::new();
    while let Some(object) = objects.next_object()? {
        found.push(String::from_utf8(object).unwrap());
    }
    Ok(found)
}

#[test]
fn objects_are_found_however_they_are_cut() {
    let all = [r#"{"a":"}{\"]"}"#, r#"{"b":[{},{"c":"\\"}]}"#, "{}"];
    for piece in 1..20 {
        for between in ["", "\n\n", " \t"] {
            assert_eq!(objects(&all.join(between), piece).unwrap(), all, "{piece} {between:?}");
        }
    }
    assert!(matches!(objects("[1]", 9), Err(FrameError::NotAnObject(b'['))));
    assert!(matches!(objects("{\"a\":", 9), Err(FrameError::CutOff)));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
    assert!(matches!(objects(&long, 9), Err(FrameError::TooLong(100, _))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn any_bytes_are_objects_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut objects = Objects::new(bytes.as_slice(), 30);
        while let Ok(Some(object)) = objects.next_object() {
            prop_assert_eq!((object[0], object.len() <= 30), (b'{', true));
        }
    }

    #[test]
    fn any_params_are_read_or_refused(text in "[\\[{][\\[\\]{}\",:a-c0-9. ]{0,20}[\\]}]") {
        let Ok(raw) = RawValue::from_string(text) else { return Ok(()) };
        if let Ok(params) = Params::read(&raw, &["a", "b|c"]) {
            let _ = params.optional("a", &kind::MSAT);
            let _ = params.optional("a", &kind::MILLIONTHS);
            let _ = params.required("b", &kind::LABEL);
        }
    }
}

fn params(text: &str) -> Result<Params, RpcError> {
    let raw = RawValue::from_string(text.to_owned()).unwrap();
    Params::read(&raw, &["bolt11|invstring", "amount_msat", "label", "maxfeepercent"])
}

#[test]
fn parameters_are_read_by_position_and_by_name() {
    for text in [
        r#"["lnbc1", "5sat", 7, 0.5]"#,
        r#"{"label":"7","maxfeepercent":"0.5","amount_msat":5000,"invstring":"lnbc1"}"#,
    ] {
        let p = params(text).unwrap();
        assert_eq!(p.required("bolt11", &kind::STRING).unwrap(), "lnbc1");
        assert_eq!(p.optional("amount_msat", &kind::MSAT).unwrap(), Some(Msat(5000)));
        assert_eq!(p.optional("label", &kind::LABEL).unwrap().as_deref(), Some("7"));
        assert_eq!(p.optional("maxfeepercent", &kind::MILLIONTHS).unwrap(), Some(500_000));
    }
    let p = params(r#"["lnbc1", null]"#).unwrap();
    assert_eq!(p.optional("amount_msat", &kind::MSAT).unwrap(), None);
    // 2^53 + 1, which no float can hold.
    let p = params(r#"{"amount_msat":9007199254740993}"#).unwrap();
    assert_eq!(p.optional("amount_msat", &kind::MSAT).unwrap(), Some(Msat(9_007_199_254_740_993)));
}

#[test]
fn wrong_parameters_are_refused_in_clns_words() {
    let why = |text: &str| params(text).unwrap_err().message;
    assert_eq!(why("[1,2,3,4,5]"), "too many parameters: got 5, expected 4");
    assert!(why(r#"{"amount":1}"#).starts_with("unknown parameter: amount, this may be caused by"));
    assert_eq!(why(r#"{"bolt11":"a","invstring":"b"}"#), "duplicate parameter: invstring");
    let p = params(r#"{"amount_msat":"much"}"#).unwrap();
    let bad = p.optional("amount_msat", &kind::MSAT).unwrap_err();
    assert_eq!(bad.code, -32602);
    assert_eq!(
        bad.message,
        "amount_msat: should be a millisatoshi amount: invalid token (see logs for details)"
    );
    let missing = p.required("bolt11", &kind::STRING).unwrap_err();
    assert_eq!(missing.message, "missing required parameter: bolt11");
}

#[test]
fn filter_keeps_what_it_names() {
    let result = json!({ "pays": [{ "a": 1, "b": 2 }, { "b": 3 }], "more": { "c": 4 } });
    let kept = |template: Value| filter(result.clone(), &template);
    assert_eq!(
        kept(json!({ "pays": [{ "b": true }] })).unwrap(),
        json!({ "pays": [{ "b": 2 }, { "b": 3 }] })
    );
    assert_eq!(kept(json!({ "more": true })).unwrap(), json!({ "more": { "c": 4 } }));
    assert_eq!(kept(json!({ "more": [{ "c": true }] })).unwrap(), json!({ "more": [] }));
    for bad in [json!({ "pays": 1 }), json!([]), json!({ "none": [] }), json!(false)] {
        assert_eq!(kept(bad).unwrap_err().code, -32602);
    }
}

/// State of the plugin under test: a gate for its slow method, and what it heard.
struct State {
    gate: Mutex<mpsc::Receiver<()>>,
    opener: mpsc::Sender<()>,
    heard: Mutex<Vec<String>>,
    greeting: String,
}

static SPEC: Spec<State> = Spec {
    confine: |_| unreachable!("a test's process enters no box"),
    name: "test",
    dynamic: true,
    options: &[
        OptionSpec {
            name: "greeting",
            kind: OptionKind::String,
            default: Some("hello"),
            description: "What to say",
            developer: false,
        },
        OptionSpec {
            name: "dev-loud",
            kind: OptionKind::Flag,
            default: None,
            description: "Say it loud",
            developer: true,
        },
    ],
    methods: &[
        Method { name: "greet", usage: "[name]", handler: greet },
        Method { name: "slow", usage: "", handler: slow },
        Method { name: "open", usage: "", handler: open },
        Method { name: "heard", usage: "", handler: heard },
        Method { name: "ask", usage: "", handler: ask },
    ],
    hooks: &[Hook { name: "peer_connected", handler: |_| Answer::empty() }],
    subscriptions: &[Subscription { topic: "block_added", handler: hear }],
    notifications: &["greeted"],
    start: |init| {
        if init.network != "regtest" {
            return Err("only regtest".to_owned());
        }
        let (opener, gate) = mpsc::channel();
        let greeting = init.options.string("greeting").unwrap_or_default().to_owned();
        Ok(State { gate: Mutex::new(gate), opener, heard: Mutex::default(), greeting })
    },
};

fn greet(call: &Call<'_, State>) -> Result<Answer, RpcError> {
    let name = call.named(&["name"])?.optional("name", &kind::STRING)?;
    call.message("info", "greeting");
    let text = format!("{} {}", call.state.greeting, name.as_deref().unwrap_or("you"));
    let parts = vec![
        AnswerPart::Text("{\"said\":".to_owned()),
        AnswerPart::Slice(format!("..\"{text}\"..").into_bytes(), 2..text.len() + 4),
        AnswerPart::Text("}".to_owned()),
    ];
    Ok(Answer::parts(parts))
}
fn slow(call: &Call<'_, State>) -> Result<Answer, RpcError> {
    call.state.gate.lock().unwrap().recv().unwrap();
    Ok(Answer::empty())
}
fn open(call: &Call<'_, State>) -> Result<Answer, RpcError> {
    call.state.opener.send(()).unwrap();
    Ok(Answer::empty())
}
fn hear(call: &Call<'_, State>) {
    call.state.heard.lock().unwrap().push(call.params.get().to_owned());
}
fn heard(call: &Call<'_, State>) -> Result<Answer, RpcError> {
    Answer::json(&json!({ "heard": *call.state.heard.lock().unwrap() }))
}
fn ask(call: &Call<'_, State>) -> Result<Answer, RpcError> {
    Ok(Answer::raw(&call.rpc("getinfo", &json!({}))?))
}

/// lightningd's end of the pipe.
struct Lightningd {
    to: UnixStream,
    from: Objects<BufReader<UnixStream>>,
    done: std::thread::JoinHandle<Result<(), FrameError>>,
}

impl Lightningd {
    fn new(developer: bool) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let from = Objects::new(BufReader::new(ours.try_clone().unwrap()), 10_000);
        let done = std::thread::spawn(move || {
            serve(&SPEC, theirs.try_clone().unwrap(), theirs, developer)
        });
        Self { to: ours, from, done }
    }
    fn say(&mut self, text: &str) {
        self.to.write_all(text.as_bytes()).unwrap();
    }
    fn hear(&mut self) -> Value {
        serde_json::from_slice(&self.from.next_object().unwrap().unwrap()).unwrap()
    }
    /// Says it, and hears the answer.
    fn ask(&mut self, text: &str) -> Value {
        self.say(text);
        self.hear()
    }
    fn init(&mut self, dir: &str, network: &str) -> Value {
        self.ask(&format!(
            r#"{{"jsonrpc":"2.0","id":"i","method":"init","params":{{"options":{{}},"configuration":
               {{"lightning-dir":"{dir}","rpc-file":"lightning-rpc","network":"{network}","startup":true}}}}}}"#
        ))
    }
    fn end(self) {
        self.to.shutdown(std::net::Shutdown::Both).unwrap();
        self.done.join().unwrap().unwrap();
    }
}

#[test]
fn manifest_is_the_table() {
    let mut lightningd = Lightningd::new(false);
    let manifest = lightningd
        .ask(r#"{"jsonrpc":"2.0","id":"a/cln:getmanifest#1","method":"getmanifest","params":{}}"#);
    assert_eq!(manifest["id"], "a/cln:getmanifest#1");
    let result = &manifest["result"];
    assert_eq!(
        result["options"],
        json!([{ "name": "greeting", "type": "string", "description": "What to say", "default": "hello" }])
    );
    assert_eq!(result["rpcmethods"][0], json!({ "name": "greet", "usage": "[name]" }));
    assert_eq!(result["subscriptions"], json!(["block_added"]));
    assert_eq!(result["hooks"], json!([{ "name": "peer_connected" }]));
    assert_eq!(result["notifications"], json!([{ "method": "greeted" }]));
    lightningd.end();

    let mut lightningd = Lightningd::new(true);
    let manifest =
        lightningd.ask(r#"{"jsonrpc":"2.0","id":"1","method":"getmanifest","params":{}}"#);
    assert_eq!(manifest["result"]["options"][1]["name"], "dev-loud");
    lightningd.end();
}

#[test]
fn plugin_that_will_not_start_says_why() {
    let mut lightningd = Lightningd::new(false);
    assert_eq!(
        lightningd.init("/nowhere", "signet")["result"],
        json!({ "disable": "only regtest" })
    );
    let too_early = lightningd.ask(r#"{"jsonrpc":"2.0","id":"1","method":"greet","params":[]}"#);
    assert_eq!(too_early["error"]["code"], -3);
    lightningd.end();
}

#[test]
fn methods_answer_under_the_id_they_were_asked_with() {
    let mut lightningd = Lightningd::new(false);
    assert_eq!(lightningd.init("/nowhere", "regtest")["result"], json!({}));
    for id in [r#""x/cln:greet#3""#, "17", r#""\u0041\"""#] {
        lightningd
            .say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"greet","params":["Bob"]}}"#));
        let message = lightningd.from.next_object().unwrap().unwrap();
        assert!(String::from_utf8(message).unwrap().contains(&format!("\"id\":{id}")));
        let answer = lightningd.from.next_object().unwrap().unwrap();
        let expected = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"said":"hello Bob"}}}}"#);
        assert_eq!(String::from_utf8(answer).unwrap(), expected);
    }
    for (method, params, code) in
        [("none", "[]", -32601), ("greet", "[1,2]", -32602), ("greet", "[1]", -32602)]
    {
        let refused = lightningd
            .ask(&format!(r#"{{"jsonrpc":"2.0","id":"1","method":"{method}","params":{params}}}"#));
        assert_eq!(refused["error"]["code"], code, "{refused}");
    }
    assert_eq!(lightningd.ask(r#"{"jsonrpc":"2.0","nothing":1}"#)["error"]["code"], -32600);
    lightningd.end();
}

#[test]
fn slow_method_delays_nobody_and_notifications_keep_order() {
    let mut lightningd = Lightningd::new(false);
    lightningd.init("/nowhere", "regtest");
    // More than run at the same time.
    for i in 0..300 {
        lightningd
            .say(&format!(r#"{{"jsonrpc":"2.0","id":"slow{i}","method":"slow","params":[]}}"#));
    }
    lightningd.say(r#"{"jsonrpc":"2.0","method":"block_added","params":{"height":7}}"#);
    let heard = lightningd
        .ask(r#"{"jsonrpc":"2.0","id":"h","method":"heard","params":[],"filter":{"heard":true}}"#);
    assert_eq!(
        (heard["id"].as_str(), &heard["result"]),
        (Some("h"), &json!({ "heard": ["{\"height\":7}"] }))
    );
    for _ in 0..300 {
        lightningd.say(r#"{"jsonrpc":"2.0","id":"open","method":"open","params":[]}"#);
    }
    let mut answered: Vec<_> = (0..600).map(|_| lightningd.hear()["id"].to_string()).collect();
    answered.sort();
    answered.dedup();
    assert_eq!(answered.len(), 301);
    lightningd.end();
}

#[test]
fn plugin_calls_lightningd_because_of_a_call() {
    let dir = std::env::temp_dir().join(format!("sdk-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let listener = UnixListener::bind(dir.join("lightning-rpc")).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        // One connection serves all calls that come one after the other.
        let (stream, _) = listener.accept().unwrap();
        let mut objects = Objects::new(BufReader::new(stream.try_clone().unwrap()), 10_000);
        let mut to = stream;
        while let Ok(Some(object)) = objects.next_object() {
            let request: Value = serde_json::from_slice(&object).unwrap();
            seen.lock().unwrap().push(request.clone());
            let id = &request["id"];
            let said = match seen.lock().unwrap().len() {
                1 => format!(
                    r#"{{"jsonrpc":"2.0","method":"message","params":{{}}}}{{"id":{id},"result":{{"n":18446744073709551615}}}}"#
                ),
                _ => format!(r#"{{"id":{id},"error":{{"code":205,"message":"no","data":[1]}}}}"#),
            };
            to.write_all(said.as_bytes()).unwrap();
        }
    });

    let mut lightningd = Lightningd::new(false);
    lightningd.init(dir.to_str().unwrap(), "regtest");
    let answer = lightningd.ask(r#"{"jsonrpc":"2.0","id":"cli:ask#1","method":"ask","params":[]}"#);
    assert_eq!(answer["result"], json!({ "n": u64::MAX }));
    let refused = lightningd.ask(r#"{"jsonrpc":"2.0","id":"q\"","method":"ask","params":[]}"#);
    assert_eq!(refused["error"], json!({ "code": 205, "message": "no", "data": [1] }));
    let ids: Vec<_> = asked.lock().unwrap().iter().map(|r| r["id"].clone()).collect();
    assert_eq!(ids, ["cli:ask#1/test:getinfo#0", "weird-id/test:getinfo#1"]);
    lightningd.end();
    std::fs::remove_dir_all(dir).unwrap();
}

/// lightningd answers the last call first, and then hangs up.
#[test]
fn calls_of_all_threads_share_the_connection_that_was_given() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let rpc = Rpc::over(ours, "test").unwrap();
    assert_eq!(rpc.calls(), sandbox::Calls::Given);
    let lightningd = std::thread::spawn(move || {
        let mut requests = Objects::new(BufReader::new(theirs), 1000);
        let mut next = || -> Value {
            serde_json::from_slice(&requests.next_object().unwrap().unwrap()).unwrap()
        };
        let asked: Vec<Value> = (0..50).map(|_| next()).collect();
        let mut answers = String::new();
        for request in asked.iter().rev() {
            answers += &json!({"jsonrpc": "2.0", "method": "message", "params": {}}).to_string();
            let result = &request["params"]["n"];
            answers +=
                &json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string();
        }
        let to = requests.get_mut().get_mut();
        // However it is cut.
        answers.as_bytes().chunks(7).for_each(|piece| to.write_all(piece).unwrap());
        requests.next_object().unwrap();
    });
    let call = |n: u64| -> Result<u64, CallError> {
        let result = rpc.call("double", &json!({ "n": n }))?;
        Ok(result.get().parse().expect("lightningd answers with a number"))
    };
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..50).map(|n| (n, scope.spawn(move || call(n)))).collect();
        calls.into_iter().for_each(|(n, call)| assert_eq!(call.join().unwrap(), Ok(n)));
    });
    // This one is not answered, and those after it are not even heard.
    for n in [50, 51] {
        assert!(matches!(call(n), Err(CallError::Transport(_))), "{n}");
    }
    lightningd.join().unwrap();
}
