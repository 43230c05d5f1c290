//! How a point of a sweep interrupts the node.

/// What happens to the node under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each process dies at each of its barriers. Its children die with the master.
    Kill,
    /// The master dies at each of its barriers, and its children live until they notice. The next
    /// master waits for them.
    Orphans,
    /// After the scenario's end the database is what it was at each of its commits: as somebody
    /// does who restores a backup.
    PutBack,
    /// Nobody dies: each process stops at each of its barriers, the node's peers hang up, and it
    /// goes on.
    HangUp,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Orphans, Self::PutBack, Self::HangUp];
    /// As it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Orphans => "orphans",
            Self::PutBack => "put-back",
            Self::HangUp => "hang-up",
        }
    }
}
