//! The socket of JSON-RPC: who is connected, what they wrote, what waits for them.

use crate::sys::fatal::Fatal;
use crate::sys::form::{Caller, ConnId, RpcError, RpcRequest, check_form, code, reply_text};
use crate::sys::objects::Objects;
use crate::sys::tokens::{LISTENER, RPC_BASE};
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One request may be this long.
const MAX_REQUEST: usize = 4 * 1024 * 1024;
/// One of a method that may carry a whole file or transaction.
const MAX_LARGE_REQUEST: usize = 64 * 1024 * 1024;
/// Such methods.
const LARGE: [&str; 4] = ["datastore", "signpsbt", "sendpsbt", "fundchannel_complete"];
/// Replies that a client does not read: beyond this we stop reading it.
const MAX_UNREAD: usize = 4 * 1024 * 1024;
/// Commands of one client in one round, so that none starves the others.
const MAX_PER_ROUND: usize = 100;
/// What is read of one client in one round.
const MAX_READ: usize = 1024 * 1024;
/// Long answers in one round for a plugin of ours, whose many calls share one connection, and which
/// always reads.
const MAX_LONG_FOR_OURS: usize = 64;
/// Clients at once.
const MAX_CLIENTS: usize = 1000;

struct Client {
    stream: UnixStream,
    input: Objects,
    waiting: VecDeque<Box<RawValue>>,
    out: Vec<u8>,
    written: usize,
    notify: bool,
    ear: Ear,
    /// Requests of its that were passed on and not answered yet.
    unanswered: usize,
    /// Long answers that it gets in one round.
    max_long: usize,
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            input: Objects::default(),
            waiting: VecDeque::new(),
            out: vec![],
            written: 0,
            notify: false,
            ear: Ear::Open,
            unanswered: 0,
            max_long: 1,
        }
    }
}

/// Do we listen to a client?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ear {
    /// To every request.
    Open,
    /// It wrote nonsense: what follows is thrown away, and when all that it asked before is
    /// answered we hang up.
    Shut,
    /// It hung up.
    Off,
}

/// What came of a client's socket.
enum Filled {
    /// All there is for now.
    AllForNow,
    /// There may be more: the others come first.
    More,
    /// The client hung up.
    HungUp,
}

/// How long is the answer to a request?
#[derive(PartialEq, Eq)]
enum Reply {
    /// Some lines.
    Short,
    /// As long as a table: only one of those is made before it is seen whether the client reads
    /// what it gets.
    Long,
}

/// Every client.
#[derive(Default)]
pub struct RpcServer {
    listener: Option<UnixListener>,
    clients: BTreeMap<ConnId, Client>,
    /// Connections of our own plugins, which are heard once the socket is open.
    given: Vec<UnixStream>,
    next: ConnId,
    /// Clients that are gone, and what they wait for with them.
    gone: Vec<ConnId>,
}

fn token_of(conn: ConnId) -> Token {
    Token(RPC_BASE + usize::try_from(conn).expect("connection numbers fit the machine's words"))
}
fn conn_of(token: Token) -> ConnId {
    (token.0 - RPC_BASE) as ConnId
}

impl RpcServer {
    /// Binds the socket. A socket that somebody answers is another lightningd's.
    pub fn open(&mut self, path: &Path, mode: u32, registry: &Registry) -> Result<(), Fatal> {
        let shown = path.display();
        let failed =
            |what: &str, e: std::io::Error| Fatal(format!("rpc-file {shown}: {what}: {e}"));
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Fatal(format!(
                "rpc-file {shown} is in use: is another lightningd running?"
            )));
        }
        crate::sys::files::remove_socket(path)
            .map_err(|e| failed("a stale socket cannot be removed", e))?;
        // Closed to others from the first moment on, also between bind and chmod.
        let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(before);
        let mut listener = bound.map_err(|e| failed("cannot be bound", e))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(|e| failed("mode", e))?;
        registry
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(|e| failed("poll", e))?;
        self.listener = Some(listener);
        for stream in std::mem::take(&mut self.given) {
            self.insert(stream, registry, MAX_LONG_FOR_OURS)
                .map_err(|e| failed("a plugin's connection", e))?;
        }
        Ok(())
    }

    /// A connection for a plugin of ours: its end. What the plugin asks before the socket is open
    /// waits until then.
    pub fn connect_plugin(&mut self, registry: &Registry) -> std::io::Result<OwnedFd> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours);
        if self.listener.is_some() {
            self.insert(ours, registry, MAX_LONG_FOR_OURS)?;
        } else {
            self.given.push(ours);
        }
        Ok(theirs.into())
    }

    fn insert(
        &mut self,
        mut stream: UnixStream,
        registry: &Registry,
        max_long: usize,
    ) -> std::io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, token_of(self.next + 1), interest)?;
        self.next += 1;
        self.clients.insert(self.next, Client { max_long, ..Client::new(stream) });
        Ok(())
    }

    /// Takes in who knocks.
    pub fn accept(&mut self, registry: &Registry) {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((stream, _)) => {
                    if self.clients.len() >= MAX_CLIENTS {
                        log::warn!("more than {MAX_CLIENTS} RPC clients: one was turned away");
                        continue;
                    }
                    if let Err(e) = self.insert(stream, registry, 1) {
                        log::error!("poll for an RPC client: {e}");
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) => {
                    log::warn!("accepting an RPC client: {e}");
                    return;
                }
            }
        }
    }

    /// Reads requests. True: there is more for the next round.
    pub fn read(&mut self, token: Token, asked: &mut Vec<(Caller, RpcRequest)>) -> bool {
        let conn = conn_of(token);
        let Some(client) = self.clients.get_mut(&conn) else { return false };
        if client.out.len() - client.written > MAX_UNREAD {
            return false;
        }
        // What it asked before comes first, and stays the least of what it may have us keep.
        let (filled, broken) = if client.waiting.is_empty() {
            let filled = fill(client);
            let (objects, broken) = client.input.take();
            client.waiting.extend(objects);
            (filled, broken)
        } else {
            (Filled::More, None)
        };
        let (mut taken, mut long) = (0, 0);
        while taken < MAX_PER_ROUND && client.ear != Ear::Shut {
            let Some(raw) = client.waiting.pop_front() else { break };
            taken += 1;
            long += usize::from(request(conn, client, &raw, asked) == Reply::Long);
            if long >= client.max_long {
                break;
            }
        }
        if client.waiting.is_empty() {
            if let Some(e) = broken {
                complain(client, &format!("Invalid token in json input: {e}"));
            } else if client.input.len() > MAX_REQUEST
                && client.input.len() > longest(&client.input)
            {
                let most = longest(&client.input);
                complain(client, &format!("a request of more than {most} bytes"));
            }
        }
        let mut more = !client.waiting.is_empty() || matches!(filled, Filled::More);
        if matches!(filled, Filled::HungUp) && !more {
            // It hung up; what it asked for goes on, the answers go nowhere.
            client.ear = Ear::Off;
            if client.out.len() == client.written && taken == 0 {
                self.remove(conn);
                return false;
            }
            // What it asked last is answered in this round, or never.
            more = taken > 0;
        }
        self.flush(token);
        more
    }

    fn remove(&mut self, conn: ConnId) {
        if self.clients.remove(&conn).is_some() {
            self.gone.push(conn);
        }
    }

    /// Clients that are gone since this was asked last.
    pub fn take_gone(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.gone)
    }

    /// Writes what goes.
    pub fn flush(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&conn_of(token)) else { return };
        while client.written < client.out.len() {
            match client.stream.write(client.out.get(client.written..).unwrap_or_default()) {
                Ok(n) => client.written += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // What is written goes, so that a client that reads slowly for ever costs no
                    // more than what waits.
                    if client.written > client.out.len() / 2 {
                        client.out.drain(..client.written);
                        client.written = 0;
                    }
                    return;
                }
                Err(_) => {
                    self.remove(conn_of(token));
                    return;
                }
            }
        }
        client.out.clear();
        client.out.shrink_to(65536);
        client.written = 0;
        if client.ear == Ear::Shut && client.unanswered == 0 {
            hang_up(client);
            self.remove(conn_of(token));
        }
    }

    /// Answers a caller, if it is still there.
    pub fn reply(&mut self, caller: &Caller, result: &Result<Value, RpcError>) {
        let Caller { conn, id, filter, .. } = caller;
        if let Some(client) = self.clients.get_mut(conn) {
            client.out.extend_from_slice(reply_text(id, result, filter.as_ref()).as_bytes());
            client.unanswered = client.unanswered.saturating_sub(1);
            self.flush(token_of(*conn));
        }
    }

    /// Tells a caller how its command is doing, if it wants to know.
    pub fn notify(&mut self, caller: &Caller, level: &str, text: &str) {
        let Caller { conn, id, notify: true, .. } = caller else { return };
        if let Some(client) = self.clients.get_mut(conn) {
            let id: Value = serde_json::from_str(id).unwrap_or(Value::Null);
            let note = json!({"jsonrpc": "2.0", "method": "message", "params": {"id": id, "level": level, "message": text}});
            client.out.extend_from_slice(format!("{note}\n\n").as_bytes());
            self.flush(token_of(*conn));
        }
    }

    /// The answer to `stop`, written when nothing else is left. A client that does not read it is
    /// not waited for.
    pub fn last_word(&mut self, caller: &Caller, result: &Value) {
        self.reply(caller, &Ok(json!({"result": result})));
    }
}

/// Reads what there is. Of a client that is no longer listened to it is thrown away.
fn fill(client: &mut Client) -> Filled {
    let mut chunk = [0; 65536];
    let mut read = 0;
    loop {
        if client.ear == Ear::Off {
            return Filled::HungUp;
        }
        if client.input.len() > MAX_REQUEST && client.input.len() > longest(&client.input) {
            return Filled::AllForNow;
        }
        if read >= MAX_READ {
            return Filled::More;
        }
        match client.stream.read(&mut chunk) {
            Ok(0) => return Filled::HungUp,
            Ok(n) => {
                read += n;
                if client.ear == Ear::Open {
                    client.input.push(chunk.get(..n).unwrap_or_default());
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Filled::AllForNow,
            Err(_) => return Filled::HungUp,
        }
    }
}

/// How long the request may be that has begun to come.
fn longest(input: &Objects) -> usize {
    let beginning = input.waiting().get(..METHOD_WITHIN).unwrap_or(input.waiting());
    let names = |method: &str| {
        let name = format!("\"{method}\"");
        beginning.windows(name.len()).any(|bytes| bytes == name.as_bytes())
    };
    if LARGE.iter().any(|method| names(method)) { MAX_LARGE_REQUEST } else { MAX_REQUEST }
}
/// A client that wants to send much names the method before its parameters.
const METHOD_WITHIN: usize = 1024;

/// Says what was wrong, and listens no more.
fn complain(client: &mut Client, text: &str) {
    let error = RpcError::new(code::INVALID_REQUEST, text);
    shut(client, &reply_text("null", &Err(error), None));
}

fn shut(client: &mut Client, words: &str) {
    if client.ear == Ear::Open {
        client.out.extend_from_slice(words.as_bytes());
        client.ear = Ear::Shut;
    }
    client.input = Objects::default();
    client.waiting.clear();
}

/// The client reads to the end of what we said, and then that there is no more.
fn hang_up(client: &mut Client) {
    if let Err(e) = client.stream.shutdown(std::net::Shutdown::Both) {
        log::debug!("closing an RPC client: {e}");
    }
    // What it wrote and nobody read would be an error where it expects the end.
    let _ = fill(client);
}

fn request(
    conn: ConnId,
    client: &mut Client,
    raw: &RawValue,
    asked: &mut Vec<(Caller, RpcRequest)>,
) -> Reply {
    match check_form(raw) {
        Err((id, error)) => {
            let text = reply_text(&id, &Err(error), None);
            // Whose answer that would be, nobody knows: the client and we are out of step.
            if id == "null" {
                shut(client, &text);
            } else {
                client.out.extend_from_slice(text.as_bytes());
            }
            Reply::Short
        }
        Ok((id, request, filter)) => {
            if request.method == "notifications" && switch_notifications(client, &id, &request) {
                return Reply::Short;
            }
            let tells_all = request.method.starts_with("list") || request.method == "getlog";
            let reply = if tells_all { Reply::Long } else { Reply::Short };
            client.unanswered += 1;
            asked.push((Caller { conn, id, filter, notify: client.notify }, request));
            reply
        }
    }
}

/// `notifications` is about this connection alone. False: its parameters are wrong.
fn switch_notifications(client: &mut Client, id: &str, request: &RpcRequest) -> bool {
    let enable = match &request.params {
        Value::Array(items) => items.first(),
        Value::Object(members) => members.get("enable"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    };
    let Some(enable) =
        enable.and_then(|v| v.as_bool().or_else(|| v.as_str().and_then(|s| s.parse().ok())))
    else {
        return false;
    };
    client.notify = enable;
    client.out.extend_from_slice(reply_text(id, &Ok(json!({})), None).as_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with one client, and that client's end.
    fn served() -> (RpcServer, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut server = RpcServer::default();
        server.clients.insert(1, Client::new(ours));
        (server, theirs)
    }
    fn asks(method: &str, times: usize) -> String {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":[]}}\n\n")
            .repeat(times)
    }
    /// One round: how many requests came of it, and is there more?
    fn round(server: &mut RpcServer) -> (usize, bool) {
        let mut events = Vec::new();
        let more = server.read(token_of(1), &mut events);
        (events.len(), more)
    }

    #[test]
    fn rpc_client_is_read_no_faster_than_it_takes_answers() {
        let (mut server, mut theirs) = served();
        let flood = asks("getinfo", 10_000);
        let mut written = 0;
        for _ in 0..100 {
            let ahead = flood.as_bytes().get(written % flood.len()..).unwrap();
            written += theirs.write(ahead).unwrap_or(0);
            assert!(round(&mut server).0 <= MAX_PER_ROUND);
            let client = &server.clients[&1];
            let waits: usize = client.waiting.iter().map(|raw| raw.get().len()).sum();
            assert!(waits + client.input.len() <= 2 * MAX_READ, "{waits} of {written}");
        }
        drop(theirs);
        let mut answered = 0;
        while server.clients.contains_key(&1) {
            answered += round(&mut server).0;
        }
        assert!(answered > 0);
    }

    #[test]
    fn of_answers_that_are_long_one_is_made_in_a_round() {
        let (mut server, mut theirs) = served();
        theirs.write_all(asks("getinfo", 150).as_bytes()).unwrap();
        theirs.write_all(asks("listinvoices", 2).as_bytes()).unwrap();
        theirs.write_all(asks("getinfo", 1).as_bytes()).unwrap();
        let rounds: Vec<_> = (0..5).map(|_| round(&mut server)).collect();
        assert_eq!(rounds, [(100, true), (51, true), (1, true), (1, true), (0, false)]);
    }

    #[test]
    fn plugin_on_one_connection_gets_long_answers_together() {
        let (mut server, mut theirs) = served();
        server.clients.get_mut(&1).unwrap().max_long = MAX_LONG_FOR_OURS;
        theirs.write_all(asks("listsendpays", MAX_LONG_FOR_OURS + 1).as_bytes()).unwrap();
        assert_eq!(round(&mut server), (MAX_LONG_FOR_OURS, true));
        assert_eq!(round(&mut server).0, 1);
    }

    #[test]
    fn rpc_garbage_behind_requests_is_reported_after_them() {
        let (mut server, mut theirs) = served();
        theirs.write_all(asks("getinfo", 150).as_bytes()).unwrap();
        theirs.write_all(b"nonsense").unwrap();
        while round(&mut server).1 {}
        let client = &server.clients[&1];
        assert!(client.ear == Ear::Shut && client.unanswered == 150);
    }
}
