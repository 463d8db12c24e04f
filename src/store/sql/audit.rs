use async_trait::async_trait;

use super::super::super::audit::{Audits, Batch, Link, Mark, MarkKind, Place};
use super::{Columns, Result, Row, SqlTx, Time, failed};

macro_rules! columns {
    () => {
        "node, seq, prev_hash, merkle, entries, created_at, marks, body"
    };
}

/// Every node that has a chain, as `chain.node`, by the ends of an index only; and nobody, last.
macro_rules! chains {
    () => {
        "WITH RECURSIVE chain (node) AS ( \
           SELECT (SELECT node FROM audit_batch ORDER BY node, seq LIMIT 1) \
           UNION ALL \
           SELECT (SELECT a.node FROM audit_batch a WHERE a.node > chain.node ORDER BY a.node, a.seq LIMIT 1) \
           FROM chain WHERE chain.node IS NOT NULL) "
    };
}

#[async_trait]
impl Audits for SqlTx {
    async fn insert_audit_batch(&mut self, batch: &Batch) -> Result<()> {
        sqlx::query(concat! { "INSERT INTO audit_batch (", columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)" })
            .bind(batch.node.as_slice())
            .bind(batch.seq.cast_signed())
            .bind(batch.prev_hash.as_slice())
            .bind(batch.merkle.as_slice())
            .bind(batch.entries.cast_signed())
            .bind(batch.created_at.micros())
            .bind(&batch.marks)
            .bind(&batch.body)
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn audit_head(&mut self, node: &[u8; 16]) -> Result<Option<Batch>> {
        let head = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM audit_batch WHERE node = $1 ORDER BY seq DESC LIMIT 1"
        })
        .bind(node.as_slice())
        .fetch_optional(self.connection())
        .await
        .map_err(failed)?;
        head.as_ref().map(batch).transpose()
    }

    async fn newest_record(&mut self) -> Result<Option<Time>> {
        // The ends of indexes only: a row of one chain after the other, and of each table whose ids are in order of time.
        let newest: Option<i64> = sqlx::query_scalar(concat! {
            chains!(),
            "SELECT MAX(newest.at) FROM ( \
               SELECT (SELECT b.created_at FROM audit_batch b WHERE b.node = chain.node ORDER BY b.seq DESC LIMIT 1) AS at \
               FROM chain \
               UNION ALL SELECT (SELECT requested_at FROM erasure ORDER BY id DESC LIMIT 1) \
               UNION ALL SELECT (SELECT created_at FROM subject ORDER BY id DESC LIMIT 1) \
               UNION ALL SELECT (SELECT created_at FROM token ORDER BY id DESC LIMIT 1)) AS newest"
        })
        .fetch_one(self.connection())
        .await
        .map_err(failed)?;
        Ok(newest.map(Time::from_micros))
    }

    async fn audit_nodes(&mut self) -> Result<Vec<[u8; 16]>> {
        let rows = sqlx::query(concat! { chains!(), "SELECT chain.node FROM chain WHERE chain.node IS NOT NULL" })
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(|row| Columns::of(row).bytes("audit_batch", "node")).collect()
    }

    async fn audit_batches_before(&mut self, node: &[u8; 16], seq: u64, limit: u32) -> Result<Vec<Batch>> {
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM audit_batch WHERE node = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3"
        })
        .bind(node.as_slice())
        .bind(seq.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(batch).collect()
    }

    async fn list_audit_batches(&mut self, after: Option<([u8; 16], u64)>, limit: u32) -> Result<Vec<Batch>> {
        let (node, seq) = after.unwrap_or(([0; 16], 0));
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM audit_batch WHERE (node, seq) > ($1, $2) ORDER BY node, seq LIMIT $3"
        })
        .bind(node.as_slice())
        .bind(seq.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(batch).collect()
    }

    async fn audit_links(&mut self, node: &[u8; 16], after: u64, limit: u32) -> Result<Vec<Link>> {
        let rows = sqlx::query(
            "SELECT seq, prev_hash, merkle, entries, created_at FROM audit_batch WHERE node = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(node.as_slice())
        .bind(after.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(link).collect()
    }

    async fn audit_batches_since(&mut self, after: Place, until: Time, limit: u32) -> Result<Vec<Batch>> {
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM audit_batch b WHERE (created_at, node, seq) > ($1, $2, $3) AND created_at <= $4 ",
            // What comes before a cut, or before the first, is no part of a chain.
            "AND seq > COALESCE((SELECT m.size FROM audit_mark m WHERE m.node = b.node AND m.kind = $6), 0) ORDER BY created_at, node, seq LIMIT $5"
        })
        .bind(after.0.micros())
        .bind(after.1.as_slice())
        .bind(after.2.cast_signed())
        .bind(until.micros())
        .bind(i64::from(limit))
        .bind(MarkKind::Cut as i64)
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(batch).collect()
    }

    async fn audit_marks(&mut self, kind: MarkKind) -> Result<Vec<Mark>> {
        let rows =
            sqlx::query("SELECT node, size, frontier, note, created_at FROM audit_mark WHERE kind = $1 ORDER BY node")
                .bind(kind as i64)
                .fetch_all(self.connection())
                .await
                .map_err(failed)?;
        rows.iter().map(|row| mark(row, kind)).collect()
    }

    async fn put_audit_mark(&mut self, mark: &Mark) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit_mark (node, kind, size, frontier, note, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (node, kind) DO UPDATE SET size = excluded.size, frontier = excluded.frontier, \
             note = excluded.note, created_at = excluded.created_at WHERE audit_mark.size < excluded.size",
        )
        .bind(mark.node.as_slice())
        .bind(mark.kind as i64)
        .bind(mark.size.cast_signed())
        .bind(&mark.frontier)
        .bind(&mark.note)
        .bind(mark.created_at.micros())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn last_audit_batch_before(&mut self, node: &[u8; 16], time: Time, most: u64) -> Result<Option<u64>> {
        // The first one that must stay: the times of a chain may go back where a clock was set.
        let kept: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM audit_batch WHERE node = $1 AND created_at >= $2 ORDER BY seq LIMIT 1")
                .bind(node.as_slice())
                .bind(time.micros())
                .fetch_optional(self.connection())
                .await
                .map_err(failed)?;
        let upto = kept.map_or(i64::MAX, |kept| kept - 1).min(most.cast_signed());
        let last: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM audit_batch WHERE node = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 1")
                .bind(node.as_slice())
                .bind(upto)
                .fetch_optional(self.connection())
                .await
                .map_err(failed)?;
        Ok(last.map(i64::cast_unsigned))
    }

    async fn delete_audit_batches(&mut self, node: &[u8; 16], upto: u64, limit: u32) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM audit_batch WHERE node = $1 AND seq IN \
             (SELECT seq FROM audit_batch WHERE node = $1 AND seq <= $2 ORDER BY seq LIMIT $3)",
        )
        .bind(node.as_slice())
        .bind(upto.cast_signed())
        .bind(i64::from(limit))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(done.rows_affected())
    }
}

fn link(row: &Row) -> Result<Link> {
    let mut columns = Columns::of(row);
    Ok(Link {
        seq: columns.unsigned("audit_batch", "seq")?,
        prev_hash: columns.bytes("audit_batch", "prev_hash")?,
        merkle: columns.bytes("audit_batch", "merkle")?,
        entries: columns.unsigned("audit_batch", "entries")?,
        created_at: columns.time()?,
    })
}

fn mark(row: &Row, kind: MarkKind) -> Result<Mark> {
    let mut columns = Columns::of(row);
    Ok(Mark {
        node: columns.bytes("audit_mark", "node")?,
        kind,
        size: columns.unsigned("audit_mark", "size")?,
        frontier: columns.take()?,
        note: columns.take()?,
        created_at: columns.time()?,
    })
}

fn batch(row: &Row) -> Result<Batch> {
    let mut columns = Columns::of(row);
    Ok(Batch {
        node: columns.bytes("audit_batch", "node")?,
        seq: columns.unsigned("audit_batch", "seq")?,
        prev_hash: columns.bytes("audit_batch", "prev_hash")?,
        merkle: columns.bytes("audit_batch", "merkle")?,
        entries: columns.unsigned("audit_batch", "entries")?,
        created_at: columns.time()?,
        marks: columns.take()?,
        body: columns.take()?,
    })
}
