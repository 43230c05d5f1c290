//! Why a daemon ends without a conclusion. Each kind has one reader.

use std::fmt;
use wire::daemon::{Failed, Fault};

/// DESIGN's circles (b) and (c).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Our own suite broke its word: the master logs it as a bug, and the channel reconnects.
    Internal(String),
    /// The peer did something odd: it is warned, and the connection closes. Nothing is lost.
    PeerWarn(String),
    /// The peer broke the law: it is sent this error, and the channel (or the attempt) is over.
    PeerError(String),
    /// The peer sent an error: the channel (or the attempt) is over.
    PeerSaidError(String),
    /// The peer sent a warning that ends this connection.
    PeerSaidWarning(String),
    /// The connection is gone: nobody to tell.
    ConnectionLost,
    /// The master wanted an end, or is gone itself.
    Cancelled(String),
}

impl Failure {
    /// For our own bugs.
    pub fn internal(what: impl fmt::Display) -> Self {
        Self::Internal(what.to_string())
    }
    /// As the master is told.
    pub fn report(&self) -> Failed {
        let fault = match self {
            Self::Internal(_) => Fault::Internal,
            Self::PeerWarn(t) => Fault::PeerWarned { told: t.clone() },
            Self::PeerError(t) => Fault::PeerErred { told: t.clone() },
            Self::PeerSaidError(t) => Fault::PeerSaidError { said: t.clone() },
            Self::PeerSaidWarning(t) => Fault::PeerSaidWarning { said: t.clone() },
            Self::ConnectionLost => Fault::ConnectionLost,
            Self::Cancelled(_) => Fault::Cancelled,
        };
        Failed { fault, text: self.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal(t) => write!(f, "internal error: {t}"),
            Self::PeerWarn(t) => write!(f, "warned the peer: {t}"),
            Self::PeerError(t) => write!(f, "failed with the peer: {t}"),
            Self::PeerSaidError(t) => write!(f, "the peer said error: {t}"),
            Self::PeerSaidWarning(t) => write!(f, "the peer said warning: {t}"),
            Self::ConnectionLost => f.write_str("the connection is gone"),
            Self::Cancelled(t) => write!(f, "cancelled: {t}"),
        }
    }
}
impl std::error::Error for Failure {}
