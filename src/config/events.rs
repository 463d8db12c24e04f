//! Configuration of events: how long they are kept, and who may follow them.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::vault::event::Settings;

/// Events for other systems.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// For how many days an event is kept: 90.
    pub retention_days: u32,
    /// How many streams a node has open at most: 128. A caller gets half of them.
    pub most_streams: usize,
    /// After how many seconds without an event a stream tells a checkpoint: 10.
    pub checkpoint_seconds: u32,
}

impl Default for Events {
    fn default() -> Self {
        Self { retention_days: 90, most_streams: 128, checkpoint_seconds: 10 }
    }
}

impl Events {
    pub(super) fn check(&self) -> Result<()> {
        ensure!((1..=36_500).contains(&self.retention_days), "events.retention_days must lie between 1 and 36500");
        ensure!((1..=4096).contains(&self.most_streams), "events.most_streams must lie between 1 and 4096");
        ensure!((1..=3600).contains(&self.checkpoint_seconds), "events.checkpoint_seconds must lie between 1 and 3600");
        Ok(())
    }

    /// As the vault takes them.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            retention: Duration::from_hours(u64::from(self.retention_days) * 24),
            streams: self.most_streams,
            silence: Duration::from_secs(self.checkpoint_seconds.into()),
        }
    }
}
