//! The Bitcoin backend: lightningd's five questions about the chain, asked of a bitcoind over HTTP.
//!
//! It keeps connections open, authenticates with bitcoind's cookie or a password, and waits while
//! bitcoind starts or is briefly gone, saying so once. It judges nothing: which chain it found,
//! whether blocks make sense and what to do about fees is lightningd's. It never starts a process
//! and holds no key.
#![deny(clippy::indexing_slicing)]

mod amount;
mod bitcoind;
mod fees;
mod http;
mod methods;

use bitcoind::Bitcoind;
use sdk::{Init, Method, OptionKind, OptionSpec, Spec};

/// The plugin's table.
pub static PLUGIN: Spec<Bitcoind> = Spec {
    name: "bcli",
    dynamic: false,
    options: OPTIONS,
    methods: &[
        Method { name: "getchaininfo", usage: "[last_height]", handler: methods::getchaininfo },
        Method { name: "estimatefees", usage: "", handler: fees::estimatefees },
        Method {
            name: "getrawblockbyheight",
            usage: "height",
            handler: methods::getrawblockbyheight,
        },
        Method { name: "getutxout", usage: "txid vout", handler: methods::getutxout },
        Method {
            name: "sendrawtransaction",
            usage: "tx allowhighfees",
            handler: methods::sendrawtransaction,
        },
        Method { name: "submitpackage", usage: "txs", handler: methods::submitpackage },
        Method { name: "mempoolspends", usage: "outpoints", handler: methods::mempoolspends },
    ],
    hooks: &[],
    subscriptions: &[],
    notifications: &[],
    start,
    confine,
};

const OPTIONS: &[OptionSpec] = &[
    option(
        "bitcoin-datadir",
        OptionKind::String,
        None,
        "bitcoind's data directory, for its cookie",
    ),
    option("bitcoin-cli", OptionKind::String, None, "Not used: bitcoind is asked over HTTP"),
    option(
        "bitcoin-rpcuser",
        OptionKind::String,
        None,
        "User name for bitcoind, instead of its cookie",
    ),
    option(
        "bitcoin-rpcpassword",
        OptionKind::Secret,
        None,
        "Password for bitcoind, with bitcoin-rpcuser",
    ),
    option(
        "bitcoin-rpcconnect",
        OptionKind::String,
        None,
        "Host that bitcoind runs on (default: 127.0.0.1)",
    ),
    option(
        "bitcoin-rpcport",
        OptionKind::Int,
        None,
        "Port that bitcoind serves RPC on (default: the network's)",
    ),
    option(
        "bitcoin-rpcclienttimeout",
        OptionKind::Int,
        Some("60"),
        "Seconds that one question to bitcoind may take",
    ),
    option(
        "bitcoin-retry-timeout",
        OptionKind::Int,
        Some("60"),
        "Seconds to go on asking a bitcoind that cannot be reached",
    ),
    option(
        "commit-fee",
        OptionKind::String,
        None,
        "Percentage of fee to request for their commitment transaction (not used)",
    ),
    OptionSpec {
        name: "dev-no-fake-fees",
        kind: OptionKind::Bool,
        default: Some("false"),
        description: "On regtest, do not make up estimates that bitcoind does not have",
        developer: true,
    },
];

const fn option(
    name: &'static str,
    kind: OptionKind,
    default: Option<&'static str>,
    description: &'static str,
) -> OptionSpec {
    OptionSpec { name, kind, default, description, developer: false }
}

/// bitcoind, over IP, and its cookie.
fn confine(bitcoind: &Bitcoind) -> sandbox::Sandbox {
    sandbox::Sandbox::Plugin { reads: bitcoind.cookie_dir(), calls: sandbox::Calls::Hosts }
}

fn start(init: &Init) -> Result<Bitcoind, String> {
    Bitcoind::new(bitcoind::Config::read(init)?)
}

/// For fuzz/: bytes from where a bitcoind should be, as HTTP, as JSON-RPC and as an amount.
#[cfg(feature = "fuzzing")]
pub fn reads_answer(bytes: &[u8]) {
    if let Ok(response) = http::read_response(&mut &*bytes)
        && let Ok(Ok(found)) = bitcoind::read_answer(response)
    {
        let json = found.json();
        let _ = (amount::sat(json, amount::Dust::Up), amount::sat(json, amount::Dust::Refuse));
    }
}

#[cfg(test)]
mod tests;
