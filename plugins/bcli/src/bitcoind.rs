//! bitcoind's JSON-RPC: who we are to it, how long we go on asking, and what the log hears about
//! that.

use crate::http::{Connection, HttpError, Response};
use bitcoin::base64::prelude::{BASE64_STANDARD, Engine};
use primitives::Network;
use sdk::{Init, RpcError};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// CLN's code for a backend that does not work.
pub(crate) const BCLI_ERROR: i32 = 500;
/// bitcoind's code while it starts.
const IN_WARMUP: i64 = -28;
/// Idle connections that are kept.
const MAX_IDLE: usize = 4;
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Where bitcoind is and who we are to it.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) auth: Auth,
    /// One question.
    pub(crate) timeout: Duration,
    /// All tries together.
    pub(crate) retry: Duration,
    pub(crate) fake_fees: bool,
}

/// How bitcoind knows us.
#[derive(Debug, Clone)]
pub(crate) enum Auth {
    /// The file that bitcoind writes anew each time it starts.
    Cookie(PathBuf),
    /// `user:password`.
    Password(String),
}

impl Config {
    pub(crate) fn read(init: &Init) -> Result<Self, String> {
        let options = &init.options;
        let network: Network = init.network.parse()?;
        let seconds = |name: &str, least: u64| {
            let given = options.int(name).unwrap_or(60);
            let seconds = u64::try_from(given).ok().filter(|s| (least..=86400).contains(s));
            seconds
                .map(Duration::from_secs)
                .ok_or(format!("{name}={given}: {least} to 86400 seconds"))
        };
        let port = match options.int("bitcoin-rpcport") {
            None => network.bitcoind_rpc_port(),
            Some(port) => {
                u16::try_from(port).map_err(|_| format!("bitcoin-rpcport={port} is no port"))?
            }
        };
        let user = options.string("bitcoin-rpcuser");
        let auth = match (user, options.string("bitcoin-rpcpassword")) {
            (Some(user), Some(password)) => Auth::Password(format!("{user}:{password}")),
            (None, None) => Auth::Cookie(cookie_file(options.string("bitcoin-datadir"), network)?),
            (Some(_), None) => return Err("bitcoin-rpcuser needs bitcoin-rpcpassword".to_owned()),
            (None, Some(_)) => return Err("bitcoin-rpcpassword needs bitcoin-rpcuser".to_owned()),
        };
        Ok(Self {
            host: options.string("bitcoin-rpcconnect").unwrap_or("127.0.0.1").to_owned(),
            port,
            auth,
            timeout: seconds("bitcoin-rpcclienttimeout", 1)?,
            retry: seconds("bitcoin-retry-timeout", 0)?,
            fake_fees: network == Network::Regtest && !options.bool("dev-no-fake-fees"),
        })
    }
}

/// bitcoind's subdirectory for a network other than the main one.
const NETWORK_DIRS: [&str; 4] = ["testnet3", "testnet4", "signet", "regtest"];

fn cookie_file(datadir: Option<&str>, network: Network) -> Result<PathBuf, String> {
    let datadir = match datadir {
        Some(datadir) => PathBuf::from(datadir),
        None => {
            let home = std::env::var_os("HOME");
            PathBuf::from(home.ok_or("neither bitcoin-datadir nor $HOME is set")?).join(".bitcoin")
        }
    };
    let [testnet, testnet4, signet, regtest] = NETWORK_DIRS;
    let subdirectory = match network {
        Network::Bitcoin => "",
        Network::Testnet => testnet,
        Network::Testnet4 => testnet4,
        Network::Signet => signet,
        Network::Regtest => regtest,
    };
    // The box has another current directory.
    std::path::absolute(datadir.join(subdirectory).join(".cookie")).map_err(|e| e.to_string())
}

/// bitcoind, as this plugin asks it.
pub struct Bitcoind {
    pub(crate) config: Config,
    idle: Mutex<Vec<(Connection, String)>>,
    health: Mutex<Health>,
    /// Notes that were made already.
    pub(crate) noted: Mutex<Vec<&'static str>>,
}

/// The state of bitcoind that was logged last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Unknown,
    Up,
    WarmingUp,
    Gone,
}

/// bitcoind's answer: the result's place in its body.
pub(crate) struct Found {
    body: Vec<u8>,
    result: Range<usize>,
}
impl Found {
    /// The result's JSON.
    pub(crate) fn json(&self) -> &str {
        let bytes = self.body.get(self.result.clone()).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or("null")
    }
    /// Reads the result.
    pub(crate) fn read<'a, T: Deserialize<'a>>(&'a self, method: &str) -> Result<T, RpcError> {
        serde_json::from_str(self.json())
            .map_err(|e| RpcError::new(BCLI_ERROR, format!("bitcoind's answer to {method}: {e}")))
    }
    /// Gives the body away, with the result's place in it.
    pub(crate) fn into_slice(self) -> (Vec<u8>, Range<usize>) {
        (self.body, self.result)
    }
}

/// bitcoind says no.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: i64,
    #[serde(default)]
    pub(crate) message: String,
}

/// How one try ended without an answer.
enum BackendError {
    /// It starts; what it is doing.
    WarmingUp(String),
    /// It cannot be reached, or not with this cookie; it may come back.
    Gone(String),
    /// Asking again is no use.
    Hopeless(String),
}

impl Bitcoind {
    /// The directory in which bitcoind makes its cookie anew at each start, if that is how we prove
    /// who we are. Where bitcoind has not made a network's directory yet, its data directory; never
    /// what is above that.
    pub(crate) fn cookie_dir(&self) -> Vec<PathBuf> {
        let file = match &self.config.auth {
            Auth::Cookie(file) => file.as_path(),
            Auth::Password(_) => return Vec::new(),
        };
        let dir = file.parent().unwrap_or(file);
        let of_network = NETWORK_DIRS.iter().any(|name| dir.ends_with(name));
        let above = dir.parent().filter(|_| of_network);
        let known = [Some(dir), above].into_iter().flatten().find(|dir| dir.is_dir());
        if known.is_none() {
            log::warn!(
                "{} is not there: once bitcoind has made it, start lightningd again",
                dir.display()
            );
        }
        known.map(Path::to_path_buf).into_iter().collect()
    }
    pub(crate) fn new(config: Config) -> Result<Self, String> {
        Ok(Self {
            config,
            idle: Mutex::default(),
            health: Mutex::new(Health::Unknown),
            noted: Mutex::default(),
        })
    }

    /// Asks, and goes on asking while bitcoind is away. The outer error is ours: there is no
    /// answer.
    pub(crate) fn call(
        &self,
        method: &str,
        params: &Value,
    ) -> Result<Result<Found, Refusal>, RpcError> {
        let body = json!({ "jsonrpc": "1.0", "id": "bcli", "method": method, "params": params });
        let body = body.to_string();
        let begun = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let trouble = match self.ask_once(method, body.as_bytes()) {
                Ok(answer) => {
                    self.is(Health::Up, "");
                    return Ok(answer);
                }
                Err(trouble) => trouble,
            };
            match trouble {
                // As long as it says so, it is alive: that may take hours after a crash.
                BackendError::WarmingUp(stage) => self.is(Health::WarmingUp, &stage),
                BackendError::Gone(why) => {
                    self.is(Health::Gone, &why);
                    if begun.elapsed() + pause > self.config.retry {
                        return Err(self.gave_up(method, &why));
                    }
                }
                BackendError::Hopeless(why) => {
                    self.is(Health::Gone, &why);
                    return Err(RpcError::new(BCLI_ERROR, format!("bitcoind: {why}")));
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// The same where a refusal is as bad as no answer.
    pub(crate) fn must(&self, method: &str, params: &Value) -> Result<Found, RpcError> {
        self.call(method, params)?.map_err(|refusal| {
            let Refusal { code, message } = refusal;
            RpcError::new(BCLI_ERROR, format!("bitcoind refuses {method}: {message} (code {code})"))
        })
    }

    fn gave_up(&self, method: &str, why: &str) -> RpcError {
        let Config { host, port, retry, .. } = &self.config;
        RpcError::new(
            BCLI_ERROR,
            format!(
                "bitcoind at {host}:{port} has not answered {method} for {} seconds: {why}. Is it running, and are \
                 bitcoin-rpcconnect, bitcoin-rpcport and bitcoin-datadir right?",
                retry.as_secs()
            ),
        )
    }

    /// Tells the log, if it does not know yet.
    fn is(&self, now: Health, detail: &str) {
        let before = {
            let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *health, now)
        };
        if before == now {
            return;
        }
        let Config { host, port, .. } = &self.config;
        match (before, now) {
            (Health::Unknown, Health::Up) => log::debug!("bitcoind at {host}:{port} answers"),
            (_, Health::Up) => log::info!("bitcoind at {host}:{port} answers again"),
            (_, Health::WarmingUp) => {
                log::info!("bitcoind at {host}:{port} is starting ({detail}): waiting for it");
            }
            (_, Health::Gone) => {
                log::warn!("bitcoind at {host}:{port} cannot be reached ({detail}): trying again");
            }
            (_, Health::Unknown) => {}
        }
    }

    /// One try, or two where the first was on a connection that bitcoind may have closed long ago.
    fn ask_once(&self, method: &str, body: &[u8]) -> Result<Result<Found, Refusal>, BackendError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some((mut connection, authorization)) = idle
            && let Ok(response) = connection.post(&authorization, body)
            && response.status != 401
        {
            return self.judge(method, response, connection, authorization);
        }
        // The cookie is as old as bitcoind: read it again for each connection.
        let authorization = self.authorization()?;
        let gone = |e: HttpError| BackendError::Gone(e.to_string());
        let Config { host, port, timeout, .. } = &self.config;
        let mut connection = Connection::open(host, *port, *timeout).map_err(gone)?;
        let response = connection.post(&authorization, body).map_err(gone)?;
        self.judge(method, response, connection, authorization)
    }

    fn judge(
        &self,
        method: &str,
        response: Response,
        connection: Connection,
        authorization: String,
    ) -> Result<Result<Found, Refusal>, BackendError> {
        match (response.status, &self.config.auth) {
            (401 | 403, Auth::Cookie(file)) => {
                return Err(BackendError::Gone(format!(
                    "it does not accept the cookie in {}",
                    file.display()
                )));
            }
            (401 | 403, Auth::Password(_)) => {
                return Err(BackendError::Hopeless(
                    "it does not accept bitcoin-rpcuser and bitcoin-rpcpassword".to_owned(),
                ));
            }
            (503, _) => {
                return Err(BackendError::Gone("it is too busy (HTTP status 503)".to_owned()));
            }
            (_, _) => {}
        }
        let keep_alive = response.keep_alive;
        let answer = read_answer(response)
            .map_err(|why| BackendError::Gone(format!("its answer to {method}: {why}")))?;
        if keep_alive {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < MAX_IDLE {
                idle.push((connection, authorization));
            }
        }
        match answer {
            Err(refusal) if refusal.code == IN_WARMUP => {
                Err(BackendError::WarmingUp(refusal.message))
            }
            answer => Ok(answer),
        }
    }

    /// The credentials of `Authorization: Basic`.
    fn authorization(&self) -> Result<String, BackendError> {
        let login = match &self.config.auth {
            Auth::Password(login) => login.clone(),
            Auth::Cookie(file) => std::fs::read_to_string(file).map_err(|e| {
                BackendError::Gone(format!("its cookie {} cannot be read: {e}", file.display()))
            })?,
        };
        Ok(basic(login.trim_end()))
    }
}

/// Finds result or error in a response's body.
pub(crate) fn read_answer(response: Response) -> Result<Result<Found, Refusal>, String> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow, default)]
        result: Option<&'a RawValue>,
        #[serde(default)]
        error: Option<Refusal>,
    }
    let Response { status, body, .. } = response;
    let answer: Answer<'_> =
        serde_json::from_slice(&body).map_err(|e| format!("HTTP status {status}, {e}"))?;
    if let Some(refusal) = answer.error {
        return Ok(Err(refusal));
    }
    // A result of null reads as none.
    let result = match answer.result.map(RawValue::get) {
        None => 0..0,
        Some(json) => {
            let start = json.as_ptr() as usize - body.as_ptr() as usize;
            start..start + json.len()
        }
    };
    Ok(Ok(Found { body, result }))
}

/// RFC 7617: user and password in base64.
pub(crate) fn basic(login: &str) -> String {
    BASE64_STANDARD.encode(login)
}
