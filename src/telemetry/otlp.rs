//! Traces: spans of calls, told to a collector by OTLP over gRPC.
//!
//! A span holds ids and codes: the rpc, who called, how it went, and how long each stage took. What a caller wrote has no
//! way into it, but for the ids of the trace that it says it is part of; `tracestate` is not passed on. Nor has what is
//! logged: spans are no lines of the log.
//!
//! No call waits for any of this. What the collector does not take in time is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::config;
use crate::crypto::Random;
use crate::model::Clock;
use crate::trace::{self, Parent, Trace};

/// So many calls wait to be told of at most.
const WAITING: usize = 4096;
/// So many are told of at once at most.
const TOGETHER: usize = 512;
/// How long spans gather.
const GATHER: Duration = Duration::from_millis(500);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the end of the server waits for the last of them.
const LAST: Duration = Duration::from_secs(2);

/// Decides which traces are kept, and takes their spans.
pub struct Tracer {
    clock: Arc<dyn Clock>,
    /// Traces whose last eight bytes are below are kept, and all when there is none.
    below: Option<u64>,
    queue: mpsc::Sender<Ended>,
}

/// A call that has ended.
pub struct Ended {
    /// The call, whose span is kept.
    pub trace: Arc<Trace>,
    /// The service, with its package.
    pub service: &'static str,
    /// The rpc.
    pub rpc: &'static str,
    /// How it was answered.
    pub code: Code,
}

/// What tells the collector, until nobody takes spans any more.
pub struct Exporter(JoinHandle<()>);

impl Exporter {
    /// Waits for the last spans, not for long.
    pub async fn finish(mut self) {
        if tokio::time::timeout(LAST, &mut self.0).await.is_err() {
            self.0.abort();
        }
    }
}

/// The counters, which are told from the start.
pub fn count_from_now() {
    metrics::counter!("lacuna_spans_exported_total").absolute(0);
    for cause in ["collector", "queue", "stages"] {
        metrics::counter!("lacuna_spans_dropped_total", "cause" => cause).absolute(0);
    }
}

/// Starts to tell of calls where the configuration says so; `instance` tells this node from others.
///
/// # Errors
/// When the authorities of the collector cannot be used.
pub fn start(
    config: &config::Telemetry,
    instance: String,
    clock: Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> Result<Option<(Tracer, Exporter)>> {
    count_from_now();
    let Some(url) = config.otlp()? else { return Ok(None) };
    let mut endpoint = Endpoint::from_shared(url.to_string())?.connect_timeout(PATIENCE).timeout(PATIENCE);
    if url.scheme() == "https" {
        let tls = match &config.ca_file {
            None => ClientTlsConfig::new().with_native_roots(),
            Some(file) => {
                let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
            }
        };
        endpoint = endpoint.tls_config(tls)?;
    }
    let (queue, waiting) = mpsc::channel(WAITING);
    let resource = Resource {
        attributes: vec![
            text("service.name", config.service.clone()),
            text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            text("service.instance.id", instance),
        ],
        ..Resource::default()
    };
    let collector =
        Collector { client: TraceServiceClient::new(endpoint.connect_lazy()), resource, away: false.into() };
    let exporter = Exporter(tokio::spawn(export(collector, waiting, stop)));
    tracing::info!(collector = %url, ratio = config.ratio, "calls are traced");
    Ok(Some((Tracer { clock, below: below(config.ratio), queue }, exporter)))
}

/// The bound below which so many of all numbers lie; `None` when all are to.
fn below(ratio: f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a ratio between 0 and 1 of what fits"
    )]
    let bound = (ratio * u64::MAX as f64) as u64;
    (ratio < 1.0).then_some(bound)
}

impl Tracer {
    /// The span of a call that begins, if its trace is kept: as its caller does, or by chance.
    pub fn begin(&self, parent: Option<Parent>, random: &dyn Random) -> Option<trace::Span> {
        let (mut trace, mut id) = ([0; 16], [0; 8]);
        match parent {
            Some(parent) if parent.sampled => trace = parent.trace,
            Some(_) => return None,
            None => {
                random.fill(&mut trace);
                let [.., low] = trace.as_chunks::<8>().0 else { return None };
                if self.below.is_some_and(|below| u64::from_be_bytes(*low) >= below) {
                    return None;
                }
            }
        }
        random.fill(&mut id);
        // Nothing but zeros is no id.
        (trace != [0; 16] && id != [0; 8]).then(|| trace::Span::begin(trace, id, self.clock.now().micros()))
    }

    /// Takes a call that has ended, unless nobody known made it: strangers must not fill the traces.
    pub fn end(&self, ended: Ended) {
        let Some(span) = ended.trace.span() else { return };
        span.end();
        let (stranger, spans) = {
            let noted = span.noted();
            (noted.caller.is_none(), 1 + noted.stages.len() as u64)
        };
        if !stranger && self.queue.try_send(ended).is_err() {
            dropped("queue", spans);
        }
    }
}

fn dropped(cause: &'static str, spans: u64) {
    metrics::counter!("lacuna_spans_dropped_total", "cause" => cause).increment(spans);
}

async fn export(collector: Collector, mut waiting: mpsc::Receiver<Ended>, mut stop: watch::Receiver<bool>) {
    let mut calls = Vec::with_capacity(TOGETHER);
    while waiting.recv_many(&mut calls, TOGETHER).await > 0 {
        if calls.len() < TOGETHER && !*stop.borrow() {
            // An error means that nobody is left who could say stop, as does that it was said.
            let _ = tokio::time::timeout(GATHER, stop.wait_for(|stop| *stop)).await;
            while calls.len() < TOGETHER
                && let Ok(next) = waiting.try_recv()
            {
                calls.push(next);
            }
        }
        collector.tell(calls.drain(..).flat_map(spans).collect()).await;
    }
}

/// Whoever takes the spans.
struct Collector {
    client: TraceServiceClient<Channel>,
    resource: Resource,
    /// Whether that was told.
    away: AtomicBool,
}

impl Collector {
    async fn tell(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let all = ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![all] };
        // The client's own limit begins when there is a connection.
        let asked = tokio::time::timeout(PATIENCE, self.client.clone().export(request)).await;
        let fault = match asked {
            Ok(Ok(answer)) => {
                let refused = answer.into_inner().partial_success.map_or(0, |partial| partial.rejected_spans);
                let refused = u64::try_from(refused).unwrap_or(0).min(count);
                metrics::counter!("lacuna_spans_exported_total").increment(count - refused);
                dropped("collector", refused);
                None
            }
            // What it says may be anything.
            Ok(Err(status)) => Some(status.code()),
            Err(_) => Some(Code::DeadlineExceeded),
        };
        if fault.is_some() {
            dropped("collector", count);
        }
        match (fault, self.away.swap(fault.is_some(), Ordering::Relaxed)) {
            (Some(code), false) => {
                tracing::warn!(?code, "the collector takes no spans: they are dropped until it does");
            }
            (None, true) => tracing::info!("the collector takes spans again"),
            _ => {}
        }
    }
}

fn text(key: &str, value: String) -> KeyValue {
    attribute(key, Value::StringValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Whether it is the vault that failed, and not the caller who asked for something that there is not.
const fn is_fault(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, DataLoss | DeadlineExceeded | Internal | Unavailable | Unimplemented | Unknown)
}

/// The spans of a call: its own, and one for each stage.
fn spans(ended: Ended) -> Vec<Span> {
    let Ended { trace, service, rpc, code } = ended;
    let Some(span) = trace.span() else { return Vec::new() };
    let noted = span.noted().clone();
    dropped("stages", noted.more);
    let took = noted.took.unwrap_or_default();
    let nanos = |after: Duration| {
        let begun = u64::try_from(span.begun_at).unwrap_or_default().saturating_mul(1000);
        begun.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
    };
    let parent = trace.parent();
    let sampled = 1;
    let remote = if parent.is_some() { SpanFlags::ContextIsRemoteMask as u32 } else { 0 };
    let mut attributes = vec![
        text("rpc.system", "grpc".to_owned()),
        text("rpc.service", service.to_owned()),
        text("rpc.method", rpc.to_owned()),
        attribute("rpc.grpc.status_code", Value::IntValue(i32::from(code).into())),
        text("lacuna.request_id", trace.request().to_owned()),
    ];
    attributes.extend(noted.caller.map(|caller| text("lacuna.caller", caller)));
    attributes.extend(noted.reason.map(|reason| text("lacuna.reason", reason)));
    let status = is_fault(code).then(|| Status { code: StatusCode::Error.into(), ..Status::default() });
    let whole = Span {
        trace_id: span.trace.to_vec(),
        span_id: span.id.to_vec(),
        parent_span_id: parent.map(|parent| parent.span.to_vec()).unwrap_or_default(),
        flags: sampled | SpanFlags::ContextHasIsRemoteMask as u32 | remote,
        name: format!("{service}/{rpc}"),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: nanos(Duration::ZERO),
        end_time_unix_nano: nanos(took),
        attributes,
        status,
        ..Span::default()
    };
    let first = u64::from_be_bytes(span.id);
    let stage = |(number, past): (u64, trace::Past)| Span {
        trace_id: span.trace.to_vec(),
        // Others only by chance, as ids are.
        span_id: first.wrapping_add(number).max(1).to_be_bytes().to_vec(),
        parent_span_id: span.id.to_vec(),
        flags: sampled | SpanFlags::ContextHasIsRemoteMask as u32,
        name: past.name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: nanos(past.after),
        end_time_unix_nano: nanos(past.after.saturating_add(past.took)),
        ..Span::default()
    };
    std::iter::once(whole).chain((1..).zip(noted.stages).map(stage)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::Seeded;
    use crate::model::SystemClock;

    fn tracer(ratio: f64, room: usize) -> (Tracer, mpsc::Receiver<Ended>) {
        let (queue, waiting) = mpsc::channel(room);
        (Tracer { clock: Arc::new(SystemClock), below: below(ratio), queue }, waiting)
    }

    fn parent(sampled: bool) -> Parent {
        Parent { trace: [7; 16], span: [8; 8], sampled }
    }

    #[test]
    fn a_call_does_as_its_caller_and_the_others_by_chance() {
        let random = Seeded::new(1);
        for (ratio, expected, leeway) in [(0.0, 0, 0), (0.25, 1000, 150), (1.0, 4000, 0)] {
            let (tracer, _waiting) = tracer(ratio, 1);
            let kept = (0..4000).filter(|_| tracer.begin(None, &random).is_some()).count();
            assert!(usize::abs_diff(kept, expected) <= leeway, "{kept} of 4000 at {ratio}");
            assert_eq!(tracer.begin(Some(parent(true)), &random).unwrap().trace, [7; 16]);
            assert!(tracer.begin(Some(parent(false)), &random).is_none());
        }
    }

    #[test]
    fn nothing_waits_for_room_and_strangers_take_none() {
        let random = Seeded::new(1);
        let (tracer, mut waiting) = tracer(1.0, 2);
        let end = |caller: Option<&str>| {
            let span = tracer.begin(None, &random);
            span.as_ref().unwrap().noted().caller = caller.map(str::to_owned);
            let trace = Arc::new(Trace::begin("0123".to_owned(), None, span));
            tracer.end(Ended { trace, service: "s", rpc: "r", code: Code::Ok });
        };
        end(None);
        for _ in 0..5 {
            end(Some("shop"));
        }
        let mut taken = Vec::new();
        while let Ok(ended) = waiting.try_recv() {
            taken.extend(spans(ended));
        }
        assert_eq!(taken.len(), 2);
        assert!(taken.iter().all(|span| span.name == "s/r" && span.status.is_none()));
    }
}
