//! The duties that run by themselves: erasures whose time has come, those that something held up, rotations, a root
//! that somebody waits for, checkpoint sinks that lag, values and events that were kept long enough.

use super::Vault;
use crate::model::Result;

impl Vault {
    /// Does once whatever is due now, and answers how many erasures and rotations still wait for something. Safe to call
    /// at any time, also at once from several places.
    pub async fn upkeep(&self) -> Result<usize> {
        self.publish_brakes();
        // What is due is due once, by one clock.
        if !self.custody().leads() {
            self.leave_retention().await?;
            return Ok(0);
        }
        let rotations = self.take_up_rotations().await?;
        let waiting = rotations + self.carry_out_due().await?;
        if let Err(error) = self.renew_if_wanted().await {
            tracing::warn!(%error, "the root is to change and cannot");
        }
        // Nothing waits for a sink that lags, so its trouble is nobody else's.
        if let Err(error) = self.custody().catch_up_sinks().await {
            tracing::warn!(%error, "checkpoint sinks lag behind");
        }
        if let Err(error) = self.keep_retention().await {
            tracing::warn!(%error, "what was kept long enough is destroyed later");
        }
        if let Err(error) = self.keep_events().await {
            tracing::warn!(%error, "old events are removed later");
        }
        if let Err(error) = self.keep_brakes().await {
            tracing::warn!(%error, "old counts of what callers have used are removed later");
        }
        Ok(waiting)
    }
}
