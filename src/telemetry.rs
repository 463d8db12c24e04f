//! Logs and metrics: what is told to operators. Ids, counts and times; never a value.
//!
//! Metrics, in Prometheus text form at `/metrics` of `metrics_listen`:
//!
//! | name | labels | what |
//! |---|---|---|
//! | `lacuna_calls_total` | `rpc`, `reason` | calls by outcome; `OK` or the error's reason |
//! | `lacuna_call_seconds` | `rpc` | how long calls took |
//! | `lacuna_reveals_total` | `outcome` | tokens revealed or refused |
//! | `lacuna_tokens_created_total` | | tokens made |
//! | `lacuna_erasures_total` | `state` | erasures carried out or left pending |
//! | `lacuna_erasures_pending` | | erasures that wait for something |
//! | `lacuna_serving` | | 1 while the vault serves |
//! | `lacuna_key_epoch` | | how often the root has changed |
//! | `lacuna_key_pages`, `lacuna_key_state_bytes` | | size of the key state |
//! | `lacuna_key_leaves_punctured` | | leaves that are gone |
//! | `lacuna_slot_copy_epoch`, `lacuna_sink_epoch` | `copy`, `sink` | where each copy stands, by its number |

use std::io::IsTerminal as _;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

use crate::config::Log;
use crate::keys::status::Status;

/// Bounds of the histograms, in seconds.
const SECONDS: [f64; 14] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Starts logging to standard error.
///
/// # Errors
/// When the filter makes no sense.
pub fn start_logging(log: &Log) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&log.filter).context("log.filter")?;
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let logger = logger.with_ansi(std::io::stderr().is_terminal());
    let started = if log.json { logger.json().try_init() } else { logger.try_init() };
    // A process that logs already, as a test does, keeps its logger.
    let _already = started;
    Ok(())
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
    metrics::gauge!("lacuna_erasures_pending").set(float(status.erasures_pending));
    for (at, copy) in status.copies.iter().enumerate() {
        let epoch = copy.epoch.map_or(-1.0, float);
        metrics::gauge!("lacuna_slot_copy_epoch", "copy" => at.to_string()).set(epoch);
    }
    for (at, sink) in status.sinks.iter().enumerate() {
        metrics::gauge!("lacuna_sink_epoch", "sink" => at.to_string()).set(sink.epoch.map_or(-1.0, float));
    }
}
