//! Options: from the command line and CLN's configuration files to typed values, each with where it was said.
//!
//! Later wins, but for options that may be given more than once. Unknown names are kept until the plugins have said which
//! options are theirs; what nobody claims is fatal.

pub mod files;
pub mod said;
pub mod table;

use crate::sys::fatal::Fatal;
use crate::sys::options::said::Said;
use primitives::{Msat, Network};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use table::{Kind, find};

/// Everything that was said.
#[derive(Debug, Clone, Default)]
pub struct Config {
    said: BTreeMap<String, Vec<Said>>,
    /// Which chain.
    pub network: Option<Network>,
    /// The base directory.
    pub base: PathBuf,
}

fn problem(said: &Said, name: &str, what: impl std::fmt::Display) -> Fatal {
    // What is no option of ours may be a password with its name misspelt.
    let value = said.value.as_ref().filter(|_| find(name).is_some());
    let value = value.map(|v| format!("={v}")).unwrap_or_default();
    match said.source.as_str() {
        "cmdline" => Fatal(format!("--{name}: {what}")),
        file_line => Fatal(format!(
            "Config file {}: {name}{value}: {what}",
            file_line.replacen(':', " line ", 1)
        )),
    }
}

impl Config {
    /// Reads the command line, then the files it leads to.
    pub fn load(args: &[String], home: Option<&Path>) -> Result<Self, Fatal> {
        let cmdline = parse_args(args)?;
        let last =
            |name: &str| cmdline.iter().rev().find(|(n, _)| n == name).map(|(_, s)| s.clone());
        let mut config = Self::default();
        let mut files: Vec<(String, Said)> = Vec::new();
        let explicit = last("conf").and_then(|s| s.value);
        if let Some(conf) = &explicit {
            files.extend(files::read(Path::new(conf), true)?);
        }
        let directory = last("lightning-dir").or_else(|| {
            files.iter().rev().find(|(n, _)| n == "lightning-dir").map(|(_, s)| s.clone())
        });
        config.base = match directory.and_then(|s| s.value) {
            Some(dir) => std::path::absolute(&dir)
                .map_err(|e| Fatal(format!("--lightning-dir={dir}: {e}")))?,
            None => {
                let dir = home.map_or_else(|| PathBuf::from("."), |h| h.join(".lightning"));
                std::path::absolute(&dir).map_err(|e| Fatal(format!("{}: {e}", dir.display())))?
            }
        };
        if explicit.is_none() {
            files.extend(files::read(&config.base.join("config"), false)?);
            if let Some((name, said)) = files.iter().find(|(n, _)| n == "lightning-dir") {
                return Err(problem(
                    said,
                    name,
                    "only allowed on the command line or in a --conf file",
                ));
            }
        }
        config.network = Some(network_of(files.iter().chain(&cmdline))?);
        if explicit.is_none() {
            let per_network = files::read(&config.network_dir().join("config"), false)?;
            if let Some((name, said)) = per_network.iter().find(|(n, _)| is_network(n)) {
                return Err(problem(
                    said,
                    name,
                    "the network cannot be chosen in a network's own config",
                ));
            }
            files.extend(per_network);
        }
        for (name, said) in files.into_iter().chain(cmdline) {
            if said.source != "cmdline" && name == "conf" {
                return Err(problem(&said, &name, "only allowed on the command line"));
            }
            config.add(&name, said)?;
        }
        Ok(config)
    }

    /// A command line and a file of these bytes, without what the file includes: for whoever throws anything at it.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn of_bytes(args: &[String], file: Vec<u8>) -> Result<Self, Fatal> {
        let mut config = Self::default();
        let mut said: Vec<(String, Said)> = Vec::new();
        for line in files::lines(Path::new("config"), file)? {
            if let files::Line::Option(name, value) = line {
                said.push((name, value));
            }
        }
        said.extend(parse_args(args)?);
        config.network = Some(network_of(said.iter())?);
        for (name, said) in said {
            config.add(&name, said)?;
        }
        Ok(config)
    }

    fn add(&mut self, name: &str, said: Said) -> Result<(), Fatal> {
        if let Some(spec) = find(name) {
            check(spec.kind, &said).map_err(|what| problem(&said, name, what))?;
            if name == "clear-plugins" {
                self.said.remove("plugin");
                self.said.remove("plugin-dir");
            }
            let all = self.said.entry(name.to_owned()).or_default();
            if !spec.multi {
                all.clear();
            }
            all.push(said);
        } else {
            // A plugin's, or nobody's: known after the manifests.
            self.said.entry(name.to_owned()).or_default().push(said);
        }
        Ok(())
    }

    /// The chain. Set by `load`.
    pub fn network(&self) -> Network {
        self.network.expect("load sets the network or fails")
    }
    /// `<base>/<network>`.
    pub fn network_dir(&self) -> PathBuf {
        self.base.join(self.network().name())
    }
    /// Every saying of an option, in order.
    pub fn all(&self, name: &str) -> &[Said] {
        self.said.get(name).map_or(&[], Vec::as_slice)
    }
    /// The value that holds.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all(name).last().and_then(|s| s.value.as_deref())
    }
    /// Was this flag given?
    pub fn flag(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
    /// The value that holds, or this.
    pub fn bool_or(&self, name: &str, default: bool) -> bool {
        match self.all(name).last() {
            None => default,
            Some(said) => said.value.as_deref().is_none_or(|v| v == "true" || v == "1"),
        }
    }
    /// The value that holds, or this. Checked when it was read.
    pub fn int_or(&self, name: &str, default: i64) -> i64 {
        self.text(name).and_then(|v| v.parse().ok()).unwrap_or(default)
    }
    /// A number that cannot be negative: what is below zero counts as zero.
    pub fn u32_or(&self, name: &str, default: u32) -> u32 {
        u32::try_from(self.int_or(name, default.into()).max(0)).unwrap_or(u32::MAX)
    }
    /// An amount.
    pub fn msat_or(&self, name: &str, default: Msat) -> Msat {
        self.text(name).and_then(|v| Msat::parse(v).ok()).unwrap_or(default)
    }
    /// `--developer`.
    pub fn developer(&self) -> bool {
        self.flag("developer")
    }
    /// Everything that was said, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Vec<Said>)> {
        self.said.iter()
    }

    /// After the manifests: everything that neither we nor a plugin knows is an error, and so is a developer's option
    /// without --developer.
    pub fn check_all_known(&self, is_plugins: impl Fn(&str) -> bool) -> Result<(), Fatal> {
        for (name, all) in &self.said {
            let Some(said) = all.last() else { continue };
            match find(name) {
                None if !is_plugins(name) => {
                    return Err(problem(said, name, "unrecognized option"));
                }
                None => {}
                Some(spec) if spec.developer && !self.developer() => {
                    return Err(problem(said, name, "only allowed with --developer"));
                }
                Some(spec) if spec.inert => {
                    log::debug!("--{name} is accepted; nothing listens to it yet")
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn is_network(name: &str) -> bool {
    matches!(name, "network" | "mainnet" | "testnet" | "testnet4" | "signet" | "regtest")
}

fn network_of<'a>(said: impl Iterator<Item = &'a (String, Said)>) -> Result<Network, Fatal> {
    let mut network = Network::Bitcoin;
    for (name, said) in said.filter(|(n, _)| is_network(n)) {
        let word = match name.as_str() {
            "network" => said.value.as_deref().unwrap_or_default(),
            "mainnet" => "bitcoin",
            other => other,
        };
        network = word.parse().map_err(|e: String| problem(said, name, e))?;
    }
    Ok(network)
}

fn check(kind: Kind, said: &Said) -> Result<(), String> {
    let value = said.value.as_deref();
    match (kind, value) {
        (Kind::Flag, None) => Ok(()),
        (Kind::Flag, Some("true" | "")) => Ok(()),
        (Kind::Flag, Some(_)) => Err("doesn't allow an argument".to_owned()),
        (Kind::Bool, None | Some("true" | "false" | "1" | "0")) => Ok(()),
        (Kind::Bool, Some(other)) => Err(format!("should be true or false, not '{other}'")),
        (_, None) => Err("requires an argument".to_owned()),
        (Kind::Int, Some(v)) => {
            v.parse::<i64>().map(|_| ()).map_err(|_| format!("'{v}' is not a number"))
        }
        (Kind::Msat, Some(v)) => Msat::parse(v).map(|_| ()).map_err(|e| e.to_string()),
        (Kind::Text, Some(_)) => Ok(()),
    }
}

/// `--name=value`, `--name value` where one is needed, `--name`.
fn parse_args(args: &[String]) -> Result<Vec<(String, Said)>, Fatal> {
    let mut out = Vec::new();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let said = |value| Said { value, source: "cmdline".to_owned() };
        let name = match (arg.strip_prefix("--"), arg.as_str()) {
            (Some(name), _) => name,
            (None, "-h") => "help",
            (None, "-V") => "version",
            (None, _) => {
                // It may be a password, behind an option that wants it after a =.
                let place = out.last().map_or_else(
                    || "the first word".to_owned(),
                    |(before, _): &(String, Said)| format!("the word after --{before}"),
                );
                return Err(Fatal(format!(
                    "{place} is no option: lightningd takes options only, such as --network=regtest"
                )));
            }
        };
        if let Some((name, value)) = name.split_once('=') {
            out.push((name.to_owned(), said(Some(value.to_owned()))));
            continue;
        }
        let takes_value = find(name).is_some_and(|s| !matches!(s.kind, Kind::Flag | Kind::Bool));
        let value =
            if takes_value { args.next_if(|next| !next.starts_with("--")).cloned() } else { None };
        out.push((name.to_owned(), said(value)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_overrides_the_network_file_and_that_the_base_file() {
        let dir = std::env::temp_dir().join(format!("fulmen-options-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("regtest")).unwrap();
        std::fs::write(
            dir.join("config"),
            "network=regtest\nalias=base\nfee-base=7\nplugin=/a\n# no\n\ninclude more\n",
        )
        .unwrap();
        std::fs::write(dir.join("more"), "plugin=/b\n").unwrap();
        std::fs::write(dir.join("regtest/config"), "alias=net\nfee-base=8\n").unwrap();
        let config =
            Config::load(&args(&format!("--lightning-dir={} --fee-base 9", dir.display())), None)
                .unwrap();
        assert_eq!(config.network(), Network::Regtest);
        assert_eq!(config.text("alias"), Some("net"));
        assert_eq!(config.int_or("fee-base", 0), 9);
        assert_eq!(config.all("plugin").len(), 2);
        assert!(config.all("alias").last().unwrap().source.ends_with("regtest/config:1"));
        std::fs::write(dir.join("regtest/config"), "network=signet\n").unwrap();
        assert!(Config::load(&args(&format!("--lightning-dir={}", dir.display())), None).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn mistakes_are_named_with_where_they_are() {
        let says = |text: &str| {
            Config::load(&args(text), None)
                .and_then(|c| c.check_all_known(|_| false))
                .unwrap_err()
                .0
        };
        let base = "--lightning-dir=/nonexistent --regtest ";
        assert_eq!(says(&format!("{base}--nonsense=1")), "--nonsense: unrecognized option");
        assert_eq!(says(&format!("{base}--fee-base=x")), "--fee-base: 'x' is not a number");
        assert_eq!(
            says(&format!("{base}--dev-bitcoind-poll=1")),
            "--dev-bitcoind-poll: only allowed with --developer"
        );
        assert!(says("--network=foo").contains("unknown network 'foo'"));
        assert!(says("regtest").contains("takes options only"));
        // Nobody's password is shown, however its option is misspelt.
        for text in ["--bitcoin-rpcpassword hunter2", "--bitcoin-rpcpasswd=hunter2", "hunter2"] {
            let said = says(&format!("{base}{text}"));
            assert!(!said.contains("hunter2"), "{said}");
        }
        let said = Said { value: Some("hunter2".into()), source: "/c:3".into() };
        assert_eq!(
            problem(&said, "bitcoin-rpcpasswd", "unrecognized option").0,
            "Config file /c line 3: bitcoin-rpcpasswd: unrecognized option"
        );
        let said = Said { value: Some("x".into()), source: "/c:3".into() };
        assert!(problem(&said, "fee-base", "bad").0.contains("fee-base=x"));
    }
}
