//! Telling of what anybody on the network can cause, without letting them fill the log.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How many lines there are in a second at most.
const LINES: u32 = 10;

/// Says whether there is room for another line.
#[derive(Default)]
pub struct Sparingly(Mutex<Option<(Instant, u32)>>);

impl Sparingly {
    /// Nothing has been told.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether there is room for one line more in this second.
    pub fn may_tell(&self) -> bool {
        let mut told = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut *told {
            Some((begun, lines)) if begun.elapsed() < Duration::from_secs(1) => {
                *lines = lines.saturating_add(1);
                *lines <= LINES
            }
            _ => {
                *told = Some((Instant::now(), 1));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_leaves_a_few_lines() {
        let told = Sparingly::new();
        assert_eq!((0..1000).filter(|_| told.may_tell()).count(), 10);
    }
}
