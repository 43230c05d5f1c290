//! The error that ends the node.

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
