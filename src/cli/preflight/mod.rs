//! What is looked at before the vault serves: whether anything around it would break its promises.
//!
//! Each check has a name, a verdict, what was found, and what to do about it. One that fails keeps `lacuna serve` from
//! starting; `lacuna config check` shows them all. Nothing is changed or made by looking. A new check is one function in
//! the file of its subject, and a line in the table of `docs/operating.md`.

mod modes;
mod places;
mod process;
mod records;
mod services;

use std::fmt::Write as _;

use anyhow::{Result, bail};
use serde::Serialize;

pub use process::harden;

use super::table::table;
use crate::config::Config;
use crate::model::Clock;

/// How a check came out, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Good.
    Pass,
    /// The vault serves, and promises less than it could.
    Warn,
    /// The vault does not serve like this.
    Fail,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What it is called, here and in the documentation.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What is there.
    pub found: String,
    /// What to do; empty when nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

impl Check {
    fn pass(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Pass, found: found.into(), fix: String::new() }
    }

    fn warn(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), fix: fix.into() }
    }

    fn fail(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, found: found.into(), fix: fix.into() }
    }
}

/// Looks at everything.
///
/// # Errors
/// When the configuration does not say which database is meant, or that database cannot be opened at all.
pub async fn inspect(config: &Config, clock: &dyn Clock) -> Result<Vec<Check>> {
    let mut checks = records::check(config, clock).await?;
    checks.extend(places::check(config)?);
    checks.extend(modes::check(config)?);
    checks.extend(services::check(config).await?);
    checks.extend(process::check(config));
    Ok(checks)
}

/// Looks at everything before the vault serves: logs what to mind, and refuses what must not be.
///
/// # Errors
/// Names each check that failed and its fix.
pub async fn require(config: &Config, clock: &dyn Clock) -> Result<()> {
    let checks = inspect(config, clock).await?;
    for Check { name, found, fix, .. } in checks.iter().filter(|check| check.verdict == Verdict::Warn) {
        tracing::warn!(check = name, "{found}: {fix}");
    }
    let failed: Vec<_> = checks.iter().filter(|check| check.verdict == Verdict::Fail).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let mut told = String::from("refusing to start, because of what was found on this machine:");
    for Check { name, found, fix, .. } in failed {
        // Writing to a String cannot fail.
        let _ = write!(told, "\n  {name}: {found}\n    {fix}");
    }
    bail!(told)
}

/// The checks for people: what is not good first.
pub fn show(checks: &[Check]) -> String {
    let mut sorted: Vec<_> = checks.iter().collect();
    sorted.sort_by_key(|check| std::cmp::Reverse(check.verdict));
    let row = |check: &Check| vec![check.verdict.name().to_owned(), check.name.to_owned(), check.found.clone()];
    let mut text = table(&["verdict", "check", "found"], sorted.iter().map(|check| row(check)));
    for Check { name, fix, .. } in sorted.into_iter().filter(|check| check.verdict != Verdict::Pass) {
        let _ = write!(text, "\n\nfix for {name}: {fix}");
    }
    text
}

/// Whether anything keeps the vault from serving.
pub fn has_failed(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.verdict == Verdict::Fail)
}
