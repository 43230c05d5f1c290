//! The version, as people and plugins hear it.

/// The version, as `--version` and `getinfo` say it: the CLN we answer like, then ours.
pub fn version() -> String {
    concat!("v26.06-fulmen-", env!("CARGO_PKG_VERSION")).to_owned()
}
