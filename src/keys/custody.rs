//! Custody: everything this floor holds, in one hand.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Mutex;

use super::doubt::Doubts;
use super::flight::Flights;
use super::kek::Kek;
use super::lease::Lease;
use super::leaves::Leaves;
use super::node::Member;
use super::ring::Keyring;
use super::signer::Signer;
use super::sink::Sinks;
use super::slot::RootSlot;
use super::tree::Tree;
use crate::crypto::Random;
use crate::model::{Clock, KeyEvent, KeyEventId, KeyEventKind, Result, RetentionRun, Time};
use crate::platform;
use crate::store::Store;
use crate::store::index::Generation;

/// What custody is taken of, and with what.
pub struct Parts {
    /// The vault, by the id of its key tree.
    pub vault: [u8; 16],
    /// The database.
    pub store: Arc<dyn Store>,
    /// The register that can forget.
    pub slot: Arc<dyn RootSlot>,
    /// Where key states are copied to.
    pub sinks: Sinks,
    /// Wraps what lies in files outside the database.
    pub kek: Arc<dyn Kek>,
    /// Signs receipts.
    pub signer: Signer,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// How many index buckets a new vault gets.
    pub index_buckets: u32,
    /// Until when this process may use the keys.
    pub lease: Arc<Lease>,
}

impl Parts {
    /// Something that happens to the keys now, at the hands of this process.
    pub(super) fn event(&self, kind: KeyEventKind, detail: String) -> KeyEvent {
        let at = self.clock.now();
        KeyEvent { id: KeyEventId::new(at, &*self.random), at, actor: platform::host(), kind, detail }
    }

    /// Notes what happened among the nodes. That it cannot be noted stops nobody.
    pub(super) async fn tell(&self, kind: KeyEventKind, detail: String) {
        let noted = match self.store.watch().await {
            Ok(mut tx) => tx.insert_key_events(&[self.event(kind, detail)]).await,
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "an event of the keys is not noted");
        }
    }
}

/// The keys with all that guards them.
pub struct Custody {
    pub(super) parts: Parts,
    /// The keys.
    pub ring: Arc<Keyring>,
    /// Reveals on their way.
    pub flights: Flights,
    /// Erasures that are being asked for.
    pub arrivals: Flights,
    /// The generations of the search index that were written when somebody looked last.
    generations: RwLock<Vec<Generation>>,
    /// Leaves for people.
    pub(super) leaves: Leaves,
    /// Buckets of the index that hold in some file what was never committed.
    pub(super) doubts: Doubts,
    /// This process among the nodes; none when the vault has one process only.
    pub(super) member: Option<Member>,
    /// The tree that the slot's root opens, with the keys of its pages: what the next one is made from. Held by
    /// whoever is about to make it. Gone when another node may have made one.
    pub(super) base: Mutex<Option<Tree>>,
    /// Held while the tree in use is replaced.
    pub(super) applying: Mutex<()>,
}

impl Custody {
    pub(super) fn new(
        parts: Parts,
        ring: Keyring,
        generations: Vec<Generation>,
        base: Tree,
        member: Option<Member>,
    ) -> Self {
        Self {
            flights: Flights::new(Arc::clone(&parts.lease)),
            arrivals: Flights::new(Arc::new(Lease::unlimited())),
            parts,
            ring: Arc::new(ring),
            generations: RwLock::new(generations),
            leaves: Leaves::default(),
            doubts: Doubts::default(),
            member,
            base: Mutex::new(Some(base)),
            applying: Mutex::new(()),
        }
    }

    /// The database.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.parts.store
    }

    /// The database, to be kept.
    #[must_use]
    pub fn share_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.parts.store)
    }

    /// The root slot.
    #[must_use]
    pub fn slot(&self) -> &dyn RootSlot {
        &*self.parts.slot
    }

    /// Whether the root slot and what wraps it are files, which cost nothing to look at.
    #[must_use]
    pub fn is_kept_nearby(&self) -> bool {
        self.slot().kind() == "file" && self.kek().kind() == "local"
    }

    /// What wraps the files outside the database.
    #[must_use]
    pub fn kek(&self) -> &dyn Kek {
        &*self.parts.kek
    }

    /// Records something that happened to the keys.
    pub(super) async fn note(&self, kind: KeyEventKind, detail: String) -> Result<()> {
        let mut tx = self.store().write().await?;
        tx.insert_key_events(&[self.parts.event(kind, detail)]).await?;
        tx.commit().await
    }

    /// The receipt of a retention run whose keys are gone at `at`.
    ///
    /// # Errors
    /// `Internal` when it cannot be signed.
    pub fn sign_run(&self, run: &RetentionRun, root: (u64, &[u8; 16]), at: Time) -> Result<Vec<u8>> {
        let slot = (self.parts.slot.kind(), self.parts.slot.assurance());
        self.parts.signer.sign_run(run, root, slot, at)
    }

    /// The checkpoint sinks.
    #[must_use]
    pub fn sinks(&self) -> &Sinks {
        &self.parts.sinks
    }

    /// Until when this process may use the keys.
    #[must_use]
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.parts.lease)
    }

    /// What the generations of the search index that are written probably are. A transaction that writes reads them
    /// itself: this only spares it work.
    #[must_use]
    pub fn generations(&self) -> Vec<Generation> {
        self.generations.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells what they are.
    pub fn see_generations(&self, written: &[Generation]) {
        if *self.generations.read().unwrap_or_else(PoisonError::into_inner) != written {
            *self.generations.write().unwrap_or_else(PoisonError::into_inner) = written.to_vec();
        }
    }
}
