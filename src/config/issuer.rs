//! Configuration of those who issue bearer tokens to callers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use url::Url;

use super::endpoint;
use crate::crypto::jws;

/// Somebody who issues bearer tokens (JWT), as an identity provider does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What `iss` is in their tokens, to the letter.
    pub issuer: String,
    /// What must be in `aud`: how they call this vault.
    pub audience: String,
    /// File with their public keys (JWKS).
    pub jwks_file: Option<PathBuf>,
    /// Or where they publish them: https://…, or http://… on loopback.
    pub jwks_url: Option<String>,
    /// PEM file of the authority that vouches for that address; those of the system when not said.
    pub jwks_ca_file: Option<PathBuf>,
    /// How they may sign: all of them when not said.
    #[serde(default = "all")]
    pub algorithms: Vec<Algorithm>,
    /// By how many seconds their clock may differ: 60.
    #[serde(default = "skew")]
    pub clock_skew_seconds: u32,
    /// The claim that lists the groups of whoever calls; none when not said.
    pub groups_claim: Option<String>,
}

/// How a token may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA with P-256.
    #[serde(rename = "ES256")]
    Es256,
    /// RSA with PKCS#1 v1.5.
    #[serde(rename = "RS256")]
    Rs256,
}

/// By what a caller is known in a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Who issued it; may be left out when there is one only.
    pub issuer: Option<String>,
    /// The claim: `sub`.
    #[serde(default = "subject")]
    pub claim: String,
    /// What it says.
    pub value: String,
}

fn all() -> Vec<Algorithm> {
    vec![Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256]
}

const fn skew() -> u32 {
    60
}

fn subject() -> String {
    "sub".to_owned()
}

impl From<Algorithm> for jws::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::EdDsa => Self::EdDsa,
            Algorithm::Es256 => Self::Es256,
            Algorithm::Rs256 => Self::Rs256,
        }
    }
}

impl Claim {
    /// Who issues the tokens that this is about.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn issuer<'i>(&self, issuers: &'i [Issuer]) -> Result<&'i Issuer> {
        ensure!(!self.claim.is_empty() && !self.value.is_empty(), "claim and value must say something");
        match (&self.issuer, issuers) {
            (None, [only]) => Ok(only),
            (None, []) => bail!("there are no [[issuers]]"),
            (None, _) => bail!("there are several [[issuers]]: say which one with issuer"),
            (Some(name), all) => all
                .iter()
                .find(|issuer| issuer.issuer == *name)
                .with_context(|| format!("{name:?} is not among [[issuers]]")),
        }
    }
}

/// Checks issuers, by themselves and against each other.
pub(super) fn check(issuers: &[Issuer]) -> Result<()> {
    for (at, issuer) in issuers.iter().enumerate() {
        issuer.check(at)?;
        let twice = issuers.iter().take(at).any(|other| other.issuer == issuer.issuer);
        ensure!(!twice, "issuers[{at}].issuer {:?} is there twice", issuer.issuer);
    }
    Ok(())
}

impl Issuer {
    fn check(&self, at: usize) -> Result<()> {
        ensure!(!self.issuer.is_empty(), "issuers[{at}].issuer is empty");
        ensure!(!self.audience.is_empty(), "issuers[{at}].audience is empty");
        ensure!(
            self.jwks_file.is_some() != self.jwks_url.is_some(),
            "issuers[{at}] needs jwks_file or jwks_url, and not both"
        );
        ensure!(
            self.jwks_ca_file.is_none() || self.jwks_url.is_some(),
            "issuers[{at}].jwks_ca_file says nothing without jwks_url"
        );
        ensure!(!self.algorithms.is_empty(), "issuers[{at}].algorithms is empty");
        ensure!(self.clock_skew_seconds <= 600, "issuers[{at}].clock_skew_seconds must not be above 600");
        self.jwks_url().with_context(|| format!("issuers[{at}].jwks_url"))?;
        Ok(())
    }

    /// Where they publish their keys, if they do.
    ///
    /// # Errors
    /// When somebody on the way could change what is fetched from there.
    pub fn jwks_url(&self) -> Result<Option<Url>> {
        self.jwks_url.as_deref().map(endpoint::parse).transpose()
    }

    /// By how much their clock may differ.
    #[must_use]
    pub fn clock_skew(&self) -> Duration {
        Duration::from_secs(self.clock_skew_seconds.into())
    }
}
