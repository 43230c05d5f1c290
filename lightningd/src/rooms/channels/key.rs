//! What an HTLC of ours was offered for, as the key that its row has. One space of numbers for
//! both, so that the unique index on the rows binds each of them once.

/// What an HTLC that we offered is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A part of a payment of ours, by its created_index.
    Payment(u64),
    /// A forward, by its created_index.
    Forward(u64),
}

/// Forwards begin here; payments stay below.
pub const FORWARDS: u64 = 1 << 62;

impl Origin {
    /// What this key stands for.
    pub const fn of(key: u64) -> Self {
        if key & FORWARDS == 0 { Self::Payment(key) } else { Self::Forward(key & !FORWARDS) }
    }
    /// As channeld and the database have it.
    pub const fn key(self) -> u64 {
        match self {
            Self::Payment(index) => index,
            Self::Forward(index) => index | FORWARDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_is_for() {
        for origin in [Origin::Payment(1), Origin::Forward(1), Origin::Forward(FORWARDS - 1)] {
            assert_eq!(Origin::of(origin.key()), origin);
            // As a row has it.
            assert!(i64::try_from(origin.key()).is_ok());
        }
        assert_ne!(Origin::Payment(5).key(), Origin::Forward(5).key());
    }
}
