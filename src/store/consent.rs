//! The catalogue of purposes and notices, and the ledger of consent.

use async_trait::async_trait;

use crate::model::{ConsentEvent, ConsentEventId, Result, Standing, SubjectId, Time};

/// What a document of the catalogue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// A purpose.
    Purpose,
    /// A notice.
    Notice,
    /// A collection point.
    Point,
    /// A retention class.
    Retention,
}

impl DocumentKind {
    /// The word that the store keeps.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Purpose => "purpose",
            Self::Notice => "notice",
            Self::Point => "point",
            Self::Retention => "retention",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Purpose, Self::Notice, Self::Point, Self::Retention].into_iter().find(|kind| kind.name() == name)
    }
}

/// A version of a document of the catalogue.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it is.
    pub kind: DocumentKind,
    /// Of which purpose, notice, point or class.
    pub code: String,
    /// 1 and upwards.
    pub version: u32,
    /// JSON.
    pub document: String,
    /// Who defined it.
    pub defined_by: String,
    /// When.
    pub defined_at: Time,
}

/// An event in its place in a person's chain.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The event.
    pub event: ConsentEvent,
    /// Its place, 1 and upwards.
    pub number: u64,
    /// What was hashed.
    pub document: String,
    /// The hash of the event before.
    pub previous_hash: Option<[u8; 32]>,
    /// Its hash.
    pub hash: [u8; 32],
}

/// How the consents of a person to a purpose stand.
#[derive(Clone, Debug)]
pub struct Stood {
    /// Whose.
    pub subject: SubjectId,
    /// To which purpose.
    pub purpose: String,
    /// How they stand.
    pub standing: Standing,
    /// The next moment at which they should be looked at.
    pub due_at: Option<Time>,
}

/// The operations on the catalogue and the ledger.
#[async_trait]
pub trait Consents {
    /// How many documents the catalogue has.
    async fn catalogue_generation(&mut self) -> Result<i64>;

    /// The documents after the first `after`, in the order in which they were defined.
    async fn documents(&mut self, after: i64) -> Result<Vec<Document>>;

    /// One document; the newest version when `version` is 0.
    async fn document(&mut self, kind: DocumentKind, code: &str, version: u32) -> Result<Option<Document>>;

    /// Adds documents to a catalogue of `generation`. `false`, and no change, when somebody else was faster.
    async fn insert_documents(&mut self, generation: i64, documents: &[Document]) -> Result<bool>;

    /// Adds events. Their subjects must be locked.
    async fn insert_consent_events(&mut self, events: &[Recorded]) -> Result<()>;

    /// The last event of a person's chain.
    async fn last_consent_event(&mut self, subject: SubjectId) -> Result<Option<Recorded>>;

    /// A page of a person's events, in the order of their recording, after the first `after`; of one purpose, or of all
    /// when that is empty.
    async fn consent_events(
        &mut self,
        subject: SubjectId,
        purpose: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>>;

    /// Events by whose they are and their places in the chains.
    async fn consent_events_at(&mut self, places: &[(SubjectId, u64)]) -> Result<Vec<Recorded>>;

    /// One event.
    async fn consent_event(&mut self, id: ConsentEventId) -> Result<Option<Recorded>>;

    /// How these persons' consents to these purposes stand, where something was recorded.
    async fn standings(&mut self, of: &[(SubjectId, &str)]) -> Result<Vec<Stood>>;

    /// How all consents of a person stand, by purpose.
    async fn standings_of(&mut self, subject: SubjectId) -> Result<Vec<Stood>>;

    /// Writes how consents stand.
    async fn put_standings(&mut self, standings: &[Stood], now: Time) -> Result<()>;

    /// A page of all standings, by person and purpose.
    async fn scan_standings(&mut self, after: Option<(SubjectId, String)>, limit: u32) -> Result<Vec<Stood>>;

    /// A page of the standings of people who are not erased that are due by `before`, by when they are due, person and
    /// purpose; from the one named on, itself included.
    async fn due_standings(&mut self, before: Time, from: &(Time, SubjectId, String), limit: u32)
    -> Result<Vec<Stood>>;

    /// A page of the standings of people who are not erased to one purpose, by person, from one on.
    async fn standings_to(&mut self, purpose: &str, from: SubjectId, limit: u32) -> Result<Vec<Stood>>;

    /// A page of everybody's events, in the order of their recording, after one.
    async fn consent_events_after(&mut self, after: ConsentEventId, limit: u32) -> Result<Vec<Recorded>>;

    /// Whether anybody has recorded an event of a purpose.
    async fn has_standing(&mut self, purpose: &str) -> Result<bool>;
}
