use async_trait::async_trait;
use sqlx::Row as _;

use super::super::super::token::Tokens;
use super::{Columns, Result, Row, Rows, SqlTx, blob, each, failed, inconsistent, subject};
use crate::model::{ErasureId, Facts, FieldType, Jurisdiction, SubjectId, Time, Token, TokenFormat, TokenRow};

macro_rules! columns {
    () => {
        "t.id, t.subject, t.type, t.class, t.format, t.shaped, t.tags, t.expires_at, t.single_use, t.created_at, \
         t.leaf, t.key_version, t.source, t.version, t.spent_at, t.deleted_at, t.ended_at, t.sealed"
    };
}

/// Of a token and its person; of a purpose too when one is asked about, as the second column of each row.
macro_rules! facts {
    () => {
        facts!("'', NULL, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT)")
    };
    (for_purpose) => {
        facts!(
            "e.value ->> 1, w.document, (SELECT MAX(c.seq) FROM catalogue c), (SELECT MAX(a.seq) FROM caller_change a)"
        )
    };
    ($purpose:literal) => {
        concat! {
            "SELECT ",
            columns!(),
            ", s.jurisdiction, s.state, s.profiling, s.restricted_at, s.erasure, s.erased_at, s.suppressed_at, \
(SELECT x.execute_at FROM erasure x WHERE x.id = s.erasure), \
CASE WHEN s.state = 5 AND t.sealed IS NOT NULL THEN (SELECT k.kept_until FROM subject_key k WHERE k.leaf = t.leaf) END, \
", $purpose, " "
        }
    };
}

macro_rules! asked_of {
    () => {
        concat! {
            "FROM ", each!("1"), " AS e CROSS JOIN token t JOIN subject s ON s.id = t.subject ",
            "LEFT JOIN standing w ON w.subject = s.id AND w.purpose = e.value ->> 1 "
        }
    };
}

#[async_trait]
impl Tokens for SqlTx {
    async fn insert_tokens(&mut self, tokens: &[Token]) -> Result<Vec<TokenRow>> {
        if tokens.is_empty() {
            return Ok(Vec::new());
        }
        let mut rows = Rows::new();
        for token in tokens {
            encode(&mut rows, token)?;
        }
        let inserted = self
            .fetch(
                concat! {
                    "INSERT INTO token (id, subject, type, class, format, shaped, tags, expires_at, single_use, ",
                    "created_at, leaf, key_version, source, version, sealed) SELECT ", blob!("0"), ", ", blob!("1"),
                    ", CAST(e.value ->> 2 AS BIGINT), e.value ->> 3, CAST(e.value ->> 4 AS BIGINT), e.value ->> 5, ",
                    "e.value ->> 6, CAST(e.value ->> 7 AS BIGINT), CAST(e.value ->> 8 AS BOOLEAN), ",
                    "CAST(e.value ->> 9 AS BIGINT), CAST(e.value ->> 10 AS BIGINT), CAST(e.value ->> 11 AS BIGINT), ",
                    "e.value ->> 12, CAST(e.value ->> 13 AS BIGINT), ", blob!("14"), " FROM ", each!("1"),
                    " AS e WHERE true ON CONFLICT (shaped) DO NOTHING RETURNING id"
                },
                rows,
            )
            .await?;
        inserted.iter().map(row_id).collect()
    }

    async fn facts_for(&mut self, by_row: &[(TokenRow, &str)], by_shape: &[(&str, &str)]) -> Result<Vec<Facts>> {
        let mut found = Vec::new();
        if !by_row.is_empty() {
            let mut rows = Rows::new();
            for (row, purpose) in by_row {
                rows.row().blob(row.as_bytes()).text(purpose);
            }
            found = self.fetch(concat! { facts!(for_purpose), asked_of!(), "WHERE t.id = ", blob!("0") }, rows).await?;
        }
        if !by_shape.is_empty() {
            let mut rows = Rows::new();
            for (shape, purpose) in by_shape {
                rows.row().text(shape).text(purpose);
            }
            let shaped = self
                .fetch(concat! { facts!(for_purpose), asked_of!(), "WHERE t.shaped = e.value ->> 0" }, rows)
                .await?;
            found.extend(shaped);
        }
        found.iter().map(facts).collect()
    }

    async fn newest_facts(&mut self, subject: SubjectId, purpose: &str, each: u32) -> Result<Vec<Facts>> {
        let mut rows = Rows::new();
        rows.row().number(i64::from(each)).text(purpose);
        let found = sqlx::query(concat! {
            facts!(for_purpose), "FROM ", each!("1"), " AS e CROSS JOIN (SELECT n.*, ROW_NUMBER() OVER ",
            "(PARTITION BY n.type ORDER BY CASE WHEN n.source LIKE 'call:%' THEN 1 ELSE 0 END, n.id DESC) AS place FROM token n WHERE n.subject = $2 AND ",
            "n.sealed IS NOT NULL AND NOT n.single_use) t JOIN subject s ON s.id = t.subject ",
            "LEFT JOIN standing w ON w.subject = s.id AND w.purpose = e.value ->> 1 ",
            "WHERE t.place <= CAST(e.value ->> 0 AS BIGINT) ORDER BY t.type, t.id DESC"
        })
        .bind(rows.into_json())
        .bind(subject.as_bytes().as_slice())
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        found.iter().map(facts).collect()
    }

    async fn last_added(&mut self, subjects: &[SubjectId]) -> Result<Vec<(SubjectId, Time)>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT t.subject, MAX(t.created_at), (SELECT c.created_at FROM call_party p CROSS JOIN call c ",
                    "WHERE p.subject = t.subject AND c.id = p.call ORDER BY p.call DESC LIMIT 1) FROM ", each!("1"),
                    " AS e CROSS JOIN token t WHERE t.subject = ", blob!("0"), " GROUP BY t.subject"
                },
                Rows::of_blobs(subjects.iter().map(SubjectId::as_bytes)),
            )
            .await?;
        let one = |row: &Row| {
            let mut columns = Columns::of(row);
            let subject = SubjectId::from_bytes(columns.bytes("token", "subject")?);
            let (added, called) = (columns.time()?, columns.maybe_time()?);
            Ok((subject, called.map_or(added, |called| called.max(added))))
        };
        rows.iter().map(one).collect()
    }

    async fn update_tokens(&mut self, tokens: &[Token]) -> Result<()> {
        let mut rows = Rows::new();
        for token in tokens {
            rows.row()
                .blob(token.row.as_bytes())
                .number(token.leaf.into())
                .number(token.key_version.into())
                .text(&token.source)
                .number(token.version.cast_signed())
                .maybe_number(token.deleted_at.map(Time::micros))
                .maybe_blob(token.sealed.as_deref())
                .blob(token.subject.as_bytes());
        }
        self.run(
            concat! {
                "UPDATE token SET subject = ", blob!("7"), ", leaf = CAST(e.value ->> 1 AS BIGINT), key_version = CAST(e.value ->> 2 AS BIGINT), ",
                "source = e.value ->> 3, version = CAST(e.value ->> 4 AS BIGINT), ",
                "deleted_at = CAST(e.value ->> 5 AS BIGINT), sealed = ", blob!("6"), " FROM ", each!("1"),
                " AS e WHERE token.id = ", blob!("0")
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn give_tokens(&mut self, from: SubjectId, to: SubjectId, rows: Option<&[TokenRow]>) -> Result<()> {
        let statement = match rows {
            None => "UPDATE token SET subject = $2 WHERE subject = $1 AND $3 = $3",
            Some(_) => concat! {
                "UPDATE token SET subject = $2 WHERE subject = $1 AND id IN (SELECT ", blob!("0"), " FROM ", each!("3"), " AS e)"
            },
        };
        sqlx::query(statement)
            .bind(from.as_bytes().as_slice())
            .bind(to.as_bytes().as_slice())
            .bind(Rows::of_blobs(rows.unwrap_or_default().iter().map(TokenRow::as_bytes)).into_json())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn spend_tokens(&mut self, ids: &[TokenRow], at: Time) -> Result<Vec<TokenRow>> {
        let spent = sqlx::query(concat! {
            "UPDATE token SET spent_at = $2 WHERE spent_at IS NULL AND id IN (SELECT ", blob!("0"), " FROM ",
            each!("1"), " AS e) RETURNING id"
        })
        .bind(Rows::of_blobs(ids.iter().map(TokenRow::as_bytes)).into_json())
        .bind(at.micros())
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        spent.iter().map(row_id).collect()
    }

    async fn list_tokens(&mut self, subject: SubjectId, after: Option<TokenRow>, limit: u32) -> Result<Vec<Facts>> {
        let rows = sqlx::query(concat! {
            facts!(), "FROM token t JOIN subject s ON s.id = t.subject WHERE t.subject = $1 AND t.id > $2 ",
            "ORDER BY t.id LIMIT $3"
        })
        .bind(subject.as_bytes().as_slice())
        .bind(after.map(|row| row.as_bytes().to_vec()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(facts).collect()
    }

    async fn scan_tokens(&mut self, after: Option<TokenRow>, limit: u32) -> Result<Vec<Facts>> {
        let rows = sqlx::query(concat! {
            facts!(), "FROM token t JOIN subject s ON s.id = t.subject WHERE t.id > $1 ORDER BY t.id LIMIT $2"
        })
        .bind(after.map(|row| row.as_bytes().to_vec()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(facts).collect()
    }

    async fn sealed_tokens(&mut self, subjects: &[SubjectId]) -> Result<Vec<Token>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", columns!(), " FROM ", each!("1"), " AS e CROSS JOIN token t WHERE t.subject = ",
                    blob!("0"), " AND t.sealed IS NOT NULL"
                },
                Rows::of_blobs(subjects.iter().map(SubjectId::as_bytes)),
            )
            .await?;
        rows.iter().map(|row| record(&mut Columns::of(row))).collect()
    }

    async fn tokens_under(
        &mut self,
        subject: SubjectId,
        leaves: &[u32],
        after: Option<TokenRow>,
        limit: u32,
    ) -> Result<Vec<Token>> {
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM token t WHERE t.subject = $2 AND t.id > $3 AND t.sealed IS NOT NULL AND ",
            "t.leaf IN (SELECT CAST(e.value ->> 0 AS BIGINT) FROM ", each!("1"), " AS e) ORDER BY t.id LIMIT $4"
        })
        .bind(Rows::of_numbers(leaves.iter().map(|&leaf| leaf.into())).into_json())
        .bind(subject.as_bytes().as_slice())
        .bind(after.map(|row| row.as_bytes().to_vec()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(|row| record(&mut Columns::of(row))).collect()
    }

    async fn count_under(&mut self, subject: SubjectId, leaves: &[u32]) -> Result<u64> {
        let row = sqlx::query(concat! {
            "SELECT COUNT(*) FROM token t WHERE t.subject = $2 AND t.sealed IS NOT NULL AND t.leaf IN ",
            "(SELECT CAST(e.value ->> 0 AS BIGINT) FROM ", each!("1"), " AS e)"
        })
        .bind(Rows::of_numbers(leaves.iter().map(|&leaf| leaf.into())).into_json())
        .bind(subject.as_bytes().as_slice())
        .fetch_one(self.connection())
        .await
        .map_err(failed)?;
        Columns::of(&row).unsigned("token", "count")
    }

    async fn count_sealed(&mut self) -> Result<u64> {
        let row = sqlx::query("SELECT COUNT(*) FROM token WHERE sealed IS NOT NULL")
            .fetch_one(self.connection())
            .await
            .map_err(failed)?;
        Columns::of(&row).unsigned("token", "count")
    }

    async fn delete_values_of(&mut self, subject: SubjectId, kind: FieldType) -> Result<u64> {
        let done =
            sqlx::query("UPDATE token SET sealed = NULL WHERE subject = $1 AND type = $2 AND sealed IS NOT NULL")
                .bind(subject.as_bytes().as_slice())
                .bind(i64::from(kind.number()))
                .execute(self.connection())
                .await
                .map_err(failed)?;
        Ok(done.rows_affected())
    }

    async fn delete_values(&mut self, subjects: &[SubjectId]) -> Result<()> {
        self.run(
            concat! {
                "UPDATE token SET sealed = NULL WHERE sealed IS NOT NULL AND subject IN (SELECT ", blob!("0"), " FROM ",
                each!("1"), " AS e) AND NOT EXISTS (SELECT 1 FROM subject_key k WHERE k.leaf = token.leaf ",
                "AND k.kept_until IS NOT NULL)"
            },
            Rows::of_blobs(subjects.iter().map(SubjectId::as_bytes)),
        )
        .await?;
        Ok(())
    }
}

fn encode(rows: &mut Rows, token: &Token) -> Result<()> {
    let tags = serde_json::to_string(&token.tags).map_err(crate::model::Error::internal)?;
    rows.row()
        .blob(token.row.as_bytes())
        .blob(token.subject.as_bytes())
        .number(token.kind.number().into())
        .text(&token.class)
        .number(token.format.number().into())
        .maybe_text(token.shaped.as_deref())
        .text(&tags)
        .maybe_number(token.expires_at.map(Time::micros))
        .flag(token.single_use)
        .number(token.created_at.micros())
        .number(token.leaf.into())
        .number(token.key_version.into())
        .text(&token.source)
        .number(token.version.cast_signed())
        .maybe_blob(token.sealed.as_deref());
    Ok(())
}

fn row_id(row: &Row) -> Result<TokenRow> {
    TokenRow::from_slice(row.try_get(0).map_err(failed)?).ok_or_else(|| inconsistent("token", "id"))
}

fn facts(row: &Row) -> Result<Facts> {
    let mut columns = Columns::of(row);
    Ok(Facts {
        token: record(&mut columns)?,
        jurisdiction: Some(columns.take::<String>()?).filter(|code| !code.is_empty()).map(Jurisdiction::stored),
        state: subject::state(columns.take()?)?,
        profiling: columns.take()?,
        restricted_at: columns.maybe_time()?,
        erasure: columns.take::<Option<&[u8]>>()?.and_then(ErasureId::from_slice),
        erased_at: columns.maybe_time()?,
        suppressed_at: columns.maybe_time()?,
        execute_at: columns.maybe_time()?,
        kept_until: columns.maybe_time()?,
        held: None,
        purpose: columns.take()?,
        standing: super::consent::standing(columns.take()?)?,
        catalogue: columns.take::<Option<i64>>()?.unwrap_or(0),
        callers: columns.take::<Option<i64>>()?.unwrap_or(0),
    })
}

pub(super) fn record(columns: &mut Columns<'_>) -> Result<Token> {
    Ok(Token {
        row: TokenRow::from_bytes(columns.bytes("token", "id")?),
        subject: SubjectId::from_bytes(columns.bytes("token", "subject")?),
        kind: FieldType::from_number(columns.unsigned("token", "type")?)
            .ok_or_else(|| inconsistent("token", "type"))?,
        class: columns.take()?,
        format: TokenFormat::from_number(columns.unsigned("token", "format")?)
            .ok_or_else(|| inconsistent("token", "format"))?,
        shaped: columns.take()?,
        tags: serde_json::from_str(columns.take()?).map_err(|_| inconsistent("token", "tags"))?,
        expires_at: columns.maybe_time()?,
        single_use: columns.take()?,
        created_at: columns.time()?,
        leaf: columns.unsigned("token", "leaf")?,
        key_version: columns.unsigned("token", "key_version")?,
        source: columns.take()?,
        version: columns.unsigned("token", "version")?,
        spent_at: columns.maybe_time()?,
        deleted_at: columns.maybe_time()?,
        ended_at: columns.maybe_time()?,
        sealed: columns.take()?,
    })
}
