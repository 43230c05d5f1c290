//! The conversation with lightningd, from `getmanifest` to the end of stdin.

use crate::answer::{Answer, RpcError, code};
use crate::filter::filter;
use crate::frames::{FrameError, Objects};
use crate::options::Options;
use crate::plugin::{Call, Init, Output, Plugin, Spec};
use crate::pool::Pool;
use crate::rpc::Rpc;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufReader, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

/// The longest request that we hold: a block's worth of hex and more.
const MAX_REQUEST: usize = 64 * 1024 * 1024;

/// A plugin's `main`: speaks with lightningd over stdin and stdout until it hangs up.
pub fn run<S: Send + Sync>(spec: &'static Spec<S>) -> ExitCode {
    if let Err(e) = sandbox::undumpable() {
        eprintln!("{}: its memory can be read by others of this user: {e}", spec.name);
    }
    if std::io::stdin().is_terminal() {
        eprintln!("{} is a plugin of lightningd: give it to --plugin.", spec.name);
        return ExitCode::FAILURE;
    }
    let out = Output::new(Box::new(std::io::stdout()));
    // Only fails where a logger is set already, and then that one logs.
    if log::set_boxed_logger(Box::new(out.clone())).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
    let developer = std::env::args().any(|arg| arg == "--developer");
    let start = Start { developer, boxed: Some(sandbox_mode()) };
    match converse(spec, std::io::stdin(), out, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{}: {e}", spec.name);
            ExitCode::FAILURE
        }
    }
}

fn sandbox_mode() -> sandbox::Mode {
    match std::env::var_os(sandbox::REQUIRED) {
        Some(_) => sandbox::Mode::Required,
        None => sandbox::Mode::BestEffort,
    }
}

/// How a plugin begins.
#[derive(Clone, Copy)]
struct Start {
    developer: bool,
    /// `None`: a test's, in a process that is not its own.
    boxed: Option<sandbox::Mode>,
}

/// The same over any two streams, and without a box: the process is the caller's.
pub fn serve<S: Send + Sync>(
    spec: &'static Spec<S>,
    from: impl Read,
    to: impl Write + Send + 'static,
    developer: bool,
) -> Result<(), FrameError> {
    converse(spec, from, Output::new(Box::new(to)), Start { developer, boxed: None })
}

/// One request or notification.
#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(default)]
    filter: Option<Value>,
}

fn converse<S: Send + Sync>(
    spec: &'static Spec<S>,
    from: impl Read,
    out: Output,
    start: Start,
) -> Result<(), FrameError> {
    let plugin = Arc::new(Plugin { spec, out, running: OnceLock::new() });
    // Each method has its own: those who wait for one hold up nobody who asks for another.
    let pools: BTreeMap<&str, Pool> =
        spec.methods.iter().map(|method| (method.name, Pool::default())).collect();
    let other = Pool::default();
    let mut objects = Objects::new(BufReader::with_capacity(64 * 1024, from), MAX_REQUEST);
    while let Some(object) = objects.next_object()? {
        let incoming: Incoming<'_> = match serde_json::from_slice(&object) {
            Ok(incoming) => incoming,
            Err(e) => {
                let error = RpcError::new(code::INVALID_REQUEST, format!("no request: {e}"));
                answer(&plugin.out, "null", Err(error));
                continue;
            }
        };
        match (incoming.method.as_ref(), incoming.id) {
            ("getmanifest", Some(id)) => {
                answer(&plugin.out, id.get(), Answer::json(&manifest(spec, start.developer)));
            }
            ("init", Some(id)) => {
                let reply = plugin.init(incoming.params, start);
                answer(&plugin.out, id.get(), reply);
            }
            (_, Some(_)) => {
                let plugin = plugin.clone();
                let pool = pools.get(incoming.method.as_ref()).unwrap_or(&other);
                pool.run(Box::new(move || plugin.handle(&object)));
            }
            (_, None) => plugin.hear(&incoming),
        }
    }
    Ok(())
}

/// The manifest. CLN wants `rpcmethods` to be there, even if empty.
fn manifest<S>(spec: &Spec<S>, developer: bool) -> Value {
    let offered = spec.options.iter().filter(|option| developer || !option.developer);
    let methods =
        spec.methods.iter().map(|method| json!({ "name": method.name, "usage": method.usage }));
    json!({
        "options": offered.map(|option| option.manifest()).collect::<Vec<_>>(),
        "rpcmethods": methods.collect::<Vec<_>>(),
        "subscriptions": spec.subscriptions.iter().map(|s| s.topic).collect::<Vec<_>>(),
        "hooks": spec.hooks.iter().map(|hook| json!({ "name": hook.name })).collect::<Vec<_>>(),
        "notifications": spec.notifications.iter().map(|n| json!({ "method": n })).collect::<Vec<_>>(),
        "nonnumericids": true,
        "dynamic": spec.dynamic,
    })
}

#[derive(Deserialize)]
struct InitParams {
    options: Map<String, Value>,
    configuration: Configuration,
}
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Configuration {
    lightning_dir: PathBuf,
    rpc_file: PathBuf,
    network: String,
    #[serde(default)]
    startup: bool,
}

impl<S: Send + Sync> Plugin<S> {
    /// Makes the state. What goes wrong switches the plugin off, with the reason.
    fn init(&self, params: Option<&RawValue>, begin: Start) -> Result<Answer, RpcError> {
        let params: InitParams = serde_json::from_str(params.map_or("null", RawValue::get))
            .map_err(|e| RpcError::params(format!("init: {e}")))?;
        let socket = params.configuration.lightning_dir.join(&params.configuration.rpc_file);
        // The box has another current directory.
        let socket = std::path::absolute(&socket).unwrap_or(socket);
        let specs: Vec<_> =
            self.spec.options.iter().filter(|o| begin.developer || !o.developer).copied().collect();
        let started = Options::read(&params.options, &specs).and_then(|options| {
            let init = Init {
                options,
                lightning_dir: params.configuration.lightning_dir,
                network: params.configuration.network,
                startup: params.configuration.startup,
                rpc: reach(socket, self.spec.name, begin)?,
            };
            let state = (self.spec.start)(&init)?;
            if let Some(mode) = begin.boxed {
                enter(&(self.spec.confine)(&state), mode)?;
            }
            Ok((init, state))
        });
        match started {
            Ok(running) => match self.running.set(running) {
                Ok(()) => Ok(Answer::empty()),
                Err(_) => Err(RpcError::new(code::INVALID_REQUEST, "init came twice")),
            },
            Err(why) => Answer::json(&json!({ "disable": why })),
        }
    }

    /// Answers one request.
    fn handle(&self, object: &[u8]) {
        let Ok(incoming) = serde_json::from_slice::<Incoming<'_>>(object) else { return };
        let id = incoming.id.map_or("null", RawValue::get);
        answer(&self.out, id, self.result(&incoming, id));
    }

    fn result(&self, incoming: &Incoming<'_>, id: &str) -> Result<Answer, RpcError> {
        let method = incoming.method.as_ref();
        let not_yet = || RpcError::new(code::PLUGIN_ERROR, format!("'{method}' before init"));
        let (init, state) = self.running.get().ok_or_else(not_yet)?;
        let none = RawValue::from_string("[]".to_owned())
            .map_err(|e| RpcError::new(code::PLUGIN_ERROR, e.to_string()))?;
        let params = incoming.params.unwrap_or(&none);
        let call = Call { plugin: self, init, state, id, method, params };
        if let Some(hook) = self.spec.hooks.iter().find(|hook| hook.name == method) {
            return Ok((hook.handler)(&call));
        }
        let found = self.spec.methods.iter().find(|m| m.name == method).ok_or_else(|| {
            RpcError::new(code::METHOD_NOT_FOUND, format!("Unknown command '{method}'"))
        })?;
        let result = (found.handler)(&call)?;
        let Some(template) = &incoming.filter else { return Ok(result) };
        let value = serde_json::from_str(&result.text())
            .map_err(|e| RpcError::new(code::PLUGIN_ERROR, e.to_string()))?;
        Answer::json(&filter(value, template)?)
    }

    /// Hears a notification.
    fn hear(&self, incoming: &Incoming<'_>) {
        let method = incoming.method.as_ref();
        let (Some((init, state)), Some(params)) = (self.running.get(), incoming.params) else {
            return;
        };
        let call = Call { plugin: self, init, state, id: "null", method, params };
        for heard in self.spec.subscriptions.iter().filter(|s| s.topic == method || s.topic == "*")
        {
            (heard.handler)(&call);
        }
    }
}

/// lightningd's RPC: by the connection that it gave this process, or by its socket.
fn reach(socket: PathBuf, name: &str, begin: Start) -> Result<Rpc, String> {
    // In a test the process is not this plugin's alone.
    match begin.boxed.and_then(|_| sandbox::rpc_socket()) {
        Some(given) => Rpc::over(given.into(), name).map_err(|e| format!("its connection: {e}")),
        None => Ok(Rpc::new(socket, name)),
    }
}

/// Into the box, for good. What a plugin is asked before `init` needs none.
fn enter(which: &sandbox::Sandbox, mode: sandbox::Mode) -> Result<(), String> {
    let missing = sandbox::enter(which, mode, sandbox::Barriers::Off)?;
    if !missing.is_empty() {
        log::info!("sandboxed, but without: {}", missing.join(", "));
    }
    Ok(())
}

fn answer(out: &Output, id: &str, result: Result<Answer, RpcError>) {
    match result {
        Ok(result) => out.write(|to| {
            write!(to, "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":")?;
            result.write(to)?;
            to.write_all(b"}")
        }),
        Err(error) => {
            let error = serde_json::to_string(&error).unwrap_or_else(|_| {
                r#"{"code":-3,"message":"an error that cannot be written"}"#.to_owned()
            });
            out.write(|to| write!(to, "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}"));
        }
    }
}
