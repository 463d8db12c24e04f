//! The deeds: what the vault does, one file a noun, one method a deed.
//!
//! This floor knows the order of every deed: admit, act, record. It puts rules, records and keys together and must
//! not know how a request arrived or how an answer is sent. A reveal is: admit the purpose, begin a flight, read the
//! facts in one statement with the ciphertexts, decide, open, record durably, land.
//!
//! Concurrent callers share their reads ([`read`]) and their commits ([`write`]); erasures share the slot's advance.

pub mod access;
mod answer;
pub mod audit;
pub mod brake;
pub mod call;
pub mod claim;
pub mod consent;
pub mod erasure;
pub mod event;
mod handover;
pub mod hold;
pub mod journal;
mod keep;
mod kept;
pub mod key;
pub mod lookup;
mod profiling;
mod read;
mod record;
pub mod recording;
pub mod retention;
pub mod reveal;
mod rotation;
mod seal;
mod search;
pub mod subject;
mod suppression;
mod together;
pub mod token;
pub mod upkeep;
mod write;

use std::sync::Arc;
use std::time::Duration;

use crate::batch::{Batch, Limits};
use crate::keys::Custody;
use crate::model::{Clock, Erasure, ErasureId, ErasureState, Error, Reason, Result};
use crate::policy::{Authority, RecordingRules, Registered, Seeds};

/// How a vault is kept.
#[derive(Clone)]
pub struct Settings {
    /// Events for other systems.
    pub events: event::Settings,
    /// The audit.
    pub audit: audit::keeper::Settings,
    /// What stops callers who ask for too much.
    pub brakes: brake::Settings,
    /// How long the look-up of a caller may take.
    pub lookup_for: Duration,
    /// Whose law says what of recordings, and which calls have to be recorded.
    pub recording: RecordingRules,
}

/// The vault: safe to share, and shared by every door.
pub struct Vault {
    custody: Arc<Custody>,
    clock: Arc<dyn Clock>,
    authority: Authority,
    roll: access::Roll,
    library: Arc<consent::Library>,
    appends: consent::Appends,
    events: event::Events,
    audit: audit::keeper::Keeper,
    brakes: brake::Brakes,
    lookup_for: Duration,
    recording: RecordingRules,
    reads: read::Reads,
    writes: write::Writes,
    shreds: Shreds,
    rotations: rotation::Rotations,
    /// How far retention has come, for one sweep at a time.
    swept: tokio::sync::Mutex<retention::Swept>,
    /// What is known of the journal, for one at a time.
    journal: tokio::sync::Mutex<journal::Progress>,
}

impl Vault {
    /// A vault over keys that have been opened, with `seeds` for its catalogue when it has none. Must be called within a
    /// tokio runtime, which runs its batches.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn start(
        custody: Arc<Custody>,
        clock: Arc<dyn Clock>,
        seeds: Seeds,
        settings: Settings,
        authority: Authority,
        registered: Vec<Registered>,
    ) -> Result<Self> {
        let random = custody.ring.random();
        let roll = access::Roll::new(registered.clone());
        // A sink or a place outside may be long in answering.
        let ready = custody.with_lease(async {
            if let Err(error) = journal::replay(&custody, &*clock).await {
                tracing::error!(
                    %error,
                    "whether the sinks know of more than the database cannot be seen yet; it is tried again"
                );
            }
            let library = consent::Library::open(custody.share_store(), &seeds, clock.now()).await?;
            let (store, time) = (custody.share_store(), Arc::clone(&clock));
            let events = event::Events::start(store, time, random, settings.events).await?;
            let audit = audit::keeper::Keeper::start(&custody, settings.audit).await?;
            let brakes = brake::Brakes::start(&settings.brakes, &registered, custody.store(), random, &*clock).await?;
            access::refresh(&roll, &authority, custody.store()).await?;
            Ok((Arc::new(library), events, audit, brakes))
        });
        let (library, events, audit, brakes) = ready.await?;
        Custody::keep_up(&custody);
        let shreds = start_shredding(Arc::clone(&custody));
        Ok(Self {
            roll,
            rotations: rotation::Rotations::start(Arc::clone(&custody), Arc::clone(&clock), shreds.clone()),
            reads: read::start(Arc::clone(&custody)),
            appends: consent::start_appending(Arc::clone(&custody), Arc::clone(&library), Arc::clone(&clock)),
            writes: write::start(Arc::clone(&custody), Arc::clone(&clock), audit.chain(), &brakes),
            audit,
            brakes,
            lookup_for: settings.lookup_for,
            recording: settings.recording,
            shreds,
            custody,
            clock,
            authority,
            library,
            swept: tokio::sync::Mutex::default(),
            journal: tokio::sync::Mutex::default(),
            events,
        })
    }

    /// Waits until its batches have ended and the keys are let go.
    pub async fn close(self: Arc<Self>) {
        let custody = Arc::clone(&self.custody);
        drop(self);
        while Arc::strong_count(&custody) > 1 {
            tokio::task::yield_now().await;
        }
        // Ours is the last, so the keys are wiped and the slot is let go before this returns.
        drop(custody);
    }

    /// The keys, for status and backup.
    #[must_use]
    pub fn custody(&self) -> &Custody {
        &self.custody
    }

    /// Whether the vault can serve: its database is durable and reachable, and takes what has to be on record. The keys that
    /// it needs for that are in memory.
    pub async fn check(&self) -> Result<()> {
        self.custody.lease().check()?;
        self.custody.store().check().await?;
        self.check_audit().await
    }

    /// Whether the keys can change: the root slot answers. While it does not, erasures wait and everything else goes on.
    pub async fn check_custodian(&self) -> Result<()> {
        let empty = || Error::new(Reason::KeyCustodianUnavailable, "the root slot is empty: every copy of it is gone");
        self.custody.slot().load().await?.ok_or_else(empty).map(drop)
    }
}

/// How long whoever asks for an erasure, or for another change of the root, is kept waiting. A call may take longer, so
/// that they get an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The runs of the shredder.
type Shreds = Batch<Shred, Result<Shredded>>;

/// What a run of the shredder is asked for.
#[derive(Clone, Copy)]
enum Shred {
    /// That an erasure be carried out.
    Erase(ErasureId),
    /// That the root be changed, whoever is erased with it.
    Renew,
}

/// What came of it.
enum Shredded {
    /// Of [`Shred::Erase`]: the erasure as it is then.
    Erasure(Box<Erasure>),
    /// Of [`Shred::Renew`]: the epoch then.
    Epoch(u64),
}

impl Vault {
    /// How many erasures are being asked for.
    #[must_use]
    pub fn arriving(&self) -> usize {
        self.custody.arrivals.under_way()
    }

    /// Runs a PENDING erasure, together with whatever else waits. One that takes too long is answered as PENDING, and
    /// goes on.
    async fn shred(&self, id: ErasureId) -> Result<Erasure> {
        let run = self.shreds.call(Shred::Erase(id));
        let Ok(done) = tokio::time::timeout(PATIENCE, run).await else {
            let mut erasure = self.erasure(id).await?;
            if erasure.state == ErasureState::Pending && erasure.pending_reason.is_none() {
                erasure.hold_up("it takes longer than usual and goes on; ask again")?;
            }
            return Ok(erasure);
        };
        match done?? {
            Shredded::Erasure(erasure) => Ok(*erasure),
            Shredded::Epoch(_) => Err(Error::internal("an erasure was answered as a change of the root")),
        }
    }
}

/// Changes the root key, and answers the epoch then. Condemned leaves die with the old root.
async fn renew_root(shreds: &Shreds) -> Result<u64> {
    match shreds.call(Shred::Renew).await?? {
        Shredded::Epoch(epoch) => Ok(epoch),
        Shredded::Erasure(_) => Err(Error::internal("a change of the root was answered as an erasure")),
    }
}

/// What arrives together shares one run, and so one advance of the slot: a run begins when every erasure is recorded
/// that was on its way in.
fn start_shredding(custody: Arc<Custody>) -> Shreds {
    let limits = Limits { weight: 256, in_flight: 1, waiting: 65_536 };
    Batch::start(
        limits,
        |_| 1,
        move |asks: Vec<Shred>| {
            let custody = Arc::clone(&custody);
            async move {
                custody.arrivals.fence().await;
                shred(&custody, &asks).await
            }
        },
    )
}

async fn shred(custody: &Custody, asks: &[Shred]) -> Vec<Result<Shredded>> {
    // A change of the root takes along every erasure that waits, so it comes first.
    let renew = asks.iter().any(|ask| matches!(ask, Shred::Renew));
    let renewed = if renew { custody.renew().await } else { Ok(0) };
    let ids: Vec<ErasureId> = asks
        .iter()
        .filter_map(|ask| match ask {
            Shred::Erase(id) => Some(*id),
            Shred::Renew => None,
        })
        .collect();
    let erased = if ids.is_empty() { Ok(Vec::new()) } else { custody.shred(&ids).await };
    let answer = |ask: &Shred| match (ask, &renewed, &erased) {
        (Shred::Renew, Ok(epoch), _) => Ok(Shredded::Epoch(*epoch)),
        (Shred::Renew, Err(error), _) | (Shred::Erase(_), _, Err(error)) => Err(error.share()),
        (Shred::Erase(id), _, Ok(erasures)) => erasures
            .iter()
            .find(|erasure| erasure.id == *id)
            .map(|erasure| Shredded::Erasure(Box::new(erasure.clone())))
            .ok_or_else(|| Error::internal("an erasure disappeared")),
    };
    asks.iter().map(answer).collect()
}

/// How many items a page of a list holds: `asked` between 1 and 1000, 100 when not said.
///
/// # Errors
/// `ValueInvalid` for a negative number.
pub fn page_size(asked: i32) -> Result<u32> {
    match u32::try_from(asked) {
        Ok(0) => Ok(100),
        Ok(size) => Ok(size.min(1000)),
        Err(_) => Err(Error::invalid("page_size", "must not be negative")),
    }
}
