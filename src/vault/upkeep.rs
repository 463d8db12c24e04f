//! The duties that run by themselves: erasures whose time has come, and those that something held up.

use super::Vault;
use crate::model::Result;

impl Vault {
    /// Does once whatever is due now, and answers how many erasures still wait for something. Safe to call at any
    /// time, also at once from several places.
    pub async fn upkeep(&self) -> Result<usize> {
        self.carry_out_due().await
    }
}
