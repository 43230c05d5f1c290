//! pyln-client as PyPI has it, in an environment of its own: the versions and sums of
//! `tests/clients/pyln/requirements.txt`, cached for every checkout of this user.

use crate::shell::{root, step};
use crate::{cache, packages};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The python that has pyln-client: `PYLN_PYTHON`, else ours.
pub(crate) fn find_or_install() -> Result<PathBuf, String> {
    if let Some(own) = std::env::var_os("PYLN_PYTHON") {
        return Ok(own.into());
    }
    let list = root().join("tests/clients/pyln/requirements.txt");
    let wanted = fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
    let dir = cache::dir(&format!("pyln-{:08x}", cache::sum(&wanted)))?;
    let lock = File::create(dir.join("lock")).map_err(|e| format!("{}: {e}", dir.display()))?;
    // Two checkouts may ask at once: the second waits for the first one's.
    lock.lock().map_err(|e| format!("{}: {e}", dir.display()))?;
    let (python, complete) = (dir.join("venv/bin/python"), dir.join("complete"));
    if complete.is_file() && python.exists() {
        return Ok(python);
    }
    need_venv()?;
    eprintln!("installing pyln-client, once");
    step(Command::new("python3").args(["-m", "venv", "--clear"]).arg(dir.join("venv")))?;
    step(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--require-hashes", "-r"])
            .arg(&list),
    )
    .map_err(|e| format!("{e}\nthe tests with pyln-client need what this installs from PyPI"))?;
    File::create(&complete).map_err(|e| format!("{}: {e}", complete.display()))?;
    Ok(python)
}

/// Debian keeps what an environment is made of in a package of its own.
fn need_venv() -> Result<(), String> {
    let has_it = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if has_it {
        return Ok(());
    }
    packages::install("the tests with pyln-client need python3 and its venv", "python3-venv")
}
