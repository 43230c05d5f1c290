//! seccomp's filters of a box.

use crate::boxes::{Barriers, Sandbox};
use crate::calls;
use nix::libc;
use seccompiler::{SeccompAction, SeccompFilter};

/// Three filters: the kernel takes the sternest answer of all, and a trap is sterner than an error.
pub(crate) fn enter(which: &Sandbox, barriers: Barriers) -> Result<(), String> {
    let list = calls::list(which, barriers);
    let errno = |e: i32| SeccompAction::Errno(e.unsigned_abs());
    // glibc makes threads by clone3, whose flags no filter sees, and takes clone where there is
    // none.
    apply(list.absent, SeccompAction::Allow, errno(libc::ENOSYS))?;
    apply(list.quiet, SeccompAction::Allow, errno(libc::EPERM))?;
    apply(list.allowed, SeccompAction::Trap, SeccompAction::Allow)
}

pub(crate) fn apply(
    rules: calls::Rules,
    other: SeccompAction,
    listed: SeccompAction,
) -> Result<(), String> {
    if rules.is_empty() {
        return Ok(());
    }
    let arch = std::env::consts::ARCH.try_into().map_err(|e| format!("{e:?}"))?;
    let filter = SeccompFilter::new(rules, other, listed, arch).map_err(|e| e.to_string())?;
    let program: seccompiler::BpfProgram =
        filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|e| e.to_string())
}
