//! `--sandbox`: which boxes there must be, and what lightningd itself goes without.

use crate::sys::fatal::Fatal;
use crate::sys::options::Config;
use sandbox::Mode;

/// What was decided at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// For every process of the suite.
    pub mode: Mode,
    /// Which walls this machine lacks, in words for the operator; empty where it has all of them.
    pub lacking: Vec<String>,
}

impl Decision {
    /// For `getinfo`.
    pub fn warning(&self) -> Option<String> {
        (!self.lacking.is_empty()).then(|| {
            format!(
                "This machine lacks {}: a captured daemon is held by less than it should be.",
                self.lacking.join(" and ")
            )
        })
    }
}

/// Before any other file is made, any child is born: nothing is inherited, nobody else reads what
/// we write, nobody looks inside.
pub fn begin() -> Result<(), Fatal> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    sandbox::inherit_nothing().map_err(|e| Fatal(format!("close_range: {e}")))?;
    sandbox::undumpable().map_err(|e| Fatal(format!("cannot forbid dumps of this process: {e}")))
}

/// Root's processes are held by fewer walls than others': an operator should mean it.
pub fn refuse_root(is_root: bool, config: &Config) -> Result<(), Fatal> {
    if is_root && !config.options.allow_root {
        return Err(Fatal(
            "lightningd should not run as root: start it as a user of its own, or say --allow-root"
                .to_owned(),
        ));
    }
    Ok(())
}

/// What the options say, held against what this machine has.
pub fn decide(config: &Config, lacking: Vec<String>) -> Result<Decision, Fatal> {
    let mode = match config.options.sandbox {
        Some(mode) => mode,
        None if lacking.is_empty() => Mode::Required,
        None => Mode::BestEffort,
    };
    if mode == Mode::Required && !lacking.is_empty() {
        return Err(Fatal(format!(
            "--sandbox=required, and this machine lacks {}: use a kernel that has it, or --sandbox=best-effort",
            lacking.join(" and ")
        )));
    }
    Ok(Decision { mode, lacking })
}

/// lightningd sheds what it does not need once it has its directory and its log. One that has begun
/// anew is without it already: the kernel keeps a filter for good, and adds each further one to it.
pub fn shed(decision: &Decision, is_anew: bool) -> Result<(), Fatal> {
    if !decision.lacking.is_empty() {
        log::warn!(
            "this machine lacks {}: daemons are held by the other walls only",
            decision.lacking.join(" and ")
        );
    }
    if is_anew {
        return Ok(());
    }
    let missing = sandbox::enter_master(decision.mode)
        .map_err(|e| Fatal(format!("--sandbox=required: lightningd cannot shed {e}")))?;
    if !missing.is_empty() {
        log::warn!("lightningd runs without: {}", missing.join(", "));
    }
    Ok(())
}

/// Raises the limit of open files to the hard limit. `Err` below [`sandbox::MASTER_DESCRIPTORS`]: a
/// captured resolver or bcli could then use up the user's descriptors in flight.
pub fn raise_descriptor_limit() -> Result<(), Fatal> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|e| Fatal(format!("the limit of open files: {e}")))?;
    enough_descriptors(hard)?;
    if let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        log::warn!("the limit of open files cannot be raised: {e}");
        enough_descriptors(soft)?;
    }
    Ok(())
}

fn enough_descriptors(limit: u64) -> Result<(), Fatal> {
    let least = sandbox::MASTER_DESCRIPTORS;
    if limit < least {
        return Err(Fatal(format!(
            "only {limit} open files are allowed, and lightningd needs {least}: raise the limit (`ulimit -n`, systemd: LimitNOFILE)"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_refused_unless_told() {
        let config = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
            Config::load(&args, None).unwrap()
        };
        assert!(refuse_root(true, &config(&[])).unwrap_err().0.contains("--allow-root"));
        assert!(refuse_root(true, &config(&["--allow-root"])).is_ok());
        assert!(refuse_root(false, &config(&[])).is_ok());
    }

    #[test]
    fn descriptor_limit_below_1024_refuses_start() {
        assert!(enough_descriptors(sandbox::MASTER_DESCRIPTORS).is_ok());
        let why = enough_descriptors(sandbox::MASTER_DESCRIPTORS - 1).unwrap_err();
        assert!(why.0.contains("LimitNOFILE"), "{why}");
    }

    fn decided(said: Option<&str>, lacking: &[&str]) -> Result<Decision, String> {
        let said = said.map(|s| format!("--sandbox={s}"));
        let config = Config::load(&said.into_iter().collect::<Vec<_>>(), None);
        let config = config.map_err(|e| e.to_string())?;
        let lacking = lacking.iter().map(|l| (*l).to_owned()).collect();
        decide(&config, lacking).map_err(|e| e.to_string())
    }

    #[test]
    fn sandbox_is_required_where_the_machine_can() {
        assert_eq!(decided(None, &[]).unwrap().mode, Mode::Required);
        assert_eq!(decided(Some("required"), &[]).unwrap().mode, Mode::Required);
        assert_eq!(decided(Some("best-effort"), &[]).unwrap().mode, Mode::BestEffort);
        let without = decided(None, &["Landlock"]).unwrap();
        assert_eq!(without.mode, Mode::BestEffort);
        assert!(without.warning().unwrap().contains("lacks Landlock"));
        assert_eq!(decided(None, &[]).unwrap().warning(), None);
        assert!(decided(Some("required"), &["Landlock"]).unwrap_err().contains("best-effort"));
        assert!(decided(Some("maybe"), &[]).is_err());
    }
}
