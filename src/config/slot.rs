//! Configuration of the root slot and of what wraps it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::Hidden;

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
    /// The key that wraps the slot: `kek.key` in the slot's directory. Better on another medium.
    pub kek_file: Option<PathBuf>,
    /// The PKCS#11 token.
    pub pkcs11: Option<Pkcs11>,
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
            self.mirrors.is_empty() || self.kek_file.is_some(),
            "slot.mirrors need slot.kek_file: the default lies beside the first copy, and without it no mirror opens"
        );
        ensure!(
            self.kind == Kind::File || self.pkcs11.is_some(),
            "slot.kind = \"pkcs11\" needs a section [slot.pkcs11] with module, token and pin_file"
        );
        if let Some(token) = &self.pkcs11 {
            token.check()?;
        }
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
