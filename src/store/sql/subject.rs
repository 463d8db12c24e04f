use async_trait::async_trait;

use super::super::super::subject::{Filter, Subjects};
use super::{Columns, Result, Row, Rows, SqlTx, blob, each, failed, inconsistent, lock};
use crate::model::{ErasureId, Jurisdiction, Label, Reference, Restriction, Subject, SubjectId, SubjectState, Time};

macro_rules! columns {
    () => {
        "s.id, s.kind, s.jurisdiction, s.source, s.created_at, s.state, s.restriction_ground, s.restricted_at, \
         s.profiling, s.suppressed_at, s.erasure, s.erased_at, s.version"
    };
}

#[async_trait]
impl Subjects for SqlTx {
    async fn insert_subjects(&mut self, subjects: &[Subject]) -> Result<()> {
        if subjects.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new();
        for subject in subjects {
            rows.row()
                .blob(subject.id.as_bytes())
                .text(subject.kind.as_str())
                .text(subject.jurisdiction.as_ref().map_or("", Jurisdiction::as_str))
                .text(subject.source.as_str())
                .number(subject.created_at.micros())
                .number(subject.state.number().into())
                .flag(subject.profiling)
                .number(subject.version.cast_signed())
                .maybe_number(subject.suppressed_at.map(Time::micros));
        }
        self.run(
            concat! {
                "INSERT INTO subject (id, kind, jurisdiction, source, created_at, state, profiling, version, ",
                "suppressed_at) SELECT ",
                blob!("0"), ", e.value ->> 1, e.value ->> 2, e.value ->> 3, CAST(e.value ->> 4 AS BIGINT), ",
                "CAST(e.value ->> 5 AS BIGINT), CAST(e.value ->> 6 AS BOOLEAN), CAST(e.value ->> 7 AS BIGINT), ",
                "CAST(e.value ->> 8 AS BIGINT) FROM ", each!("1"), " AS e"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn subjects(&mut self, ids: &[SubjectId]) -> Result<Vec<Subject>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", columns!(), " FROM ", each!("1"), " AS e CROSS JOIN subject s WHERE s.id = ", blob!("0")
                },
                Rows::of_blobs(ids.iter().map(SubjectId::as_bytes)),
            )
            .await?;
        rows.iter().map(subject).collect()
    }

    async fn lock_subjects(&mut self, ids: &[SubjectId]) -> Result<Vec<Subject>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", columns!(), " FROM subject s WHERE s.id IN (SELECT ", blob!("0"), " FROM ", each!("1"),
                    " AS e) ORDER BY s.id", lock!("s")
                },
                Rows::of_blobs(ids.iter().map(SubjectId::as_bytes)),
            )
            .await?;
        rows.iter().map(subject).collect()
    }

    async fn update_subjects(&mut self, subjects: &[Subject]) -> Result<()> {
        let mut rows = Rows::new();
        for subject in subjects {
            rows.row()
                .blob(subject.id.as_bytes())
                .number(subject.state.number().into())
                .maybe_text(subject.restriction.as_ref().map(|restriction| restriction.ground.as_str()))
                .maybe_number(subject.restriction.as_ref().map(|restriction| restriction.since.micros()))
                .flag(subject.profiling)
                .maybe_blob(subject.erasure.as_ref().map(|erasure| erasure.as_bytes().as_slice()))
                .maybe_number(subject.erased_at.map(Time::micros))
                .number(subject.version.cast_signed())
                .maybe_number(subject.suppressed_at.map(Time::micros));
        }
        self.run(
            concat! {
                "UPDATE subject SET state = CAST(e.value ->> 1 AS BIGINT), restriction_ground = e.value ->> 2, ",
                "restricted_at = CAST(e.value ->> 3 AS BIGINT), profiling = CAST(e.value ->> 4 AS BOOLEAN), erasure = ",
                blob!("5"), ", erased_at = CAST(e.value ->> 6 AS BIGINT), version = CAST(e.value ->> 7 AS BIGINT), ",
                "suppressed_at = CAST(e.value ->> 8 AS BIGINT) FROM ", each!("1"), " AS e WHERE subject.id = ", blob!("0")
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn list_subjects(&mut self, filter: &Filter, after: Option<SubjectId>, limit: u32) -> Result<Vec<Subject>> {
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM subject s WHERE s.id > $1 AND ($2 = 0 OR s.state = $2) ",
            "AND ($3 = '' OR s.kind = $3) ORDER BY s.id LIMIT $4"
        })
        .bind(after.map(|id| id.as_bytes().to_vec()).unwrap_or_default())
        .bind(filter.state.map_or(0, |state| i64::from(state.number())))
        .bind(filter.kind.clone().unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(subject).collect()
    }
}

pub fn state(number: i64) -> Result<SubjectState> {
    i16::try_from(number).ok().and_then(SubjectState::from_number).ok_or_else(|| inconsistent("subject", "state"))
}

fn subject(row: &Row) -> Result<Subject> {
    let mut columns = Columns::of(row);
    let id = SubjectId::from_bytes(columns.bytes("subject", "id")?);
    let kind = Label::stored(columns.take()?);
    let jurisdiction = Some(columns.take::<String>()?).filter(|code| !code.is_empty()).map(Jurisdiction::stored);
    let source = Label::stored(columns.take()?);
    let created_at = columns.time()?;
    let state = state(columns.take()?)?;
    let ground = columns.take::<Option<String>>()?.map(Reference::stored);
    let since = columns.maybe_time()?;
    Ok(Subject {
        id,
        kind,
        jurisdiction,
        source,
        state,
        restriction: ground.zip(since).map(|(ground, since)| Restriction { ground, since }),
        profiling: columns.take()?,
        suppressed_at: columns.maybe_time()?,
        created_at,
        erasure: columns.take::<Option<&[u8]>>()?.and_then(ErasureId::from_slice),
        erased_at: columns.maybe_time()?,
        version: columns.unsigned("subject", "version")?,
    })
}
