//! The SQLite dialect: what differs, and nothing else.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{Error, Result, unavailable};

#[path = "sql/mod.rs"]
mod sql;

type Db = sqlx::Sqlite;

const BEGIN: &str = "BEGIN IMMEDIATE";
const VERSION: &str = "SELECT 'SQLite ' || sqlite_version()";
/// `synchronous` of FULL (2) or more: a commit that returned survives a loss of power.
const DURABILITY: [(&str, &[&str]); 1] = [("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous()", &["2", "3"])];
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

use {blob, each, lock};

/// Opens the database file, making it when it is missing.
pub async fn open(path: &str) -> Result<sql::Sql> {
    let options = SqliteConnectOptions::from_str("sqlite::memory:")
        .map_err(|error| Error::invalid("database_url", "not a path for SQLite").because(error))?
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
    let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(unavailable)?;
    let readers = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let reader = SqlitePoolOptions::new()
        .max_connections(u32::try_from(readers).unwrap_or(8) + 2)
        .connect_with(options.read_only(true).create_if_missing(false))
        .await
        .map_err(unavailable)?;
    Ok(sql::Sql::new(reader, writer, readers))
}
