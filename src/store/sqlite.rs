//! The SQLite dialect: what differs, and nothing else.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Result, copy_failed, unavailable};

#[path = "sql/mod.rs"]
mod sql;

type Db = sqlx::Sqlite;

const BEGIN: &str = "BEGIN IMMEDIATE";
/// One process has the file.
const SHARED: bool = false;
const VERSION: &str = "SELECT 'SQLite ' || sqlite_version()";
/// `synchronous` of FULL (2) or more: a commit that returned survives a loss of power.
const DURABILITY: [(&str, &str, &[&str]); 1] = [(
    "synchronous",
    "SELECT CASE synchronous WHEN 0 THEN 'OFF' WHEN 1 THEN 'NORMAL' WHEN 2 THEN 'FULL' ELSE 'EXTRA' END \
     FROM pragma_synchronous()",
    &["FULL", "EXTRA"],
)];
/// The file has no clock.
const SERVER_TIME: Option<&str> = None;
/// The database file as it was opened. SQLite goes on in a file that was removed or replaced, and nobody would find
/// what it writes there.
pub struct Place {
    path: PathBuf,
    file: Option<(u64, u64)>,
}

impl Place {
    fn of(path: &str) -> Self {
        let path = PathBuf::from(path);
        Self { file: identity(&path), path }
    }

    fn check(&self) -> Result<()> {
        if identity(&self.path) == self.file {
            return Ok(());
        }
        Err(copy_failed(format!(
            "the database file {} was removed or replaced while it is in use; put it back, or restart",
            self.path.display()
        )))
    }
}

/// What a file is, whatever its name.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");

/// Unfolds the rows of a parameter: `FROM each!("1") AS e`, then `e.value ->> 0`.
macro_rules! each {
    ($n:literal) => {
        concat!("json_each($", $n, ")")
    };
}

/// A blob column of an unfolded row.
macro_rules! blob {
    ($column:literal) => {
        concat!("unhex(e.value ->> ", $column, ")")
    };
}

/// Locks the rows read until the transaction ends. The only writer of SQLite has them anyway.
macro_rules! lock {
    ($table:literal) => {
        ""
    };
}

/// Keeps the rows read from being deleted until the transaction ends, likewise.
macro_rules! hold {
    ($table:literal) => {
        ""
    };
}

use {blob, each, hold, lock};

/// Opens the database file, making it when it is missing.
pub async fn open(path: &str) -> Result<sql::Sql> {
    // For the owner only; SQLite gives its log the same mode.
    let made = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    made.map_err(|error| copy_failed(format!("cannot open the database {path}: {error}")))?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
        .pragma("secure_delete", "ON")
        .pragma("cache_size", "-65536")
        .statement_cache_capacity(200)
        .optimize_on_close(true, None);
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        // When its disk is full, SQLite ends a transaction by itself, and the driver goes on counting it: such a
        // connection would refuse every transaction for ever.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
        .connect_with(options.clone())
        .await
        .map_err(unavailable)?;
    let readers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let reader = SqlitePoolOptions::new()
        .max_connections(u32::try_from(readers).unwrap_or(8) + 2)
        .connect_with(options.read_only(true).create_if_missing(false))
        .await
        .map_err(unavailable)?;
    Ok(sql::Sql::new(reader, writer.clone(), writer, readers, Place::of(path)))
}

/// The file of a backup.
pub const COPY: &str = "vault.db";

/// Copies the database through a connection of its own, as of one moment.
pub async fn backup(path: &str, directory: &Path) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).read_only(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.map_err(unavailable)?;
    let copy = directory.join(COPY);
    let done = sqlx::query("VACUUM INTO $1").bind(copy.to_string_lossy().as_ref()).execute(&pool).await;
    pool.close().await;
    done.map_err(|error| copy_failed(format!("cannot copy the database to {}: {error}", copy.display())))?;
    let synced = std::fs::File::open(&copy).and_then(|file| file.sync_all());
    synced.map_err(|error| copy_failed(format!("{}: {error}", copy.display())))
}

/// Puts the copy in place.
pub fn restore(path: &str, directory: &Path, replace: bool) -> Result<()> {
    let (place, copy) = (PathBuf::from(path), directory.join(COPY));
    let failed = |error: std::io::Error| copy_failed(format!("cannot restore to {}: {error}", place.display()));
    let with_ending = |ending: &str| PathBuf::from(format!("{path}{ending}"));
    // A log without its database counts as well: SQLite would replay it into the restored one.
    let there: Vec<&str> = ["-wal", "-shm", ""].into_iter().filter(|ending| with_ending(ending).exists()).collect();
    if !there.is_empty() && !replace {
        return Err(copy_failed(format!("{path} exists; --replace moves it aside first (to {path}.replaced)")));
    }
    if !there.is_empty()
        && ["", "-wal", "-shm"].iter().any(|ending| with_ending(&format!(".replaced{ending}")).exists())
    {
        return Err(copy_failed(format!("{path}.replaced exists from an earlier restore; move it away first")));
    }
    for ending in there {
        std::fs::rename(with_ending(ending), with_ending(&format!(".replaced{ending}"))).map_err(failed)?;
    }
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    // Under its name only once it is whole.
    let fresh = with_ending(".restoring");
    std::fs::copy(&copy, &fresh).map_err(failed)?;
    std::fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(failed)?;
    std::fs::rename(&fresh, &place).map_err(failed)?;
    std::fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed)
}
