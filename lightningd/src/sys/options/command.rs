//! lightningd's command line as clap sees it, from the table of options: what is parsed, `--help`,
//! what a mistyped option may have been meant to be, completions and the man page.

use crate::sys::fatal::Fatal;
use crate::sys::options::said::{Occurrences, Said};
use crate::sys::options::table::{OPTIONS, Spec, find};
use crate::sys::options::takes::Form;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// The command line of `lightningd`.
pub fn command() -> Command {
    Command::new("lightningd")
        .about("A Lightning node as a suite of small daemons")
        .version(crate::sys::version::version())
        .override_usage("lightningd [OPTIONS]")
        .after_help(
            "DIR/config and DIR/NETWORK/config take the same options, without the dashes, one a \
             line. Plugins have options of their own.",
        )
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .args(OPTIONS.iter().map(arg))
}

/// Made once: that takes longer than to parse a command line.
fn built() -> MutexGuard<'static, Command> {
    static BUILT: LazyLock<Mutex<Command>> = LazyLock::new(|| {
        let mut command = command();
        command.build();
        Mutex::new(command)
    });
    BUILT.lock().unwrap_or_else(PoisonError::into_inner)
}

fn arg(spec: &'static Spec) -> Arg {
    let arg =
        Arg::new(spec.name).long(spec.name).help(help(spec)).help_heading(spec.heading.to_owned());
    let arg = match spec.name {
        "help" => arg.short('h'),
        "version" => arg.short('V'),
        _ => arg,
    };
    let hint = if spec.word == "PATH" { ValueHint::AnyPath } else { ValueHint::Other };
    let valued = arg.clone().value_name(spec.word).value_hint(hint).action(ArgAction::Append);
    match spec.form {
        Form::Flag => arg.action(ArgAction::SetTrue),
        Form::Bool => valued.num_args(0..=1).default_missing_value("true"),
        // A negative number, or a file `-`.
        Form::Int | Form::Msat | Form::Text => valued.num_args(1).allow_hyphen_values(true),
    }
}

/// The doc of an option with its range and default.
fn help(spec: &Spec) -> String {
    let mut text = spec.doc.split_whitespace().collect::<Vec<_>>().join(" ");
    if spec.multi {
        text.push_str(". May be given more than once");
    }
    if let Some((least, most)) = spec.range {
        text.push_str(&format!(" ({least} to {most})"));
    }
    if let Some(preset) = (spec.preset)() {
        text.push_str(&format!(" (default: {preset})"));
    }
    if spec.inert {
        text.push_str(" (accepted, without effect)");
    }
    text
}

/// The words of the command line, without the program's name: each option of ours, and each other
/// name, which may be a plugin's option.
pub fn parse(args: &[String]) -> Result<Occurrences, Fatal> {
    let (ours, mut all) = split(args)?;
    let words = std::iter::once("lightningd".to_owned()).chain(ours);
    let matches = built().try_get_matches_from_mut(words).map_err(|e| {
        let text = e.to_string();
        let line = text.lines().next().unwrap_or_default();
        Fatal(line.trim_start_matches("error: ").to_owned())
    })?;
    all.extend(in_order(&matches));
    Ok(all)
}

/// The words that are for clap, and the names that are none of ours. Of these nobody knows yet
/// whether they take a value: a word that follows may be one.
fn split(args: &[String]) -> Result<(Vec<String>, Occurrences), Fatal> {
    let (mut ours, mut others) = (Vec::new(), Occurrences::new());
    let mut before: Option<&str> = None;
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let Some(word) = arg.strip_prefix("--") else {
            if !matches!(arg.as_str(), "-h" | "-V") {
                return Err(no_option(before));
            }
            ours.push(arg.clone());
            continue;
        };
        let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
        before = Some(name);
        let Some(spec) = find(name) else {
            let next = args.next_if(|next| value.is_none() && !next.starts_with('-'));
            let is_next_word = next.is_some();
            let value = value.map(str::to_owned).or_else(|| next.cloned());
            others.push((name.to_owned(), Said { is_next_word, ..Said::on_cmdline(value) }));
            continue;
        };
        match (spec.form, value) {
            // As in a file.
            (Form::Flag, Some("" | "true")) => ours.push(format!("--{name}")),
            (Form::Flag, Some(_)) => {
                return Err(Fatal(format!("--{name}: doesn't allow an argument")));
            }
            (Form::Flag, None) | (_, Some(_)) => ours.push(arg.clone()),
            (Form::Bool, None) => {
                ours.push(arg.clone());
                ours.extend(args.next_if(|next| !next.starts_with('-')).cloned());
            }
            (Form::Int | Form::Msat | Form::Text, None) => {
                // Behind two dashes is the next option: this one's value was forgotten.
                let value = args.next_if(|next| !next.starts_with("--"));
                let value =
                    value.ok_or_else(|| Fatal(format!("--{name}: requires an argument")))?;
                ours.extend([arg.clone(), value.clone()]);
            }
        }
    }
    Ok((ours, others))
}

/// What clap found, in the order in which it was said.
fn in_order(matches: &ArgMatches) -> Occurrences {
    let mut found: BTreeMap<usize, (String, Said)> = BTreeMap::new();
    for spec in OPTIONS {
        let is_said = matches.value_source(spec.name) == Some(ValueSource::CommandLine);
        let Some(places) = matches.indices_of(spec.name).filter(|_| is_said) else { continue };
        let values: Vec<Option<String>> = match spec.form {
            Form::Flag => vec![None],
            Form::Bool | Form::Int | Form::Msat | Form::Text => {
                let values = matches.get_many::<String>(spec.name);
                values.into_iter().flatten().cloned().map(Some).collect()
            }
        };
        for (place, value) in places.zip(values) {
            found.insert(place, (spec.name.to_owned(), Said::on_cmdline(value)));
        }
    }
    found.into_values().collect()
}

/// A word where an option should be. It may be a password, behind an option that wants it after a
/// `=`: it is not shown.
pub fn no_option(before: Option<&str>) -> Fatal {
    let place = before
        .map_or_else(|| "the first word".to_owned(), |before| format!("the word after --{before}"));
    Fatal(format!("{place} is no option: lightningd takes options only, such as --network=regtest"))
}

/// The option, of ours or of these plugins', that a name looks like.
pub fn suggestion<'a>(mistyped: &str, plugins: impl Iterator<Item = &'a String>) -> Option<String> {
    let theirs: Vec<&String> =
        plugins.filter(|name| find(name).is_none() && !name.starts_with('-')).collect();
    let words = ["lightningd".to_owned(), format!("--{mistyped}")];
    let error = if theirs.is_empty() {
        built().try_get_matches_from_mut(words).err()?
    } else {
        let theirs = theirs.into_iter().map(|name| Arg::new(name.clone()).long(name.clone()));
        command().args(theirs).try_get_matches_from(words).err()?
    };
    let Some(ContextValue::String(name)) = error.get(ContextKind::SuggestedArg) else {
        return None;
    };
    Some(name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Vec<(String, Option<String>)>, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let all = parse(&words).map_err(|e| e.0)?;
        Ok(all.into_iter().map(|(name, said)| (name, said.value)).collect())
    }

    #[test]
    fn command_line_keeps_values_and_order() {
        let all = parsed(
            "--plugin=a --clear-plugins --plugin b --rescan -7 --log-file - --autolisten false \
             --log-timestamps --daemon=true --alias=x=y --alias= --regtest --signet --regtest -V",
        );
        let found: Vec<String> = all
            .unwrap()
            .into_iter()
            .map(|(name, value)| value.map_or_else(|| name.clone(), |v| format!("{name}={v}")))
            .collect();
        assert_eq!(
            found,
            [
                "plugin=a",
                "clear-plugins",
                "plugin=b",
                "rescan=-7",
                "log-file=-",
                "autolisten=false",
                "log-timestamps=true",
                "daemon",
                "alias=x=y",
                "alias=",
                "signet",
                "regtest",
                "version"
            ]
        );
    }

    #[test]
    fn forgotten_or_needless_value_is_refused() {
        for (line, says) in [
            ("--alias", "--alias: requires an argument"),
            ("--alias --regtest", "--alias: requires an argument"),
            ("--daemon=1", "--daemon: doesn't allow an argument"),
            ("--regtest now", "the word after --regtest is no option"),
            ("--log-file=x now", "the word after --log-file is no option"),
            ("now", "the first word is no option"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.starts_with(says), "{line}: {said}");
        }
    }

    #[test]
    fn unknown_name_keeps_the_word_behind_it() {
        let words = ["--sauce", "hot", "--salt", "--pepper=black", "--sugar"].map(str::to_owned);
        let all = parse(&words).unwrap();
        let found: Vec<_> = all
            .iter()
            .map(|(name, said)| (name.as_str(), said.value.as_deref(), said.is_next_word))
            .collect();
        assert_eq!(
            found,
            [
                ("sauce", Some("hot"), true),
                ("salt", None, false),
                ("pepper", Some("black"), false),
                ("sugar", None, false)
            ]
        );
    }

    #[test]
    fn help_shows_every_option_with_its_range_and_default() {
        command().debug_assert();
        let help = command().render_help().to_string();
        let shown = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for spec in OPTIONS {
            assert!(shown.contains(&format!("--{}", spec.name)), "{}", spec.name);
            let text = super::help(spec);
            assert!(shown.contains(&text), "--{}: '{text}' is not in {help}", spec.name);
            let preset = (spec.preset)().map(|preset| format!("(default: {preset})"));
            assert!(text.contains(&preset.unwrap_or_default()), "--{}", spec.name);
        }
        assert!(shown.contains("(default: 1000; 1 on test networks)"));
        assert!(shown.contains("(1 to 483)"));
    }

    #[test]
    fn man_page_and_completions_have_every_option() {
        let (mut page, mut bash) = (Vec::new(), Vec::new());
        clap_mangen::Man::new(command()).section("8").render(&mut page).unwrap();
        let shell = clap_complete::Shell::Bash;
        clap_complete::generate(shell, &mut command(), "lightningd", &mut bash);
        let page = String::from_utf8(page).unwrap().replace("\\-", "-");
        let bash = String::from_utf8(bash).unwrap();
        for spec in OPTIONS {
            let name = format!("--{}", spec.name);
            assert!(page.contains(&name) && bash.contains(&name), "{name}");
        }
    }

    #[test]
    fn mistyped_option_is_suggested() {
        let plugins = ["bitcoin-rpcuser".to_owned(), "alias".to_owned(), "--odd".to_owned()];
        let meant = |name: &str| suggestion(name, plugins.iter());
        assert_eq!(meant("fee-bse").as_deref(), Some("--fee-base"));
        assert_eq!(meant("bitcoin-rpcusr").as_deref(), Some("--bitcoin-rpcuser"));
        for name in ["xyzzy", "", "=", "alias"] {
            assert_eq!(meant(name), None, "{name}");
        }
    }
}
