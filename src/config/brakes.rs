//! Configuration of brakes: what stops a caller whose credential was stolen.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::Config;
use crate::vault::brake::window::Limit;
use crate::vault::brake::{LONGEST, Settings};

/// The brakes of callers who have none of their own.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Brakes {
    /// How many values each caller may be shown; without a limit when not said.
    pub reveal_budget: Option<Budget>,
    /// How many values each caller may ask for at once without the approval of another; without a limit when not said.
    pub approval_above: Option<u64>,
    /// How many look-ups of each caller may find nothing before that is told of; without a limit when not said.
    pub lookup_misses: Option<Misses>,
    /// How many numbers of callers one agent may look up: 200 within 60 seconds.
    pub lookups: Misses,
    /// For how many seconds a request for approval can be granted and used: 3600.
    pub approval_seconds: u64,
}

impl Default for Brakes {
    fn default() -> Self {
        Self {
            reveal_budget: None,
            approval_above: None,
            lookup_misses: None,
            approval_seconds: 3600,
            lookups: LOOKUPS,
        }
    }
}

/// How many values within how long.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// How many values.
    pub values: u64,
    /// Within how many seconds.
    pub seconds: u64,
}

/// How many look-ups within how long.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misses {
    /// How many.
    pub count: u64,
    /// Within how many seconds.
    pub seconds: u64,
}

/// What an agent with a headset cannot reach, and a script does in seconds.
const LOOKUPS: Misses = Misses { count: 200, seconds: 60 };

impl Misses {
    fn check(self, place: &str) -> Result<()> {
        check_seconds(&format!("{place}.seconds"), self.seconds)?;
        ensure!(self.count > 0, "{place}.count must be at least 1");
        Ok(())
    }

    const fn limit(self) -> Limit {
        Limit { most: self.count, window: Duration::from_secs(self.seconds) }
    }
}

impl Budget {
    pub(super) fn check(self, place: &str) -> Result<()> {
        check_seconds(&format!("{place}.seconds"), self.seconds)?;
        ensure!((1..=1_000_000_000_000).contains(&self.values), "{place}.values must lie between 1 and 1000000000000");
        Ok(())
    }

    const fn limit(self) -> Limit {
        Limit { most: self.values, window: Duration::from_secs(self.seconds) }
    }
}

fn check_seconds(place: &str, seconds: u64) -> Result<()> {
    let longest = LONGEST.as_secs();
    ensure!((1..=longest).contains(&seconds), "{place} must lie between 1 and {longest}");
    Ok(())
}

impl Brakes {
    pub(super) fn check(&self) -> Result<()> {
        check_seconds("brakes.approval_seconds", self.approval_seconds)?;
        self.lookup_misses.iter().try_for_each(|misses| misses.check("brakes.lookup_misses"))?;
        self.lookups.check("brakes.lookups")?;
        self.reveal_budget.iter().try_for_each(|budget| budget.check("brakes.reveal_budget"))
    }
}

impl Config {
    /// The brakes as the vault takes them.
    #[must_use]
    pub fn brakes(&self) -> Settings {
        let own = self.callers.iter().filter_map(|caller| Some((caller.name.clone(), caller.reveal_budget?.limit())));
        let bulk = self.callers.iter().filter_map(|caller| Some((caller.name.clone(), caller.approval_above?)));
        Settings {
            reveals: own.collect(),
            other_reveals: self.brakes.reveal_budget.map(Budget::limit),
            bulk: bulk.collect(),
            other_bulk: self.brakes.approval_above,
            misses: self.brakes.lookup_misses.map(Misses::limit),
            lookups: self.brakes.lookups.limit(),
            approval_lifetime: Duration::from_secs(self.brakes.approval_seconds),
        }
    }
}
