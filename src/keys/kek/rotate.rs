//! Rotating the KEK: a new version, everything wrapped anew and read back, and only then the old versions destroyed.
//!
//! Whatever interrupts it, everything can be read: old versions are there until nothing names them any more. Repeating
//! it finishes what was begun, instead of making one more version. Other processes may go on writing the slot meanwhile:
//! they wrap under the newest version that there is at that moment.

use super::{Kek, WrappedCopy};
use crate::crash;
use crate::keys::Custody;
use crate::keys::signer::Signer;
use crate::keys::slot::RootSlot;
use crate::model::{Error, KeyEventKind, Reason, Result};

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Steps done.
    pub done: u64,
    /// Steps in all.
    pub total: u64,
    /// What was done last.
    pub step: &'static str,
}

/// What a rotation did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KekRotation {
    /// The KEK.
    pub kek: String,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Whether it finished, or would finish, one that was interrupted.
    pub resumed: bool,
    /// The versions that were or would be destroyed.
    pub from: Vec<String>,
    /// The version that wraps everything; not known in a dry run that would make one.
    pub to: Option<String>,
    /// What was wrapped before, and under which version.
    pub copies: Vec<WrappedCopy>,
}

/// What a KEK wraps, and the KEK.
pub(in crate::keys) struct Wrapped<'a> {
    pub kek: &'a dyn Kek,
    pub slot: &'a dyn RootSlot,
    pub signer: &'a Signer,
}

impl Custody {
    /// Tells what a rotation of the key-encrypting key would do, unless it is told `from` which versions another has to
    /// take over. Then it does so; repeating that, after an error or without need, makes no further version.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when the KEK, a copy of the slot or a copy of the signing key cannot be used; no
    /// version is destroyed then that anything needs.
    pub async fn rotate_kek(
        &self,
        from: Option<&[String]>,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<KekRotation> {
        let (kek, slot, signer) = (&*self.parts.kek, &*self.parts.slot, &self.parts.signer);
        let done = Wrapped { kek, slot, signer }.rotate(from, tell).await?;
        if !done.dry_run {
            let detail = format!("{} to version {}", done.kek, done.to.as_deref().unwrap_or_default());
            tracing::info!(kek = done.kek, version = done.to, "the key-encrypting key was rotated");
            self.note(KeyEventKind::KekChanged, detail).await?;
        }
        Ok(done)
    }
}

impl Wrapped<'_> {
    pub async fn rotate(
        &self,
        from: Option<&[String]>,
        tell: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<KekRotation> {
        let _turn = self.signer.turn().await?;
        let (copies, versions) = (self.copies().await?, self.kek.versions().await?);
        // A key in a KMS that lost its tag has none, and gets it again.
        let newest = versions.last();
        let dry_run = from.is_none();
        let from = match from {
            Some(from) => from.to_vec(),
            // A copy that needs another version than the newest tells of a rotation that was interrupted.
            None if versions.len() > 1 || copies.iter().any(|copy| Some(&copy.version) != newest) => {
                versions.iter().filter(|version| Some(*version) != newest).cloned().collect()
            }
            None => versions.clone(),
        };
        let to = newest.filter(|newest| !from.contains(newest)).cloned();
        let resumed = to.is_some();
        let mut rotation = KekRotation { kek: self.kek.describe(), dry_run, resumed, from, to, copies };
        if dry_run {
            return Ok(rotation);
        }
        let total = 4 + rotation.from.len() as u64;
        let told = |done, step| tell(Progress { done, total, step });
        let newest = match &rotation.to {
            Some(newest) => newest.clone(),
            None => self.kek.add_version().await?,
        };
        crash::point("kek::made");
        told(1, "version made");
        self.slot.rewrap().await?;
        crash::point("kek::slot-wrapped");
        told(2, "root slot wrapped anew");
        self.signer.rewrap().await?;
        told(3, "signing key wrapped anew");
        self.check(&newest).await?;
        crash::point("kek::wrapped");
        told(4, "everything read back");
        for (at, version) in (5..).zip(&rotation.from) {
            self.kek.destroy_version(version).await?;
            crash::point("kek::destroyed");
            told(at, "former version destroyed");
        }
        rotation.to = Some(newest);
        Ok(rotation)
    }

    /// Everything that is wrapped, each copy opened to see that it can be.
    async fn copies(&self) -> Result<Vec<WrappedCopy>> {
        let mut copies = self.slot.wrapped().await?;
        copies.extend(self.signer.wrapped().await?);
        Ok(copies)
    }

    /// Refuses to go on while anything needs another version than the newest.
    async fn check(&self, newest: &str) -> Result<()> {
        match self.copies().await?.into_iter().find(|copy| copy.version != newest) {
            None => Ok(()),
            Some(copy) => {
                Err(refuse("a copy is still wrapped by a former version, which is needed as long as that is so")
                    .with("copy", copy.place)
                    .with("version", copy.version))
            }
        }
    }
}

fn refuse(message: &'static str) -> Error {
    Error::new(Reason::KeyCustodianUnavailable, message)
}

#[cfg(test)]
mod tests;
