//! subdaemon
