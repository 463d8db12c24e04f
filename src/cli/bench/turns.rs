//! Sides that are measured in short turns, one after the other: whatever else the machine does is met by all of them.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::What;
use super::load::{Corpus, Door};
use super::measure::{Measure, Pace, closed_loop};
use super::report::{PERCENTILES, conditions, figures, whole};
use crate::cli::table;

/// How long a turn lasts.
pub const TURN: Duration = Duration::from_millis(500);

/// What is measured turn after turn.
pub struct Side<D> {
    /// What tells it from the others.
    pub name: &'static str,
    what: What,
    door: D,
    corpus: Corpus,
    measure: Measure,
    /// The rate of each turn.
    rates: Vec<f64>,
}

/// Sides, each of which is compared with the first.
pub struct Turns<D> {
    /// The sides.
    pub sides: Vec<Side<D>>,
}

impl<D: Door> Side<D> {
    /// One that is not measured yet.
    pub fn of(name: &'static str, what: What, door: D, corpus: Corpus) -> anyhow::Result<Self> {
        Ok(Self { name, what, door, corpus, measure: Measure::empty()?, rates: Vec::new() })
    }
}

impl<D: Door> Turns<D> {
    /// Measures all sides for as long as was asked for, each.
    pub async fn take(&mut self, of: &str, pace: Pace) -> anyhow::Result<()> {
        let turns = (pace.span.as_millis() / TURN.as_millis()).max(1);
        eprintln!("{of}: measuring {} sides in {turns} turns of {} ms each", self.sides.len(), TURN.as_millis());
        for turn in 0..turns {
            // Every other time from behind, so that none always comes first.
            let order: Box<dyn Iterator<Item = &mut Side<D>> + Send> =
                if turn % 2 == 0 { Box::new(self.sides.iter_mut()) } else { Box::new(self.sides.iter_mut().rev()) };
            for side in order {
                let (empty, pace) = (Measure::empty()?, Pace { span: TURN, ..pace });
                let measured = closed_loop(&side.door, side.what, &side.corpus, pace, empty).await;
                side.rates.push(measured.rate());
                side.measure = side.measure.clone().then(measured);
            }
        }
        Ok(())
    }
}

impl<D> Turns<D> {
    /// Whether any call failed.
    pub fn failed(&self) -> bool {
        self.sides.iter().any(|side| side.measure.errors > 0)
    }

    /// The figures, for programs.
    pub fn json(&self) -> Vec<Value> {
        self.sides.iter().map(|side| side.json(self.sides.first())).collect()
    }

    /// The figures, for people.
    pub fn human(&self, name: &str, pace: Pace) -> String {
        let percentiles = PERCENTILES.map(|(name, _)| format!("{name} µs"));
        let head = [name, "reveals/s"].into_iter().chain(percentiles.iter().map(String::as_str));
        let head: Vec<_> = head.chain(["rate ratio", "turn by turn", "p50 ratio", "p99 ratio", "errors"]).collect();
        let mut text = table::table(&head, self.sides.iter().map(|side| side.cells(self.sides.first())));
        let (conditions, turn) = (conditions(pace), TURN.as_millis());
        let _ = write!(text, "\n\n{conditions} in turns of {turn} ms; the client and a local vault share the machine.");
        for side in &self.sides {
            if let Some(error) = &side.measure.first_error {
                let _ = write!(text, "\n{} failed first with {error}", side.name);
            }
        }
        text
    }
}

impl<D> Side<D> {
    fn rate(&self, first: Option<&Self>) -> Option<f64> {
        let first = first?.measure.rate();
        (first > 0.0).then(|| self.measure.rate() / first)
    }

    #[expect(clippy::cast_precision_loss, reason = "microseconds are far below 2^52")]
    fn percentile(&self, first: Option<&Self>, at: f64) -> Option<f64> {
        let value = |side: &Self| side.measure.latencies.value_at_quantile(at) as f64;
        let first = value(first?);
        (first > 0.0).then(|| value(self) / first)
    }

    /// The quartiles of the ratios of turns that came together.
    fn quartiles(&self, first: Option<&Self>) -> Option<[f64; 3]> {
        let pairs = self.rates.iter().zip(&first?.rates);
        let mut ratios: Vec<f64> = pairs.filter(|(_, first)| **first > 0.0).map(|(own, first)| own / first).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |quarter: usize| ratios.get(ratios.len().saturating_sub(1) * quarter / 4).copied();
        Some([at(1)?, at(2)?, at(3)?])
    }

    fn json(&self, first: Option<&Self>) -> Value {
        let mut json = figures(self.what, &self.measure);
        if let Some(fields) = json.as_object_mut() {
            fields.shift_insert(0, "under".to_owned(), json!(self.name));
            fields.insert("rate_ratio".to_owned(), json!(self.rate(first)));
            fields.insert("rate_ratio_quartiles".to_owned(), json!(self.quartiles(first)));
            fields.insert("p50_ratio".to_owned(), json!(self.percentile(first, 0.5)));
            fields.insert("p99_ratio".to_owned(), json!(self.percentile(first, 0.99)));
        }
        json
    }

    fn cells(&self, first: Option<&Self>) -> Vec<String> {
        let ratio = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
        let quartiles = self.quartiles(first).map(|[low, _, high]| format!("{low:.2} to {high:.2}"));
        let percentiles = PERCENTILES.iter().map(|(_, at)| self.measure.latencies.value_at_quantile(*at).to_string());
        let head = [self.name.to_owned(), whole(self.measure.rate())].into_iter().chain(percentiles);
        head.chain([
            ratio(self.rate(first)),
            quartiles.unwrap_or_default(),
            ratio(self.percentile(first, 0.5)),
            ratio(self.percentile(first, 0.99)),
            self.measure.errors.to_string(),
        ])
        .collect()
    }
}
