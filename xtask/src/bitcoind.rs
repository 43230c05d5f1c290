//! A real bitcoind, without wallet, from the source that a crate carries: located by cargo (which
//! checks its sum), built out of source, cached for every checkout of this user.

use crate::cache;
use crate::packages::{self, have};
use crate::shell::{cargo, root, step};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGE: &str = "libbitcoinkernel-sys-";
const PACKAGES: &str = "cmake g++ ninja-build libboost-dev";
const FLAGS: &[&str] = &[
    "-DCMAKE_BUILD_TYPE=Release",
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
    "-DCMAKE_C_FLAGS_RELEASE=-O2",
    "-DCMAKE_CXX_FLAGS=-w",
    "-DBUILD_DAEMON=ON",
    "-DBUILD_CLI=ON",
    "-DBUILD_BITCOIN_BIN=OFF",
    "-DBUILD_TESTS=OFF",
    "-DBUILD_BENCH=OFF",
    "-DBUILD_TX=OFF",
    "-DBUILD_UTIL=OFF",
    "-DBUILD_WALLET_TOOL=OFF",
    "-DBUILD_GUI=OFF",
    "-DBUILD_FUZZ_BINARY=OFF",
    "-DBUILD_KERNEL_LIB=OFF",
    "-DENABLE_WALLET=OFF",
    "-DENABLE_IPC=OFF",
    "-DENABLE_EXTERNAL_SIGNER=OFF",
    "-DWITH_ZMQ=OFF",
    "-DWITH_USDT=OFF",
    "-DWITH_EMBEDDED_ASMAP=OFF",
    // libsecp256k1 takes valgrind's headers where it finds them: they come and go with packages.
    "-DSECP256K1_VALGRIND=OFF",
    "-DINSTALL_MAN=OFF",
    // Several sources in one unit: headers are most of the work.
    "-DCMAKE_UNITY_BUILD=ON",
    "-DCMAKE_UNITY_BUILD_BATCH_SIZE=8",
];

/// `BITCOIND`, else one on the PATH, else ours.
pub(crate) fn find_or_build() -> Result<PathBuf, String> {
    if let Some(own) = std::env::var_os("BITCOIND") {
        return Ok(own.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) =
        std::env::split_paths(&path).map(|d| d.join("bitcoind")).find(|p| p.is_file())
    {
        return Ok(found);
    }
    let (source, version) = source()?;
    let cache = cache_dir(&version)?;
    let bitcoind = cache.join("bin/bitcoind");
    let lock = File::create(cache.join("lock")).map_err(|e| format!("{}: {e}", cache.display()))?;
    // Two checkouts may ask at once: the second waits for the first one's.
    lock.lock().map_err(|e| format!("{}: {e}", cache.display()))?;
    if !bitcoind.is_file() {
        build(&source, &cache)?;
    }
    Ok(bitcoind)
}

/// Where cargo put the source, and its version. This downloads and checks it, and builds nothing.
fn source() -> Result<(PathBuf, String), String> {
    let manifest = root().join("tests/bitcoind-src/Cargo.toml");
    let out = cargo()
        .args(["metadata", "--format-version=1", "--locked", "--manifest-path"])
        .arg(&manifest)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cargo metadata: {e}"))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&out.stdout).map_err(|e| format!("cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let found =
        packages.iter().find(|p| p["name"].as_str().is_some_and(|n| PACKAGE.starts_with(n)));
    let found = found.ok_or("cargo does not know the package that carries bitcoind's source")?;
    let manifest = Path::new(found["manifest_path"].as_str().unwrap_or_default());
    let source = manifest.parent().map(|p| p.join("bitcoin")).ok_or("the package has no folder")?;
    Ok((source, found["version"].as_str().unwrap_or_default().to_owned()))
}

/// One for each version of the source and of the flags.
fn cache_dir(version: &str) -> Result<PathBuf, String> {
    let unity = fs::read_to_string(unity()).map_err(|e| format!("{}: {e}", unity().display()))?;
    cache::dir(&format!("bitcoind-{version}-{:08x}", cache::sum(&(FLAGS.join(" ") + &unity))))
}

fn unity() -> PathBuf {
    root().join("tests/bitcoind-src/unity.cmake")
}

/// Installs what a build needs, where that is allowed; else says which line does.
fn need_tools() -> Result<(), String> {
    let boost = Path::new("/usr/include/boost/version.hpp").is_file();
    if have("cmake") && have("c++") && boost {
        return Ok(());
    }
    packages::install("building bitcoind needs cmake, a C++ compiler and boost's headers", PACKAGES)
}

fn build(source: &Path, cache: &Path) -> Result<(), String> {
    need_tools()?;
    eprintln!("building bitcoind, once: two to five minutes");
    let work = cache.join("build");
    // A build that failed, or was interrupted, leaves a folder that may not fit the machine any
    // more.
    match fs::remove_dir_all(&work) {
        Ok(()) => eprintln!("an earlier build did not end: starting over"),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(format!("{}: {e}", work.display())),
    }
    fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    let mut configure = Command::new("cmake");
    configure.arg("-S").arg(source).arg("-B").arg(&work).args(FLAGS);
    configure
        .arg(format!("-DCMAKE_PROJECT_BitcoinCore_INCLUDE={}", unity().display()))
        .stdout(Stdio::null());
    if have("ninja") {
        configure.args(["-G", "Ninja"]);
    }
    step(&mut configure)?;
    let jobs = std::env::var("JOBS")
        .ok()
        .or_else(|| Some(std::thread::available_parallelism().ok()?.to_string()));
    step(
        Command::new("cmake")
            .arg("--build")
            .arg(&work)
            .args([
                "--target",
                "bitcoind",
                "bitcoin-cli",
                "-j",
                &jobs.unwrap_or_else(|| "1".to_owned()),
            ])
            // The demo's own words are on stdout; this is progress.
            .stdout(Stdio::from(std::io::stderr())),
    )?;
    let fresh = cache.join(format!("bin.{}", std::process::id()));
    fs::create_dir_all(&fresh).map_err(|e| format!("{}: {e}", fresh.display()))?;
    for name in ["bitcoind", "bitcoin-cli"] {
        step(
            Command::new("strip").arg("-o").arg(fresh.join(name)).arg(work.join("bin").join(name)),
        )?;
    }
    fs::rename(&fresh, cache.join("bin")).map_err(|e| format!("{}: {e}", fresh.display()))?;
    fs::remove_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))
}
