//! From a configuration to a vault's keys: which vault is meant, and everything its keys stand on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::custodian::{self, SLOT_FILE, has_no_slot, slot_directories};
use crate::config::{self, Config};
use crate::crypto::{Random, SystemRandom};
use crate::keys::Custody;
use crate::keys::custody::Parts;
use crate::keys::files;
use crate::keys::kek::Absent;
use crate::keys::lease::Lease;
use crate::keys::recover::{self, Report};
use crate::keys::signer::Signer;
#[cfg(feature = "s3")]
use crate::keys::sink::{BucketSettings, BucketSink};
use crate::keys::sink::{CheckpointSink, DirectorySink, Sinks};
use crate::keys::slot::SlotLock;
use crate::model::Clock;
use crate::store::{self, Store};
use crate::vault::audit::keeper::Settings;

/// Which vault on this machine is meant.
#[derive(Clone, Default, clap::Args)]
pub struct Place {
    /// Configuration file
    #[arg(long, env = "LACUNA_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of the embedded database, checkpoints and development credential [default: ./lacuna-data]
    #[arg(long, env = "LACUNA_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Directory of the root slot; never inside the data directory [default: beside it, ./lacuna-slot]
    #[arg(long, env = "LACUNA_SLOT_DIR", value_name = "DIR")]
    pub slot_dir: Option<PathBuf>,
    /// sqlite:PATH or postgres://… [default: vault.db in the data directory]
    #[arg(long, env = "LACUNA_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
}

impl Place {
    /// The configuration, with what the command line and the environment override.
    pub fn config(&self) -> Result<Config> {
        let mut config = config::load(self.config.as_deref())?;
        config.data_dir = self.data_dir.clone().or(config.data_dir);
        config.slot.directory = self.slot_dir.clone().or(config.slot.directory);
        if let Some(url) = &self.database_url {
            config.database_url = Some(url.clone().into());
            config.database_url_file = None;
        }
        config.check_paths()?;
        Ok(config)
    }
}

/// How long a node waits for another that makes the vault.
const MAKING: Duration = Duration::from_secs(20);

/// A vault's keys, opened, with what they stand on.
pub struct Opened {
    /// The keys.
    pub custody: Custody,
    /// What opening them found and did.
    pub report: Report,
    /// The database.
    pub store: Arc<dyn Store>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Opened {
    /// Leaves the vault in good order.
    pub async fn close(self) -> Result<()> {
        self.custody.leave().await?;
        self.store.close().await;
        Ok(())
    }
}

/// Who uses a vault's root slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A node that serves: beside others on a database that several can use, alone on an embedded one.
    Serve,
    /// A deed that must not happen beside a running vault.
    Alone,
    /// The same, and a key that signs receipts is made if there is none any more.
    AloneWithFreshSigner,
}

/// Opens a vault, making what is missing. Holds the root slot until it is dropped.
pub async fn open(config: &Config, clock: Arc<dyn Clock>, how: Use) -> Result<Opened> {
    files::make_private_directory(&config.data_dir())
        .with_context(|| format!("cannot make the data directory {}", config.data_dir().display()))?;
    check_slot_directory(config)?;
    let slot = config.slot_dir().join(SLOT_FILE);
    let shares = how == Use::Serve && !store::is_embedded(config.database_url()?.expose());
    let created = shares && has_no_slot(config).await? && make_alone(config, Arc::clone(&clock), &slot).await?;
    let lock = if shares { SlotLock::share(&slot)? } else { SlotLock::take(&slot)? };
    let signing = if how == Use::AloneWithFreshSigner { Absent::Make } else { Absent::Refuse };
    let mut opened = open_with(config, clock, lock, signing).await?;
    opened.report.created |= created;
    Ok(opened)
}

/// Makes a vault that several nodes will share: one of them makes it, alone, and the others wait for that. Answers
/// whether it was this one.
async fn make_alone(config: &Config, clock: Arc<dyn Clock>, slot: &Path) -> Result<bool> {
    let begun = Instant::now();
    loop {
        match SlotLock::take(slot) {
            Ok(lock) => {
                let opened = open_with(config, clock, lock, Absent::Refuse).await?;
                let created = opened.report.created;
                opened.close().await?;
                return Ok(created);
            }
            Err(error) if begun.elapsed() >= MAKING => return Err(error.into()),
            Err(_) if has_no_slot(config).await? => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(_) => return Ok(false),
        }
    }
}

/// The same, by whoever has the lock on the root slot already. `signing` tells what to do about a key that signs receipts
/// and is nowhere.
pub async fn open_with(config: &Config, clock: Arc<dyn Clock>, lock: SlotLock, signing: Absent) -> Result<Opened> {
    let random: Arc<dyn Random> = Arc::new(SystemRandom::new());
    let store = store::open(config.database_url()?.expose()).await?;
    store.migrate().await?;
    store.check().await?;
    // Keys are made for a new vault only. One that lost a key must say so, not get another.
    let (vault, empty) = (store.read().await?.vault().await?, has_no_slot(config).await?);
    let new = empty && vault.is_none();
    if new {
        for directory in slot_directories(config).chain(config.kek_file().parent().map(Path::to_owned)) {
            files::make_private_directory(&directory)
                .with_context(|| format!("cannot make the slot directory {}", directory.display()))?;
        }
    }
    let vault = match vault {
        Some(vault) => vault.tree,
        None if new => custodian::id_of_new(config, &*random)?,
        None => return Err(recover::no_vault().into()),
    };
    if !new {
        custodian::make_successor(config, vault, &random).await?;
    }
    let kek = custodian::kek(config, vault, new, &random).await?;
    let signing = if new { Absent::Make } else { signing };
    let slot = custodian::hold_slot(config, lock, &kek, &random);
    let signer = Signer::open(&signing_keys(config), Arc::clone(&kek), signing, &*random).await?;
    let parts = Parts {
        vault,
        store: Arc::clone(&store),
        slot,
        kek,
        sinks: sinks(config)?,
        signer,
        clock,
        random: Arc::clone(&random),
        index_buckets: config.index_buckets(),
        lease: Arc::new(if store.is_shared() { Lease::limited() } else { Lease::unlimited() }),
    };
    let (custody, report) = Custody::open(parts).await?;
    Ok(Opened { custody, report, store, random })
}

/// The checkpoint sinks.
///
/// # Errors
/// When what a bucket needs cannot be read.
pub fn sinks(config: &Config) -> Result<Sinks> {
    let all: Result<Vec<_>> = config.sinks().iter().map(sink).collect();
    Ok(Sinks::new(all?, config.sinks_required()))
}

fn sink(sink: &config::Sink) -> Result<Arc<dyn CheckpointSink>> {
    match sink.bucket()? {
        Some(bucket) => in_bucket(&bucket),
        None => Ok(Arc::new(DirectorySink::new(&sink.directory.clone().unwrap_or_default()))),
    }
}

#[cfg(feature = "s3")]
fn in_bucket(bucket: &config::Bucket) -> Result<Arc<dyn CheckpointSink>> {
    Ok(Arc::new(BucketSink::new(&BucketSettings {
        name: &bucket.name,
        endpoint: bucket.endpoint.clone(),
        path_style: bucket.path_style,
        region: &bucket.region,
        prefix: &bucket.prefix,
        access_key_id: bucket.access_key_id.expose(),
        secret_access_key: bucket.secret_access_key.expose(),
    })?))
}

#[cfg(not(feature = "s3"))]
fn in_bucket(bucket: &config::Bucket) -> Result<Arc<dyn CheckpointSink>> {
    anyhow::bail!("this build cannot use the bucket {}: it lacks the feature s3", bucket.name)
}

/// How the audit is kept.
#[must_use]
pub fn audit(config: &Config) -> Settings {
    let place = |path: &PathBuf| -> Arc<dyn CheckpointSink> { Arc::new(DirectorySink::new(path)) };
    let places = config.audit_places().iter().map(place).collect();
    Settings { places, every: config.audit.every(), keep: config.audit.keep() }
}

/// The files of the key that signs receipts, one beside each copy of the slot; the public half stands beside each.
#[must_use]
pub fn signing_keys(config: &Config) -> Vec<PathBuf> {
    slot_directories(config).map(|directory| directory.join("receipt-signing.key")).collect()
}

/// Refuses to go on when the slot's directory is gone and the embedded database is not: its disk may not be mounted, and
/// nothing must be made in its place.
fn check_slot_directory(config: &Config) -> Result<()> {
    let (slot, url) = (config.slot_dir(), config.database_url()?);
    let database = url.expose().strip_prefix("sqlite:").map(PathBuf::from);
    if let Some(database) = database.filter(|database| database.exists() && !slot.exists()) {
        anyhow::bail!(
            "the root slot's directory {} is missing, but the database {} is there: bring the directory back, or name the \
             right one with --slot-dir. Without its slot nothing in this database can be read",
            slot.display(),
            database.display()
        );
    }
    Ok(())
}
