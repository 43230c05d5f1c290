//! `cargo run -p lightningd --example manual -- DIR` writes what shells and `man` know of
//! lightningd and lightning-cli below DIR, which is PREFIX/share of an installation.
//!
//! It is no program of the suite, so that none has the code for it.

use clap_complete::Shell;
use std::path::Path;
use std::process::ExitCode;

/// Where completions of a shell are found, and how its file for a program is called.
const SHELLS: &[(Shell, &str, &str, &str)] = &[
    (Shell::Bash, "bash-completion/completions", "", ""),
    (Shell::Zsh, "zsh/site-functions", "_", ""),
    (Shell::Fish, "fish/vendor_completions.d", "", ".fish"),
];

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(dir), None) = (args.next(), args.next()) else {
        eprintln!("usage: manual DIR");
        return ExitCode::from(3);
    };
    // CLN's sections.
    let programs = [("8", lightningd::command()), ("1", cli::command())];
    for (section, command) in programs {
        if let Err(e) = write(Path::new(&dir), section, command) {
            eprintln!("manual: {}: {e}", Path::new(&dir).display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The page of a program, and its completions.
fn write(dir: &Path, section: &str, mut command: clap::Command) -> std::io::Result<()> {
    let name = command.get_name().to_owned();
    for (shell, folder, begin, end) in SHELLS {
        let mut text = Vec::new();
        clap_complete::generate(*shell, &mut command, &name, &mut text);
        put(&dir.join(folder), &format!("{begin}{name}{end}"), &text)?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).section(section).render(&mut page)?;
    put(&dir.join(format!("man/man{section}")), &format!("{name}.{section}"), &page)
}

fn put(folder: &Path, name: &str, text: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), text)
}
