//! Points at which a test can end the process, as a loss of power would. Without the feature `failpoints` they are
//! nothing at all.

/// Ends the process at once if the failpoint `name` is set to `return`.
#[cfg(feature = "failpoints")]
pub fn point(name: &'static str) {
    fail::fail_point!(name, |_| std::process::abort());
}

/// Ends the process at once if the failpoint `name` is set to `return`.
#[cfg(not(feature = "failpoints"))]
pub const fn point(_name: &'static str) {}
