//! From the command line to the exit code.

use crate::args::{self, Args, Format};
use crate::client::{Client, Reply};
use crate::exit::{Exit, Failed, VERSION, print};
use crate::{config, format, request};
use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

/// The whole program. `RUST_LOG=debug` tells on stderr where it looks for lightningd.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    env_logger::init();
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
        print(&format!("{VERSION}\n"));
        return Ok(Exit::Fine);
    }
    if args.help {
        print(&args::help());
        return Ok(Exit::Fine);
    }
    let place = config::find(&args)?;
    let mut command = std::mem::take(&mut args.command);
    if command.is_empty() {
        print(&args::help());
        command.push("help".to_owned());
    }
    let [method, params @ ..] = command.as_slice() else { return Ok(Exit::Fine) };
    if method == "help" && args.format == Format::Default && show_man_page(params) {
        return Ok(Exit::Fine);
    }

    let id = request::id(method);
    let request = request::build(&args, &id, method, params)?;
    log::debug!("sending {method} to {} in {}", place.socket.display(), place.directory.display());
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
