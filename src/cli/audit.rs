//! `lacuna audit`: who did what, whether the log is as it was written, and who is affected by a breach. What needs no key works on
//! a copy of the database, too, with no vault running.

mod breach;
mod export;
mod source;

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};

use self::source::{Copy, Which};
use super::admin::read_public_keys;
use super::client::Remote;
use super::failure::{Failure, Result};
use super::page::Paging;
use super::print::{self, Answer, enum_name, rfc3339};
use super::table::{self, record, table};
use crate::proto::v1;
use crate::vault::audit::proof;

/// What can be done with the audit.
#[derive(Subcommand)]
pub enum Verb {
    /// See whether the log is as it was written, and name the first place that is not.
    #[command(
        after_help = "Example, offline:\n  lacuna audit verify --database sqlite:copy/vault.db --checkpoints /mnt/worm/audit \
                            --public-key receipt-signing.pub"
    )]
    Verify(Copy),
    /// List entries.
    #[command(
        after_help = "Example:\n  lacuna audit list --caller svc-7 --rpc Detokenize --since 2026-11-22T01:10:00Z"
    )]
    List {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        paging: Paging,
    },
    /// Write entries as JSON lines with the field names of the Elastic Common Schema.
    Export {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        copy: Copy,
    },
    /// Count whom and what some entries are about, and list the people.
    #[command(
        after_help = "Example:\n  lacuna audit affected --caller svc-7 --since 2026-11-22T01:10:00Z --until 2026-11-22T02:25:00Z"
    )]
    Affected {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        copy: Copy,
    },
    /// Write the skeleton of a notification to the authority (Art. 33(3) GDPR), with its 72 hours.
    Breach {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        copy: Copy,
        /// When you became aware of the breach; now unless given
        #[arg(long, value_name = "TIME", value_parser = super::value::time)]
        aware: Option<prost_types::Timestamp>,
    },
    /// Sign how far the log has come, and show the signed notes.
    Checkpoint {
        /// Of this node only
        #[arg(long, default_value = "", hide_default_value = true)]
        node: String,
    },
    /// Prove that an entry is in the log.
    Prove {
        /// The entry, as it is listed.
        entry: String,
        /// Where to write the proof; to standard output unless given
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Check a proof, offline.
    CheckProof {
        /// The file with the proof.
        proof: PathBuf,
        /// The file with the public keys of the vault, receipt-signing.pub in the slot's directory
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
    },
}

/// Carries out a verb.
pub async fn run(remote: Remote, verb: Verb) -> Result<()> {
    let remote = &remote;
    let answer = match verb {
        Verb::Verify(copy) => verified(&copy.source(remote).await?.verify(&copy).await?),
        Verb::List { which, paging } => list(remote, which, paging).await?,
        Verb::Export { which, copy } => {
            let source = copy.source(remote).await?;
            return source.each_entry(&which, |entry| print::line(&export::ecs(entry).to_string())).await;
        }
        Verb::Affected { which, copy } => {
            let found = copy.source(remote).await?.affected(&which).await?;
            Answer::new(affected_json(&found), affected(&found))
        }
        Verb::Breach { which, copy, aware } => {
            let found = copy.source(remote).await?.affected(&which).await?;
            breach::report(&which, &found, aware)
        }
        Verb::Checkpoint { node } => checkpoint(remote, node).await?,
        Verb::Prove { entry, file } => prove(remote, entry, file).await?,
        Verb::CheckProof { proof, public_key } => check_proof(&proof, &public_key)?,
    };
    remote.output.show(&answer)
}

async fn list(remote: &Remote, which: Which, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let filter = which.filter();
    let page = async |page_size, page_token| {
        let request = v1::ListAuditEntriesRequest { filter: Some(filter.clone()), page_size, page_token };
        let response = vault.audits.list_audit_entries(request).await?.into_inner();
        Ok((response.entries, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let entries: Vec<Value> = listed.entries.iter().map(entry_json).collect();
    let json = json!({ "entries": entries, "next_page_token": listed.next_page_token });
    let rows = |entries: &[v1::AuditEntry]| {
        let row = |entry: &v1::AuditEntry| {
            let touched = match entry.touched.as_slice() {
                [] => String::new(),
                [one] => format!("{} {}", one.subject, one.outcome),
                [one, rest @ ..] => format!("{} {}, {} more", one.subject, one.outcome, rest.len()),
            };
            let told = if entry.refused.is_empty() { touched } else { format!("refused: {} {touched}", entry.refused) };
            vec![
                table::time(entry.time),
                entry.caller.clone(),
                entry.rpc.clone(),
                entry.purpose.clone(),
                told,
                entry.entry.clone(),
            ]
        };
        table(&["time", "caller", "rpc", "purpose", "what", "entry"], entries.iter().map(row))
    };
    Ok(Answer::new(json, listed.human("entry", rows)))
}

fn entry_json(entry: &v1::AuditEntry) -> Value {
    json!({
        "entry": entry.entry,
        "time": print::time(entry.time),
        "node": entry.node,
        "request_id": entry.request_id,
        "caller": entry.caller,
        "rpc": entry.rpc,
        "purpose": entry.purpose,
        "redaction": entry.redaction,
        "justification": entry.justification,
        "approval": entry.approval,
        "refused": entry.refused,
        "touched": entry.touched.iter().map(touched_json).collect::<Vec<_>>(),
        "unknown_tokens": entry.unknown_tokens,
    })
}

fn touched_json(one: &v1::AuditTouched) -> Value {
    json!({
        "subject": one.subject,
        "row": one.row,
        "type": enum_name(one.r#type, v1::FieldType::as_str_name),
        "jurisdiction": one.jurisdiction,
        "special_category": one.special_category,
        "outcome": one.outcome,
        "count": one.count,
        "shown": one.shown,
    })
}

fn verified(found: &v1::VerifyAuditChainResponse) -> Answer {
    let faults: Vec<Value> = found
        .faults
        .iter()
        .map(|fault| {
            json!({
                "node": fault.node, "batch": fault.batch, "entry": fault.entry, "kind": fault.kind, "detail": fault.detail,
            })
        })
        .collect();
    let word = match (found.intact, found.faults.is_empty()) {
        (true, _) => "INTACT",
        (false, true) => "NOT PROVEN",
        (false, false) => "NOT INTACT",
    };
    let count = |number: u64, noun| table::count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    let mut lines = vec![
        (word, "the log of who did what".to_owned()),
        (
            "entries",
            format!("{} in {} of {}", found.entries, count(found.batches, "batch"), count(found.chains, "chain")),
        ),
        (
            "checkpoints",
            format!("{} agree; {} came after the last", found.checkpoints, count(found.unvouched_batches, "batch")),
        ),
    ];
    lines.extend(found.faults.iter().map(|fault| ("first fault", fault.detail.clone())));
    lines.extend(found.troubles.iter().map(|trouble| ("trouble", trouble.clone())));
    let json = json!({
        "intact": found.intact,
        "chains": found.chains,
        "batches": found.batches,
        "entries": found.entries,
        "checkpoints": found.checkpoints,
        "unvouched_batches": found.unvouched_batches,
        "faults": faults,
        "troubles": found.troubles,
    });
    Answer { json, human: record(&lines), failed: !found.intact }
}

/// The counts as JSON.
fn affected_json(found: &v1::ListAffectedSubjectsResponse) -> Value {
    let counts = |counts: &[v1::AffectedCount]| -> Value {
        counts.iter().map(|count| (count.key.clone(), json!(count.subjects))).collect::<serde_json::Map<_, _>>().into()
    };
    let kind = |number| enum_name(number, v1::FieldType::as_str_name);
    json!({
        "entries": found.entries,
        "subjects": found.subjects,
        "erased": found.erased,
        "special_category_subjects": found.special_category_subjects,
        "reveals": found.reveals,
        "described_subjects": found.described_subjects,
        "changed_subjects": found.changed_subjects,
        "categories": found.categories.iter().map(|category| json!({
            "type": kind(category.r#type),
            "subjects": category.subjects,
            "values": category.values,
            "reveals": category.reveals,
            "special_category_values": category.special_category_values,
        })).collect::<Vec<_>>(),
        "jurisdictions": counts(&found.jurisdictions),
        "purposes": counts(&found.purposes),
        "redactions": counts(&found.redactions),
        "first_time": print::time(found.first_time),
        "last_time": print::time(found.last_time),
        "affected_subjects": found.affected_subjects.iter().map(|person| json!({
            "subject": person.subject,
            "jurisdiction": person.jurisdiction,
            "types": person.types.iter().map(|number| kind(*number)).collect::<Vec<_>>(),
            "reveals": person.reveals,
            "lookups": person.lookups,
            "special_category": person.special_category,
            "first_time": print::time(person.first_time),
            "last_time": print::time(person.last_time),
            "erase_time": print::time(person.erase_time),
        })).collect::<Vec<_>>(),
    })
}

fn affected(found: &v1::ListAffectedSubjectsResponse) -> String {
    let rows = |person: &v1::AffectedSubject| {
        let types: Vec<String> = person.types.iter().map(|number| table::field_type(*number)).collect();
        vec![
            person.subject.clone(),
            person.jurisdiction.clone(),
            types.join(", "),
            person.reveals.to_string(),
            table::time(person.first_time),
            table::time(person.last_time),
            person.erase_time.as_ref().map(rfc3339).unwrap_or_default(),
        ]
    };
    let people = table(
        &["subject", "jurisdiction", "types", "reveals", "first", "last", "erased"],
        found.affected_subjects.iter().map(rows),
    );
    format!("{}\n\n{people}", record(&breach::counts(found)))
}

async fn checkpoint(remote: &Remote, node: String) -> Result<Answer> {
    let found = remote.open().await?.audits.get_checkpoint(v1::GetCheckpointRequest { node }).await?.into_inner();
    let json: Vec<Value> = found
        .checkpoints
        .iter()
        .map(|one| json!({ "node": one.node, "size": one.size, "time": print::time(one.time), "note": one.note }))
        .collect();
    let notes: Vec<&str> = found.checkpoints.iter().map(|one| one.note.as_str()).collect();
    Ok(Answer::new(json!({ "checkpoints": json }), notes.join("\n")))
}

async fn prove(remote: &Remote, entry: String, file: Option<PathBuf>) -> Result<Answer> {
    let request = v1::ProveAuditEntryRequest { entry };
    let proof = remote.open().await?.audits.prove_audit_entry(request).await?.into_inner().proof;
    let json: Value = serde_json::from_slice(&proof).context("the proof is no JSON").map_err(Failure::Usage)?;
    let Some(file) = file else { return Ok(Answer::new(json, String::from_utf8_lossy(&proof).into_owned())) };
    fs::write(&file, &proof).with_context(|| format!("cannot write {}", file.display()))?;
    let human = format!("{}: check it with `lacuna audit check-proof`", file.display());
    Ok(Answer::new(json!({ "file": file }), human))
}

fn check_proof(file: &std::path::Path, public_key: &std::path::Path) -> Result<Answer> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let proven = match proof::check(&bytes, &read_public_keys(public_key)?) {
        Ok(proven) => proven,
        Err(error) => {
            let json = json!({ "valid": false, "error": error.to_string() });
            return Ok(Answer { json, human: format!("NOT VALID: {error}"), failed: true });
        }
    };
    let (checkpoint, id) = (&proven.checkpoint, proven.id.to_string());
    let human = record(&[
        ("VALID", format!("the entry is in the log {}", checkpoint.origin())),
        ("entry", id.clone()),
        ("as of", format!("{}, when the log had {} batches", checkpoint.time, checkpoint.size)),
        ("it says", proven.line.clone()),
    ]);
    let entry: Value = serde_json::from_str(&proven.line).unwrap_or_default();
    let json = json!({
        "valid": true, "entry": id, "origin": checkpoint.origin(), "size": checkpoint.size,
        "time": checkpoint.time.to_string(), "says": entry,
    });
    Ok(Answer::new(json, human))
}
