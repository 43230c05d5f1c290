//! Options: from the command line and CLN's configuration files to typed values, each with where it
//! was said.
//!
//! Later wins, but for options that may be given more than once. Unknown names are kept until the
//! plugins have said which options are theirs; what nobody claims is fatal.

pub mod command;
pub mod files;
mod row;
pub mod said;
pub mod table;
pub mod takes;

use crate::sys::fatal::Fatal;
use crate::sys::options::row::Basis;
use crate::sys::options::said::{CMDLINE, Occurrences, Said};
use primitives::Network;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use table::{OPTIONS, Options, Spec, find};
use takes::Shown;

/// Everything that was said, and what it means.
#[derive(Debug, Clone)]
pub struct Config {
    /// The value of each option of ours.
    pub options: Options,
    said: BTreeMap<String, Vec<Said>>,
}

/// An option of ours as `listconfigs` shows it.
pub struct Listed<'a> {
    pub spec: &'static Spec,
    /// None where the option has no value, one where it is not `multi`.
    pub values: Vec<Shown>,
    /// Where it was said; empty for a default.
    pub said: &'a [Said],
}

fn problem(said: &Said, name: &str, what: impl std::fmt::Display) -> Fatal {
    // What is no option of ours may be a password with its name misspelt; another database's
    // address may have one.
    let value = said.value.as_ref().filter(|_| find(name).is_some_and(|spec| !spec.secret));
    let value = value.map(|v| format!("={v}")).unwrap_or_default();
    match said.source.as_str() {
        CMDLINE => Fatal(format!("--{name}: {what}")),
        file_line => Fatal(format!(
            "Config file {}: {name}{value}: {what}",
            file_line.replacen(':', " line ", 1)
        )),
    }
}

impl Config {
    /// Reads the command line, then the files it leads to.
    pub fn load(args: &[String], home: Option<&Path>) -> Result<Self, Fatal> {
        let cmdline = command::parse(args)?;
        let explicit = last(&cmdline, "conf");
        let mut files: Occurrences = match &explicit {
            Some(conf) => files::read(Path::new(conf), true)?,
            None => vec![],
        };
        let base = match last(&cmdline, "lightning-dir").or_else(|| last(&files, "lightning-dir")) {
            Some(dir) => std::path::absolute(&dir)
                .map_err(|e| Fatal(format!("--lightning-dir={dir}: {e}")))?,
            None => {
                let dir = home.map_or_else(|| PathBuf::from("."), |h| h.join(".lightning"));
                std::path::absolute(&dir).map_err(|e| Fatal(format!("{}: {e}", dir.display())))?
            }
        };
        if explicit.is_none() {
            files.extend(files::read(&base.join("config"), false)?);
            if let Some((name, said)) = files.iter().find(|(n, _)| n == "lightning-dir") {
                return Err(problem(
                    said,
                    name,
                    "only allowed on the command line or in a --conf file",
                ));
            }
        }
        let network = network_of(files.iter().chain(&cmdline))?;
        if explicit.is_none() {
            let per_network = files::read(&base.join(network.name()).join("config"), false)?;
            if let Some((name, said)) = per_network.iter().find(|(n, _)| is_network(n)) {
                return Err(problem(
                    said,
                    name,
                    "the network cannot be chosen in a network's own config",
                ));
            }
            files.extend(per_network);
        }
        if let Some((name, said)) = files.iter().find(|(n, _)| n == "conf") {
            return Err(problem(said, name, "only allowed on the command line"));
        }
        let mut config = Self::of(network, files.into_iter().chain(cmdline))?;
        config.options.lightning_dir = base;
        Ok(config)
    }

    /// A command line and the bytes of a file, without what the file includes: for fuzzing.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn of_bytes(args: &[String], file: Vec<u8>) -> Result<Self, Fatal> {
        let mut said = Occurrences::new();
        for line in files::lines(Path::new("config"), file)? {
            if let files::Line::Option(name, value) = line {
                said.push((name, value));
            }
        }
        said.extend(command::parse(args)?);
        let network = network_of(said.iter())?;
        Self::of(network, said.into_iter())
    }

    /// Nothing was said but the network: for tests.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn for_network(network: Network) -> Self {
        let basis = Basis { network, developer: false };
        let options = Options { network, ..Options::preset(basis) };
        Self { options, said: BTreeMap::new() }
    }

    fn of(network: Network, all: impl Iterator<Item = (String, Said)>) -> Result<Self, Fatal> {
        let mut said = BTreeMap::new();
        for (name, one) in all {
            add(&mut said, &name, one)?;
        }
        let developer = said.contains_key("developer");
        let mut options = Options::preset(Basis { network, developer });
        for (name, all) in &said {
            let Some(spec) = find(name) else { continue };
            for (at, one) in all.iter().enumerate() {
                if spec.developer && !developer {
                    return Err(problem(one, name, "only allowed with --developer"));
                }
                (spec.put)(&mut options, one.value.as_deref(), spec.range, at == 0)
                    .map_err(|what| problem(one, name, what))?;
            }
        }
        options.network = network;
        Ok(Self { options, said })
    }

    /// The chain.
    pub fn network(&self) -> Network {
        self.options.network
    }
    /// The base directory: `~/.lightning`, or `--lightning-dir`.
    pub fn base(&self) -> &Path {
        &self.options.lightning_dir
    }
    /// `<base>/<network>`.
    pub fn network_dir(&self) -> PathBuf {
        self.base().join(self.network().name())
    }
    /// Holds the process id, and the lock that keeps a second lightningd out.
    pub fn pid_file(&self) -> PathBuf {
        let name = format!("lightningd-{}.pid", self.network());
        self.options.pid_file.clone().unwrap_or_else(|| self.base().join(name))
    }
    /// `--developer`.
    pub fn developer(&self) -> bool {
        self.options.developer
    }
    /// Every occurrence of a plugin's option, in order.
    pub fn of_plugin(&self, name: &str) -> &[Said] {
        self.said.get(name).map_or(&[], Vec::as_slice)
    }
    /// Every option of ours.
    pub fn list(&self) -> impl Iterator<Item = Listed<'_>> {
        OPTIONS.iter().map(|spec| Listed {
            spec,
            values: (spec.shown)(&self.options),
            said: self.of_plugin(spec.name),
        })
    }

    /// After the manifests: `Err` if an option is neither ours nor one of the plugins', which are
    /// named with whether they take a value.
    pub fn check_all_known(&self, plugins: &BTreeMap<String, bool>) -> Result<(), Fatal> {
        for (name, all) in &self.said {
            let Some(said) = all.last() else { continue };
            match (find(name), plugins.get(name)) {
                (Some(spec), _) if spec.inert => {
                    log::debug!("--{name} is accepted, and has no effect")
                }
                (Some(_), _) => {}
                (None, None) => {
                    let meant = command::suggestion(name, plugins.keys())
                        .map(|meant| format!(": did you mean {meant}?"));
                    let what = format!("unrecognized option{}", meant.unwrap_or_default());
                    return Err(problem(said, name, what));
                }
                (None, Some(false)) if all.iter().any(|said| said.is_next_word) => {
                    return Err(command::no_option(Some(name)));
                }
                (None, Some(_)) => {}
            }
        }
        Ok(())
    }
}

/// The value of an option that decides which files are read.
fn last(said: &[(String, Said)], name: &str) -> Option<String> {
    said.iter().rev().find(|(n, _)| n == name).and_then(|(_, said)| said.value.clone())
}

/// Adds an occurrence of an option. `Err` if it is one of ours that does not take this value.
fn add(all: &mut BTreeMap<String, Vec<Said>>, name: &str, said: Said) -> Result<(), Fatal> {
    let Some(spec) = find(name) else {
        // A plugin's, or nobody's: known after the manifests.
        all.entry(name.to_owned()).or_default().push(said);
        return Ok(());
    };
    (spec.check)(said.value.as_deref(), spec.range).map_err(|what| problem(&said, name, what))?;
    if name == "clear-plugins" {
        all.remove("plugin");
        all.remove("plugin-dir");
    }
    let all = all.entry(name.to_owned()).or_default();
    if !spec.multi {
        all.clear();
    }
    all.push(said);
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn command_line_overrides_network_file_overrides_base_file() {
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
        assert_eq!(config.options.alias.as_deref(), Some("net"));
        assert_eq!(config.options.fee_base, 9);
        assert_eq!(config.options.plugin, ["/a", "/b"]);
        assert!(config.of_plugin("alias").last().unwrap().source.ends_with("regtest/config:1"));
        std::fs::write(dir.join("regtest/config"), "network=signet\n").unwrap();
        assert!(Config::load(&args(&format!("--lightning-dir={}", dir.display())), None).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn errors_name_option_and_place() {
        let says = |text: &str| {
            Config::load(&args(text), None)
                .and_then(|c| c.check_all_known(&BTreeMap::new()))
                .unwrap_err()
                .0
        };
        let base = "--lightning-dir=/nonexistent --regtest ";
        assert_eq!(says(&format!("{base}--nonsense=1")), "--nonsense: unrecognized option");
        assert_eq!(
            says(&format!("{base}--fee-bse=1")),
            "--fee-bse: unrecognized option: did you mean --fee-base?"
        );
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
        let said = Said { source: "/c:3".into(), ..Said::on_cmdline(Some("hunter2".into())) };
        assert_eq!(
            problem(&said, "bitcoin-rpcpasswd", "unrecognized option").0,
            "Config file /c line 3: bitcoin-rpcpasswd: unrecognized option"
        );
        let said = Said { source: "/c:3".into(), ..Said::on_cmdline(Some("x".into())) };
        assert!(problem(&said, "fee-base", "bad").0.contains("fee-base=x"));
    }

    fn with(option: &str, value: Option<&str>) -> Result<Config, String> {
        let value = value.map(|v| format!("={v}")).unwrap_or_default();
        let args = ["--lightning-dir=/nonexistent", "--regtest", "--developer"].map(str::to_owned);
        let args: Vec<_> = args.into_iter().chain([format!("--{option}{value}")]).collect();
        Config::load(&args, None).map_err(|e| e.0)
    }

    fn shown(config: &Config, name: &str) -> Vec<Shown> {
        config.list().find(|listed| listed.spec.name == name).unwrap().values
    }

    /// What an option shows, given to it again, is what it shows.
    #[test]
    fn every_option_takes_what_it_shows() {
        for spec in OPTIONS.iter().filter(|spec| !["network", "conf"].contains(&spec.name)) {
            let preset = Config::for_network(Network::Regtest);
            let value = match shown(&preset, spec.name).pop() {
                Some(Shown::Set(is_set)) => {
                    assert!(!is_set, "--{}", spec.name);
                    assert_eq!(
                        shown(&with(spec.name, None).unwrap(), spec.name),
                        [Shown::Set(true)]
                    );
                    continue;
                }
                Some(value) => value,
                None => Shown::Text(unset_example(spec.name).to_owned()),
            };
            if spec.name != "lightning-dir" {
                let given = with(spec.name, Some(&value.to_string())).unwrap();
                assert_eq!(
                    shown(&given, spec.name).pop().unwrap().to_string(),
                    value.to_string(),
                    "--{}",
                    spec.name
                );
            }
        }
    }

    /// A value for an option that has no default.
    fn unset_example(name: &str) -> &'static str {
        match name {
            "rgb" => "01ab02",
            "sandbox" => "best-effort",
            "subdaemon" => "hsmd:/opt/my_hsmd",
            "force-feerates" => "1000/253",
            "database-upgrade" => "true",
            "dev-stale-tip" | "dev-peer-close-seconds" | "dev-restart-pause" => "7",
            _ => "some",
        }
    }

    #[test]
    fn number_beyond_its_range_is_refused_with_both_values() {
        let mut seen = 0;
        for spec in OPTIONS.iter().filter(|spec| spec.form == takes::Form::Int) {
            let (least, most) = spec.range.unwrap_or_else(|| {
                // What the type allows is said in the refusal of a number that no type has.
                let said = with(spec.name, Some("99999999999999999999999")).unwrap_err();
                let allowed = said.split_once("out of range: ").unwrap().1;
                let (least, most) =
                    allowed.trim_end_matches(" are allowed").split_once(" to ").unwrap();
                (least.parse().unwrap(), most.parse().unwrap())
            });
            for fits in [least, most] {
                let config = with(spec.name, Some(&fits.to_string())).unwrap();
                assert_eq!(shown(&config, spec.name), [Shown::Int(fits.try_into().unwrap())]);
            }
            for beyond in [least - 1, most + 1] {
                assert_eq!(
                    with(spec.name, Some(&beyond.to_string())).unwrap_err(),
                    format!(
                        "--{}: '{beyond}' is out of range: {least} to {most} are allowed",
                        spec.name
                    )
                );
            }
            for text in ["", "-", "1x", "0x10"] {
                let said = with(spec.name, Some(text)).unwrap_err();
                assert_eq!(said, format!("--{}: '{text}' is not a number", spec.name));
            }
            seen += 1;
        }
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn wrong_text_is_refused_with_what_is_allowed() {
        for (name, value, says) in [
            ("rgb", "red", "'red' is no colour: six hexadecimal digits"),
            ("sandbox", "no", "should be required or best-effort, not 'no'"),
            ("subdaemon", "hsmd", "'hsmd' should be NAME:PATH"),
            ("rpc-file-mode", "0778", "'0778' is no octal mode: 0000 to 0777 are allowed"),
            ("force-feerates", "1000/x", "'x' is not a number"),
            ("autolisten", "no", "should be true or false, not 'no'"),
            ("htlc-minimum-msat", "1.5", "'1.5' is no amount"),
            ("alias", &"x".repeat(33), "has 33 bytes, of 32 at most"),
            ("wallet", "postgres://me:hunter2@x", "only sqlite3://FILE is supported"),
            ("wallet", "sqlite3://", "names no file"),
        ] {
            let said = with(name, Some(value)).unwrap_err();
            assert!(said.contains(says) && !said.contains("hunter2"), "--{name}={value}: {said}");
        }
        let said =
            Said { source: "/c:3".into(), ..Said::on_cmdline(Some("postgres://hunter2".into())) };
        assert!(!problem(&said, "wallet", "bad").0.contains("hunter2"));
    }

    #[test]
    fn defaults_depend_on_network_and_developer() {
        let main = Config::for_network(Network::Bitcoin).options;
        let test = Config::for_network(Network::Signet).options;
        assert_eq!((main.fee_base, test.fee_base), (1000, 1));
        assert_eq!((main.ignore_fee_limits, test.ignore_fee_limits), (false, true));
        assert!(main.allow_deprecated_apis && !main.rescan.is_given);
        assert!(!with("alias", Some("x")).unwrap().options.allow_deprecated_apis);
        assert!(with("rescan", Some("30")).unwrap().options.rescan.is_given);
        assert_eq!(with("log-level", Some("debug")).unwrap().options.log_level, ["debug"]);
    }

    #[test]
    fn plugin_option_takes_the_next_word_unless_it_is_a_flag() {
        let config =
            Config::load(&args("--lightning-dir=/nonexistent --regtest --times 3 --polite"), None);
        let config = config.unwrap();
        let plugins = |times: bool| {
            BTreeMap::from([("times".to_owned(), times), ("polite".to_owned(), false)])
        };
        assert!(config.check_all_known(&plugins(true)).is_ok());
        assert_eq!(config.of_plugin("times").last().unwrap().value.as_deref(), Some("3"));
        let said = config.check_all_known(&plugins(false)).unwrap_err();
        assert!(said.0.starts_with("the word after --times is no option"), "{said}");
    }
}
