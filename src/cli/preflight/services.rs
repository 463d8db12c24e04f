//! The services that keep keys or checkpoints elsewhere: whether they answer, and let this vault in.

use std::time::Duration;

use anyhow::Result;

use super::Check;
use crate::cli::{custodian, open};
use crate::config::Config;
use crate::config::slot::Kek;

const NAME: &str = "services";

/// How long a bucket may take. The start must not wait for one that others stand in for.
const PATIENCE: Duration = Duration::from_secs(3);

pub async fn check(config: &Config) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let uses_kms = config.slot.kek == Kek::AwsKms
        || config.slot.former_kek.as_ref().is_some_and(|former| former.kek == Kek::AwsKms);
    if uses_kms && let Err(error) = custodian::look_at_kek(config).await {
        let fix = "as it says; docs/operating.md, \"The key-encrypting key\", lists settings and rights";
        checks.push(Check::fail(NAME, format!("{error:#}"), fix));
    }
    let sinks = open::sinks(config)?;
    for (sink, _) in sinks.iter().zip(config.sinks()).filter(|(_, configured)| configured.bucket.is_some()) {
        let found = match tokio::time::timeout(PATIENCE, sink.checkpoints()).await {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => error.message.into_owned(),
            Err(_) => format!("the checkpoint sink in {} does not answer", sink.describe()),
        };
        let fix = "as it says; docs/operating.md, \"Checkpoint sinks\", lists settings and rights";
        checks.push(Check::warn(NAME, format!("{found}; erasures may have to wait"), fix));
    }
    if checks.is_empty() {
        checks.push(Check::pass(NAME, "every service that the configuration names answers and lets this vault in"));
    }
    Ok(checks)
}
