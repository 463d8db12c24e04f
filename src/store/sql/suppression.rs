use std::collections::HashSet;

use async_trait::async_trait;

use super::super::super::suppression::{Name, Suppressions};
use super::{Columns, Result, Rows, SqlTx, blob, each};

#[async_trait]
impl Suppressions for SqlTx {
    async fn suppressed(&mut self, names: &[Name]) -> Result<HashSet<Name>> {
        if names.is_empty() {
            return Ok(HashSet::new());
        }
        let rows = self
            .fetch(
                concat! {
                    "SELECT u.name FROM ", each!("1"), " AS e CROSS JOIN suppression u WHERE u.name = ", blob!("0")
                },
                Rows::of_blobs(names),
            )
            .await?;
        rows.iter().map(|row| Columns::of(row).bytes("suppression", "name")).collect()
    }

    async fn suppress(&mut self, names: &[Name]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        // In one order, so that two transactions never wait for each other.
        let mut names = names.to_vec();
        names.sort_unstable();
        self.run(
            concat! {
                "INSERT INTO suppression (name) SELECT ", blob!("0"), " FROM ", each!("1"),
                " AS e WHERE true ON CONFLICT DO NOTHING"
            },
            Rows::of_blobs(&names),
        )
        .await?;
        Ok(())
    }

    async fn release(&mut self, names: &[Name]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        self.run(
            concat! {
                "DELETE FROM suppression WHERE name IN (SELECT ", blob!("0"), " FROM ", each!("1"), " AS e)"
            },
            Rows::of_blobs(names),
        )
        .await?;
        Ok(())
    }
}
