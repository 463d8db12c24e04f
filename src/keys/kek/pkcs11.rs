//! A KEK in a PKCS#11 token: AES keys that never leave it. Their label names the vault that they serve, so that vaults in
//! one token do not see each other's; each version has its number as `CKA_ID`.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Absent, Kek};
use crate::crypto::{Aad, Random, SecretBytes};
use crate::keys::checkpoint::hex;
use crate::keys::token::{Desk, KeyObject, Token, Trouble};
use crate::model::{Error, Reason, Result};

/// What a wrapped secret begins with: the format, then the number of the version.
const FORMAT: u8 = 2;
const HEADER: usize = 1 + 4;

/// A key in a token.
pub struct TokenKek {
    token: Arc<Token>,
    /// The `CKA_LABEL` of its versions.
    label: String,
    random: Arc<dyn Random>,
}

impl TokenKek {
    /// The key in `token` for the vault of `tree`. What begins with `label` in the token is Lacuna's.
    pub async fn open(
        token: Arc<Token>,
        label: &str,
        tree: [u8; 16],
        absent: Absent,
        random: Arc<dyn Random>,
    ) -> Result<Self> {
        let kek = Self { token, label: format!("{label}-kek:{}", hex(&tree)), random };
        if absent == Absent::Make && kek.numbers().await?.is_empty() {
            kek.add_version().await?;
        }
        Ok(kek)
    }

    /// Its versions by number, in order.
    async fn numbers(&self) -> Result<Vec<u32>> {
        let found = self.search().await?;
        if !found.is_empty() {
            return Ok(found);
        }
        // A module that lost sight of its token has to say it twice.
        self.token.reopen().await?;
        self.search().await
    }

    async fn search(&self) -> Result<Vec<u32>> {
        let label = self.label.clone();
        let found = self.token.run(move |desk| versions(desk, &label)).await?;
        Ok(found.into_iter().map(|(number, _)| number).collect())
    }

    fn missing(&self, what: impl std::fmt::Display) -> Error {
        let message = format!("the key-encrypting key {} cannot be used: {what}", self.describe());
        Error::new(Reason::KeyCustodianUnavailable, message)
    }
}

/// Each version with its key, in order.
fn versions(desk: &Desk<'_>, label: &str) -> Result<Vec<(u32, KeyObject)>, Trouble> {
    let number = |key: &KeyObject| Some(u32::from_be_bytes(key.id.as_slice().try_into().ok()?));
    let mut found: Vec<_> = desk.keys(label)?.into_iter().filter_map(|key| Some((number(&key)?, key))).collect();
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}

fn aad(label: &'static str, header: &[u8]) -> Vec<u8> {
    Aad::new(label).bytes(header).as_bytes().to_vec()
}

pub(crate) fn parse(wrapped: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (header, sealed) = wrapped.split_first_chunk::<HEADER>()?;
    let (format, number) = header.split_first()?;
    (*format == FORMAT).then_some(())?;
    Some((u32::from_be_bytes(number.try_into().ok()?), header, sealed))
}

#[async_trait]
impl Kek for TokenKek {
    async fn wrap(&self, label: &'static str, plain: &SecretBytes) -> Result<Vec<u8>> {
        let (name, random) = (self.label.clone(), Arc::clone(&self.random));
        let (plain, missing) = (SecretBytes::from(plain.expose()), self.missing("it is not there; bring it back"));
        let wrap = move |desk: &Desk<'_>| {
            let Some((number, key)) = versions(desk, &name)?.pop() else { return Err(missing.into()) };
            let mut wrapped = vec![FORMAT];
            wrapped.extend(number.to_be_bytes());
            let sealed = desk.seal(&key, &aad(label, &wrapped), plain.expose(), &*random)?;
            wrapped.extend(sealed);
            Ok(wrapped)
        };
        self.token.run(wrap).await
    }

    async fn unwrap(&self, label: &'static str, wrapped: &[u8]) -> Result<SecretBytes> {
        let foreign = || self.missing("what it should open is not wrapped by a key in a token").with("wrapped", label);
        let (wanted, header, sealed) = parse(wrapped).ok_or_else(foreign)?;
        let (name, aad, sealed) = (self.label.clone(), aad(label, header), sealed.to_vec());
        let missing = self.missing(format!("the token does not hold version {wanted}")).with("wrapped", label);
        let unwrap = move |desk: &Desk<'_>| {
            let found = versions(desk, &name)?.into_iter().find(|(number, _)| *number == wanted);
            let Some((_, key)) = found else { return Err(missing.into()) };
            desk.open(&key, &aad, &sealed)
        };
        self.token.run(unwrap).await
    }

    async fn needs(&self, label: &'static str, wrapped: &[u8]) -> Result<String> {
        self.unwrap(label, wrapped).await?;
        Ok(parse(wrapped).map(|(number, ..)| number).unwrap_or_default().to_string())
    }

    async fn versions(&self) -> Result<Vec<String>> {
        Ok(self.numbers().await?.iter().map(u32::to_string).collect())
    }

    async fn add_version(&self) -> Result<String> {
        let name = self.label.clone();
        let overtaken = self.missing("another process made a version at the same moment; begin again");
        let make = move |desk: &Desk<'_>| {
            let number = versions(desk, &name)?.last().map_or(1, |(number, _)| number + 1);
            let made = desk.make_key(&name, &number.to_be_bytes())?;
            if versions(desk, &name)?.iter().filter(|(other, _)| *other == number).count() > 1 {
                desk.destroy_key(&made)?;
                return Err(overtaken.into());
            }
            Ok(number)
        };
        let number = self.token.run(make).await?;
        // A token may believe that it keeps what it could not write.
        self.token.reopen().await?;
        if self.numbers().await?.last() != Some(&number) {
            return Err(self.missing("the token did not keep the new version; is it full?"));
        }
        Ok(number.to_string())
    }

    async fn destroy_version(&self, version: &str) -> Result<()> {
        let (name, version) = (self.label.clone(), version.to_owned());
        let newest = self.missing("its newest version is in use and cannot be destroyed");
        let destroy = move |desk: &Desk<'_>| {
            let found = versions(desk, &name)?;
            if found.last().is_none_or(|(number, _)| number.to_string() == version) {
                return Err(newest.into());
            }
            let old = found.iter().filter(|(number, _)| number.to_string() == version);
            old.map(|(_, key)| key).try_for_each(|key| desk.destroy_key(key))
        };
        self.token.run(destroy).await
    }

    fn kind(&self) -> &'static str {
        "pkcs11"
    }

    fn describe(&self) -> String {
        format!("{} in the {}", self.label, self.token.describe())
    }
}
