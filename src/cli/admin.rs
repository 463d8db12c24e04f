//! What needs no server: making a vault, checking its configuration and receipts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::callers;
use super::failure::Result;
use super::open::{self, Place};
use super::preflight;
use super::print::{Answer, Output};
use super::table::{self, record};
use crate::grpc::Tls;
use crate::keys::receipt;
use crate::model::{HOLDS, PlanItem, SystemClock};
use crate::store;

/// A vault on this machine, and how to show what is found.
#[derive(clap::Args)]
pub struct Here {
    #[command(flatten)]
    pub place: Place,
    /// How to show the answer
    #[arg(long, value_enum, default_value = "human")]
    pub output: Output,
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
    /// Check a receipt offline, and tell what was destroyed
    Verify {
        /// File that `lacuna erasure receipt --file` or `lacuna retention receipt --file` wrote
        file: PathBuf,
        /// File with the public keys of which one must have signed: receipt-signing.pub in the vault's slot directory
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
    },
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

/// `lacuna init`: makes a vault, or takes up the one that is there.
pub async fn init(here: Here) -> Result<()> {
    let config = here.place.config()?;
    let opened = open::open(&config, Arc::new(SystemClock), open::Use::Alone).await?;
    let listed = opened.custody.signing_public_keys().map_err(anyhow::Error::from)?;
    // The newest comes first.
    let public = listed.first().map(String::as_str).unwrap_or_default();
    let answer = Answer::new(
        json!({
            "created": opened.report.created,
            "data_dir": config.data_dir(),
            "slot_dir": config.slot_dir(),
            "receipt_public_key": public,
        }),
        record(&[
            ("vault", if opened.report.created { "made" } else { "was there already" }.to_owned()),
            ("data", config.data_dir().display().to_string()),
            ("root slot", format!("{} (never back it up together with the data)", config.slot_place())),
            ("receipts are signed by", public.to_owned()),
        ]),
    );
    opened.close().await?;
    here.output.show(&answer)
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

/// `lacuna config`.
pub async fn config(args: ConfigArgs) -> Result<()> {
    let ConfigVerb::Check(here) = args.verb;
    let config = here.place.config()?;
    config.listen()?;
    for caller in &config.callers {
        caller.token()?;
    }
    if let Some(tls) = &config.tls {
        Tls::open(tls, Arc::new(SystemClock)).context("[tls]")?;
    }
    callers::issuers(&config).await?;
    let (authority, _) = super::policies::load(&config)?;
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
    let purposes: Vec<_> = config.purposes().into_iter().map(|purpose| purpose.code).collect();
    let names: Vec<_> = config.callers.iter().map(|caller| caller.name.clone()).collect();
    let mut lines = vec![
        ("database", database.clone()),
        ("listens on", config.listen()?.to_string()),
        (
            "TLS",
            config
                .tls
                .as_ref()
                .map_or("off", |tls| if tls.client_ca_file.is_some() { "mutual" } else { "on" })
                .to_owned(),
        ),
        ("data", config.data_dir().display().to_string()),
        ("root slot", config.slot_place()),
        ("wrapped by", config.kek_place()),
        ("first purposes", purposes.join(", ")),
        ("policies", authority.policies().len().to_string()),
        ("callers", if names.is_empty() { "development".to_owned() } else { names.join(", ") }),
    ];
    lines.extend(config.slot.mirrors.iter().map(|mirror| ("mirror", mirror.display().to_string())));
    for sink in config.sinks() {
        sink.bucket()?;
        lines.push(("sink", sink.describe()));
    }
    let checks = preflight::inspect(&config, &SystemClock).await?;
    let json = json!({ "database": database, "purposes": purposes, "callers": names, "checks": checks });
    let human = format!("{}\n{}", record(&lines), preflight::show(&checks));
    here.output.show(&Answer { json, human, failed: preflight::has_failed(&checks) })
}

/// `lacuna receipt`.
pub fn receipt(args: ReceiptArgs) -> Result<()> {
    let ReceiptVerb::Verify { file, public_key } = args.verb;
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let expected = public_key.map(|path| read_public_keys(&path)).transpose()?;
    let verified = match receipt::verify(&bytes, expected.as_deref()) {
        Ok(verified) => verified,
        Err(error) => {
            let json = json!({ "valid": false, "error": error.to_string() });
            return args.output.show(&Answer { json, human: format!("NOT VALID: {error}"), failed: true });
        }
    };
    let statement = &verified.statement;
    let human = stated(statement, trust(verified.signed_by, &statement.public_key));
    let json = json!({
        "valid": true,
        "trusted": verified.signed_by.is_some(),
        "signed_by": statement.public_key,
        "statement": serde_json::to_value(statement).map_err(anyhow::Error::from)?,
    });
    args.output.show(&Answer::new(json, human))
}

/// A receipt for people. Whoever signed it may have put anything into it, so nothing of it moves the cursor.
fn stated(statement: &receipt::Statement, trust: String) -> String {
    let matters = statement.plan.iter().filter_map(|item| item.class.as_deref()?.strip_prefix(HOLDS));
    let matters: BTreeSet<&str> = if statement.hold.is_empty() { BTreeSet::new() } else { matters.collect() };
    let lines = [
        ("VALID", trust),
        ("subject", statement.subject.clone()),
        ("erasure", statement.erasure.clone()),
        ("retention run", statement.retention_run.clone()),
        ("call", statement.call.clone()),
        ("hold", statement.hold.clone()),
        ("matter", matters.into_iter().collect::<Vec<_>>().join(", ")),
        ("reason", statement.reason.clone()),
        ("keys destroyed", statement.erase_time.clone()),
        ("assurance", statement.assurance.clone()),
        ("promise", statement.promise.clone()),
    ];
    let human = record(&lines.map(|(name, value)| (name, table::printable(&value))));
    if statement.plan.is_empty() {
        return human;
    }
    let row = |item: &PlanItem| {
        let signed = json!(item);
        let cell = |name: &str| table::printable(signed.get(name).and_then(Value::as_str).unwrap_or_default());
        let until = cell(if item.end_time.is_some() { "end_time" } else { "reason" });
        [cell("element"), cell("class"), cell("cohort"), cell("verdict"), item.count.to_string(), until]
    };
    format!("{human}\n{}", table::plan(statement.plan.iter().map(row).collect()))
}

/// Who signed a statement, in words: one of the keys that were expected, or the one that it names.
pub fn trust(signed_by: Option<usize>, key: &str) -> String {
    match signed_by {
        Some(0) => format!("signed by the expected key, {key}"),
        Some(at) => format!("signed by an expected key that {at} later ones have replaced, {key}"),
        None => format!(
            "signed by the key it names, {key}. Whether that is the vault's, --public-key FILE tells, with the \
             receipt-signing.pub that the vault writes beside its root slot"
        ),
    }
}

/// The public keys in a file of them.
pub fn read_public_keys(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    receipt::public_keys(&text).with_context(|| format!("in {}", path.display()))
}
