//! `--hsm-passphrase`: asked for before anything else happens, on the terminal without an echo, or
//! read off whatever stdin is. It goes to hsmd in its first question; every copy that was made of
//! it here is wiped.

use crate::sys::fatal::Fatal;
use nix::errno::Errno;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use primitives::SecretBytes;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// CLN's exit code where the secret file needs a passphrase and none was asked for.
pub const EXIT_NEEDED: u8 = 21;
/// CLN's exit code for a passphrase that is not the one.
pub const EXIT_WRONG: u8 = 22;
/// CLN's exit code where it cannot be read.
pub const EXIT_INPUT: u8 = 23;
/// No person types more.
const MAX_LENGTH: usize = 1000;

/// Asks for it; twice where a new secret file will be made with it. `Err` has the exit code, too.
pub fn ask(is_new: bool) -> Result<SecretBytes, (u8, Fatal)> {
    let stdin = std::io::stdin();
    let input = |what: String| (EXIT_INPUT, Fatal(format!("--hsm-passphrase: {what}")));
    let _silence = Silence::of(stdin.as_fd()).map_err(|e| input(format!("the terminal: {e}")))?;
    let hear = |prompt: &str| {
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{prompt}")
            .and_then(|()| stdout.flush())
            .map_err(|e| input(format!("stdout: {e}")))?;
        read_line(stdin.as_fd()).map_err(input)
    };
    let passphrase = hear("Enter hsm_secret passphrase:")?;
    if passphrase.expose().is_empty() {
        return Err(input(
            "the passphrase is empty: start without this option where the secret has none".into(),
        ));
    }
    if is_new && hear("Confirm hsm_secret passphrase:")? != passphrase {
        let text = "--hsm-passphrase: the two passphrases differ; no secret file was made";
        return Err((EXIT_WRONG, Fatal(text.to_owned())));
    }
    Ok(passphrase)
}

/// One line, byte by byte: what follows it is somebody else's, and no buffer keeps a copy.
fn read_line(fd: BorrowedFd<'_>) -> Result<SecretBytes, String> {
    let mut line = SecretBytes::with_capacity(MAX_LENGTH);
    loop {
        let mut byte = SecretBytes::new(vec![0]);
        match nix::unistd::read(fd, byte.expose_mut()) {
            Ok(0) if line.expose().is_empty() => {
                return Err("stdin ended before the passphrase".to_owned());
            }
            Ok(0) => return Ok(line),
            Ok(_) if byte.expose() == b"\n" => return Ok(line),
            Ok(_) if line.expose().len() == MAX_LENGTH => {
                return Err(format!("more than {MAX_LENGTH} bytes in the first line of stdin"));
            }
            Ok(_) => line.push(&byte),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(format!("stdin: {e}")),
        }
    }
}

/// A terminal that shows nothing of what is typed but the end of the line, as long as this lives.
/// Anything else is left alone.
struct Silence<'a>(Option<(BorrowedFd<'a>, Termios)>);

impl<'a> Silence<'a> {
    fn of(fd: BorrowedFd<'a>) -> Result<Self, Errno> {
        if !nix::unistd::isatty(fd).unwrap_or(false) {
            return Ok(Self(None));
        }
        let before = tcgetattr(fd)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        silent.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(fd, SetArg::TCSANOW, &silent)?;
        Ok(Self(Some((fd, before))))
    }
}
impl Drop for Silence<'_> {
    fn drop(&mut self) {
        if let Some((fd, before)) = &self.0
            && let Err(e) = tcsetattr(fd, SetArg::TCSANOW, before)
        {
            eprintln!(
                "lightningd: the terminal's echo cannot be switched on again ({e}): run 'stty echo'"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn pipe_with(bytes: &[u8]) -> std::io::PipeReader {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(bytes).unwrap();
        reader
    }
    fn read(bytes: &[u8]) -> Result<Vec<u8>, String> {
        read_line(pipe_with(bytes).as_fd()).map(|line| line.expose().to_vec())
    }

    #[test]
    fn a_passphrase_is_one_line_and_nothing_behind_it_is_touched() {
        let mut pipe = pipe_with(b"correct horse \nstaple\n");
        assert_eq!(read_line(pipe.as_fd()).unwrap().expose(), b"correct horse ");
        let mut rest = String::new();
        pipe.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "staple\n");
        assert_eq!(read(b"no newline").unwrap(), b"no newline");
        assert_eq!(read(b"\n").unwrap(), b"");
        assert!(read(b"").unwrap_err().contains("ended before"));
        assert_eq!(read(&[b'x'; MAX_LENGTH]).unwrap().len(), MAX_LENGTH);
        assert!(read(&[b'x'; MAX_LENGTH + 1]).unwrap_err().contains("more than"));
    }

    #[test]
    fn terminal_echo_is_off_for_the_passphrase_and_on_again() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let echoes = || tcgetattr(&pty.slave).unwrap().local_flags.contains(LocalFlags::ECHO);
        assert!(echoes());
        let silence = Silence::of(pty.slave.as_fd()).unwrap();
        assert!(!echoes());
        nix::unistd::write(&pty.master, b"battery\n").unwrap();
        assert_eq!(read_line(pty.slave.as_fd()).unwrap().expose(), b"battery");
        drop(silence);
        assert!(echoes());
    }
}
