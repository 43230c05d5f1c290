//! `scope!`, which defines a step of the stairs: a room, and the scope below it.
//!
//! A function of a room takes `&Scope` of that room: it may read its own room and those below, call
//! their functions (a reference to a scope is one to every scope below it), and change its own room
//! alone. What stands higher does not compile: not a read (E0609), not a call (E0308), not an
//! install into another room (E0277).

/// Defines a scope: its room, `on` the scope below. With that: constructor, `Deref` and `DerefMut`
/// to the scope below, the right to install into its own room (`Holds`), and the search for a room
/// by its type (`House`).
///
/// The Rust API guidelines keep `Deref` for smart pointers (C-DEREF). Here it pays:
/// `node.chain.height()` reads the same on every floor. Its price: a method of an upper scope
/// silently hides one of the same name below, so scopes have few methods; and two rooms cannot be
/// borrowed mutably at once.
macro_rules! scope {
    ($(#[$doc:meta])* pub struct $Scope:ident { $($room:ident: $Room:ty)? } on $Below:ty) => {
        $(#[$doc])*
        pub struct $Scope {
            below: $Below,
            $(/// The room of this step.
            pub $room: $Room,)?
        }
        impl $Scope {
            /// Puts this step on the stairs below it.
            pub const fn on(below: $Below $(, $room: $Room)?) -> Self {
                Self { below $(, $room)? }
            }
        }
        impl std::ops::Deref for $Scope {
            type Target = $Below;
            fn deref(&self) -> &$Below {
                &self.below
            }
        }
        impl std::ops::DerefMut for $Scope {
            fn deref_mut(&mut self) -> &mut $Below {
                &mut self.below
            }
        }
        $(impl $crate::kernel::turn::Holds<$Room> for $Scope {})?
        impl $crate::kernel::turn::House for $Scope {
            fn room(&mut self, which: std::any::TypeId) -> Option<&mut dyn std::any::Any> {
                $(if which == std::any::TypeId::of::<$Room>() {
                    return Some(&mut self.$room);
                })?
                self.below.room(which)
            }
        }
    };
}
pub(crate) use scope;
