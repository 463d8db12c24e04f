//! `lacuna call import`: calls out of the files of a telephone system.
//!
//! A thread of its own takes files apart into rows; the vault reads what the rows say, and answers in their order. A row that was
//! recorded before is recorded no second time, so a broken import is begun again, from the beginning or from a row.

mod mapping;
pub(crate) mod rows;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::client::{Remote, Vault};
use crate::cli::failure::{Failure, Refusal, Result};
use crate::cli::print::{self, Output};
use crate::cli::{report, table};
use crate::proto::v1;
use crate::proto::v1::import_cdr_response::Outcome;
use mapping::Told;
use rows::{Format, Reading};

/// The columns of the results.
const COLUMNS: [&str; 7] = ["file", "row", "result", "call", "reason", "field", "message"];

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  lacuna call import --format asterisk-csv --system pbx --mapping pbx.toml Master.csv
  lacuna call import --format freeswitch-json --system fs cdr/*.cdr.json --results cdr.results.csv
  lacuna call import --format csv --system crm --mapping crm.toml --from-row 120000 calls.csv

A mapping is a file of TOML, and everything in it is optional but the columns of csv:
  direction = \"inbound\"            # which way a call goes whose row does not say
  utc_offset = \"+01:00\"            # of times without a zone; else they are UTC
  time_format = \"%d.%m.%Y %H:%M\"   # of times that are written otherwise
  delimiter = \";\"
  header = [\"src\", \"dst\"]          # of asterisk-csv, where it writes other columns than cdr_csv; csv has one in the file
  [columns]                        # field = column; fields are those of CdrMapping
  source_call_id = \"Call ID\"
  [directions]                     # word = direction
  \"from-trunk\" = \"inbound\"
  [dispositions]                   # word = disposition
  \"talked\" = \"answered\"
JSON is one object, a list of them, or several one after the other.";

/// What `call import` imports.
#[derive(clap::Args)]
pub struct Import {
    /// The files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Which system wrote them, and how
    #[arg(long, value_enum)]
    format: Format,
    /// Which system tells of the calls
    #[arg(long, value_name = "CODE")]
    system: String,
    /// How rows are read (TOML)
    #[arg(long, value_name = "FILE", required_if_eq("format", "csv"))]
    mapping: Option<PathBuf>,
    /// Begin with this row of each file, counted from 1
    #[arg(long, value_name = "N", default_value = "1", hide_default_value = true)]
    from_row: u64,
    /// Where to write what became of each row, as CSV; else only rows that were refused are shown
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// What became of rows so far.
struct Tally {
    output: Output,
    results: Option<csv::Writer<std::fs::File>>,
    bar: ProgressBar,
    outcomes: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
}

impl Import {
    /// Imports, and tells of each row.
    pub async fn run(self, remote: &Remote) -> Result<()> {
        let told = Told::read(self.mapping.as_deref())?;
        let results = self.results.as_deref().map(|path| results(path, &self.files)).transpose()?;
        let size: u64 = self.files.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum();
        let mut tally = Tally {
            output: remote.output,
            results,
            bar: bar(size)?,
            outcomes: BTreeMap::new(),
            refused: BTreeMap::new(),
        };
        let begin = Instant::now();
        let end = self.all(remote, &told, &mut tally).await;
        tally.close(begin.elapsed(), end)
    }

    async fn all(&self, remote: &Remote, told: &Told, tally: &mut Tally) -> Result<()> {
        let mut vault = remote.open().await?;
        for file in &self.files {
            self.one(&mut vault, file, told, tally).await?;
        }
        Ok(())
    }

    async fn one(&self, vault: &mut Vault, file: &Path, told: &Told, tally: &mut Tally) -> Result<()> {
        let name = file.display().to_string();
        let reading = Reading { format: self.format, delimiter: told.delimiter()?, from: self.from_row };
        let rows::Started { header, rows, read, end } = reading.start(file)?;
        let mut mapping = Some(told.wire(self.format, &self.system, header)?);
        let requests = tokio_stream::StreamExt::map(ReceiverStream::new(rows), move |row| v1::ImportCdrRequest {
            mapping: mapping.take(),
            row: Some(row),
        });
        let before = tally.bar.position();
        let mut answers = match vault.calls.import_cdr(requests).await {
            Ok(answers) => answers.into_inner(),
            // Nothing was read that a vault could be asked about.
            Err(refused) => {
                return Err(end
                    .await
                    .ok()
                    .and_then(std::result::Result::err)
                    .map_or_else(|| refused.into(), Failure::from));
            }
        };
        while let Some(answer) = answers.message().await? {
            tally.bar.set_position(before + read.load(std::sync::atomic::Ordering::Relaxed));
            tally.item(&name, &answer)?;
        }
        let end = end.await.context("the file could not be read to its end")?;
        Ok(end.with_context(|| format!("stopped reading {name}; what stands before was sent"))?)
    }
}

fn bar(size: u64) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {msg} {eta}")?);
    Ok(bar)
}

fn results(path: &Path, files: &[PathBuf]) -> anyhow::Result<csv::Writer<std::fs::File>> {
    let place = std::fs::canonicalize(path).ok();
    if place.is_some() && files.iter().any(|file| std::fs::canonicalize(file).ok() == place) {
        anyhow::bail!("--results names a file of rows: name another");
    }
    let file = std::fs::File::create(path).with_context(|| format!("cannot write results to {}", path.display()))?;
    let mut writer = csv::Writer::from_writer(file);
    writer.write_record(COLUMNS).context("cannot write the results")?;
    Ok(writer)
}

impl Tally {
    fn item(&mut self, file: &str, answer: &v1::ImportCdrResponse) -> Result<()> {
        let row = answer.row.to_string();
        let (mut result, mut call, mut refusal) = ("refused".to_owned(), "", None);
        match &answer.outcome {
            Some(Outcome::Leg(leg)) => {
                let name = print::enum_name(leg.outcome, v1::UpsertOutcome::as_str_name);
                result = table::short(&name, "UPSERT_OUTCOME_");
                call = &leg.call;
                *self.outcomes.entry(result.clone()).or_default() += 1;
            }
            Some(Outcome::Error(error)) => refusal = Some(Refusal::of_item(error)),
            None => {}
        }
        let [reason, field, message] =
            refusal.as_ref().map_or([""; 3], |refusal| [refusal.reason(), refusal.field(), refusal.message()]);
        if let Some(refusal) = &refusal {
            *self.refused.entry(reason.to_owned()).or_default() += 1;
            if self.results.is_none() && self.output == Output::Human {
                let line = format!("{} row {row}: {}", table::printable(file), refusal.brief());
                self.bar.suspend(|| print::line(&line))?;
            }
        }
        if let Some(results) = &mut self.results {
            let written = results.write_record([file, &row, &result, call, reason, field, message]);
            written.context("cannot write the results; what was recorded stays, so run the same again")?;
        }
        self.bar.set_message(format!("{} rows", self.told()));
        Ok(())
    }

    fn told(&self) -> u64 {
        self.outcomes.values().chain(self.refused.values()).sum()
    }

    /// Sums up, with what ended the import. A row that was refused makes the command fail.
    fn close(mut self, elapsed: Duration, end: Result<()>) -> Result<()> {
        self.bar.finish_and_clear();
        if let Some(results) = &mut self.results {
            results.flush().context("cannot write the results; what was recorded stays, so run the same again")?;
        }
        let told = self.told();
        let total = table::count(usize::try_from(told).unwrap_or(usize::MAX), "row");
        let mut human = format!("{total}, in {:.1} s.", elapsed.as_secs_f64());
        for (outcome, count) in &self.outcomes {
            let _ = write!(human, "\n  {outcome}: {count}");
        }
        let json = json!({ "rows": told, "outcomes": self.outcomes, "seconds": elapsed.as_secs_f64() });
        report::sum(self.output, human, json, &self.refused, end)
    }
}
