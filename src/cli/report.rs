//! The running report of a bulk command: items are shown as they come and none is kept.

use serde_json::{Value, json};

use super::failure::{Failure, Result};
use super::print::{self, Output};
use super::table;

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
