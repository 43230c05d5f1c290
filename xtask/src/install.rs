//! `cargo xtask install PREFIX`: the suite as it lies on a machine that runs it.

use crate::release;
use crate::shell::root;
use std::fs;
use std::path::Path;

/// Where each executable goes, under the prefix. lightningd looks for the daemons and plugins
/// there, from where it lies itself.
const LAYOUT: &[(&str, &[&str])] = &[
    ("bin", &["lightningd", "lightning-cli"]),
    (
        "libexec/fulmen",
        &[
            "lightning_hsmd",
            "lightning_connectd",
            "lightning_openingd",
            "lightning_channeld",
            "lightning_closingd",
            "lightning_onchaind",
        ],
    ),
    ("libexec/fulmen/plugins", &["bcli", "pay"]),
];

/// Builds the suite for use, and copies it to `prefix`.
pub(crate) fn run(prefix: &Path) -> Result<(), String> {
    release::run()?;
    lay_out(&root().join("target/release"), prefix)?;
    release::manual(&prefix.join("share"))?;
    println!("installed: {}", prefix.join("bin/lightningd").display());
    Ok(())
}

/// Copies the executables in `from` to their places under `prefix`. One that runs is replaced, not
/// written over.
pub(crate) fn lay_out(from: &Path, prefix: &Path) -> Result<(), String> {
    for (folder, names) in LAYOUT {
        let folder = prefix.join(folder);
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        fs::create_dir_all(&folder).map_err(failed)?;
        for name in *names {
            let fresh = folder.join(format!(".{name}.new"));
            fs::copy(from.join(name), &fresh)
                .map_err(|e| format!("{}: {e}", from.join(name).display()))?;
            fs::rename(&fresh, folder.join(name)).map_err(failed)?;
        }
    }
    Ok(())
}
