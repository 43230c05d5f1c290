//! Files that others might reach: opened without following a link, shown to nobody, and said where
//! somebody can read them.

use crate::sys::fatal::Fatal;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Opens or makes a file of ours to append to. A link would have us write where somebody else says.
pub fn open_ours(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.create(true).read(true).append(true).mode(0o600);
    // /dev/stdout and the like are links of the system's. A pipe that is full must not hold up the
    // node.
    let is_device = path.parent() == Some(Path::new("/dev"));
    let flags = if is_device { nix::libc::O_NONBLOCK } else { nix::libc::O_NOFOLLOW };
    options.custom_flags(flags).open(path).map_err(|e| match e.raw_os_error() {
        Some(nix::libc::ELOOP) => std::io::Error::other(
            "it is a symbolic link, and lightningd follows none there: name the file itself",
        ),
        _ => e,
    })
}

/// Removes the socket of a lightningd that is gone. Whatever else has its name stays.
pub fn remove_socket(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(what) if what.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(std::io::Error::other("it is there, and is no socket")),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Of these, what users other than ours can read or write: with its mode, in words for the
/// operator.
pub fn open_to_others<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<String> {
    paths
        .filter_map(|path| {
            let found = std::fs::symlink_metadata(path).ok()?;
            let mode = found.permissions().mode() & 0o7777;
            let should = if found.is_dir() { "0700" } else { "0600" };
            (mode & 0o077 != 0 && !found.is_symlink()).then(|| {
                format!(
                    "other users can get at {} (mode {mode:04o}): chmod {should} it",
                    path.display()
                )
            })
        })
        .collect()
}

/// The network's directory, which is the current one, and whatever files of ours are in it already.
pub fn warn_of_others(database: &Path, revocations: &str, logs: &[String]) {
    let database = database.display();
    let beside = |end: &str| format!("{database}{end}");
    let names = [
        ".".to_owned(),
        database.to_string(),
        beside("-wal"),
        beside("-shm"),
        revocations.to_owned(),
    ];
    let all = names.iter().chain(logs.iter().filter(|path| *path != "-")).map(Path::new);
    for text in open_to_others(all) {
        log::warn!("{text}");
    }
}

/// Executables of a directory that can be plugins: names without other punctuation than . - _
pub fn plugins_in(dir: &Path) -> Result<Vec<PathBuf>, Fatal> {
    use std::os::unix::fs::PermissionsExt;
    let mut out = Vec::new();
    let entries =
        std::fs::read_dir(dir).map_err(|e| Fatal(format!("plugin-dir {}: {e}", dir.display())))?;
    for entry in entries {
        let path = entry.map_err(|e| Fatal(format!("plugin-dir {}: {e}", dir.display())))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c));
        let runs = std::fs::metadata(&path)
            .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if plain && runs {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_ours_are_no_links_and_open_to_nobody_else() {
        let dir = std::env::temp_dir().join(format!("fulmen-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let [file, link, socket] = ["file", "link", "socket"].map(|name| dir.join(name));
        drop(open_ours(&file).unwrap());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let refused = open_ours(&link).unwrap_err().to_string();
        assert!(refused.contains("symbolic link"), "{refused}");

        assert!(remove_socket(&file).is_err() && file.exists());
        assert!(remove_socket(&link).is_err() && link.exists());
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(remove_socket(&socket).is_ok() && !socket.exists());
        assert!(remove_socket(&socket).is_ok(), "it is gone already");

        let paths = [file.as_path(), link.as_path(), &dir.join("none")];
        assert!(open_to_others(paths.into_iter()).is_empty());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let [said] = &open_to_others(paths.into_iter())[..] else { unreachable!("one file") };
        assert!(said.ends_with("(mode 0644): chmod 0600 it"), "{said}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
