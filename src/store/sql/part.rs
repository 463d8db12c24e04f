use async_trait::async_trait;

use super::super::super::part::Parts;
use super::{Columns, Result, Row, Rows, SqlTx, Time, blob, each, inconsistent};
use crate::model::{CallId, Part, PartBody, PartId, PartKind, TokenRow};

macro_rules! part_columns {
    () => {
        "p.id, p.call, p.party, p.kind, p.class, p.media_type, p.sha256, p.occurred_at, p.body, p.content, p.media_key, \
         p.created_at"
    };
}

#[async_trait]
impl Parts for SqlTx {
    async fn parts(&mut self, ids: &[PartId]) -> Result<Vec<Part>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", part_columns!(), " FROM ", each!("1"), " AS e CROSS JOIN call_part p WHERE p.id = ",
                    blob!("0"), " ORDER BY p.id"
                },
                Rows::of_blobs(ids.iter().map(PartId::as_bytes)),
            )
            .await?;
        rows.iter().map(part).collect()
    }

    async fn parts_of(&mut self, calls: &[CallId]) -> Result<Vec<Part>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", part_columns!(), " FROM ", each!("1"), " AS e CROSS JOIN call_part p WHERE p.call = ",
                    blob!("0"), " ORDER BY p.call, p.created_at, p.id"
                },
                Rows::of_blobs(calls.iter().map(CallId::as_bytes)),
            )
            .await?;
        rows.iter().map(part).collect()
    }

    async fn insert_parts(&mut self, parts: &[Part]) -> Result<u64> {
        if parts.is_empty() {
            return Ok(0);
        }
        // Everybody who adds several does so in this order.
        let mut parts: Vec<&Part> = parts.iter().collect();
        parts.sort_by_key(|part| part.id);
        let mut rows = Rows::new();
        for part in parts {
            rows.row()
                .blob(part.id.as_bytes())
                .blob(part.call.as_bytes())
                .number(part.party.into())
                .number(part.kind.number().into())
                .text(&part.class)
                .text(&part.media_type)
                .maybe_blob(part.sha256.as_ref().map(<[u8; 32]>::as_slice))
                .maybe_number(part.occurred_at.map(Time::micros))
                .number(part.body.number().into())
                .maybe_blob(part.content.as_ref().map(|row| row.as_bytes().as_slice()))
                .maybe_blob(part.media_key.as_ref().map(|row| row.as_bytes().as_slice()))
                .number(part.created_at.micros());
        }
        self.run(
            concat! {
                "INSERT INTO call_part (id, call, party, kind, class, media_type, sha256, occurred_at, body, content, ",
                "media_key, created_at) SELECT ", blob!("0"), ", ", blob!("1"), ", CAST(e.value ->> 2 AS BIGINT), ",
                "CAST(e.value ->> 3 AS BIGINT), e.value ->> 4, e.value ->> 5, ", blob!("6"),
                ", CAST(e.value ->> 7 AS BIGINT), CAST(e.value ->> 8 AS BIGINT), ", blob!("9"), ", ", blob!("10"),
                ", CAST(e.value ->> 11 AS BIGINT) FROM ", each!("1"), " AS e WHERE true ON CONFLICT DO NOTHING"
            },
            rows,
        )
        .await
    }

    async fn touch_calls(&mut self, calls: &[CallId]) -> Result<()> {
        if calls.is_empty() {
            return Ok(());
        }
        self.run(
            concat! {
                "UPDATE call SET version = version + (SELECT COUNT(*) FROM ", each!("1"), " AS e WHERE ", blob!("0"),
                " = call.id) WHERE id IN (SELECT ", blob!("0"), " FROM ", each!("1"), " AS e)"
            },
            Rows::of_blobs(calls.iter().map(CallId::as_bytes)),
        )
        .await?;
        Ok(())
    }
}

fn part(row: &Row) -> Result<Part> {
    let wrong = |column: &'static str| move || inconsistent("call_part", column);
    let mut columns = Columns::of(row);
    Ok(Part {
        id: PartId::from_bytes(columns.bytes("call_part", "id")?),
        call: CallId::from_bytes(columns.bytes("call_part", "call")?),
        party: columns.unsigned("call_part", "party")?,
        kind: PartKind::from_number(columns.unsigned("call_part", "kind")?).ok_or_else(wrong("kind"))?,
        class: columns.take()?,
        media_type: columns.take()?,
        sha256: columns.maybe_bytes("call_part", "sha256")?,
        occurred_at: columns.maybe_time()?,
        body: PartBody::from_number(columns.unsigned("call_part", "body")?).ok_or_else(wrong("body"))?,
        content: columns.maybe_bytes("call_part", "content")?.map(TokenRow::from_bytes),
        media_key: columns.maybe_bytes("call_part", "media_key")?.map(TokenRow::from_bytes),
        created_at: columns.time()?,
    })
}
