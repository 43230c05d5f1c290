//! The command line.

use crate::{Exit, Failed};
use primitives::Network;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
Usage: lightning-cli [options] <command> [<params>...]

  --lightning-dir=<dir>   directory of lightningd (default: ~/.lightning)
  --network=<network>     bitcoin, testnet, testnet4, signet or regtest; also as --mainnet, --regtest, ...
  --rpc-file=<file>       lightningd's socket, relative to the network's directory (default: lightning-rpc)
  --conf=<file>           read this configuration file, and no other
  -k, --keywords          params are key=value (default if the first param has a '=')
  -o, --order             params are in the order in which the command takes them
  -J, --json              print JSON (default unless 'help')
  -H, --human-readable    print values, one a line
  -F, --flat              print lines of path=value
  -R, --raw               print the result as lightningd wrote it
  -N, --notifications=<level>  show messages from this level up: trace, io, debug, info (default), unusual,
                          broken, none
  -l, --filter=<json>     only these members of the result
  -c, --commando=<peerid>[:<rune>]  ask another node, through commando
  -h, --help              print this
  -V, --version           print the version

Run 'lightning-cli help' for the commands that lightningd knows.
";

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
    /// What the first one looks like.
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
    /// Options may stand anywhere; `--` ends them.
    pub(crate) fn parse(given: impl Iterator<Item = OsString>) -> Result<Self, Failed> {
        let mut args = Self {
            lightning_dir: None,
            network: None,
            rpc_file: None,
            conf: None,
            style: Style::Guess,
            format: Format::Default,
            notifications: Some(Level::Info),
            filter: None,
            commando: None,
            help: false,
            version: false,
            command: Vec::new(),
        };
        let mut given = given.map(|arg| {
            arg.into_string().map_err(|arg| usage(format!("{} is not UTF-8", arg.display())))
        });
        while let Some(arg) = given.next() {
            let arg = arg?;
            if arg == "--" {
                args.command.extend(given.collect::<Result<Vec<_>, _>>()?);
                break;
            }
            if let Some(long) = arg.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                args.long(name, value, &mut given)?;
            } else if let Some(short) = arg.strip_prefix('-').filter(|short| !short.is_empty()) {
                args.short(short, &mut given)?;
            } else {
                args.command.push(arg);
            }
        }
        Ok(args)
    }

    fn long(
        &mut self,
        name: &str,
        value: Option<String>,
        more: &mut impl Iterator<Item = Result<String, Failed>>,
    ) -> Result<(), Failed> {
        if let Some(network) = network_flag(name) {
            self.network = Some(network);
            return no_value(name, value);
        }
        if self.flag(name) {
            return no_value(name, value);
        }
        if !TAKES_VALUE.iter().any(|(_, long)| *long == name) {
            return Err(usage(format!("--{name}: unknown option (see --help)")));
        }
        let value = match value {
            Some(value) => value,
            None => next_value(name, more)?,
        };
        self.set(name, value)
    }

    /// A cluster such as `-kJ`, or `-N none`, or `-Nnone`.
    fn short(
        &mut self,
        cluster: &str,
        more: &mut impl Iterator<Item = Result<String, Failed>>,
    ) -> Result<(), Failed> {
        let mut letters = cluster.chars();
        while let Some(letter) = letters.next() {
            if let Some((_, long)) = FLAGS.iter().find(|(short, _)| *short == letter) {
                self.flag(long);
                continue;
            }
            let Some((_, long)) = TAKES_VALUE.iter().find(|(short, _)| *short == letter) else {
                return Err(usage(format!("-{letter}: unknown option (see --help)")));
            };
            let rest = letters.as_str();
            let value = if rest.is_empty() { next_value(long, more)? } else { rest.to_owned() };
            return self.set(long, value);
        }
        Ok(())
    }

    /// Sets an option without a value; false if there is none of that name.
    fn flag(&mut self, name: &str) -> bool {
        match name {
            "keywords" => self.style = Style::Keywords,
            "order" => self.style = Style::Ordered,
            "human-readable" => self.format = Format::Human,
            "json" => self.format = Format::Json,
            "flat" => self.format = Format::Flat,
            "raw" => self.format = Format::Raw,
            "help" => self.help = true,
            "version" => self.version = true,
            _ => return false,
        }
        true
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Failed> {
        match name {
            "lightning-dir" => self.lightning_dir = Some(value.into()),
            "rpc-file" => self.rpc_file = Some(value.into()),
            "conf" => self.conf = Some(value.into()),
            "network" => {
                self.network = Some(value.parse().map_err(|e| usage(format!("--network: {e}")))?);
            }
            "notifications" if value == "none" => self.notifications = None,
            "notifications" => {
                let bad = || usage(format!("--notifications={value}: unknown level (see --help)"));
                self.notifications = Some(Level::parse(&value).ok_or_else(bad)?);
            }
            "filter" => self.filter = Some(value),
            "commando" => {
                self.commando = Some(match value.split_once(':') {
                    Some((peer, rune)) => (peer.to_owned(), Some(rune.to_owned())),
                    None => (value, None),
                });
            }
            _ => return Err(usage(format!("--{name}: unknown option"))),
        }
        Ok(())
    }
}

/// Letter and name of the options without a value.
const FLAGS: [(char, &str); 8] = [
    ('k', "keywords"),
    ('o', "order"),
    ('H', "human-readable"),
    ('J', "json"),
    ('F', "flat"),
    ('R', "raw"),
    ('h', "help"),
    ('V', "version"),
];
/// Letter and name of those with one. A letter that nobody can type stands for none.
const TAKES_VALUE: [(char, &str); 7] = [
    ('\0', "lightning-dir"),
    ('\0', "rpc-file"),
    ('\0', "conf"),
    ('\0', "network"),
    ('N', "notifications"),
    ('l', "filter"),
    ('c', "commando"),
];

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

fn next_value(
    name: &str,
    more: &mut impl Iterator<Item = Result<String, Failed>>,
) -> Result<String, Failed> {
    more.next().unwrap_or_else(|| Err(usage(format!("--{name}: requires an argument"))))
}

fn no_value(name: &str, value: Option<String>) -> Result<(), Failed> {
    match value {
        None => Ok(()),
        Some(_) => Err(usage(format!("--{name}: doesn't allow an argument"))),
    }
}

pub(crate) fn usage(why: impl Into<String>) -> Failed {
    Failed(Exit::Usage, why.into())
}
