//! The operator's policies: read at the start, and again whenever their files change.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;

use super::serve::UPKEEP;
use crate::config::{Config, Policy};
use crate::policy::{Authority, Caller, Policies, PolicyFile, Registered};
use crate::vault::Vault;

/// Whoever holds the development credential.
pub const DEVELOPMENT: &str = "development";

/// How often callers are looked at.
const LOOK: Duration = Duration::from_millis(300);

/// What was read.
pub type Files = Option<Vec<PolicyFile>>;

/// The policies that the vault begins with.
///
/// # Errors
/// Naming the file and the line at fault: a vault does not start by other rules than those it was given.
pub fn load(config: &Config) -> Result<(Authority, Files)> {
    let files = config.policy.files()?;
    let policies = Policies::parse(files.as_deref()).context("a policy cannot be used")?;
    let terms = config.callers.iter().map(|caller| (caller.name.clone(), caller.authorization.term()));
    Ok((Authority::new(policies).with_terms(terms.collect()), files))
}

/// The callers in the configuration, as the register of authorised persons has them.
pub fn registered(config: &Config) -> Vec<Registered> {
    let one = |known: &crate::config::Caller| {
        let authorization = known.authorization.clone();
        Registered {
            caller: caller(known),
            person: authorization.person,
            granted_by: authorization.granted_by,
            from: authorization.from,
            until: authorization.until,
            trained: authorization.trained,
        }
    };
    if config.callers.is_empty() {
        return vec![one(&crate::config::Caller { name: DEVELOPMENT.to_owned(), ..Default::default() })];
    }
    config.callers.iter().map(one).collect()
}

/// A caller in the configuration, as policies know them.
pub fn caller(known: &crate::config::Caller) -> Caller {
    Caller {
        name: known.name.clone(),
        groups: known.groups.iter().cloned().collect(),
        purposes: known.purposes.clone().map(|codes| codes.into_iter().collect()),
    }
}

/// Looks several times a second whether callers were disabled, or honey was placed, on other nodes.
pub async fn watch_callers(vault: Arc<Vault>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopped.changed() => return,
        }
        if let Err(error) = vault.refresh_callers().await {
            tracing::warn!(%error, "whether callers were disabled elsewhere cannot be seen");
        }
        if let Err(error) = vault.refresh_honey().await {
            tracing::warn!(%error, "whether honey was placed elsewhere cannot be seen");
        }
    }
}

/// Records which policies the vault begins with.
///
/// # Errors
/// `AuditUnavailable`.
pub async fn record(vault: &Vault, files: &Files) -> Result<()> {
    for outcome in ["loaded", "refused"] {
        metrics::counter!("lacuna_policy_reloads_total", "outcome" => outcome).absolute(0);
    }
    tell(vault, true);
    if let Some(files) = files {
        vault.record_policies(files, None).await?;
    }
    Ok(())
}

/// Looks once a second, and when the process is told to (SIGHUP), whether the files are other ones. What cannot be used
/// is said once, and what was in force before stays.
pub async fn watch(
    vault: Arc<Vault>,
    policy: Policy,
    files: Files,
    mut again: watch::Receiver<()>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut reread = Reread { vault, policy, in_force: files, refused: None, seen: None };
    loop {
        let told = tokio::select! {
            () = tokio::time::sleep(UPKEEP) => false,
            Ok(()) = again.changed() => true,
            _ = stopped.changed() => return,
        };
        if reread.policy.directory.is_some() {
            reread.look(told).await;
        }
    }
}

struct Reread {
    vault: Arc<Vault>,
    policy: Policy,
    in_force: Files,
    /// What cannot be used, so that it is said once.
    refused: Option<String>,
    /// What was read last: files that are still being written differ from one look to the next.
    seen: Files,
}

impl Reread {
    async fn look(&mut self, told: bool) {
        let policy = self.policy.clone();
        let read = tokio::task::spawn_blocking(move || policy.files()).await;
        let files = match read.map_err(anyhow::Error::from).flatten() {
            Ok(files) => files,
            Err(error) => return self.refuse(&[], format!("{error:#}"), told).await,
        };
        let settled = told || files == self.seen;
        self.seen.clone_from(&files);
        if !settled {
            return;
        }
        if files == self.in_force {
            // What could not be used was taken back.
            if self.refused.take().is_some() {
                tracing::info!("the files of policies are as before");
                tell(&self.vault, true);
            }
            return;
        }
        let (Some(given), parsed) = (files.as_deref(), Policies::parse(files.as_deref())) else { return };
        match parsed {
            Ok(policies) => match self.vault.replace_policies(policies, given).await {
                Ok(()) => {
                    tracing::info!(files = given.len(), "other policies are in force");
                    metrics::counter!("lacuna_policy_reloads_total", "outcome" => "loaded").increment(1);
                    tell(&self.vault, true);
                    (self.in_force, self.refused) = (files, None);
                }
                Err(error) => tracing::error!(%error, "other policies wait until they can be recorded"),
            },
            Err(error) => {
                let given = given.to_vec();
                self.refuse(&given, error.to_string(), told).await;
            }
        }
    }

    async fn refuse(&mut self, files: &[PolicyFile], error: String, told: bool) {
        if self.refused.as_ref() == Some(&error) && !told {
            return;
        }
        tracing::error!(error, "THE POLICIES CANNOT BE USED: those that were in force before stay in force");
        metrics::counter!("lacuna_policy_reloads_total", "outcome" => "refused").increment(1);
        tell(&self.vault, false);
        match self.vault.record_policies(files, Some("PolicyInvalid".to_owned())).await {
            Ok(()) => self.refused = Some(error),
            Err(error) => tracing::error!(%error, "that policies were refused could not be recorded yet"),
        }
    }
}

fn tell(vault: &Vault, current: bool) {
    metrics::gauge!("lacuna_policies").set(u32::try_from(vault.authority().policies().len()).unwrap_or(u32::MAX));
    metrics::gauge!("lacuna_policies_current").set(f64::from(u8::from(current)));
}
