use async_trait::async_trait;

use super::super::super::hold::{Filter, Holds};
use super::{Columns, Result, Row, Rows, SqlTx, blob, each, failed, lock, token};
use crate::model::{HeldSubject, Hold, HoldId, Label, Reference, Release, SubjectId, Token, TokenRow};

macro_rules! columns {
    () => {
        "h.id, h.matter, h.basis, h.by_token, h.asked, h.placed_by, h.placed_at, h.released_by, h.released_at, h.release_reason"
    };
}

/// Copies as tokens: in the class of their key, with what was sealed.
macro_rules! copies {
    () => {
        "SELECT t.id, k.subject, t.type, k.class, t.format, t.shaped, t.tags, t.expires_at, t.single_use, t.created_at, \
         v.leaf, k.version, t.source, v.version, t.spent_at, t.deleted_at, t.ended_at, v.sealed "
    };
}

#[async_trait]
impl Holds for SqlTx {
    async fn insert_hold(&mut self, hold: &Hold, over: &[HeldSubject]) -> Result<()> {
        let released = hold.released.as_ref();
        sqlx::query(concat! {
            "INSERT INTO hold (id, matter, basis, by_token, asked, placed_by, placed_at, released_by, released_at, ",
            "release_reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
        })
        .bind(hold.id.as_bytes().as_slice())
        .bind(hold.matter.as_str())
        .bind(hold.basis.as_str())
        .bind(hold.by_token)
        .bind(hold.asked.as_slice())
        .bind(&hold.placed_by)
        .bind(hold.placed_at.micros())
        .bind(released.map(|release| release.by.as_str()))
        .bind(released.map(|release| release.at.micros()))
        .bind(released.map(|release| release.reason.as_str()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        let mut rows = Rows::new();
        for held in over {
            rows.row()
                .blob(hold.id.as_bytes())
                .blob(held.subject.as_bytes())
                .maybe_number(held.leaf.map(i64::from))
                .number(held.copied.cast_signed())
                .number(held.lost.cast_signed());
        }
        self.run(
            concat! {
                "INSERT INTO held_subject (hold, subject, leaf, copied, lost) SELECT ", blob!("0"), ", ", blob!("1"),
                ", CAST(e.value ->> 2 AS BIGINT), CAST(e.value ->> 3 AS BIGINT), CAST(e.value ->> 4 AS BIGINT) FROM ",
                each!("1"), " AS e"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn insert_held(&mut self, hold: HoldId, copies: &[Token]) -> Result<()> {
        if copies.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new();
        for copy in copies {
            rows.row()
                .blob(hold.as_bytes())
                .blob(copy.row.as_bytes())
                .number(copy.leaf.into())
                .number(copy.version.cast_signed())
                .blob(copy.sealed.as_deref().unwrap_or_default());
        }
        self.run(
            concat! {
                "INSERT INTO held_value (hold, token, leaf, version, sealed) SELECT ", blob!("0"), ", ", blob!("1"),
                ", CAST(e.value ->> 2 AS BIGINT), CAST(e.value ->> 3 AS BIGINT), ", blob!("4"), " FROM ", each!("1"),
                " AS e"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn lock_hold(&mut self, id: HoldId) -> Result<Option<Hold>> {
        let row = sqlx::query(concat! { "SELECT ", columns!(), " FROM hold h WHERE h.id = $1", lock!("h") })
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(hold).transpose()
    }

    async fn holds(&mut self, ids: &[HoldId]) -> Result<Vec<Hold>> {
        let rows = self
            .fetch(
                concat! { "SELECT ", columns!(), " FROM ", each!("1"), " AS e CROSS JOIN hold h WHERE h.id = ", blob!("0") },
                Rows::of_blobs(ids.iter().map(HoldId::as_bytes)),
            )
            .await?;
        rows.iter().map(hold).collect()
    }

    async fn list_holds(&mut self, filter: &Filter, after: Option<HoldId>, limit: u32) -> Result<Vec<Hold>> {
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM hold h WHERE h.id > $1 AND ($2 = '' OR h.matter = $2) AND ($3 = 0 OR EXISTS ",
            "(SELECT 1 FROM held_subject o WHERE o.hold = h.id AND o.subject = $4)) AND ($5 = 0 OR ",
            "($5 = 1 AND h.released_at IS NULL) OR ($5 = 2 AND h.released_at IS NOT NULL)) ORDER BY h.id LIMIT $6"
        })
        .bind(after.map(|id| id.as_bytes().to_vec()).unwrap_or_default())
        .bind(filter.matter.clone().unwrap_or_default())
        .bind(i64::from(filter.subject.is_some()))
        .bind(filter.subject.map(|subject| subject.as_bytes().to_vec()).unwrap_or_default())
        .bind(filter.released.map_or(0, |released| 1 + i64::from(released)))
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(hold).collect()
    }

    async fn held_subjects(&mut self, ids: &[HoldId]) -> Result<Vec<(HoldId, HeldSubject)>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT o.hold, o.subject, o.leaf, o.copied, o.lost FROM ", each!("1"),
                    " AS e CROSS JOIN held_subject o WHERE o.hold = ", blob!("0"), " ORDER BY o.hold, o.subject"
                },
                Rows::of_blobs(ids.iter().map(HoldId::as_bytes)),
            )
            .await?;
        rows.iter().map(held_subject).collect()
    }

    async fn held_rows(&mut self, id: HoldId) -> Result<Vec<TokenRow>> {
        let rows = sqlx::query("SELECT v.token FROM held_value v WHERE v.hold = $1 ORDER BY v.token")
            .bind(id.as_bytes().as_slice())
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        let row = |row: &Row| Ok(TokenRow::from_bytes(Columns::of(row).bytes("held_value", "token")?));
        rows.iter().map(row).collect()
    }

    async fn held_tokens(&mut self, rows: &[TokenRow]) -> Result<Vec<Token>> {
        let found = self
            .fetch(
                concat! {
                    copies!(), "FROM ", each!("1"), " AS e CROSS JOIN held_value v JOIN token t ON t.id = v.token ",
                    "JOIN subject_key k ON k.leaf = v.leaf WHERE v.token = ", blob!("0"), " AND NOT EXISTS ",
                    "(SELECT 1 FROM held_value o WHERE o.token = v.token AND o.hold < v.hold)"
                },
                Rows::of_blobs(rows.iter().map(TokenRow::as_bytes)),
            )
            .await?;
        found.iter().map(copy).collect()
    }

    async fn held_of(&mut self, subjects: &[SubjectId]) -> Result<Vec<Token>> {
        let found = self
            .fetch(
                concat! {
                    copies!(), "FROM ", each!("1"), " AS e CROSS JOIN held_subject o JOIN held_value v ON v.leaf = o.leaf ",
                    "JOIN token t ON t.id = v.token JOIN subject_key k ON k.leaf = v.leaf WHERE o.subject = ", blob!("0")
                },
                Rows::of_blobs(subjects.iter().map(SubjectId::as_bytes)),
            )
            .await?;
        found.iter().map(copy).collect()
    }

    async fn count_held(&mut self, leaf: u32) -> Result<u64> {
        let row = sqlx::query("SELECT COUNT(*) FROM held_value v WHERE v.leaf = $1")
            .bind(i64::from(leaf))
            .fetch_one(self.connection())
            .await
            .map_err(failed)?;
        Columns::of(&row).unsigned("held_value", "count")
    }

    async fn release_hold(&mut self, hold: &Hold) -> Result<()> {
        let released = hold.released.as_ref();
        sqlx::query("UPDATE hold SET released_by = $2, released_at = $3, release_reason = $4 WHERE id = $1")
            .bind(hold.id.as_bytes().as_slice())
            .bind(released.map(|release| release.by.as_str()))
            .bind(released.map(|release| release.at.micros()))
            .bind(released.map(|release| release.reason.as_str()))
            .execute(self.connection())
            .await
            .map_err(failed)?;
        sqlx::query("DELETE FROM held_value WHERE hold = $1")
            .bind(hold.id.as_bytes().as_slice())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }
}

fn hold(row: &Row) -> Result<Hold> {
    let mut columns = Columns::of(row);
    let id = HoldId::from_bytes(columns.bytes("hold", "id")?);
    let (matter, basis) = (Label::stored(columns.take()?), Reference::stored(columns.take()?));
    let (by_token, asked) = (columns.take()?, columns.bytes("hold", "asked")?);
    let (placed_by, placed_at) = (columns.take()?, columns.time()?);
    let (by, at) = (columns.take::<Option<String>>()?, columns.maybe_time()?);
    let reason = columns.take::<Option<String>>()?.map(Reference::stored);
    let released = by.zip(at).zip(reason).map(|((by, at), reason)| Release { by, at, reason });
    Ok(Hold { id, matter, basis, by_token, asked, placed_by, placed_at, released })
}

fn held_subject(row: &Row) -> Result<(HoldId, HeldSubject)> {
    let mut columns = Columns::of(row);
    let hold = HoldId::from_bytes(columns.bytes("held_subject", "hold")?);
    let subject = SubjectId::from_bytes(columns.bytes("held_subject", "subject")?);
    let leaf = columns.take::<Option<i64>>()?.and_then(|leaf| u32::try_from(leaf).ok());
    let (copied, lost) = (columns.unsigned("held_subject", "copied")?, columns.unsigned("held_subject", "lost")?);
    Ok((hold, HeldSubject { subject, leaf, copied, lost }))
}

fn copy(row: &Row) -> Result<Token> {
    token::record(&mut Columns::of(row))
}
