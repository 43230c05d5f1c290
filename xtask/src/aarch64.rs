//! The other processor that the suite is for: what can be checked of it without its compiler.

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// Where cargo keeps the source of the libc that the suite is built with.
    fn libc() -> PathBuf {
        let out = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked"])
            .output()
            .unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let libc = packages.iter().find(|p| p["name"] == "libc").unwrap();
        let manifest = Path::new(libc["manifest_path"].as_str().unwrap());
        manifest.parent().unwrap().to_path_buf()
    }

    /// The system calls that a file names for every processor: not those of an item that is for
    /// x86_64 alone.
    fn calls(source: &str) -> Vec<&str> {
        let (mut found, mut apart) = (Vec::new(), false);
        for line in source.lines() {
            apart |= line.trim() == "#[cfg(target_arch = \"x86_64\")]";
            if !apart {
                found.extend(line.split("libc::SYS_").skip(1).map(|rest| {
                    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                    &rest[..end.unwrap_or(rest.len())]
                }));
            }
            apart &= !line.ends_with(';');
        }
        found
    }

    #[test]
    fn sandbox_names_only_calls_that_aarch64_has() {
        let sandbox = Path::new(env!("CARGO_MANIFEST_DIR")).join("../common/sandbox/src");
        let base = libc().join("src/unix/linux_like/linux/gnu/b64/aarch64");
        let table = std::fs::read_to_string(base.join("mod.rs")).unwrap();
        let mut named = 0;
        for file in ["calls.rs", "master.rs"] {
            let source = std::fs::read_to_string(sandbox.join(file)).unwrap();
            for call in calls(&source) {
                named += 1;
                let constant = format!("pub const SYS_{call}: c_long");
                assert!(table.contains(&constant), "{file}: aarch64 has no {call}");
            }
        }
        assert!(named > 100, "{named}");
        assert_eq!(
            calls(
                "a(libc::SYS_x);\n#[cfg(target_arch = \"x86_64\")]\nb(libc::SYS_y);\nlibc::SYS_z"
            ),
            ["x", "z"]
        );
    }
}
