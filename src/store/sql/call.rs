use async_trait::async_trait;

use super::super::super::call::Calls;
use super::{Columns, Result, Row, Rows, SqlTx, Time, blob, each, failed, inconsistent, lock};
use crate::model::{
    Call, CallField, CallFilter, CallId, Direction, Disposition, Leg, LegFacts, Party, PartyRole, PartyValue,
    SubjectId, TokenRow,
};

macro_rules! call_columns {
    () => {
        "c.id, c.source_system, c.group_id, c.started_at, c.ended_at, c.version, c.created_at"
    };
}

macro_rules! leg_columns {
    () => {
        "l.call, l.source_system, l.source_call_id, l.revision, l.digest, l.parties, l.direction, l.dialled, l.queue, \
         l.skill, l.campaign, l.contact_list, l.started_at, l.rung_at, l.answered_at, l.ended_at, l.holds, l.held_for, \
         l.disposition"
    };
}

/// What a list is narrowed by, of whatever index it goes. A pause that nothing ends is one without end.
macro_rules! card_findings {
    () => {
        " AND ($8 = 0 OR EXISTS (SELECT 1 FROM call_event v WHERE v.call = c.id AND v.kind = 13 AND NOT EXISTS (\
         SELECT 1 FROM call_event b WHERE b.call = v.call AND b.kind = 11 AND b.happened_at <= v.happened_at AND NOT EXISTS (\
         SELECT 1 FROM call_event g WHERE g.call = v.call AND g.kind = 12 AND g.happened_at >= b.happened_at \
         AND g.happened_at < v.happened_at)))) AND ($9 = 0 OR EXISTS (SELECT 1 FROM call_event v WHERE v.call = c.id \
         AND v.kind = 11 AND NOT EXISTS (SELECT 1 FROM call_event g WHERE g.call = v.call AND g.kind = 12 \
         AND g.happened_at >= v.happened_at AND g.happened_at <= v.happened_at + $9)))"
    };
}

#[async_trait]
impl Calls for SqlTx {
    async fn legs_named(&mut self, names: &[(&str, &str)]) -> Result<Vec<Leg>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", leg_columns!(), " FROM ", each!("1"), " AS e CROSS JOIN call_leg l ",
                    "WHERE l.source_system = e.value ->> 0 AND l.source_call_id = e.value ->> 1"
                },
                pairs(names),
            )
            .await?;
        rows.iter().map(leg).collect()
    }

    async fn calls_grouped(&mut self, groups: &[(&str, &str)]) -> Result<Vec<Call>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", call_columns!(), " FROM ", each!("1"), " AS e CROSS JOIN call c ",
                    "WHERE c.source_system = e.value ->> 0 AND c.group_id = e.value ->> 1"
                },
                pairs(groups),
            )
            .await?;
        rows.iter().map(call).collect()
    }

    async fn calls(&mut self, ids: &[CallId]) -> Result<Vec<Call>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", call_columns!(), " FROM ", each!("1"), " AS e CROSS JOIN call c WHERE c.id = ", blob!("0"),
                    " ORDER BY c.id"
                },
                Rows::of_blobs(ids.iter().map(CallId::as_bytes)),
            )
            .await?;
        rows.iter().map(call).collect()
    }

    async fn lock_calls(&mut self, ids: &[CallId]) -> Result<Vec<Call>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", call_columns!(), " FROM call c WHERE c.id IN (SELECT ", blob!("0"), " FROM ", each!("1"),
                    " AS e) ORDER BY c.id", lock!("c")
                },
                Rows::of_blobs(ids.iter().map(CallId::as_bytes)),
            )
            .await?;
        rows.iter().map(call).collect()
    }

    async fn legs_of(&mut self, ids: &[CallId]) -> Result<Vec<Leg>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT ", leg_columns!(), " FROM ", each!("1"), " AS e CROSS JOIN call_leg l WHERE l.call = ",
                    blob!("0"), " ORDER BY l.call, l.started_at, l.source_call_id"
                },
                Rows::of_blobs(ids.iter().map(CallId::as_bytes)),
            )
            .await?;
        rows.iter().map(leg).collect()
    }

    async fn parties_of(&mut self, ids: &[CallId]) -> Result<Vec<Party>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT p.call, p.party, p.role, p.subject, p.candidates FROM ", each!("1"),
                    " AS e CROSS JOIN call_party p WHERE p.call = ", blob!("0"), " ORDER BY p.call, p.party"
                },
                Rows::of_blobs(ids.iter().map(CallId::as_bytes)),
            )
            .await?;
        rows.iter().map(party).collect()
    }

    async fn party_values_of(&mut self, ids: &[CallId]) -> Result<Vec<PartyValue>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT v.call, v.party, v.field, v.token FROM ", each!("1"),
                    " AS e CROSS JOIN call_value v WHERE v.call = ", blob!("0"), " ORDER BY v.call, v.party, v.field"
                },
                Rows::of_blobs(ids.iter().map(CallId::as_bytes)),
            )
            .await?;
        rows.iter().map(value).collect()
    }

    async fn party_values_by(&mut self, tokens: &[TokenRow]) -> Result<Vec<PartyValue>> {
        let rows = self
            .fetch(
                concat! {
                    "SELECT v.call, v.party, v.field, v.token FROM ", each!("1"),
                    " AS e CROSS JOIN call_value v WHERE v.token = ", blob!("0")
                },
                Rows::of_blobs(tokens.iter().map(TokenRow::as_bytes)),
            )
            .await?;
        rows.iter().map(value).collect()
    }

    async fn insert_calls(&mut self, calls: &[Call]) -> Result<u64> {
        if calls.is_empty() {
            return Ok(0);
        }
        // Everybody who adds several does so in this order.
        let mut calls: Vec<&Call> = calls.iter().collect();
        calls.sort_by_key(|call| (&call.system, &call.group, call.id));
        let mut rows = Rows::new();
        for call in calls {
            rows.row()
                .blob(call.id.as_bytes())
                .text(&call.system)
                .maybe_text(call.group.as_deref())
                .number(call.started_at.micros())
                .maybe_number(call.ended_at.map(Time::micros))
                .number(call.version.cast_signed())
                .number(call.created_at.micros());
        }
        self.run(
            concat! {
                "INSERT INTO call (id, source_system, group_id, started_at, ended_at, version, created_at) SELECT ",
                blob!("0"), ", e.value ->> 1, e.value ->> 2, CAST(e.value ->> 3 AS BIGINT), ",
                "CAST(e.value ->> 4 AS BIGINT), CAST(e.value ->> 5 AS BIGINT), CAST(e.value ->> 6 AS BIGINT) FROM ",
                each!("1"), " AS e WHERE true ON CONFLICT DO NOTHING"
            },
            rows,
        )
        .await
    }

    async fn update_calls(&mut self, calls: &[Call]) -> Result<()> {
        if calls.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new();
        for call in calls {
            rows.row()
                .blob(call.id.as_bytes())
                .maybe_text(call.group.as_deref())
                .number(call.started_at.micros())
                .maybe_number(call.ended_at.map(Time::micros))
                .number(call.version.cast_signed());
        }
        self.run(
            concat! {
                "UPDATE call SET group_id = e.value ->> 1, started_at = CAST(e.value ->> 2 AS BIGINT), ",
                "ended_at = CAST(e.value ->> 3 AS BIGINT), version = CAST(e.value ->> 4 AS BIGINT) FROM ", each!("1"),
                " AS e WHERE call.id = ", blob!("0")
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn put_legs(&mut self, legs: &[Leg]) -> Result<u64> {
        if legs.is_empty() {
            return Ok(0);
        }
        let mut legs: Vec<&Leg> = legs.iter().collect();
        legs.sort_by_key(|leg| (&leg.system, &leg.source_id));
        let mut rows = Rows::new();
        for leg in legs {
            encode(&mut rows, leg);
        }
        self.run(
            concat! {
                "INSERT INTO call_leg (source_system, source_call_id, call, revision, digest, parties, direction, dialled, ",
                "queue, skill, campaign, contact_list, started_at, rung_at, answered_at, ended_at, holds, held_for, ",
                "disposition) SELECT e.value ->> 0, e.value ->> 1, ", blob!("2"), ", CAST(e.value ->> 3 AS BIGINT), ",
                blob!("4"), ", ", blob!("5"), ", CAST(e.value ->> 6 AS BIGINT), e.value ->> 7, e.value ->> 8, ",
                "e.value ->> 9, e.value ->> 10, e.value ->> 11, CAST(e.value ->> 12 AS BIGINT), ",
                "CAST(e.value ->> 13 AS BIGINT), CAST(e.value ->> 14 AS BIGINT), CAST(e.value ->> 15 AS BIGINT), ",
                "CAST(e.value ->> 16 AS BIGINT), CAST(e.value ->> 17 AS BIGINT), CAST(e.value ->> 18 AS BIGINT) FROM ",
                each!("1"), " AS e WHERE true ON CONFLICT (source_system, source_call_id) DO UPDATE SET ",
                "revision = excluded.revision, digest = excluded.digest, parties = excluded.parties, ",
                "direction = excluded.direction, dialled = excluded.dialled, queue = excluded.queue, ",
                "skill = excluded.skill, campaign = excluded.campaign, contact_list = excluded.contact_list, ",
                "started_at = excluded.started_at, rung_at = excluded.rung_at, answered_at = excluded.answered_at, ",
                "ended_at = excluded.ended_at, holds = excluded.holds, held_for = excluded.held_for, ",
                "disposition = excluded.disposition WHERE call_leg.call = excluded.call"
            },
            rows,
        )
        .await
    }

    async fn insert_parties(&mut self, parties: &[Party]) -> Result<()> {
        if parties.is_empty() {
            return Ok(());
        }
        self.run(
            concat! {
                "INSERT INTO call_party (call, party, role, subject, candidates) SELECT ", blob!("0"),
                ", CAST(e.value ->> 1 AS BIGINT), CAST(e.value ->> 2 AS BIGINT), ", blob!("3"), ", ", blob!("4"), " FROM ",
                each!("1"), " AS e"
            },
            party_rows(parties),
        )
        .await?;
        Ok(())
    }

    async fn calls_with(&mut self, subject: SubjectId) -> Result<Vec<CallId>> {
        let rows = sqlx::query("SELECT DISTINCT p.call FROM call_party p WHERE p.subject = $1 ORDER BY p.call")
            .bind(subject.as_bytes().as_slice())
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(|row| Ok(CallId::from_bytes(Columns::of(row).bytes("call_party", "call")?))).collect()
    }

    async fn give_parties(&mut self, from: SubjectId, to: SubjectId) -> Result<()> {
        sqlx::query("UPDATE call_party SET subject = $2, candidates = $3 WHERE subject = $1")
            .bind(from.as_bytes().as_slice())
            .bind(to.as_bytes().as_slice())
            .bind(Vec::<u8>::new())
            .execute(self.connection())
            .await
            .map_err(failed)?;
        Ok(())
    }

    async fn put_parties(&mut self, parties: &[Party]) -> Result<()> {
        self.run(
            concat! {
                "UPDATE call_party SET subject = ", blob!("3"), ", candidates = ", blob!("4"), " FROM ", each!("1"),
                " AS e WHERE call_party.call = ", blob!("0"), " AND call_party.party = CAST(e.value ->> 1 AS BIGINT)"
            },
            party_rows(parties),
        )
        .await?;
        Ok(())
    }

    async fn put_party_values(&mut self, values: &[PartyValue]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let mut rows = Rows::new();
        for value in values {
            rows.row()
                .blob(value.call.as_bytes())
                .number(value.party.into())
                .number(value.field.number().into())
                .blob(value.token.as_bytes());
        }
        self.run(
            concat! {
                "INSERT INTO call_value (call, party, field, token) SELECT ", blob!("0"),
                ", CAST(e.value ->> 1 AS BIGINT), CAST(e.value ->> 2 AS BIGINT), ", blob!("3"), " FROM ", each!("1"),
                " AS e WHERE true ON CONFLICT (call, party, field) DO UPDATE SET token = excluded.token"
            },
            rows,
        )
        .await?;
        Ok(())
    }

    async fn list_calls(&mut self, filter: &CallFilter, after: Option<CallId>, limit: u32) -> Result<Vec<Call>> {
        // Each lists by an index of its own.
        let statement = match (filter.subject, &filter.queue) {
            (Some(_), _) => concat! {
                "SELECT ", call_columns!(), " FROM call c WHERE c.id IN (SELECT p.call FROM call_party p ",
                "WHERE p.subject = $4 AND p.call > $1 AND ($5 = 0 OR p.role IN (2, 3, 4))) AND c.started_at >= $2 ",
                "AND c.started_at < $3 AND ($6 = '' OR EXISTS (SELECT 1 FROM call_leg l WHERE l.call = c.id AND l.queue = $6))",
                card_findings!(), " ORDER BY c.id LIMIT $7"
            },
            (None, Some(_)) => concat! {
                "SELECT ", call_columns!(), " FROM call c WHERE c.id IN (SELECT l.call FROM call_leg l ",
                "WHERE l.queue = $6 AND l.call > $1) AND c.started_at >= $2 AND c.started_at < $3 AND $4 = $4 AND $5 = $5",
                card_findings!(), " ORDER BY c.id LIMIT $7"
            },
            (None, None) => concat! {
                "SELECT ", call_columns!(), " FROM call c WHERE c.id > $1 AND c.started_at >= $2 AND c.started_at < $3 ",
                "AND $4 = $4 AND $5 = $5 AND $6 = $6", card_findings!(), " ORDER BY c.id LIMIT $7"
            },
        };
        let rows = sqlx::query(statement)
            .bind(after.map(|id| id.as_bytes().to_vec()).unwrap_or_default())
            .bind(filter.from.map_or(i64::MIN, Time::micros))
            .bind(filter.until.map_or(i64::MAX, Time::micros))
            .bind(filter.subject.map(|id| id.as_bytes().to_vec()).unwrap_or_default())
            .bind(i64::from(filter.served))
            .bind(filter.queue.clone().unwrap_or_default())
            .bind(i64::from(limit))
            .bind(i64::from(filter.paid_unpaused))
            .bind(filter.paused_longer.map_or(0, |pause| i64::try_from(pause.as_micros()).unwrap_or(i64::MAX)))
            .fetch_all(self.connection())
            .await
            .map_err(failed)?;
        rows.iter().map(call).collect()
    }
}

fn pairs(names: &[(&str, &str)]) -> Rows {
    let mut rows = Rows::new();
    for (system, name) in names {
        rows.row().text(system).text(name);
    }
    rows
}

fn party_rows(parties: &[Party]) -> Rows {
    let mut rows = Rows::new();
    for party in parties {
        rows.row()
            .blob(party.call.as_bytes())
            .number(party.number.into())
            .number(party.role.number().into())
            .blob(party.subject.as_bytes())
            .blob(&party.candidates.iter().flat_map(|id| *id.as_bytes()).collect::<Vec<u8>>());
    }
    rows
}

fn encode(rows: &mut Rows, leg: &Leg) {
    let facts = &leg.facts;
    rows.row()
        .text(&leg.system)
        .text(&leg.source_id)
        .blob(leg.call.as_bytes())
        .number(leg.revision.cast_signed())
        .maybe_blob(leg.digest.as_ref().map(|row| row.as_bytes().as_slice()))
        .blob(&leg.parties)
        .number(facts.direction.number().into())
        .text(&facts.dialled)
        .text(&facts.queue)
        .text(&facts.skill)
        .text(&facts.campaign)
        .text(&facts.contact_list)
        .number(facts.started_at.micros())
        .maybe_number(facts.rung_at.map(Time::micros))
        .maybe_number(facts.answered_at.map(Time::micros))
        .maybe_number(facts.ended_at.map(Time::micros))
        .number(facts.holds.into())
        .number(facts.held_for.into())
        .number(facts.disposition.map_or(0, Disposition::number).into());
}

fn call(row: &Row) -> Result<Call> {
    let mut columns = Columns::of(row);
    Ok(Call {
        id: CallId::from_bytes(columns.bytes("call", "id")?),
        system: columns.take()?,
        group: columns.take()?,
        started_at: columns.time()?,
        ended_at: columns.maybe_time()?,
        version: columns.unsigned("call", "version")?,
        created_at: columns.time()?,
    })
}

fn leg(row: &Row) -> Result<Leg> {
    let wrong = |column: &'static str| move || inconsistent("call_leg", column);
    let mut columns = Columns::of(row);
    Ok(Leg {
        call: CallId::from_bytes(columns.bytes("call_leg", "call")?),
        system: columns.take()?,
        source_id: columns.take()?,
        revision: columns.unsigned("call_leg", "revision")?,
        digest: columns.maybe_bytes("call_leg", "digest")?.map(TokenRow::from_bytes),
        parties: columns.take()?,
        facts: LegFacts {
            direction: Direction::from_number(columns.unsigned("call_leg", "direction")?)
                .ok_or_else(wrong("direction"))?,
            dialled: columns.take()?,
            queue: columns.take()?,
            skill: columns.take()?,
            campaign: columns.take()?,
            contact_list: columns.take()?,
            started_at: columns.time()?,
            rung_at: columns.maybe_time()?,
            answered_at: columns.maybe_time()?,
            ended_at: columns.maybe_time()?,
            holds: columns.unsigned("call_leg", "holds")?,
            held_for: columns.unsigned("call_leg", "held_for")?,
            disposition: Disposition::from_number(columns.unsigned("call_leg", "disposition")?),
        },
    })
}

fn party(row: &Row) -> Result<Party> {
    let wrong = |column: &'static str| move || inconsistent("call_party", column);
    let mut columns = Columns::of(row);
    let call = CallId::from_bytes(columns.bytes("call_party", "call")?);
    let number = columns.unsigned("call_party", "party")?;
    let role = PartyRole::from_number(columns.unsigned("call_party", "role")?).ok_or_else(wrong("role"))?;
    let subject = SubjectId::from_bytes(columns.bytes("call_party", "subject")?);
    let candidates: Vec<u8> = columns.take()?;
    let candidates = candidates.chunks(16).map(SubjectId::from_slice).collect::<Option<_>>();
    Ok(Party { call, number, role, subject, candidates: candidates.ok_or_else(wrong("candidates"))? })
}

fn value(row: &Row) -> Result<PartyValue> {
    let mut columns = Columns::of(row);
    Ok(PartyValue {
        call: CallId::from_bytes(columns.bytes("call_value", "call")?),
        party: columns.unsigned("call_value", "party")?,
        field: CallField::from_number(columns.unsigned("call_value", "field")?)
            .ok_or_else(|| inconsistent("call_value", "field"))?,
        token: TokenRow::from_bytes(columns.bytes("call_value", "token")?),
    })
}
