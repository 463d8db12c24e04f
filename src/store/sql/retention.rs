use async_trait::async_trait;

use super::super::super::node::NodeId;
use super::super::super::retention::{ClockSeen, Counted, Due, Retentions, Undated};
use super::{Columns, Error, Result, Row, Rows, SqlTx, blob, each, failed, inconsistent, lock};
use crate::model::{
    CallId, Cohort, HoldId, KeyState, RetentionRun, RetentionRunId, RunState, SubjectId, Time, TokenRow,
};

macro_rules! columns {
    () => {
        "SELECT r.id, r.started_by, r.started_at, r.state, r.items, r.epoch, r.ended_at, r.receipt, \
         r.call, r.reason, r.hold FROM retention_run r "
    };
}

#[async_trait]
impl Retentions for SqlTx {
    async fn due_keys(
        &mut self,
        class: &str,
        upto: Cohort,
        after: Option<(Cohort, u32)>,
        limit: u32,
    ) -> Result<Vec<Due>> {
        let found = sqlx::query(concat! {
            "SELECT k.leaf, k.subject, k.cohort FROM subject_key k JOIN subject s ON s.id = k.subject ",
            "WHERE k.class = $1 AND k.cohort <= $2 AND k.ended_by IS NULL AND (k.cohort, k.leaf) > ($3, $4) ",
            "AND s.state IN (1, 3) AND s.restricted_at IS NULL ORDER BY k.cohort, k.leaf LIMIT $5"
        })
        .bind(class)
        .bind(i64::from(upto.number()))
        .bind(after.map_or(-1, |(month, _)| i64::from(month.number())))
        .bind(after.map_or(-1, |(_, leaf)| i64::from(leaf)))
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        found.iter().map(due).collect()
    }

    async fn due_kept(&mut self, now: Time, after: Option<u32>, limit: u32) -> Result<Vec<Due>> {
        let found = sqlx::query(concat! {
            "SELECT k.leaf, k.subject, k.cohort FROM subject_key k JOIN subject s ON s.id = k.subject ",
            "WHERE k.kept_until <= $1 AND k.ended_by IS NULL AND k.leaf > $2 AND s.state = 5 ORDER BY k.leaf LIMIT $3"
        })
        .bind(now.micros())
        .bind(after.map_or(-1, i64::from))
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        found.iter().map(due).collect()
    }

    async fn undated_keys(
        &mut self,
        class: &str,
        before: Time,
        after: Option<SubjectId>,
        limit: u32,
    ) -> Result<Vec<Undated>> {
        let found = sqlx::query(concat! {
            "SELECT u.subject, u.newest FROM (SELECT k.subject, COALESCE((SELECT MAX(t.created_at) FROM token t ",
            "JOIN subject_key o ON o.leaf = t.leaf WHERE t.subject = k.subject AND o.class = $1 AND o.cohort IS NULL ",
            "AND o.ended_by IS NULL), MAX(k.created_at)) AS newest FROM subject_key k JOIN subject s ON s.id = k.subject ",
            "WHERE k.class = $1 AND k.cohort IS NULL AND k.ended_by IS NULL AND s.state < 4 AND k.subject > $2 ",
            "GROUP BY k.subject) AS u WHERE u.newest < $3 ORDER BY u.subject LIMIT $4"
        })
        .bind(class)
        .bind(after.map_or_else(Vec::new, |subject| subject.as_bytes().to_vec()))
        .bind(before.micros())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        let undated = |row: &Row| {
            let mut columns = Columns::of(row);
            let subject = SubjectId::from_bytes(columns.bytes("subject_key", "subject")?);
            Ok(Undated { subject, newest_at: columns.time()? })
        };
        found.iter().map(undated).collect()
    }

    async fn date_keys(&mut self, class: &str, keys: &[(SubjectId, Cohort)]) -> Result<()> {
        for (subject, cohort) in keys {
            sqlx::query(concat! {
                "UPDATE subject_key SET cohort = $3 WHERE subject = $1 AND class = $2 AND cohort IS NULL ",
                "AND ended_by IS NULL"
            })
            .bind(subject.as_bytes().as_slice())
            .bind(class)
            .bind(i64::from(cohort.number()))
            .execute(self.connection())
            .await
            .map_err(failed)?;
        }
        Ok(())
    }

    async fn end_keys(&mut self, leaves: &[u32], run: RetentionRunId) -> Result<()> {
        sqlx::query(concat! {
            "UPDATE subject_key SET state = $2, ended_by = $3 WHERE leaf IN (SELECT CAST(e.value ->> 0 AS BIGINT) FROM ",
            each!("1"), " AS e)"
        })
        .bind(Rows::of_numbers(leaves.iter().map(|&leaf| leaf.into())).into_json())
        .bind(i64::from(KeyState::Retired.number()))
        .bind(run.as_bytes().as_slice())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn end_tokens(&mut self, tokens: &[TokenRow], at: Time) -> Result<()> {
        sqlx::query(concat! {
            "UPDATE token SET sealed = NULL, ended_at = $2 WHERE id IN (SELECT ", blob!("0"), " FROM ", each!("1"),
            " AS e)"
        })
        .bind(Rows::of_blobs(tokens.iter().map(TokenRow::as_bytes)).into_json())
        .bind(at.micros())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn count_cohorts(&mut self, classes: &[String]) -> Result<Vec<Counted>> {
        let found = sqlx::query(concat! {
            "SELECT c.class, c.cohort, c.restricted, CAST(NULL AS BIGINT), COUNT(DISTINCT c.subject), COUNT(*) FROM (SELECT ",
            "k.class, k.cohort, ",
            "k.subject, CAST(CASE WHEN s.state = 2 OR s.restricted_at IS NOT NULL THEN 1 ELSE 0 END AS BIGINT) AS restricted FROM ",
            each!("1"), " AS e CROSS JOIN subject_key k JOIN subject s ON s.id = k.subject ",
            "JOIN token t ON t.subject = k.subject AND t.leaf = k.leaf ",
            "WHERE k.class = e.value ->> 0 AND k.ended_by IS NULL AND s.state < 4 AND t.sealed IS NOT NULL) AS c ",
            "GROUP BY c.class, c.cohort, c.restricted ORDER BY c.class, COALESCE(c.cohort, -1), c.restricted"
        })
        .bind(texts(classes))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        found.iter().map(counted).collect()
    }

    async fn count_kept(&mut self) -> Result<Vec<Counted>> {
        let found = sqlx::query(concat! {
            "SELECT k.class, k.cohort, CAST(0 AS BIGINT), k.kept_until, COUNT(DISTINCT k.subject), COUNT(*) FROM subject_key k ",
            "JOIN subject s ON s.id = k.subject JOIN token t ON t.subject = k.subject AND t.leaf = k.leaf ",
            "WHERE k.kept_until IS NOT NULL AND k.ended_by IS NULL AND s.state = 5 AND t.sealed IS NOT NULL ",
            "GROUP BY k.class, k.cohort, k.kept_until ORDER BY k.class, k.cohort, k.kept_until"
        })
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        found.iter().map(counted).collect()
    }

    async fn run_waits(&mut self, run: RetentionRunId, epoch: u64) -> Result<bool> {
        let found = sqlx::query(concat! {
            "SELECT 1 FROM punctured p JOIN subject_key k ON k.leaf >= p.first AND k.leaf <= p.last ",
            "WHERE p.epoch > $2 AND k.ended_by = $1 LIMIT 1"
        })
        .bind(run.as_bytes().as_slice())
        .bind(epoch.cast_signed())
        .fetch_optional(self.connection())
        .await
        .map_err(failed)?;
        Ok(found.is_some())
    }

    async fn sweep_run(&mut self, run: &RetentionRun, owner: &NodeId) -> Result<bool> {
        let done = sqlx::query(concat! {
            "INSERT INTO retention_run (id, started_by, started_at, state, owner, items, call, reason, hold) ",
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ",
            "ON CONFLICT (id) DO UPDATE SET items = excluded.items ",
            "WHERE retention_run.state = excluded.state AND retention_run.owner = excluded.owner"
        })
        .bind(run.id.as_bytes().as_slice())
        .bind(&run.started_by)
        .bind(run.started_at.micros())
        .bind(i64::from(RunState::Sweeping.number()))
        .bind(owner.as_slice())
        .bind(serde_json::to_string(&run.items).map_err(Error::internal)?)
        .bind(run.call.map(|call| call.as_bytes().to_vec()))
        .bind(&run.reason)
        .bind(run.hold.map(|hold| hold.as_bytes().to_vec()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn adopt_run(&mut self, run: RetentionRunId, owner: &NodeId) -> Result<bool> {
        let done = sqlx::query(concat! {
            "UPDATE retention_run SET owner = $2 WHERE id = $1 AND state = $3 AND (owner IS NULL OR owner = $2 ",
            "OR NOT EXISTS (SELECT 1 FROM node n WHERE n.id = retention_run.owner))"
        })
        .bind(run.as_bytes().as_slice())
        .bind(owner.as_slice())
        .bind(i64::from(RunState::Sweeping.number()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn close_run(&mut self, run: RetentionRunId, owner: &NodeId) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE retention_run SET state = $3, owner = NULL WHERE id = $1 AND state = $4 AND owner = $2",
        )
        .bind(run.as_bytes().as_slice())
        .bind(owner.as_slice())
        .bind(i64::from(RunState::Pending.number()))
        .bind(i64::from(RunState::Sweeping.number()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn settle_run(&mut self, run: &RetentionRun) -> Result<()> {
        sqlx::query(
            "UPDATE retention_run SET state = $2, epoch = $3, ended_at = $4, receipt = $5 WHERE id = $1 AND state = $6",
        )
        .bind(run.id.as_bytes().as_slice())
        .bind(i64::from(RunState::Done.number()))
        .bind(run.epoch.map(u64::cast_signed))
        .bind(run.ended_at.map(Time::micros))
        .bind(run.receipt.as_deref())
        .bind(i64::from(RunState::Pending.number()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn leave_runs(&mut self, owner: &NodeId) -> Result<()> {
        sqlx::query("UPDATE retention_run SET owner = NULL WHERE state = $1 AND owner = $2")
            .bind(i64::from(RunState::Sweeping.number()))
            .bind(owner.as_slice())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn left_run(&mut self, owner: &NodeId) -> Result<Option<RetentionRunId>> {
        let row = sqlx::query(concat! {
            "SELECT r.id FROM retention_run r WHERE r.state = $1 AND (r.owner IS NULL OR r.owner = $2 ",
            "OR NOT EXISTS (SELECT 1 FROM node n WHERE n.id = r.owner)) ORDER BY r.id LIMIT 1"
        })
        .bind(i64::from(RunState::Sweeping.number()))
        .bind(owner.as_slice())
        .fetch_optional(self.connection())
        .await
        .map_err(failed)?;
        let id = |row: &Row| Ok(RetentionRunId::from_bytes(Columns::of(row).bytes("retention_run", "id")?));
        row.as_ref().map(id).transpose()
    }

    async fn lock_run(&mut self, id: RetentionRunId) -> Result<Option<RetentionRun>> {
        let row = sqlx::query(concat! { columns!(), "WHERE r.id = $1", lock!("r") })
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(run).transpose()
    }

    async fn retention_run(&mut self, id: RetentionRunId) -> Result<Option<RetentionRun>> {
        let row = sqlx::query(concat! { columns!(), "WHERE r.id = $1" })
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(run).transpose()
    }

    async fn pending_runs(&mut self) -> Result<Vec<RetentionRun>> {
        let rows = sqlx::query(concat! { columns!(), "WHERE r.state = $1 ORDER BY r.id" })
            .bind(i64::from(RunState::Pending.number()))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(run).collect()
    }

    async fn list_runs(&mut self, after: Option<RetentionRunId>, limit: u32) -> Result<Vec<RetentionRun>> {
        let rows = sqlx::query(concat! { columns!(), "WHERE r.id < $1 ORDER BY r.id DESC LIMIT $2" })
            .bind(after.map_or_else(|| vec![0xff; 17], |id| id.as_bytes().to_vec()))
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(run).collect()
    }

    async fn retention_clock(&mut self) -> Result<ClockSeen> {
        let row = sqlx::query("SELECT c.seen_at, c.trusted_at, c.believed_at FROM retention_clock c")
            .fetch_one(self.connection())
            .await
            .map_err(failed)?;
        let mut columns = Columns::of(&row);
        Ok(ClockSeen { seen_at: columns.time()?, trusted_at: columns.time()?, believed_at: columns.time()? })
    }

    async fn put_retention_clock(&mut self, seen: &ClockSeen) -> Result<()> {
        sqlx::query("UPDATE retention_clock SET seen_at = $1, trusted_at = $2, believed_at = $3")
            .bind(seen.seen_at.micros())
            .bind(seen.trusted_at.micros())
            .bind(seen.believed_at.micros())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }
}

fn counted(row: &Row) -> Result<Counted> {
    let mut columns = Columns::of(row);
    Ok(Counted {
        class: columns.take()?,
        cohort: cohort(columns.take()?)?,
        restricted: columns.unsigned::<u32>("subject", "restricted")? > 0,
        kept_until: columns.maybe_time()?,
        subjects: columns.unsigned("subject_key", "count")?,
        values: columns.unsigned("token", "count")?,
    })
}

fn due(row: &Row) -> Result<Due> {
    let mut columns = Columns::of(row);
    let leaf = columns.unsigned("subject_key", "leaf")?;
    let subject = SubjectId::from_bytes(columns.bytes("subject_key", "subject")?);
    let month = cohort(columns.take()?)?.ok_or_else(|| inconsistent("subject_key", "cohort"))?;
    Ok(Due { leaf, subject, cohort: month })
}

fn texts(texts: &[String]) -> String {
    let mut rows = Rows::new();
    for text in texts {
        rows.row().text(text);
    }
    rows.into_json()
}

pub(super) fn cohort(number: Option<i64>) -> Result<Option<Cohort>> {
    let read = |number: i64| u32::try_from(number).ok().map(Cohort::from_number);
    number.map(|number| read(number).ok_or_else(|| inconsistent("subject_key", "cohort"))).transpose()
}

fn run(row: &Row) -> Result<RetentionRun> {
    let mut columns = Columns::of(row);
    Ok(RetentionRun {
        id: RetentionRunId::from_bytes(columns.bytes("retention_run", "id")?),
        started_by: columns.take()?,
        started_at: columns.time()?,
        state: RunState::from_number(columns.unsigned("retention_run", "state")?)
            .ok_or_else(|| inconsistent("retention_run", "state"))?,
        items: serde_json::from_str(columns.take()?).map_err(|_| inconsistent("retention_run", "items"))?,
        epoch: columns.take::<Option<i64>>()?.map(i64::cast_unsigned),
        ended_at: columns.maybe_time()?,
        receipt: columns.take()?,
        call: columns.maybe_bytes("retention_run", "call")?.map(CallId::from_bytes),
        reason: columns.take()?,
        hold: columns.maybe_bytes("retention_run", "hold")?.map(HoldId::from_bytes),
    })
}
