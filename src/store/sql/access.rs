use async_trait::async_trait;

use super::super::super::access::{Accesses, CallerChange};
use super::{Columns, Result, Row, SqlTx, failed};

#[async_trait]
impl Accesses for SqlTx {
    async fn caller_changes(&mut self, after: i64) -> Result<Vec<CallerChange>> {
        let rows = sqlx::query(
            "SELECT a.seq, a.caller, a.disabled, a.reason, a.changed_by, a.changed_at FROM caller_change a \
             WHERE a.seq > $1 ORDER BY a.seq",
        )
        .bind(after)
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(change).collect()
    }

    async fn insert_caller_change(&mut self, change: &CallerChange) -> Result<bool> {
        let inserted = sqlx::query(
            "INSERT INTO caller_change (seq, caller, disabled, reason, changed_by, changed_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(change.seq)
        .bind(&change.caller)
        .bind(change.disabled)
        .bind(&change.reason)
        .bind(&change.changed_by)
        .bind(change.changed_at.micros())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(inserted.rows_affected() == 1)
    }
}

fn change(row: &Row) -> Result<CallerChange> {
    let mut columns = Columns::of(row);
    Ok(CallerChange {
        seq: columns.take()?,
        caller: columns.take()?,
        disabled: columns.take()?,
        reason: columns.take()?,
        changed_by: columns.take()?,
        changed_at: columns.time()?,
    })
}
