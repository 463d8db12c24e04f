//! `lacuna keys`: how the keys are, their rotation, and whether an erasure holds.

mod show;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::admin::Here;
use super::client::{Credentials, Remote, Vault};
use super::custodian;
use super::drill;
use super::failure::Result;
use super::open::{self, Place};
use super::page::Paging;
use super::print::{Answer, Output};
use crate::config::Config;
use crate::keys::status::{self, Status};
use crate::model::SystemClock;
use crate::proto::v1;
use crate::store;

/// How often a rotation is asked how far it is.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// A noun's verb.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// What can be done with keys.
#[derive(Subcommand)]
enum Verb {
    /// Tell how the keys are: of the vault on this machine, also beside a running one, or of the one at --address
    Status(StatusArgs),
    /// Prove on a copy of a backup that whoever was erased since stays erased and everybody else comes back
    Drill(drill::Args),
    /// Put a fresh root key into the root slot
    RotateRoot(Rotate),
    /// Give a subject new keys, seal their values again, and destroy the old keys
    RotateSubjectKey {
        /// The subject.
        subject: String,
        #[command(flatten)]
        rotate: Rotate,
    },
    /// Build the search index anew under a new key, and destroy the old one
    RotateIndexKey {
        /// How many buckets the new index has, from 64 to 1048576; as many as the present one unless given
        #[arg(long, value_name = "N")]
        buckets: Option<u32>,
        #[command(flatten)]
        rotate: Rotate,
    },
    /// Wrap the root slot under a new key-encrypting key
    RotateKek(Rotate),
    /// Sign receipts with a new key from now on; earlier receipts stay valid
    RotateSigningKey(Rotate),
    /// Sign receipts with a new key, because every copy of the former one is lost; the vault must not run
    MakeSigningKey(Here),
    /// Describe a rotation: how far it is, and what it waits for
    Rotation {
        /// The rotation.
        rotation: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// List rotations, newest first
    Rotations {
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        remote: Remote,
    },
    /// List what happened to the keys, newest first
    Events {
        #[command(flatten)]
        paging: Paging,
        #[command(flatten)]
        remote: Remote,
    },
    /// See whether an erasure holds: in the root slot as it is now, the database, every copy, and the receipt
    VerifyErasure {
        /// The erasure.
        erasure: String,
        #[command(flatten)]
        remote: Remote,
    },
}

/// Arguments of `lacuna keys status`.
#[derive(clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    place: Place,
    /// Address of a running vault to ask instead; https:// for TLS
    #[arg(long, value_name = "URL", help_heading = "Connection")]
    address: Option<String>,
    #[command(flatten)]
    credentials: Credentials,
    /// How to show the answer
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

/// How to rotate.
#[derive(clap::Args)]
struct Rotate {
    /// Only tell what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,
    /// A UUID; a repeated call with the same one gets the same rotation
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    request_id: String,
    #[command(flatten)]
    remote: Remote,
}

impl Args {
    /// How to show the answer.
    pub const fn output(&self) -> Output {
        match &self.verb {
            Verb::Status(args) => args.output,
            Verb::Drill(args) => args.here.output,
            Verb::MakeSigningKey(here) => here.output,
            Verb::RotateRoot(rotate)
            | Verb::RotateKek(rotate)
            | Verb::RotateSigningKey(rotate)
            | Verb::RotateSubjectKey { rotate, .. }
            | Verb::RotateIndexKey { rotate, .. } => rotate.remote.output,
            Verb::Rotation { remote, .. }
            | Verb::Rotations { remote, .. }
            | Verb::Events { remote, .. }
            | Verb::VerifyErasure { remote, .. } => remote.output,
        }
    }
}

/// Carries out a verb and shows the answer.
pub async fn run(args: Args) -> Result<()> {
    let output = args.output();
    let answer = match args.verb {
        Verb::Status(args) => status(args).await,
        Verb::Drill(args) => return drill::run(args).await,
        Verb::MakeSigningKey(here) => make_signing_key(&here).await,
        Verb::Rotation { rotation, remote } => rotation_of(&remote, rotation).await,
        Verb::Rotations { paging, remote } => rotations(&remote, paging).await,
        Verb::Events { paging, remote } => events(&remote, paging).await,
        Verb::VerifyErasure { erasure, remote } => verify(&remote, erasure).await,
        Verb::RotateRoot(ask) => {
            let request = v1::RotateRootRequest { validate_only: ask.dry_run, request_id: ask.request_id.clone() };
            let begin = async |vault: &mut Vault| Ok(vault.keys.rotate_root(request).await?.into_inner().rotation);
            rotate(&ask, begin).await
        }
        Verb::RotateKek(ask) => {
            let request = v1::RotateKekRequest { validate_only: ask.dry_run, request_id: ask.request_id.clone() };
            let begin = async |vault: &mut Vault| Ok(vault.keys.rotate_kek(request).await?.into_inner().rotation);
            rotate(&ask, begin).await
        }
        Verb::RotateSigningKey(ask) => {
            let request =
                v1::RotateSigningKeyRequest { validate_only: ask.dry_run, request_id: ask.request_id.clone() };
            let begin =
                async |vault: &mut Vault| Ok(vault.keys.rotate_signing_key(request).await?.into_inner().rotation);
            rotate(&ask, begin).await
        }
        Verb::RotateSubjectKey { subject, rotate: ask } => {
            let (validate_only, request_id) = (ask.dry_run, ask.request_id.clone());
            let request = v1::RotateSubjectKeyRequest { subject, validate_only, request_id };
            let begin =
                async |vault: &mut Vault| Ok(vault.keys.rotate_subject_key(request).await?.into_inner().rotation);
            rotate(&ask, begin).await
        }
        Verb::RotateIndexKey { buckets, rotate: ask } => {
            let (validate_only, request_id) = (ask.dry_run, ask.request_id.clone());
            let buckets = buckets.unwrap_or_default();
            let request = v1::RotateIndexKeyRequest { buckets, validate_only, request_id };
            let begin = async |vault: &mut Vault| Ok(vault.keys.rotate_index_key(request).await?.into_inner().rotation);
            rotate(&ask, begin).await
        }
    };
    output.show(&answer?)
}

async fn status(args: StatusArgs) -> Result<Answer> {
    let Some(address) = args.address else {
        return show::status(&look(&args.place.config()?).await?);
    };
    let remote = Remote::at(address, args.credentials, args.output);
    let response = remote.open().await?.keys.get_key_status(v1::GetKeyStatusRequest {}).await?.into_inner();
    Ok(show::told_status(&response.status.unwrap_or_default()))
}

/// Has a vault that lost the key that signs receipts go on with a fresh one.
async fn make_signing_key(here: &Here) -> Result<Answer> {
    let config = here.place.config()?;
    let places = open::signing_keys(&config);
    if let Some(path) = places.iter().find(|path| path.exists()) {
        let message = format!(
            "there is one, {}: have it replaced by `lacuna keys rotate-signing-key`, or move it away if it does not open",
            path.display()
        );
        return Err(anyhow::anyhow!(message).into());
    }
    let opened = open::open(&config, Arc::new(SystemClock), open::Use::AloneWithFreshSigner).await?;
    let keys = opened.custody.signing_public_keys().map_err(anyhow::Error::from)?;
    opened.close().await?;
    let present = keys.first().map(String::as_str).unwrap_or_default();
    let human = format!("receipts are signed by {present} from now on; {} public keys are listed", keys.len());
    Ok(Answer::new(json!({ "public_key": present, "public_keys": keys }), human))
}

/// Looks at the keys of a vault on this machine, also beside a running one.
pub async fn look(config: &Config) -> Result<Status> {
    let url = config.database_url()?;
    if let Some(path) = url.expose().strip_prefix("sqlite:").filter(|path| !Path::new(path).exists()) {
        return Err(anyhow::anyhow!("there is no vault: {path} does not exist; name its place with --data-dir").into());
    }
    let store = store::open(config.database_url()?.expose()).await.map_err(anyhow::Error::from)?;
    let slot = custodian::look_at_slot(config, custodian::vault_in(&*store).await?).await?;
    let found = status::ask(&*store, &*slot, &open::sinks(config)?).await.map_err(anyhow::Error::from)?;
    store.close().await;
    Ok(found)
}

/// Begins a rotation and, unless told otherwise, waits until it has ended.
async fn rotate(
    ask: &Rotate,
    begin: impl AsyncFnOnce(&mut Vault) -> Result<Option<v1::Rotation>, tonic::Status>,
) -> Result<Answer> {
    let mut vault = ask.remote.open().await?;
    let mut rotation = begin(&mut vault).await?.unwrap_or_default();
    if ask.dry_run {
        return Ok(show::planned(&rotation));
    }
    if !ask.no_wait && rotation.state() == v1::RotationState::Running {
        rotation = watch(&mut vault, rotation).await?;
    }
    Ok(show::rotation(&rotation))
}

/// Shows how far a rotation is, on a terminal, until it has ended.
async fn watch(vault: &mut Vault, mut rotation: v1::Rotation) -> Result<v1::Rotation> {
    let bar = ProgressBar::with_draw_target(Some(rotation.total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}");
    bar.set_style(style.map_err(anyhow::Error::from)?);
    while rotation.state() == v1::RotationState::Running {
        bar.set_length(rotation.total);
        bar.set_position(rotation.done);
        bar.set_message(rotation.detail.clone());
        tokio::time::sleep(LOOK).await;
        let request = v1::GetRotationRequest { rotation: rotation.rotation.clone() };
        rotation = vault.keys.get_rotation(request).await?.into_inner().rotation.unwrap_or_default();
    }
    bar.finish_and_clear();
    Ok(rotation)
}

async fn rotation_of(remote: &Remote, rotation: String) -> Result<Answer> {
    let request = v1::GetRotationRequest { rotation };
    let response = remote.open().await?.keys.get_rotation(request).await?.into_inner();
    Ok(show::rotation(&response.rotation.unwrap_or_default()))
}

async fn rotations(remote: &Remote, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let page = async |page_size, page_token| {
        let request = v1::ListRotationsRequest { page_size, page_token };
        let response = vault.keys.list_rotations(request).await?.into_inner();
        Ok((response.rotations, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let all: Vec<_> = listed.entries.iter().map(show::rotation_json).collect();
    let json = json!({ "rotations": all, "next_page_token": listed.next_page_token });
    Ok(Answer::new(json, listed.human("rotation", show::rotation_table)))
}

async fn events(remote: &Remote, paging: Paging) -> Result<Answer> {
    let mut vault = remote.open().await?;
    let page = async |page_size, page_token| {
        let request = v1::ListKeyEventsRequest { page_size, page_token };
        let response = vault.keys.list_key_events(request).await?.into_inner();
        Ok((response.key_events, response.next_page_token))
    };
    let listed = paging.collect(page).await?;
    let all: Vec<_> = listed.entries.iter().map(show::event_json).collect();
    let json = json!({ "key_events": all, "next_page_token": listed.next_page_token });
    Ok(Answer::new(json, listed.human("event", show::event_table)))
}

async fn verify(remote: &Remote, erasure: String) -> Result<Answer> {
    let request = v1::VerifyErasureRequest { erasure };
    Ok(show::verdict(&remote.open().await?.keys.verify_erasure(request).await?.into_inner()))
}
