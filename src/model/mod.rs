//! The words: ids, values, states, and the changes a state allows.
//!
//! This floor is pure: no I/O, no clock of its own, no database, no transport. A value that exists here is valid;
//! a state that changes here may refuse. It must not know how anything is stored, sealed or sent.

mod clock;
mod error;

pub use clock::{Clock, SystemClock, Time};
pub use error::{Error, Reason, Result};
