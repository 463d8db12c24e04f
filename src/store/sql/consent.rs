use async_trait::async_trait;

use super::super::super::consent::{Consents, Document, DocumentKind, Recorded, Stood};
use super::{Columns, Result, Row, Rows, SqlTx, blob, each, failed, inconsistent};
use crate::model::{ConsentEvent, ConsentEventId, Error, Standing, SubjectId, SubjectState, Time};

macro_rules! documents {
    () => {
        "SELECT c.kind, c.code, c.version, c.document, c.defined_by, c.defined_at FROM catalogue c "
    };
}

macro_rules! events {
    () => {
        "SELECT v.number, v.document, v.previous_hash, v.hash FROM consent_event v "
    };
}

macro_rules! standings {
    () => {
        "w.subject, w.purpose, w.document, w.due_at"
    };
}

#[async_trait]
impl Consents for SqlTx {
    async fn catalogue_generation(&mut self) -> Result<i64> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(c.seq) FROM catalogue c")
            .fetch_one(self.connection())
            .await
            .map_err(failed)?;
        Ok(newest.unwrap_or(0))
    }

    async fn documents(&mut self, after: i64) -> Result<Vec<Document>> {
        let rows = sqlx::query(concat! { documents!(), "WHERE c.seq > $1 ORDER BY c.seq" })
            .bind(after)
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(document).collect()
    }

    async fn document(&mut self, kind: DocumentKind, code: &str, version: u32) -> Result<Option<Document>> {
        let row = sqlx::query(concat! {
            documents!(), "WHERE c.kind = $1 AND c.code = $2 AND ($3 = 0 OR c.version = $3) ",
            "ORDER BY c.version DESC LIMIT 1"
        })
        .bind(kind.name())
        .bind(code)
        .bind(i64::from(version))
        .fetch_optional(self.connection())
        .await
        .map_err(failed)?;
        row.as_ref().map(document).transpose()
    }

    async fn insert_documents(&mut self, generation: i64, documents: &[Document]) -> Result<bool> {
        let mut rows = Rows::new();
        for (document, seq) in documents.iter().zip(generation + 1..) {
            rows.row()
                .number(seq)
                .text(document.kind.name())
                .text(&document.code)
                .number(document.version.into())
                .text(&document.document)
                .text(&document.defined_by)
                .number(document.defined_at.micros());
        }
        let inserted = self
            .run(
                concat! {
                    "INSERT INTO catalogue (seq, kind, code, version, document, defined_by, defined_at) SELECT ",
                    "CAST(e.value ->> 0 AS BIGINT), e.value ->> 1, e.value ->> 2, CAST(e.value ->> 3 AS BIGINT), ",
                    "e.value ->> 4, e.value ->> 5, CAST(e.value ->> 6 AS BIGINT) FROM ", each!("1"),
                    " AS e WHERE true ON CONFLICT DO NOTHING"
                },
                rows,
            )
            .await?;
        Ok(inserted == documents.len() as u64)
    }

    async fn insert_consent_events(&mut self, events: &[Recorded]) -> Result<()> {
        let mut rows = Rows::new();
        for recorded in events {
            rows.row()
                .blob(recorded.event.id.as_bytes())
                .blob(recorded.event.subject.as_bytes())
                .number(recorded.number.cast_signed())
                .text(&recorded.event.purpose)
                .text(&recorded.document)
                .maybe_blob(recorded.previous_hash.as_ref().map(<[u8; 32]>::as_slice))
                .blob(&recorded.hash)
                .number(recorded.event.effective_at.micros())
                .number(recorded.event.recorded_at.micros());
        }
        self.run(
            concat! {
                "INSERT INTO consent_event (id, subject, number, purpose, document, previous_hash, hash, effective_at, ",
                "recorded_at) SELECT ", blob!("0"), ", ", blob!("1"), ", CAST(e.value ->> 2 AS BIGINT), e.value ->> 3, ",
                "e.value ->> 4, ", blob!("5"), ", ", blob!("6"), ", CAST(e.value ->> 7 AS BIGINT), ",
                "CAST(e.value ->> 8 AS BIGINT) FROM ", each!("1"), " AS e"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn last_consent_event(&mut self, subject: SubjectId) -> Result<Option<Recorded>> {
        let row = sqlx::query(concat! { events!(), "WHERE v.subject = $1 ORDER BY v.number DESC LIMIT 1" })
            .bind(subject.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(recorded).transpose()
    }

    async fn consent_events(
        &mut self,
        subject: SubjectId,
        purpose: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>> {
        let rows = sqlx::query(concat! {
            events!(), "WHERE v.subject = $1 AND v.number > $2 AND ($3 = '' OR v.purpose = $3) ORDER BY v.number LIMIT $4"
        })
        .bind(subject.as_bytes().as_slice())
        .bind(after.cast_signed())
        .bind(purpose)
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(recorded).collect()
    }

    async fn consent_events_at(&mut self, places: &[(SubjectId, u64)]) -> Result<Vec<Recorded>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = Rows::new();
        for (subject, number) in places {
            asked.row().blob(subject.as_bytes()).number(i64::try_from(*number).map_err(Error::internal)?);
        }
        let rows = self
            .fetch(
                concat! {
                    "SELECT v.number, v.document, v.previous_hash, v.hash FROM ", each!("1"),
                    " AS e CROSS JOIN consent_event v WHERE v.subject = ", blob!("0"),
                    " AND v.number = CAST(e.value ->> 1 AS BIGINT)"
                },
                asked,
            )
            .await?;
        rows.iter().map(recorded).collect()
    }

    async fn consent_event(&mut self, id: ConsentEventId) -> Result<Option<Recorded>> {
        let row = sqlx::query(concat! { events!(), "WHERE v.id = $1" })
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(recorded).transpose()
    }

    async fn standings(&mut self, of: &[(SubjectId, &str)]) -> Result<Vec<Stood>> {
        let mut rows = Rows::new();
        for (subject, purpose) in of {
            rows.row().blob(subject.as_bytes()).text(purpose);
        }
        let found = self
            .fetch(
                concat! {
                    "SELECT ", standings!(), " FROM ", each!("1"), " AS e CROSS JOIN standing w WHERE w.subject = ",
                    blob!("0"), " AND w.purpose = e.value ->> 1"
                },
                rows,
            )
            .await?;
        found.iter().map(stood).collect()
    }

    async fn standings_of(&mut self, subject: SubjectId) -> Result<Vec<Stood>> {
        let rows = sqlx::query(concat! {
            "SELECT ", standings!(), " FROM standing w WHERE w.subject = $1 ORDER BY w.purpose"
        })
        .bind(subject.as_bytes().as_slice())
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(stood).collect()
    }

    async fn put_standings(&mut self, standings: &[Stood], now: Time) -> Result<()> {
        let mut rows = Rows::new();
        for stood in standings {
            let document = serde_json::to_string(&stood.standing).map_err(Error::internal)?;
            rows.row()
                .blob(stood.subject.as_bytes())
                .text(&stood.purpose)
                .text(&document)
                .maybe_number(stood.due_at.map(Time::micros))
                .number(now.micros());
        }
        self.run(
            concat! {
                "INSERT INTO standing (subject, purpose, document, due_at, updated_at) SELECT ", blob!("0"),
                ", e.value ->> 1, e.value ->> 2, CAST(e.value ->> 3 AS BIGINT), CAST(e.value ->> 4 AS BIGINT) FROM ",
                each!("1"), " AS e WHERE true ON CONFLICT (subject, purpose) DO UPDATE SET ",
                "document = excluded.document, due_at = excluded.due_at, updated_at = excluded.updated_at"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn scan_standings(&mut self, after: Option<(SubjectId, String)>, limit: u32) -> Result<Vec<Stood>> {
        let (subject, purpose) =
            after.map(|(subject, purpose)| (subject.as_bytes().to_vec(), purpose)).unwrap_or_default();
        let rows = sqlx::query(concat! {
            "SELECT ", standings!(), " FROM standing w WHERE (w.subject, w.purpose) > ($1, $2) ",
            "ORDER BY w.subject, w.purpose LIMIT $3"
        })
        .bind(subject)
        .bind(purpose)
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(stood).collect()
    }

    async fn due_standings(
        &mut self,
        before: Time,
        from: &(Time, SubjectId, String),
        limit: u32,
    ) -> Result<Vec<Stood>> {
        let rows = sqlx::query(concat! {
            "SELECT ", standings!(), " FROM standing w JOIN subject s ON s.id = w.subject WHERE w.due_at <= $1 AND ",
            "(w.due_at, w.subject, w.purpose) >= ($2, $3, $4) AND s.state < $5 ",
            "ORDER BY w.due_at, w.subject, w.purpose LIMIT $6"
        })
        .bind(before.micros())
        .bind(from.0.micros())
        .bind(from.1.as_bytes().as_slice())
        .bind(from.2.as_str())
        .bind(i64::from(SubjectState::Shredding.number()))
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(stood).collect()
    }

    async fn standings_to(&mut self, purpose: &str, from: SubjectId, limit: u32) -> Result<Vec<Stood>> {
        let rows = sqlx::query(concat! {
            "SELECT ", standings!(), " FROM standing w JOIN subject s ON s.id = w.subject WHERE w.purpose = $1 AND ",
            "w.subject >= $2 AND s.state < $3 ORDER BY w.subject LIMIT $4"
        })
        .bind(purpose)
        .bind(from.as_bytes().as_slice())
        .bind(i64::from(SubjectState::Shredding.number()))
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(stood).collect()
    }

    async fn consent_events_after(&mut self, after: ConsentEventId, limit: u32) -> Result<Vec<Recorded>> {
        let rows = sqlx::query(concat! { events!(), "WHERE v.id > $1 ORDER BY v.id LIMIT $2" })
            .bind(after.as_bytes().as_slice())
            .bind(i64::from(limit))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(recorded).collect()
    }

    async fn has_standing(&mut self, purpose: &str) -> Result<bool> {
        let row = sqlx::query("SELECT 1 FROM standing w WHERE w.purpose = $1 LIMIT 1")
            .bind(purpose)
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        Ok(row.is_some())
    }
}

/// What `standing.document` holds; nothing recorded when it is absent.
pub fn standing(document: Option<&str>) -> Result<Standing> {
    let Some(document) = document else { return Ok(Standing::default()) };
    serde_json::from_str(document).map_err(|_| inconsistent("standing", "document"))
}

fn document(row: &Row) -> Result<Document> {
    let mut columns = Columns::of(row);
    Ok(Document {
        kind: DocumentKind::from_name(columns.take()?).ok_or_else(|| inconsistent("catalogue", "kind"))?,
        code: columns.take()?,
        version: columns.unsigned("catalogue", "version")?,
        document: columns.take()?,
        defined_by: columns.take()?,
        defined_at: columns.time()?,
    })
}

fn recorded(row: &Row) -> Result<Recorded> {
    let mut columns = Columns::of(row);
    let number = columns.unsigned("consent_event", "number")?;
    let document: String = columns.take()?;
    Ok(Recorded {
        event: ConsentEvent::read(&document).map_err(|_| inconsistent("consent_event", "document"))?,
        number,
        document,
        previous_hash: columns.maybe_bytes("consent_event", "previous_hash")?,
        hash: columns.bytes("consent_event", "hash")?,
    })
}

fn stood(row: &Row) -> Result<Stood> {
    let mut columns = Columns::of(row);
    Ok(Stood {
        subject: SubjectId::from_bytes(columns.bytes("standing", "subject")?),
        purpose: columns.take()?,
        standing: standing(columns.take()?)?,
        due_at: columns.maybe_time()?,
    })
}
