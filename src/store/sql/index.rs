use async_trait::async_trait;

use super::super::super::index::{Bucket, Chunk, Generation, Indexes, Stage};
use super::{Columns, Result, Row, Rows, SqlTx, blob, each, failed, inconsistent, lock};

#[async_trait]
impl Indexes for SqlTx {
    async fn generations(&mut self) -> Result<Vec<Generation>> {
        let rows = sqlx::query(
            "SELECT generation, leaf, first_bucket, buckets, state FROM index_generation ORDER BY generation",
        )
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(generation).collect()
    }

    async fn put_generation(&mut self, generation: &Generation) -> Result<()> {
        sqlx::query(concat! {
            "INSERT INTO index_generation (generation, leaf, first_bucket, buckets, state) VALUES ($1, $2, $3, $4, $5) ",
            "ON CONFLICT (generation) DO UPDATE SET state = excluded.state"
        })
        .bind(i64::from(generation.generation))
        .bind(i64::from(generation.leaf))
        .bind(i64::from(generation.first_bucket))
        .bind(i64::from(generation.buckets))
        .bind(i64::from(generation.stage.number()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn delete_generation(&mut self, generation: u32) -> Result<()> {
        sqlx::query("DELETE FROM index_generation WHERE generation = $1")
            .bind(i64::from(generation))
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn delete_buckets(&mut self, buckets: &[u32]) -> Result<()> {
        self.delete_chunks(buckets).await?;
        self.run(
            concat! {
                "DELETE FROM index_bucket WHERE bucket IN (SELECT CAST(e.value ->> 0 AS BIGINT) FROM ", each!("1"),
                " AS e)"
            },
            numbers(buckets),
        )
        .await?;
        Ok(())
    }

    async fn put_buckets(&mut self, buckets: &[Bucket]) -> Result<()> {
        let mut rows = Rows::new();
        for bucket in buckets {
            rows.row()
                .number(bucket.bucket.into())
                .number(bucket.leaf.into())
                .number(bucket.chunks.into())
                .flag(bucket.dirty);
        }
        self.run(
            concat! {
                "INSERT INTO index_bucket (bucket, leaf, chunks, dirty) SELECT CAST(e.value ->> 0 AS BIGINT), ",
                "CAST(e.value ->> 1 AS BIGINT), CAST(e.value ->> 2 AS BIGINT), CAST(e.value ->> 3 AS BOOLEAN) FROM ",
                each!("1"), " AS e WHERE true ON CONFLICT (bucket) DO UPDATE SET leaf = excluded.leaf, ",
                "chunks = excluded.chunks, dirty = excluded.dirty"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn put_chunks(&mut self, chunks: &[Chunk]) -> Result<()> {
        let mut rows = Rows::new();
        for chunk in chunks {
            rows.row().number(chunk.bucket.bucket.into()).number(chunk.chunk.into()).blob(&chunk.blob);
        }
        self.run(
            concat! {
                "INSERT INTO index_chunk (bucket, chunk, blob) SELECT CAST(e.value ->> 0 AS BIGINT), ",
                "CAST(e.value ->> 1 AS BIGINT), ", blob!("2"), " FROM ", each!("1"), " AS e WHERE true ",
                "ON CONFLICT (bucket, chunk) DO UPDATE SET blob = excluded.blob"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn delete_chunks(&mut self, buckets: &[u32]) -> Result<()> {
        self.run(
            concat! {
                "DELETE FROM index_chunk WHERE bucket IN (SELECT CAST(e.value ->> 0 AS BIGINT) FROM ", each!("1"),
                " AS e)"
            },
            numbers(buckets),
        )
        .await?;
        Ok(())
    }

    async fn buckets_and_dirty(&mut self, buckets: &[u32]) -> Result<Vec<Bucket>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT b.bucket, b.leaf, b.chunks, b.dirty FROM index_bucket b WHERE b.dirty OR b.bucket IN ",
                    "(SELECT CAST(e.value ->> 0 AS BIGINT) FROM ", each!("1"), " AS e) ORDER BY b.bucket"
                },
                numbers(buckets),
            )
            .await?;
        rows.iter().map(|row| bucket(&mut Columns::of(row))).collect()
    }

    async fn mark_buckets(&mut self, buckets: &[u32]) -> Result<()> {
        self.run(
            concat! {
                "UPDATE index_bucket SET dirty = true WHERE bucket IN (SELECT CAST(e.value ->> 0 AS BIGINT) FROM ",
                each!("1"), " AS e)"
            },
            numbers(buckets),
        )
        .await?;
        Ok(())
    }

    async fn lock_buckets(&mut self, buckets: &[u32]) -> Result<()> {
        self.fetch(
            concat! {
                "SELECT b.bucket FROM index_bucket b WHERE b.bucket IN (SELECT CAST(e.value ->> 0 AS BIGINT) FROM ",
                each!("1"), " AS e) ORDER BY b.bucket", lock!("b")
            },
            numbers(buckets),
        )
        .await?;
        Ok(())
    }

    async fn tail_chunks(&mut self, buckets: &[u32]) -> Result<Vec<Chunk>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT b.bucket, b.leaf, b.chunks, b.dirty, c.chunk, c.blob FROM ", each!("1"), " AS e ",
                    "CROSS JOIN index_bucket b JOIN index_chunk c ON c.bucket = b.bucket AND c.chunk = b.chunks - 1 ",
                    "WHERE b.bucket = CAST(e.value ->> 0 AS BIGINT) ORDER BY b.bucket"
                },
                numbers(buckets),
            )
            .await?;
        rows.iter().map(chunk).collect()
    }

    async fn chunks(&mut self, buckets: &[u32]) -> Result<Vec<Chunk>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT b.bucket, b.leaf, b.chunks, b.dirty, c.chunk, c.blob FROM ", each!("1"), " AS e ",
                    "CROSS JOIN index_bucket b JOIN index_chunk c ON c.bucket = b.bucket ",
                    "WHERE b.bucket = CAST(e.value ->> 0 AS BIGINT) ORDER BY b.bucket, c.chunk"
                },
                numbers(buckets),
            )
            .await?;
        rows.iter().map(chunk).collect()
    }
}

fn numbers(buckets: &[u32]) -> Rows {
    Rows::of_numbers(buckets.iter().map(|&bucket| bucket.into()))
}

fn generation(row: &Row) -> Result<Generation> {
    let mut columns = Columns::of(row);
    Ok(Generation {
        generation: columns.unsigned("index_generation", "generation")?,
        leaf: columns.unsigned("index_generation", "leaf")?,
        first_bucket: columns.unsigned("index_generation", "first_bucket")?,
        buckets: columns.unsigned("index_generation", "buckets")?,
        stage: Stage::from_number(columns.unsigned("index_generation", "state")?)
            .ok_or_else(|| inconsistent("index_generation", "state"))?,
    })
}

fn bucket(columns: &mut Columns<'_>) -> Result<Bucket> {
    Ok(Bucket {
        bucket: columns.unsigned("index_bucket", "bucket")?,
        leaf: columns.unsigned("index_bucket", "leaf")?,
        chunks: columns.unsigned("index_bucket", "chunks")?,
        dirty: columns.take()?,
    })
}

fn chunk(row: &Row) -> Result<Chunk> {
    let mut columns = Columns::of(row);
    Ok(Chunk { bucket: bucket(&mut columns)?, chunk: columns.unsigned("index_chunk", "chunk")?, blob: columns.take()? })
}
