//! The conversation with lightningd.

use crate::args::Level;
use crate::config::Place;
use crate::exit::{Exit, Failed};
use serde::Deserialize;
use serde_json::StreamDeserializer;
use serde_json::de::IoRead;
use serde_json::value::RawValue;
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;

/// Columns of a progress bar.
const BAR: usize = 60;

/// lightningd's answer, as it was written.
pub(crate) enum Reply {
    Result(String),
    Error(String),
}

pub(crate) struct Client {
    to: UnixStream,
    from: StreamDeserializer<'static, IoRead<BufReader<UnixStream>>, Box<RawValue>>,
    /// Messages from here on are shown.
    level: Option<Level>,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    #[serde(default)]
    id: Option<serde_json::Value>,
    #[serde(default)]
    method: Option<String>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl Client {
    /// Goes to the network's directory first: a socket's name must be short, a directory's need
    /// not.
    pub(crate) fn connect(place: &Place) -> Result<Self, Failed> {
        let Place { directory, socket } = place;
        std::env::set_current_dir(directory).map_err(|e| {
            no_talk(format!(
                "Moving into '{}': {e}. Is --lightning-dir or --network right?",
                directory.display()
            ))
        })?;
        let connect = || {
            let to = UnixStream::connect(socket)?;
            Ok((to.try_clone()?, to))
        };
        let (from, to) = connect().map_err(|e: std::io::Error| {
            no_talk(format!(
                "Connecting to '{}' in {}: {e}. Is lightningd running?",
                socket.display(),
                directory.display()
            ))
        })?;
        let from = serde_json::Deserializer::from_reader(BufReader::new(from)).into_iter();
        Ok(Self { to, from, level: None })
    }

    /// Asks to be told what happens while a command runs. An old lightningd that does not know how
    /// is fine.
    pub(crate) fn enable_notifications(&mut self, level: Level, id: &str) -> Result<(), Failed> {
        let id = format!("{id}+notify-enable");
        let request = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"notifications\",\"params\":{{\"enable\":true}}}}\n\n",
            serde_json::Value::from(id.as_str())
        );
        self.ask(&request, &id)?;
        self.level = Some(level);
        Ok(())
    }

    /// Sends a request, shows what is said meanwhile, and returns the answer.
    pub(crate) fn ask(&mut self, request: &str, id: &str) -> Result<Reply, Failed> {
        self.to
            .write_all(request.as_bytes())
            .map_err(|e| no_talk(format!("Writing the command: {e}")))?;
        loop {
            let object = self
                .from
                .next()
                .ok_or_else(|| no_talk("lightningd hung up without an answer".to_owned()))?
                .map_err(|e| no_talk(format!("Malformed response: {e}")))?;
            let incoming: Incoming<'_> = serde_json::from_str(object.get())
                .map_err(|e| no_talk(format!("Malformed response '{object}': {e}")))?;
            match (&incoming.method, &incoming.id) {
                (Some(method), None) => {
                    show(self.level, method, incoming.params.map_or("{}", RawValue::get));
                    continue;
                }
                // lightningd could not even read whose request it was.
                (None, None) if incoming.error.is_some() => {}
                (_, given) if *given != Some(serde_json::Value::from(id)) => {
                    return Err(no_talk(format!("Response with another id than '{id}': {object}")));
                }
                (_, _) => {}
            }
            return match (incoming.result, incoming.error) {
                (_, Some(error)) => Ok(Reply::Error(error.get().to_owned())),
                (Some(result), None) => Ok(Reply::Result(result.get().to_owned())),
                (None, None) => Err(no_talk(format!("Response without a result: {object}"))),
            };
        }
    }
}

fn no_talk(why: String) -> Failed {
    Failed(Exit::NoTalk, why)
}

/// What lightningd tells while it works.
fn show(from: Option<Level>, method: &str, params: &str) {
    #[derive(Deserialize)]
    struct Message {
        level: String,
        message: String,
    }
    let Some(from) = from else { return };
    match method {
        "message" => {
            let Ok(said) = serde_json::from_str::<Message>(params) else { return };
            if Level::parse(&said.level).is_none_or(|level| level >= from) {
                crate::exit::print(&format!("# {}\n", printable(&said.message)));
            }
        }
        "progress" => {
            if let Some(line) = progress(params) {
                crate::exit::print(&line);
            }
        }
        _ => {}
    }
}

/// A plugin's words may be a stranger's: no control character of theirs reaches the terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// `# Stage 1/2 3/7 |=====     |`, over itself until it is full.
pub(crate) fn progress(params: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Progress {
        num: u64,
        total: u64,
        #[serde(default)]
        stage: Option<Stage>,
    }
    #[derive(Deserialize)]
    struct Stage {
        num: u64,
        total: u64,
    }
    let progress: Progress = serde_json::from_str(params).ok()?;
    // Both count from zero to one less than the total.
    let done = progress.num.saturating_add(1).min(progress.total);
    let stage = progress.stage.map(|stage| {
        format!("Stage {}/{} ", stage.num.saturating_add(1).min(stage.total), stage.total)
    });
    let share = u128::from(done) * BAR as u128 / u128::from(progress.total.max(1));
    let full = usize::try_from(share).unwrap_or(BAR).min(BAR);
    let end = if done == progress.total { "\n" } else { "" };
    Some(format!(
        "\r# {}{done}/{} |{}{}|{end}",
        stage.unwrap_or_default(),
        progress.total,
        "=".repeat(full),
        " ".repeat(BAR - full)
    ))
}
