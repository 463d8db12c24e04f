//! The skeleton of a notification of a breach to the authority (Art. 33(3) GDPR): what the log can tell is filled in, what only
//! people know is asked for.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use super::super::print::{Answer, rfc3339};
use super::super::table;
use super::Which;
use super::affected_json;
use crate::model::{Clock as _, SystemClock, Time};
use crate::proto::v1;

/// How long the controller has (Art. 33(1)).
const CLOCK: Duration = Duration::from_hours(72);

/// What stands where only people know.
const ASK: &str = "_to be filled in_";

/// The counts, for people.
pub fn counts(found: &v1::ListAffectedSubjectsResponse) -> Vec<(&'static str, String)> {
    let by = |counts: &[v1::AffectedCount]| {
        let one = |count: &v1::AffectedCount| {
            format!("{} {}", if count.key.is_empty() { "unknown" } else { &count.key }, count.subjects)
        };
        counts.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    vec![
        ("people", format!("{}, of whom {} were erased since", found.subjects, found.erased)),
        ("special categories", format!("{} people", found.special_category_subjects)),
        ("reveals", format!("{} in {} entries", found.reveals, found.entries)),
        ("jurisdictions", by(&found.jurisdictions)),
        ("purposes", by(&found.purposes)),
        ("shown as", by(&found.redactions)),
        ("first", table::time(found.first_time)),
        ("last", table::time(found.last_time)),
        ("described without values", format!("{} people", found.described_subjects)),
        ("changed", format!("{} people", found.changed_subjects)),
    ]
}

/// The report in both forms.
pub fn report(
    which: &Which,
    found: &v1::ListAffectedSubjectsResponse,
    aware: Option<prost_types::Timestamp>,
) -> Answer {
    let now = SystemClock.now();
    let aware = aware
        .map_or(now, |time| Time::from_micros(time.seconds.saturating_mul(1_000_000) + i64::from(time.nanos / 1000)));
    let due = aware.plus(CLOCK);
    let left = due.micros().saturating_sub(now.micros()) / 3_600_000_000;
    let mut json = affected_json(found);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("article".to_owned(), json!("GDPR Art. 33(3)"));
        fields.insert("aware_time".to_owned(), json!(aware.to_string()));
        fields.insert("notify_by".to_owned(), json!(due.to_string()));
        fields.insert("hours_left".to_owned(), json!(left));
        for open in ["nature", "contact", "consequences", "measures"] {
            fields.insert(open.to_owned(), serde_json::Value::Null);
        }
    }
    Answer::new(json, markdown(which, found, aware, due, left))
}

fn markdown(which: &Which, found: &v1::ListAffectedSubjectsResponse, aware: Time, due: Time, left: i64) -> String {
    let mut text = format!(
        "# Notification of a personal data breach (Art. 33 GDPR)\n\n\
         - Became aware: {aware}\n- Notify the authority by: **{due}** (72 hours; {left} h left)\n- Contact (Art. 33(3)(b)): {ASK}\n\n\
         ## Nature of the breach (Art. 33(3)(a))\n\n{ASK}\n\n\
         Which entries of the audit log are counted: {}.\n\n| | |\n|---|---|\n",
        selection(which)
    );
    for (name, value) in counts(found) {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text.push_str("\n### Categories of data and approximate numbers\n\n| type | people | values | times shown | special category |\n|---|---|---|---|---|\n");
    for category in &found.categories {
        let (kind, special) = (table::field_type(category.r#type), category.special_category_values);
        let (people, values, reveals) = (category.subjects, category.values, category.reveals);
        let _ = writeln!(text, "| {kind} | {people} | {values} | {reveals} | {special} |");
    }
    let _ = write!(
        text,
        "\n## Likely consequences (Art. 33(3)(c))\n\n{ASK}\n\n## Measures taken or proposed (Art. 33(3)(d))\n\n{ASK}\n\n\
         ## Communication to the people (Art. 34)\n\n\
         {} people are to be judged; those who were erased since can no longer be reached through the vault. Values that the vault \
         did not show stayed encrypted, and the keys were not disclosed (Art. 34(3)(a)): {ASK}\n\n\
         If the authority is not notified by {due}, give the reasons for the delay (Art. 33(1)).\n",
        found.subjects
    );
    text
}

/// What was asked for, in words.
fn selection(which: &Which) -> String {
    let mut parts = Vec::new();
    let texts = [
        ("caller", &which.caller),
        ("rpc", &which.rpc),
        ("purpose", &which.purpose),
        ("node", &which.node),
        ("subject", &which.subject),
    ];
    parts.extend(texts.iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| format!("{name} {text}")));
    parts.extend(which.kind.map(|kind| format!("type {}", table::field_type(kind.into()))));
    if !which.token.is_empty() {
        parts.push(format!("{} tokens", which.token.len()));
    }
    parts.extend(which.since.as_ref().map(|time| format!("from {}", rfc3339(time))));
    parts.extend(which.until.as_ref().map(|time| format!("before {}", rfc3339(time))));
    parts.join(", ")
}
