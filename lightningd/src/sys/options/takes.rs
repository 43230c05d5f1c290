//! What an option takes: how text becomes a value, and how `listconfigs` shows the value.

use primitives::{CltvDelta, FeeratePerKw, Msat, Network, Sat};
use sandbox::Mode as SandboxMode;
use std::fmt::Debug;
use std::path::PathBuf;

/// The form of a value in `listconfigs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `set`: nothing is taken.
    Flag,
    /// `value_bool`.
    Bool,
    /// `value_int`.
    Int,
    /// `value_msat`.
    Msat,
    /// `value_str`.
    Text,
}

/// A value as `listconfigs` and `--help` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Set(bool),
    Bool(bool),
    Int(i64),
    Msat(u64),
    Text(String),
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(is) | Self::Bool(is) => write!(f, "{is}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Msat(amount) => write!(f, "{amount}msat"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// The least and the greatest number that is allowed.
pub type Range = (i128, i128);

/// A kind of value.
pub trait Takes {
    type Value: Clone + Debug;
    const FORM: Form;
    /// Stands for the value in `--help`.
    const WORD: &'static str;
    /// `Err` says what is wrong, with the value and what is allowed. A number outside of `range`
    /// (or of its type, where the option has no range) is one.
    fn parse(text: &str, range: Option<Range>) -> Result<Self::Value, String>;
    fn shown(value: &Self::Value) -> Shown;
}

/// A number in digits.
fn number(text: &str, (least, most): Range) -> Result<i128, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("'{text}' is not a number"));
    }
    let number = text.parse().ok().filter(|n| (least..=most).contains(n));
    number.ok_or_else(|| out_of_range(text, least, most))
}

fn out_of_range(text: &str, least: i128, most: i128) -> String {
    format!("'{text}' is out of range: {least} to {most} are allowed")
}

macro_rules! numbers {
    ($($type:ty, $word:literal, $least:expr, $most:expr, $from:expr, $to:expr;)*) => { $(
        impl Takes for $type {
            type Value = Self;
            const FORM: Form = Form::Int;
            const WORD: &'static str = $word;
            fn parse(text: &str, range: Option<Range>) -> Result<Self, String> {
                let (least, most) = range.unwrap_or((i128::from($least), i128::from($most)));
                let number = number(text, (least, most))?;
                let number = number.try_into().map_err(|_| out_of_range(text, least, most))?;
                Ok($from(number))
            }
            fn shown(value: &Self) -> Shown {
                Shown::Int($to(*value))
            }
        }
    )* };
}

numbers! {
    u16, "NUMBER", u16::MIN, u16::MAX, |n: u16| n, i64::from;
    u32, "NUMBER", u32::MIN, u32::MAX, |n: u32| n, i64::from;
    i32, "NUMBER", i32::MIN, i32::MAX, |n: i32| n, i64::from;
    CltvDelta, "BLOCKS", u16::MIN, u16::MAX, CltvDelta, |blocks: CltvDelta| i64::from(blocks.0);
    Sat, "SATOSHI", 0, Sat::MAX_MONEY.0, Sat, |sat: Sat| i64::try_from(sat.0).unwrap_or(i64::MAX);
}

/// Nothing: the option is there or not. CLN's files may say `=true`.
#[derive(Debug)]
pub struct Present;
impl Takes for Present {
    type Value = bool;
    const FORM: Form = Form::Flag;
    const WORD: &'static str = "";
    fn parse(text: &str, _: Option<Range>) -> Result<bool, String> {
        let fits = matches!(text, "" | "true");
        if fits { Ok(true) } else { Err("doesn't allow an argument".to_owned()) }
    }
    fn shown(value: &bool) -> Shown {
        Shown::Set(*value)
    }
}

impl Takes for bool {
    type Value = Self;
    const FORM: Form = Form::Bool;
    const WORD: &'static str = "true|false";
    fn parse(text: &str, _: Option<Range>) -> Result<bool, String> {
        match text {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => Err(format!("should be true or false, not '{other}'")),
        }
    }
    fn shown(value: &bool) -> Shown {
        Shown::Bool(*value)
    }
}

impl Takes for Msat {
    type Value = Self;
    const FORM: Form = Form::Msat;
    const WORD: &'static str = "MSAT";
    fn parse(text: &str, range: Option<Range>) -> Result<Self, String> {
        let amount = Msat::parse(text).map_err(|e| e.to_string())?;
        let (least, most) = range.unwrap_or((0, u64::MAX.into()));
        let fits = (least..=most).contains(&i128::from(amount.0));
        if fits { Ok(amount) } else { Err(out_of_range(text, least, most)) }
    }
    fn shown(value: &Self) -> Shown {
        Shown::Msat(value.0)
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident, $word:literal, $value:ty, $parse:expr, $shown:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;
        impl Takes for $name {
            type Value = $value;
            const FORM: Form = Form::Text;
            const WORD: &'static str = $word;
            fn parse(text: &str, _: Option<Range>) -> Result<$value, String> {
                ($parse)(text)
            }
            fn shown(value: &$value) -> Shown {
                let shown: fn(&$value) -> String = $shown;
                Shown::Text(shown(value))
            }
        }
    )* };
}

texts! {
    /// Any text.
    Text, "TEXT", String, |text: &str| Ok(text.to_owned()), String::clone;
    /// A file or directory, relative to the network's directory.
    Path, "PATH", PathBuf, |text: &str| Ok(PathBuf::from(text)), |path| path.display().to_string();
    /// A chain's name.
    Chain, "NETWORK", Network, str::parse::<Network>, |network| network.name().to_owned();
    /// BOLT 7, node_announcement: an alias has 32 bytes.
    Alias, "NAME", String, alias, String::clone;
    /// Six hexadecimal digits, perhaps after a `#`.
    Rgb, "RRGGBB", [u8; 3], rgb, |[r, g, b]| format!("{r:02x}{g:02x}{b:02x}");
    /// CLN's form of a database: only SQLite is supported.
    Wallet, "sqlite3://FILE", PathBuf, wallet, |file| format!("sqlite3://{}", file.display());
    /// Permissions of a file.
    OctalMode, "OCTAL", u32, octal_mode, |mode| format!("{mode:04o}");
    /// Whether the kernel's sandboxes are needed.
    Sandbox, "required|best-effort", SandboxMode, sandbox_mode, show_sandbox;
    /// An executable in place of a daemon.
    Subdaemon, "NAME:PATH", (String, PathBuf), subdaemon, |(name, path)| format!("{name}:{}", path.display());
    /// Feerates per kiloweight by use; the last stands for all that follow.
    Feerates, "PERKW[/PERKW...]", Vec<FeeratePerKw>, feerates, |rates| show_feerates(rates);
    /// Whether addresses that peers report are announced.
    Discovered, "true|false|auto", String, discovered, String::clone;
}

fn alias(text: &str) -> Result<String, String> {
    match text.len() {
        ..=32 => Ok(text.to_owned()),
        bytes => Err(format!("'{text}' has {bytes} bytes, of 32 at most")),
    }
}

fn rgb(text: &str) -> Result<[u8; 3], String> {
    crate::sys::json::from_hex(text.trim_start_matches('#'))
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("'{text}' is no colour: six hexadecimal digits"))
}

/// The text may be the address of another database, with a password: no error repeats it.
fn wallet(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("sqlite3://") {
        None => Err("only sqlite3://FILE is supported".to_owned()),
        Some("") => Err("sqlite3:// names no file".to_owned()),
        Some(file) => Ok(PathBuf::from(file)),
    }
}

fn octal_mode(text: &str) -> Result<u32, String> {
    let mode = text.bytes().all(|b| b.is_ascii_digit()).then(|| u32::from_str_radix(text, 8));
    match mode {
        Some(Ok(mode @ ..=0o777)) => Ok(mode),
        _ => Err(format!("'{text}' is no octal mode: 0000 to 0777 are allowed")),
    }
}

fn sandbox_mode(text: &str) -> Result<SandboxMode, String> {
    match text {
        "required" => Ok(SandboxMode::Required),
        "best-effort" => Ok(SandboxMode::BestEffort),
        other => Err(format!("should be required or best-effort, not '{other}'")),
    }
}

fn show_sandbox(mode: &SandboxMode) -> String {
    match mode {
        SandboxMode::Required => "required".to_owned(),
        SandboxMode::BestEffort => "best-effort".to_owned(),
    }
}

fn subdaemon(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text
        .split_once(':')
        .ok_or_else(|| format!("'{text}' should be NAME:PATH, such as hsmd:/opt/my_hsmd"))?;
    Ok((name.to_owned(), PathBuf::from(path)))
}

fn feerates(text: &str) -> Result<Vec<FeeratePerKw>, String> {
    let whole = (0, u32::MAX.into());
    let one = |rate: &str| u32::parse(rate, Some(whole)).map(FeeratePerKw);
    text.split('/').map(one).collect()
}

fn show_feerates(rates: &[FeeratePerKw]) -> String {
    rates.iter().map(|rate| rate.0.to_string()).collect::<Vec<_>>().join("/")
}

fn discovered(text: &str) -> Result<String, String> {
    match text {
        "true" | "false" | "auto" => Ok(text.to_owned()),
        other => Err(format!("should be true, false or auto, not '{other}'")),
    }
}
