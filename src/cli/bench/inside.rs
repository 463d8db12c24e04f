//! A vault that is called in this process, without a transport, with the time that each stage of its calls takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tonic::Status;

use super::load::{Door, Request};
use super::measure::Measure;
use crate::cli::table;
use crate::model::{Channel, Redaction};
use crate::policy::Caller;
use crate::trace::{Span, Trace};
use crate::vault::Vault;
use crate::vault::reveal::{By, Detokenize};

/// A door that nobody needs to knock at.
#[derive(Clone)]
pub struct Inside {
    vault: Arc<Vault>,
    caller: Arc<Caller>,
    calls: Arc<AtomicU64>,
    stages: Arc<Mutex<Stages>>,
}

/// How long the calls took, and each stage of them.
struct Stages {
    calls: Duration,
    stages: BTreeMap<&'static str, Stage>,
}

struct Stage {
    micros: Histogram<u64>,
    sum: Duration,
}

impl Inside {
    /// A vault, called as somebody.
    pub fn of(vault: Arc<Vault>, caller: Caller) -> Self {
        let stages = Stages { calls: Duration::ZERO, stages: BTreeMap::new() };
        Self { vault, caller: Arc::new(caller), calls: Arc::default(), stages: Arc::new(Mutex::new(stages)) }
    }

    fn stages(&self) -> MutexGuard<'_, Stages> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stages, for programs.
    pub fn json(&self) -> Vec<Value> {
        let stages = self.stages();
        let one = |(name, stage): (&&str, &Stage)| {
            let [p50, p99] = stage.percentiles();
            json!({ "stage": name, "p50_us": p50, "p99_us": p99, "share": stage.share(stages.calls) })
        };
        stages.stages.iter().map(one).collect()
    }

    /// The stages, for people.
    pub fn human(&self) -> String {
        let stages = self.stages();
        let row = |(name, stage): (&&str, &Stage)| {
            let [p50, p99] = stage.percentiles().map(|micros| micros.to_string());
            vec![(*name).to_owned(), p50, p99, format!("{:.2}", stage.share(stages.calls))]
        };
        table::table(&["stage without a transport", "p50 µs", "p99 µs", "share"], stages.stages.iter().map(row))
    }
}

impl Stage {
    fn percentiles(&self) -> [u64; 2] {
        [0.5, 0.99].map(|at| self.micros.value_at_quantile(at))
    }

    /// Of all the time that calls took.
    fn share(&self, calls: Duration) -> f64 {
        if calls.is_zero() { 0.0 } else { self.sum.as_secs_f64() / calls.as_secs_f64() }
    }
}

impl Stages {
    fn take(&mut self, span: &Span) -> anyhow::Result<()> {
        let noted = span.noted();
        self.calls += noted.took.unwrap_or_default();
        for past in &noted.stages {
            if !self.stages.contains_key(past.name) {
                let empty = Stage { micros: Measure::empty()?.latencies, sum: Duration::ZERO };
                self.stages.insert(past.name, empty);
            }
            if let Some(stage) = self.stages.get_mut(past.name) {
                stage.sum += past.took;
                stage.micros.record(u64::try_from(past.took.as_micros())?)?;
            }
        }
        Ok(())
    }
}

impl Door for Inside {
    async fn call(&mut self, request: Request) -> Result<(), Status> {
        let Request::Reveal(ask) = request else { return Err(Status::unimplemented("only reveals are measured here")) };
        let ask = Detokenize {
            tokens: ask.tokens,
            purpose: ask.purpose,
            channel: Channel::Any,
            redaction: Redaction::PlainText,
            justification: None,
            by: By::default(),
        };
        // As long as a real one.
        let request = format!("{:032x}", self.calls.fetch_add(1, Ordering::Relaxed));
        let trace = Arc::new(Trace::begin(request, None, Some(Span::begin([1; 16], [1; 8], 0))));
        let revealed = Arc::clone(&trace).scope(self.vault.detokenize(&self.caller, &ask)).await;
        let (revealed, _flight) = revealed.map_err(|error| Status::internal(error.to_string()))?;
        if let Some(refused) = revealed.into_iter().find_map(|one| one.outcome.err()) {
            return Err(Status::internal(refused.to_string()));
        }
        let Some(span) = trace.span() else { return Ok(()) };
        span.end();
        self.stages().take(span).map_err(|error| Status::internal(error.to_string()))
    }
}
