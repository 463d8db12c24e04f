//! Brakes: what stops a caller whose credential was stolen, or who is too curious.
//!
//! What a caller has used of a limit is counted in memory and, in the transaction that puts a call on record, in the database:
//! so a restart forgets nothing, and asking costs no round trip. Nodes count for themselves and look every now and then at what the
//! others have counted.

pub mod approval;
mod budget;
pub mod enumeration;
pub mod honey;
mod lookup;
pub mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use honey::Pot;
use lookup::Lookups;
use window::{Limit, Window};

use super::Vault;
use super::audit::Entry;
use crate::crypto::Random;
use crate::model::{Clock, OutboxEvent, Result, Time};
use crate::policy::Registered;
use crate::store::Store;
use crate::store::brake::{Counted, Used};

/// After how long a node looks again at what others have counted.
const LOOK: Duration = Duration::from_millis(250);

/// What is known of others is never older than this.
const LATEST: Duration = Duration::from_secs(1);

/// The longest time over which anything is counted.
pub const LONGEST: Duration = Duration::from_hours(31 * 24);

/// How often counts that are too old are removed.
const CLEAN: Duration = Duration::from_hours(1);

/// Something that somebody must be told of, in the transaction of the call that it is about.
pub struct Alarm {
    /// What goes on record beside the entry of the call.
    pub entry: Entry,
    /// What is told.
    pub events: Vec<OutboxEvent>,
}

/// Tells operators of an alarm that is on record now.
pub fn tell(alarm: &Alarm) {
    let Alarm { entry: Entry { caller, justification, request, touched, .. }, .. } = alarm;
    if alarm.entry.deed == honey::DEED {
        metrics::counter!("lacuna_honey_touched_total").increment(1);
        let subjects: BTreeSet<&str> = touched.iter().map(|one| one.subject.as_ref()).collect();
        tracing::warn!(caller, rpc = justification, ?subjects, request, "HONEY WAS TOUCHED");
    } else {
        metrics::counter!("lacuna_enumeration_suspected_total").increment(1);
        tracing::warn!(caller, misses = justification, request, "ENUMERATION IS SUSPECTED");
    }
}

/// The limits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many values a caller may be shown, by their name.
    pub reveals: HashMap<String, Limit>,
    /// The same of callers who are not named there; no limit when not said.
    pub other_reveals: Option<Limit>,
    /// How many values a caller may ask for at once without an approval, by their name.
    pub bulk: HashMap<String, u64>,
    /// The same of callers who are not named there; no limit when not said.
    pub other_bulk: Option<u64>,
    /// How many look-ups of a caller may find nothing before that is told of; no limit when not said.
    pub misses: Option<Limit>,
    /// How long a request for approval can be granted and used.
    pub approval_lifetime: Duration,
    /// How many numbers one agent may look up.
    pub lookups: Limit,
}

/// What is counted of callers who have limits.
pub struct Brakes {
    /// Tells what this process has counted from all else.
    process: [u8; 16],
    reveals: HashMap<String, Mutex<Window>>,
    misses: HashMap<String, Mutex<Window>>,
    lookups: Lookups,
    /// When each caller was last suspected of enumeration.
    suspected: Mutex<HashMap<String, Time>>,
    /// How many values each caller may ask for at once without an approval.
    bulk: HashMap<String, u64>,
    approval_lifetime: Duration,
    honey: Arc<Pot>,
    /// When a look was begun at what others have counted.
    looked: Mutex<Instant>,
    looking: tokio::sync::Mutex<()>,
    cleaned: Mutex<Option<Instant>>,
}

impl Brakes {
    /// Brakes for these callers, who may have used their limits before.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn start(
        settings: &Settings,
        callers: &[Registered],
        store: &dyn Store,
        random: &dyn Random,
        clock: &dyn Clock,
    ) -> Result<Self> {
        let mut process = [0; 16];
        random.fill(&mut process);
        let reveals = callers.iter().filter_map(|registered| {
            let name = &registered.caller.name;
            let limit = settings.reveals.get(name).copied().or(settings.other_reveals)?;
            Some((name.clone(), Mutex::new(Window::new(limit))))
        });
        let bulk = callers.iter().filter_map(|registered| {
            let name = &registered.caller.name;
            Some((name.clone(), settings.bulk.get(name).copied().or(settings.other_bulk)?))
        });
        let misses = callers
            .iter()
            .filter_map(|registered| Some((registered.caller.name.clone(), Mutex::new(Window::new(settings.misses?)))));
        let brakes = Self {
            process,
            reveals: reveals.collect(),
            misses: misses.collect(),
            lookups: Lookups::new(settings.lookups),
            suspected: Mutex::default(),
            bulk: bulk.collect(),
            approval_lifetime: settings.approval_lifetime,
            honey: Arc::default(),
            looked: Mutex::new(Instant::now()),
            looking: tokio::sync::Mutex::default(),
            cleaned: Mutex::default(),
        };
        metrics::counter!("lacuna_reveal_budget_refusals_total").absolute(0);
        for outcome in approval::OUTCOMES {
            metrics::counter!("lacuna_approvals_total", "outcome" => outcome).absolute(0);
        }
        for outcome in crate::vault::lookup::OUTCOMES {
            metrics::counter!("lacuna_lookups_total", "outcome" => outcome).absolute(0);
        }
        metrics::counter!("lacuna_honey_touched_total").absolute(0);
        metrics::counter!("lacuna_enumeration_suspected_total").absolute(0);
        brakes.honey.refresh(store).await?;
        brakes.look_now(store, clock.now()).await?;
        Ok(brakes)
    }

    /// What tells the counts of this process from those of others.
    #[must_use]
    pub const fn process(&self) -> &[u8; 16] {
        &self.process
    }

    /// Which subjects are honey.
    #[must_use]
    pub fn honey(&self) -> Arc<Pot> {
        Arc::clone(&self.honey)
    }

    /// What is counted by callers alone.
    const fn windows(&self, counted: Counted) -> Option<&HashMap<String, Mutex<Window>>> {
        match counted {
            Counted::Reveals => Some(&self.reveals),
            Counted::Misses => Some(&self.misses),
            Counted::Lookups => None,
        }
    }

    fn window(&self, counted: Counted, caller: &str) -> Option<MutexGuard<'_, Window>> {
        let window = self.windows(counted)?.get(caller)?;
        Some(window.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sees to it that what is known of others is not too old. While one looks, the others go on with what is known.
    pub(in crate::vault) async fn look(&self, store: &dyn Store, clock: &dyn Clock) -> Result<()> {
        let looked = || *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if !store.is_shared() || looked().elapsed() < LOOK {
            return Ok(());
        }
        let asked = Instant::now();
        let _one_at_a_time = match self.looking.try_lock() {
            Ok(looking) => looking,
            Err(_) if looked().elapsed() < LATEST => return Ok(()),
            Err(_) => self.looking.lock().await,
        };
        // One look serves all who waited when it began, however long it took.
        if looked() >= asked || looked().elapsed() < LOOK {
            return Ok(());
        }
        self.look_now(store, clock.now()).await
    }

    /// Of each that is counted here, the longest time over which it is, before `now`.
    fn since(&self, now: Time) -> Vec<(Counted, Time)> {
        let longest = |counted| match self.windows(counted) {
            Some(windows) => windows
                .values()
                .map(|window| window.lock().unwrap_or_else(PoisonError::into_inner).limit().window)
                .max()
                .unwrap_or_default(),
            None => self.lookups.limit().window,
        };
        Counted::ALL.into_iter().map(|counted| (counted, now.minus(longest(counted)))).collect()
    }

    async fn look_now(&self, store: &dyn Store, now: Time) -> Result<()> {
        let begun = Instant::now();
        let mut by_caller: HashMap<(Counted, String), BTreeMap<Time, u64>> = HashMap::new();
        for used in store.read().await?.used_elsewhere(&self.process, &self.since(now)).await? {
            by_caller.entry((used.counted, used.caller)).or_default().insert(used.part, used.count);
        }
        for counted in [Counted::Reveals, Counted::Misses] {
            for (caller, window) in self.windows(counted).into_iter().flatten() {
                let others = by_caller.remove(&(counted, caller.clone())).unwrap_or_default();
                window.lock().unwrap_or_else(PoisonError::into_inner).learn(others);
            }
        }
        let lookups = by_caller.into_iter().filter(|((counted, _), _)| *counted == Counted::Lookups);
        self.lookups.learn(lookups.map(|((_, who), counts)| (who, counts)).collect());
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        Ok(())
    }
}

impl Vault {
    /// Tells the metrics how much callers have used of their limits.
    pub(super) fn publish_brakes(&self) {
        let now = self.clock.now();
        for registered in self.roll.registered() {
            let caller = &registered.caller.name;
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            let used = self.brakes.window(Counted::Reveals, caller).map_or(0.0, |mut window| {
                let most = window.limit().most;
                window.count(now) as f64 / most.max(1) as f64
            });
            metrics::gauge!("lacuna_reveal_budget_used_ratio", "caller" => caller.clone()).set(used);
        }
    }

    /// Removes counts that are too old for any limit, and requests for approval that were open long ago.
    pub(super) async fn keep_brakes(&self) -> Result<()> {
        let cleaned = || self.brakes.cleaned.lock().unwrap_or_else(PoisonError::into_inner);
        if cleaned().is_some_and(|cleaned| cleaned.elapsed() < CLEAN) {
            return Ok(());
        }
        let mut tx = self.custody.store().write().await?;
        tx.remove_used_before(&self.brakes.since(self.clock.now().minus(CLEAN))).await?;
        tx.remove_approvals_before(self.clock.now().minus(LONGEST)).await?;
        tx.commit().await?;
        *cleaned() = Some(Instant::now());
        Ok(())
    }
}

/// What several calls have used, with one row for each caller and part of time.
#[must_use]
pub fn together<'u>(used: impl Iterator<Item = &'u Used>) -> Vec<Used> {
    let mut sums: BTreeMap<(Counted, &str, Time), u64> = BTreeMap::new();
    for one in used {
        let sum = sums.entry((one.counted, &one.caller, one.part)).or_default();
        *sum = sum.saturating_add(one.count);
    }
    let row = |((counted, caller, part), count): ((Counted, &str, Time), u64)| Used {
        counted,
        caller: caller.to_owned(),
        part,
        count,
    };
    sums.into_iter().map(row).collect()
}
