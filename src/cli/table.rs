//! Answers for people: tables, and sentences that tell the next step.

use std::fmt::Write as _;

use comfy_table::{Table, TableComponent, presets};

use super::failure::Refusal;
use super::print::{enum_name, rfc3339};
use crate::proto::v1;

/// A table with a line under its head and nothing that disturbs copying.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(head.to_vec());
    table.add_rows(rows);
    table.trim_fmt()
}

/// Names and values below each other; what is empty is left out.
pub fn record(entries: &[(&str, String)]) -> String {
    let width = entries.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let present = entries.iter().filter(|(_, value)| !value.is_empty());
    present.fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:width$}  {value}");
        text
    })
}

/// Tokens, one a row.
pub fn tokens(tokens: &[v1::Token]) -> String {
    let head = ["token", "type", "state", "class", "source", "created", "expires"];
    table(
        &head,
        tokens.iter().map(|token| {
            vec![
                token.token.clone(),
                field_type(token.r#type),
                token_state(token.state),
                token.retention_class.clone(),
                token.source.clone(),
                time(token.create_time),
                time(token.expire_time),
            ]
        }),
    )
}

/// One token, in full.
pub fn token(token: &v1::Token) -> String {
    record(&[
        ("token", token.token.clone()),
        ("subject", token.subject.clone()),
        ("type", field_type(token.r#type)),
        ("format", short(&enum_name(token.format, v1::TokenFormat::as_str_name), "TOKEN_FORMAT_")),
        ("class", token.retention_class.clone()),
        ("state", token_state(token.state)),
        ("source", token.source.clone()),
        ("tags", token.tags.join(", ")),
        ("created", time(token.create_time)),
        ("expires", time(token.expire_time)),
        ("single use", if token.single_use { "yes".to_owned() } else { String::new() }),
        ("etag", token.etag.clone()),
    ])
}

/// Revealed values, one a row, with the reason in place of a value that is refused.
pub fn revealed(results: &[v1::DetokenizeResult]) -> String {
    table(
        &["token", "type", "value"],
        results.iter().map(|result| vec![result.token.clone(), field_type(result.r#type), outcome(result)]),
    )
}

/// A revealed value, safe for a terminal; or why there is none.
pub fn outcome(result: &v1::DetokenizeResult) -> String {
    use v1::detokenize_result::Outcome;
    match &result.outcome {
        Some(Outcome::Value(value)) => printable(value),
        Some(Outcome::BytesValue(bytes)) => data_encoding::BASE64.encode(bytes),
        Some(Outcome::Error(error)) => format!("— {}", Refusal::of_item(error).brief()),
        None => String::new(),
    }
}

/// Subjects, one a row.
pub fn subjects(subjects: &[v1::Subject]) -> String {
    let head = ["subject", "kind", "state", "source", "created", "erasure"];
    table(
        &head,
        subjects.iter().map(|subject| {
            vec![
                subject.subject.clone(),
                subject.kind.clone(),
                subject_state(subject.state),
                subject.source.clone(),
                time(subject.create_time),
                subject.erasure.clone(),
            ]
        }),
    )
}

/// One subject, in full.
pub fn subject(subject: &v1::Subject) -> String {
    record(&[
        ("subject", subject.subject.clone()),
        ("kind", subject.kind.clone()),
        ("jurisdiction", subject.jurisdiction.clone()),
        ("state", subject_state(subject.state)),
        ("ground", subject.restriction_ground.clone()),
        ("restricted", time(subject.restrict_time)),
        ("profiling", if subject.profiling { "on" } else { "off" }.to_owned()),
        ("source", subject.source.clone()),
        ("created", time(subject.create_time)),
        ("erasure", subject.erasure.clone()),
        ("erased", time(subject.erase_time)),
        ("etag", subject.etag.clone()),
    ])
}

/// Erasures, one a row.
pub fn erasures(erasures: &[v1::Erasure]) -> String {
    let head = ["erasure", "subject", "state", "reason", "asked", "due", "erased"];
    table(
        &head,
        erasures.iter().map(|erasure| {
            vec![
                erasure.erasure.clone(),
                erasure.subject.clone(),
                erasure_state(erasure.state),
                erasure.reason.clone(),
                time(erasure.create_time),
                time(erasure.execute_time),
                time(erasure.erase_time),
            ]
        }),
    )
}

/// One erasure, in full, with its plan.
pub fn erasure(erasure: &v1::Erasure) -> String {
    let assurance = short(&enum_name(erasure.assurance, v1::ErasureAssurance::as_str_name), "ERASURE_ASSURANCE_");
    let mut text = record(&[
        ("erasure", erasure.erasure.clone()),
        ("subject", erasure.subject.clone()),
        ("state", erasure_state(erasure.state)),
        ("reason", erasure.reason.clone()),
        ("asked", time(erasure.create_time)),
        ("due", time(erasure.execute_time)),
        ("erased", time(erasure.erase_time)),
        ("waits for", erasure.pending_reason.clone()),
        ("assurance", assurance),
    ]);
    if !erasure.plan.is_empty() {
        let rows = erasure.plan.iter().map(|item| {
            let (element, class, count) = (&item.element, &item.retention_class, item.count.to_string());
            let until = if item.reason.is_empty() { time(item.end_time) } else { item.reason.clone() };
            [element.clone(), class.clone(), String::new(), item.verdict.clone(), count, until]
        });
        let _ = write!(text, "\n{}\n", plan(rows.collect()));
    }
    text
}

/// What is destroyed and what is kept: of each row the part, the retention class, the month of the values, the verdict, how many, and until when
/// or why. Months are told where there are any.
pub fn plan(rows: Vec<[String; 6]>) -> String {
    let head = ["element", "class", "month", "verdict", "count", "until"];
    let months = rows.iter().any(|[_, _, month, ..]| !month.is_empty());
    let told = |[element, class, month, rest @ ..]: [String; 6]| {
        let month = months.then_some(month);
        [element, class].into_iter().chain(month).chain(rest).collect()
    };
    let head = head.into_iter().filter(|name| months || *name != "month");
    table(&head.collect::<Vec<_>>(), rows.into_iter().map(told))
}

/// A type as it is written in `TYPE=VALUE`.
pub fn field_type(number: i32) -> String {
    short(&enum_name(number, v1::FieldType::as_str_name), "FIELD_TYPE_")
}

/// A channel; one that is unstated is any.
pub fn channel(number: i32) -> String {
    match short(&enum_name(number, v1::Channel::as_str_name), "CHANNEL_") {
        unstated if unstated.is_empty() => "any".to_owned(),
        name => name,
    }
}

/// What a version changed.
pub fn change(number: i32) -> String {
    short(&enum_name(number, v1::VersionChange::as_str_name), "VERSION_CHANGE_")
}

/// Text that cannot move the cursor or end the line: control characters are escaped.
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, letter| {
        if letter.is_control() {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
        safe
    })
}

/// "1 token", "2 tokens", "2 entries", "2 batches".
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {}", plural(noun)) }
}

/// "tokens", "entries", "batches", "classes".
pub fn plural(noun: &str) -> String {
    match noun.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        Some(stem) => format!("{stem}ies"),
        None if noun.ends_with("ch") || noun.ends_with('s') => format!("{noun}es"),
        None => format!("{noun}s"),
    }
}

fn token_state(number: i32) -> String {
    short(&enum_name(number, v1::TokenState::as_str_name), "TOKEN_STATE_")
}

fn subject_state(number: i32) -> String {
    short(&enum_name(number, v1::SubjectState::as_str_name), "SUBJECT_STATE_")
}

fn erasure_state(number: i32) -> String {
    short(&enum_name(number, v1::ErasureState::as_str_name), "ERASURE_STATE_")
}

/// A time as RFC 3339; nothing when absent.
pub fn time(time: Option<prost_types::Timestamp>) -> String {
    time.as_ref().map(rfc3339).unwrap_or_default()
}

/// `TOKEN_STATE_ACTIVE` as `active`; nothing for what is unspecified.
pub fn short(name: &serde_json::Value, prefix: &str) -> String {
    match name.as_str().map(|name| name.trim_start_matches(prefix)) {
        None => name.to_string(),
        Some("UNSPECIFIED") => String::new(),
        Some(tail) => tail.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one_and_several_are_several() {
        let several = [
            ("token", "tokens"),
            ("entry", "entries"),
            ("day", "days"),
            ("batch", "batches"),
            ("retention class", "retention classes"),
        ];
        for (one, many) in several {
            assert_eq!((count(1, one), count(2, one)), (format!("1 {one}"), format!("2 {many}")));
            assert_eq!(count(0, one), format!("0 {many}"));
        }
    }
}
