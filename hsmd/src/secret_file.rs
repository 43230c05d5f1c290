//! The file `hsm_secret`: made once, read at every start, never written again.
//!
//! Three forms, those of Core Lightning: 32 bytes; 32 zero bytes and the words of BIP 39; SHA256 of
//! the seed and the words, where a passphrase is needed too.

use crate::derive::Root;
use bip39::{Language, Mnemonic};
use bitcoin::hashes::{Hash, sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Nothing that we can read is longer: 32 bytes and 24 words of at most 8 letters.
const MAX_LENGTH: usize = 32 + 24 * 9;
/// The length of a file that an old CLN wrote with `--encrypted-hsm`.
const ENCRYPTED_LENGTH: usize = 73;

/// Why there is no secret: a sentence for the operator.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// The file has a passphrase, and none was given.
    NeedsPassphrase(String),
    /// The file has no passphrase, or another one.
    WrongPassphrase(String),
    /// Anything else.
    Other(String),
}
impl From<String> for Unusable {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

/// The secret, and whether it was made just now.
pub(crate) fn open(path: &Path, passphrase: Option<&[u8]>) -> Result<(Root, bool), Unusable> {
    let passphrase = passphrase
        .map(|bytes| {
            std::str::from_utf8(bytes)
                .map_err(|_| Unusable::WrongPassphrase("the passphrase is not UTF-8".to_owned()))
        })
        .transpose()?;
    match read(path) {
        Ok(content) => understand(path, &content, passphrase).map(|root| (root, false)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (root, content) = create(passphrase.unwrap_or_default());
            write_new(path, &content)
                .map_err(|e| format!("cannot make {}: {e}", path.display()))?;
            Ok((root, true))
        }
        Err(e) => Err(format!("cannot read {}: {e}", path.display()).into()),
    }
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        log::warn!(
            "{} can be read by others (mode {:04o}): chmod 0400 it",
            path.display(),
            mode & 0o7777
        );
    }
    // Room from the start: a vector that grows would leave copies behind.
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_LENGTH + 2));
    file.take(MAX_LENGTH as u64 + 1).read_to_end(&mut content)?;
    Ok(content)
}

pub(crate) fn understand(
    path: &Path,
    content: &[u8],
    passphrase: Option<&str>,
) -> Result<Root, Unusable> {
    let file = path.display();
    let Some((head, words)) = content.split_first_chunk::<32>() else {
        return Err(too_short(path, content.len()).into());
    };
    if words.is_empty() {
        if passphrase.is_some() {
            return Err(Unusable::WrongPassphrase(format!(
                "{file} is 32 raw bytes and has no passphrase, but one was given: start without --hsm-passphrase"
            )));
        }
        return Ok(Root::Raw(Zeroizing::new(*head)));
    }
    if content.len() == ENCRYPTED_LENGTH {
        return Err(format!(
            "{file} has 73 bytes: it is encrypted in the old form of --encrypted-hsm; decrypt it with CLN's 'lightning-hsmtool decrypt' first"
        )
        .into());
    }
    if content.len() > MAX_LENGTH {
        return Err(format!(
            "{file} has more than {MAX_LENGTH} bytes, the most that a mnemonic takes"
        )
        .into());
    }
    let mnemonic = std::str::from_utf8(words)
        .map_err(|_| "not text".to_owned())
        .and_then(|words| Mnemonic::parse_in_normalized(Language::English, words.trim_end()).map_err(|e| e.to_string()))
        .map_err(|e| {
            format!("{file} has {} bytes, of which the {} after the first 32 are no English BIP 39 mnemonic ({e})", content.len(), words.len())
        })?;
    let protected = *head != [0; 32];
    match (protected, passphrase) {
        (true, None) => {
            return Err(Unusable::NeedsPassphrase(format!(
                "{file} needs its passphrase: start with --hsm-passphrase"
            )));
        }
        (false, Some(given)) if !given.is_empty() => {
            return Err(Unusable::WrongPassphrase(format!(
                "{file} has no passphrase, but one was given: start without --hsm-passphrase"
            )));
        }
        (true, Some(_)) | (false, _) => {}
    }
    let seed = Zeroizing::new(mnemonic.to_seed_normalized(passphrase.unwrap_or_default()));
    if protected && sha256::Hash::hash(seed.as_slice()).to_byte_array() != *head {
        return Err(Unusable::WrongPassphrase(format!("this is not the passphrase of {file}")));
    }
    Ok(Root::Seed(seed))
}

/// Of a file with fewer than 32 bytes.
fn too_short(path: &Path, length: usize) -> String {
    let hint = match length {
        0 => "; it was never finished: if this node never ran, remove it",
        _ => "; restore it from a backup",
    };
    format!(
        "{} has {length} bytes, where 32 or a mnemonic of at least 12 words are expected{hint}",
        path.display()
    )
}

/// Twelve new words, and the file's content.
fn create(passphrase: &str) -> (Root, Zeroizing<Vec<u8>>) {
    let entropy = Zeroizing::new(subdaemon::random::<16>());
    let mnemonic =
        Mnemonic::from_entropy(entropy.as_slice()).expect("BIP 39 knows 128 bits of entropy");
    let seed = Zeroizing::new(mnemonic.to_seed_normalized(passphrase));
    let head = if passphrase.is_empty() {
        [0; 32]
    } else {
        sha256::Hash::hash(seed.as_slice()).to_byte_array()
    };
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_LENGTH));
    content.extend_from_slice(&head);
    for (i, word) in mnemonic.words().enumerate() {
        if i > 0 {
            content.push(b' ');
        }
        content.extend_from_slice(word.as_bytes());
    }
    (Root::Seed(seed), content)
}

/// Never over anything that is there, and not believed before it is on disk.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
    if let Err(e) = written {
        // Nothing was derived from it yet.
        std::fs::remove_file(path)?;
        return Err(e);
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[path = "secret_file_tests.rs"]
mod tests;
