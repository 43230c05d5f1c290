//! The error that ends the node.

use crate::sys::form::RpcError;
use std::fmt;

/// What the node cannot live with.
#[derive(Debug)]
pub struct Fatal(pub String);
impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for Fatal {}
impl From<rusqlite::Error> for Fatal {
    fn from(e: rusqlite::Error) -> Self {
        Self(format!("the database failed: {e}"))
    }
}

/// Why an event came to nothing.
#[derive(Debug)]
pub enum Stop {
    /// It was refused, by a rule of ours: whoever asked hears this, and nothing else happens.
    Refused(RpcError),
    /// The database or hsmd failed us: the suite stops before anything more is said.
    Fatal(Fatal),
}

impl From<rusqlite::Error> for Stop {
    fn from(e: rusqlite::Error) -> Self {
        Self::Fatal(Fatal(format!("the database failed: {e}")))
    }
}

impl From<Fatal> for Stop {
    fn from(e: Fatal) -> Self {
        Self::Fatal(e)
    }
}

impl From<RpcError> for Stop {
    fn from(e: RpcError) -> Self {
        Self::Refused(e)
    }
}

impl Stop {
    /// A refusal that nobody in particular asked for: logged.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::Refused(RpcError::new(-1, text))
    }
}
