//! Configuration of the root slot and of what wraps it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{Hidden, endpoint};

/// The root slot.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Slot {
    /// Where the root is: in files, or in a PKCS#11 token.
    pub kind: Kind,
    /// The directory of the deciding copy, of the locks and of the key that signs receipts: beside the data directory.
    pub directory: Option<PathBuf>,
    /// Directories of further copies.
    pub mirrors: Vec<PathBuf>,
    /// Where the key is that wraps the slot and the key that signs receipts.
    pub kek: Kek,
    /// The file of a local one: `kek.key` in the slot's directory. Better on another medium.
    pub kek_file: Option<PathBuf>,
    /// The PKCS#11 token, of the slot, of the KEK, or of both.
    pub pkcs11: Option<Pkcs11>,
    /// The key in AWS KMS.
    pub aws_kms: Option<AwsKms>,
    /// The KEK whose place the present one takes: it unwraps, until everything is wrapped anew.
    pub former_kek: Option<FormerKek>,
}

/// Where a key-encrypting key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kek {
    /// In a file.
    #[default]
    Local,
    /// In a PKCS#11 token.
    Pkcs11,
    /// In AWS KMS.
    AwsKms,
}

/// A KEK that only unwraps.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerKek {
    /// Where it is.
    pub kek: Kek,
    /// The file of a local one.
    pub kek_file: Option<PathBuf>,
    /// The token of one in a token.
    pub pkcs11: Option<Pkcs11>,
    /// The key of one in AWS KMS.
    pub aws_kms: Option<AwsKms>,
}

/// A key in AWS KMS. Credentials come from where AWS's tools look for them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsKms {
    /// Its alias as `alias/lacuna`, or its id or ARN. Only one with an alias can be rotated.
    pub key: String,
    /// The region, when the environment does not tell.
    pub region: Option<String>,
    /// Another address than AWS's, as of an endpoint in a private network: `https://…`, or `http://…` on loopback.
    pub endpoint: Option<String>,
    /// How long a call may take, with everything that is tried again: 10.
    pub timeout_seconds: Option<u64>,
}

/// Where the root is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// In one or more files, wrapped by a key-encrypting key.
    #[default]
    File,
    /// In a PKCS#11 token, sealed by a key that never leaves it.
    Pkcs11,
}

/// A PKCS#11 token.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11 {
    /// The vendor's library.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// The user's PIN.
    pub pin: Option<Hidden>,
    /// A file that holds it.
    pub pin_file: Option<PathBuf>,
    /// What tells this vault's objects from those of others in the token: `lacuna`.
    pub label: Option<String>,
    /// How surely the token forgets: `IMMEDIATE_LOGICAL`, unless the operator knows of no clone and no backup of it.
    #[serde(default)]
    pub assurance: Assurance,
}

/// How surely a token forgets, as the operator asserts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Assurance {
    /// The token is hardware, it destroys keys at once, and nobody has a copy of it.
    Immediate,
    /// The token says that the key is destroyed.
    #[default]
    ImmediateLogical,
}

impl Slot {
    /// Checks what can be checked without touching anything.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.mirrors.is_empty() || self.kind == Kind::File,
            "slot.mirrors are copies of a file; a token is mirrored by its own means, and slot.kind is pkcs11"
        );
        ensure!(
            self.mirrors.is_empty() || self.kek_file.is_some() || self.kek != Kek::Local,
            "slot.mirrors need slot.kek_file: the default lies beside the first copy, and without it no mirror opens"
        );
        ensure!(
            self.kind == Kind::File || self.pkcs11.is_some(),
            "slot.kind = \"pkcs11\" needs a section [slot.pkcs11] with module, token and pin_file"
        );
        check_kek("slot", self.kek, self.pkcs11.as_ref(), self.aws_kms.as_ref())?;
        let Some(former) = &self.former_kek else { return Ok(()) };
        ensure!(former.kek != Kek::Local || former.kek_file.is_some(), "slot.former_kek of kind local needs kek_file");
        check_kek("slot.former_kek", former.kek, former.pkcs11.as_ref(), former.aws_kms.as_ref())
    }
}

fn check_kek(place: &str, kek: Kek, token: Option<&Pkcs11>, kms: Option<&AwsKms>) -> Result<()> {
    ensure!(
        kek != Kek::Pkcs11 || token.is_some(),
        "{place}.kek = \"pkcs11\" needs a section [{place}.pkcs11] with module, token and pin_file"
    );
    ensure!(
        kek != Kek::AwsKms || kms.is_some_and(|kms| !kms.key.is_empty()),
        "{place}.kek = \"aws-kms\" needs a section [{place}.aws_kms] with key"
    );
    kms.map_or(Ok(()), |kms| kms.check(place))?;
    token.map_or(Ok(()), Pkcs11::check)
}

impl AwsKms {
    /// How long a call may take.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.unwrap_or(10))
    }

    fn check(&self, place: &str) -> Result<()> {
        if let Some(address) = &self.endpoint {
            // The root is sent there to be wrapped.
            endpoint::parse(address).with_context(|| format!("{place}.aws_kms.endpoint"))?;
        }
        ensure!(
            (1..=60).contains(&self.timeout().as_secs()),
            "{place}.aws_kms.timeout_seconds must lie between 1 and 60"
        );
        Ok(())
    }
}

impl Pkcs11 {
    /// What tells this vault's objects from those of others in the token.
    #[must_use]
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or("lacuna")
    }

    fn check(&self) -> Result<()> {
        ensure!(self.pin.is_some() != self.pin_file.is_some(), "slot.pkcs11 needs pin or pin_file, and not both");
        ensure!(!self.token.is_empty(), "slot.pkcs11.token is empty: it is the label of the token");
        let label = self.label();
        ensure!(
            (1..=32).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'),
            "slot.pkcs11.label may have letters, digits, - and _, up to 32"
        );
        Ok(())
    }
}
