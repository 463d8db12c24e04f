//! Entries with the field names of the Elastic Common Schema (ECS 8), for whatever collects logs elsewhere. What the schema has no
//! name for is under `lacuna`.

use serde_json::{Value, json};

use super::super::print;
use super::touched_json;
use crate::proto::v1;

/// The version of the schema.
const VERSION: &str = "8.11.0";

/// Rpcs that only read.
const READING: [&str; 9] = ["Get", "List", "Find", "Check", "BatchCheck", "Verify", "Prove", "Watch", "Detokenize"];

/// An entry.
pub fn ecs(entry: &v1::AuditEntry) -> Value {
    let refused = !entry.refused.is_empty();
    let kind = if refused {
        "denied"
    } else if READING.iter().any(|prefix| entry.rpc.starts_with(prefix)) {
        "access"
    } else {
        "change"
    };
    let mut event = json!({
        "kind": "event",
        "category": ["database"],
        "type": [kind],
        "action": entry.rpc,
        "outcome": if refused { "failure" } else { "success" },
        "id": entry.entry,
        "module": "lacuna",
        "dataset": "lacuna.audit",
    });
    if let Some(event) = event.as_object_mut().filter(|_| refused) {
        event.insert("reason".to_owned(), json!(entry.refused));
    }
    let touched: Vec<Value> = entry.touched.iter().map(touched_json).collect();
    let mut subjects: Vec<&str> = entry.touched.iter().map(|one| one.subject.as_str()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    json!({
        "@timestamp": print::time(entry.time),
        "ecs": { "version": VERSION },
        "event": event,
        "user": { "name": entry.caller },
        "service": { "name": "lacuna", "node": { "name": entry.node } },
        "http": { "request": { "id": entry.request_id } },
        "lacuna": {
            "purpose": entry.purpose,
            "redaction": entry.redaction,
            "justification": entry.justification,
            "approval": entry.approval,
            "subjects": subjects,
            "touched": touched,
            "unknown_tokens": entry.unknown_tokens,
        },
    })
}
