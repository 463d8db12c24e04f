//! Proofs and receipts of consents: fetched, and checked without a server.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use data_encoding::BASE64;
use prost_types::Timestamp;
use serde_json::json;

use super::About;
use crate::cli::admin::{read_public_keys, trust};
use crate::cli::client::Remote;
use crate::cli::failure::Result;
use crate::cli::print::{self, Answer};
use crate::cli::table::record;
use crate::keys::statement::{self, Statement, Verified};
use crate::model::Error;
use crate::proto::v1;
use crate::vault::consent::bundle::{self, Bundle};
use crate::vault::consent::receipt::Receipt;

/// How both are checked.
const CHECK: &str = "lacuna consent verify";

/// Fetches the proof of what was permitted at a moment.
pub async fn prove(remote: &Remote, about: About, at: Option<Timestamp>, file: Option<&Path>) -> Result<Answer> {
    let channel = about.channel();
    let request = v1::ProveConsentRequest { subject: about.subject, purpose: about.purpose, channel, at };
    let proof = remote.open().await?.consents.prove_consent(request).await?.into_inner();
    let human = print::signed(&proof.bundle, "proof", file, CHECK)?;
    Ok(Answer::new(json!({ "bundle": BASE64.encode(&proof.bundle), "json": proof.json }), human))
}

/// Fetches a receipt of a person's consents.
pub async fn receipt(remote: &Remote, subject: String, file: Option<&Path>) -> Result<Answer> {
    let request = v1::IssueReceiptRequest { subject };
    let issued = remote.open().await?.consents.issue_receipt(request).await?.into_inner();
    let human = print::signed(&issued.document, "receipt", file, CHECK)?;
    let document = BASE64.encode(&issued.document);
    Ok(Answer::new(json!({ "receipt": issued.receipt, "document": document, "json": issued.json }), human))
}

/// Checks a file with a proof or a receipt; of which keys one must have signed, `public_key` says.
pub fn check(file: &Path, public_key: Option<PathBuf>) -> Result<Answer> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let expected = public_key.map(|path| read_public_keys(&path)).transpose()?;
    Ok(verify(&bytes, expected.as_deref()).unwrap_or_else(|error| {
        let json = json!({ "valid": false, "error": error.to_string() });
        Answer { json, human: format!("NOT VALID: {error}"), failed: true }
    }))
}

fn verify(bytes: &[u8], expected: Option<&[Vec<u8>]>) -> crate::model::Result<Answer> {
    if statement::payload_type(bytes)? == Receipt::TYPE {
        let verified: Verified<Receipt> = statement::verify(bytes, expected)?;
        let text = |name| verified.statement.0.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        let lines = [("receipt", text("dct:identifier").to_owned()), ("issued", text("dct:created").to_owned())];
        return show(&verified, &lines);
    }
    let verified = bundle::verify(bytes, expected)?;
    let Bundle { decision, trace, .. } = &verified.statement;
    let answer = if decision.allowed { "ALLOWED".to_owned() } else { format!("DENIED, {}", decision.reason) };
    let rules: Vec<&str> = trace.steps.iter().map(|step| step.rule.as_str()).collect();
    let lines = [
        ("subject", verified.statement.subject.to_string()),
        ("purpose", format!("{}, version {}", verified.statement.purpose, decision.purpose_version)),
        ("at", verified.statement.at.to_string()),
        ("decision", answer),
        ("by the event", decision.evidence_event.clone()),
        ("looked at", rules.join(", ")),
        ("events", format!("{} counted of {} in the chain", trace.events.len(), verified.statement.chain.len())),
        ("as known on", verified.statement.issue_time.to_string()),
    ];
    show(&verified, &lines)
}

fn show<T: Statement>(verified: &Verified<T>, lines: &[(&str, String)]) -> crate::model::Result<Answer> {
    let key = verified.statement.public_key();
    let mut all = vec![("VALID", trust(verified.signed_by, key))];
    all.extend_from_slice(lines);
    let statement: serde_json::Value = serde_json::from_str(&verified.json).map_err(Error::internal)?;
    let json = json!({
        "valid": true,
        "trusted": verified.signed_by.is_some(),
        "signed_by": key,
        "statement": statement,
    });
    Ok(Answer::new(json, record(&all)))
}
