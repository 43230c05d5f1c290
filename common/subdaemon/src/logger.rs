//! The `log` crate's lines, sent to the master.

use crate::master::Master;
use log::{Level, LevelFilter, Metadata, Record};
use wire::daemon::{Log, LogLevel};

struct ToMaster(Master);

/// `log`'s five levels in CLN's words: an error is a bug of ours, a warning something unusual.
pub const fn level_of(level: Level) -> LogLevel {
    match level {
        Level::Error => LogLevel::Broken,
        Level::Warn => LogLevel::Unusual,
        Level::Info => LogLevel::Info,
        Level::Debug => LogLevel::Debug,
        Level::Trace => LogLevel::Trace,
    }
}

impl log::Log for ToMaster {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }
    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // A line that finds no master finds nobody who could read it.
            let _ = self
                .0
                .report(&Log { level: level_of(record.level()), text: record.args().to_string() });
        }
    }
    fn flush(&self) {}
}

/// Once per process, at its start.
pub(crate) fn install(master: Master, level: LogLevel) {
    let filter = match level {
        LogLevel::Io | LogLevel::Trace => LevelFilter::Trace,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Unusual => LevelFilter::Warn,
        LogLevel::Broken => LevelFilter::Error,
    };
    if log::set_boxed_logger(std::boxed::Box::new(ToMaster(master))).is_ok() {
        log::set_max_level(filter);
    }
}
