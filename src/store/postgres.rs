//! The PostgreSQL dialect: what differs, and nothing else.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};

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
/// Every statement here finds its rows by key. A planner that believes a table still small reads all of it, and goes on
/// doing so, on connections that keep their plans, until the table has been analyzed: minutes after it has grown.
/// Where a table is read whole after all, that counts as so dear that a just-in-time compiler would be worth its while.
const BY_KEY: [(&str, &str); 4] =
    [("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("enable_seqscan", "off"), ("jit", "off")];
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

/// Keeps the rows read from being deleted until the transaction ends.
macro_rules! hold {
    ($table:literal) => {
        concat!(" FOR KEY SHARE OF ", $table)
    };
}

use {blob, each, hold, lock};

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
        .options(BY_KEY)
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
pub const COPY: &str = "vault.pgdump";

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

/// Makes an empty database beside the one that `url` names and answers its URL.
pub async fn create_scratch(url: &str, name: &str) -> Result<String> {
    let refused = |error| {
        copy_failed(format!(
            "cannot make the scratch database {name}: {error}; the role needs CREATEDB, or name an empty one"
        ))
    };
    administer(url, &format!("CREATE DATABASE \"{name}\"")).await.map_err(refused)?;
    let mut url = url::Url::parse(url).map_err(|_| Error::invalid("database_url", "is not a URL"))?;
    url.set_path(name);
    Ok(url.into())
}

/// Drops what [`create_scratch`] made.
pub async fn drop_scratch(url: &str, name: &str) -> Result<()> {
    let refused = |error| copy_failed(format!("cannot drop the scratch database {name}: {error}; drop it yourself"));
    administer(url, &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).await.map_err(refused)
}

/// Whether a database has no table where the vault would put its own.
pub async fn is_empty(url: &str) -> Result<bool> {
    let statement = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema()";
    let mut connection = PgConnection::connect(url).await.map_err(unavailable)?;
    let tables: i64 = sqlx::query_scalar(statement).fetch_one(&mut connection).await.map_err(unavailable)?;
    connection.close().await.map_err(unavailable)?;
    Ok(tables == 0)
}

/// Empties a database that was empty before a copy was put into it.
pub async fn clear_scratch(url: &str) -> Result<()> {
    let refused = |error| copy_failed(format!("cannot empty the scratch database: {error}; empty it yourself"));
    let statement = "DO $$ DECLARE found RECORD; BEGIN FOR found IN SELECT table_name FROM information_schema.tables \
                     WHERE table_schema = current_schema() LOOP EXECUTE format('DROP TABLE IF EXISTS %I CASCADE', \
                     found.table_name); END LOOP; END $$";
    administer(url, statement).await.map_err(refused)
}

/// A statement that no transaction may hold. What stands in it is ours.
async fn administer(url: &str, statement: &str) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

/// Runs one of PostgreSQL's own programs. The password goes through the environment, where other users cannot see it.
async fn run(program: &'static str, url: &str, arguments: &[&str], file: &Path) -> Result<()> {
    let (url, password) = without_password(url)?;
    let mut command = tokio::process::Command::new(program);
    if let Some(password) = password {
        command.env("PGPASSWORD", password);
    }
    let output = command.arg("--dbname").arg(url.as_str()).args(arguments).arg(file).kill_on_drop(true).output().await;
    let output = output.map_err(|error| {
        copy_failed(format!("cannot run {program}: {error}; it comes with the client programs of PostgreSQL"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(copy_failed(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// A URL without the password in it, and the password. As a parameter it counts for more than before the host.
fn without_password(url: &str) -> Result<(url::Url, Option<String>)> {
    let mut url = url::Url::parse(url).map_err(|_| Error::invalid("database_url", "is not a URL"))?;
    let before_host = url.password().map(|text| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into());
    // Cannot fail for a URL that has a host.
    let _ = url.set_password(None);
    let (secret, rest): (Vec<_>, Vec<_>) = url.query_pairs().into_owned().partition(|(name, _)| name == "password");
    let Some((_, parameter)) = secret.into_iter().next_back() else { return Ok((url, before_host)) };
    let rest: Vec<String> = rest.iter().map(|(name, value)| format!("{}={}", quoted(name), quoted(value))).collect();
    url.set_query(Some(rest.join("&").as_str()).filter(|rest| !rest.is_empty()));
    Ok((url, Some(parameter)))
}

/// For PostgreSQL's programs, to which a plus is a plus and no space.
fn quoted(text: &str) -> String {
    const PLAIN: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, &PLAIN).to_string()
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_stays_out_of_what_everybody_can_see() {
        for (url, bare, password) in [
            ("postgres://ada@db/vault", "postgres://ada@db/vault", None),
            ("postgres://ada:p%40ss@db/vault?sslmode=require", "postgres://ada@db/vault?sslmode=require", Some("p@ss")),
            ("postgres://ada@db/vault?password=p%40ss", "postgres://ada@db/vault", Some("p@ss")),
            (
                "postgres://ada:old@db/vault?password=new&sslmode=verify-full&application_name=a+b",
                "postgres://ada@db/vault?sslmode=verify-full&application_name=a%20b",
                Some("new"),
            ),
        ] {
            let (seen, secret) = without_password(url).unwrap();
            assert_eq!((seen.as_str(), secret.as_deref()), (bare, password), "{url}");
        }
    }
}
