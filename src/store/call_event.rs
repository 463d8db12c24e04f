//! What happens during calls.

use async_trait::async_trait;

use crate::model::{CallEvent, CallId, Result};

/// The operations on events of calls.
#[async_trait]
pub trait CallEvents {
    /// The events of calls, in order of time.
    async fn call_events_of(&mut self, calls: &[CallId]) -> Result<Vec<CallEvent>>;

    /// Adds events.
    async fn insert_call_events(&mut self, events: &[CallEvent]) -> Result<()>;
}
