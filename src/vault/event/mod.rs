//! Telling other systems what changed: who watches, who has acknowledged, how long it can be asked for.
//!
//! Each node has one task that moves what was committed into the history ([`crate::store::outbox`] says why nothing can be
//! skipped), woken by each commit of its own process, and once a second in case another one died before it could. While
//! anybody watches on a node, it also looks many times a second how far the history is, so that a change on one node
//! reaches the watchers of every other at once. It only tells them *that* there is something: each stream reads for
//! itself, when its client has taken what came before, and those that ask at the same time share one read. So a client
//! that is slow, or has stopped reading, costs its place and at most one page of events, and keeps nobody else waiting.

mod consumer;
mod watch;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch as channel};
use tokio::time::Instant;

pub use consumer::{Acknowledged, Delivery};
pub use watch::{From, Told, Watch};

use super::Vault;
use crate::batch::{Batch, Limits};
use crate::crash;
use crate::crypto::Random;
use crate::model::{Clock, Error, Mark, Reason, Result, Time};
use crate::store::Store;
use crate::store::outbox::{Head, Placed, place};

/// How often a node looks for news of others while anybody watches.
const LOOK: Duration = Duration::from_millis(50);
/// And while nobody does.
const REST: Duration = Duration::from_secs(1);
/// How many events are read at once.
const PAGE: u32 = 256;
/// How many reads of one sort are under way at once: however many watch, the others have connections left.
const READS: usize = 2;
/// How many events are removed at once.
const REMOVED: u32 = 1000;

/// What an operator decides about events.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an event is kept at least.
    pub retention: Duration,
    /// How many may watch a node at once.
    pub streams: usize,
    /// How long a stream is silent at most.
    pub silence: Duration,
}

/// Events of one history, after a position.
struct Page {
    history: Option<Mark>,
    events: Vec<Placed>,
}

/// What the streams of a node share.
pub struct Events {
    settings: Settings,
    /// How far the history is, as far as this node knows.
    newest: channel::Sender<u64>,
    pages: Batch<u64, Result<Arc<Page>>>,
    watching: Arc<Watching>,
    /// Streams that are being opened, which takes some statements, leave the others connections.
    opening: Semaphore,
    /// The task ends when this goes.
    _alive: mpsc::Sender<()>,
}

impl Events {
    /// Begins the history if there is none, and starts the task.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
        settings: Settings,
    ) -> Result<Self> {
        let mut tx = store.write().await?;
        if tx.outbox_head().await?.is_none() {
            tx.begin_history(&name(random)).await?;
            tx.commit().await?;
        }
        let (newest, _) = channel::channel(0);
        let (alive, ended) = mpsc::channel(1);
        let pages = start_reading(Arc::clone(&store));
        // What an earlier process left.
        store.news().notify_one();
        tokio::spawn(keep_placing(store, clock, newest.clone(), ended));
        let opening = Semaphore::new(READS);
        Ok(Self { settings, newest, pages, watching: Arc::default(), opening, _alive: alive })
    }
}

/// A name for a history.
fn name(random: &dyn Random) -> Mark {
    let mut name = Mark::default();
    random.fill(&mut name);
    name
}

/// Who watches, by caller.
#[derive(Default)]
struct Watching(Mutex<HashMap<String, usize>>);

/// One who watches, for as long as this lives.
struct Place {
    caller: String,
    watching: Arc<Watching>,
}

impl Watching {
    /// Takes a place; no caller gets more than half of them.
    fn enter(self: &Arc<Self>, caller: &str, most: usize) -> Result<Place> {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = callers.get(caller).copied().unwrap_or_default();
        if callers.values().sum::<usize>() >= most || own >= most.div_ceil(2) {
            let message = "as many streams of events are open as this node, or this caller, may have; close one, or ask \
                           another node";
            return Err(Error::new(Reason::Overloaded, message).with("caller_streams", own).with("maximum", most));
        }
        *callers.entry(caller.to_owned()).or_default() += 1;
        tell_streams(&callers);
        Ok(Place { caller: caller.to_owned(), watching: Arc::clone(self) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut callers = self.watching.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = callers.get_mut(&self.caller) {
            *own -= 1;
            if *own == 0 {
                callers.remove(&self.caller);
            }
        }
        tell_streams(&callers);
    }
}

fn tell_streams(callers: &HashMap<String, usize>) {
    let open = u32::try_from(callers.values().sum::<usize>()).unwrap_or(u32::MAX);
    metrics::gauge!("lacuna_event_streams").set(f64::from(open));
}

/// Reads pages of the history: those who ask for the same page while another is read share one statement.
fn start_reading(store: Arc<dyn Store>) -> Batch<u64, Result<Arc<Page>>> {
    let limits = Limits { weight: 1024, in_flight: READS, waiting: 8192 };
    Batch::start(
        limits,
        |_| 1,
        move |asked: Vec<u64>| {
            let store = Arc::clone(&store);
            async move {
                let mut pages = HashMap::new();
                for after in asked.iter().copied().collect::<BTreeSet<u64>>() {
                    pages.insert(after, read(&*store, after).await);
                }
                let page = |after| match pages.get(after) {
                    Some(Ok(page)) => Ok(Arc::clone(page)),
                    Some(Err(error)) => Err(error.share()),
                    None => Err(Error::internal("a page of events got lost")),
                };
                asked.iter().map(page).collect()
            }
        },
    )
}

async fn read(store: &dyn Store, after: u64) -> Result<Arc<Page>> {
    let (history, events) = store.read().await?.events_after(after, PAGE).await?;
    Ok(Arc::new(Page { history, events }))
}

/// Moves what is committed into the history until `ended`.
async fn keep_placing(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    newest: channel::Sender<u64>,
    mut ended: mpsc::Receiver<()>,
) {
    let (mut own, mut waited, mut looked) = (true, false, Instant::now());
    loop {
        let seen = if own || waited || looked.elapsed() >= REST {
            looked = Instant::now();
            look(&*store, &*clock, own || waited).await
        } else {
            glance(&*store).await
        };
        match seen {
            Ok((head, waiting)) => {
                // What is there at two looks in a row was left by somebody who may have died.
                waited = waiting;
                newest.send_if_modified(|newest| std::mem::replace(newest, head) != head);
            }
            Err(error) => {
                tracing::warn!(%error, "events are told later");
                waited = true;
            }
        }
        let pause = if store.is_shared() && newest.receiver_count() > 0 { LOOK } else { REST };
        tokio::select! {
            () = store.news().notified() => own = true,
            () = tokio::time::sleep(pause) => own = false,
            _ = ended.recv() => return,
        }
    }
}

/// How far the history is, after moving what waits if asked to; and whether something waits.
async fn look(store: &dyn Store, clock: &dyn Clock, moving: bool) -> Result<(u64, bool)> {
    if moving && store.is_shared() {
        return Ok((place_all(store, clock.now()).await?, false));
    }
    let head = head(&mut *store.read().await?).await?;
    if head.waiting && !store.is_shared() {
        // Written before the history began.
        return Ok((place_all(store, clock.now()).await?, false));
    }
    Ok((head.cursor.position, head.waiting))
}

/// How far the history is, which another node may have lengthened. What waits to be moved is left for a look.
async fn glance(store: &dyn Store) -> Result<(u64, bool)> {
    Ok((store.read().await?.history_end().await?, false))
}

async fn place_all(store: &dyn Store, now: Time) -> Result<u64> {
    loop {
        let mut tx = store.write().await?;
        let moved = place(&mut *tx, now).await?.ok_or_else(missing)?;
        if moved.entries > 0 {
            crash::point("outbox::before-place");
            tx.commit().await?;
            crash::point("outbox::placed");
        }
        if !moved.more {
            return Ok(moved.newest.position);
        }
    }
}

/// Where the history stands.
async fn head(tx: &mut dyn crate::store::Tx) -> Result<Head> {
    tx.outbox_head().await?.ok_or_else(missing)
}

fn missing() -> Error {
    Error::internal("the database holds no history of events")
}

impl Vault {
    /// Removes events that were kept long enough, and tells the metrics how far consumers are behind.
    pub(super) async fn keep_events(&self) -> Result<()> {
        self.remove_old_events().await?;
        self.tell_consumers().await
    }

    /// What a cursor at the newest of those that are too old needs stays.
    async fn remove_old_events(&self) -> Result<()> {
        let now = self.clock.now().micros();
        let kept = i64::try_from(self.events.settings.retention.as_micros()).unwrap_or(i64::MAX);
        let limit = Time::from_micros(now.saturating_sub(kept));
        loop {
            let oldest = self.custody.store().read().await?.oldest_events(REMOVED).await?;
            let over: Vec<u64> =
                oldest.iter().take_while(|(_, placed_at)| *placed_at < limit).map(|(position, _)| *position).collect();
            // The newest one of those stays: who has seen it and nothing after it has missed nothing that is too old.
            let Some(&last) = over.last().filter(|_| over.len() > 1) else { return Ok(()) };
            let mut tx = self.custody.store().write().await?;
            tx.remove_events_before(last).await?;
            tx.commit().await?;
        }
    }
}
