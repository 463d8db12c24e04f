//! Rotations of keys: one small step at a time, while everybody goes on reading and writing.
//!
//! A rotation is a row that says what its next step is. Each step is one transaction that locks the row, finds that it
//! still says so, does the work and writes the step after it. So a crash at any point is taken up where it was, and of
//! two nodes that work on one rotation each step is made by one.
//!
//! The last step of most is a change of the root: until then the old key is only condemned, and a copy of the database
//! still opens under it.

mod index;
mod subject;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use super::{Shreds, renew_root};
use crate::batch::{Batch, Limits};
use crate::crash;
use crate::keys::Custody;
use crate::keys::checkpoint::unhex;
use crate::keys::kek::KekRotation;
use crate::keys::signer::SigningKeyRotation;
use crate::model::{
    Clock, Error, KeyEvent, KeyEventId, KeyEventKind, Reason, Result, Rotation, RotationId, RotationKind,
    RotationState, Time, TokenRow,
};
use crate::store::Tx;
use crate::store::key::CONDEMNED;

pub(super) use index::Fill;
pub(super) use subject::Reseal;

/// What a rotation does next.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// Seals a page of a subject's values again.
    Reseal(Reseal),
    /// Builds a generation of the index.
    Fill(Fill),
    /// Changes the root, and with it what is condemned.
    Renew {
        /// What came of the steps before.
        detail: String,
    },
    /// Changes a key outside the tree.
    Custodian {
        /// What has to go, by its public name: versions of the KEK, or a signing key. Written down before anything is done,
        /// so that doing it twice changes one key.
        from: Option<Vec<String>>,
    },
}

/// Where a step leads.
pub(super) enum Next {
    /// To another step, with so much more done.
    Step(Step, u64),
    /// To the end.
    End(RotationState, String),
}

impl Step {
    /// As it is kept in the row.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(Error::internal)
    }
}

/// The rotations that this process works on.
pub(super) struct Rotations {
    work: Batch<RotationId, Result<Rotation>>,
    under_way: Arc<Mutex<HashSet<RotationId>>>,
    /// Dropped with the vault; work ends at its next step then.
    _alive: Arc<()>,
}

impl Rotations {
    /// Starts the workers.
    pub fn start(custody: Arc<Custody>, clock: Arc<dyn Clock>, shreds: Shreds) -> Self {
        let (alive, under_way) = (Arc::new(()), Arc::new(Mutex::new(HashSet::new())));
        let worker = Arc::new(Worker { custody, clock, shreds, alive: Arc::downgrade(&alive) });
        // What comes together shares a change of the root; what takes long does not keep the rest waiting.
        let limits = Limits { weight: 64, in_flight: 4, waiting: 8192 };
        let work = Batch::start(
            limits,
            |_| 1,
            move |ids: Vec<RotationId>| {
                let worker = Arc::clone(&worker);
                async move { futures_util::future::join_all(ids.into_iter().map(|id| worker.run(id))).await }
            },
        );
        Self { work, under_way, _alive: alive }
    }

    /// Works on a rotation until it ends or has to wait, and answers it as it is then. Goes on if the caller gives up.
    /// `None` when that is being done already.
    pub fn take_up(&self, id: RotationId) -> Option<tokio::task::JoinHandle<Result<Rotation>>> {
        if !self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            return None;
        }
        let (work, under_way) = (self.work.clone(), Arc::clone(&self.under_way));
        Some(tokio::spawn(async move {
            let outcome = work.call(id).await.map_err(Error::from).flatten();
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            outcome
        }))
    }
}

/// Makes the steps.
struct Worker {
    custody: Arc<Custody>,
    clock: Arc<dyn Clock>,
    shreds: Shreds,
    alive: Weak<()>,
}

impl Worker {
    /// Makes one step after the other, until the rotation ends, has to wait, the vault is closed, or another node leads.
    async fn run(&self, id: RotationId) -> Result<Rotation> {
        loop {
            let rotation = self.custody.store().read().await?.rotation(id).await?.ok_or_else(|| unknown(id))?;
            if rotation.state != RotationState::Running || self.alive.strong_count() == 0 || !self.custody.leads() {
                return Ok(rotation);
            }
            if let Err(error) = self.step(&rotation).await {
                tracing::warn!(rotation = %id, reason = ?error.reason, %error, "a rotation waits");
                return self.wait(rotation, &error).await;
            }
            crash::point("rotation::stepped");
        }
    }

    /// Makes the next step, unless somebody else has made it meanwhile.
    async fn step(&self, seen: &Rotation) -> Result<()> {
        match serde_json::from_str(&seen.step).map_err(Error::internal)? {
            Step::Reseal(step) => self.reseal(seen, step).await,
            Step::Fill(step) => self.fill(seen, step).await,
            Step::Renew { detail } => {
                let epoch = renew_root(&self.shreds).await?;
                crash::point("rotation::renewed");
                // A run that had begun before the old keys were condemned has not taken them along: once more, then.
                let waiting = self.custody.store().read().await?.punctured_after(epoch).await?;
                if waiting.iter().any(|range| range.epoch == CONDEMNED) {
                    return Ok(());
                }
                let detail =
                    if detail.is_empty() { format!("epoch {epoch}") } else { format!("{detail}; epoch {epoch}") };
                let Some((tx, rotation)) = self.lock(seen).await? else { return Ok(()) };
                self.settle(tx, rotation, Next::End(RotationState::Done, detail)).await
            }
            Step::Custodian { from: None } => {
                let (from, _) = plan_at_the_custodian(&self.custody, seen.kind).await?;
                let Some((tx, rotation)) = self.lock(seen).await? else { return Ok(()) };
                self.settle(tx, rotation, Next::Step(Step::Custodian { from: Some(from) }, 0)).await
            }
            Step::Custodian { from: Some(from) } => {
                let detail = at_the_custodian(&self.custody, seen.kind, &from).await?;
                crash::point("rotation::renewed");
                let Some((tx, rotation)) = self.lock(seen).await? else { return Ok(()) };
                self.settle(tx, rotation, Next::End(RotationState::Done, detail)).await
            }
        }
    }

    /// A transaction in which nobody else can move the rotation; `None` when somebody has moved it.
    async fn lock(&self, seen: &Rotation) -> Result<Option<(Box<dyn Tx>, Rotation)>> {
        let mut tx = self.custody.store().write().await?;
        let rotation = tx.lock_rotation(seen.id).await?;
        let as_seen = |rotation: &Rotation| rotation.state == RotationState::Running && rotation.step == seen.step;
        Ok(rotation.filter(as_seen).map(|rotation| (tx, rotation)))
    }

    /// Ends a step's transaction.
    async fn settle(&self, mut tx: Box<dyn Tx>, mut rotation: Rotation, next: Next) -> Result<()> {
        let now = self.clock.now();
        match next {
            Next::Step(step, done) => rotation.advance(step.text()?, done, now)?,
            Next::End(state, detail) => {
                let kind = match state {
                    RotationState::Failed => KeyEventKind::RotationFailed,
                    _ => KeyEventKind::RotationDone,
                };
                rotation.finish(state, detail, now)?;
                let told = format!("{}: {}", describe(&rotation), rotation.detail);
                tx.insert_key_events(&[event(&self.custody, now, &rotation.requested_by, kind, told)]).await?;
                metrics::counter!(
                    "lacuna_rotations_total", "kind" => rotation.kind.noun(), "state" => format!("{state:?}")
                )
                .increment(1);
            }
        }
        tx.update_rotation(&rotation).await?;
        tx.commit().await
    }

    /// Notes what holds a rotation up; upkeep takes it up again.
    async fn wait(&self, seen: Rotation, error: &Error) -> Result<Rotation> {
        let Some((mut tx, mut rotation)) = self.lock(&seen).await? else { return Ok(seen) };
        rotation.hold_up(why(error), self.clock.now())?;
        tx.update_rotation(&rotation).await?;
        tx.commit().await?;
        Ok(rotation)
    }
}

/// The row after which a page begins, as a step keeps it.
fn row_after(text: Option<&str>) -> Result<Option<TokenRow>> {
    let broken = || Error::internal("a rotation's step makes no sense");
    text.map(|text| unhex(text).map(TokenRow::from_bytes).ok_or_else(broken)).transpose()
}

/// What a rotation waits for, in words that anybody may read.
fn why(error: &Error) -> String {
    match error.reason {
        Reason::KeyCustodianUnavailable | Reason::StoreUnavailable => error.message.clone().into_owned(),
        _ => "a fault of the vault; the operator's log has the details".to_owned(),
    }
}

/// A rotation, in the log of the keys.
pub(super) fn describe(rotation: &Rotation) -> String {
    match rotation.subject {
        Some(subject) => format!("{} of the {} of {subject}", rotation.id, rotation.kind.noun()),
        None => format!("{} of the {}", rotation.id, rotation.kind.noun()),
    }
}

/// An entry in the log of the keys.
pub(super) fn event(custody: &Custody, at: Time, actor: &str, kind: KeyEventKind, detail: String) -> KeyEvent {
    KeyEvent { id: KeyEventId::new(at, custody.ring.random()), at, actor: actor.to_owned(), kind, detail }
}

/// The refusal for a rotation that does not exist.
pub(super) fn unknown(id: RotationId) -> Error {
    Error::new(Reason::RotationUnknown, "there is no such rotation").with("rotation", id)
}

/// Looks at a key that a custodian has: what has to go when it is rotated, and in words what would be done.
pub(super) async fn plan_at_the_custodian(custody: &Custody, kind: RotationKind) -> Result<(Vec<String>, String)> {
    if kind == RotationKind::Kek {
        let plan = custody.rotate_kek(None, &|_| {}).await?;
        return Ok((plan.from.clone(), kek_in_words(&plan)));
    }
    let plan = custody.rotate_signing_key(None).await?;
    Ok((vec![plan.former.clone()], signing_in_words(&plan)))
}

/// Rotates a key that a custodian has, so that `from` goes. Answers what came of it.
async fn at_the_custodian(custody: &Custody, kind: RotationKind, from: &[String]) -> Result<String> {
    if kind == RotationKind::Kek {
        return Ok(kek_in_words(&custody.rotate_kek(Some(from), &|_| {}).await?));
    }
    let former = from.first().ok_or_else(|| Error::internal("a rotation's step names no key"))?;
    Ok(signing_in_words(&custody.rotate_signing_key(Some(former)).await?))
}

fn kek_in_words(rotation: &KekRotation) -> String {
    let to = rotation.to.as_ref().map_or_else(|| "a new version".to_owned(), |to| format!("version {to}"));
    let from = if rotation.from.is_empty() { "the former KEK".to_owned() } else { rotation.from.join(", ") };
    format!("{}: {} copies to {to}, in place of {from}", rotation.kek, rotation.copies.len())
}

fn signing_in_words(rotation: &SigningKeyRotation) -> String {
    let present = rotation.present.as_deref().unwrap_or("a new key");
    format!("{present} in place of {}; {} public keys are listed", rotation.former, rotation.listed)
}
