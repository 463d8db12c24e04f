//! The loops that keep calls in flight, and what they measure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::What;
use super::load::{self, Corpus, Door};
use crate::cli::client::Vault;
use crate::cli::failure::Refusal;
use crate::proto::v1::detokenize_stream_response::Outcome;

/// How hard and how long.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Calls in flight.
    pub in_flight: u32,
    /// How long a measurement lasts; a tenth of it runs before, unmeasured.
    pub span: Duration,
}

/// When a measurement begins and ends.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

impl Pace {
    /// Starts now, with the warm-up. An erasure run has none: it would use up the people it was given.
    fn window(self, what: What) -> Window {
        let warm_up = if what == What::Erase { Duration::ZERO } else { self.span / 10 };
        let begin = Instant::now() + warm_up;
        Window { begin, end: begin + self.span }
    }
}

/// Latencies of the calls that succeeded, and a count of those that did not.
#[derive(Clone)]
pub struct Measure {
    /// Microseconds from call to answer.
    pub latencies: Histogram<u64>,
    /// Calls that failed, during the warm-up too.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// From the beginning to the last answer.
    pub elapsed: Duration,
}

impl Measure {
    /// Nothing measured yet; latencies keep three digits.
    pub fn empty() -> anyhow::Result<Self> {
        let latencies = Histogram::new(3).context("no histogram can be made")?;
        Ok(Self { latencies, errors: 0, first_error: None, elapsed: Duration::ZERO })
    }

    fn record(&mut self, window: Window, started: Instant, outcome: Result<(), Status>) {
        match outcome {
            Ok(()) if started >= window.begin => {
                let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                // Not saturating_record: it clamps to the range so far instead of growing it.
                match self.latencies.record(micros) {
                    Ok(()) => self.elapsed = window.begin.elapsed(),
                    Err(error) => self.fail(|| format!("a latency cannot be recorded: {error}")),
                }
            }
            Ok(()) => {}
            Err(status) => self.fail(|| Refusal::of(&status).brief()),
        }
    }

    /// Counts a failure.
    pub fn fail(&mut self, why: impl FnOnce() -> String) {
        self.errors += 1;
        self.first_error.get_or_insert_with(why);
    }

    fn merge(mut self, other: Self) -> Self {
        if let Err(error) = self.latencies.add(&other.latencies) {
            self.fail(|| format!("latencies cannot be added: {error}"));
        }
        self.errors += other.errors;
        self.first_error = self.first_error.or(other.first_error);
        self.elapsed = self.elapsed.max(other.elapsed);
        self
    }

    /// This measurement, gone on with in another.
    pub fn then(self, other: Self) -> Self {
        let elapsed = self.elapsed + other.elapsed;
        Self { elapsed, ..self.merge(other) }
    }

    /// Operations that succeeded, each second.
    #[expect(clippy::cast_precision_loss, reason = "a count of operations is far below 2^52")]
    pub fn rate(&self) -> f64 {
        if self.elapsed.is_zero() { 0.0 } else { self.latencies.len() as f64 / self.elapsed.as_secs_f64() }
    }
}

/// Calls one after the other on each of `in_flight` tasks.
pub async fn closed_loop(door: &impl Door, what: What, corpus: &Corpus, pace: Pace, empty: Measure) -> Measure {
    let window = pace.window(what);
    let mut tasks = JoinSet::new();
    for _ in 0..pace.in_flight {
        tasks.spawn(one_after_the_other(door.clone(), what, corpus.clone(), window, empty.clone()));
    }
    tasks.join_all().await.into_iter().fold(empty, Measure::merge)
}

async fn one_after_the_other(
    mut door: impl Door,
    what: What,
    corpus: Corpus,
    window: Window,
    mut measure: Measure,
) -> Measure {
    while Instant::now() < window.end {
        let Some(request) = corpus.draw(what) else { break };
        let started = Instant::now();
        let outcome = door.call(request).await;
        measure.record(window, started, outcome);
    }
    measure
}

/// One bidirectional stream with `in_flight` requests ahead of their answers, which come in the order asked.
pub async fn pipeline(vault: &Vault, corpus: &Corpus, pace: Pace, mut measure: Measure) -> Measure {
    let window = pace.window(What::RevealStream);
    if let Err(status) = stream(vault.clone(), corpus, pace, window, &mut measure).await {
        measure.record(window, window.begin, Err(status));
    }
    measure
}

async fn stream(
    mut vault: Vault,
    corpus: &Corpus,
    pace: Pace,
    window: Window,
    measure: &mut Measure,
) -> Result<(), Status> {
    let depth = usize::try_from(pace.in_flight).unwrap_or(1);
    let (sender, requests) = mpsc::channel(depth);
    let mut started = VecDeque::with_capacity(depth);
    for _ in 0..depth {
        started.push_back(Instant::now());
        // The queue is as long as the pipeline is deep, so nothing waits here.
        let _ = sender.send(corpus.draw_reveal()).await;
    }
    let mut sender = Some(sender);
    let mut answers = vault.tokens.detokenize_stream(ReceiverStream::new(requests)).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let asked = started.pop_front().unwrap_or(window.begin);
        let outcome = match answer.outcome {
            Some(Outcome::Response(response)) => load::check(&response, 1),
            Some(Outcome::Error(error)) => Err(Status::new(error.code.into(), error.message)),
            None => Err(Status::internal("an answer is empty")),
        };
        measure.record(window, asked, outcome);
        if Instant::now() >= window.end {
            sender = None;
        }
        if let Some(sender) = &sender {
            started.push_back(Instant::now());
            let _ = sender.send(corpus.draw_reveal()).await;
        }
    }
    if started.is_empty() { Ok(()) } else { Err(Status::internal("the stream ended before its answers")) }
}
