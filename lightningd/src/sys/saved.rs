//! `--dev-save-plugin-io`: what a plugin heard and what it said, byte for byte, in two files of its
//! own.

use crate::sys::children::PluginId;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// One plugin's files: `NAME-NUMBER.in` and `NAME-NUMBER.out`.
pub struct Saved {
    heard: Option<File>,
    said: Option<File>,
}

impl Saved {
    /// In this directory, which is made if need be. What an earlier run left there is kept, and
    /// followed. Options have passwords: nobody else may read them.
    pub fn open(dir: &Path, name: &str, id: PluginId) -> std::io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let open = |end: &str| {
            let path = dir.join(format!("{name}-{id}.{end}"));
            OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(Some)
        };
        Ok(Self { heard: open("in")?, said: open("out")? })
    }
    /// It was told this.
    pub fn heard(&mut self, bytes: &[u8]) {
        write(&mut self.heard, bytes);
    }
    /// It said this.
    pub fn said(&mut self, bytes: &[u8]) {
        write(&mut self.said, bytes);
    }
}

/// A full disk ends the record, not the plugin.
fn write(file: &mut Option<File>, bytes: &[u8]) {
    if let Some(open) = file
        && let Err(e) = open.write_all(bytes)
    {
        log::warn!("--dev-save-plugin-io: {e}: no more is saved there");
        *file = None;
    }
}
