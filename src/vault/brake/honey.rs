//! Honey: people who do not exist. Nobody has a reason to touch them, so whoever does is told of.
//!
//! A honey subject is a subject like any other, with values that somebody made up: what is answered about it is what
//! would be answered about anybody, by the same code. That it was touched is found out in one place, where entries of the
//! audit are written.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use super::{Alarm, Vault};
use crate::crypto::Random;
use crate::model::{Error, OutboxEvent, Reason, Reference, Result, SubjectId, Time};
use crate::policy::Caller;
use crate::store::Store;
use crate::store::brake::Honey;
use crate::vault::audit::{Entry, Touched, outcome};
use crate::vault::write::Record;

/// How much honey there may be.
const MOST: usize = 1000;

/// What an entry is about that tells of a touch.
pub const DEED: &str = "HoneyTouched";

/// The rpcs that go along everybody, or are about honey itself: they touch nobody in particular.
const HARMLESS: [&str; 8] = [
    "AuditConsents",
    "LiftHoney",
    "ListAffectedSubjects",
    "ListAuditEntries",
    "ListDueForReview",
    "ListErasures",
    "ListSubjects",
    "PlaceHoney",
];

/// Which subjects are honey, as their ids are written.
#[derive(Default)]
pub struct Pot {
    subjects: RwLock<Arc<HashSet<String>>>,
    /// Whoever reads what is known anew: the last to read must be the last to say.
    reading: Mutex<()>,
}

impl Pot {
    /// Reads which subjects are honey.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn refresh(&self, store: &dyn Store) -> Result<()> {
        let _one_at_a_time = self.reading.lock().await;
        let found = store.read().await?.honey().await?;
        let subjects: HashSet<String> = found.into_iter().map(|honey| honey.subject.to_string()).collect();
        if *self.known() != subjects {
            *self.subjects.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(subjects);
        }
        Ok(())
    }

    fn known(&self) -> Arc<HashSet<String>> {
        Arc::clone(&self.subjects.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is to be told of an entry; `None` when it touches no honey.
    pub fn alarm(&self, entry: &Entry, random: &dyn Random, now: Time) -> Result<Option<Alarm>> {
        let known = self.known();
        if known.is_empty() || HARMLESS.contains(&entry.deed) {
            return Ok(None);
        }
        let touched: Vec<&Touched<'static>> =
            entry.touched.iter().filter(|one| known.contains(one.subject.as_ref())).collect();
        let mut subjects = touched.iter().map(|one| SubjectId::parse(&one.subject)).collect::<Result<Vec<_>>>()?;
        subjects.sort_unstable();
        subjects.dedup();
        if subjects.is_empty() {
            return Ok(None);
        }
        let tell = |subject: &SubjectId| OutboxEvent::of_honey(*subject, &entry.caller, entry.deed, now, random);
        let events = subjects.iter().map(tell).collect();
        let marked = |one: &&Touched<'static>| Touched { outcome: outcome::HONEY.into(), ..(*one).clone() };
        let entry = Entry {
            time: entry.time.clone(),
            request: entry.request.clone(),
            caller: entry.caller.clone(),
            deed: DEED,
            purpose: entry.purpose.clone(),
            justification: entry.deed.to_owned(),
            touched: touched.iter().map(marked).collect(),
            ..Entry::default()
        };
        Ok(Some(Alarm { entry, events }))
    }
}

impl Vault {
    /// Takes note of honey that was placed or lifted on other nodes.
    pub async fn refresh_honey(&self) -> Result<()> {
        if self.custody.store().is_shared() { self.brakes.honey.refresh(self.custody.store()).await } else { Ok(()) }
    }

    /// Makes honey of a subject.
    pub async fn place_honey(&self, by: &Caller, subject: SubjectId, label: Option<&Reference>) -> Result<Honey> {
        self.subject(subject).await?;
        self.record_honey(by, "PlaceHoney", subject).await?;
        let label = label.map(Reference::as_str).unwrap_or_default().to_owned();
        let honey = Honey { subject, label, placed_by: by.name.clone(), placed_at: self.clock.now() };
        let mut tx = self.custody.store().write().await?;
        let known = tx.honey().await?;
        if let Some(known) = known.iter().find(|known| known.subject == subject) {
            let known = known.clone();
            drop(tx);
            self.brakes.honey.refresh(self.custody.store()).await?;
            return Ok(known);
        }
        if known.len() >= MOST {
            let message = "there is as much honey as there may be; lift some first";
            return Err(Error::new(Reason::Overloaded, message).with("maximum", MOST));
        }
        tx.put_honey(&honey).await?;
        tx.commit().await?;
        self.brakes.honey.refresh(self.custody.store()).await?;
        Ok(honey)
    }

    /// Makes a subject like any other of honey.
    pub async fn lift_honey(&self, by: &Caller, subject: SubjectId) -> Result<()> {
        self.record_honey(by, "LiftHoney", subject).await?;
        let mut tx = self.custody.store().write().await?;
        if !tx.remove_honey(subject).await? {
            return Err(Error::new(Reason::SubjectUnknown, "this subject is no honey").with("subject", subject));
        }
        tx.commit().await?;
        self.brakes.honey.refresh(self.custody.store()).await
    }

    async fn record_honey(&self, by: &Caller, deed: &'static str, subject: SubjectId) -> Result<()> {
        let touched = vec![Touched::subject(subject, None, outcome::ASKED)];
        let entry = Entry { touched, ..Entry::new(&by.name, deed, self.clock.now()) };
        self.record(Record::of(entry)).await.map(drop)
    }

    /// What honey there is, in the order of the subjects' ids.
    pub async fn list_honey(&self) -> Result<Vec<Honey>> {
        self.custody.store().read().await?.honey().await
    }
}
