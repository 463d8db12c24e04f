use async_trait::async_trait;

use super::super::super::approval::Approvals;
use super::{Columns, Result, Row, SqlTx, Time, failed, inconsistent, lock};
use crate::model::{Approval, ApprovalId, ApprovalState, Bulk, Channel, Redaction};

macro_rules! columns {
    () => {
        "a.id, a.caller, a.purpose, a.redaction, a.channel, a.justification, a.tokens, a.digest, a.requested_at, \
         a.expires_at, a.state, a.decided_by, a.decided_at, a.reason, a.used_at"
    };
}

#[async_trait]
impl Approvals for SqlTx {
    async fn insert_approval(&mut self, approval: &Approval) -> Result<bool> {
        let bulk = &approval.bulk;
        // One that nobody decided in time gives way.
        sqlx::query("DELETE FROM approval WHERE caller = $1 AND digest = $2 AND state = $3 AND expires_at <= $4")
            .bind(&bulk.caller)
            .bind(bulk.digest.as_slice())
            .bind(i64::from(ApprovalState::Pending.number()))
            .bind(approval.requested_at.micros())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        let inserted = sqlx::query(
            "INSERT INTO approval (id, caller, purpose, redaction, channel, justification, tokens, digest, requested_at, \
             expires_at, state, decided_by, reason) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) \
             ON CONFLICT DO NOTHING",
        )
        .bind(approval.id.as_bytes().as_slice())
        .bind(&bulk.caller)
        .bind(&bulk.purpose)
        .bind(bulk.redaction.name())
        .bind(i64::from(bulk.channel.number()))
        .bind(&bulk.justification)
        .bind(bulk.tokens.cast_signed())
        .bind(bulk.digest.as_slice())
        .bind(approval.requested_at.micros())
        .bind(approval.expires_at.micros())
        .bind(i64::from(approval.state.number()))
        .bind(&approval.decided_by)
        .bind(&approval.reason)
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(inserted.rows_affected() == 1)
    }

    async fn approval(&mut self, id: ApprovalId) -> Result<Option<Approval>> {
        let row = sqlx::query(concat! { "SELECT ", columns!(), " FROM approval a WHERE a.id = $1" })
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(approval).transpose()
    }

    async fn lock_approval(&mut self, id: ApprovalId) -> Result<Option<Approval>> {
        let row = sqlx::query(concat! { "SELECT ", columns!(), " FROM approval a WHERE a.id = $1", lock!("a") })
            .bind(id.as_bytes().as_slice())
            .fetch_optional(self.connection())
            .await
            .map_err(failed)?;
        row.as_ref().map(approval).transpose()
    }

    async fn approvals_for(&mut self, caller: &str, digest: &[u8; 32], now: Time) -> Result<Vec<Approval>> {
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM approval a WHERE a.caller = $1 AND a.digest = $2 AND a.expires_at > $3 ",
            "AND a.state IN ($4, $5) ORDER BY a.id DESC"
        })
        .bind(caller)
        .bind(digest.as_slice())
        .bind(now.micros())
        .bind(i64::from(ApprovalState::Pending.number()))
        .bind(i64::from(ApprovalState::Granted.number()))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(approval).collect()
    }

    async fn approvals_pending(&mut self, caller: &str, now: Time) -> Result<u64> {
        let count: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM approval a WHERE a.caller = $1 AND a.expires_at > $2 AND a.state = $3",
        )
        .bind(caller)
        .bind(now.micros())
        .bind(i64::from(ApprovalState::Pending.number()))
        .fetch_one(self.connection())
        .await
        .map_err(failed)?;
        Ok(count.cast_unsigned())
    }

    async fn list_approvals(
        &mut self,
        before: Option<ApprovalId>,
        open: Option<Time>,
        limit: u32,
    ) -> Result<Vec<Approval>> {
        let before = before.map_or([0xff; 16], |id| *id.as_bytes());
        let rows = sqlx::query(concat! {
            "SELECT ", columns!(), " FROM approval a WHERE a.id < $1 AND a.expires_at > $2 AND (a.state = $3 OR $4 = 0) ",
            "ORDER BY a.id DESC LIMIT $5"
        })
        .bind(before.as_slice())
        .bind(open.map_or(i64::MIN, Time::micros))
        .bind(i64::from(ApprovalState::Pending.number()))
        .bind(i64::from(open.is_some()))
        .bind(i64::from(limit))
        .fetch_all(self.connection())
        .await
        .map_err(failed)?;
        rows.iter().map(approval).collect()
    }

    async fn update_approval(&mut self, approval: &Approval) -> Result<()> {
        sqlx::query("UPDATE approval SET state = $2, decided_by = $3, decided_at = $4, reason = $5 WHERE id = $1")
            .bind(approval.id.as_bytes().as_slice())
            .bind(i64::from(approval.state.number()))
            .bind(&approval.decided_by)
            .bind(approval.decided_at.map(Time::micros))
            .bind(&approval.reason)
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn use_approval(&mut self, id: ApprovalId, now: Time) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE approval SET state = $3, used_at = $2 WHERE id = $1 AND state = $4 AND expires_at > $2",
        )
        .bind(id.as_bytes().as_slice())
        .bind(now.micros())
        .bind(i64::from(ApprovalState::Used.number()))
        .bind(i64::from(ApprovalState::Granted.number()))
        .execute(self.connection())
        .await
        .map_err(failed)?;
        Ok(done.rows_affected() == 1)
    }

    async fn remove_approvals_before(&mut self, time: Time) -> Result<()> {
        sqlx::query("DELETE FROM approval WHERE expires_at < $1")
            .bind(time.micros())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }
}

fn approval(row: &Row) -> Result<Approval> {
    let wrong = |column: &'static str| move || inconsistent("approval", column);
    let mut columns = Columns::of(row);
    let id = ApprovalId::from_bytes(columns.bytes("approval", "id")?);
    let (caller, purpose, redaction): (String, String, String) = (columns.take()?, columns.take()?, columns.take()?);
    let bulk = Bulk {
        caller,
        purpose,
        redaction: Redaction::from_name(&redaction).ok_or_else(wrong("redaction"))?,
        channel: Channel::from_number(columns.unsigned("approval", "channel")?).ok_or_else(wrong("channel"))?,
        justification: columns.take()?,
        tokens: columns.unsigned("approval", "tokens")?,
        digest: columns.bytes("approval", "digest")?,
    };
    Ok(Approval {
        id,
        bulk,
        requested_at: columns.time()?,
        expires_at: columns.time()?,
        state: ApprovalState::from_number(columns.unsigned("approval", "state")?).ok_or_else(wrong("state"))?,
        decided_by: columns.take()?,
        decided_at: columns.maybe_time()?,
        reason: columns.take()?,
        used_at: columns.maybe_time()?,
    })
}
