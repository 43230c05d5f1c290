//! The parts that need no bitcoind, and bitcoinds that a script plays.

use crate::amount::{Dust, sat};
use crate::bitcoind::{Auth, Bitcoind, Config, basic, read_answer};
use crate::http::{Connection, HttpError, Response, read_response};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn bitcoin_amounts_are_read_as_text() {
    for (text, value) in [
        ("0", Some(0)),
        ("0.00000000", Some(0)),
        ("0.00001000", Some(1000)),
        ("1e-5", Some(1000)),
        ("1.5E+1", Some(1_500_000_000)),
        ("20999999.97690000", Some(2_099_999_997_690_000)),
        ("92233720368.54775807", Some(i64::MAX as u64)),
        ("0.000000001", None),
        ("-0.1", None),
        ("1e999999999999999999999", None),
        ("1e30", None),
        ("184467440737.09551616", None),
        ("\"1\"", None),
        ("", None),
        (".5", None),
        ("1.2.3", None),
    ] {
        assert_eq!(sat(text, Dust::Refuse), value, "{text}");
    }
    assert_eq!(sat("0.000000001", Dust::Up), Some(1));
    assert_eq!(sat("0.00001000000001", Dust::Up), Some(1001));
    assert_eq!(sat("1e-300", Dust::Up), Some(1));
}

#[test]
fn passwords_are_written_as_rfc_4648_wants() {
    for (text, encoded) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
    {
        assert_eq!(basic(text), encoded);
    }
}

fn response(text: &str) -> Result<Response, String> {
    read_response(&mut text.as_bytes()).map_err(|e| e.to_string())
}

#[test]
fn responses_are_read_with_a_length_in_chunks_and_to_the_end() {
    let ok = |body: &str, keep_alive| Response { status: 200, body: body.into(), keep_alive };
    let with =
        |headers: &str, body: &str| response(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}"));
    assert_eq!(with("Content-Length: 5\r\n", "hello and more").unwrap(), ok("hello", true));
    assert_eq!(
        with("content-length:5\r\nConnection: close\r\n", "hello").unwrap(),
        ok("hello", false)
    );
    assert_eq!(with("", "to the end").unwrap(), ok("to the end", false));
    let chunks = "3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: t\r\n\r\n";
    assert_eq!(with("Transfer-Encoding: chunked\r\n", chunks).unwrap(), ok("hello", true));

    for (headers, body) in [
        ("Content-Length: 99999999999\r\n", ""),
        ("Content-Length: -1\r\n", ""),
        ("Content-Length: 5\r\n", "hell"),
        ("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n"),
        ("Transfer-Encoding: chunked\r\n", "3\r\nhello"),
        ("no colon\r\n", ""),
    ] {
        assert!(with(headers, body).is_err(), "{headers} {body}");
    }
    assert!(with(&format!("X: {}\r\n", "x".repeat(20_000)), "").unwrap_err().contains("too long"));
    for bad in ["", "HTTP/1.1", "SSH-2.0\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
        assert!(response(bad).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn any_bytes_are_a_response_or_an_error(bytes in vec(any::<u8>(), 0..60)) {
        let _ = read_response(&mut bytes.as_slice());
    }

    #[test]
    fn any_chunks_are_a_body_or_an_error(text in vec(0usize..8, 0..30)) {
        let words = ["0", "3", "ff", "\r\n", "\n", "abc", ";", "\r"];
        let body: String = text.iter().map(|i| words[*i]).collect();
        let _ = response(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
    }

    #[test]
    fn any_body_is_an_answer_or_an_error(text in vec(0usize..12, 0..14)) {
        let words = ["{", "}", "\"result\"", ":", ",", "\"error\"", "null", "1", "{\"code\":-5}", "\"x\"", "[", "]"];
        let body: String = text.iter().map(|i| words[*i]).collect();
        if let Ok(Ok(found)) = read_answer(Response { status: 200, body: body.clone().into(), keep_alive: true }) {
            prop_assert!(body.contains(found.json()));
        }
    }

    #[test]
    fn any_text_is_an_amount_or_none(text in "[-+0-9.eE]{0,14}") {
        let _ = (sat(&text, Dust::Up), sat(&text, Dust::Refuse));
    }
}

/// A bitcoind that answers each request with the next of these, over as many connections as it
/// takes, and reports what it was asked. A response that is empty hangs up.
fn scripted(responses: Vec<String>) -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (report, asked) = mpsc::channel();
    std::thread::spawn(move || {
        let mut responses = responses.into_iter();
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let mut from = BufReader::new(stream.try_clone().unwrap());
            while let Some(request) = read_request(&mut from) {
                report.send(request).unwrap();
                let Some(response) = responses.next() else { return };
                stream.write_all(response.as_bytes()).unwrap();
                if response.is_empty() || response.contains("close") {
                    break;
                }
            }
        }
    });
    (port, asked)
}

fn read_request(from: &mut impl BufRead) -> Option<String> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8(body).unwrap())
}

fn http(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn bitcoind(port: u16) -> Bitcoind {
    Bitcoind::new(Config {
        host: "127.0.0.1".to_owned(),
        port,
        auth: Auth::Password("me:secret".to_owned()),
        timeout: Duration::from_secs(20),
        retry: Duration::from_secs(20),
        fake_fees: true,
    })
    .unwrap()
}

#[test]
fn connection_to_bitcoind_serves_many_questions() {
    let answer = http(200, r#"{"result":7,"error":null,"id":"bcli"}"#);
    let (port, asked) = scripted(vec![answer; 3]);
    let bitcoind = bitcoind(port);
    for _ in 0..3 {
        assert_eq!(bitcoind.must("getblockcount", &json!([])).unwrap().json(), "7");
    }
    let request = asked.recv().unwrap();
    assert!(request.contains("Authorization: Basic bWU6c2VjcmV0\r\n"));
    assert!(
        request.ends_with(r#"{"jsonrpc":"1.0","id":"bcli","method":"getblockcount","params":[]}"#)
    );
}

#[test]
fn bcli_waits_while_bitcoind_starts_is_busy_or_hangs_up() {
    let warming =
        r#"{"result":null,"error":{"code":-28,"message":"Verifying blocks…"},"id":"bcli"}"#;
    let (port, asked) = scripted(vec![
        http(500, warming),
        http(503, "Work queue depth exceeded"),
        String::new(),
        http(200, "<html>"),
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"result\":null}".to_owned(),
    ]);
    let found = bitcoind(port).must("gettxout", &json!(["00", 1])).unwrap();
    assert_eq!(found.json(), "");
    assert_eq!(asked.try_iter().count(), 5);
}

#[test]
fn refusal_is_an_answer_and_a_wrong_password_is_none() {
    let refused =
        http(500, r#"{"result":null,"error":{"code":-8,"message":"Block height out of range"}}"#);
    let (port, _asked) = scripted(vec![refused.clone(), refused]);
    let bitcoind_ = bitcoind(port);
    let refusal = bitcoind_.call("getblockhash", &json!([9])).unwrap().err().unwrap();
    assert_eq!((refusal.code, refusal.message.as_str()), (-8, "Block height out of range"));
    let error = bitcoind_.must("getblockhash", &json!([9])).err().unwrap();
    assert_eq!(error.message, "bitcoind refuses getblockhash: Block height out of range (code -8)");

    let (port, asked) = scripted(vec![http(401, "")]);
    let error = bitcoind(port).must("getblockcount", &json!([])).err().unwrap();
    assert!(error.message.contains("bitcoin-rpcpassword"), "{error}");
    assert_eq!(asked.try_iter().count(), 1);
}

#[test]
fn bcli_gives_up_on_a_missing_bitcoind_and_says_where() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut config = bitcoind(port).config.clone();
    config.retry = Duration::ZERO;
    let error = Bitcoind::new(config).unwrap().must("getblockcount", &json!([])).err().unwrap();
    assert_eq!(error.code, 500);
    assert!(error.message.contains(&format!("127.0.0.1:{port}")), "{error}");
}

#[test]
fn silent_bitcoind_is_waited_for_no_longer_than_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut connection = Connection::open("127.0.0.1", port, Duration::from_millis(50)).unwrap();
    let silent = connection.post("", b"{}").unwrap_err();
    assert!(matches!(silent, HttpError::Io(_)), "{silent}");
    drop(listener);
}
