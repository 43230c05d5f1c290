//! Calling lightningd: a blocking client for its unix socket, usable from any thread.

use crate::answer::RpcError;
use crate::frames::Objects;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::fmt;
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The longest answer that we hold. A full list of payments is far shorter.
const MAX_ANSWER: usize = 512 * 1024 * 1024;
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
    socket: PathBuf,
    /// Who asks: the first part of every id.
    name: String,
    next_id: AtomicU64,
    idle: Mutex<Vec<Connection>>,
}

type Connection = Objects<BufReader<UnixStream>>;

impl Rpc {
    /// Connects with the first call.
    pub fn new(socket: PathBuf, name: &str) -> Self {
        let name = name.to_owned();
        Self(Arc::new(Shared { socket, name, next_id: AtomicU64::new(0), idle: Mutex::default() }))
    }

    /// Calls a method and waits for its answer. Calls at the same time go over connections of their own.
    pub fn call(&self, method: &str, params: &impl Serialize) -> Result<Box<RawValue>, CallError> {
        self.call_for("", method, params)
    }
    /// The same, and reads the result.
    pub fn call_as<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, CallError> {
        let result = self.call(method, params)?;
        serde_json::from_str(result.get())
            .map_err(|e| CallError::Transport(format!("its answer to {method}: {e}")))
    }

    /// Calls on behalf of a request with this id, so that logs show what led to what.
    pub fn call_for(
        &self,
        cause: &str,
        method: &str,
        params: &impl Serialize,
    ) -> Result<Box<RawValue>, CallError> {
        let transport = |e: &dyn fmt::Display| CallError::Transport(e.to_string());
        let n = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let chain = if cause.is_empty() { String::new() } else { format!("{cause}/") };
        let id = format!("{chain}{}:{method}#{n}", self.0.name);
        let request = Request { jsonrpc: "2.0", id: &id, method, params };
        let mut text = serde_json::to_vec(&request).map_err(|e| transport(&e))?;
        text.extend_from_slice(b"\n\n");

        let mut connection = self.connection()?;
        connection.get_mut().get_mut().write_all(&text).map_err(|e| transport(&e))?;
        loop {
            let object = connection
                .next_object()
                .map_err(|e| transport(&e))?
                .ok_or_else(|| transport(&"it hung up"))?;
            let answer: Response = serde_json::from_slice(&object).map_err(|e| transport(&e))?;
            // Notifications have no id.
            if answer.id.as_deref() != Some(&id) {
                continue;
            }
            let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
            return match (answer.result, answer.error) {
                (Some(result), None) => Ok(result),
                (_, Some(error)) => Err(CallError::Rpc(error)),
                (None, None) => Err(transport(&"its answer has neither result nor error")),
            };
        }
    }

    fn connection(&self) -> Result<Connection, CallError> {
        if let Some(idle) = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(idle);
        }
        let stream = UnixStream::connect(&self.0.socket)
            .map_err(|e| CallError::Transport(format!("{}: {e}", self.0.socket.display())))?;
        Ok(Objects::new(BufReader::with_capacity(64 * 1024, stream), MAX_ANSWER))
    }
}

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'static str,
    id: &'a str,
    method: &'a str,
    params: &'a P,
}

#[derive(serde::Deserialize)]
struct Response {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<RpcError>,
}
