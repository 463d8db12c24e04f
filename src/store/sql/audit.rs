use async_trait::async_trait;

use super::super::super::audit::{Audits, Batch};
use super::{Columns, Result, Row, SqlTx, Time, failed};

macro_rules! columns {
    () => {
        "node, seq, prev_hash, merkle, entries, body, created_at"
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
        sqlx::query(concat! { "INSERT INTO audit_batch (", columns!(), ") VALUES ($1, $2, $3, $4, $5, $6, $7)" })
            .bind(batch.node.as_slice())
            .bind(batch.seq.cast_signed())
            .bind(batch.prev_hash.as_slice())
            .bind(batch.merkle.as_slice())
            .bind(batch.entries.cast_signed())
            .bind(&batch.body)
            .bind(batch.created_at.micros())
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
}

fn batch(row: &Row) -> Result<Batch> {
    let mut columns = Columns::of(row);
    Ok(Batch {
        node: columns.bytes("audit_batch", "node")?,
        seq: columns.unsigned("audit_batch", "seq")?,
        prev_hash: columns.bytes("audit_batch", "prev_hash")?,
        merkle: columns.bytes("audit_batch", "merkle")?,
        entries: columns.unsigned("audit_batch", "entries")?,
        body: columns.take()?,
        created_at: columns.time()?,
    })
}
