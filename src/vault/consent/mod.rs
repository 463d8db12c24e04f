//! Purposes, notices and consent: what is defined, what people decide, and what follows from it.

mod after_end;
mod append;
pub mod bundle;
mod catalogue;
mod chain;
mod check;
mod library;
pub(crate) mod link;
mod prove;
pub mod receipt;
mod record;
mod report;
pub(crate) mod review;
mod rules;
pub(super) mod tell;

pub use append::{Appends, start as start_appending};
pub use catalogue::{DefinePurpose, DefineRetentionClass, PublishNotice};
pub(super) use chain::{append_recorded, carry_over};
pub use check::{Check, Checked, Shown};
pub use library::Library;
pub use link::Withdrawn;
pub use record::{Given, RecordConsent};
pub use report::Report;
pub use review::{Due, DueReason, Position};
