//! The gRPC door.
//!
//! This floor knows the wire: it turns messages into the model's types, refusing what does not fit with the field
//! named, knows who calls, and turns answers and errors back. It decides nothing and stores nothing.

mod access;
mod approval;
mod arrival;
pub mod audit;
mod call;
mod consent;
mod event;
mod gate;
mod guard;
mod hold;
mod honey;
mod identity;
pub(crate) mod jwt;
mod key;
mod landing;
mod listen;
pub(crate) mod parse;
mod record;
mod retention;
mod rights;
mod sparingly;
mod status;
mod stream;
mod subject;
pub(crate) mod tls;
mod token;
mod trace;

pub use identity::Callers;
pub use jwt::Issuer;
pub use status::to_status;
pub use tls::Tls;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::config::Limits;
use crate::model::Error;
use crate::proto::DESCRIPTORS;
use crate::proto::v1::access_service_server::AccessServiceServer;
use crate::proto::v1::audit_service_server::AuditServiceServer;
use crate::proto::v1::call_service_server::CallServiceServer;
use crate::proto::v1::consent_service_server::ConsentServiceServer;
use crate::proto::v1::event_service_server::EventServiceServer;
use crate::proto::v1::key_service_server::KeyServiceServer;
use crate::proto::v1::retention_service_server::RetentionServiceServer;
use crate::proto::v1::subject_service_server::SubjectServiceServer;
use crate::proto::v1::token_service_server::TokenServiceServer;
use crate::telemetry::otlp::Tracer;
use crate::vault::Vault;
use guard::Guard;
use listen::Entrance;
use record::Recorded;
use trace::Traced;

/// The largest message that is taken where nobody asks who calls.
const LARGEST_FROM_STRANGERS: usize = 4 << 10;

/// The largest message that is given: 1000 values of 64 KiB and what surrounds them.
const LARGEST_ANSWER: usize = 80 << 20;

/// How much longer than behind the gate a call may take.
const AFTER_THE_GATE: Duration = Duration::from_secs(5);

/// The way in, and who may take it.
pub struct Door {
    /// Where it is.
    pub listener: TcpListener,
    /// Who may call.
    pub callers: Arc<Callers>,
    /// TLS, if it has it.
    pub tls: Option<Arc<Tls>>,
    /// What callers may take of it.
    pub limits: Limits,
    /// How the vault is.
    pub health: Health,
    /// Who takes the spans of calls, if anybody does.
    pub tracer: Option<Tracer>,
}

/// What stands before every service: it gives the call an id, knows who calls, puts the call on record, and asks whether the
/// caller may.
struct Gates {
    gate: gate::Gate,
    rights: rights::Rights,
    vault: Arc<Vault>,
    tracer: Option<Arc<Tracer>>,
}

impl Gates {
    fn before<S>(&self, service: S) -> Traced<gate::Gated<Recorded<rights::Gated<S>>>> {
        let gated = self.gate.before(Recorded::new(self.rights.over(service), Arc::clone(&self.vault)));
        Traced::new(gated, Arc::clone(&self.vault), self.tracer.clone())
    }
}

/// Serves the API at `door` until `stop` is ready, then lets the calls under way finish.
///
/// # Errors
/// When the transport fails, or the descriptors cannot be served.
pub async fn serve(door: Door, vault: Arc<Vault>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let Door { listener, callers, tls, limits, health, tracer } = door;
    let (stopping, stopped) = watch::channel(false);
    let guard = Guard { lease: vault.custody().lease(), stop: stopped.clone(), patience: limits.call() };
    let largest = usize::try_from(limits.request_mib).unwrap_or(usize::MAX) << 20;
    let room = arrival::Room::new(largest, usize::try_from(limits.arriving_mib).unwrap_or(usize::MAX) << 20);
    let gate = gate::Gate::new(callers, tls.clone(), limits.call(), room);
    let connections = listen::accept(listener, Entrance { limits, tls, guard });
    let tokens = TokenServiceServer::new(token::Tokens::new(Arc::clone(&vault)))
        .max_decoding_message_size(largest)
        .max_encoding_message_size(LARGEST_ANSWER);
    let subjects = SubjectServiceServer::new(subject::Subjects::new(Arc::clone(&vault)))
        .max_decoding_message_size(largest)
        .max_encoding_message_size(LARGEST_ANSWER);
    let consents = ConsentServiceServer::new(consent::Consents::new(Arc::clone(&vault)))
        .max_decoding_message_size(largest)
        .max_encoding_message_size(LARGEST_ANSWER);
    // Streams of events would go on for ever: they are told to end, and the door waits for them like for other calls.
    let stop = async {
        stop.await;
        stopping.send_replace(true);
    };
    let events =
        EventServiceServer::new(event::Events::new(Arc::clone(&vault), stopped)).max_decoding_message_size(largest);
    let keys = KeyServiceServer::new(key::Keys::new(Arc::clone(&vault))).max_decoding_message_size(largest);
    let accesses = AccessServiceServer::new(access::Accesses::new(Arc::clone(&vault)))
        .max_decoding_message_size(largest)
        .max_encoding_message_size(LARGEST_ANSWER);
    let audits = AuditServiceServer::new(audit::Audits::new(Arc::clone(&vault)))
        .max_decoding_message_size(largest)
        .max_encoding_message_size(LARGEST_ANSWER);
    let retention = RetentionServiceServer::new(retention::Retention::new(Arc::clone(&vault)))
        .max_decoding_message_size(largest)
        .max_encoding_message_size(LARGEST_ANSWER);
    let calls = CallServiceServer::new(call::Calls::new(Arc::clone(&vault)))
        .max_decoding_message_size(largest)
        .max_encoding_message_size(LARGEST_ANSWER);
    let rights = rights::Rights::new(Arc::clone(&vault));
    let gates = Gates { gate, rights, vault, tracer: tracer.map(Arc::new) };
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?
        .max_decoding_message_size(LARGEST_FROM_STRANGERS);
    let reflection_alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()?
        .max_decoding_message_size(LARGEST_FROM_STRANGERS);
    server(&limits)
        .add_service(health.service)
        .add_service(reflection)
        .add_service(reflection_alpha)
        .add_service(gates.before(tokens))
        .add_service(gates.before(subjects))
        .add_service(gates.before(consents))
        .add_service(gates.before(events))
        .add_service(gates.before(keys))
        .add_service(gates.before(accesses))
        .add_service(gates.before(audits))
        .add_service(gates.before(retention))
        .add_service(gates.before(calls))
        .serve_with_incoming_shutdown(connections, stop)
        .await?;
    Ok(())
}

/// Looks after what may be replaced while the door is open, and at once when `now` says so, until `stop` is set.
pub async fn keep_current(
    tls: Option<Arc<Tls>>,
    callers: Arc<Callers>,
    now: watch::Receiver<()>,
    stop: watch::Receiver<bool>,
) {
    tokio::join!(tls::keep(tls, now.clone(), stop.clone()), jwt::keep(callers, now, stop));
}

/// A server that holds everybody to the limits.
fn server(limits: &Limits) -> Server {
    let seconds = |seconds: u32| Some(Duration::from_secs(seconds.into()));
    Server::builder()
        // Behind the gate a call ends earlier, with a reason.
        .timeout(limits.call() + AFTER_THE_GATE)
        .max_concurrent_streams(limits.calls_per_connection)
        .concurrency_limit_per_connection(usize::try_from(limits.calls_per_connection).unwrap_or(usize::MAX))
        .http2_keepalive_interval(seconds(limits.keepalive_seconds))
        .http2_keepalive_timeout(seconds(limits.keepalive_timeout_seconds))
        .http2_max_header_list_size(limits.header_kib << 10)
}

/// The standard health service.
pub struct Health {
    service: tonic_health::pb::health_server::HealthServer<tonic_health::server::HealthService>,
}

/// Tells the health service how the vault is.
#[derive(Clone)]
pub struct Pulse(HealthReporter);

/// The services that health is told of, beside the whole server under the empty name.
const SERVICES: [&str; 9] = [
    "",
    "lacuna.v1.AccessService",
    "lacuna.v1.AuditService",
    "lacuna.v1.CallService",
    "lacuna.v1.ConsentService",
    "lacuna.v1.EventService",
    "lacuna.v1.RetentionService",
    "lacuna.v1.SubjectService",
    "lacuna.v1.TokenService",
];
/// The service that needs the custodian of the root, which the others do not.
const KEYS: &str = "lacuna.v1.KeyService";

impl Health {
    /// A health service, and the means to tell it.
    #[must_use]
    pub fn new() -> (Self, Pulse) {
        let reporter = HealthReporter::new();
        let service = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
        let service = tonic_health::pb::health_server::HealthServer::new(service)
            .max_decoding_message_size(LARGEST_FROM_STRANGERS);
        (Self { service }, Pulse(reporter))
    }
}

impl Pulse {
    /// Says whether the vault can serve.
    pub async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.0.set_service_status(service, status).await;
        }
    }

    /// Says whether the keys can change.
    pub async fn set_custodian(&self, answers: bool) {
        let status = if answers { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(KEYS, status).await;
    }
}

/// Measures a call and turns its error into a status.
fn answer<T>(
    rpc: &'static str,
    deed: impl Future<Output = Result<T, Error>>,
) -> impl Future<Output = Result<tonic::Response<T>, tonic::Status>> {
    // A deed may be large, and its future is moved about.
    let deed = Box::pin(deed);
    async move {
        let begun = Instant::now();
        let outcome = record::settle(rpc, deed).await;
        let reason = outcome.as_ref().err().map_or("OK".to_owned(), |error| status::reason_name(error.reason));
        metrics::counter!("lacuna_calls_total", "rpc" => rpc, "reason" => reason).increment(1);
        metrics::histogram!("lacuna_call_seconds", "rpc" => rpc).record(begun.elapsed().as_secs_f64());
        outcome.map(tonic::Response::new).map_err(|error| to_status(&error))
    }
}
