//! A KEK in a local file of 32 random bytes, mode 0600.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::Kek;
use crate::crypto::{Aad, Key, Random, Secret, SecretBytes, open, seal};
use crate::keys::files;
use crate::model::{Error, Reason, Result};

/// A key in a file. Keep the file on another medium than the slot: who copies both has the slot.
pub struct LocalKek {
    path: PathBuf,
    key: Key,
    random: Arc<dyn Random>,
}

impl LocalKek {
    /// Reads the key from `path`, after making one if `create` and there is none.
    pub fn open(path: &Path, create: bool, random: Arc<dyn Random>) -> Result<Self> {
        if create && !path.exists() {
            let fresh = Secret::<32>::random(&*random);
            files::replace(path, fresh.expose()).map_err(|error| unusable(path, error))?;
        }
        files::check_private(path).map_err(|error| unusable(path, error))?;
        let bytes = SecretBytes::new(fs::read(path).map_err(|error| unusable(path, error))?);
        let secret =
            Secret::from_slice(bytes.expose()).ok_or_else(|| unusable(path, "it does not hold exactly 32 bytes"))?;
        Ok(Self { path: path.to_owned(), key: Key::new(&secret), random })
    }
}

#[async_trait]
impl Kek for LocalKek {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        Ok(seal(&self.key, 0, &Aad::new(label), plain.expose(), &*self.random))
    }

    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        open(&self.key, &Aad::new(label), wrapped).map_err(|broken| unusable(&self.path, broken).with("wrapped", label))
    }

    fn describe(&self) -> String {
        format!("local file {}", self.path.display())
    }
}

fn unusable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let source = source.into();
    let message = format!("the key-encrypting key in {} cannot be used: {source}", path.display());
    Error::new(Reason::KeyCustodianUnavailable, message)
}
