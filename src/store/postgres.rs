//! The PostgreSQL dialect: what differs, and nothing else.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::{Error, Result, copy_failed, unavailable};

#[path = "sql/mod.rs"]
mod sql;

type Db = sqlx::Postgres;

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// Any number of nodes may work on it.
const SHARED: bool = true;
const VERSION: &str = "SELECT 'PostgreSQL ' || current_setting('server_version')";
/// With any of these off, a commit that returned may be lost with the power.
const DURABILITY: [(&str, &str, &[&str]); 3] = [
    ("fsync", "SELECT current_setting('fsync')", &["on"]),
    ("full_page_writes", "SELECT current_setting('full_page_writes')", &["on"]),
    ("synchronous_commit", "SELECT current_setting('synchronous_commit')", &["on", "remote_write", "remote_apply"]),
];
const SERVER_TIME: Option<&str> = Some("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)");
/// Where the database is, as far as that can be looked at from outside: nowhere.
pub struct Place;

impl Place {
    /// Nothing to look at: a server that lost its files says so itself.
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the shape that SQLite needs")]
    const fn check(&self) -> Result<()> {
        Ok(())
    }
}

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
        .options([
            ("synchronous_commit", "on"),
            // A node that is stopped or cut off in the middle of a transaction must not keep its locks from the others.
            ("idle_in_transaction_session_timeout", "5s"),
            ("lock_timeout", "10s"),
            ("statement_timeout", "60s"),
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
            ("tcp_user_timeout", "10s"),
        ])
        .statement_cache_capacity(200);
    // Signs of life wait for nobody: neither for a connection nor for a lock.
    let watch = PgPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(1))
        .connect_lazy_with(options.clone().options([("lock_timeout", "500ms"), ("statement_timeout", "1s")]));
    let readers = 4;
    let pool = PgPoolOptions::new()
        .max_connections(12)
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options)
        .await
        .map_err(unavailable)?;
    Ok(sql::Sql::new(pool.clone(), pool, watch, readers, Place))
}

/// The file of a backup, in the custom format of `pg_dump`.
const COPY: &str = "vault.pgdump";

/// Copies the database with `pg_dump`, as of one moment.
pub async fn backup(url: &str, directory: &Path) -> Result<()> {
    let copy = directory.join(COPY);
    run("pg_dump", url, &["--format=custom", "--no-owner", "--no-privileges", "--file"], &copy).await
}

/// Puts the copy into an empty database, or into one whose tables may be replaced, with `pg_restore`.
pub async fn restore(url: &str, directory: &Path, replace: bool) -> Result<()> {
    let always = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"];
    let arguments = if replace { [&always[..], &["--clean", "--if-exists"]].concat() } else { always.to_vec() };
    run("pg_restore", url, &arguments, &directory.join(COPY)).await
}

/// Runs one of PostgreSQL's own programs. The password goes through the environment, where other users cannot see it.
async fn run(program: &'static str, url: &str, arguments: &[&str], file: &Path) -> Result<()> {
    let mut url = url::Url::parse(url).map_err(|_| Error::invalid("database_url", "is not a URL"))?;
    let mut command = tokio::process::Command::new(program);
    if let Some(password) = url.password() {
        let password = percent_encoding::percent_decode_str(password).decode_utf8_lossy();
        command.env("PGPASSWORD", password.as_ref());
    }
    // Cannot fail for a URL that has a host.
    let _ = url.set_password(None);
    let output = command.arg("--dbname").arg(url.as_str()).args(arguments).arg(file).output().await;
    let output = output.map_err(|error| {
        copy_failed(format!("cannot run {program}: {error}; it comes with the client programs of PostgreSQL"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(copy_failed(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
