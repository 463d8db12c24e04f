//! A KEK that takes the place of another: what the former one wrapped still opens, and is wrapped anew by a rotation.

use std::sync::Arc;

use async_trait::async_trait;

use super::Kek;
use crate::crypto::SecretBytes;
use crate::model::Result;

/// What the versions of the former KEK are called, in front of their own names.
const FORMER: &str = "former ";

/// The present KEK and the one before it, which only unwraps.
pub struct Succession {
    present: Arc<dyn Kek>,
    former: Arc<dyn Kek>,
}

impl Succession {
    /// `present` takes the place of `former`.
    #[must_use]
    pub fn new(present: Arc<dyn Kek>, former: Arc<dyn Kek>) -> Self {
        Self { present, former }
    }
}

#[async_trait]
impl Kek for Succession {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        self.present.wrap(label, plain).await
    }

    /// Both may be of one kind and have a version of the same name, so the former is asked whenever the present one
    /// does not open a secret.
    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        match self.present.unwrap(label, wrapped).await {
            Ok(plain) => Ok(plain),
            Err(error) => self.former.unwrap(label, wrapped).await.map_err(|_| error),
        }
    }

    async fn needs(&self, label: &'static str, wrapped: &[u8]) -> Result<String> {
        match self.present.needs(label, wrapped).await {
            Ok(version) => Ok(version),
            Err(error) => {
                let former = self.former.needs(label, wrapped).await.map_err(|_| error)?;
                Ok(format!("{FORMER}{former}"))
            }
        }
    }

    async fn versions(&self) -> Result<Vec<String>> {
        self.present.versions().await
    }

    async fn add_version(&self) -> Result<String> {
        self.present.add_version().await
    }

    async fn destroy_version(&self, version: &str) -> Result<()> {
        self.present.destroy_version(version).await
    }

    fn kind(&self) -> &'static str {
        self.present.kind()
    }

    fn describe(&self) -> String {
        format!("{}, formerly {}", self.present.describe(), self.former.describe())
    }
}
