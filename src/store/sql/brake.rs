use async_trait::async_trait;

use super::super::super::brake::{Brakes, Counted, Honey, Used};
use super::{Columns, Result, Row, Rows, SqlTx, Time, each, failed, inconsistent};
use crate::model::SubjectId;

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

    async fn used_elsewhere(&mut self, process: &[u8; 16], since: &[(Counted, Time)]) -> Result<Vec<Used>> {
        let rows = sqlx::query(concat! {
            "SELECT u.counted, u.caller, u.part, CAST(SUM(u.count) AS BIGINT) FROM ", each!("1"), " AS e ",
            "JOIN brake_use u ON u.counted = CAST(e.value ->> 0 AS BIGINT) AND u.part > CAST(e.value ->> 1 AS BIGINT) ",
            "WHERE u.process <> $2 GROUP BY u.counted, u.caller, u.part"
        })
        .bind(times(since))
        .bind(process.as_slice())
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(used).collect()
    }

    async fn honey(&mut self) -> Result<Vec<Honey>> {
        let rows = sqlx::query("SELECT h.subject, h.label, h.placed_by, h.placed_at FROM honey h ORDER BY h.subject")
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(honey).collect()
    }

    async fn put_honey(&mut self, honey: &Honey) -> Result<()> {
        sqlx::query(
            "INSERT INTO honey (subject, label, placed_by, placed_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(honey.subject.as_bytes().as_slice())
        .bind(&honey.label)
        .bind(&honey.placed_by)
        .bind(honey.placed_at.micros())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn remove_honey(&mut self, subject: SubjectId) -> Result<bool> {
        let done = sqlx::query("DELETE FROM honey WHERE subject = $1")
            .bind(subject.as_bytes().as_slice())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn remove_used_before(&mut self, before: &[(Counted, Time)]) -> Result<()> {
        sqlx::query(concat! {
            "DELETE FROM brake_use WHERE EXISTS (SELECT 1 FROM ", each!("1"), " AS e ",
            "WHERE CAST(e.value ->> 0 AS BIGINT) = brake_use.counted AND CAST(e.value ->> 1 AS BIGINT) > brake_use.part)"
        })
        .bind(times(before))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }
}

/// A row for each.
fn times(of: &[(Counted, Time)]) -> String {
    let mut rows = Rows::new();
    for (counted, time) in of {
        rows.row().number(*counted as i64).number(time.micros());
    }
    rows.into_json()
}

fn honey(row: &Row) -> Result<Honey> {
    let mut columns = Columns::of(row);
    Ok(Honey {
        subject: SubjectId::from_bytes(columns.bytes("honey", "subject")?),
        label: columns.take()?,
        placed_by: columns.take()?,
        placed_at: columns.time()?,
    })
}

fn used(row: &Row) -> Result<Used> {
    let mut columns = Columns::of(row);
    let counted = match columns.take::<i64>()? {
        1 => Counted::Reveals,
        2 => Counted::Misses,
        3 => Counted::Lookups,
        _ => return Err(inconsistent("brake_use", "counted")),
    };
    Ok(Used { counted, caller: columns.take()?, part: columns.time()?, count: columns.unsigned("brake_use", "count")? })
}
