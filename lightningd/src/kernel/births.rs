//! Children begin and end.

use crate::kernel::turn::Turn;
use crate::kernel::words::event::Event;
use crate::sys::children::ChildId;
use std::time::{Duration, Instant};

/// How long a child may take to end that has said its last word.
const TO_END: Duration = Duration::from_secs(3);

/// A child has said its last word. It ends by itself; one that is captured, and does not, is killed.
pub fn ends(turn: &mut Turn<'_>, child: ChildId) {
    turn.at(Instant::now() + TO_END, Event::Overdue(child));
}
