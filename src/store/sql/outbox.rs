use std::collections::HashMap;

use async_trait::async_trait;

use super::super::super::outbox::{Acknowledgement, Consumer, Head, Outbox, Placed, Waiting, place};
use super::{Columns, Result, Row, Rows, SHARED, SqlTx, blob, each, failed, inconsistent, lock};
use crate::model::{Cursor, Error, EventId, Mark, OutboxBody, OutboxEvent, OutboxKind, SubjectId, Time, TokenRow};

/// What stands in the place of a subject where an event is about nobody in particular.
const NOBODY: [u8; 16] = [0; 16];

macro_rules! placed {
    () => {
        "o.position, o.mark, o.id, o.kind, o.subject, o.token, o.document, o.created_at, t.shaped \
         FROM outbox o LEFT JOIN token t ON t.id = o.token "
    };
}

macro_rules! consumers {
    () => {
        "SELECT c.name, c.registered_at, c.history, c.position, (SELECT m.mark FROM outbox m WHERE m.position = c.position), \
         c.acknowledged_by, c.acknowledged_at, \
         (SELECT o.created_at FROM outbox o WHERE o.position > c.position ORDER BY o.position LIMIT 1) FROM consumer c "
    };
}

#[async_trait]
impl Outbox for SqlTx {
    async fn tell(&mut self, events: &[OutboxEvent]) -> Result<()> {
        tell(self, events, |event| event.subject.map_or(NOBODY, |subject| *subject.as_bytes())).await
    }

    async fn tell_alarms(&mut self, process: &[u8; 16], events: &[OutboxEvent]) -> Result<()> {
        tell(self, events, |_| *process).await
    }

    async fn begin_history(&mut self, name: &Mark) -> Result<()> {
        sqlx::query(
            "INSERT INTO outbox_head (id, history, position, mark) VALUES (1, $1, 0, $2) ON CONFLICT DO NOTHING",
        )
        .bind(name.as_slice())
        .bind(Mark::default().as_slice())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn rename_history(&mut self, name: &Mark) -> Result<()> {
        sqlx::query("UPDATE outbox_head SET history = $1")
            .bind(name.as_slice())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn outbox_head(&mut self) -> Result<Option<Head>> {
        let row = sqlx::query(concat! {
            "SELECT h.history, h.position, h.mark, COALESCE((SELECT MIN(o.position) FROM outbox o), h.position + 1), ",
            "CAST(CASE WHEN EXISTS (SELECT 1 FROM outbox_entry) THEN 1 ELSE 0 END AS BIGINT) FROM outbox_head h ",
            "WHERE h.id = 1"
        })
        .fetch_optional(self.connection())
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(None) };
        let mut columns = Columns::of(&row);
        let cursor = cursor(&mut columns)?;
        let oldest = columns.unsigned("outbox", "position")?;
        Ok(Some(Head { cursor, oldest, waiting: columns.take::<i64>()? != 0 }))
    }

    async fn history_end(&mut self) -> Result<u64> {
        let row = sqlx::query("SELECT h.position FROM outbox_head h WHERE h.id = 1")
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.map_or(Ok(0), |row| Columns::of(&row).unsigned("outbox_head", "position"))
    }

    async fn lock_outbox(&mut self) -> Result<Option<Cursor>> {
        let row = sqlx::query(concat! {
            "SELECT h.history, h.position, h.mark FROM outbox_head h WHERE h.id = 1", lock!("h")
        })
        .fetch_optional(self.connection())
        .await
        .map_err(failed)?;
        row.map(|row| cursor(&mut Columns::of(&row))).transpose()
    }

    async fn outbox_entries(&mut self, limit: u32) -> Result<Vec<Waiting>> {
        let rows = sqlx::query(
            "SELECT subject, number, id, created_at FROM outbox_entry ORDER BY number, created_at, id LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        let entry = |row| {
            let mut columns = Columns::of(row);
            Ok(Waiting {
                subject: columns.bytes("outbox_entry", "subject")?,
                number: columns.unsigned("outbox_entry", "number")?,
                id: EventId::from_bytes(columns.bytes("outbox_entry", "id")?),
                created_at: columns.time()?,
            })
        };
        rows.iter().map(entry).collect()
    }

    async fn move_entries(&mut self, moved: &[(Waiting, u64, Mark)], now: Time) -> Result<()> {
        let Some((_, position, mark)) = moved.last() else { return Ok(()) };
        let (mut to, mut from) = (Rows::new(), Rows::new());
        for (entry, position, mark) in moved {
            let number = entry.number.cast_signed();
            to.row().blob(&entry.subject).number(number).number(position.cast_signed()).blob(mark).number(now.micros());
            from.row().blob(&entry.subject).number(number);
        }
        self.run(
            concat! {
                "INSERT INTO outbox (position, mark, id, subject, kind, token, document, created_at, placed_at) SELECT ",
                "CAST(e.value ->> 2 AS BIGINT), ", blob!("3"), ", o.id, o.subject, o.kind, o.token, o.document, ",
                "o.created_at, CAST(e.value ->> 4 AS BIGINT) FROM ", each!("1"), " AS e CROSS JOIN outbox_entry o ",
                "WHERE o.subject = ", blob!("0"), " AND o.number = CAST(e.value ->> 1 AS BIGINT)"
            },
            to,
        )
        .await?;
        self.run(
            concat! {
                "DELETE FROM outbox_entry WHERE (subject, number) IN (SELECT ", blob!("0"),
                ", CAST(e.value ->> 1 AS BIGINT) FROM ", each!("1"), " AS e)"
            },
            from,
        )
        .await?;
        sqlx::query("UPDATE outbox_head SET position = $1, mark = $2 WHERE id = 1")
            .bind(position.cast_signed())
            .bind(mark.as_slice())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn events_after(&mut self, position: u64, limit: u32) -> Result<(Option<Mark>, Vec<Placed>)> {
        let rows = sqlx::query(concat! {
            "SELECT (SELECT h.history FROM outbox_head h WHERE h.id = 1), ", placed!(),
            "WHERE o.position > $1 ORDER BY o.position LIMIT $2"
        })
        .bind(position.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        let (mut name, mut events) = (None, Vec::with_capacity(rows.len()));
        for row in &rows {
            let mut columns = Columns::of(row);
            name = columns.maybe_bytes("outbox_head", "history")?;
            events.push(placed(&mut columns)?);
        }
        Ok((name, events))
    }

    async fn mark_at(&mut self, position: u64) -> Result<Option<Mark>> {
        let row = sqlx::query("SELECT mark FROM outbox WHERE position = $1")
            .bind(position.cast_signed())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.map(|row| Columns::of(&row).bytes("outbox", "mark")).transpose()
    }

    async fn events_about(&mut self, subject: SubjectId, after: u64, limit: u32) -> Result<Vec<Placed>> {
        let rows = sqlx::query(concat! {
            "SELECT ", placed!(), "WHERE o.subject = $1 AND o.position > $2 ORDER BY o.position LIMIT $3"
        })
        .bind(subject.as_bytes().as_slice())
        .bind(after.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(|row| placed(&mut Columns::of(row))).collect()
    }

    async fn oldest_events(&mut self, limit: u32) -> Result<Vec<(u64, Time)>> {
        let rows = sqlx::query("SELECT position, placed_at FROM outbox ORDER BY position LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        let old = |row| {
            let mut columns = Columns::of(row);
            Ok((columns.unsigned("outbox", "position")?, columns.time()?))
        };
        rows.iter().map(old).collect()
    }

    async fn remove_events_before(&mut self, position: u64) -> Result<()> {
        for statement in [
            "DELETE FROM outbox WHERE position < $1",
            // Those of the present position of a consumer stay.
            concat! {
                "DELETE FROM acknowledgement WHERE position < $1 AND EXISTS (SELECT 1 FROM consumer c ",
                "WHERE c.name = acknowledgement.consumer AND c.position > acknowledgement.position)"
            },
        ] {
            sqlx::query(statement).bind(position.cast_signed()).execute(self.connection()).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self, name: &str, upto: &Cursor, caller: &str, now: Time) -> Result<bool> {
        let moved = sqlx::query(concat! {
            "INSERT INTO consumer (name, registered_at, position, acknowledged_by, acknowledged_at, history) ",
            "VALUES ($1, $4, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET position = excluded.position, ",
            "acknowledged_by = excluded.acknowledged_by, acknowledged_at = excluded.acknowledged_at, ",
            "history = excluded.history ",
            "WHERE consumer.position < excluded.position OR consumer.history <> excluded.history"
        })
        .bind(name)
        .bind(upto.position.cast_signed())
        .bind(caller)
        .bind(now.micros())
        .bind(upto.history.as_slice())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        if moved.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(concat! {
            "INSERT INTO acknowledgement (consumer, position, caller, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
        })
        .bind(name)
        .bind(upto.position.cast_signed())
        .bind(caller)
        .bind(now.micros())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(true)
    }

    async fn consumer(&mut self, name: &str) -> Result<Option<Consumer>> {
        let row = sqlx::query(concat! { consumers!(), "WHERE c.name = $1" })
            .bind(name)
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(consumer).transpose()
    }

    async fn consumers(&mut self, after: &str, limit: u32) -> Result<Vec<Consumer>> {
        let rows = sqlx::query(concat! { consumers!(), "WHERE c.name > $1 ORDER BY c.name LIMIT $2" })
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(consumer).collect()
    }

    async fn delete_consumer(&mut self, name: &str) -> Result<bool> {
        sqlx::query("DELETE FROM acknowledgement WHERE consumer = $1")
            .bind(name)
            .execute(self.connection())
            .await
            .map_err(failed)?;
        let done = sqlx::query("DELETE FROM consumer WHERE name = $1")
            .bind(name)
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn acknowledgements(&mut self, positions: &[u64]) -> Result<Vec<Acknowledgement>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT CAST(e.value ->> 0 AS BIGINT), c.name, a.caller, a.at FROM ", each!("1"),
                    " AS e CROSS JOIN consumer c LEFT JOIN acknowledgement a ON a.consumer = c.name AND a.position = ",
                    "(SELECT b.position FROM acknowledgement b WHERE b.consumer = c.name AND ",
                    "b.position >= CAST(e.value ->> 0 AS BIGINT) ORDER BY b.position LIMIT 1) ORDER BY 1, 2"
                },
                Rows::of_numbers(positions.iter().map(|position| position.cast_signed())),
            )
            .await?;
        let acknowledgement = |row| {
            let mut columns = Columns::of(row);
            Ok(Acknowledgement {
                event: columns.unsigned("acknowledgement", "position")?,
                consumer: columns.take()?,
                caller: columns.take()?,
                at: columns.maybe_time()?,
            })
        };
        rows.iter().map(acknowledgement).collect()
    }
}

fn cursor(columns: &mut Columns<'_>) -> Result<Cursor> {
    Ok(Cursor {
        history: columns.bytes("outbox_head", "history")?,
        position: columns.unsigned("outbox_head", "position")?,
        mark: columns.bytes("outbox_head", "mark")?,
    })
}

/// Writes events, each in the order of its lane.
async fn tell(tx: &mut SqlTx, events: &[OutboxEvent], lane: impl Fn(&OutboxEvent) -> [u8; 16]) -> Result<()> {
    let Some(last) = events.last() else { return Ok(()) };
    let mut rows = Rows::new();
    let mut numbers: HashMap<[u8; 16], i64> = HashMap::new();
    for event in events {
        let subject = lane(event);
        let number = numbers.entry(subject).or_default();
        *number += 1;
        rows.row()
            .blob(&subject)
            .number(*number)
            .blob(event.id.as_bytes())
            .number(event.kind.number().into())
            .maybe_blob(event.token.as_ref().map(|row| row.as_bytes().as_slice()))
            .text(&serde_json::to_string(&event.body).map_err(Error::internal)?)
            .number(event.created_at.micros());
    }
    tx.run(
        concat! {
            "INSERT INTO outbox_entry (subject, number, id, kind, token, document, created_at) SELECT ", blob!("0"),
            ", COALESCE((SELECT MAX(o.number) FROM outbox_entry o WHERE o.subject = ", blob!("0"),
            "), 0) + CAST(e.value ->> 1 AS BIGINT), ", blob!("2"), ", CAST(e.value ->> 3 AS BIGINT), ", blob!("4"),
            ", e.value ->> 5, CAST(e.value ->> 6 AS BIGINT) FROM ", each!("1"), " AS e"
        },
        rows,
    )
    .await?;
    if !SHARED {
        place(tx, last.created_at).await?;
    }
    tx.has_news();
    Ok(())
}

fn placed(columns: &mut Columns<'_>) -> Result<Placed> {
    let position = columns.unsigned("outbox", "position")?;
    let mark = columns.bytes("outbox", "mark")?;
    let id = EventId::from_bytes(columns.bytes("outbox", "id")?);
    let kind = columns.unsigned("outbox", "kind")?;
    let subject = columns.bytes("outbox", "subject")?;
    let token = columns.maybe_bytes("outbox", "token")?.map(TokenRow::from_bytes);
    let body: OutboxBody = serde_json::from_str(columns.take()?).map_err(|_| inconsistent("outbox", "document"))?;
    let kind = OutboxKind::from_number(kind).ok_or_else(|| inconsistent("outbox", "kind"))?;
    let subject = match &body.touched {
        Some(touched) => Some(SubjectId::parse(touched).map_err(|_| inconsistent("outbox", "document"))?),
        None => Some(SubjectId::from_bytes(subject)).filter(|_| subject != NOBODY && !kind.is_alarm()),
    };
    let event = OutboxEvent { id, kind, subject, token, body, created_at: columns.time()? };
    Ok(Placed { position, mark, event, shaped: columns.take()? })
}

fn consumer(row: &Row) -> Result<Consumer> {
    let mut columns = Columns::of(row);
    Ok(Consumer {
        name: columns.take()?,
        registered_at: columns.time()?,
        history: columns.bytes("consumer", "history")?,
        position: columns.unsigned("consumer", "position")?,
        mark: columns.maybe_bytes("outbox", "mark")?,
        acknowledged_by: columns.take()?,
        acknowledged_at: columns.time()?,
        behind_since: columns.maybe_time()?,
    })
}
