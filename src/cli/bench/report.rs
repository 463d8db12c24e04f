//! The figures of a run, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::What;
use super::measure::{Measure, Pace};
use crate::cli::print::Answer;
use crate::cli::table;

/// The percentiles that are shown, with their names.
pub const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

/// Everything that was measured.
pub struct Report {
    address: String,
    pace: Pace,
    /// One row for each thing that was measured.
    pub rows: Vec<Row>,
}

/// The vault beside the echo.
pub struct Row {
    /// What was measured.
    pub what: What,
    /// Against the vault.
    pub vault: Measure,
    /// Against the echo.
    pub echo: Measure,
}

impl Report {
    /// A report without figures yet.
    pub fn new(address: &str, pace: Pace) -> Self {
        Self { address: address.to_owned(), pace, rows: Vec::new() }
    }

    /// The figures in both forms; failed when any call failed.
    pub fn answer(&self) -> Answer {
        let failed = self.rows.iter().any(|row| row.vault.errors + row.echo.errors > 0);
        Answer { json: self.json(), human: self.human(), failed }
    }

    fn json(&self) -> Value {
        json!({
            "machine": { "cores": cores() },
            "parameters": {
                "address": self.address,
                "in_flight": self.pace.in_flight,
                "seconds": self.pace.span.as_secs(),
                "connections": 1,
            },
            "results": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }

    fn human(&self) -> String {
        let percentiles = PERCENTILES.map(|(name, _)| format!("{name} µs"));
        let head = ["what", "against", "operations/s", "values/s", "ratio"].into_iter();
        let head: Vec<_> = head.chain(percentiles.iter().map(String::as_str)).chain(["errors"]).collect();
        let mut text = table::table(&head, self.rows.iter().flat_map(Row::cells));
        let _ =
            write!(text, "\n\n{}; the client, the echo and a local vault share the machine.", conditions(self.pace));
        for row in &self.rows {
            for error in [&row.vault.first_error, &row.echo.first_error].into_iter().flatten() {
                let _ = write!(text, "\n{} failed first with {error}", row.what.name());
            }
        }
        text
    }
}

impl Row {
    /// The vault's rate over the echo's.
    fn ratio(&self) -> Option<f64> {
        let echo = self.echo.rate();
        (echo > 0.0).then(|| self.vault.rate() / echo)
    }

    fn json(&self) -> Value {
        let mut json = figures(self.what, &self.vault);
        if let Some(fields) = json.as_object_mut() {
            fields.shift_insert(0, "what".to_owned(), json!(self.what.name()));
            fields.insert("echo".to_owned(), figures(self.what, &self.echo));
            fields.insert("ratio".to_owned(), json!(self.ratio()));
        }
        json
    }

    fn cells(&self) -> [Vec<String>; 2] {
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        [
            cells(self.what, self.what.name(), "vault", &self.vault, ratio),
            cells(self.what, "", "echo", &self.echo, String::new()),
        ]
    }
}

/// The figures of a measurement, for programs.
pub fn figures(what: What, measure: &Measure) -> Value {
    let percentiles = PERCENTILES.map(|(name, at)| (name, measure.latencies.value_at_quantile(at)));
    let [p50, p95, p99, p999] = percentiles.map(|(_, micros)| micros);
    json!({
        "operations": measure.latencies.len(),
        "operations_per_second": measure.rate(),
        "values_per_second": measure.rate() * f64::from(what.values()),
        "p50_us": p50,
        "p95_us": p95,
        "p99_us": p99,
        "p99_9_us": p999,
        "errors": measure.errors,
        "first_error": measure.first_error,
    })
}

fn cells(what: What, name: &str, against: &str, measure: &Measure, ratio: String) -> Vec<String> {
    let values = if what.values() == 0 { String::new() } else { whole(measure.rate() * f64::from(what.values())) };
    let percentiles = PERCENTILES.iter().map(|(_, at)| measure.latencies.value_at_quantile(*at).to_string());
    let head = [name.to_owned(), against.to_owned(), whole(measure.rate()), values, ratio];
    head.into_iter().chain(percentiles).chain([measure.errors.to_string()]).collect()
}

/// A number without what is behind its point.
pub fn whole(number: f64) -> String {
    format!("{number:.0}")
}

/// Under which conditions something was measured, for people.
pub fn conditions(pace: Pace) -> String {
    let (cores, seconds) = (table::count(cores(), "core"), pace.span.as_secs());
    format!("{cores}; {} in flight over 1 connection, {seconds} s each", pace.in_flight)
}

/// How many cores this machine has.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
