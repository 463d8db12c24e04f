//! The records: what survives a restart.
//!
//! This floor knows rows, statements and transactions on two databases, SQLite and PostgreSQL. Every statement is
//! written once, in `sql/`, and compiled against each driver; `sqlite.rs` and `postgres.rs` hold what really differs.
//! It must not know what a sealed value holds, which key opens it, or who may see it: to this floor a value is bytes.
//!
//! A [`Tx`] is one connection: [`Store::read`] gives one without a transaction, [`Store::write`] one in a transaction
//! that is undone unless committed. The operations stand in one small trait a noun.

mod postgres;
mod rows;
mod sqlite;

pub mod access;
pub mod approval;
pub mod audit;
pub mod brake;
pub mod call;
pub mod call_event;
pub mod consent;
pub mod erasure;
pub mod hold;
pub mod index;
pub mod journal;
pub mod key;
pub mod leaf;
pub mod node;
pub mod outbox;
pub mod part;
pub mod request;
pub mod retention;
pub mod rotation;
pub mod subject;
pub mod suppression;
pub mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::model::{Error, Reason, Result, Time};

/// A database.
#[async_trait]
pub trait Store: Send + Sync {
    /// A connection for reading; each statement sees what is committed when it starts.
    async fn read(&self) -> Result<Box<dyn Tx>>;

    /// A transaction for writing. On SQLite there is one at a time.
    async fn write(&self) -> Result<Box<dyn Tx>>;

    /// A connection without a transaction, apart from all others and with little patience: for a node's signs of life,
    /// each statement of which is durable by itself.
    async fn watch(&self) -> Result<Box<dyn Tx>>;

    /// Brings the schema up to date. Does nothing when it is.
    async fn migrate(&self) -> Result<()>;

    /// Whether the schema is present and up to date.
    async fn is_migrated(&self) -> Result<bool>;

    /// Checks that the database can be used and that its durability is not switched off.
    async fn check(&self) -> Result<()>;

    /// The settings that decide whether a commit that returned survives a loss of power.
    async fn durability(&self) -> Result<Vec<Setting>>;

    /// What the clock of the database's server says; `None` when the database has no clock of its own.
    async fn server_time(&self) -> Result<Option<Time>>;

    /// What the database calls itself, for people: `SQLite 3.51.3`.
    async fn describe(&self) -> Result<String>;

    /// Whether several processes may use it at once.
    fn is_shared(&self) -> bool;

    /// How many reading statements may be in flight at once.
    fn readers(&self) -> usize;

    /// Wakes one who waits whenever this process has committed something to the outbox.
    fn news(&self) -> &Notify;

    /// Closes every connection, writing back what is still in a log.
    async fn close(&self);
}

/// A setting of a database.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The values that will do.
    pub wanted: &'static [&'static str],
}

impl Setting {
    /// Whether the value will do.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.wanted.contains(&self.value.as_str())
    }
}

/// A connection, in a transaction or not.
#[async_trait]
pub trait Tx:
    access::Accesses
    + approval::Approvals
    + audit::Audits
    + brake::Brakes
    + call::Calls
    + call_event::CallEvents
    + consent::Consents
    + erasure::Erasures
    + hold::Holds
    + index::Indexes
    + journal::Journals
    + key::Keys
    + leaf::Leaves
    + node::Nodes
    + outbox::Outbox
    + part::Parts
    + request::Requests
    + retention::Retentions
    + rotation::Rotations
    + subject::Subjects
    + suppression::Suppressions
    + token::Tokens
    + Send
{
    /// Makes the transaction durable: when this returns, it survives a crash.
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// Where a database is: `sqlite:PATH` or `postgres://…`.
///
/// # Errors
/// `ValueInvalid` for another scheme, `StoreUnavailable` when it cannot be opened.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        Ok(Arc::new(sqlite::open(path).await?))
    } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        Ok(Arc::new(postgres::open(url).await?))
    } else {
        Err(Error::invalid("database_url", "expected sqlite:PATH or postgres://USER@HOST/DATABASE"))
    }
}

/// What kind of database a URL names.
#[must_use]
pub fn kind(url: &str) -> &'static str {
    if is_embedded(url) { "SQLite" } else { "PostgreSQL" }
}

/// Whether the database lives in this machine's files, so that one process at a time serves it.
#[must_use]
pub fn is_embedded(url: &str) -> bool {
    url.starts_with("sqlite:")
}

/// The file in which [`backup`] copies a database of this kind.
#[must_use]
pub fn copy_of(kind: &str) -> &'static str {
    if kind == "SQLite" { sqlite::COPY } else { postgres::COPY }
}

/// Copies a database, consistently and while it is in use, into a directory.
///
/// # Errors
/// `StoreUnavailable`, saying what could not be run or written.
pub async fn backup(url: &str, directory: &Path) -> Result<()> {
    match url.strip_prefix("sqlite:") {
        Some(path) => sqlite::backup(path, directory).await,
        None => postgres::backup(url, directory).await,
    }
}

/// Puts a copy that [`backup`] made in the place of a database that nobody uses. One that is there is refused, or
/// moved aside with `replace`.
///
/// # Errors
/// `StoreUnavailable`, saying what stands in the way.
pub async fn restore(url: &str, directory: &Path, replace: bool) -> Result<()> {
    match url.strip_prefix("sqlite:") {
        Some(path) => sqlite::restore(path, directory, replace),
        None => postgres::restore(url, directory, replace).await,
    }
}

/// A place for a copy of a database that is thrown away again.
pub enum Scratch {
    /// A file in a directory of its own.
    File(PathBuf),
    /// A database made on the server that the first URL names, by its name; and its URL.
    Made(String, String, String),
    /// A database that was given, and was empty.
    Given(String),
}

impl Scratch {
    /// Makes one for a copy of the database at `url`: a file in `directory`, or a database of that name on the same
    /// server.
    ///
    /// # Errors
    /// `StoreUnavailable`, saying what stands in the way.
    pub async fn make(url: &str, directory: &Path, name: &str) -> Result<Self> {
        if is_embedded(url) {
            return Ok(Self::File(directory.join(sqlite::COPY)));
        }
        let made = postgres::create_scratch(url, name).await?;
        Ok(Self::Made(url.to_owned(), name.to_owned(), made))
    }

    /// Takes a database of PostgreSQL that is there, if it is empty.
    ///
    /// # Errors
    /// `ValueInvalid` when it is not, `StoreUnavailable` when it cannot be looked at.
    pub async fn take(url: &str) -> Result<Self> {
        if is_embedded(url) {
            return Err(Error::invalid("scratch_database_url", "expected postgres://USER@HOST/DATABASE"));
        }
        if !postgres::is_empty(url).await? {
            return Err(Error::invalid("scratch_database_url", "the database holds tables; name an empty one"));
        }
        Ok(Self::Given(url.to_owned()))
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Self::File(path) => format!("sqlite:{}", path.display()),
            Self::Made(_, _, url) | Self::Given(url) => url.clone(),
        }
    }

    /// Throws away what was put there. The directory of a file goes with its owner.
    ///
    /// # Errors
    /// `StoreUnavailable`, saying what is left behind.
    pub async fn discard(self) -> Result<()> {
        match self {
            Self::File(_) => Ok(()),
            Self::Made(server, name, _) => postgres::drop_scratch(&server, &name).await,
            Self::Given(url) => postgres::clear_scratch(&url).await,
        }
    }
}

/// The error for a copy that cannot be made or put in place; tells the operator what lies beneath.
fn copy_failed(what: impl std::fmt::Display) -> Error {
    Error::new(Reason::StoreUnavailable, what.to_string())
}

/// The error for a row that contradicts the schema's promises.
fn inconsistent(table: &'static str, column: &'static str) -> Error {
    Error::internal(format!("{table}.{column} holds what no version of this program writes"))
}

/// The error for a database that cannot be used just now.
fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Reason::StoreUnavailable, "the database cannot be used just now; try again").because(source)
}
