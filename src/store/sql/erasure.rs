use async_trait::async_trait;

use super::super::super::erasure::Erasures;
use super::{Columns, Error, Result, Row, Rows, SqlTx, blob, each, failed, inconsistent, lock};
use crate::model::{Erasure, ErasureId, ErasureState, Reference, SubjectId, Time};

macro_rules! columns {
    () => {
        "x.id, x.subject, x.reason, x.requested_by, x.requested_at, x.execute_at, x.state, x.plan, x.epoch, \
         x.shredded_at, x.pending_reason, x.receipt"
    };
}

#[async_trait]
impl Erasures for SqlTx {
    async fn insert_erasures(&mut self, erasures: &[Erasure]) -> Result<()> {
        let mut rows = Rows::new();
        for erasure in erasures {
            rows.row()
                .blob(erasure.id.as_bytes())
                .blob(erasure.subject.as_bytes())
                .text(erasure.reason.as_str())
                .text(&erasure.requested_by)
                .number(erasure.requested_at.micros())
                .maybe_number(erasure.execute_at.map(Time::micros))
                .number(erasure.state.number().into())
                .text(&serde_json::to_string(&erasure.plan).map_err(Error::internal)?);
        }
        self.run(
            concat! {
                "INSERT INTO erasure (id, subject, reason, requested_by, requested_at, execute_at, state, plan) SELECT ",
                blob!("0"), ", ", blob!("1"), ", e.value ->> 2, e.value ->> 3, CAST(e.value ->> 4 AS BIGINT), ",
                "CAST(e.value ->> 5 AS BIGINT), CAST(e.value ->> 6 AS BIGINT), e.value ->> 7 FROM ", each!("1"),
                " AS e WHERE true ON CONFLICT (id) DO NOTHING"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn lock_erasures(&mut self, ids: &[ErasureId]) -> Result<Vec<Erasure>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", columns!(), " FROM erasure x WHERE x.id IN (SELECT ", blob!("0"), " FROM ", each!("1"),
                    " AS e) ORDER BY x.id", lock!("x")
                },
                Rows::of_blobs(ids.iter().map(ErasureId::as_bytes)),
            )
            .await?;
        rows.iter().map(erasure).collect()
    }

    async fn erasures(&mut self, ids: &[ErasureId]) -> Result<Vec<Erasure>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", columns!(), " FROM ", each!("1"), " AS e CROSS JOIN erasure x WHERE x.id = ", blob!("0")
                },
                Rows::of_blobs(ids.iter().map(ErasureId::as_bytes)),
            )
            .await?;
        rows.iter().map(erasure).collect()
    }

    async fn update_erasures(&mut self, erasures: &[Erasure]) -> Result<()> {
        let mut rows = Rows::new();
        for erasure in erasures {
            rows.row()
                .blob(erasure.id.as_bytes())
                .number(erasure.state.number().into())
                .text(&serde_json::to_string(&erasure.plan).map_err(Error::internal)?)
                .maybe_number(erasure.epoch.map(u64::cast_signed))
                .maybe_number(erasure.shredded_at.map(Time::micros))
                .maybe_text(erasure.pending_reason.as_deref())
                .maybe_blob(erasure.receipt.as_deref())
                .maybe_number(erasure.execute_at.map(Time::micros));
        }
        self.run(
            concat! {
                "UPDATE erasure SET state = CAST(e.value ->> 1 AS BIGINT), plan = e.value ->> 2, ",
                "epoch = CAST(e.value ->> 3 AS BIGINT), shredded_at = CAST(e.value ->> 4 AS BIGINT), ",
                "pending_reason = e.value ->> 5, receipt = ", blob!("6"),
                ", execute_at = CAST(e.value ->> 7 AS BIGINT) FROM ", each!("1"),
                " AS e WHERE erasure.id = ", blob!("0")
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn list_erasures(&mut self, after: Option<ErasureId>, limit: u32) -> Result<Vec<Erasure>> {
        let rows =
            sqlx::query(concat! { "SELECT ", columns!(), " FROM erasure x WHERE x.id > $1 ORDER BY x.id LIMIT $2" })
                .bind(after.map(|id| id.as_bytes().to_vec()).unwrap_or_default())
                .bind(i64::from(limit))
                .fetch_all(self.connection())
                .await
                .map_err(failed)?;
        rows.iter().map(erasure).collect()
    }

    async fn erasures_in(&mut self, state: ErasureState, now: Time) -> Result<Vec<Erasure>> {
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM erasure x WHERE x.state = $1 AND (x.state <> 1 OR x.execute_at <= $2) ",
            "ORDER BY x.id"
        })
        .bind(i64::from(state.number()))
        .bind(now.micros())
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(erasure).collect()
    }

    async fn count_values(&mut self, subject: SubjectId) -> Result<Vec<(String, u64)>> {
        let rows = sqlx::query(
            "SELECT class, COUNT(*) FROM token WHERE subject = $1 AND sealed IS NOT NULL GROUP BY class ORDER BY class",
        )
        .bind(subject.as_bytes().as_slice())
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok((columns.take()?, columns.unsigned("token", "count")?))
            })
            .collect()
    }
}

fn erasure(row: &Row) -> Result<Erasure> {
    let mut columns = Columns::of(row);
    Ok(Erasure {
        id: ErasureId::from_bytes(columns.bytes("erasure", "id")?),
        subject: SubjectId::from_bytes(columns.bytes("erasure", "subject")?),
        reason: Reference::stored(columns.take()?),
        requested_by: columns.take()?,
        requested_at: columns.time()?,
        execute_at: columns.maybe_time()?,
        state: ErasureState::from_number(columns.unsigned("erasure", "state")?)
            .ok_or_else(|| inconsistent("erasure", "state"))?,
        plan: serde_json::from_str(columns.take()?).map_err(|_| inconsistent("erasure", "plan"))?,
        epoch: columns.take::<Option<i64>>()?.map(i64::cast_unsigned),
        shredded_at: columns.maybe_time()?,
        pending_reason: columns.take()?,
        receipt: columns.take()?,
    })
}
