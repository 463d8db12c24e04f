use std::collections::BTreeSet;

use async_trait::async_trait;

use super::super::super::journal::{Journals, Mark, Marked};
use super::{Columns, Result, Rows, SqlTx, each, failed};

#[async_trait]
impl Journals for SqlTx {
    async fn mark(&mut self, marks: &[Mark]) -> Result<()> {
        if marks.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new();
        // In order, so that two who mark the same wait for each other in one direction only.
        for (kind, key) in marks.iter().map(Mark::key).collect::<BTreeSet<_>>() {
            rows.row().number(kind.into()).text(&key);
        }
        self.run(
            concat! {
                "INSERT INTO journal_mark (kind, key, changes) ",
                "SELECT CAST(e.value ->> 0 AS SMALLINT), e.value ->> 1, 1 FROM ", each!("1"), " AS e WHERE true ",
                "ON CONFLICT (kind, key) DO UPDATE SET changes = journal_mark.changes + 1"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn marks(&mut self, limit: u32) -> Result<Vec<Marked>> {
        let rows = sqlx::query("SELECT j.kind, j.key, j.changes FROM journal_mark j ORDER BY j.kind, j.key LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                let (kind, key) = (columns.take()?, columns.take::<&str>()?);
                Ok(Marked { mark: Mark::of(kind, key)?, changes: columns.take()? })
            })
            .collect()
    }

    async fn marked(&mut self, marks: &[Mark]) -> Result<Vec<Mark>> {
        if marks.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = Rows::new();
        for (kind, key) in marks.iter().map(Mark::key) {
            rows.row().number(kind.into()).text(&key);
        }
        let found = self
            .fetch(
                concat! {
                    "SELECT j.kind, j.key FROM ", each!("1"), " AS e CROSS JOIN journal_mark j ",
                    "WHERE j.kind = CAST(e.value ->> 0 AS SMALLINT) AND j.key = e.value ->> 1"
                },
                rows,
            )
            .await?;
        found
            .iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Mark::of(columns.take()?, columns.take::<&str>()?)
            })
            .collect()
    }

    async fn count_marks(&mut self) -> Result<u64> {
        let row =
            sqlx::query("SELECT COUNT(*) FROM journal_mark").fetch_one(self.connection()).await.map_err(failed)?;
        Columns::of(&row).unsigned("journal_mark", "count")
    }

    async fn unmark(&mut self, marks: &[Marked]) -> Result<()> {
        let mut rows = Rows::new();
        for Marked { mark, changes } in marks {
            let (kind, key) = mark.key();
            rows.row().number(kind.into()).text(&key).number(*changes);
        }
        self.run(
            concat! {
                "DELETE FROM journal_mark WHERE (kind, key, changes) IN (SELECT CAST(e.value ->> 0 AS SMALLINT), ",
                "e.value ->> 1, CAST(e.value ->> 2 AS BIGINT) FROM ", each!("1"), " AS e)"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn journal_upto(&mut self) -> Result<i64> {
        sqlx::query_scalar("SELECT h.upto FROM journal_head h").fetch_one(self.connection()).await.map_err(failed)
    }

    async fn advance_journal(&mut self, from: i64, to: i64) -> Result<bool> {
        let done = sqlx::query("UPDATE journal_head SET upto = $2 WHERE upto = $1")
            .bind(from)
            .bind(to)
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() > 0)
    }
}
