//! Spans of calls: what a collector of traces is told, and that nobody waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use data_encoding::HEXLOWER;
use lacuna::proto::v1;
use lacuna::proto::v1::subject_service_client::SubjectServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::asks::{CARE, detokenize};
use crate::house::Bearer;
use crate::outside::{PATIENCE, free_address, metrics, outside_on_both_stores};
use crate::traces::{SPAN, TRACE, told, traced};

/// Takes spans, as the collector of an operator does.
#[derive(Clone, Default)]
pub struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// One that listens there, as long as the story is told.
    pub async fn at(address: SocketAddr) -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        (collector, address)
    }

    /// One that listens somewhere.
    pub async fn new() -> (Self, SocketAddr) {
        Self::at(([127, 0, 0, 1], 0).into()).await
    }

    /// All that it was told, as it was told.
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().iter().flat_map(Message::encode_to_vec).collect()
    }

    /// All spans.
    pub fn spans(&self) -> Vec<Span> {
        let told = self.0.lock().unwrap();
        let scopes = told.iter().flat_map(|request| &request.resource_spans).flat_map(|all| &all.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

/// Sends spans to a collector.
pub fn telling(address: SocketAddr, ratio: f64) -> String {
    format!("[telemetry]\notlp = 'http://{address}'\nratio = {ratio:?}\nservice = 'vault-of-the-shop'\n")
}

/// What a span says, by key.
fn attributes(all: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |one: &KeyValue| match one.value.clone().unwrap().value.unwrap() {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    all.iter().map(|one| (one.key.as_str(), text(one))).collect()
}

fn stages_of<'s>(spans: &'s [Span], parent: &Span) -> Vec<&'s str> {
    let stages = spans.iter().filter(|span| span.parent_span_id == parent.span_id && span.trace_id == parent.trace_id);
    stages
        .map(|stage| {
            assert!(
                stage.attributes.is_empty() && stage.events.is_empty() && stage.kind == i32::from(SpanKind::Internal)
            );
            assert!(stage.start_time_unix_nano >= parent.start_time_unix_nano, "{stage:?}");
            assert!(stage.end_time_unix_nano <= parent.end_time_unix_nano, "{stage:?}");
            stage.name.as_str()
        })
        .collect()
}

outside_on_both_stores! {
    async fn spans_go_on_from_the_trace_of_the_caller_and_hold_ids_and_codes(vault: Outside) {
        let (collector, address) = Collector::new().await;
        vault.configure(&telling(address, 0.0));
        let mut door = vault.start();
        let ada = door.tokenize("ada").await;
        let answered = door.tokens.detokenize(traced(detokenize(&ada.tokens, CARE))).await.unwrap();
        let id = told(answered.metadata());
        let refused = door.tokens.detokenize(traced(detokenize(&ada.tokens, "curiosity"))).await.unwrap_err();
        let refusal = told(refused.metadata());
        // Whoever keeps no trace has none kept, and strangers have nothing kept.
        let mut unkept = traced(detokenize(&ada.tokens, CARE));
        unkept.metadata_mut().insert("traceparent", format!("00-{TRACE}-{SPAN}-00").parse().unwrap());
        door.tokens.detokenize(unkept).await.unwrap();
        let mut stranger = SubjectServiceClient::with_interceptor(door.channel.clone(), Bearer("somebody".to_owned()));
        stranger.get_subject(traced(v1::GetSubjectRequest { subject: ada.subject.clone() })).await.unwrap_err();
        assert!(door.server.stop().success(), "{}", vault.place.log());

        let spans = collector.spans();
        let ids: BTreeSet<_> = spans.iter().map(|span| &span.span_id).collect();
        assert_eq!(ids.len(), spans.len(), "no two spans have one id");
        assert!(spans.iter().all(|span| HEXLOWER.encode(&span.trace_id) == TRACE));
        let calls: Vec<_> = spans.iter().filter(|span| HEXLOWER.encode(&span.parent_span_id) == SPAN).collect();
        let [reveal, no] = calls.as_slice() else { panic!("{calls:?}") };
        for call in [reveal, no] {
            assert_eq!((call.name.as_str(), call.kind), ("lacuna.v1.TokenService/Detokenize", i32::from(SpanKind::Server)));
            assert!(call.events.is_empty() && call.links.is_empty() && call.trace_state.is_empty());
        }
        let common = |code: &str, id: &str| {
            BTreeMap::from([
                ("rpc.system", "grpc".to_owned()),
                ("rpc.service", "lacuna.v1.TokenService".to_owned()),
                ("rpc.method", "Detokenize".to_owned()),
                ("rpc.grpc.status_code", code.to_owned()),
                ("lacuna.request_id", id.to_owned()),
                ("lacuna.caller", "development".to_owned()),
            ])
        };
        assert_eq!(attributes(&reveal.attributes), common("0", &id));
        let mut expected = common("3", &refusal);
        expected.insert("lacuna.reason", "PURPOSE_UNKNOWN".to_owned());
        assert_eq!(attributes(&no.attributes), expected);
        assert_eq!(stages_of(&spans, reveal), ["policy", "store.read", "key.open", "audit.wait"]);
        assert_eq!(stages_of(&spans, no), ["policy", "audit.wait"]);
        assert_eq!(spans.len(), 8);
        let resource = collector.0.lock().unwrap()[0].resource_spans[0].resource.clone().unwrap();
        let about = attributes(&resource.attributes);
        assert_eq!(about["service.name"], "vault-of-the-shop");
        assert!(about.contains_key("service.version") && about["service.instance.id"].len() == 32);
    }

    async fn a_collector_that_is_away_or_hangs_holds_nobody_up(vault: Outside) {
        let (address, page) = (free_address(), free_address());
        vault.configure(&telling(address, 1.0));
        let mut command = vault.serve();
        command.args(["--metrics-listen", &page.to_string()]);
        let mut door = vault.start_with(command, &[]).unwrap();
        let ada = door.tokenize("ada").await;
        // Whole batches of them are dropped, and that is told once.
        let dropped = async {
            let line = |page: &str| page.lines().find_map(|line| {
                line.strip_prefix("lacuna_spans_dropped_total{cause=\"collector\"} ")?.parse::<u64>().ok()
            });
            let (mut steps, mut last) = (0, 0);
            while steps < 3 {
                door.assert_there(&ada).await;
                let now = line(&String::from_utf8(metrics(page)).unwrap()).unwrap_or_default();
                (steps, last) = if now > last { (steps + 1, now) } else { (steps, last) };
            }
        };
        tokio::time::timeout(PATIENCE, dropped).await.expect("no span is dropped");
        assert_eq!(vault.place.log().matches("the collector takes no spans").count(), 1);
        let (collector, _) = Collector::at(address).await;
        let back = async {
            while collector.spans().is_empty() {
                door.assert_there(&ada).await;
            }
        };
        tokio::time::timeout(PATIENCE, back).await.expect("no span comes when the collector is back");
        vault.logged("the collector takes spans again").await;
        assert!(door.server.stop().success());

        // This one takes connections and never says anything.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        vault.configure(&telling(silent.local_addr().unwrap(), 1.0));
        let mut door = vault.start();
        door.assert_there(&ada).await;
        let connected = silent.accept().await.unwrap();
        for _ in 0..100 {
            door.assert_there(&ada).await;
        }
        assert!(door.server.stop().success(), "nor is the end held up");
        drop(connected);
    }
}
