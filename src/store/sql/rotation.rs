use async_trait::async_trait;

use super::super::super::rotation::Rotations;
use super::{Columns, Result, Row, Rows, SqlTx, blob, each, failed, inconsistent, lock};
use crate::model::{
    KeyEvent, KeyEventId, KeyEventKind, Rotation, RotationId, RotationKind, RotationState, SubjectId, Time,
};

macro_rules! columns {
    () => {
        "r.id, r.kind, r.target, r.requested_by, r.created_at, r.state, r.done, r.total, r.step, r.detail, \
         r.updated_at, r.finished_at"
    };
}

#[async_trait]
impl Rotations for SqlTx {
    async fn insert_rotation(&mut self, rotation: &Rotation) -> Result<bool> {
        let done = sqlx::query(concat! {
            "INSERT INTO rotation (id, kind, target, requested_by, created_at, state, done, total, step, detail, ",
            "updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING"
        })
        .bind(rotation.id.as_bytes().as_slice())
        .bind(i64::from(rotation.kind.number()))
        .bind(rotation.subject.map(|subject| subject.to_string()).unwrap_or_default())
        .bind(&rotation.requested_by)
        .bind(rotation.created_at.micros())
        .bind(i64::from(rotation.state.number()))
        .bind(rotation.done.cast_signed())
        .bind(rotation.total.cast_signed())
        .bind(&rotation.step)
        .bind(&rotation.detail)
        .bind(rotation.updated_at.micros())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn rotation(&mut self, id: RotationId) -> Result<Option<Rotation>> {
        let row = sqlx::query(concat! { "SELECT ", columns!(), " FROM rotation r WHERE r.id = $1" })
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(rotation).transpose()
    }

    async fn lock_rotation(&mut self, id: RotationId) -> Result<Option<Rotation>> {
        let row = sqlx::query(concat! { "SELECT ", columns!(), " FROM rotation r WHERE r.id = $1", lock!("r") })
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(rotation).transpose()
    }

    async fn update_rotation(&mut self, rotation: &Rotation) -> Result<()> {
        sqlx::query(concat! {
            "UPDATE rotation SET state = $2, done = $3, total = $4, step = $5, detail = $6, updated_at = $7, ",
            "finished_at = $8 WHERE id = $1"
        })
        .bind(rotation.id.as_bytes().as_slice())
        .bind(i64::from(rotation.state.number()))
        .bind(rotation.done.cast_signed())
        .bind(rotation.total.cast_signed())
        .bind(&rotation.step)
        .bind(&rotation.detail)
        .bind(rotation.updated_at.micros())
        .bind(rotation.finished_at.map(Time::micros))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn running_rotations(&mut self) -> Result<Vec<Rotation>> {
        let rows = sqlx::query(concat! { "SELECT ", columns!(), " FROM rotation r WHERE r.state = 1 ORDER BY r.id" })
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(rotation).collect()
    }

    async fn list_rotations(&mut self, after: Option<RotationId>, limit: u32) -> Result<Vec<Rotation>> {
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM rotation r WHERE $1 OR (r.created_at, r.id) < ",
            "(SELECT a.created_at, a.id FROM rotation a WHERE a.id = $2) ORDER BY r.created_at DESC, r.id DESC LIMIT $3"
        })
        .bind(after.is_none())
        .bind(after.map(|id| id.as_bytes().to_vec()))
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(rotation).collect()
    }

    async fn insert_key_events(&mut self, events: &[KeyEvent]) -> Result<()> {
        let mut rows = Rows::new();
        for event in events {
            rows.row()
                .blob(event.id.as_bytes())
                .number(event.at.micros())
                .text(&event.actor)
                .number(event.kind.number().into())
                .text(&event.detail);
        }
        self.run(
            concat! {
                "INSERT INTO key_event (id, at, actor, kind, detail) SELECT ", blob!("0"),
                ", CAST(e.value ->> 1 AS BIGINT), e.value ->> 2, CAST(e.value ->> 3 AS BIGINT), e.value ->> 4 FROM ",
                each!("1"), " AS e"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn list_key_events(&mut self, after: Option<KeyEventId>, limit: u32) -> Result<Vec<KeyEvent>> {
        let rows = sqlx::query(concat! {
            "SELECT k.id, k.at, k.actor, k.kind, k.detail FROM key_event k WHERE $1 OR (k.at, k.id) < ",
            "(SELECT a.at, a.id FROM key_event a WHERE a.id = $2) ORDER BY k.at DESC, k.id DESC LIMIT $3"
        })
        .bind(after.is_none())
        .bind(after.map(|id| id.as_bytes().to_vec()))
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(event).collect()
    }
}

fn rotation(row: &Row) -> Result<Rotation> {
    let mut columns = Columns::of(row);
    let subject = |target: String| match target.as_str() {
        "" => Ok(None),
        text => SubjectId::parse(text).map(Some).map_err(|_| inconsistent("rotation", "target")),
    };
    Ok(Rotation {
        id: RotationId::from_bytes(columns.bytes("rotation", "id")?),
        kind: RotationKind::from_number(columns.unsigned("rotation", "kind")?)
            .ok_or_else(|| inconsistent("rotation", "kind"))?,
        subject: subject(columns.take()?)?,
        requested_by: columns.take()?,
        created_at: columns.time()?,
        state: RotationState::from_number(columns.unsigned("rotation", "state")?)
            .ok_or_else(|| inconsistent("rotation", "state"))?,
        done: columns.unsigned("rotation", "done")?,
        total: columns.unsigned("rotation", "total")?,
        step: columns.take()?,
        detail: columns.take()?,
        updated_at: columns.time()?,
        finished_at: columns.maybe_time()?,
    })
}

fn event(row: &Row) -> Result<KeyEvent> {
    let mut columns = Columns::of(row);
    Ok(KeyEvent {
        id: KeyEventId::from_bytes(columns.bytes("key_event", "id")?),
        at: columns.time()?,
        actor: columns.take()?,
        kind: KeyEventKind::from_number(columns.unsigned("key_event", "kind")?)
            .ok_or_else(|| inconsistent("key_event", "kind"))?,
        detail: columns.take()?,
    })
}
