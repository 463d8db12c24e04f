//! The callers: who is configured, who is disabled, and an end to everything for one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::super::Vault;
use super::super::audit::Entry;
use super::super::write::Record;
use crate::model::{Error, Reason, Reference, Result};
use crate::policy::{Action, Authority, Caller, Registered};
use crate::store::Store;
use crate::store::access::CallerChange;
use crate::store::journal::Mark;

/// How often a change is tried when others change callers at the same time.
const ATTEMPTS: usize = 20;

/// The least by which one change of a caller comes after another.
const TICK: Duration = Duration::from_micros(1);

/// The latest change of each caller.
type Changes = BTreeMap<String, CallerChange>;

/// Who is known.
pub struct Roll {
    registered: Vec<Registered>,
    changes: RwLock<Arc<Changes>>,
    reading: tokio::sync::Mutex<()>,
}

impl Roll {
    /// A roll of those in the configuration.
    #[must_use]
    pub fn new(mut registered: Vec<Registered>) -> Self {
        registered.sort_by(|a, b| a.caller.name.cmp(&b.caller.name));
        Self { registered, changes: RwLock::default(), reading: tokio::sync::Mutex::default() }
    }

    fn changes(&self) -> Arc<Changes> {
        Arc::clone(&self.changes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those in the configuration, by name.
    #[must_use]
    pub fn registered(&self) -> &[Registered] {
        &self.registered
    }
}

/// Reads what has changed of callers, on whatever node.
///
/// # Errors
/// `StoreUnavailable`.
pub async fn refresh(roll: &Roll, authority: &Authority, store: &dyn Store) -> Result<()> {
    let _one_at_a_time = roll.reading.lock().await;
    let new = store.read().await?.caller_changes(authority.generation()).await?;
    let Some(last) = new.last().map(|change| change.seq) else { return Ok(()) };
    let mut changes = (*roll.changes()).clone();
    changes.extend(new.into_iter().map(|change| (change.caller.clone(), change)));
    let disabled: BTreeSet<String> =
        changes.values().filter(|change| change.disabled).map(|change| change.caller.clone()).collect();
    *roll.changes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(changes);
    authority.learn(last, disabled);
    Ok(())
}

/// What is known of a caller.
#[derive(Clone, Debug)]
pub struct Known {
    /// Their name.
    pub name: String,
    /// What the configuration says of them.
    pub registered: Option<Registered>,
    /// The rights that some policy could permit them.
    pub actions: Vec<Action>,
    /// When they were last disabled or enabled.
    pub change: Option<CallerChange>,
}

impl Vault {
    /// Takes note of callers who were disabled or enabled on other nodes.
    pub async fn refresh_callers(&self) -> Result<()> {
        refresh(&self.roll, &self.authority, self.custody.store()).await
    }

    /// A page of the callers after a name, and the name after which the next one begins.
    pub async fn list_callers(&self, after: &str, size: u32) -> Result<(Vec<Known>, Option<String>)> {
        self.refresh_callers().await?;
        let changes = self.roll.changes();
        let configured = self.roll.registered.iter().map(|registered| registered.caller.name.as_str());
        let names: BTreeSet<&str> = configured.chain(changes.keys().map(String::as_str)).collect();
        let mut later = names.into_iter().filter(|name| *name > after);
        let page = later.by_ref().take(size as usize).map(|name| self.known(name)).collect::<Result<Vec<_>>>()?;
        let next = later.next().and(page.last()).map(|known| known.name.clone());
        Ok((page, next))
    }

    /// Disables a caller, or enables them again.
    pub async fn change_caller(
        &self,
        by: &Caller,
        name: &str,
        disabled: bool,
        reason: Option<&Reference>,
    ) -> Result<Known> {
        if name.is_empty() {
            return Err(Error::invalid("caller", "is missing"));
        }
        // What names nobody known here goes into the audit log, and may be anything.
        if !self.roll.registered.iter().any(|registered| registered.caller.name == name) {
            Reference::parse("caller", name)?;
        }
        if disabled && name == by.name {
            return Err(Error::invalid("caller", "is yourself: somebody else has to disable you"));
        }
        let reason = reason.map(Reference::as_str).unwrap_or_default();
        let deed = if disabled { "DisableCaller" } else { "EnableCaller" };
        let justification = format!("{name} {reason}").trim().to_owned();
        let entry = Entry { justification, ..Entry::new(&by.name, deed, self.clock.now()) };
        self.record(Record::of(entry)).await?;
        for _ in 0..ATTEMPTS {
            self.refresh_callers().await?;
            let changes = self.roll.changes();
            let before = changes.get(name);
            if before.is_some_and(|change| change.disabled) == disabled {
                return self.known(name);
            }
            // The journal tells by the time which change is the last, so no clock may put it before another.
            let now = self.clock.now();
            let changed_at = before.map_or(now, |change| now.max(change.changed_at.plus(TICK)));
            let change = CallerChange {
                seq: self.authority.generation() + 1,
                caller: name.to_owned(),
                disabled,
                reason: reason.to_owned(),
                changed_by: by.name.clone(),
                changed_at,
            };
            let mut tx = self.custody.store().write().await?;
            if !tx.insert_caller_change(&change).await? {
                continue;
            }
            // A database that is restored from before must not let them in again.
            tx.mark(&[Mark::Caller(change.caller.clone())]).await?;
            tx.commit().await?;
            self.refresh_callers().await?;
            // What was read for them before has landed, or never will.
            self.custody.land_all().await?;
            return self.known(name);
        }
        Err(Error::new(Reason::Overloaded, "too many callers are being changed at the same time; try again"))
    }

    fn known(&self, name: &str) -> Result<Known> {
        let registered = self.roll.registered.iter().find(|registered| registered.caller.name == name).cloned();
        let caller = registered.as_ref().map_or_else(|| Caller::named(name), |registered| registered.caller.clone());
        let (mut actions, now) = (Vec::new(), self.clock.now());
        // Of somebody who is not configured here nobody knows the groups.
        for action in Action::ALL.iter().filter(|_| registered.is_some()) {
            if self.authority.could(&caller, *action, now)? {
                actions.push(*action);
            }
        }
        Ok(Known { name: name.to_owned(), registered, actions, change: self.roll.changes().get(name).cloned() })
    }
}
