use async_trait::async_trait;

use super::super::super::key::{CONDEMNED, Keys, Page, PageId, Punctured, SubjectKey, TreeHead, Vault};
use super::{Columns, Result, Row, Rows, SqlTx, blob, each, failed, inconsistent, retention};
use crate::model::{Cohort, KeyState, PartId, SubjectId, Time};

macro_rules! columns {
    () => {
        "k.leaf, k.subject, k.class, k.version, k.created_at, k.state, k.cohort, \
         CAST(CASE WHEN k.ended_by IS NULL THEN 0 ELSE 1 END AS BIGINT), k.part, k.kept_until"
    };
}

#[async_trait]
impl Keys for SqlTx {
    async fn create_vault(&mut self, vault: &Vault, head: &TreeHead) -> Result<()> {
        sqlx::query("INSERT INTO vault (id, tree, created_at) VALUES (1, $1, $2)")
            .bind(vault.tree.as_slice())
            .bind(vault.created_at.micros())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        sqlx::query(concat! {
            "INSERT INTO key_tree (tree, root_id, epoch, next_leaf, spare_leaf, spare_end, fence, wanted, landing, term) ",
            "VALUES ($1, $2, $3, $4, 0, 0, $5, 0, 0, 0)"
        })
        .bind(vault.tree.as_slice())
        .bind(head.root_id.as_slice())
        .bind(head.epoch.cast_signed())
        .bind(i64::from(head.next_leaf))
        .bind(head.fence.cast_signed())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn discard_vault(&mut self) -> Result<()> {
        for statement in [
            "DELETE FROM index_chunk",
            "DELETE FROM index_bucket",
            "DELETE FROM index_generation",
            "DELETE FROM key_page",
            "DELETE FROM open_leaf",
            "DELETE FROM index_writer",
            "DELETE FROM key_tree",
            "DELETE FROM vault",
        ] {
            sqlx::query(statement).execute(self.connection()).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn vault(&mut self) -> Result<Option<Vault>> {
        let row = sqlx::query("SELECT tree, created_at FROM vault")
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(vault).transpose()
    }

    async fn tree_head(&mut self) -> Result<Option<TreeHead>> {
        let row = sqlx::query("SELECT root_id, epoch, next_leaf, fence FROM key_tree")
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(head).transpose()
    }

    async fn advance_tree(&mut self, expect: &[u8; 16], root_id: &[u8; 16], epoch: u64) -> Result<bool> {
        let done = sqlx::query(concat! {
            "UPDATE key_tree SET root_id = $2, epoch = $3, fence = CASE WHEN fence < $3 THEN $3 ELSE fence END ",
            "WHERE root_id = $1"
        })
        .bind(expect.as_slice())
        .bind(root_id.as_slice())
        .bind(epoch.cast_signed())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn announce(&mut self, root_id: &[u8; 16], expect: u64, epoch: u64) -> Result<bool> {
        let done = sqlx::query("UPDATE key_tree SET fence = $3 WHERE root_id = $1 AND fence = $2")
            .bind(root_id.as_slice())
            .bind(expect.cast_signed())
            .bind(epoch.cast_signed())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn key_pages(&mut self) -> Result<Vec<Page>> {
        let rows = sqlx::query("SELECT level, prefix, version, blob FROM key_page ORDER BY level, prefix")
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(page).collect()
    }

    async fn key_page_ids(&mut self, epoch: u64) -> Result<Vec<PageId>> {
        let rows = sqlx::query("SELECT level, prefix, version FROM key_page WHERE epoch <= $1 ORDER BY level, prefix")
            .bind(epoch.cast_signed())
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(|row| page_id(&mut Columns::of(row))).collect()
    }

    async fn insert_pages(&mut self, epoch: u64, pages: &[Page]) -> Result<()> {
        let mut rows = Rows::new();
        for Page { id, blob } in pages {
            rows.row()
                .number(id.level.into())
                .number(id.prefix.into())
                .blob(&id.version)
                .number(epoch.cast_signed())
                .blob(blob);
        }
        self.run(
            concat! {
                "INSERT INTO key_page (level, prefix, version, epoch, blob) SELECT CAST(e.value ->> 0 AS BIGINT), ",
                "CAST(e.value ->> 1 AS BIGINT), ", blob!("2"), ", CAST(e.value ->> 3 AS BIGINT), ", blob!("4"),
                " FROM ", each!("1"), " AS e WHERE true ",
                "ON CONFLICT (level, prefix, version) DO UPDATE SET epoch = excluded.epoch, blob = excluded.blob"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn delete_pages(&mut self, pages: &[PageId]) -> Result<()> {
        let mut rows = Rows::new();
        for id in pages {
            rows.row().number(id.level.into()).number(id.prefix.into()).blob(&id.version);
        }
        self.run(
            concat! {
                "DELETE FROM key_page WHERE (level, prefix, version) IN (SELECT CAST(e.value ->> 0 AS BIGINT), ",
                "CAST(e.value ->> 1 AS BIGINT), ", blob!("2"), " FROM ", each!("1"), " AS e)"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn delete_pages_between(&mut self, base: u64, epoch: u64) -> Result<()> {
        sqlx::query("DELETE FROM key_page WHERE epoch > $1 AND epoch < $2")
            .bind(base.cast_signed())
            .bind(epoch.cast_signed())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn put_punctured(&mut self, ranges: &[Punctured]) -> Result<()> {
        let mut rows = Rows::new();
        for range in ranges {
            rows.row().number(range.first.into()).number(range.last.into()).number(range.epoch.cast_signed());
        }
        self.run(
            concat! {
                "INSERT INTO punctured (first, last, epoch) SELECT CAST(e.value ->> 0 AS BIGINT), ",
                "CAST(e.value ->> 1 AS BIGINT), CAST(e.value ->> 2 AS BIGINT) FROM ", each!("1"),
                " AS e WHERE true ON CONFLICT (first, last) DO UPDATE SET epoch = excluded.epoch ",
                // What is condemned once more keeps the epoch that it was announced under.
                "WHERE excluded.epoch < 9223372036854775807"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn punctured_after(&mut self, epoch: u64) -> Result<Vec<Punctured>> {
        let rows = sqlx::query("SELECT first, last, epoch FROM punctured WHERE epoch > $1 ORDER BY first")
            .bind(epoch.cast_signed())
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(punctured).collect()
    }

    async fn announced_after(&mut self, epoch: u64) -> Result<Vec<Punctured>> {
        let rows =
            sqlx::query("SELECT first, last, epoch FROM punctured WHERE epoch > $1 AND epoch < $2 ORDER BY first")
                .bind(epoch.cast_signed())
                .bind(CONDEMNED.cast_signed())
                .fetch_all(self.connection())
                .await
                .map_err(failed)?;
        rows.iter().map(punctured).collect()
    }

    async fn insert_subject_keys(&mut self, keys: &[SubjectKey]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new();
        for key in keys {
            rows.row()
                .number(key.leaf.into())
                .blob(key.subject.as_bytes())
                .text(&key.class)
                .number(key.version.into())
                .number(key.created_at.micros())
                .number(key.state.number().into())
                .maybe_number(key.cohort.map(|cohort| cohort.number().into()))
                .maybe_blob(key.part.as_ref().map(|part| part.as_bytes().as_slice()))
                .maybe_number(key.kept_until.map(Time::micros));
        }
        self.run(
            concat! {
                "INSERT INTO subject_key (leaf, subject, class, version, created_at, state, cohort, part, kept_until) ",
                "SELECT CAST(e.value ->> 0 AS BIGINT), ", blob!("1"), ", e.value ->> 2, ",
                "CAST(e.value ->> 3 AS BIGINT), CAST(e.value ->> 4 AS BIGINT), CAST(e.value ->> 5 AS BIGINT), ",
                "CAST(e.value ->> 6 AS BIGINT), ", blob!("7"), ", CAST(e.value ->> 8 AS BIGINT) FROM ", each!("1"), " AS e"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn put_key_states(&mut self, leaves: &[u32], state: KeyState) -> Result<()> {
        sqlx::query(concat! {
            "UPDATE subject_key SET state = $2 WHERE leaf IN (SELECT CAST(e.value ->> 0 AS BIGINT) FROM ", each!("1"),
            " AS e)"
        })
        .bind(Rows::of_numbers(leaves.iter().map(|&leaf| leaf.into())).into_json())
        .bind(i64::from(state.number()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn retire_punctured_keys(&mut self, epoch: u64) -> Result<()> {
        sqlx::query(concat! {
            "UPDATE subject_key SET state = $2 WHERE leaf IN (SELECT k.leaf FROM punctured p JOIN subject_key k ",
            "ON k.leaf >= p.first AND k.leaf <= p.last WHERE p.epoch <= $1)"
        })
        .bind(epoch.cast_signed())
        .bind(i64::from(KeyState::Retired.number()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn keep_keys(&mut self, keys: &[(u32, Cohort, Time)]) -> Result<()> {
        let mut rows = Rows::new();
        for (leaf, cohort, until) in keys {
            rows.row().number((*leaf).into()).number(cohort.number().into()).number(until.micros());
        }
        self.run(
            concat! {
                "UPDATE subject_key SET cohort = CAST(e.value ->> 1 AS BIGINT), kept_until = CAST(e.value ->> 2 AS BIGINT) FROM ",
                each!("1"), " AS e WHERE leaf = CAST(e.value ->> 0 AS BIGINT)"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn kept_keys(&mut self) -> Result<Vec<SubjectKey>> {
        let found = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM subject_key k WHERE k.kept_until IS NOT NULL AND k.ended_by IS NULL ORDER BY k.leaf"
        })
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        found.iter().map(subject_key).collect()
    }

    async fn subject_keys(&mut self, subjects: &[SubjectId]) -> Result<Vec<SubjectKey>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", columns!(), " FROM ", each!("1"), " AS e CROSS JOIN subject_key k WHERE k.subject = ",
                    blob!("0"), " ORDER BY k.version, k.leaf"
                },
                Rows::of_blobs(subjects.iter().map(SubjectId::as_bytes)),
            )
            .await?;
        rows.iter().map(subject_key).collect()
    }
}

fn vault(row: &Row) -> Result<Vault> {
    let mut columns = Columns::of(row);
    Ok(Vault { tree: columns.bytes("vault", "tree")?, created_at: columns.time()? })
}

fn head(row: &Row) -> Result<TreeHead> {
    let mut columns = Columns::of(row);
    Ok(TreeHead {
        root_id: columns.bytes("key_tree", "root_id")?,
        epoch: columns.unsigned("key_tree", "epoch")?,
        next_leaf: columns.unsigned("key_tree", "next_leaf")?,
        fence: columns.unsigned("key_tree", "fence")?,
    })
}

fn page_id(columns: &mut Columns<'_>) -> Result<PageId> {
    Ok(PageId {
        level: columns.unsigned("key_page", "level")?,
        prefix: columns.unsigned("key_page", "prefix")?,
        version: columns.bytes("key_page", "version")?,
    })
}

fn page(row: &Row) -> Result<Page> {
    let mut columns = Columns::of(row);
    Ok(Page { id: page_id(&mut columns)?, blob: columns.take()? })
}

fn punctured(row: &Row) -> Result<Punctured> {
    let mut columns = Columns::of(row);
    Ok(Punctured {
        first: columns.unsigned("punctured", "first")?,
        last: columns.unsigned("punctured", "last")?,
        epoch: columns.unsigned("punctured", "epoch")?,
    })
}

fn subject_key(row: &Row) -> Result<SubjectKey> {
    let mut columns = Columns::of(row);
    Ok(SubjectKey {
        leaf: columns.unsigned("subject_key", "leaf")?,
        subject: SubjectId::from_bytes(columns.bytes("subject_key", "subject")?),
        class: columns.take()?,
        version: columns.unsigned("subject_key", "version")?,
        created_at: columns.time()?,
        state: KeyState::from_number(columns.unsigned("subject_key", "state")?)
            .ok_or_else(|| inconsistent("subject_key", "state"))?,
        cohort: retention::cohort(columns.take()?)?,
        ended: columns.unsigned::<u32>("subject_key", "ended_by")? > 0,
        part: columns.maybe_bytes("subject_key", "part")?.map(PartId::from_bytes),
        kept_until: columns.maybe_time()?,
    })
}
