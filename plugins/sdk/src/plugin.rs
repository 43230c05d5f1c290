//! A plugin as a table, and the arguments of its handlers.

use crate::answer::{Answer, RpcError};
use crate::options::{OptionSpec, Options};
use crate::params::Params;
use crate::rpc::{CallError, Rpc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A plugin, as a table. `S` is its state, made by `start`.
pub struct Spec<S: 'static> {
    /// Its name, for ids and logs.
    pub name: &'static str,
    /// May it be started and stopped while lightningd runs?
    pub dynamic: bool,
    /// `--name=value` on lightningd's command line.
    pub options: &'static [OptionSpec],
    /// Its RPC methods.
    pub methods: &'static [Method<S>],
    /// Where lightningd asks before it goes on.
    pub hooks: &'static [Hook<S>],
    /// Topics that it subscribes to.
    pub subscriptions: &'static [Subscription<S>],
    /// Topics on which it may speak itself.
    pub notifications: &'static [&'static str],
    /// Makes the state, once the options are known. An error switches the plugin off, with this
    /// text.
    pub start: fn(&Init) -> Result<S, String>,
    /// The box that it enters then, before it is asked anything.
    pub confine: fn(&S) -> sandbox::Sandbox,
}

/// A method that anybody can call.
pub struct Method<S: 'static> {
    /// As RPC clients call it.
    pub name: &'static str,
    /// Its parameters, as `help` shows them: `bolt11 [amount_msat]`.
    pub usage: &'static str,
    /// Runs on a thread of its own.
    pub handler: fn(&Call<'_, S>) -> Result<Answer, RpcError>,
}

/// A place where lightningd asks.
pub struct Hook<S: 'static> {
    /// CLN's name of the hook.
    pub name: &'static str,
    /// Its answer must be what the hook allows: lightningd gives up on others.
    pub handler: fn(&Call<'_, S>) -> Answer,
}

/// A topic that the plugin listens to.
pub struct Subscription<S: 'static> {
    /// CLN's word, such as `block_added`.
    pub topic: &'static str,
    /// Must be quick: whatever comes next waits.
    pub handler: fn(&Call<'_, S>),
}

/// lightningd's `init`, after it knows the options.
#[derive(Debug, Clone)]
pub struct Init {
    /// Ours.
    pub options: Options,
    /// The network's directory.
    pub lightning_dir: PathBuf,
    /// `bitcoin`, `testnet`, `testnet4`, `signet` or `regtest`.
    pub network: String,
    /// Are we started together with lightningd?
    pub startup: bool,
    /// lightningd itself.
    pub rpc: Rpc,
}

/// A running plugin, shared by its threads.
pub struct Plugin<S: 'static> {
    pub(crate) spec: &'static Spec<S>,
    pub(crate) out: Output,
    pub(crate) running: OnceLock<(Init, S)>,
}

/// One call of a handler.
pub struct Call<'a, S: 'static> {
    pub(crate) plugin: &'a Plugin<S>,
    pub(crate) init: &'a Init,
    /// The plugin's state.
    pub state: &'a S,
    pub(crate) id: &'a str,
    /// The method or the topic.
    pub method: &'a str,
    /// As they came.
    pub params: &'a RawValue,
}

impl<S> Call<'_, S> {
    /// The parameters by name, see [`Params::read`].
    pub fn named(&self, names: &'static [&'static str]) -> Result<Params, RpcError> {
        Params::read(self.params, names)
    }
    /// lightningd's `init`.
    pub const fn init(&self) -> &Init {
        self.init
    }
    /// Calls lightningd because of this call.
    pub fn rpc(&self, method: &str, params: &impl Serialize) -> Result<Box<RawValue>, CallError> {
        self.init.rpc.call_for(&self.cause(), method, params)
    }
    /// The same, and reads the result.
    pub fn rpc_as<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<T, CallError> {
        let result = self.rpc(method, params)?;
        serde_json::from_str(result.get())
            .map_err(|e| CallError::Transport(format!("its answer to {method}: {e}")))
    }
    /// Our id's text, where it can stand in another id as it is.
    pub fn cause(&self) -> String {
        let inner = self.id.strip_prefix('"').and_then(|id| id.strip_suffix('"'));
        inner.filter(|id| !id.contains('\\')).unwrap_or("weird-id").to_owned()
    }
    /// Tells the caller how things go, if it asked to be told. `level` is one of lightningd's.
    pub fn message(&self, level: &str, text: &str) {
        let id = RawValue::from_string(self.id.to_owned()).ok();
        self.plugin.out.notify("message", &Message { id, level, message: text });
    }
    /// Speaks on one of our own topics.
    pub fn notify(&self, topic: &str, params: &impl Serialize) {
        self.plugin.out.notify(topic, params);
    }
}

/// A line for the caller. A struct, so that the id stays as it came.
#[derive(Serialize)]
struct Message<'a> {
    id: Option<Box<RawValue>>,
    level: &'a str,
    message: &'a str,
}

/// Our side of the pipe to lightningd.
#[derive(Clone)]
pub struct Output(Arc<Mutex<Box<dyn Write + Send>>>);

impl Output {
    pub(crate) fn new(to: Box<dyn Write + Send>) -> Self {
        Self(Arc::new(Mutex::new(to)))
    }

    /// Writes one object, whole, with the blank line that clients split at. If nobody reads any
    /// more, reading stdin tells us so.
    pub(crate) fn write(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _gone = write(&mut **to).and_then(|()| to.write_all(b"\n\n")).and_then(|()| to.flush());
    }

    /// Says something without an id.
    pub fn notify(&self, method: &str, params: &impl Serialize) {
        let notification = json!({ "jsonrpc": "2.0", "method": method });
        let (Ok(head), Ok(params)) =
            (serde_json::to_string(&notification), serde_json::to_string(params))
        else {
            return;
        };
        let head = head.trim_end_matches('}');
        self.write(|to| write!(to, "{head},\"params\":{params}}}"));
    }

    /// A line in lightningd's log.
    pub fn log(&self, level: log::Level, text: &str) {
        let level = match level {
            log::Level::Error => "broken",
            log::Level::Warn => "unusual",
            log::Level::Info => "info",
            log::Level::Debug => "debug",
            log::Level::Trace => "trace",
        };
        self.notify("log", &json!({ "level": level, "message": text }));
    }
}

/// So that a plugin simply says `log::info!`.
impl log::Log for Output {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Debug
    }
    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            Self::log(self, record.level(), &record.args().to_string());
        }
    }
    fn flush(&self) {}
}
