//! `AuditService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::subject::subject_id;
use super::{answer, parse};
use crate::keys::checkpoint::{hex, unhex};
use crate::model::{Error, FieldType, Result, Time};
use crate::proto::v1;
use crate::proto::v1::audit_service_server::AuditService;
use crate::store::node::NodeId;
use crate::vault::Vault;
use crate::vault::audit::Touched;
use crate::vault::audit::affected::{Affected, Person};
use crate::vault::audit::list::{EntryId, Filter, Listed, Position, Told};
use crate::vault::audit::walk::{Fault, FaultKind, Verified};

/// How many affected people a page holds when nobody says, and at most.
const PEOPLE: (usize, usize) = (1000, 10_000);

/// The service.
pub struct Audits {
    vault: Arc<Vault>,
}

impl Audits {
    /// A door to this vault.
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    async fn filter(&self, ask: v1::AuditFilter) -> Result<Filter> {
        if ask.tokens.len() > crate::vault::token::MOST {
            return Err(Error::invalid("filter.tokens", "too many at once"));
        }
        let rows = self.vault.rows_of(&ask.tokens).await?;
        filter(ask, rows)
    }
}

/// Which entries are meant, when the rows of the tokens are known.
pub fn filter(ask: v1::AuditFilter, rows: Vec<String>) -> Result<Filter> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let kind = (ask.r#type != 0).then(|| parse::field_type(ask.r#type)).transpose();
    let subject = parse::optional(&ask.subject).map(subject_id).transpose();
    let time = |name, time: Option<prost_types::Timestamp>| time.map(|time| parse::time(name, time)).transpose();
    Ok(Filter {
        caller: given(ask.caller),
        rpc: given(ask.rpc),
        purpose: given(ask.purpose),
        rows,
        subject: subject.map_err(|error| error.within("filter"))?,
        kind: kind.map_err(|error| error.within("filter"))?,
        node: node("filter.node", &ask.node)?,
        request: given(ask.request_id),
        start: time("filter.start_time", ask.start_time)?,
        end: time("filter.end_time", ask.end_time)?,
        refused: ask.refused_only,
    })
}

fn node(field: &'static str, text: &str) -> Result<Option<NodeId>> {
    let refuse = || Error::invalid(field, "expected 32 digits in hexadecimal");
    parse::optional(text).map(|text| unhex(text).ok_or_else(refuse)).transpose()
}

#[tonic::async_trait]
impl AuditService for Audits {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        answer("ListAuditEntries", async {
            let ask = request.into_inner();
            let filter = self.filter(ask.filter.unwrap_or_default()).await?;
            let from = parse::page_token(&ask.page_token, Position::parse)?;
            let size = crate::vault::page_size(ask.page_size)?;
            let (entries, next) = self.vault.list_audit_entries(&filter, from, size).await?;
            Ok(v1::ListAuditEntriesResponse {
                entries: entries.iter().map(wire).collect::<Result<_>>()?,
                next_page_token: next.map(|next| next.to_string()).unwrap_or_default(),
            })
        })
        .await
    }

    async fn list_affected_subjects(
        &self,
        request: Request<v1::ListAffectedSubjectsRequest>,
    ) -> Result<Response<v1::ListAffectedSubjectsResponse>, Status> {
        answer("ListAffectedSubjects", async {
            let ask = request.into_inner();
            let filter = self.filter(ask.filter.unwrap_or_default()).await?;
            check_narrow(&filter)?;
            let size = match usize::try_from(ask.page_size) {
                Ok(0) => PEOPLE.0,
                Ok(size) => size.min(PEOPLE.1),
                Err(_) => return Err(Error::invalid("page_size", "must not be negative")),
            };
            let after = parse::page_token(&ask.page_token, subject_id)?;
            let affected = self.vault.list_affected_subjects(&filter).await?;
            let rest = affected.people.iter().filter(|person| after.is_none_or(|after| person.subject > after));
            let mut page: Vec<&Person> = rest.take(size + 1).collect();
            let more = page.len() > size;
            page.truncate(size);
            let next = page.last().filter(|_| more).map(|person| person.subject.to_string()).unwrap_or_default();
            let people = page.into_iter().map(wire_person).collect();
            Ok(v1::ListAffectedSubjectsResponse {
                affected_subjects: people,
                next_page_token: next,
                ..wire_affected(&affected)
            })
        })
        .await
    }

    async fn verify_audit_chain(
        &self,
        _: Request<v1::VerifyAuditChainRequest>,
    ) -> Result<Response<v1::VerifyAuditChainResponse>, Status> {
        answer("VerifyAuditChain", async { Ok(wire_verified(self.vault.verify_audit().await?)) }).await
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        answer("GetCheckpoint", async {
            let node = node("node", &request.into_inner().node)?;
            let signed = self.vault.checkpoint_audit().await?;
            let failed = signed.failed.into_iter().find(|(failed, _)| node == Some(*failed));
            if let Some((_, error)) = failed {
                return Err(error);
            }
            let checkpoints =
                self.vault.audit_checkpoints(node).await?.into_iter().map(|(checkpoint, note)| v1::Checkpoint {
                    node: hex(&checkpoint.node),
                    size: checkpoint.size,
                    time: Some(parse::wire_time(checkpoint.time)),
                    note,
                });
            Ok(v1::GetCheckpointResponse { checkpoints: checkpoints.collect() })
        })
        .await
    }

    async fn prove_audit_entry(
        &self,
        request: Request<v1::ProveAuditEntryRequest>,
    ) -> Result<Response<v1::ProveAuditEntryResponse>, Status> {
        answer("ProveAuditEntry", async {
            let id = EntryId::parse(&request.into_inner().entry)?;
            Ok(v1::ProveAuditEntryResponse { proof: self.vault.prove_audit_entry(id).await? })
        })
        .await
    }
}

/// Refuses to count everybody by mistake.
///
/// # Errors
/// `ValueInvalid`.
pub fn check_narrow(filter: &Filter) -> Result<()> {
    if filter.is_narrow() {
        return Ok(());
    }
    Err(Error::invalid("filter", "name a caller, tokens, a subject, a type, a node or a start time"))
}

/// An entry, on the wire.
///
/// # Errors
/// `Internal` when it makes no sense.
pub fn wire(listed: &Listed) -> Result<v1::AuditEntry> {
    let told = Told::parse(&listed.line)?;
    Ok(v1::AuditEntry {
        entry: listed.id.to_string(),
        time: Some(parse::wire_time(told.time()?)),
        node: hex(&listed.id.node),
        request_id: told.request.into_owned(),
        caller: told.caller.into_owned(),
        rpc: told.deed.into_owned(),
        purpose: told.purpose.into_owned(),
        redaction: told.redaction.into_owned(),
        justification: told.justification.into_owned(),
        refused: told.refused.unwrap_or_default().into_owned(),
        touched: told.touched.into_iter().map(wire_touched).collect(),
        unknown_tokens: told.unknown,
        line: listed.line.clone(),
    })
}

fn wire_touched(touched: Touched<'_>) -> v1::AuditTouched {
    let kind = FieldType::ALL.into_iter().find(|kind| kind.name() == touched.kind);
    v1::AuditTouched {
        subject: touched.subject.into_owned(),
        row: touched.row.into_owned(),
        r#type: kind.map_or(0, |kind| kind.number().into()),
        jurisdiction: touched.jurisdiction.into_owned(),
        special_category: touched.special,
        outcome: touched.outcome.into_owned(),
        count: touched.count,
        shown: touched.shown.into_owned(),
    }
}

/// The counts, on the wire.
#[must_use]
pub fn wire_affected(affected: &Affected) -> v1::ListAffectedSubjectsResponse {
    let counts = |counts: &std::collections::BTreeMap<String, u64>| {
        counts.iter().map(|(key, subjects)| v1::AffectedCount { key: key.clone(), subjects: *subjects }).collect()
    };
    v1::ListAffectedSubjectsResponse {
        entries: affected.entries,
        subjects: affected.people.len() as u64,
        erased: affected.erased(),
        special_category_subjects: affected.special(),
        reveals: affected.reveals,
        described_subjects: affected.described,
        changed_subjects: affected.changed,
        categories: affected
            .categories
            .iter()
            .map(|(kind, category)| v1::AffectedCategory {
                r#type: kind.number().into(),
                subjects: category.subjects,
                values: category.values,
                reveals: category.reveals,
                special_category_values: category.special,
            })
            .collect(),
        jurisdictions: counts(&affected.jurisdictions),
        purposes: counts(&affected.purposes),
        redactions: counts(&affected.redactions),
        first_time: affected.first.map(parse::wire_time),
        last_time: affected.last.map(parse::wire_time),
        ..Default::default()
    }
}

/// A person, on the wire.
#[must_use]
pub fn wire_person(person: &Person) -> v1::AffectedSubject {
    let time = |time: Time| Some(parse::wire_time(time));
    v1::AffectedSubject {
        subject: person.subject.to_string(),
        jurisdiction: person.jurisdiction.clone(),
        types: person.kinds().map(|kind| kind.number().into()).collect(),
        reveals: person.reveals,
        lookups: person.lookups,
        special_category: person.special,
        first_time: time(person.first),
        last_time: time(person.last),
        erase_time: person.erased_at.and_then(time),
    }
}

/// What a walk found, on the wire.
#[must_use]
pub fn wire_verified(verified: Verified) -> v1::VerifyAuditChainResponse {
    v1::VerifyAuditChainResponse {
        intact: verified.is_intact(),
        chains: verified.chains,
        batches: verified.batches,
        entries: verified.entries,
        checkpoints: verified.checkpoints,
        unvouched_batches: verified.unvouched,
        faults: verified.faults.iter().map(wire_fault).collect(),
        troubles: verified.troubles,
    }
}

fn wire_fault(fault: &Fault) -> v1::AuditFault {
    let kind = match fault.kind {
        FaultKind::Altered => "ALTERED",
        FaultKind::Missing => "MISSING",
        FaultKind::CutOff => "CUT_OFF",
        FaultKind::Rewritten => "REWRITTEN",
    };
    v1::AuditFault {
        node: hex(&fault.node),
        batch: fault.batch,
        entry: fault.entry.unwrap_or_default(),
        kind: kind.to_owned(),
        detail: fault.to_string(),
    }
}
