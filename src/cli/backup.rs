//! Backing a vault up, and putting a backup in place.
//!
//! A backup is a directory: a copy of the database, and a manifest that tells what it is a copy of and the digest of
//! each file. It holds no key, and the manifest is written last, so that a copy which was interrupted is none.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::admin::Here;
use super::failure::{Failure, Result};
use super::open;
use super::print::Answer;
use super::table::record;
use super::{custodian, keys};
use crate::config::Config;
use crate::crypto::derive::Digest;
use crate::keys::checkpoint::{hex, unhex};
use crate::keys::files;
use crate::keys::kek::Absent;
use crate::keys::node;
use crate::keys::recover::Report;
use crate::keys::slot::SlotLock;
use crate::model::{Clock as _, SystemClock, Time};
use crate::store;
use crate::vault::journal::{self, Replayed};

/// The name of a backup's description.
const MANIFEST: &str = "manifest.json";

/// How much of a file is read at once.
const BLOCK: usize = 1 << 20;

/// Arguments of `lacuna backup`.
#[derive(clap::Args)]
pub struct BackupArgs {
    /// Directory to be made for the backup
    directory: PathBuf,
    #[command(flatten)]
    pub here: Here,
}

/// Arguments of `lacuna restore`.
#[derive(clap::Args)]
pub struct RestoreArgs {
    /// Directory of the backup
    directory: PathBuf,
    /// Move a database that is there aside
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    pub here: Here,
}

/// What a backup is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: u32,
    /// The version of the program that took it.
    pub version: String,
    /// When.
    pub taken_at: String,
    /// The kind of database.
    pub database: String,
    /// The key tree, by its id.
    pub tree: String,
    /// The epoch at which the slot stood when the copy began.
    pub epoch: u64,
    /// The root of that epoch, by its public name.
    pub root_id: String,
    /// Every file of the backup but this one, by name.
    pub files: BTreeMap<String, Sum>,
}

/// What tells whether a file is as it was.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum {
    /// Its length.
    pub bytes: u64,
    /// Its digest, in hex.
    pub sha256: String,
}

impl Sum {
    fn of(path: &Path) -> std::io::Result<Self> {
        let (mut file, mut digest, mut bytes) = (fs::File::open(path)?, Digest::default(), 0);
        let mut block = vec![0; BLOCK];
        loop {
            let read = file.read(&mut block)?;
            let Some(block) = block.get(..read).filter(|block| !block.is_empty()) else { break };
            digest.update(block);
            bytes += read as u64;
        }
        Ok(Self { bytes, sha256: hex(&digest.finish()) })
    }
}

impl Manifest {
    /// Reads the description of a backup.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(MANIFEST);
        let bytes = fs::read(&path).with_context(|| {
            format!("cannot read {}; this is no backup, or one that was never completed", path.display())
        })?;
        let manifest: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged, or of another version", path.display()))?;
        ensure!(manifest.format == 1, "the backup has format {}, this version reads format 1", manifest.format);
        Ok(manifest)
    }

    /// The vault, by the id of its key tree.
    pub fn tree(&self) -> anyhow::Result<[u8; 16]> {
        unhex(&self.tree).context("the backup is damaged: its manifest names no vault")
    }

    /// The digest of the description, which names the backup: the description has the digests of all other files.
    pub fn digest(directory: &Path) -> anyhow::Result<String> {
        let path = directory.join(MANIFEST);
        Ok(Sum::of(&path).with_context(|| format!("cannot read {}", path.display()))?.sha256)
    }

    /// Makes sure that every file is there and as it was written.
    pub fn verify(&self, directory: &Path) -> anyhow::Result<()> {
        let copy = store::copy_of(&self.database);
        ensure!(self.files.contains_key(copy), "the backup is damaged: its manifest does not name {copy}");
        for (name, expected) in &self.files {
            let path = directory.join(name);
            ensure!(path.parent() == Some(directory), "the backup is damaged: {name} is not the name of a file in it");
            let found = Sum::of(&path).with_context(|| format!("the backup is incomplete: {}", path.display()))?;
            ensure!(
                found == *expected,
                "the backup is damaged: {} has {} bytes with SHA-256 {}, the manifest says {} bytes with SHA-256 {}; take \
                 another backup",
                path.display(),
                found.bytes,
                found.sha256,
                expected.bytes,
                expected.sha256
            );
        }
        Ok(())
    }
}

/// `lacuna backup`: a consistent copy of the database with a description. Works beside a running vault.
pub async fn backup(args: BackupArgs) -> Result<()> {
    let config = args.here.place.config()?;
    let found = keys::look(&config).await?;
    let directory = &args.directory;
    if directory.exists() {
        return Err(anyhow::anyhow!("{} exists; name a directory that does not", directory.display()).into());
    }
    files::make_private_directory(directory).map_err(anyhow::Error::from)?;
    let url = config.database_url()?;
    let taken_at = SystemClock.now().to_string();
    let copied =
        store::backup(url.expose(), directory).await.map_err(anyhow::Error::from).and_then(|()| sums(directory));
    let files = match copied {
        Ok(files) => files,
        Err(error) => {
            // Half a backup is none, and would only be mistaken for one.
            let _nothing_more_can_be_done = fs::remove_dir_all(directory);
            return Err(error.into());
        }
    };
    let manifest = Manifest {
        format: 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at,
        database: store::kind(url.expose()).to_owned(),
        tree: found.tree,
        epoch: found.epoch,
        root_id: found.root_id,
        files,
    };
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(anyhow::Error::from)?;
    files::replace(&directory.join(MANIFEST), &bytes).map_err(anyhow::Error::from)?;
    let human = format!(
        "backed up the database at epoch {} to {}\nit opens with the root slot and its checkpoint only; whoever is \
         erased from now on will stay erased in it",
        manifest.epoch,
        directory.display()
    );
    args.here.output.show(&Answer::new(serde_json::to_value(&manifest).map_err(anyhow::Error::from)?, human))
}

/// The digest of every file in a directory.
fn sums(directory: &Path) -> anyhow::Result<BTreeMap<String, Sum>> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        sums.insert(entry.file_name().to_string_lossy().into_owned(), Sum::of(&entry.path())?);
    }
    Ok(sums)
}

/// `lacuna restore`: puts a backup in place, then lets the present slot and checkpoint have the last word.
pub async fn restore(args: RestoreArgs) -> Result<()> {
    let config = args.here.place.config()?;
    let manifest = Manifest::read(&args.directory)?;
    let url = config.database_url()?;
    check_kind(&manifest, url.expose())?;
    // Ours from here to the end: nobody may start to serve what is about to be replaced.
    let lock = SlotLock::take(&config.slot_dir().join(custodian::SLOT_FILE)).map_err(anyhow::Error::from)?;
    check_slot(&config, &manifest).await?;
    manifest.verify(&args.directory)?;
    // The lock is of this machine; nodes on others are in the database.
    check_nobody_serves(url.expose()).await?;
    store::restore(url.expose(), &args.directory, args.replace).await.map_err(anyhow::Error::from)?;
    let opened = open::open_with(&config, Arc::new(SystemClock), lock, Absent::Refuse).await.context(
        "the database is restored, but its keys do not open; the slot and the checkpoint sinks must be the present ones",
    )?;
    let mut report = opened.report.clone();
    if !report.from_checkpoint {
        report.lost = opened.custody.after_restore().await.map_err(anyhow::Error::from)?;
    }
    let replayed = journal::replay(&opened.custody, &SystemClock).await.context(
        "the database is restored, but the journal in the sinks cannot be read; see to the sinks and restore once more",
    )?;
    opened.close().await?;
    args.here.output.show(&told(&manifest, &report, &replayed))
}

/// Refuses to replace a database while nodes serve it.
async fn check_nobody_serves(url: &str) -> Result<()> {
    if store::is_embedded(url) {
        return Ok(());
    }
    let present = store::open(url).await.map_err(anyhow::Error::from)?;
    let free = match present.is_migrated().await {
        Ok(true) => node::await_nobody(&*present).await,
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    present.close().await;
    Ok(free.map_err(anyhow::Error::from)?)
}

/// Refuses a backup of another kind of database.
pub fn check_kind(manifest: &Manifest, url: &str) -> Result<()> {
    if manifest.database == store::kind(url) {
        return Ok(());
    }
    let message = format!("the backup is of {}, the configured database is not", manifest.database);
    Err(Failure::Usage(anyhow::anyhow!(message)))
}

/// What a restore did.
fn told(manifest: &Manifest, report: &Report, replayed: &Replayed) -> Answer {
    let json = json!({
        "backup": { "taken_at": manifest.taken_at, "epoch": manifest.epoch, "version": manifest.version },
        "epoch_before": report.epoch_before,
        "epoch": report.epoch,
        "from_checkpoint": report.from_checkpoint,
        "erasures_reapplied": report.erasures_reapplied,
        "reapplied": report.reapplied,
        "erasures_completed": report.erasures_completed,
        "erasures_pending": report.erasures_pending,
        "erasures_put_off": report.lost.erasures_put_off,
        "leaves_given_up": report.lost.leaves_given_up,
        "buckets_rebuilt": report.buckets_rebuilt,
        "journal": replayed,
    });
    let until = match replayed.until {
        0 => "nothing younger than the backup".to_owned(),
        until => Time::from_micros(until).to_string(),
    };
    let key_state = if report.from_checkpoint { "from the newest checkpoint" } else { "as in the backup" };
    let human = format!(
        "restored the backup of {}\n{}\nvalues and people that came after the backup are gone, rectifications among them; see \
         \"The database is lost\" in docs/operating.md",
        manifest.taken_at,
        record(&[
            ("epoch", format!("{} in the backup, {} now", report.epoch_before, report.epoch)),
            ("key state", key_state.to_owned()),
            ("erasures applied again", report.erasures_reapplied.to_string()),
            ("erasures completed", report.erasures_completed.to_string()),
            ("erasures still pending", report.erasures_pending.to_string()),
            ("scheduled erasures put off", report.lost.erasures_put_off.to_string()),
            ("leaves given up", report.lost.leaves_given_up.to_string()),
            ("index buckets rebuilt", report.buckets_rebuilt.to_string()),
            ("journal known until", until),
            ("journal: definitions", replayed.documents.to_string()),
            ("journal: people's terms", replayed.subjects.to_string()),
            ("journal: consent events", replayed.consent_events.to_string()),
            ("journal: suppressed", replayed.suppressed.to_string()),
            ("journal: callers", replayed.callers.to_string()),
            ("journal: legal holds", replayed.holds.to_string()),
            ("journal: lost to holds", replayed.held_lost.to_string()),
            ("journal: erasures", replayed.erasures.to_string()),
            ("journal: unknown people", replayed.of_unknown_people.to_string()),
            ("journal: lost", replayed.lost.to_string()),
        ])
    );
    Answer::new(json, human)
}

/// Makes sure that the slot is the one of the vault that was backed up, before anything is replaced.
async fn check_slot(config: &Config, manifest: &Manifest) -> anyhow::Result<()> {
    let slot = custodian::look_at_slot(config, manifest.tree()?).await?;
    let content = slot.load().await?.with_context(|| format!("the root slot is empty: {}", slot.describe()))?;
    let ours = hex(&content.tree);
    ensure!(ours == manifest.tree, "the backup is of vault {}, the root slot of vault {ours}", manifest.tree);
    Ok(())
}
