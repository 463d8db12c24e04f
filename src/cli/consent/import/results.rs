//! What became of rows: a line for each, in the format of the file, and a summary.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::{Map, Value, json};

use super::source::Format;
use crate::cli::failure::{Refusal, Result};
use crate::cli::print::Output;
use crate::cli::{report, table};

/// The columns of the results.
const COLUMNS: [&str; 8] = ["line", "result", "subject", "consent_event", "state", "reason", "field", "message"];

/// What became of a row.
pub struct Done {
    /// The line at which it begins.
    pub line: u64,
    /// Whose decision it is, as far as that is known.
    pub subject: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What can become of a row.
pub enum Outcome {
    /// It is in the ledger.
    Recorded {
        /// The event.
        consent_event: String,
        /// How the consent stands after it, at its own time.
        state: String,
    },
    /// It would have been recorded, as far as that can be told without.
    Valid,
    /// It was not recorded.
    Refused(Refused),
}

/// Why a row was not recorded.
pub struct Refused {
    /// A value of `lacuna.v1.ErrorReason`, or one of this side.
    pub reason: String,
    /// The field at fault, if it is one.
    pub field: String,
    /// The same for people; never what the row says.
    pub message: String,
}

impl Refused {
    /// A row that cannot be sent as it is.
    pub fn row(field: &str, message: impl Display) -> Self {
        Self::here("ROW_INVALID", field, message)
    }

    /// A refusal of this side.
    pub fn here(reason: &str, field: &str, message: impl Display) -> Self {
        Self { reason: reason.to_owned(), field: field.to_owned(), message: message.to_string() }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::here(refusal.reason(), refusal.field(), refusal.message())
    }
}

/// Where the lines go, and what they come to.
pub struct Results {
    lines: Lines,
    output: Output,
    told: u64,
    refused: BTreeMap<String, u64>,
}

enum Lines {
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Json(Box<dyn Write>),
}

impl Results {
    /// Writes to a file or to standard output, which a summary for programs would have to share.
    pub fn create(format: Format, delimiter: u8, file: Option<&Path>, output: Output) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = match file {
            Some(file) => {
                let created = File::create(file);
                Box::new(created.with_context(|| format!("cannot write results to {}", file.display()))?)
            }
            None if output == Output::Json => {
                return Err(anyhow!("--output json prints the summary: name a file for the results, with --results"));
            }
            None => Box::new(io::stdout()),
        };
        let lines = match format {
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
                writer.write_record(COLUMNS).context("cannot write the results")?;
                Lines::Csv(Box::new(writer))
            }
            Format::Jsonl => Lines::Json(out),
        };
        Ok(Self { lines, output, told: 0, refused: BTreeMap::new() })
    }

    /// Tells what became of a row.
    pub fn write(&mut self, done: &Done) -> Result<()> {
        self.told += 1;
        if let Outcome::Refused(refused) = &done.outcome {
            *self.refused.entry(refused.reason.clone()).or_default() += 1;
        }
        let fields = COLUMNS.map(|column| (column, done.field(column)));
        let written = match &mut self.lines {
            Lines::Csv(writer) => writer
                .write_record(fields.iter().map(|(_, text)| text.as_str()))
                .map_err(io::Error::other)
                .and_then(|()| writer.flush()),
            Lines::Json(out) => {
                let stated = fields.into_iter().filter(|(_, text)| !text.is_empty());
                let mut object: Map<String, Value> =
                    stated.map(|(name, text)| (name.to_owned(), json!(text))).collect();
                object.insert("line".to_owned(), json!(done.line));
                writeln!(out, "{}", Value::Object(object)).and_then(|()| out.flush())
            }
        };
        Ok(written.context("cannot write the results; what was recorded stays, so run the same again")?)
    }

    /// Sums up, with what ended the import. A row that was refused makes the command fail.
    pub fn close(self, elapsed: Duration, dry_run: bool, end: Result<()>) -> Result<()> {
        let refused: u64 = self.refused.values().sum();
        let done = self.told.saturating_sub(refused);
        let deed = if dry_run { "valid" } else { "recorded" };
        #[expect(clippy::cast_precision_loss, reason = "a count of rows is far below 2^52")]
        let rate = self.told as f64 / elapsed.as_secs_f64().max(0.001);
        let total = table::count(usize::try_from(self.told).unwrap_or(usize::MAX), "row");
        let human = format!("{done} of {total} {deed}, in {:.1} s ({rate:.0}/s).", elapsed.as_secs_f64());
        let json = json!({ "rows": self.told, deed: done, "seconds": elapsed.as_secs_f64() });
        report::sum(self.output, human, json, &self.refused, end)
    }
}

impl Done {
    fn field(&self, column: &str) -> String {
        let refused = match &self.outcome {
            Outcome::Refused(refused) => Some(refused),
            _ => None,
        };
        let recorded = match &self.outcome {
            Outcome::Recorded { consent_event, state } => Some((consent_event, state)),
            _ => None,
        };
        let result = match &self.outcome {
            Outcome::Recorded { .. } => "recorded",
            Outcome::Valid => "valid",
            Outcome::Refused(_) => "refused",
        };
        match column {
            "line" => self.line.to_string(),
            "result" => result.to_owned(),
            "subject" => self.subject.clone(),
            "consent_event" => recorded.map(|(event, _)| event.clone()).unwrap_or_default(),
            "state" => recorded.map(|(_, state)| state.clone()).unwrap_or_default(),
            "reason" => refused.map(|refused| refused.reason.clone()).unwrap_or_default(),
            "field" => refused.map(|refused| refused.field.clone()).unwrap_or_default(),
            _ => refused.map(|refused| refused.message.clone()).unwrap_or_default(),
        }
    }
}
