//! The command line.

use crate::exit::{Exit, Failed};
use clap::{CommandFactory, Parser, ValueHint};
use primitives::Network;
use std::ffi::OsString;
use std::path::PathBuf;

/// How to print a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON, unless the result asks for something simpler.
    Default,
    Json,
    Human,
    Flat,
    Raw,
}

/// How parameters are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Keywords if the first parameter has a `=`.
    Guess,
    Keywords,
    Ordered,
}

/// How much to tell while lightningd works. In rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Trace,
    Io,
    Debug,
    Info,
    Unusual,
    Broken,
}

impl Level {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "trace" => Self::Trace,
            "io" => Self::Io,
            "debug" => Self::Debug,
            "info" => Self::Info,
            "unusual" | "warn" => Self::Unusual,
            "broken" | "error" => Self::Broken,
            _ => return None,
        })
    }
}

/// From which level on notifications are shown; `None`: none is.
type Shown = Option<Level>;

fn shown(text: &str) -> Result<Shown, String> {
    match (text, Level::parse(text)) {
        ("none", _) => Ok(None),
        (_, Some(level)) => Ok(Some(level)),
        (_, None) => Err("should be trace, io, debug, info, unusual, broken or none".to_owned()),
    }
}

/// A peer, and a rune of its where one is needed.
type Commando = (String, Option<String>);

fn commando(text: &str) -> Result<Commando, String> {
    Ok(match text.split_once(':') {
        Some((peer, rune)) => (peer.to_owned(), Some(rune.to_owned())),
        None => (text.to_owned(), None),
    })
}

/// The words as they stand on the command line. CLN's options.
#[derive(Debug, Parser)]
#[command(
    name = "lightning-cli",
    version = crate::exit::VERSION,
    about = "Sends a command to lightningd, and prints the answer",
    override_usage = "lightning-cli [options] <command> [<params>...]",
    help_template = "{usage-heading} {usage}\n\n{all-args}{after-help}",
    after_help = "Run 'lightning-cli help' for the commands that lightningd knows.",
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true
)]
struct Words {
    /// Directory of lightningd (default: ~/.lightning)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, allow_hyphen_values = true)]
    lightning_dir: Option<PathBuf>,
    /// bitcoin, testnet, testnet4, signet or regtest
    #[arg(
        long,
        value_name = "NETWORK",
        allow_hyphen_values = true,
        overrides_with_all = ["mainnet", "testnet", "testnet4", "signet", "regtest"]
    )]
    network: Option<Network>,
    /// Same as --network=bitcoin
    #[arg(long, overrides_with_all = ["network", "testnet", "testnet4", "signet", "regtest"])]
    mainnet: bool,
    /// Same as --network=testnet
    #[arg(long, overrides_with_all = ["network", "mainnet", "testnet4", "signet", "regtest"])]
    testnet: bool,
    /// Same as --network=testnet4
    #[arg(long, overrides_with_all = ["network", "mainnet", "testnet", "signet", "regtest"])]
    testnet4: bool,
    /// Same as --network=signet
    #[arg(long, overrides_with_all = ["network", "mainnet", "testnet", "testnet4", "regtest"])]
    signet: bool,
    /// Same as --network=regtest
    #[arg(long, overrides_with_all = ["network", "mainnet", "testnet", "testnet4", "signet"])]
    regtest: bool,
    /// lightningd's socket, relative to the network's directory (default: lightning-rpc)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, allow_hyphen_values = true)]
    rpc_file: Option<PathBuf>,
    /// Read this configuration file, and no other
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, allow_hyphen_values = true)]
    conf: Option<PathBuf>,
    /// Params are key=value (default if the first param has a '=')
    #[arg(short, long, overrides_with = "order")]
    keywords: bool,
    /// Params are in the order in which the command takes them
    #[arg(short, long, overrides_with = "keywords")]
    order: bool,
    /// Print JSON (default unless 'help')
    #[arg(short = 'J', long, overrides_with_all = ["human_readable", "flat", "raw"])]
    json: bool,
    /// Print values, one a line
    #[arg(short = 'H', long, overrides_with_all = ["json", "flat", "raw"])]
    human_readable: bool,
    /// Print lines of path=value
    #[arg(short = 'F', long, overrides_with_all = ["json", "human_readable", "raw"])]
    flat: bool,
    /// Print the result as lightningd wrote it
    #[arg(short = 'R', long, overrides_with_all = ["json", "human_readable", "flat"])]
    raw: bool,
    /// Show messages from this level up: trace, io, debug, info (default), unusual, broken, none
    #[arg(
        short = 'N',
        long,
        value_name = "LEVEL",
        value_parser = shown,
        allow_hyphen_values = true
    )]
    notifications: Option<Shown>,
    /// Only these members of the result
    #[arg(short = 'l', long, value_name = "JSON", allow_hyphen_values = true)]
    filter: Option<String>,
    /// Ask another node, through commando
    #[arg(
        short = 'c',
        long,
        value_name = "PEERID[:RUNE]",
        value_parser = commando,
        allow_hyphen_values = true
    )]
    commando: Option<Commando>,
    /// Print this
    #[arg(short, long)]
    help: bool,
    /// Print the version
    #[arg(short = 'V', long)]
    version: bool,
    /// Command of lightningd
    #[arg(value_name = "COMMAND")]
    method: Option<String>,
    /// Parameters of the command
    #[arg(value_name = "PARAMS")]
    params: Vec<String>,
}

/// The command line of `lightning-cli`.
pub fn command() -> clap::Command {
    Words::command()
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    format!("{}\n", command().render_help())
}

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) lightning_dir: Option<PathBuf>,
    pub(crate) network: Option<Network>,
    pub(crate) rpc_file: Option<PathBuf>,
    pub(crate) conf: Option<PathBuf>,
    pub(crate) style: Style,
    pub(crate) format: Format,
    /// `None`: none.
    pub(crate) notifications: Option<Level>,
    pub(crate) filter: Option<String>,
    /// Peer and perhaps rune.
    pub(crate) commando: Option<(String, Option<String>)>,
    pub(crate) help: bool,
    pub(crate) version: bool,
    /// Method and parameters.
    pub(crate) command: Vec<String>,
}

impl Args {
    /// Options may stand anywhere; `--` ends them. The program's own name is not among the words.
    pub(crate) fn parse(given: impl Iterator<Item = OsString>) -> Result<Self, Failed> {
        let words = std::iter::once(OsString::from("lightning-cli")).chain(given);
        let words = Words::try_parse_from(words).map_err(|e| {
            let text = e.to_string();
            // What comes behind is how to use the program: --help tells that.
            let text = text.split("\n\nUsage:").next().unwrap_or_default();
            let text = text.split("\n\nFor more information").next().unwrap_or_default();
            let text = text.trim_start_matches("error: ").trim_end().replace("\n\n  tip: ", ": ");
            usage(format!("{text} (see --help)"))
        })?;
        Ok(Self::from(words))
    }
}

impl From<Words> for Args {
    fn from(words: Words) -> Self {
        let flags = [
            (words.mainnet, Network::Bitcoin),
            (words.testnet, Network::Testnet),
            (words.testnet4, Network::Testnet4),
            (words.signet, Network::Signet),
            (words.regtest, Network::Regtest),
        ];
        let formats = [
            (words.json, Format::Json),
            (words.human_readable, Format::Human),
            (words.flat, Format::Flat),
            (words.raw, Format::Raw),
        ];
        let styles = [(words.keywords, Style::Keywords), (words.order, Style::Ordered)];
        Self {
            lightning_dir: words.lightning_dir,
            network: given(&flags).or(words.network),
            rpc_file: words.rpc_file,
            conf: words.conf,
            style: given(&styles).unwrap_or(Style::Guess),
            format: given(&formats).unwrap_or(Format::Default),
            notifications: words.notifications.unwrap_or(Some(Level::Info)),
            filter: words.filter,
            commando: words.commando,
            help: words.help,
            version: words.version,
            command: words.method.into_iter().chain(words.params).collect(),
        }
    }
}

/// What the flag stands for that was given. Of several the last is left: it overrides the others.
fn given<T: Copy>(flags: &[(bool, T)]) -> Option<T> {
    flags.iter().find(|(is_given, _)| *is_given).map(|(_, means)| *means)
}

/// A network by its own option, on the command line or in a configuration file.
pub(crate) fn network_flag(name: &str) -> Option<Network> {
    match name {
        "mainnet" => Some(Network::Bitcoin),
        "testnet" => Some(Network::Testnet),
        "testnet4" => Some(Network::Testnet4),
        "signet" => Some(Network::Signet),
        "regtest" => Some(Network::Regtest),
        _ => None,
    }
}

pub(crate) fn usage(why: impl Into<String>) -> Failed {
    Failed(Exit::Usage, why.into())
}
