//! Every option of lightningd, with what it takes, its default and its meaning. Plugins add theirs at start.

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it is there or not.
    Flag,
    /// true or false.
    Bool,
    /// A whole number.
    Int,
    /// An amount in msat.
    Msat,
    /// Text.
    Text,
}

/// One option.
#[derive(Debug, Clone)]
pub struct OptionSpec {
    /// Without dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// May it be given more than once?
    pub multi: bool,
    /// Only with --developer.
    pub developer: bool,
    /// True where the room it belongs to does not exist yet: accepted, and said so at debug level.
    pub inert: bool,
    /// For --help.
    pub doc: &'static str,
}

const fn opt(name: &'static str, kind: Kind, doc: &'static str) -> OptionSpec {
    OptionSpec { name, kind, multi: false, developer: false, inert: false, doc }
}
const fn multi(name: &'static str, kind: Kind, doc: &'static str) -> OptionSpec {
    OptionSpec { multi: true, ..opt(name, kind, doc) }
}
const fn dev(name: &'static str, kind: Kind, doc: &'static str) -> OptionSpec {
    OptionSpec { developer: true, ..opt(name, kind, doc) }
}
const fn inert(spec: OptionSpec) -> OptionSpec {
    OptionSpec { inert: true, ..spec }
}

use Kind::*;

/// The table. CLN's names and meanings.
pub const OPTIONS: &[OptionSpec] = &[
    opt("conf", Text, "Read this configuration file instead of the default ones"),
    opt("lightning-dir", Text, "Base directory (default: ~/.lightning)"),
    opt("network", Text, "bitcoin (the default), testnet, testnet4, signet or regtest"),
    opt("mainnet", Flag, "Same as --network=bitcoin"),
    opt("testnet", Flag, "Same as --network=testnet"),
    opt("testnet4", Flag, "Same as --network=testnet4"),
    opt("signet", Flag, "Same as --network=signet"),
    opt("regtest", Flag, "Same as --network=regtest"),
    opt("help", Flag, "Print this and exit"),
    opt("version", Flag, "Print the version and exit"),
    opt("developer", Flag, "Allow options and commands that only tests want"),
    opt("rpc-file", Text, "JSON-RPC socket, relative to the network directory"),
    opt("rpc-file-mode", Text, "Octal mode of the JSON-RPC socket"),
    opt("allow-deprecated-apis", Bool, "Answer in old forms too"),
    inert(multi("i-promise-to-fix-broken-api-user", Text, "Re-enable a removed API")),
    multi(
        "log-level",
        Text,
        "io, trace, debug, info, unusual or broken, with :SUBSYSTEM and :FILE",
    ),
    multi("log-file", Text, "Log to this file, - for stdout"),
    opt("log-prefix", Text, "Put this before every line of the log"),
    opt("log-timestamps", Bool, "Begin lines of the log with the time"),
    opt("daemon", Flag, "Run in the background, logging to a file"),
    opt("pid-file", Text, "Where the process id is written"),
    opt("alias", Text, "Name of the node, up to 32 bytes"),
    opt("rgb", Text, "Colour of the node, six hexadecimal digits"),
    opt("wallet", Text, "sqlite3://FILE"),
    inert(opt("database-upgrade", Bool, "Allow the database to be upgraded")),
    opt("sandbox", Text, "required (the default where the kernel can) or best-effort"),
    opt("allow-root", Flag, "Run even as root"),
    multi("subdaemon", Text, "NAME:PATH: use this executable for a daemon"),
    opt("hsm-passphrase", Flag, "The secret file has a passphrase: ask for it"),
    opt("offline", Flag, "Neither listen nor dial"),
    opt("rescan", Int, "Blocks to look at again at start, or a negative height"),
    multi("addr", Text, "Listen here, and tell others"),
    multi("bind-addr", Text, "Listen here"),
    inert(multi("announce-addr", Text, "Tell others of this address")),
    opt("autolisten", Bool, "Listen on the default port"),
    opt("disable-dns", Flag, "Never resolve a hostname"),
    inert(opt("autoconnect-seeker-peers", Int, "Peers to look for gossip with")),
    inert(opt("proxy", Text, "SOCKS5 proxy")),
    inert(opt("always-use-proxy", Bool, "Dial through the proxy only")),
    inert(opt("announce-addr-discovered", Text, "Announce what peers say they see")),
    opt("fee-base", Int, "Base fee of a forward, msat"),
    opt("fee-per-satoshi", Int, "Proportional fee of a forward, millionths"),
    opt("min-capacity-sat", Int, "Smallest channel to accept, satoshi"),
    opt("funding-confirms", Int, "Confirmations before a channel of a peer is used"),
    opt("watchtime-blocks", Int, "How long the peer's own money waits when it closes alone"),
    opt("max-locktime-blocks", Int, "Blocks from now that an HTLC may last which we forward"),
    opt("cltv-delta", Int, "Blocks between the two expiries of a forward"),
    opt("cltv-final", Int, "Blocks that a payment to us must have left"),
    opt("max-concurrent-htlcs", Int, "HTLCs at once, each way, per channel"),
    opt("htlc-minimum-msat", Msat, "Smallest HTLC to accept or to forward"),
    opt("htlc-maximum-msat", Msat, "Largest HTLC to forward"),
    opt("max-dust-htlc-exposure-msat", Msat, "What trimmed HTLCs may come to, per channel"),
    opt("ignore-fee-limits", Bool, "Bear any feerate of a peer's"),
    opt("commit-time", Int, "Milliseconds to gather updates for one commitment"),
    opt("commit-fee", Int, "Per cent of the estimate that commitments pay"),
    inert(opt(
        "commit-feerate-offset",
        Int,
        "Added to the feerate of a commitment without anchors",
    )),
    opt("min-emergency-msat", Msat, "What is kept back to bump fees of closes"),
    inert(opt("require-confirmed-inputs", Bool, "Of dual funding")),
    opt("force-feerates", Text, "Fixed feerates, perkw: one, or opening/mutual/unilateral/..."),
    opt("large-channels", Flag, "Accepted; large channels are always on"),
    opt("wumbo", Flag, "Accepted; large channels are always on"),
    multi("plugin", Text, "Start this plugin"),
    multi("plugin-dir", Text, "Start every plugin in here"),
    opt("clear-plugins", Flag, "Forget the plugins named so far"),
    multi("disable-plugin", Text, "Do not start this plugin"),
    multi("important-plugin", Text, "Start this plugin, and stop the node when it dies"),
    inert(dev("dev-fast-gossip", Flag, "Shorter timers")),
    dev("dev-bitcoind-poll", Int, "Seconds between questions to the backend; 0: twenty a second"),
    dev(
        "dev-stale-tip",
        Int,
        "Seconds from which on a tip is too old; regtest has no limit otherwise",
    ),
    dev(
        "dev-peer-close-seconds",
        Int,
        "Seconds that a close begun by the peer may take; 172800 by default",
    ),
    dev("dev-no-reconnect", Flag, "Do not dial peers with channels again"),
    dev("dev-fail-on-subdaemon-fail", Flag, "Stop when a daemon dies of a bug"),
    dev("dev-free-space-file", Text, "The free bytes of the disk stand in this file"),
    dev(
        "dev-database-pages",
        Int,
        "Let the database be full at so many pages, until lightningd begins anew",
    ),
    dev(
        "dev-restart-pause",
        Int,
        "Milliseconds at most between connectd's death and its next start",
    ),
    dev("dev-commit-delay", Int, "Milliseconds that each write to the disk takes longer"),
    dev("dev-save-plugin-io", Text, "Keep what plugins hear and say in this directory"),
    dev("dev-barriers", Text, "Count barriers in this directory, and die where it says"),
    dev("dev-crash-after", Int, "Abort after this many seconds"),
    inert(dev("dev-allow-localhost", Flag, "Announce local addresses")),
    inert(dev("dev-force-privkey", Text, "Node key")),
    inert(dev("dev-disconnect", Text, "Disconnect at given messages")),
];

/// The spec of this name.
pub fn find(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}
