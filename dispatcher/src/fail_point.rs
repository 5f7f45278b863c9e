//! Named moments at which a test can have the process die, as by kill -9. Only in debug builds, and only where `FAIL_POINT_FILE`
//! names a file: the process aborts when it comes to the moment that the file names (`Settle.before_commit`).

/// Ends the process here, where a test wants it.
#[cfg(debug_assertions)]
pub(crate) fn reached(noun: impl std::fmt::Display, moment: &str) {
    use std::{path::PathBuf, sync::LazyLock};
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("FAIL_POINT_FILE").map(PathBuf::from));
    let Some(file) = &*FILE else { return };
    // Read each time, so that a test can name the next one without a start in between.
    if std::fs::read_to_string(file).is_ok_and(|wanted| wanted == format!("{noun}.{moment}")) {
        // No destructor runs, and nothing is flushed.
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn reached(_noun: impl std::fmt::Display, _moment: &str) {}
