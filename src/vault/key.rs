//! The keys, for a security team: status, rotations, their log, and whether an erasure holds.

use std::time::Duration;

use super::rotation::{Fill, Reseal, Step, describe, event, plan_at_the_custodian, unknown};
use super::{Vault, answer};
use crate::crash;
use crate::keys::status::{self, Status};
use crate::keys::verify::Finding;
use crate::model::{
    ErasureId, Error, KeyEvent, KeyEventId, KeyEventKind, Reason, RequestId, Result, Rotation, RotationId,
    RotationKind, RotationState, SubjectId,
};
use crate::policy::Caller;
use crate::store::Tx;
use crate::store::node::Node;

/// How often, and how many times, a node that does not lead looks whether a rotation is done.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 200;

/// The fewest and the most buckets that an index may have.
pub const BUCKETS: std::ops::RangeInclusive<u32> = 64..=1 << 20;

/// A key to be rotated.
pub struct Rotate {
    /// Which.
    pub key: Key,
    /// Only asks what would happen.
    pub validate_only: bool,
    /// Makes the request idempotent.
    pub request: Option<RequestId>,
}

/// Which key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The root key.
    Root,
    /// The keys of a subject.
    Subject(SubjectId),
    /// The index key, with so many buckets from then on; as many as now when not said.
    Index(Option<u32>),
    /// The key that wraps the root slot.
    Kek,
    /// The key that signs receipts.
    Signing,
}

/// A rotation as it is answered: one that was only validated has no id.
pub struct Rotated {
    /// The rotation.
    pub rotation: Rotation,
    /// Whether it exists, or was only made up to be looked at.
    pub real: bool,
}

impl Key {
    const fn kind(self) -> RotationKind {
        match self {
            Self::Root => RotationKind::Root,
            Self::Subject(_) => RotationKind::SubjectKey,
            Self::Index(_) => RotationKind::IndexKey,
            Self::Kek => RotationKind::Kek,
            Self::Signing => RotationKind::SigningKey,
        }
    }

    const fn subject(self) -> Option<SubjectId> {
        match self {
            Self::Subject(subject) => Some(subject),
            _ => None,
        }
    }

    /// The rpc.
    const fn deed(self) -> &'static str {
        match self {
            Self::Root => "RotateRoot",
            Self::Subject(_) => "RotateSubjectKey",
            Self::Index(_) => "RotateIndexKey",
            Self::Kek => "RotateKek",
            Self::Signing => "RotateSigningKey",
        }
    }

    /// Whether it is done in a moment, so that the answer waits for it.
    const fn is_quick(self) -> bool {
        matches!(self, Self::Root | Self::Kek | Self::Signing)
    }
}

impl Vault {
    /// Rotates a key. Answers when that is done, if it is done in a moment; otherwise when it has begun.
    pub async fn rotate(&self, caller: &Caller, ask: Rotate) -> Result<Rotated> {
        let key = ask.key;
        if let Some(answer) = self.answered(caller, key.deed(), ask.request).await? {
            if answer.subject != key.subject() {
                return Err(answer::mismatch(answer.id));
            }
            let rotation = self.rotation(RotationId::parse(&answer.answer)?).await?;
            return Ok(Rotated { rotation, real: true });
        }
        let now = self.clock.now();
        let id = RotationId::new(now, self.custody.ring.random());
        let mut rotation = Rotation::begin(id, key.kind(), key.subject(), &caller.name, now);
        if ask.validate_only {
            plan(&mut *self.custody.store().read().await?, key, &mut rotation, false).await?;
            if matches!(rotation.kind, RotationKind::Kek | RotationKind::SigningKey) {
                rotation.detail = plan_at_the_custodian(&self.custody, rotation.kind).await?.1;
            }
            return Ok(Rotated { rotation, real: false });
        }
        self.record_rotation(caller, key).await?;
        self.check_custodian_of(rotation.kind).await?;
        let mut tx = self.custody.store().write().await?;
        plan(&mut *tx, key, &mut rotation, true).await?;
        rotation.detail.clear();
        if !tx.insert_rotation(&rotation).await? {
            return Err(self.running(&rotation).await?);
        }
        let begun = event(&self.custody, now, &caller.name, KeyEventKind::RotationBegun, describe(&rotation));
        tx.insert_key_events(&[begun]).await?;
        let of = answer::Keep { caller: &caller.name, deed: key.deed(), request: ask.request, subject: key.subject() };
        answer::keep(&mut *tx, &of, id.to_string(), now).await?;
        crash::point("rotation::before-begin");
        tx.commit().await?;
        crash::point("rotation::begun");
        let work = self.rotations.take_up(id).filter(|_| key.is_quick());
        if let Some(work) = work {
            rotation = work.await.map_err(Error::internal)??;
        }
        // The node that leads takes it up by itself.
        for _ in 0..LOOKS {
            if !key.is_quick() || self.custody.leads() || rotation.state != RotationState::Running {
                break;
            }
            tokio::time::sleep(LOOK).await;
            rotation = self.rotation(id).await?;
        }
        Ok(Rotated { rotation, real: true })
    }

    /// Refuses while a custodian does not answer whom the rotation needs. One that goes away later is waited for.
    async fn check_custodian_of(&self, kind: RotationKind) -> Result<()> {
        match kind {
            RotationKind::Kek => plan_at_the_custodian(&self.custody, kind).await.map(drop),
            RotationKind::SigningKey => self.custody.kek().versions().await.map(drop),
            RotationKind::Root | RotationKind::SubjectKey | RotationKind::IndexKey => {
                self.custody.slot().load().await.map(drop)
            }
        }
    }

    async fn record_rotation(&self, caller: &Caller, key: Key) -> Result<()> {
        if let Some(subject) = key.subject() {
            return self.record_asked(caller, key.deed(), subject).await;
        }
        self.record_deed(caller, key.deed()).await
    }

    /// The refusal for a key that is being rotated already.
    async fn running(&self, asked: &Rotation) -> Result<Error> {
        let running = self.custody.store().read().await?.running_rotations().await?;
        let error = Error::new(Reason::RotationRunning, "this key is being rotated already");
        let same = running.into_iter().find(|other| (other.kind, other.subject) == (asked.kind, asked.subject));
        Ok(same.into_iter().fold(error, |error, other| error.with("rotation", other.id)))
    }

    /// Takes up the rotations that are running and that nobody here works on. Answers how many wait for something.
    pub(super) async fn take_up_rotations(&self) -> Result<usize> {
        let running = self.custody.store().read().await?.running_rotations().await?;
        for rotation in running.iter().filter(|_| self.custody.leads()) {
            // What comes of it stands in its row.
            drop(self.rotations.take_up(rotation.id));
        }
        Ok(running.iter().filter(|rotation| !rotation.detail.is_empty()).count())
    }

    /// Describes a rotation.
    pub async fn rotation(&self, id: RotationId) -> Result<Rotation> {
        self.custody.store().read().await?.rotation(id).await?.ok_or_else(|| unknown(id))
    }

    /// A page of rotations, newest first, with the id after which the next one begins.
    pub async fn list_rotations(
        &self,
        after: Option<RotationId>,
        size: u32,
    ) -> Result<(Vec<Rotation>, Option<RotationId>)> {
        let mut found = self.custody.store().read().await?.list_rotations(after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|rotation| rotation.id).filter(|_| more);
        Ok((found, next))
    }

    /// A page of the log of the keys, newest first, with the id after which the next one begins.
    pub async fn list_key_events(
        &self,
        after: Option<KeyEventId>,
        size: u32,
    ) -> Result<(Vec<KeyEvent>, Option<KeyEventId>)> {
        let mut found = self.custody.store().read().await?.list_key_events(after, size + 1).await?;
        let more = found.len() > size as usize;
        found.truncate(size as usize);
        let next = found.last().map(|event| event.id).filter(|_| more);
        Ok((found, next))
    }

    /// How the keys are, which processes hold them, and which rotations are running.
    pub async fn key_status(&self) -> Result<(Status, Vec<Node>, Vec<Rotation>)> {
        let custody = &*self.custody;
        let status = status::ask(custody.store(), custody.slot(), custody.sinks()).await?;
        Ok((status, custody.nodes().await?, custody.store().read().await?.running_rotations().await?))
    }

    /// Looks whether an erasure holds.
    pub async fn verify_erasure(&self, id: ErasureId) -> Result<Vec<Finding>> {
        let erasure = self.erasure(id).await?;
        self.custody.verify_erasure(&erasure).await
    }
}

/// Puts into a rotation how much there is to do, in numbers and words. To `begin` makes the first step as well.
async fn plan(tx: &mut dyn Tx, key: Key, rotation: &mut Rotation, begin: bool) -> Result<()> {
    let renew = || Step::Renew { detail: String::new() };
    let step = match key {
        Key::Root => {
            (rotation.total, rotation.detail) = (1, "one change of the root key".to_owned());
            renew()
        }
        Key::Kek | Key::Signing => {
            (rotation.total, rotation.detail) = (1, format!("one change of the {}", key.kind().noun()));
            Step::Custodian { from: None }
        }
        Key::Subject(subject) => {
            let found = tx.lock_subjects(&[subject]).await?.into_iter().next();
            found.ok_or_else(|| super::subject::unknown(subject))?.alive()?;
            let plan = Reseal::plan(tx, subject).await?;
            rotation.total = plan.values + 1;
            rotation.detail = format!(
                "{} values sealed again and {} keys destroyed, with one change of the root key; backups from before no \
                 longer give back this subject's values",
                plan.values,
                plan.old.len()
            );
            match (begin, plan.old.is_empty()) {
                (true, false) => Reseal::begin(tx, subject, &plan, rotation.created_at).await?,
                _ => renew(),
            }
        }
        Key::Index(buckets) => {
            let plan = Fill::plan(tx, buckets).await?;
            rotation.total = plan.total();
            rotation.detail = format!(
                "an index of {} buckets built from {} values, and one of {} buckets destroyed, with one change of the \
                 root key",
                plan.buckets, plan.values, plan.current.buckets
            );
            if begin { Fill::begin(tx, &plan).await? } else { renew() }
        }
    };
    rotation.step = step.text()?;
    Ok(())
}
