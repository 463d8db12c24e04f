//! What became of the items of an import: a bar while it runs, a line or a row of CSV for each, and a sum at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::failure::{Refusal, Result};
use super::print::{self, Output};
use super::{report, table};
use crate::proto::google::rpc;
use crate::proto::v1;

/// What is told when results cannot be written.
const UNWRITTEN: &str = "cannot write the results; what was recorded stays, so run the same again";

/// What became of items so far.
pub struct Tally {
    output: Output,
    noun: &'static str,
    results: Option<csv::Writer<std::fs::File>>,
    /// How far it is.
    pub bar: ProgressBar,
    outcomes: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    begun: Instant,
}

impl Tally {
    /// Nothing yet, of items that `files` hold. With a path every result is written there under `columns`, without one only
    /// what is refused is shown.
    pub fn begin(
        output: Output,
        noun: &'static str,
        files: &[PathBuf],
        results: Option<&Path>,
        columns: &[&str],
    ) -> anyhow::Result<Self> {
        let results = results.map(|path| self::results(path, files, columns)).transpose()?;
        let size = files.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|file| file.len()).sum();
        let bar = ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {msg} {eta}")?);
        let (outcomes, refused) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { output, noun, results, bar, outcomes, refused, begun: Instant::now() })
    }

    /// An item that is recorded, with what became of it and the name of the call. `place` has the columns that say which it is, `more` those
    /// behind the others.
    pub fn recorded(&mut self, place: &[&str], outcome: i32, call: &str, more: &str) -> Result<()> {
        let name = print::enum_name(outcome, v1::UpsertOutcome::as_str_name);
        let result = table::short(&name, "UPSERT_OUTCOME_");
        *self.outcomes.entry(result.clone()).or_default() += 1;
        self.write(place, [&result, call, "", "", more])
    }

    /// An item that was refused by the vault.
    pub fn refused(&mut self, place: &[&str], error: &rpc::Status) -> Result<()> {
        self.refusal(place, &Refusal::of_item(error))
    }

    /// An item that was refused.
    pub fn refusal(&mut self, place: &[&str], refusal: &Refusal) -> Result<()> {
        *self.refused.entry(refusal.reason().to_owned()).or_default() += 1;
        if self.results.is_none() && self.output == Output::Human {
            let name: Vec<String> = place.iter().map(|part| table::printable(part)).collect();
            let line = format!("{}: {}", name.join(&format!(" {} ", self.noun)), refusal.brief());
            self.bar.suspend(|| print::line(&line))?;
        }
        self.write(place, ["refused", "", refusal.reason(), refusal.field(), refusal.message()])
    }

    fn write(&mut self, place: &[&str], became: [&str; 5]) -> Result<()> {
        if let Some(results) = &mut self.results {
            results.write_record(place.iter().chain(&became)).context(UNWRITTEN)?;
        }
        self.bar.set_message(table::count(usize::try_from(self.told()).unwrap_or(usize::MAX), self.noun));
        Ok(())
    }

    fn told(&self) -> u64 {
        self.outcomes.values().chain(self.refused.values()).sum()
    }

    /// Sums up, with what ended the import. An item that was refused makes the command fail.
    pub fn close(mut self, end: Result<()>) -> Result<()> {
        self.bar.finish_and_clear();
        if let Some(results) = &mut self.results {
            results.flush().context(UNWRITTEN)?;
        }
        let (told, seconds) = (self.told(), self.begun.elapsed().as_secs_f64());
        let total = table::count(usize::try_from(told).unwrap_or(usize::MAX), self.noun);
        let mut human = format!("{total}, in {seconds:.1} s.");
        for (outcome, count) in &self.outcomes {
            let _ = write!(human, "\n  {outcome}: {count}");
        }
        let mut json = json!({ "outcomes": self.outcomes, "seconds": seconds });
        if let Some(members) = json.as_object_mut() {
            members.insert(format!("{}s", self.noun), json!(told));
        }
        report::sum(self.output, human, json, &self.refused, end)
    }
}

fn results(path: &Path, files: &[PathBuf], columns: &[&str]) -> anyhow::Result<csv::Writer<std::fs::File>> {
    let place = std::fs::canonicalize(path).ok();
    if place.is_some() && files.iter().any(|file| std::fs::canonicalize(file).ok() == place) {
        anyhow::bail!("--results names a file that is to be read: name another");
    }
    let file = std::fs::File::create(path).with_context(|| format!("cannot write results to {}", path.display()))?;
    let mut writer = csv::Writer::from_writer(file);
    writer.write_record(columns).context("cannot write the results")?;
    Ok(writer)
}
