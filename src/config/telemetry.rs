//! Configuration of traces: where spans of calls go, and of how many calls.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use url::Url;

use super::endpoint;

/// Traces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// A collector that takes OTLP over gRPC, such as `http://127.0.0.1:4317`; nothing is told when not said.
    pub otlp: Option<String>,
    /// A file with the authorities that vouch for it, with https; those of the system when not said.
    pub ca_file: Option<PathBuf>,
    /// Of how many calls that are part of no trace yet one begins, between 0 and 1: 0.01. The others do as their caller.
    pub ratio: f64,
    /// What this service is called: `lacuna`.
    pub service: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp: None, ca_file: None, ratio: 0.01, service: "lacuna".to_owned() }
    }
}

impl Telemetry {
    pub(super) fn check(&self) -> Result<()> {
        self.otlp()?;
        ensure!((0.0..=1.0).contains(&self.ratio), "telemetry.ratio must lie between 0 and 1");
        ensure!((1..=255).contains(&self.service.len()), "telemetry.service must have 1 to 255 characters");
        Ok(())
    }

    /// Where spans go.
    ///
    /// # Errors
    /// When that is no address of a collector.
    pub fn otlp(&self) -> Result<Option<Url>> {
        let url = self.otlp.as_deref().map(endpoint::parse).transpose().context("telemetry.otlp")?;
        let secret = url.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some());
        ensure!(!secret, "telemetry.otlp: no credential may stand in an address, which is logged");
        Ok(url)
    }
}
