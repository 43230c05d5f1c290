//! `lightning-cli`: a command line turned into one JSON-RPC request, and its answer into text.
//!
//! It knows no command of lightningd's but `help`: what a method takes and answers passes through as it is. Numbers
//! and the order of members stay as lightningd wrote them.
#![deny(clippy::indexing_slicing)]

mod args;
mod client;
mod config;
mod format;
mod json;
mod request;

use args::{Args, Format};
use client::{Client, Reply};
use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

/// How it ends. CLN's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// There is a result.
    Fine = 0,
    /// lightningd says no.
    Refused = 1,
    /// lightningd cannot be talked to.
    NoTalk = 2,
    /// The command line makes no sense.
    Usage = 3,
}

/// Why there is nothing to print: said on stderr.
#[derive(Debug)]
struct Failed(Exit, String);

/// The whole program.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let exit = match speak(args) {
        Ok(exit) => exit,
        Err(Failed(exit, why)) => {
            eprintln!("lightning-cli: {why}");
            exit
        }
    };
    ExitCode::from(exit as u8)
}

fn speak(args: impl Iterator<Item = OsString>) -> Result<Exit, Failed> {
    let mut args = Args::parse(args)?;
    if args.version {
        print(concat!("v26.06-fulmen-", env!("CARGO_PKG_VERSION"), "\n"));
        return Ok(Exit::Fine);
    }
    if args.help {
        print(args::USAGE);
        return Ok(Exit::Fine);
    }
    let place = config::find(&args)?;
    let mut command = std::mem::take(&mut args.command);
    if command.is_empty() {
        print(args::USAGE);
        command.push("help".to_owned());
    }
    let [method, params @ ..] = command.as_slice() else { return Ok(Exit::Fine) };
    if method == "help" && args.format == Format::Default && show_man_page(params) {
        return Ok(Exit::Fine);
    }

    let id = request::id(method);
    let request = request::build(&args, &id, method, params)?;
    let mut client = Client::connect(&place)?;
    // Through commando the answer comes from another node: it has no progress to tell.
    if let (Some(level), None) = (args.notifications, &args.commando) {
        client.enable_notifications(level, &id)?;
    }
    let (text, exit) = match client.ask(&request, &id)? {
        Reply::Result(result) => {
            (format::result(&result, args.format, method, params)?, Exit::Fine)
        }
        Reply::Error(error) => (format::error(&error, args.format)?, Exit::Refused),
    };
    print(&text);
    Ok(exit)
}

/// Whoever closed our stdout has seen enough.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// `help <command>` shows its page in the manual, where there is one.
fn show_man_page(params: &[String]) -> bool {
    let [command] = params else { return false };
    if !command.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return false;
    }
    let page = format!("lightning-{command}");
    let man = |arguments: &[OsString]| {
        let mut man = Command::new("man");
        man.args(arguments).stderr(Stdio::null());
        man.status().is_ok_and(|status| status.success())
    };
    let beside =
        std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned()));
    let files = ["doc", "share/man/man7"]
        .iter()
        .filter_map(|dir| Some(beside.as_ref()?.join(dir).join(format!("{page}.7"))))
        .filter(|file| file.is_file());
    man(&[page.clone().into()]) || files.into_iter().any(|file| man(&["-l".into(), file.into()]))
}

/// For fuzz/: text from where a lightningd should be, in every form that it is shown in.
#[cfg(feature = "fuzzing")]
pub fn shows(text: &str) {
    let _ = json::parse(text);
    for format in [Format::Default, Format::Json, Format::Raw, Format::Human, Format::Flat] {
        let _ = (format::result(text, format, "help", &[]), format::error(text, format));
    }
}

#[cfg(test)]
mod tests;
