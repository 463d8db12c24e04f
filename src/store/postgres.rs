//! The PostgreSQL dialect: what differs, and nothing else.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::{Error, Result, unavailable};

#[path = "sql/mod.rs"]
mod sql;

type Db = sqlx::Postgres;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
const VERSION: &str = "SELECT 'PostgreSQL ' || current_setting('server_version')";
/// With any of these off, a commit that returned may be lost with the power.
const DURABILITY: [(&str, &[&str]); 3] = [
    ("SELECT current_setting('fsync')", &["on"]),
    ("SELECT current_setting('full_page_writes')", &["on"]),
    ("SELECT current_setting('synchronous_commit')", &["on", "remote_write", "remote_apply"]),
];
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// Unfolds the rows of a parameter: `FROM each!("1") AS e`, then `e.value ->> 0`.
macro_rules! each {
    ($n:literal) => {
        concat!("jsonb_array_elements(CAST($", $n, " AS jsonb))")
    };
}

/// A blob column of an unfolded row.
macro_rules! blob {
    ($column:literal) => {
        concat!("decode(e.value ->> ", $column, ", 'hex')")
    };
}

/// Locks the rows read until the transaction ends.
macro_rules! lock {
    ($table:literal) => {
        concat!(" FOR UPDATE OF ", $table)
    };
}

use {blob, each, lock};

/// Opens a pool of connections.
pub async fn open(url: &str) -> Result<sql::Sql> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|error| Error::invalid("database_url", "not a URL for PostgreSQL").because(error))?
        .application_name("lacuna")
        .options([("synchronous_commit", "on")])
        .statement_cache_capacity(200);
    let readers = 4;
    let pool = PgPoolOptions::new()
        .max_connections(12)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .map_err(unavailable)?;
    Ok(sql::Sql::new(pool.clone(), pool, readers))
}
