//! A KEK in AWS KMS. The key never leaves the service; every wrap and unwrap is a call to it.
//!
//! The versions are keys of their own under one alias: a rotation makes a key, points the alias to it, and in the end
//! schedules the deletion of the former one. It waits out thirty days, in which a copy that was forgotten can still be
//! saved by cancelling the deletion. While a rotation is under way two more aliases stand beside the first: `-next`
//! names a key that was made and is not in use yet, `-former` the one to be deleted. So the aliases tell which keys are
//! versions: what any other key has wrapped is refused, even if these credentials could open it.
//!
//! Each key has a tag that names the vault which it serves, and whatever it wraps names that as well.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyMetadata, KeyState, Tag};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::{Absent, Kek, blob};
use crate::crypto::SecretBytes;
use crate::keys::checkpoint::hex;
use crate::model::{Error, Reason, Result};

/// The name of the encryption context that binds a secret to its use.
const CONTEXT: &str = "lacuna";

/// The name of the tag of a key, and of the encryption context, that tell the vault.
const VAULT: &str = "lacuna-vault";

const ALIAS: &str = "alias/";

/// How long a key that is scheduled for deletion can be saved: the longest that the service allows.
const GRACE_DAYS: i32 = 30;

/// How long the service is left alone after it did not answer. Whoever asks for several things waits for one answer.
const REST: Duration = Duration::from_secs(3);

/// How often a new key is looked for behind the alias, or a new tag at a key, and after which pause: they take a while to
/// change everywhere.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(250);

/// Which key it is, and how to get at it.
pub struct Settings<'a> {
    /// Its alias as `alias/lacuna`, or its id or ARN.
    pub key: &'a str,
    /// The region, when the environment does not tell.
    pub region: Option<&'a str>,
    /// Another address than AWS's.
    pub endpoint: Option<&'a str>,
    /// How long a call may take, with everything that is tried again.
    pub timeout: Duration,
}

/// A key in AWS KMS.
pub struct AwsKek {
    client: Client,
    key: String,
    /// The vault that it serves, by the id of its key tree, in hex.
    vault: String,
    timeout: Duration,
    /// The full names of keys that were seen to be its versions.
    known: Mutex<BTreeSet<String>>,
    /// When it did not answer, and what was told then.
    silent: Mutex<Option<(Instant, &'static str)>>,
}

/// A call that was refused or not answered.
struct Refusal {
    /// What AWS calls it.
    code: Option<String>,
    error: Error,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

impl AwsKek {
    /// The key for the vault of `tree`. It must be there: it is made by whoever grants the vault the right to use it. Its
    /// first version is the moment when it is tagged. Credentials and, unless given, the region come from where AWS's
    /// tools look for them.
    ///
    /// # Errors
    /// `KeyCustodianUnavailable` when there is no such key, it serves another vault, or it cannot be asked for.
    pub async fn open(settings: &Settings<'_>, tree: [u8; 16], absent: Absent) -> Result<Self> {
        let tls = Provider::Rustls(CryptoMode::Ring);
        // An attempt that hangs leaves time for another, over another connection.
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(settings.timeout / 2).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().tls_provider(tls).build_https())
            .timeout_config(timeouts);
        if let Some(region) = settings.region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = settings.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let config = Box::pin(loader.load()).await;
        let kek = Self {
            client: Client::new(&config),
            key: settings.key.to_owned(),
            vault: hex(&tree),
            timeout: settings.timeout,
            known: Mutex::default(),
            silent: Mutex::default(),
        };
        if config.region().is_none() {
            return Err(kek.unusable("nothing says in which region it is; name it in slot.aws_kms.region"));
        }
        let present = kek.present().await?;
        // Another key than the one that was in use is told apart when something is opened, which can name that one.
        if !kek.serves(&present).await? && absent == Absent::Make {
            kek.claim(&present).await?;
        }
        Ok(kek)
    }

    /// Whether a key serves this vault already; an error when it serves another.
    async fn serves(&self, key: &str) -> Result<bool> {
        let listed = self.answer(self.client.list_resource_tags().key_id(key).send()).await?;
        let tag = listed.tags().iter().find(|tag| tag.tag_key() == VAULT);
        match tag.map(Tag::tag_value) {
            None => Ok(false),
            Some(vault) if vault == self.vault => Ok(true),
            Some(vault) => Err(self
                .unusable("it belongs to another vault, which needs it for itself; name another in slot.aws_kms.key")
                .with("belongs_to", vault.to_owned())
                .with("vault", self.vault.clone())),
        }
    }

    /// Makes a key serve this vault, which serves none yet.
    async fn claim(&self, key: &str) -> Result<()> {
        self.answer(self.client.tag_resource().key_id(key).tags(self.tag()?).send()).await?;
        for _ in 0..LOOKS {
            if self.serves(key).await? {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(self.unusable("the tag that names its vault was not kept"))
    }

    fn tag(&self) -> Result<Tag> {
        Tag::builder().tag_key(VAULT).tag_value(&self.vault).build().map_err(Error::internal)
    }

    /// Waits for an answer, but not for ever.
    async fn answer<T, E>(&self, call: impl Future<Output = Result<T, SdkError<E>>> + Send) -> Result<T, Refusal>
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let silent = *self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, why)) = silent.filter(|(since, _)| since.elapsed() < REST) {
            return Err(Refusal { code: None, error: self.unusable(why) });
        }
        let (why, chain) = match tokio::time::timeout(self.timeout, Box::pin(call)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(SdkError::ServiceError(refused))) => {
                return Err(self.refused(refused.err(), refused.raw().status().as_u16()));
            }
            Ok(Err(error)) => (describe(&error), DisplayErrorContext(&error).to_string()),
            Err(elapsed) => (NO_ANSWER, elapsed.to_string()),
        };
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), why));
        Err(Refusal { code: None, error: self.unusable(why).because(chain) })
    }

    /// What AWS answers. Only the first line: what follows it may repeat the request with its credentials.
    fn refused(&self, error: &impl ProvideErrorMetadata, status: u16) -> Refusal {
        let code = error.code().map_or_else(|| format!("status {status}"), str::to_owned);
        let said = error.message().and_then(|message| message.lines().next()).unwrap_or_default();
        let error = self.unusable(format!("{code}: {said}{}", advice(&code)));
        Refusal { code: Some(code), error }
    }

    /// The key that wraps now, by its full name.
    async fn present(&self) -> Result<String> {
        let missing = || self.unusable("there is no such key in this account and region; see to slot.aws_kms.key");
        self.find(&self.key).await?.and_then(|found| found.arn).ok_or_else(missing)
    }

    /// The key that an alias beside the first names, if there is one.
    async fn beside(&self, what: &str) -> Result<Option<String>> {
        if !self.key.starts_with(ALIAS) {
            return Ok(None);
        }
        Ok(self.find(&self.aside(what)).await?.and_then(|found| found.arn))
    }

    async fn find(&self, name: &str) -> Result<Option<KeyMetadata>> {
        match self.answer(self.client.describe_key().key_id(name).send()).await {
            Ok(found) => Ok(found.key_metadata),
            Err(refusal) if refusal.code.as_deref() == Some("NotFoundException") => Ok(None),
            // Whoever may use one key only is not told whether there are others.
            Err(refusal) if refusal.code.as_deref() == Some("AccessDeniedException") && name != self.key => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn aside(&self, what: &str) -> String {
        format!("{}-{what}", self.key)
    }

    /// Refuses a key that is no version of this one.
    async fn check_version(&self, name: &str, label: &'static str) -> Result<()> {
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
            return Ok(());
        }
        let found = [Some(self.present().await?), self.beside("former").await?, self.beside("next").await?];
        let found: BTreeSet<_> = found.into_iter().flatten().collect();
        let is_version = found.contains(name);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = found;
        if is_version {
            return Ok(());
        }
        let message = format!(
            "what it should open is wrapped by another key, {name}; name that one in slot.aws_kms.key, or describe it \
             in [slot.former_kek] to move to this one"
        );
        Err(self.unusable(message).with("wrapped", label))
    }

    fn unusable(&self, what: impl std::fmt::Display) -> Error {
        let message = format!("the key-encrypting key {} in AWS KMS cannot be used: {what}", self.key);
        Error::new(Reason::KeyCustodianUnavailable, message)
    }
}

const NO_ANSWER: &str = "AWS does not answer; see to the network and the region";

/// Why nothing came from AWS.
fn describe<E>(error: &SdkError<E>) -> &'static str {
    match error {
        // What broke on the way has a kind; what broke before it, when the request was signed, has none.
        SdkError::DispatchFailure(failure)
            if failure.as_connector_error().is_some_and(|error| error.is_other() && error.as_other().is_none()) =>
        {
            "no request could be made; see to the credentials: in the environment, a profile, or of the machine's role"
        }
        SdkError::ConstructionFailure(_) => "no request could be made; see to the region and the endpoint",
        SdkError::ResponseError(_) => "what answers is not AWS KMS; see to slot.aws_kms.endpoint",
        _ => NO_ANSWER,
    }
}

/// What to do about an answer of AWS that does not say it itself.
fn advice(code: &str) -> &'static str {
    match code {
        "AccessDeniedException" => " (grant the vault's identity the use of the key)",
        "DisabledException" => " (enable the key)",
        "ExpiredTokenException" | "InvalidSignatureException" | "UnrecognizedClientException" | "status 403" => {
            " (see to the credentials: in the environment, a profile, or of the machine's role)"
        }
        "KMSInvalidStateException" => " (cancel the key's deletion, then enable it)",
        _ => "",
    }
}

#[async_trait]
impl Kek for AwsKek {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        let call = self.client.encrypt().key_id(&self.key).plaintext(Blob::new(plain.expose()));
        let call = call.encryption_context(CONTEXT, label).encryption_context(VAULT, &self.vault);
        let answer = self.answer(call.send()).await?;
        let (Some(name), Some(sealed)) = (answer.key_id, answer.ciphertext_blob) else {
            return Err(self.unusable("it answered without a ciphertext"));
        };
        blob::write(&name, sealed.as_ref()).ok_or_else(|| self.unusable("its name is too long"))
    }

    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        let foreign = || self.unusable("what it should open is not wrapped by a key in AWS KMS").with("wrapped", label);
        let (name, sealed) = blob::parse(wrapped).ok_or_else(foreign)?;
        self.check_version(name, label).await?;
        let call = self.client.decrypt().key_id(name).ciphertext_blob(Blob::new(sealed));
        let call = call.encryption_context(CONTEXT, label).encryption_context(VAULT, &self.vault);
        let answer = self.answer(call.send()).await?;
        let plain = answer.plaintext.ok_or_else(|| self.unusable("it answered without a plaintext"))?;
        Ok(SecretBytes::new(plain.into_inner()))
    }

    async fn needs(&self, label: &'static str, wrapped: &[u8]) -> Result<String> {
        self.unwrap(label, wrapped).await?;
        Ok(blob::parse(wrapped).map(|(name, _)| name.to_owned()).unwrap_or_default())
    }

    async fn versions(&self) -> Result<Vec<String>> {
        let present = self.present().await?;
        if !self.serves(&present).await? {
            return Ok(Vec::new());
        }
        // A rotation that was interrupted early has named the key that is still in use as the one to be deleted.
        let former = self.beside("former").await?.filter(|former| *former != present);
        Ok(former.into_iter().chain([present]).collect())
    }

    async fn add_version(&self) -> Result<String> {
        let present = self.present().await?;
        if !self.serves(&present).await? {
            self.claim(&present).await?;
            return Ok(present);
        }
        if !self.key.starts_with(ALIAS) {
            return Err(self.unusable(
                "it has no alias that could be pointed to another key; give it one, or name another key and this one \
                 as slot.former_kek",
            ));
        }
        let next = self.aside("next");
        let made = match self.beside("next").await? {
            Some(made) if made != present => made,
            left => {
                if left.is_some() {
                    // A rotation was interrupted after this key had come into use.
                    self.unname(&next).await?;
                }
                let call = self.client.create_key().description("wraps the root slot of a Lacuna vault");
                let made = self.answer(call.tags(self.tag()?).send()).await?.key_metadata.and_then(|made| made.arn);
                let made = made.ok_or_else(|| self.unusable("it answered without the name of the new key"))?;
                self.name(&next, &made).await?;
                made
            }
        };
        if self.beside("former").await?.is_none() {
            self.name(&self.aside("former"), &present).await?;
        }
        self.answer(self.client.update_alias().alias_name(&self.key).target_key_id(&made).send()).await?;
        self.await_alias(&made).await?;
        self.unname(&next).await?;
        Ok(made)
    }

    async fn destroy_version(&self, version: &str) -> Result<()> {
        if self.present().await? == version {
            return Err(self.unusable("its newest version is in use and cannot be destroyed"));
        }
        let found = self.find(version).await?.filter(|key| key.key_state != Some(KeyState::PendingDeletion));
        if let Some(key) = found {
            self.serves(&key.key_id).await?;
            let call = self.client.schedule_key_deletion().key_id(key.key_id);
            self.answer(call.pending_window_in_days(GRACE_DAYS).send()).await?;
        }
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(version);
        self.unname(&self.aside("former")).await
    }

    fn kind(&self) -> &'static str {
        "aws-kms"
    }

    fn describe(&self) -> String {
        format!("{} in AWS KMS", self.key)
    }
}

impl AwsKek {
    async fn name(&self, alias: &str, key: &str) -> Result<()> {
        let call = self.client.create_alias().alias_name(alias).target_key_id(key).send();
        Ok(self.answer(call).await.map(drop)?)
    }

    async fn unname(&self, alias: &str) -> Result<()> {
        match self.answer(self.client.delete_alias().alias_name(alias).send()).await {
            // Nobody heard that it was done.
            Err(refusal) if refusal.code.as_deref() == Some("NotFoundException") => Ok(()),
            answer => Ok(answer.map(drop)?),
        }
    }

    /// Waits until the alias names the key.
    async fn await_alias(&self, key: &str) -> Result<()> {
        for _ in 0..LOOKS {
            if self.present().await? == key {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(self.unusable("its alias does not yet name the new key; the rotation goes on when it does"))
    }
}
