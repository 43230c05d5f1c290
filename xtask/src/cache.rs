//! What is made once for every checkout of this user: `FULMEN_CACHE`, else `~/.cache/fulmen`.

use std::path::PathBuf;

/// A folder in it, which is there.
pub(crate) fn dir(name: &str) -> Result<PathBuf, String> {
    let base = match (std::env::var_os("FULMEN_CACHE"), std::env::var_os("HOME")) {
        (Some(own), _) => PathBuf::from(own),
        (None, Some(home)) => PathBuf::from(home).join(".cache/fulmen"),
        (None, None) => {
            return Err(format!("neither FULMEN_CACHE nor HOME says where to keep {name}"));
        }
    };
    let dir = base.join(name);
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

/// A short sum of what decides how a thing is made: another recipe has another folder.
pub(crate) fn sum(recipe: &str) -> u32 {
    let mix = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3);
    recipe.bytes().fold(0xcbf2_9ce4_8422_2325, mix) as u32
}
