//! Keys, rotations and verdicts, for people and for programs.

use serde_json::{Value, json};

use crate::cli::failure::Result;
use crate::cli::print::{Answer, enum_name, time};
use crate::cli::table::{self, record, short};
use crate::keys::status::{Copy, Status};
use crate::proto::v1;

/// How the keys of a vault on this machine are; failed when a copy of them lags behind.
pub fn status(found: &Status) -> Result<Answer> {
    let mut lines = vec![
        ("epoch", found.epoch.to_string()),
        ("root id", found.root_id.clone()),
        ("leaves", format!("{} live, {} punctured", found.live_leaves, found.punctured_leaves)),
        ("key state", format!("{} pages, {} bytes", found.pages, found.bytes)),
        ("slot", found.slot.clone()),
        ("assurance", found.assurance.to_owned()),
        ("erasures pending", found.erasures_pending.to_string()),
    ];
    let tell = |copy: &Copy| tell_copy(&copy.place, copy.epoch, copy.trouble.as_deref());
    lines.extend(found.copies.iter().map(|copy| ("slot copy", tell(copy))));
    lines.extend(found.sinks.iter().map(|sink| ("sink", tell(sink))));
    let json = serde_json::to_value(found).map_err(anyhow::Error::from)?;
    let lags = |copy: &Copy| copy.trouble.is_some() || copy.epoch.is_none_or(|epoch| epoch < found.epoch);
    let failed = found.copies.iter().chain(&found.sinks).any(lags);
    Ok(Answer { json, human: record(&lines), failed })
}

/// The same as a running vault tells it.
pub fn told_status(found: &v1::KeyStatus) -> Answer {
    let assurance = enum_name(found.assurance, v1::ErasureAssurance::as_str_name);
    let mut lines = vec![
        ("epoch", found.epoch.to_string()),
        ("root id", found.root_id.clone()),
        ("leaves", format!("{} live, {} punctured", found.live_leaves, found.punctured_leaves)),
        ("key state", format!("{} pages, {} bytes", found.pages, found.bytes)),
        ("slot", found.slot.clone()),
        ("wrapped by", found.kek.clone()),
        ("assurance", short(&assurance, "ERASURE_ASSURANCE_").to_uppercase()),
        ("receipts are signed by", found.signing_public_key.clone()),
        ("erasures pending", found.erasures_pending.to_string()),
    ];
    let tell = |copy: &v1::KeyCopy| {
        tell_copy(&copy.place, copy.epoch, Some(copy.trouble.as_str()).filter(|trouble| !trouble.is_empty()))
    };
    lines.extend(found.slot_copies.iter().map(|copy| ("slot copy", tell(copy))));
    lines.extend(found.sinks.iter().map(|sink| ("sink", tell(sink))));
    for node in &found.nodes {
        lines.push(("node", format!("{} on {} at epoch {}", node.node, node.host, node.applied_epoch)));
    }
    for rotation in &found.rotations {
        lines.push(("rotation", format!("{} of {}", rotation.rotation, kind(rotation.kind))));
    }
    let copy = |copy: &v1::KeyCopy| json!({ "place": copy.place, "epoch": copy.epoch, "trouble": copy.trouble });
    let node = |node: &v1::KeyNode| {
        json!({
            "node": node.node,
            "host": node.host,
            "applied_epoch": node.applied_epoch,
            "seen_time": time(node.seen_time),
        })
    };
    let json = json!({ "status": {
        "epoch": found.epoch,
        "root_id": found.root_id,
        "tree": found.tree,
        "database_epoch": found.database_epoch,
        "live_leaves": found.live_leaves,
        "punctured_leaves": found.punctured_leaves,
        "pages": found.pages,
        "bytes": found.bytes,
        "slot": found.slot,
        "assurance": assurance,
        "slot_copies": found.slot_copies.iter().map(copy).collect::<Vec<_>>(),
        "sinks": found.sinks.iter().map(copy).collect::<Vec<_>>(),
        "erasures_pending": found.erasures_pending,
        "nodes": found.nodes.iter().map(node).collect::<Vec<_>>(),
        "kek": found.kek,
        "signing_public_key": found.signing_public_key,
        "rotations": found.rotations.iter().map(rotation_json).collect::<Vec<_>>(),
    } });
    let lags = |copy: &v1::KeyCopy| !copy.trouble.is_empty() || copy.epoch.is_none_or(|epoch| epoch < found.epoch);
    let failed = found.slot_copies.iter().chain(&found.sinks).any(lags);
    Answer { json, human: record(&lines), failed }
}

fn tell_copy(place: &str, epoch: Option<u64>, trouble: Option<&str>) -> String {
    match (epoch, trouble) {
        (Some(epoch), None) => format!("{place} at epoch {epoch}"),
        (Some(epoch), Some(trouble)) => format!("{place} at epoch {epoch}: {trouble}"),
        (None, trouble) => format!("{place}: {}", trouble.unwrap_or("unknown")),
    }
}

/// A rotation; failed when it was given up.
pub fn rotation(rotation: &v1::Rotation) -> Answer {
    let human = format!(
        "{}\n{}",
        record(&[
            ("rotation", rotation.rotation.clone()),
            ("of", kind(rotation.kind)),
            ("subject", rotation.subject.clone()),
            ("state", state(rotation.state)),
            ("done", format!("{} of {}", rotation.done, rotation.total)),
            ("asked by", rotation.requested_by.clone()),
            ("asked", table::time(rotation.create_time)),
            ("ended", table::time(rotation.finish_time)),
            ("detail", rotation.detail.clone()),
        ]),
        next_step(rotation)
    );
    let failed = rotation.state() == v1::RotationState::Failed;
    Answer { json: json!({ "rotation": rotation_json(rotation) }), human, failed }
}

fn next_step(rotation: &v1::Rotation) -> String {
    match rotation.state() {
        v1::RotationState::Running => {
            format!("It goes on by itself. Look again with: lacuna keys rotation {}", rotation.rotation)
        }
        v1::RotationState::Done => "The new key is in use, and the old one is destroyed.".to_owned(),
        v1::RotationState::Failed => "It was given up; nothing is lost. Ask again when the cause is gone.".to_owned(),
        v1::RotationState::Unspecified => String::new(),
    }
}

/// What a rotation would do.
pub fn planned(rotation: &v1::Rotation) -> Answer {
    let human = format!("It would take {} steps: {}. Nothing was changed.", rotation.total, rotation.detail);
    Answer::new(json!({ "rotation": rotation_json(rotation) }), human)
}

/// A rotation, as JSON.
pub fn rotation_json(rotation: &v1::Rotation) -> Value {
    json!({
        "rotation": rotation.rotation,
        "kind": enum_name(rotation.kind, v1::RotationKind::as_str_name),
        "subject": rotation.subject,
        "state": enum_name(rotation.state, v1::RotationState::as_str_name),
        "done": rotation.done,
        "total": rotation.total,
        "requested_by": rotation.requested_by,
        "create_time": time(rotation.create_time),
        "update_time": time(rotation.update_time),
        "finish_time": time(rotation.finish_time),
        "detail": rotation.detail,
    })
}

/// Rotations, one a row.
pub fn rotation_table(rotations: &[v1::Rotation]) -> String {
    let row = |rotation: &v1::Rotation| {
        vec![
            rotation.rotation.clone(),
            kind(rotation.kind),
            rotation.subject.clone(),
            state(rotation.state),
            format!("{}/{}", rotation.done, rotation.total),
            table::time(rotation.create_time),
            table::time(rotation.finish_time),
            rotation.detail.clone(),
        ]
    };
    let head = ["rotation", "of", "subject", "state", "done", "asked", "ended", "detail"];
    table::table(&head, rotations.iter().map(row))
}

/// An event, as JSON.
pub fn event_json(event: &v1::KeyEvent) -> Value {
    json!({
        "key_event": event.key_event,
        "time": time(event.time),
        "actor": event.actor,
        "kind": enum_name(event.kind, v1::KeyEventKind::as_str_name),
        "detail": event.detail,
    })
}

/// Events, one a row.
pub fn event_table(events: &[v1::KeyEvent]) -> String {
    let row = |event: &v1::KeyEvent| {
        let kind = short(&enum_name(event.kind, v1::KeyEventKind::as_str_name), "KEY_EVENT_KIND_").replace('_', " ");
        vec![table::time(event.time), kind, event.actor.clone(), event.detail.clone()]
    };
    table::table(&["time", "what", "by", "detail"], events.iter().map(row))
}

/// What was found of an erasure; failed when it does not hold.
pub fn verdict(response: &v1::VerifyErasureResponse) -> Answer {
    let row = |finding: &v1::ErasureFinding| {
        let passed = if finding.passed { "holds" } else { "FAILED" };
        vec![finding.check.clone(), passed.to_owned(), finding.detail.clone()]
    };
    let table = table::table(&["check", "verdict", "found"], response.findings.iter().map(row));
    let verdict = if response.holds { "The erasure holds." } else { "THE ERASURE DOES NOT HOLD." };
    let finding = |finding: &v1::ErasureFinding| json!({ "check": finding.check, "passed": finding.passed, "detail": finding.detail });
    let findings: Vec<_> = response.findings.iter().map(finding).collect();
    let json = json!({ "holds": response.holds, "findings": findings });
    Answer { json, human: format!("{table}\n\n{verdict}"), failed: !response.holds }
}

fn kind(number: i32) -> String {
    short(&enum_name(number, v1::RotationKind::as_str_name), "ROTATION_KIND_").replace('_', " ")
}

fn state(number: i32) -> String {
    short(&enum_name(number, v1::RotationState::as_str_name), "ROTATION_STATE_")
}
