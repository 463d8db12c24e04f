//! Configuration of TLS: who the server is, and whom it lets in.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Deserialize;

/// TLS of the door. Its files are looked at every few seconds, and taken over when they have changed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file with the server's certificate, and with those between it and its authority.
    pub certificate_file: PathBuf,
    /// PEM file with its private key.
    pub key_file: PathBuf,
    /// PEM file with the authorities that vouch for callers; without it nobody is asked for a certificate.
    pub client_ca_file: Option<PathBuf>,
    /// PEM file with lists of certificates that these authorities have revoked.
    pub client_crl_file: Option<PathBuf>,
    /// Whether a caller needs a certificate: `required`.
    #[serde(default)]
    pub client_certificates: ClientCertificates,
}

/// Whether a caller needs a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    /// Not if it sends a bearer token.
    Optional,
    /// No connection without one.
    #[default]
    Required,
}

impl Tls {
    pub(super) fn check(&self) -> Result<()> {
        let asks = self.client_ca_file.is_some();
        ensure!(
            asks || self.client_certificates == ClientCertificates::Required,
            "tls.client_certificates says nothing without tls.client_ca_file"
        );
        ensure!(
            asks || self.client_crl_file.is_none(),
            "tls.client_crl_file needs tls.client_ca_file: who revokes is who vouches"
        );
        Ok(())
    }
}
