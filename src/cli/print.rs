//! Answers out: one JSON document with the names of the API, or text for people.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::failure::{Failure, Refusal, Result};
use crate::proto::v1;

/// How an answer is shown.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// Tables and sentences for people.
    Human,
    /// One JSON document, with the field names of the API.
    Json,
}

/// An answer in both forms.
pub struct Answer {
    /// The response message: names as in the API, enums by name, times as RFC 3339, bytes as base64.
    pub json: Value,
    /// The same for people.
    pub human: String,
    /// Whether an item of the answer is an error.
    pub failed: bool,
}

impl Answer {
    /// An answer without failed items.
    pub const fn new(json: Value, human: String) -> Self {
        Self { json, human, failed: false }
    }
}

impl Output {
    /// Shows an answer.
    pub fn show(self, answer: &Answer) -> Result<()> {
        match self {
            Self::Human => line(answer.human.trim_end())?,
            Self::Json => line(&answer.json.to_string())?,
        }
        if answer.failed { Err(Failure::Told(1)) } else { Ok(()) }
    }

    /// Tells what went wrong, if anything did: people on standard error, programs in the one document they read.
    pub fn finish(self, result: Result<()>) -> ExitCode {
        let Err(failure) = result else { return ExitCode::SUCCESS };
        match (self, failure.refusal()) {
            (_, None) => {}
            (Self::Human, Some(refusal)) => eprintln!("error: {refusal}"),
            (Self::Json, Some(refusal)) => {
                // Standard output may be closed; the exit status still tells.
                let _ = line(&json!({ "error": refusal.json() }).to_string());
            }
        }
        ExitCode::from(failure.exit_status())
    }
}

/// Writes one line to standard output; a closed pipe is an error, not a panic.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("cannot write to standard output")?;
    Ok(())
}

/// Writes what somebody signed to a file, byte by byte, and says how to check it; without a file it is the answer.
pub fn signed(bytes: &[u8], noun: &str, file: Option<&std::path::Path>, check: &str) -> Result<String> {
    let Some(file) = file else { return Ok(String::from_utf8_lossy(bytes).into_owned()) };
    let name = file.display();
    std::fs::write(file, bytes).with_context(|| format!("cannot write the {noun} to {name}"))?;
    Ok(format!("The {noun} is in {name}. Check it, on any machine, with: {check} {name}"))
}

/// Writes several lines.
pub fn lines(texts: &[String]) -> Result<()> {
    texts.iter().try_for_each(|text| line(text))
}

/// A token, as JSON.
pub fn token(token: &v1::Token) -> Value {
    json!({
        "token": token.token,
        "subject": token.subject,
        "type": enum_name(token.r#type, v1::FieldType::as_str_name),
        "format": enum_name(token.format, v1::TokenFormat::as_str_name),
        "retention_class": token.retention_class,
        "state": enum_name(token.state, v1::TokenState::as_str_name),
        "create_time": time(token.create_time),
        "expire_time": time(token.expire_time),
        "tags": token.tags,
        "source": token.source,
        "etag": token.etag,
        "single_use": token.single_use,
    })
}

/// What Tokenize answers, as JSON.
pub fn tokenized(response: &v1::TokenizeResponse) -> Value {
    let tokens: Vec<_> = response.tokens.iter().map(token).collect();
    json!({ "subject": response.subject, "tokens": tokens, "suppressed": response.suppressed })
}

/// One outcome of Detokenize, as JSON.
pub fn revealed(result: &v1::DetokenizeResult) -> Value {
    use v1::detokenize_result::Outcome;
    let (name, outcome) = match &result.outcome {
        Some(Outcome::Value(value)) => ("value", json!(value)),
        Some(Outcome::BytesValue(bytes)) => ("bytes_value", json!(BASE64.encode(bytes))),
        Some(Outcome::Error(error)) => ("error", Refusal::of_item(error).json()),
        None => ("value", Value::Null),
    };
    json!({
        "token": result.token,
        name: outcome,
        "type": enum_name(result.r#type, v1::FieldType::as_str_name),
        "subject": result.subject,
    })
}

/// A subject, as JSON.
pub fn subject(subject: &v1::Subject) -> Value {
    json!({
        "subject": subject.subject,
        "kind": subject.kind,
        "jurisdiction": subject.jurisdiction,
        "source": subject.source,
        "state": enum_name(subject.state, v1::SubjectState::as_str_name),
        "restriction_ground": subject.restriction_ground,
        "restrict_time": time(subject.restrict_time),
        "profiling": subject.profiling,
        "create_time": time(subject.create_time),
        "erasure": subject.erasure,
        "erase_time": time(subject.erase_time),
        "etag": subject.etag,
    })
}

/// An erasure, as JSON.
pub fn erasure(erasure: &v1::Erasure) -> Value {
    json!({
        "erasure": erasure.erasure,
        "subject": erasure.subject,
        "state": enum_name(erasure.state, v1::ErasureState::as_str_name),
        "reason": erasure.reason,
        "plan": erasure.plan.iter().map(plan_item).collect::<Vec<_>>(),
        "create_time": time(erasure.create_time),
        "execute_time": time(erasure.execute_time),
        "erase_time": time(erasure.erase_time),
        "pending_reason": erasure.pending_reason,
        "receipt": BASE64.encode(&erasure.receipt),
        "assurance": enum_name(erasure.assurance, v1::ErasureAssurance::as_str_name),
    })
}

fn plan_item(item: &v1::ErasurePlanItem) -> Value {
    json!({
        "element": item.element,
        "retention_class": item.retention_class,
        "verdict": item.verdict,
        "count": item.count,
        "end_time": time(item.end_time),
        "reason": item.reason,
    })
}

/// A time as RFC 3339; null when absent.
pub fn time(time: Option<prost_types::Timestamp>) -> Value {
    time.map_or(Value::Null, |time| json!(rfc3339(&time)))
}

/// A length of time as Protocol Buffers write it in JSON, `86400s`; null when absent.
pub fn duration(duration: Option<prost_types::Duration>) -> Value {
    duration.map_or(Value::Null, |duration| json!(format!("{}s", duration.seconds)))
}

/// A time as RFC 3339.
pub fn rfc3339(time: &prost_types::Timestamp) -> String {
    jiff::Timestamp::new(time.seconds, time.nanos)
        .map_or_else(|_| format!("{}s after 1970", time.seconds), |moment| moment.to_string())
}

/// An enum's full name; its number when this program is older than the vault.
pub fn enum_name<E: TryFrom<i32>>(number: i32, name: fn(&E) -> &'static str) -> Value {
    E::try_from(number).map_or_else(|_| json!(number), |known| json!(name(&known)))
}
