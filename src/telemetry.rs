//! Logs and metrics: what is told to operators. Ids, counts and times; never a value.
//!
//! The operator's filter decides what of the vault is logged. What other crates say is logged from INFO upwards and
//! never below, whatever the filter asks for: at DEBUG and TRACE a transport or a driver prints what it carries, such
//! as headers with credentials, and nobody here can promise what the next version of it will print.
//!
//! A line about a call names it by the id that its caller was told, and by the trace that it is part of (see
//! [`crate::trace`]).
//!
//! Metrics, in Prometheus text form at `/metrics` of `metrics_listen`:
//!
//! | name | labels | what |
//! |---|---|---|
//! | `lacuna_calls_total` | `rpc`, `reason` | calls by outcome; `OK` or the error's reason |
//! | `lacuna_call_seconds` | `rpc` | how long calls took |
//! | `lacuna_reveals_total` | `outcome` | tokens revealed or refused |
//! | `lacuna_tokens_created_total` | | tokens made |
//! | `lacuna_reveal_budget_used_ratio` | `caller` | how much of its budget of reveals a caller has used |
//! | `lacuna_reveal_budget_refusals_total` | | calls that were refused as over a budget |
//! | `lacuna_approvals_total` | `outcome` | requests for approval of bulk reveals |
//! | `lacuna_lookups_total` | `outcome` | look-ups of callers of a contact centre |
//! | `lacuna_honey_touched_total` | | calls that touched people who do not exist |
//! | `lacuna_enumeration_suspected_total` | | callers that looked again and again for what is not there |
//! | `lacuna_policies` | | policies in force |
//! | `lacuna_policies_current` | | 0 while changed files of policies cannot be used |
//! | `lacuna_policy_reloads_total` | `outcome` | other policies that were loaded or refused |
//! | `lacuna_erasures_total` | `state` | erasures carried out or left pending |
//! | `lacuna_erasures_pending` | | erasures that wait for something |
//! | `lacuna_retention_ended_total` | | values destroyed because they were kept long enough |
//! | `lacuna_retention_failed_total` | | keys that were due and could not be ended, at each try |
//! | `lacuna_retention_overdue` | | keys that were due and still there when the vault last looked |
//! | `lacuna_retention_clock_doubted` | | 1 while the clock is not believed, so that nothing is destroyed by it |
//! | `lacuna_event_streams` | | streams of events that are open |
//! | `lacuna_event_consumer_behind`, `lacuna_event_consumer_behind_seconds` | `consumer` | how far a consumer is behind |
//! | `lacuna_connections` | | connections that are open |
//! | `lacuna_connections_refused_total` | `cause` | connections that were not served |
//! | `lacuna_callers_unknown_total` | `credential` | calls that were refused as of somebody unknown |
//! | `lacuna_credentials_stale` | `what` | 1 while new files of TLS, or an issuer's keys, cannot be used or had |
//! | `lacuna_tls_certificate_expire_seconds` | | when the server's certificate expires; infinite without TLS |
//! | `lacuna_spans_exported_total` | | spans that the collector of traces has taken |
//! | `lacuna_spans_dropped_total` | `cause` | spans that it has not |
//! | `lacuna_serving` | | 1 while the vault serves |
//! | `lacuna_custodian_up` | | 1 while the root slot answers, so that keys can change |
//! | `lacuna_key_epoch` | | how often the root has changed |
//! | `lacuna_key_pages`, `lacuna_key_state_bytes` | | size of the key state |
//! | `lacuna_key_leaves_punctured` | | leaves that are gone |
//! | `lacuna_slot_copy_epoch`, `lacuna_sink_epoch` | `copy`, `sink` | where each copy stands, by its number |
//! | `lacuna_audit_intact` | | 0 when a chain of the audit does not go on from its checkpoints |
//! | `lacuna_audit_checkpoint_time_seconds` | | when every place last had every checkpoint of the audit |
//! | `lacuna_journal_waiting` | | changes that are not in the journal of the sinks yet |
//! | `lacuna_sink_lagging` | `sink` | 1 while a sink lacks the present key state |

mod log;
pub mod otlp;

use std::io::IsTerminal as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::Log;
use crate::keys::status::{Copies, Status};
use log::Named;

/// Bounds of the histograms, in seconds.
const SECONDS: [f64; 14] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Starts logging to standard error.
///
/// # Errors
/// When the filter makes no sense.
pub fn start_logging(log: &Log) -> Result<()> {
    let asked = EnvFilter::try_new(&log.filter).context("log.filter")?;
    // Filters of the whole logger, not of its layer: one of a layer forgets lines after somebody has only asked whether
    // a line would be logged, as the driver of PostgreSQL does.
    let logger =
        tracing_subscriber::registry().with(asked).with(filter_fn(|told| may_be_told(told.target(), *told.level())));
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    let started = if log.json {
        logger.with(lines.json().map_event_format(|format| Named { format, json: true })).try_init()
    } else {
        let named = lines.map_event_format(|format| Named { format: format.with_ansi(colours), json: false });
        logger.with(named).try_init()
    };
    // A process that logs already, as a test does, keeps its logger.
    let _already = started;
    Ok(())
}

/// Whether something may be logged if the operator wants it.
fn may_be_told(target: &str, level: Level) -> bool {
    level <= Level::INFO || target == "lacuna" || target.starts_with("lacuna::")
}

/// Serves metrics on `address`.
///
/// # Errors
/// When the address cannot be used.
pub fn serve_metrics(address: SocketAddr) -> Result<()> {
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install()
        .with_context(|| format!("cannot serve metrics on {address}"))
}

/// Publishes how the keys are.
pub fn publish(status: &Status) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    let float = |number: u64| number as f64;
    metrics::gauge!("lacuna_key_epoch").set(float(status.epoch));
    metrics::gauge!("lacuna_key_pages").set(float(status.pages));
    metrics::gauge!("lacuna_key_state_bytes").set(float(status.bytes));
    metrics::gauge!("lacuna_key_leaves_punctured").set(float(status.punctured_leaves));
    publish_copies(&Copies {
        copies: status.copies.clone(),
        sinks: status.sinks.clone(),
        erasures_pending: status.erasures_pending,
    });
}

/// Publishes where each copy of the keys stands, and what waits for one.
pub fn publish_copies(status: &Copies) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    let float = |number: u64| number as f64;
    metrics::gauge!("lacuna_erasures_pending").set(float(status.erasures_pending));
    for (at, copy) in status.copies.iter().enumerate() {
        let epoch = copy.epoch.map_or(-1.0, float);
        metrics::gauge!("lacuna_slot_copy_epoch", "copy" => at.to_string()).set(epoch);
    }
    for (at, sink) in status.sinks.iter().enumerate() {
        let lags = f64::from(u8::from(sink.trouble.is_some()));
        metrics::gauge!("lacuna_sink_epoch", "sink" => at.to_string()).set(sink.epoch.map_or(-1.0, float));
        metrics::gauge!("lacuna_sink_lagging", "sink" => at.to_string()).set(lags);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_crates_are_not_heard_below_info() {
        assert!(may_be_told("lacuna::keys::shred", Level::TRACE));
        assert!(may_be_told("h2::codec", Level::INFO));
        for target in ["h2::codec::framed_read", "hyper", "sqlx", "tonic", "rustls", "lacunae"] {
            assert!(!may_be_told(target, Level::DEBUG) && !may_be_told(target, Level::TRACE), "{target}");
        }
    }
}
