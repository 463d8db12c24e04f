//! Every statement, written once. This folder is compiled twice, as a child of each dialect, whose `Db`, `each!`,
//! `blob!`, `lock!` and `hold!` it uses. Plain SQL only: no sequences, advisory locks, notifications or extensions.

mod access;
mod approval;
mod audit;
mod brake;
mod call;
mod call_event;
mod consent;
mod erasure;
mod hold;
mod index;
mod journal;
mod key;
mod leaf;
mod node;
mod outbox;
mod part;
mod request;
mod retention;
mod rotation;
mod subject;
mod suppression;
mod token;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool, Row as _, Transaction};
use tokio::sync::Notify;

use super::super::rows::Rows;
use super::super::{Setting, Store, Tx, inconsistent, unavailable};
use super::{BEGIN, DURABILITY, Db, MIGRATIONS, Place, SERVER_TIME, SHARED, VERSION, blob, each, hold, lock};
use crate::crash;
use crate::model::{Error, Reason, Result, Time};

type Connection = <Db as Database>::Connection;
type Row = <Db as Database>::Row;

/// A database, with its pools for reading and for writing.
pub struct Sql {
    reader: Pool<Db>,
    writer: Pool<Db>,
    watch: Pool<Db>,
    readers: usize,
    place: Place,
    news: Arc<Notify>,
}

impl Sql {
    pub fn new(reader: Pool<Db>, writer: Pool<Db>, watch: Pool<Db>, readers: usize, place: Place) -> Self {
        Self { reader, writer, watch, readers, place, news: Arc::default() }
    }
}

#[async_trait]
impl Store for Sql {
    async fn read(&self) -> Result<Box<dyn Tx>> {
        Ok(Box::new(SqlTx::Read(self.reader.acquire().await.map_err(failed)?)))
    }

    async fn write(&self) -> Result<Box<dyn Tx>> {
        let transaction = self.writer.begin_with(BEGIN).await.map_err(failed)?;
        Ok(Box::new(SqlTx::Write(transaction, News { told: false, waker: Arc::clone(&self.news) })))
    }

    async fn watch(&self) -> Result<Box<dyn Tx>> {
        Ok(Box::new(SqlTx::Read(self.watch.acquire().await.map_err(failed)?)))
    }

    async fn migrate(&self) -> Result<()> {
        MIGRATIONS.run(&self.writer).await.map_err(unavailable)
    }

    async fn is_migrated(&self) -> Result<bool> {
        let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        let applied =
            sqlx::query("SELECT MAX(version) FROM _sqlx_migrations WHERE success").fetch_one(&self.reader).await;
        match applied {
            Ok(row) => Ok(row.try_get::<Option<i64>, _>(0).map_err(failed)? == Some(newest)),
            Err(sqlx::Error::Database(_)) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    async fn check(&self) -> Result<()> {
        self.place.check()?;
        let mut connection = self.writer.acquire().await.map_err(failed)?;
        for setting in settings(&mut connection).await? {
            if !setting.is_good() {
                let Setting { name, value, wanted } = setting;
                return Err(Error::new(
                    Reason::StoreUnavailable,
                    format!(
                        "the database may lose acknowledged commits: {name} is {value}, expected one of {wanted:?}"
                    ),
                ));
            }
        }
        Ok(())
    }

    async fn durability(&self) -> Result<Vec<Setting>> {
        settings(&mut *self.writer.acquire().await.map_err(failed)?).await
    }

    async fn server_time(&self) -> Result<Option<Time>> {
        let Some(statement) = SERVER_TIME else { return Ok(None) };
        let micros: i64 = sqlx::query_scalar(statement).fetch_one(&self.reader).await.map_err(failed)?;
        Ok(Some(Time::from_micros(micros)))
    }

    async fn describe(&self) -> Result<String> {
        sqlx::query_scalar(VERSION).fetch_one(&self.reader).await.map_err(failed)
    }

    fn is_shared(&self) -> bool {
        SHARED
    }

    fn readers(&self) -> usize {
        self.readers
    }

    fn news(&self) -> &Notify {
        &self.news
    }

    async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
        self.watch.close().await;
    }
}

async fn settings(connection: &mut Connection) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for (name, statement, wanted) in DURABILITY {
        let value = sqlx::query_scalar(statement).fetch_one(&mut *connection).await.map_err(failed)?;
        settings.push(Setting { name, value, wanted });
    }
    Ok(settings)
}

/// A connection, in a transaction or not.
pub enum SqlTx {
    Read(PoolConnection<Db>),
    Write(Transaction<'static, Db>, News),
}

/// Whether a transaction tells of something, and who is woken when it is committed.
pub struct News {
    told: bool,
    waker: Arc<Notify>,
}

impl SqlTx {
    fn connection(&mut self) -> &mut Connection {
        match self {
            Self::Read(connection) => connection,
            Self::Write(transaction, _) => transaction,
        }
    }

    /// Notes that the transaction tells of something.
    fn has_news(&mut self) {
        if let Self::Write(_, news) = self {
            news.told = true;
        }
    }

    /// Runs a statement whose only parameter is `rows`; nothing at all when there are none.
    async fn run(&mut self, statement: &'static str, rows: Rows) -> Result<u64> {
        let done = sqlx::query(statement).bind(rows.into_json()).execute(self.connection()).await.map_err(failed)?;
        Ok(done.rows_affected())
    }

    /// Fetches what a statement answers whose only parameter is `rows`.
    async fn fetch(&mut self, statement: &'static str, rows: Rows) -> Result<Vec<Row>> {
        sqlx::query(statement).bind(rows.into_json()).fetch_all(self.connection()).await.map_err(failed)
    }
}

#[async_trait]
impl Tx for SqlTx {
    async fn commit(self: Box<Self>) -> Result<()> {
        match *self {
            Self::Read(_) => Ok(()),
            Self::Write(transaction, news) if news.told => {
                crash::point("outbox::before-commit");
                transaction.commit().await.map_err(failed)?;
                crash::point("outbox::after-commit");
                news.waker.notify_one();
                Ok(())
            }
            Self::Write(transaction, _) => transaction.commit().await.map_err(failed),
        }
    }
}

/// A driver's error as the store's.
fn failed(error: sqlx::Error) -> Error {
    match error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::TypeNotFound { .. } => {
            Error::internal(error)
        }
        error => unavailable(error),
    }
}

/// Reads columns in the order they stand in the statement.
struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    fn of(row: &'r Row) -> Self {
        Self { row, next: 0 }
    }

    fn take<T>(&mut self) -> Result<T>
    where
        T: sqlx::Decode<'r, Db> + sqlx::Type<Db>,
    {
        let index = self.next;
        self.next += 1;
        self.row.try_get(index).map_err(failed)
    }

    fn bytes<const N: usize>(&mut self, table: &'static str, column: &'static str) -> Result<[u8; N]> {
        <[u8; N]>::try_from(self.take::<&[u8]>()?).map_err(|_| inconsistent(table, column))
    }

    fn maybe_bytes<const N: usize>(&mut self, table: &'static str, column: &'static str) -> Result<Option<[u8; N]>> {
        let found = self.take::<Option<&[u8]>>()?;
        found.map(|bytes| bytes.try_into().map_err(|_| inconsistent(table, column))).transpose()
    }

    fn time(&mut self) -> Result<Time> {
        self.take().map(Time::from_micros)
    }

    fn maybe_time(&mut self) -> Result<Option<Time>> {
        Ok(self.take::<Option<i64>>()?.map(Time::from_micros))
    }

    fn unsigned<T: TryFrom<i64>>(&mut self, table: &'static str, column: &'static str) -> Result<T> {
        T::try_from(self.take::<i64>()?).map_err(|_| inconsistent(table, column))
    }
}
