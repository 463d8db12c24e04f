//! Rotations of keys, and the log of what happened to the keys.

use async_trait::async_trait;

use crate::model::{KeyEvent, KeyEventId, Result, Rotation, RotationId};

/// The operations on rotations.
#[async_trait]
pub trait Rotations {
    /// Adds one. `false`, and no change, when one of its kind and target is running.
    async fn insert_rotation(&mut self, rotation: &Rotation) -> Result<bool>;

    /// The one with this id.
    async fn rotation(&mut self, id: RotationId) -> Result<Option<Rotation>>;

    /// The same, locked until the transaction ends.
    async fn lock_rotation(&mut self, id: RotationId) -> Result<Option<Rotation>>;

    /// Writes what may change of it.
    async fn update_rotation(&mut self, rotation: &Rotation) -> Result<()>;

    /// Those that are running, oldest first.
    async fn running_rotations(&mut self) -> Result<Vec<Rotation>>;

    /// A page, newest first.
    async fn list_rotations(&mut self, after: Option<RotationId>, limit: u32) -> Result<Vec<Rotation>>;

    /// Adds to the log of the keys.
    async fn insert_key_events(&mut self, events: &[KeyEvent]) -> Result<()>;

    /// A page of that log, newest first.
    async fn list_key_events(&mut self, after: Option<KeyEventId>, limit: u32) -> Result<Vec<KeyEvent>>;
}
