use async_trait::async_trait;

use super::super::super::call_event::CallEvents;
use super::{Columns, Result, Row, Rows, SqlTx, blob, each, inconsistent};
use crate::model::{CallEvent, CallEventKind, CallId, PauseCause, Recording};

#[async_trait]
impl CallEvents for SqlTx {
    async fn call_events_of(&mut self, calls: &[CallId]) -> Result<Vec<CallEvent>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT v.call, v.source_system, v.source_call_id, v.event_id, v.kind, v.party, v.cause, v.decision, ",
                    "v.happened_at, v.told_at FROM ", each!("1"), " AS e CROSS JOIN call_event v WHERE v.call = ", blob!("0"),
                    " ORDER BY v.call, v.happened_at, v.told_at, v.kind, v.event_id"
                },
                Rows::of_blobs(calls.iter().map(CallId::as_bytes)),
            )
            .await?;
        rows.iter().map(event).collect()
    }

    async fn insert_call_events(&mut self, events: &[CallEvent]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new();
        for event in events {
            rows.row()
                .text(&event.system)
                .text(&event.source_id)
                .text(&event.event_id)
                .blob(event.call.as_bytes())
                .number(event.kind.number().into())
                .number(event.party.unwrap_or_default().into())
                .number(event.cause.map_or(0, PauseCause::number).into())
                .number(event.decision.map_or(0, Recording::number).into())
                .number(event.happened_at.micros())
                .number(event.told_at.micros());
        }
        self.run(
            concat! {
                "INSERT INTO call_event (source_system, source_call_id, event_id, call, kind, party, cause, decision, ",
                "happened_at, told_at) SELECT e.value ->> 0, e.value ->> 1, e.value ->> 2, ", blob!("3"),
                ", CAST(e.value ->> 4 AS BIGINT), CAST(e.value ->> 5 AS BIGINT), CAST(e.value ->> 6 AS BIGINT), ",
                "CAST(e.value ->> 7 AS BIGINT), CAST(e.value ->> 8 AS BIGINT), CAST(e.value ->> 9 AS BIGINT) FROM ",
                each!("1"), " AS e"
            },
            rows,
        )
        .await?;
        Ok(())
    }
}

fn event(row: &Row) -> Result<CallEvent> {
    let mut columns = Columns::of(row);
    Ok(CallEvent {
        call: CallId::from_bytes(columns.bytes("call_event", "call")?),
        system: columns.take()?,
        source_id: columns.take()?,
        event_id: columns.take()?,
        kind: CallEventKind::from_number(columns.unsigned("call_event", "kind")?)
            .ok_or_else(|| inconsistent("call_event", "kind"))?,
        party: Some(columns.unsigned("call_event", "party")?).filter(|number| *number > 0),
        cause: PauseCause::from_number(columns.unsigned("call_event", "cause")?),
        decision: Recording::from_number(columns.unsigned("call_event", "decision")?),
        happened_at: columns.time()?,
        told_at: columns.time()?,
    })
}
