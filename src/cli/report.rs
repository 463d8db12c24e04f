//! The running report of a bulk command: items are shown as they come and none is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::failure::{Failure, Refusal, Result};
use super::print::{self, Output};
use super::table;
use crate::proto::google::rpc;

/// Sums up what was told item by item elsewhere: in `human` words or as the object `json`, with how many were refused for which reason, and
/// with what ended the work. An item that was refused makes the command fail.
pub fn sum(
    output: Output,
    mut human: String,
    mut json: Value,
    reasons: &BTreeMap<String, u64>,
    end: Result<()>,
) -> Result<()> {
    let refused: u64 = reasons.values().sum();
    match output {
        Output::Human => {
            for (reason, count) in reasons {
                let _ = write!(human, "\n  refused, {reason}: {count}");
            }
            eprintln!("{human}");
            end?;
        }
        Output::Json => {
            let error = end.as_ref().err().and_then(Failure::refusal).map(|refusal| refusal.json());
            if let Some(fields) = json.as_object_mut() {
                fields.insert("refused".to_owned(), json!(refused));
                fields.insert("reasons".to_owned(), json!(reasons));
                fields.extend(error.map(|error| ("error".to_owned(), error)));
            }
            print::line(&json.to_string())?;
            end.map_err(|failure| Failure::Told(failure.exit_status()))?;
        }
    }
    if refused > 0 { Err(Failure::Told(1)) } else { Ok(()) }
}

/// Shows items as lines, or as one JSON document whose list is closed at the end.
pub struct Report {
    output: Output,
    list: &'static str,
    done: usize,
    failed: usize,
}

impl Report {
    /// A report whose items stand in `list` of the document.
    pub const fn new(output: Output, list: &'static str) -> Self {
        Self { output, list, done: 0, failed: 0 }
    }

    /// Shows one item.
    pub fn item(&mut self, json: &Value, human: &str, failed: bool) -> Result<()> {
        let text = match self.output {
            Output::Human => human.to_owned(),
            Output::Json => format!("{}{json}", self.opening(",")),
        };
        *(if failed { &mut self.failed } else { &mut self.done }) += 1;
        print::line(&text)
    }

    /// Shows that what a line asked for was refused.
    pub fn refused(&mut self, line: usize, error: &rpc::Status) -> Result<()> {
        let refusal = Refusal::of_item(error);
        self.item(&json!({ "error": refusal.json() }), &format!("line {line}: {}", refusal.brief()), true)
    }

    /// Ends the report with what ended the work. What was answered before stays done.
    pub fn close(self, noun: &str, deed: &str, end: Result<()>) -> Result<()> {
        let total = self.done + self.failed;
        if self.output == Output::Human {
            eprintln!("{} of {} {deed}.", self.done, table::count(total, noun));
            end?;
        } else {
            let refusal = end.as_ref().err().and_then(Failure::refusal);
            let error = refusal.map(|refusal| format!(",\"error\":{}", refusal.json())).unwrap_or_default();
            print::line(&format!("{}]{error}}}", self.opening("")))?;
            end.map_err(|failure| Failure::Told(failure.exit_status()))?;
        }
        if self.failed > 0 { Err(Failure::Told(1)) } else { Ok(()) }
    }

    /// What stands before the next item: the head of the document, or `separator` when that is written.
    fn opening(&self, separator: &str) -> String {
        if self.done + self.failed > 0 { separator.to_owned() } else { format!("{{{}:[", json!(self.list)) }
    }
}
