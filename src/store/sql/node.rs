use async_trait::async_trait;

use super::super::super::node::{Leader, Node, NodeId, Nodes, Pulse};
use super::{Columns, Result, Row, SqlTx, failed};
use crate::model::{ErasureState, Time};

#[async_trait]
impl Nodes for SqlTx {
    async fn join_node(&mut self, node: &Node) -> Result<()> {
        sqlx::query(concat! {
            "INSERT INTO node (id, name, process, joined_at, renewals, epoch, landed, seen_at) ",
            "VALUES ($1, $2, $3, $4, $5, $6, COALESCE((SELECT k.landing FROM key_tree k), 0), $7) ",
            "ON CONFLICT (id) DO UPDATE SET renewals = excluded.renewals, epoch = excluded.epoch, landed = excluded.landed"
        })
        .bind(node.id.as_slice())
        .bind(&node.name)
        .bind(&node.process)
        .bind(node.joined_at.micros())
        .bind(node.renewals.cast_signed())
        .bind(node.epoch.cast_signed())
        .bind(node.seen_at.micros())
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn renew_node(&mut self, id: &NodeId, epoch: u64, landed: u64, now: Time) -> Result<bool> {
        let statement = "UPDATE node SET renewals = renewals + 1, epoch = $2, landed = $3, seen_at = $4 WHERE id = $1";
        let done = sqlx::query(statement)
            .bind(id.as_slice())
            .bind(epoch.cast_signed())
            .bind(landed.cast_signed())
            .bind(now.micros())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn ask_landing(&mut self) -> Result<u64> {
        let row = sqlx::query("UPDATE key_tree SET landing = landing + 1 RETURNING landing")
            .fetch_one(self.connection())
            .await
            .map_err(failed)?;
        Columns::of(&row).unsigned("key_tree", "landing")
    }

    async fn nodes(&mut self) -> Result<Vec<Node>> {
        let rows = sqlx::query(
            "SELECT id, name, process, joined_at, renewals, epoch, landed, seen_at FROM node ORDER BY joined_at, id",
        )
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(node).collect()
    }

    async fn expire_node(&mut self, id: &NodeId, renewals: u64) -> Result<bool> {
        let done = sqlx::query("DELETE FROM node WHERE id = $1 AND renewals = $2")
            .bind(id.as_slice())
            .bind(renewals.cast_signed())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn leave_node(&mut self, id: &NodeId) -> Result<()> {
        for statement in ["DELETE FROM node WHERE id = $1", "UPDATE key_tree SET leader = NULL WHERE leader = $1"] {
            sqlx::query(statement).bind(id.as_slice()).execute(self.connection()).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn pulse(&mut self) -> Result<Option<Pulse>> {
        let row = sqlx::query(concat! {
            "SELECT k.fence, k.epoch, k.wanted, k.landing, k.leader, k.term, n.renewals, n.process, ",
            "CAST(CASE WHEN EXISTS (SELECT 1 FROM erasure x WHERE x.state = $1) THEN 1 ELSE 0 END AS BIGINT) ",
            "FROM key_tree k LEFT JOIN node n ON n.id = k.leader"
        })
        .bind(i64::from(ErasureState::Pending.number()))
        .fetch_optional(self.connection())
        .await
        .map_err(failed)?;
        row.as_ref().map(pulse).transpose()
    }

    async fn take_lead(&mut self, id: &NodeId, term: u64) -> Result<bool> {
        let done = sqlx::query("UPDATE key_tree SET leader = $1, term = term + 1 WHERE term = $2")
            .bind(id.as_slice())
            .bind(term.cast_signed())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn want_epoch(&mut self, epoch: u64) -> Result<()> {
        sqlx::query("UPDATE key_tree SET wanted = $1 WHERE wanted < $1")
            .bind(epoch.cast_signed())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn begin_writer(&mut self, id: &NodeId) -> Result<()> {
        sqlx::query("INSERT INTO index_writer (node) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(id.as_slice())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn end_writer(&mut self, id: &NodeId) -> Result<()> {
        sqlx::query("DELETE FROM index_writer WHERE node = $1")
            .bind(id.as_slice())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn has_dead_writers(&mut self) -> Result<bool> {
        let dead: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM index_writer w WHERE NOT EXISTS (SELECT 1 FROM node n WHERE n.id = w.node)",
        )
        .fetch_one(self.connection())
        .await
        .map_err(failed)?;
        Ok(dead > 0)
    }

    async fn forget_dead_writers(&mut self) -> Result<()> {
        sqlx::query("DELETE FROM index_writer WHERE NOT EXISTS (SELECT 1 FROM node n WHERE n.id = index_writer.node)")
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }
}

fn node(row: &Row) -> Result<Node> {
    let mut columns = Columns::of(row);
    Ok(Node {
        id: columns.bytes("node", "id")?,
        name: columns.take()?,
        process: columns.take()?,
        joined_at: columns.time()?,
        renewals: columns.unsigned("node", "renewals")?,
        epoch: columns.unsigned("node", "epoch")?,
        landed: columns.unsigned("node", "landed")?,
        seen_at: columns.time()?,
    })
}

fn pulse(row: &Row) -> Result<Pulse> {
    let mut columns = Columns::of(row);
    Ok(Pulse {
        fence: columns.unsigned("key_tree", "fence")?,
        epoch: columns.unsigned("key_tree", "epoch")?,
        wanted: columns.unsigned("key_tree", "wanted")?,
        landing: columns.unsigned("key_tree", "landing")?,
        leader: columns.maybe_bytes("key_tree", "leader")?,
        term: columns.unsigned("key_tree", "term")?,
        led_by: led_by(&mut columns)?,
        pending: columns.unsigned::<u8>("erasure", "state")? == 1,
    })
}

fn led_by(columns: &mut Columns<'_>) -> Result<Option<Leader>> {
    let (renewals, process) = (columns.take::<Option<i64>>()?, columns.take::<Option<String>>()?);
    Ok(renewals.zip(process).map(|(renewals, process)| Leader { renewals: renewals.cast_unsigned(), process }))
}
