//! Calling lightningd: a blocking client, usable from any thread. Over the connection that
//! lightningd gave this process, or over its unix socket.

use crate::answer::RpcError;
use crate::frames::{FrameError, Objects};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

/// The longest answer that we hold. A full list of payments is far shorter.
const MAX_ANSWER: usize = 512 * 1024 * 1024;
/// A longer request lightningd hangs up on, and with it on the calls of all threads.
const MAX_REQUEST: usize = 4 * 1024 * 1024;
/// Idle connections that are kept for the next call.
const MAX_IDLE: usize = 8;

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum CallError {
    /// lightningd says no.
    Rpc(RpcError),
    /// lightningd could not be asked, or what it said makes no sense.
    Transport(String),
}
impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(e) => write!(f, "{e}"),
            Self::Transport(why) => write!(f, "lightningd cannot be reached: {why}"),
        }
    }
}
impl std::error::Error for CallError {}
impl From<CallError> for RpcError {
    fn from(e: CallError) -> Self {
        match e {
            CallError::Rpc(e) => e,
            CallError::Transport(_) => Self::new(crate::answer::code::GENERIC, e.to_string()),
        }
    }
}

/// lightningd, as its plugins call it. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Rpc(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    way: Way,
    /// The plugin's name: the first part of every id.
    name: String,
    next_id: AtomicU64,
}

/// How lightningd is reached.
#[derive(Debug)]
enum Way {
    /// By a connection that it gave this process, for calls of all threads: the process needs no
    /// right to connect.
    Given(RpcConnection),
    /// By connecting to its socket, once for each of the calls that are under way at a time.
    Path { socket: PathBuf, idle: Mutex<Vec<Connection>> },
}

type Connection = Objects<BufReader<UnixStream>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
fn transport(why: &dyn fmt::Display) -> CallError {
    CallError::Transport(why.to_string())
}

impl Rpc {
    /// Connects with the first call.
    pub fn new(socket: PathBuf, name: &str) -> Self {
        Self::by(Way::Path { socket, idle: Mutex::default() }, name)
    }
    /// Over a connection that stands. `Err` if its descriptor cannot be had twice.
    pub fn over(stream: UnixStream, name: &str) -> std::io::Result<Self> {
        Ok(Self::by(Way::Given(RpcConnection::new(stream)?), name))
    }
    fn by(way: Way, name: &str) -> Self {
        Self(Arc::new(Shared { way, name: name.to_owned(), next_id: AtomicU64::new(0) }))
    }
    /// Whom a plugin's box must let it call, if it calls lightningd alone.
    pub fn calls(&self) -> sandbox::Calls {
        match self.0.way {
            Way::Given(_) => sandbox::Calls::Given,
            Way::Path { .. } => sandbox::Calls::Lightningd,
        }
    }

    /// Calls a method and waits for its answer. Calls at the same time go over connections of their
    /// own.
    pub fn call(&self, method: &str, params: &impl Serialize) -> Result<Box<RawValue>, CallError> {
        self.call_for("", method, params)
    }

    /// Calls on behalf of a request with this id, so that logs show what led to what.
    pub fn call_for(
        &self,
        cause: &str,
        method: &str,
        params: &impl Serialize,
    ) -> Result<Box<RawValue>, CallError> {
        let n = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let chain = if cause.is_empty() { String::new() } else { format!("{cause}/") };
        let id = format!("{chain}{}:{method}#{n}", self.0.name);
        let request = Request { jsonrpc: "2.0", id: &id, method, params };
        let mut text = serde_json::to_vec(&request).map_err(|e| transport(&e))?;
        text.extend_from_slice(b"\n\n");
        let answer = match &self.0.way {
            Way::Given(line) => line.call(&id, &text)?,
            Way::Path { socket, idle } => call_by_path(socket, idle, &id, &text)?,
        };
        match (answer.result, answer.error) {
            (Some(result), None) => Ok(result),
            (_, Some(error)) => Err(CallError::Rpc(error)),
            (None, None) => Err(transport(&"its answer has neither result nor error")),
        }
    }
}

fn call_by_path(
    socket: &PathBuf,
    idle: &Mutex<Vec<Connection>>,
    id: &str,
    text: &[u8],
) -> Result<Response, CallError> {
    let kept = lock(idle).pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => {
            let stream = UnixStream::connect(socket)
                .map_err(|e| transport(&format!("{}: {e}", socket.display())))?;
            objects(stream)
        }
    };
    connection.get_mut().get_mut().write_all(text).map_err(|e| transport(&e))?;
    loop {
        let answer = next(&mut connection)?;
        // Notifications have no id.
        if answer.id.as_deref() == Some(id) {
            let mut idle = lock(idle);
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
            return Ok(answer);
        }
    }
}

fn objects(stream: UnixStream) -> Connection {
    Objects::new(BufReader::with_capacity(64 * 1024, stream), MAX_ANSWER)
}

fn next(connection: &mut Connection) -> Result<Response, CallError> {
    let object = connection.next_object().map_err(|e| transport(&e))?;
    serde_json::from_slice(&object.ok_or_else(|| transport(&"it hung up"))?)
        .map_err(|e| transport(&e))
}

/// One connection for the calls of all threads: a thread of its own hands each answer to the call
/// that it is for.
#[derive(Debug)]
struct RpcConnection {
    writer: Mutex<UnixStream>,
    /// Until the first call starts that thread: a plugin enters its box with one thread.
    unread: Mutex<Option<UnixStream>>,
    calls: Arc<Mutex<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    /// By id, those that wait for their answer.
    waiting: HashMap<String, mpsc::Sender<Result<Response, CallError>>>,
    /// Why no answer will come any more.
    over: Option<CallError>,
}

impl RpcConnection {
    fn new(stream: UnixStream) -> std::io::Result<Self> {
        let unread = Mutex::new(Some(stream.try_clone()?));
        Ok(Self { writer: Mutex::new(stream), unread, calls: Arc::default() })
    }

    fn call(&self, id: &str, text: &[u8]) -> Result<Response, CallError> {
        self.listen()?;
        let (answered, answer) = mpsc::channel();
        let mut calls = lock(&self.calls);
        if let Some(why) = &calls.over {
            return Err(why.clone());
        }
        if text.len() > MAX_REQUEST {
            return Err(transport(&format!(
                "a request of {} bytes, and it takes {MAX_REQUEST} at most",
                text.len()
            )));
        }
        calls.waiting.insert(id.to_owned(), answered);
        drop(calls);
        let written = lock(&self.writer).write_all(text);
        if let Err(e) = written {
            lock(&self.calls).waiting.remove(id);
            return Err(transport(&e));
        }
        answer.recv().unwrap_or_else(|_| {
            let over = lock(&self.calls).over.clone();
            Err(over.unwrap_or_else(|| transport(&"it hung up")))
        })
    }

    fn listen(&self) -> Result<(), CallError> {
        // The box has no call that copies a descriptor: this one goes to the thread, or is lost
        // with it.
        let Some(stream) = lock(&self.unread).take() else { return Ok(()) };
        let calls = Arc::clone(&self.calls);
        let started = std::thread::Builder::new().spawn(move || hear(objects(stream), &calls));
        started.map(drop).map_err(|e| {
            let why = transport(&e);
            lock(&self.calls).over = Some(why.clone());
            why
        })
    }
}

/// Until lightningd hangs up, or says what is no answer. An answer that is too long fails its own
/// call only.
fn hear(mut connection: Connection, calls: &Mutex<Pending>) {
    let why = loop {
        let (id, answer) = match connection.next_object() {
            Ok(Some(object)) => match serde_json::from_slice::<Response>(&object) {
                Ok(answer) => (answer.id.clone(), Ok(answer)),
                Err(e) => break transport(&e),
            },
            Ok(None) => break transport(&"it hung up"),
            Err(FrameError::TooLong(max, beginning)) => {
                let why = format!("an answer is longer than {max} bytes");
                (id_in(&beginning), Err(transport(&why)))
            }
            Err(e) => break transport(&e),
        };
        // Notifications have no id.
        let call = id.and_then(|id| lock(calls).waiting.remove(&id));
        // The caller may have given up.
        call.map(|call| call.send(answer));
    };
    let mut calls = lock(calls);
    calls.over = Some(why);
    calls.waiting.clear();
}

/// The id in the beginning of an answer, where lightningd writes it.
fn id_in(beginning: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(beginning);
    let rest = text.split_once("\"id\"")?.1.trim_start().strip_prefix(':')?.trim_start();
    serde_json::Deserializer::from_str(rest).into_iter::<String>().next()?.ok()
}

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    id: &'a str,
    method: &'a str,
    params: &'a P,
}

#[derive(Debug, serde::Deserialize)]
struct Response {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<RpcError>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_that_is_too_long_fails_its_own_call_alone() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let calls = Arc::new(Mutex::new(Pending::default()));
        let [long, short, after] = ["long", "short", "after"].map(|id| {
            let (answered, answer) = mpsc::channel();
            lock(&calls).waiting.insert(id.to_owned(), answered);
            answer
        });
        let hearing = Arc::clone(&calls);
        let connection = Objects::new(BufReader::with_capacity(64, ours), 1000);
        let thread = std::thread::spawn(move || hear(connection, &hearing));
        let answer = |id: &str, text: &str| {
            format!("{{\"jsonrpc\":\"2.0\",\"id\":\"{id}\",\"result\":\"{text}\"}}\n\n")
        };
        for said in [
            answer("short", "x"),
            answer("long", &"}{\\\"".repeat(100_000)),
            answer("after", &"y".repeat(900)),
        ] {
            theirs.write_all(said.as_bytes()).unwrap();
        }
        assert!(short.recv().unwrap().is_ok());
        let why = long.recv().unwrap().unwrap_err().to_string();
        assert!(why.contains("longer than 1000 bytes"), "{why}");
        assert!(after.recv().unwrap().is_ok());
        drop(theirs);
        thread.join().unwrap();
        assert!(lock(&calls).over.is_some());
    }
}
