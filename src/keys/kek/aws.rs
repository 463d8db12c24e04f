//! A KEK in AWS KMS. The key never leaves the service; every wrap and unwrap is a call to it.
//!
//! The versions are keys of their own under one alias: a rotation makes a key, points the alias to it, and in the end
//! schedules the deletion of the former one. It waits out thirty days, in which a copy that was forgotten can still be
//! saved by cancelling the deletion. While a rotation is under way two more aliases stand beside the first: `-next`
//! names a key that was made and is not in use yet, `-former` the one to be deleted.
//!
//! Each key has a tag that names the vault which it serves, and whatever it wraps names that as well.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyMetadata, KeyState, Tag};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::{Absent, Kek};
use crate::crypto::SecretBytes;
use crate::keys::checkpoint::hex;
use crate::model::{Error, Reason, Result};

/// What a wrapped secret begins with: the format, then the length of the key's name, then the name.
const FORMAT: u8 = 3;

/// The name of the encryption context that binds a secret to its use.
const CONTEXT: &str = "lacuna";

/// The name of the tag of a key, and of the encryption context, that tell the vault.
const VAULT: &str = "lacuna-vault";

const ALIAS: &str = "alias/";

/// How long a key that is scheduled for deletion can be saved: the longest that the service allows.
const GRACE_DAYS: i32 = 30;

/// How long a call may take, with everything that is tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// A key in AWS KMS.
pub struct AwsKek {
    client: Client,
    key: String,
    /// The vault that it serves, by the id of its key tree, in hex.
    vault: String,
}

impl AwsKek {
    /// The key for the vault of `tree`. It must be there: it is made by whoever grants the vault the right to use it. Its
    /// first version is the moment when it is tagged. Credentials and, unless given, the region come from where AWS's
    /// tools look for them.
    pub async fn open(
        key: &str,
        (region, endpoint): (Option<&str>, Option<&str>),
        tree: [u8; 16],
        absent: Absent,
    ) -> Result<Self> {
        let tls = Provider::Rustls(CryptoMode::Ring);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(aws_smithy_http_client::Builder::new().tls_provider(tls).build_https())
            .timeout_config(TimeoutConfig::builder().operation_timeout(PATIENCE).build());
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(endpoint) = endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let config = Box::pin(loader.load()).await;
        let kek = Self { client: Client::new(&config), key: key.to_owned(), vault: hex(&tree) };
        let present = Box::pin(kek.present()).await?;
        match (Box::pin(kek.serves(&present)).await?, absent) {
            (true, _) | (false, Absent::Await) => {}
            (false, Absent::Make) => Box::pin(kek.claim(&present)).await?,
            (false, Absent::Refuse) => {
                let what = format!("it has no tag {VAULT} and never served this vault, {}", kek.vault);
                return Err(kek.unusable(what));
            }
        }
        Ok(kek)
    }

    /// Whether a key serves this vault already; an error when it serves another.
    async fn serves(&self, key: &str) -> Result<bool> {
        let listed = self.client.list_resource_tags().key_id(key).send().await.map_err(|error| self.failed(error))?;
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
        let tagged = self.client.tag_resource().key_id(key).tags(self.tag()?).send().await;
        tagged.map_err(|error| self.failed(error))?;
        if self.serves(key).await? {
            return Ok(());
        }
        Err(self.unusable("the tag that names its vault was not kept"))
    }

    fn tag(&self) -> Result<Tag> {
        Tag::builder().tag_key(VAULT).tag_value(&self.vault).build().map_err(Error::internal)
    }

    /// The key that wraps now, by its full name.
    async fn present(&self) -> Result<String> {
        let missing = || self.unusable("there is no such key");
        self.find(&self.key).await?.and_then(|found| found.arn).ok_or_else(missing)
    }

    /// The key that the rotation under way is to delete, if there is one.
    async fn former(&self) -> Result<Option<String>> {
        if !self.key.starts_with(ALIAS) {
            return Ok(None);
        }
        Ok(self.find(&self.aside("former")).await?.and_then(|found| found.arn))
    }

    async fn find(&self, name: &str) -> Result<Option<KeyMetadata>> {
        match self.client.describe_key().key_id(name).send().await {
            Ok(found) => Ok(found.key_metadata),
            Err(error) if error.code() == Some("NotFoundException") => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn aside(&self, what: &str) -> String {
        format!("{}-{what}", self.key)
    }

    fn failed<E>(&self, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let why = match (error.code(), error.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            _ => "AWS does not answer; see to the network, the region and the credentials".to_owned(),
        };
        self.unusable(why).because(DisplayErrorContext(error).to_string())
    }

    fn unusable(&self, what: impl std::fmt::Display) -> Error {
        let message = format!("the key-encrypting key {} in AWS KMS cannot be used: {what}", self.key);
        Error::new(Reason::KeyCustodianUnavailable, message)
    }
}

fn parse(wrapped: &[u8]) -> Option<(&str, &[u8])> {
    let (format, rest) = wrapped.split_first()?;
    (*format == FORMAT).then_some(())?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (name, blob) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((str::from_utf8(name).ok()?, blob))
}

#[async_trait]
impl Kek for AwsKek {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        let call = self.client.encrypt().key_id(&self.key).plaintext(Blob::new(plain.expose()));
        let answer = call
            .encryption_context(CONTEXT, label)
            .encryption_context(VAULT, &self.vault)
            .send()
            .await
            .map_err(|error| self.failed(error))?;
        let (Some(name), Some(blob)) = (answer.key_id, answer.ciphertext_blob) else {
            return Err(self.unusable("it answered without a ciphertext"));
        };
        let length = u16::try_from(name.len()).map_err(|_| self.unusable("its name is too long"))?;
        let mut wrapped = vec![FORMAT];
        wrapped.extend(length.to_be_bytes());
        wrapped.extend(name.as_bytes());
        wrapped.extend(blob.as_ref());
        Ok(wrapped)
    }

    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        let foreign = || self.unusable("what it should open is not wrapped by a key in AWS KMS").with("wrapped", label);
        let (name, blob) = parse(wrapped).ok_or_else(foreign)?;
        let call = self.client.decrypt().key_id(name).ciphertext_blob(Blob::new(blob));
        let answer = call
            .encryption_context(CONTEXT, label)
            .encryption_context(VAULT, &self.vault)
            .send()
            .await
            .map_err(|error| self.failed(error))?;
        let plain = answer.plaintext.ok_or_else(|| self.unusable("it answered without a plaintext"))?;
        Ok(SecretBytes::new(plain.into_inner()))
    }

    async fn needs(&self, label: &'static str, wrapped: &[u8]) -> Result<String> {
        self.unwrap(label, wrapped).await?;
        Ok(parse(wrapped).map(|(name, _)| name.to_owned()).unwrap_or_default())
    }

    async fn versions(&self) -> Result<Vec<String>> {
        let present = self.present().await?;
        if !self.serves(&present).await? {
            return Ok(Vec::new());
        }
        // A rotation that was interrupted early has named the key that is still in use as the one to be deleted.
        let former = self.former().await?.filter(|former| *former != present);
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
        let made = if let Some(made) = self.find(&next).await? {
            made.arn
        } else {
            let call = self.client.create_key().description("wraps the root slot of a Lacuna vault").tags(self.tag()?);
            let made = call.send().await.map_err(|error| self.failed(error))?.key_metadata.and_then(|made| made.arn);
            self.name(&next, made.as_deref().unwrap_or_default()).await?;
            made
        };
        let made = made.ok_or_else(|| self.unusable("it answered without the name of the new key"))?;
        if self.former().await?.is_none() {
            self.name(&self.aside("former"), &present).await?;
        }
        let pointed = self.client.update_alias().alias_name(&self.key).target_key_id(&made).send().await;
        pointed.map_err(|error| self.failed(error))?;
        self.client.delete_alias().alias_name(&next).send().await.map_err(|error| self.failed(error))?;
        Ok(made)
    }

    async fn destroy_version(&self, version: &str) -> Result<()> {
        if self.present().await? == version {
            return Err(self.unusable("its newest version is in use and cannot be destroyed"));
        }
        let gone = self.find(version).await?.is_none_or(|key| key.key_state == Some(KeyState::PendingDeletion));
        if !gone {
            self.serves(version).await?;
            // By its id: nobody can delete a key of another account, and some who stand in for AWS take no more.
            let id = version.rsplit('/').next().unwrap_or(version);
            let call = self.client.schedule_key_deletion().key_id(id).pending_window_in_days(GRACE_DAYS);
            call.send().await.map_err(|error| self.failed(error))?;
        }
        match self.client.delete_alias().alias_name(self.aside("former")).send().await {
            Err(error) if error.code() != Some("NotFoundException") => Err(self.failed(error)),
            _ => Ok(()),
        }
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
        let named = self.client.create_alias().alias_name(alias).target_key_id(key).send().await;
        named.map(drop).map_err(|error| self.failed(error))
    }
}
