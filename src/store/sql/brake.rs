use async_trait::async_trait;

use super::super::super::brake::{Brakes, Counted, Used};
use super::{Columns, Result, Row, Rows, SqlTx, Time, each, failed, inconsistent};

#[async_trait]
impl Brakes for SqlTx {
    async fn add_used(&mut self, process: &[u8; 16], used: &[Used]) -> Result<()> {
        let mut rows = Rows::new();
        for one in used {
            rows.row()
                .number(one.counted as i64)
                .text(&one.caller)
                .number(one.part.micros())
                .number(i64::try_from(one.count).unwrap_or(i64::MAX));
        }
        // The condition tells SQLite where the query ends: ON could be a join's.
        sqlx::query(concat! {
            "INSERT INTO brake_use (process, counted, caller, part, count) ",
            "SELECT $2, CAST(e.value ->> 0 AS BIGINT), e.value ->> 1, CAST(e.value ->> 2 AS BIGINT), ",
            "CAST(e.value ->> 3 AS BIGINT) FROM ", each!("1"), " AS e WHERE 1 = 1 ",
            "ON CONFLICT (process, counted, caller, part) DO UPDATE SET count = brake_use.count + excluded.count"
        })
        .bind(rows.into_json())
        .bind(process.as_slice())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn used_elsewhere(&mut self, process: &[u8; 16], since: Time) -> Result<Vec<Used>> {
        let rows = sqlx::query(
            "SELECT u.counted, u.caller, u.part, CAST(SUM(u.count) AS BIGINT) FROM brake_use u \
             WHERE u.part > $1 AND u.process <> $2 GROUP BY u.counted, u.caller, u.part",
        )
        .bind(since.micros())
        .bind(process.as_slice())
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(used).collect()
    }

    async fn remove_used_before(&mut self, time: Time) -> Result<()> {
        sqlx::query("DELETE FROM brake_use WHERE part < $1")
            .bind(time.micros())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }
}

fn used(row: &Row) -> Result<Used> {
    let mut columns = Columns::of(row);
    let counted = match columns.take::<i64>()? {
        1 => Counted::Reveals,
        2 => Counted::Misses,
        _ => return Err(inconsistent("brake_use", "counted")),
    };
    Ok(Used { counted, caller: columns.take()?, part: columns.time()?, count: columns.unsigned("brake_use", "count")? })
}
