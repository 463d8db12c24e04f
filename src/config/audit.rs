//! Configuration of the audit: where its checkpoints go, and how long its entries are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::{Config, absolute};

/// The audit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Directories for checkpoints, outside the data directory: `audit` in the slot's directory.
    pub checkpoints: Vec<PathBuf>,
    /// Every how many seconds a checkpoint is signed, if anything has happened: 60.
    pub checkpoint_seconds: u32,
    /// For how many days entries are kept; for ever when not said.
    pub retention_days: Option<u32>,
}

impl Default for Audit {
    fn default() -> Self {
        Self { checkpoints: Vec::new(), checkpoint_seconds: 60, retention_days: None }
    }
}

impl Audit {
    pub(super) fn check(&self) -> Result<()> {
        let days = self.retention_days.unwrap_or(1);
        ensure!((1..=36_500).contains(&days), "audit.retention_days must lie between 1 and 36500");
        ensure!((1..=3600).contains(&self.checkpoint_seconds), "audit.checkpoint_seconds must lie between 1 and 3600");
        Ok(())
    }

    /// How often a checkpoint is signed.
    #[must_use]
    pub const fn every(&self) -> Duration {
        Duration::from_secs(self.checkpoint_seconds as u64)
    }

    /// How long entries are kept.
    #[must_use]
    pub fn keep(&self) -> Option<Duration> {
        self.retention_days.map(|days| Duration::from_hours(u64::from(days) * 24))
    }
}

impl Config {
    /// Where checkpoints of the audit go.
    #[must_use]
    pub fn audit_places(&self) -> Vec<PathBuf> {
        if self.audit.checkpoints.is_empty() {
            return vec![self.slot_dir().join("audit")];
        }
        self.audit.checkpoints.clone()
    }

    /// Refuses places inside the data directory: whoever puts an older copy of it in place would do the same to them.
    pub(super) fn check_audit_paths(&self, data: &Path) -> Result<()> {
        for place in self.audit_places() {
            ensure!(
                !absolute(&place)?.starts_with(data),
                "the checkpoints of the audit at {} lie inside the data directory {}: they would be restored along with it and \
                 show nothing. Put them elsewhere",
                place.display(),
                data.display()
            );
        }
        Ok(())
    }
}
