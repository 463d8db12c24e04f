//! What needs no server: making a vault, looking at its keys, backing up and restoring, checking receipts.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::failure::{Failure, Result};
use super::open::{self, Place};
use super::preflight;
use super::print::{Answer, Output};
use super::table::record;
use crate::config::Config;
use crate::keys::checkpoint::hex;
use crate::keys::slot::SlotLock;
use crate::keys::{receipt, status};
use crate::model::{Clock as _, SystemClock};
use crate::store;

/// The name of a backup's description.
const MANIFEST: &str = "manifest.json";

/// A vault on this machine, and how to show what is found.
#[derive(clap::Args)]
pub struct Here {
    #[command(flatten)]
    place: Place,
    /// How to show the answer
    #[arg(long, value_enum, default_value = "human")]
    pub output: Output,
}

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

/// Arguments of `lacuna receipt`.
#[derive(clap::Args)]
pub struct ReceiptArgs {
    #[command(subcommand)]
    verb: ReceiptVerb,
    /// How to show the answer
    #[arg(long, global = true, value_enum, default_value = "human")]
    pub output: Output,
}

#[derive(clap::Subcommand)]
enum ReceiptVerb {
    /// Check a receipt offline
    Verify {
        /// File that `lacuna erasure receipt --file` wrote
        file: PathBuf,
        /// File with the public key that must have signed: receipt-signing.pub in the vault's slot directory
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
    },
}

/// Arguments of `lacuna keys`.
#[derive(clap::Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    verb: KeysVerb,
}

#[derive(clap::Subcommand)]
enum KeysVerb {
    /// Tell how the keys are; works beside a running vault
    Status(Here),
}

/// Arguments of `lacuna config`.
#[derive(clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    verb: ConfigVerb,
}

#[derive(clap::Subcommand)]
enum ConfigVerb {
    /// Check a configuration and what it points to, changing nothing
    Check(Here),
}

/// What a backup is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    version: String,
    taken_at: String,
    database: String,
    tree: String,
    epoch: u64,
    root_id: String,
}

/// `lacuna init`: makes a vault, or takes up the one that is there.
pub async fn init(here: Here) -> Result<()> {
    let config = here.place.config()?;
    let opened = open::open(&config, Arc::new(SystemClock), open::Use::Alone).await?;
    let public = public_key(&config);
    let answer = Answer::new(
        json!({
            "created": opened.report.created,
            "data_dir": config.data_dir(),
            "slot_dir": config.slot_dir(),
            "receipt_public_key": public.trim(),
        }),
        record(&[
            ("vault", if opened.report.created { "made" } else { "was there already" }.to_owned()),
            ("data", config.data_dir().display().to_string()),
            ("root slot", format!("{} (never back it up together with the data)", config.slot_place())),
            ("receipts are signed by", public.trim().to_owned()),
        ]),
    );
    opened.close().await?;
    here.output.show(&answer)
}

fn public_key(config: &Config) -> String {
    let read = |path: PathBuf| fs::read_to_string(path.with_extension("pub")).ok();
    open::signing_keys(config).into_iter().find_map(read).unwrap_or_default()
}

/// `lacuna migrate`: brings the database's schema up to date.
pub async fn migrate(here: Here) -> Result<()> {
    let config = here.place.config()?;
    let store = store::open(config.database_url()?.expose()).await.map_err(anyhow::Error::from)?;
    let was = store.is_migrated().await.map_err(anyhow::Error::from)?;
    store.migrate().await.map_err(anyhow::Error::from)?;
    let about = store.describe().await.map_err(anyhow::Error::from)?;
    store.close().await;
    let done = if was { "is up to date" } else { "has been brought up to date" };
    here.output
        .show(&Answer::new(json!({ "database": about, "changed": !was }), format!("the schema on {about} {done}")))
}

/// `lacuna keys`.
pub async fn keys(args: KeysArgs) -> Result<()> {
    let KeysVerb::Status(here) = args.verb;
    let config = here.place.config()?;
    let found = ask(&config).await?;
    let mut lines = vec![
        ("epoch", found.epoch.to_string()),
        ("root id", found.root_id.clone()),
        ("leaves", format!("{} live, {} punctured", found.live_leaves, found.punctured_leaves)),
        ("key state", format!("{} pages, {} bytes", found.pages, found.bytes)),
        ("slot", found.slot.clone()),
        ("assurance", found.assurance.to_owned()),
        ("erasures pending", found.erasures_pending.to_string()),
    ];
    let tell = |copy: &status::Copy| match (&copy.epoch, &copy.trouble) {
        (Some(epoch), None) => format!("{} at epoch {epoch}", copy.place),
        (Some(epoch), Some(trouble)) => format!("{} at epoch {epoch}: {trouble}", copy.place),
        (None, trouble) => format!("{}: {}", copy.place, trouble.as_deref().unwrap_or("unknown")),
    };
    lines.extend(found.copies.iter().map(|copy| ("slot copy", tell(copy))));
    lines.extend(found.sinks.iter().map(|sink| ("sink", tell(sink))));
    let json = serde_json::to_value(&found).map_err(anyhow::Error::from)?;
    let lags = |copy: &status::Copy| copy.trouble.is_some() || copy.epoch.is_none_or(|epoch| epoch < found.epoch);
    let lagging = found.copies.iter().chain(&found.sinks).any(lags);
    here.output.show(&Answer { json, human: record(&lines), failed: lagging })
}

async fn ask(config: &Config) -> Result<status::Status> {
    let url = config.database_url()?;
    if let Some(path) = url.expose().strip_prefix("sqlite:").filter(|path| !Path::new(path).exists()) {
        return Err(anyhow::anyhow!("there is no vault: {path} does not exist; name its place with --data-dir").into());
    }
    let store = store::open(config.database_url()?.expose()).await.map_err(anyhow::Error::from)?;
    let slot = open::look_at_slot(config)?;
    let found = status::ask(&*store, &*slot, &open::sinks(config)?).await.map_err(anyhow::Error::from)?;
    store.close().await;
    Ok(found)
}

/// `lacuna config`.
pub async fn config(args: ConfigArgs) -> Result<()> {
    let ConfigVerb::Check(here) = args.verb;
    let config = here.place.config()?;
    config.listen()?;
    for caller in &config.callers {
        caller.token()?;
    }
    let url = config.database_url()?;
    let embedded = url.expose().strip_prefix("sqlite:").map(PathBuf::from);
    let database = if embedded.is_some_and(|path| !path.exists()) {
        "SQLite, not made yet".to_owned()
    } else {
        let store = store::open(url.expose()).await.map_err(anyhow::Error::from)?;
        let about = store.describe().await.map_err(anyhow::Error::from)?;
        store.close().await;
        about
    };
    let purposes: Vec<_> = config.purposes().into_keys().collect();
    let callers: Vec<_> = config.callers.iter().map(|caller| caller.name.clone()).collect();
    let mut lines = vec![
        ("database", database.clone()),
        ("listens on", config.listen()?.to_string()),
        ("data", config.data_dir().display().to_string()),
        ("root slot", config.slot_place()),
        ("wrapped by", config.kek_file().display().to_string()),
        ("purposes", purposes.join(", ")),
        ("callers", if callers.is_empty() { "development".to_owned() } else { callers.join(", ") }),
    ];
    lines.extend(config.slot.mirrors.iter().map(|mirror| ("mirror", mirror.display().to_string())));
    for sink in config.sinks() {
        sink.bucket()?;
        lines.push(("sink", sink.describe()));
    }
    let waiting = config.consent_purposes();
    if !waiting.is_empty() {
        lines.push(("note", format!("nothing is revealed for {}: no consent can be recorded yet", waiting.join(", "))));
    }
    let checks = preflight::inspect(&config, &SystemClock).await?;
    let json = json!({ "database": database, "purposes": purposes, "callers": callers, "checks": checks });
    let human = format!("{}\n{}", record(&lines), preflight::show(&checks));
    here.output.show(&Answer { json, human, failed: preflight::has_failed(&checks) })
}

/// `lacuna backup`: a consistent copy of the database with a description. Works beside a running vault.
pub async fn backup(args: BackupArgs) -> Result<()> {
    let config = args.here.place.config()?;
    let found = ask(&config).await?;
    if args.directory.exists() {
        return Err(anyhow::anyhow!("{} exists; name a directory that does not", args.directory.display()).into());
    }
    crate::keys::files::make_private_directory(&args.directory).map_err(anyhow::Error::from)?;
    let url = config.database_url()?;
    store::backup(url.expose(), &args.directory).await.map_err(anyhow::Error::from)?;
    let manifest = Manifest {
        format: 1,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        taken_at: SystemClock.now().to_string(),
        database: store::kind(url.expose()).to_owned(),
        tree: found.tree,
        epoch: found.epoch,
        root_id: found.root_id,
    };
    let bytes = serde_json::to_vec_pretty(&manifest).map_err(anyhow::Error::from)?;
    crate::keys::files::replace(&args.directory.join(MANIFEST), &bytes).map_err(anyhow::Error::from)?;
    let human = format!(
        "backed up the database at epoch {} to {}\nit opens with the root slot and its checkpoint only; whoever is \
         erased from now on will stay erased in it",
        manifest.epoch,
        args.directory.display()
    );
    args.here.output.show(&Answer::new(serde_json::to_value(&manifest).map_err(anyhow::Error::from)?, human))
}

/// `lacuna restore`: puts a backup in place, then lets the present slot and checkpoint have the last word.
pub async fn restore(args: RestoreArgs) -> Result<()> {
    let config = args.here.place.config()?;
    let manifest = read_manifest(&args.directory)?;
    let url = config.database_url()?;
    if manifest.database != store::kind(url.expose()) {
        let message = format!("the backup is of {}, the configured database is not", manifest.database);
        return Err(Failure::Usage(anyhow::anyhow!(message)));
    }
    // Ours from here to the end: nobody may start to serve what is about to be replaced.
    let lock = SlotLock::take(&config.slot_dir().join(open::SLOT_FILE)).map_err(anyhow::Error::from)?;
    check_slot(&config, &manifest).await?;
    store::restore(url.expose(), &args.directory, args.replace).await.map_err(anyhow::Error::from)?;
    let opened = open::open_with(&config, Arc::new(SystemClock), lock).await.context(
        "the database is restored, but its keys do not open; the slot and the checkpoint sinks must be the present ones",
    )?;
    if !opened.report.from_checkpoint {
        opened.custody.after_restore().await.map_err(anyhow::Error::from)?;
    }
    let report = &opened.report.clone();
    opened.close().await?;
    let human = format!(
        "restored the backup of {} (epoch {})\n{}",
        manifest.taken_at,
        manifest.epoch,
        record(&[
            (
                "key state",
                if report.from_checkpoint { "from the newest checkpoint" } else { "as in the backup" }.into()
            ),
            ("erasures applied again", report.erasures_reapplied.to_string()),
            ("erasures completed", report.erasures_completed.to_string()),
            ("erasures still pending", report.erasures_pending.to_string()),
            ("index buckets rebuilt", report.buckets_rebuilt.to_string()),
        ])
    );
    args.here.output.show(&Answer::new(serde_json::to_value(report).map_err(anyhow::Error::from)?, human))
}

/// Makes sure that the slot is the one of the vault that was backed up, before anything is replaced.
async fn check_slot(config: &Config, manifest: &Manifest) -> anyhow::Result<()> {
    let content = open::look_at_slot(config)?.load().await?;
    let content = content.with_context(|| format!("there is no root slot in {}", config.slot_dir().display()))?;
    let ours = hex(&content.tree);
    ensure!(ours == manifest.tree, "the backup is of vault {}, the root slot of vault {ours}", manifest.tree);
    Ok(())
}

fn read_manifest(directory: &Path) -> anyhow::Result<Manifest> {
    let path = directory.join(MANIFEST);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}; is this a backup?", path.display()))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).with_context(|| format!("in {}", path.display()))?;
    ensure!(manifest.format == 1, "the backup has format {}, this version reads format 1", manifest.format);
    Ok(manifest)
}

/// `lacuna receipt`.
pub fn receipt(args: ReceiptArgs) -> Result<()> {
    let ReceiptVerb::Verify { file, public_key } = args.verb;
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let expected = public_key.map(|path| read_public_key(&path)).transpose()?;
    let verified = match receipt::verify(&bytes, expected.as_deref()) {
        Ok(verified) => verified,
        Err(error) => {
            let json = json!({ "valid": false, "error": error.to_string() });
            return args.output.show(&Answer { json, human: format!("NOT VALID: {error}"), failed: true });
        }
    };
    let statement = &verified.statement;
    let trust = if verified.trusted {
        "signed by the expected key".to_owned()
    } else {
        format!("signed by the key it names, {}: compare it with the vault's published key", statement.public_key)
    };
    let human = record(&[
        ("VALID", trust),
        ("subject", statement.subject.clone()),
        ("erasure", statement.erasure.clone()),
        ("reason", statement.reason.clone()),
        ("keys destroyed", statement.erase_time.clone()),
        ("assurance", statement.assurance.clone()),
        ("promise", statement.promise.clone()),
    ]);
    let json = json!({
        "valid": true,
        "trusted": verified.trusted,
        "statement": serde_json::to_value(statement).map_err(anyhow::Error::from)?,
    });
    args.output.show(&Answer::new(json, human))
}

fn read_public_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let key = data_encoding::BASE64.decode(text.trim().as_bytes());
    key.with_context(|| format!("{} does not hold a public key in base64", path.display()))
}
