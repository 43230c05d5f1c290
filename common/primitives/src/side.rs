//! The two ends of a channel.

use std::ops::{Index, IndexMut, Not};

/// An end of a channel, seen from this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// This node.
    Local,
    /// The peer.
    Remote,
}

impl Side {
    /// Both, this node first.
    pub const BOTH: [Self; 2] = [Self::Local, Self::Remote];
}

impl Not for Side {
    type Output = Self;
    fn not(self) -> Self {
        match self {
            Self::Local => Self::Remote,
            Self::Remote => Self::Local,
        }
    }
}

/// One value for each end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sides<T> {
    /// This node's.
    pub local: T,
    /// The peer's.
    pub remote: T,
}

impl<T> Sides<T> {
    /// The same question asked of each end.
    pub fn from_fn(mut value: impl FnMut(Side) -> T) -> Self {
        Self { local: value(Side::Local), remote: value(Side::Remote) }
    }
    /// The same channel seen from the other end.
    pub fn swap(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }
    /// Each end's value turned into another.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Sides<U> {
        Sides { local: f(self.local), remote: f(self.remote) }
    }
}
impl<T> Index<Side> for Sides<T> {
    type Output = T;
    fn index(&self, side: Side) -> &T {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }
}
impl<T> IndexMut<Side> for Sides<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Local => &mut self.local,
            Side::Remote => &mut self.remote,
        }
    }
}
