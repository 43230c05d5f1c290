//! A plugin's stderr: a pipe, whose lines go to the log with the plugin's limit. On lightningd's
//! own stderr a plugin could fill whatever that is redirected to.

use crate::sys::log::line_of::Speaker;
use std::io::{ErrorKind, Read};
use std::process::ChildStderr;
use wire::daemon::LogLevel;

/// Bytes of one line that are kept until its end; the log cuts it to fewer.
const MAX_LINE: usize = 4096;
/// What is read of one plugin in one round, and of what a dead one left in its pipe.
const MAX_READ_PER_ROUND: usize = 64 * 1024;

/// One plugin's pipe, and the line that has begun.
pub struct Stderr {
    pipe: Option<ChildStderr>,
    source: String,
    level: LogLevel,
    line: Vec<u8>,
}

impl Stderr {
    /// Of this plugin. Its pipe does not block. Our own plugins write there only what is BROKEN, as
    /// subdaemons do.
    pub fn new(pipe: ChildStderr, plugin: &str, is_ours: bool) -> Self {
        let level = if is_ours { LogLevel::Broken } else { LogLevel::Unusual };
        Self { pipe: Some(pipe), source: format!("plugin-{plugin}"), level, line: vec![] }
    }

    /// Logs the lines that are there. True: there may be more.
    pub fn read(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let mut total = 0;
        while total < MAX_READ_PER_ROUND {
            let Some(pipe) = &mut self.pipe else { return false };
            match pipe.read(&mut chunk) {
                Ok(0) => self.end(),
                Ok(n) => {
                    total += n;
                    self.take(chunk.get(..n).unwrap_or_default());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => self.end(),
            }
        }
        true
    }

    /// The plugin is dead: logs what it left.
    pub fn last_words(&mut self) {
        self.read();
        self.end();
    }

    fn end(&mut self) {
        self.pipe = None;
        if !self.line.is_empty() {
            self.say();
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = part.strip_suffix(b"\n").unwrap_or(part);
            let room = MAX_LINE - self.line.len();
            self.line.extend_from_slice(text.get(..room).unwrap_or(text));
            if text.len() < part.len() {
                self.say();
            }
        }
    }

    fn say(&mut self) {
        let line = std::mem::take(&mut self.line);
        let text = format!("stderr: {}", String::from_utf8_lossy(&line).trim_end());
        crate::sys::log::line_of(Speaker::Plugin, self.level, None, &self.source, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What a plugin called so wrote, as the log has it.
    fn logged(name: &str, script: &str) -> Vec<(LogLevel, String)> {
        let mut child =
            Command::new("sh").args(["-c", script]).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = Stderr::new(child.stderr.take().unwrap(), name, false);
        while stderr.read() {}
        child.wait().unwrap();
        stderr.last_words();
        assert!(stderr.pipe.is_none());
        let source = format!("plugin-{name}");
        let lines =
            crate::sys::log::kept(LogLevel::Debug).0.into_iter().filter(|l| l.source == source);
        lines.map(|line| (line.level, line.text)).collect()
    }

    #[test]
    fn stderr_of_plugin_is_logged_line_by_line() {
        let lines = logged("words", "printf 'one\\n\\ntwo \\377\\nunfinished' >&2");
        let texts: Vec<_> = lines.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            texts,
            ["stderr: one", "stderr: ", "stderr: two \u{fffd}", "stderr: unfinished"]
        );
        assert!(lines.iter().all(|(level, _)| *level == LogLevel::Unusual));
    }

    #[test]
    fn stderr_line_without_end_is_cut() {
        let lines =
            logged("long", "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo y >&2; echo z >&2");
        let lengths: Vec<_> = lines.iter().map(|(_, text)| text.len()).collect();
        assert_eq!(lengths, [primitives::MAX_CUT_TEXT, "stderr: z".len()]);
    }
}
