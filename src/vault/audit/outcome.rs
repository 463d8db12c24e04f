//! What came of something for somebody, as entries say it. A refusal is told by its reason.

use crate::model::Reason;

/// It was shown, found or described.
pub const OK: &str = "OK";

/// It was looked at to find whose it is, and not shown.
pub const FOUND: &str = "FOUND";

/// A change is about to be made.
pub const ASKED: &str = "ASKED";

/// Values were kept.
pub const KEPT: &str = "KEPT";

/// The token was answered because it stands for the same value.
pub const SAME: &str = "SAME";

/// An earlier call with the same request id has made it.
pub const REPEATED: &str = "REPEATED";

/// The value is on the suppression list.
pub const SUPPRESSED: &str = "SUPPRESSED";

/// It was touched, and does not exist.
pub const HONEY: &str = "HONEY";

/// The reason of a refusal.
#[must_use]
pub fn refused(reason: Reason) -> String {
    format!("{reason:?}")
}

/// Whether it was refused.
#[must_use]
pub fn is_refusal(outcome: &str) -> bool {
    !matches!(outcome, OK | FOUND | ASKED | KEPT | SAME | REPEATED | SUPPRESSED | HONEY)
}
