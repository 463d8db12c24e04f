use async_trait::async_trait;

use super::super::super::leaf::{Leaves, Range};
use super::{Columns, Error, Result, Row, Rows, SqlTx, each, failed, hold};

/// The leaves within ranges that a table names. The ranges come first, so that each is one look into an index.
macro_rules! named {
    ($table:literal) => {
        concat!(
            "SELECT t.leaf FROM ",
            each!("1"),
            " AS e CROSS JOIN ",
            $table,
            " t WHERE t.leaf BETWEEN CAST(e.value ->> 0 AS BIGINT) AND CAST(e.value ->> 1 AS BIGINT)"
        )
    };
}

#[async_trait]
impl Leaves for SqlTx {
    async fn take_leaves(&mut self, count: u32) -> Result<u32> {
        let next: i64 = sqlx::query_scalar("UPDATE key_tree SET next_leaf = next_leaf + $1 RETURNING next_leaf")
            .bind(i64::from(count))
            .fetch_one(self.connection())
            .await
            .map_err(failed)?;
        if next > i64::from(u32::MAX) {
            return Err(Error::internal("every leaf of the key tree has been handed out"));
        }
        u32::try_from(next - i64::from(count)).map_err(Error::internal)
    }

    async fn raise_next_leaf(&mut self, floor: u32) -> Result<()> {
        sqlx::query("UPDATE key_tree SET next_leaf = $1 WHERE next_leaf < $1")
            .bind(i64::from(floor))
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn highest_leaf(&mut self) -> Result<Option<u32>> {
        let leaf: Option<i64> = sqlx::query_scalar(concat! {
            "SELECT MAX(leaf) FROM (SELECT MAX(leaf) AS leaf FROM subject_key UNION SELECT MAX(leaf) FROM index_bucket ",
            "UNION SELECT MAX(leaf) FROM index_generation) AS l"
        })
        .fetch_one(self.connection())
        .await
        .map_err(failed)?;
        Ok(leaf.and_then(|leaf| u32::try_from(leaf).ok()))
    }

    async fn open_leaves(&mut self, first: u32, count: u32) -> Result<()> {
        let last = first.saturating_add(count.saturating_sub(1));
        sqlx::query("INSERT INTO open_leaf (first, last) VALUES ($1, $2)")
            .bind(i64::from(first))
            .bind(i64::from(last))
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn hold_leaves(&mut self, leaves: &[u32]) -> Result<Vec<u32>> {
        if leaves.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .fetch(
                concat! {
                    "SELECT CAST(e.value ->> 0 AS BIGINT) FROM ", each!("1"), " AS e JOIN open_leaf o ",
                    "ON CAST(e.value ->> 0 AS BIGINT) BETWEEN o.first AND o.last", hold!("o")
                },
                Rows::of_numbers(leaves.iter().map(|&leaf| leaf.into())),
            )
            .await?;
        rows.iter().map(|row| Columns::of(row).unsigned("open_leaf", "first")).collect()
    }

    async fn close_leaves(&mut self) -> Result<Vec<Range>> {
        let rows = sqlx::query("DELETE FROM open_leaf RETURNING first, last")
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(range).collect()
    }

    async fn named_leaves(&mut self, ranges: &[Range]) -> Result<Vec<u32>> {
        let mut rows = Rows::new();
        for &(first, last) in ranges {
            rows.row().number(first.into()).number(last.into());
        }
        let rows = self
            .fetch(
                concat! {
                    named!("subject_key"), " UNION ", named!("index_bucket"), " UNION ",
                    named!("index_generation"), " ORDER BY 1"
                },
                rows,
            )
            .await?;
        rows.iter().map(|row| Columns::of(row).unsigned("subject_key", "leaf")).collect()
    }

    async fn take_spare_leaves(&mut self, count: u32) -> Result<Range> {
        let row = sqlx::query(concat! {
            "UPDATE key_tree SET spare_leaf = spare_leaf + $1 RETURNING spare_leaf - $1, spare_end"
        })
        .bind(i64::from(count))
        .fetch_one(self.connection())
        .await
        .map_err(failed)?;
        range(&row)
    }

    async fn put_spare_leaves(&mut self, first: u32, end: u32) -> Result<()> {
        sqlx::query("UPDATE key_tree SET spare_leaf = $1, spare_end = $2")
            .bind(i64::from(first))
            .bind(i64::from(end))
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn spare_leaves(&mut self) -> Result<Range> {
        let row = sqlx::query("SELECT spare_leaf, spare_end FROM key_tree")
            .fetch_one(self.connection())
            .await
            .map_err(failed)?;
        range(&row)
    }

    async fn open_ranges(&mut self) -> Result<Vec<Range>> {
        let rows = sqlx::query("SELECT first, last FROM open_leaf ORDER BY first")
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(range).collect()
    }
}

fn range(row: &Row) -> Result<Range> {
    let mut columns = Columns::of(row);
    Ok((columns.unsigned("open_leaf", "first")?, columns.unsigned("open_leaf", "last")?))
}
