//! Where an issuer's keys come from: a file, or an address that they are fetched from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio_rustls::rustls::crypto;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::config;
use crate::formats::jwks::KeySet;

/// No key set is larger.
const LARGEST: usize = 256 << 10;

/// How long the other side may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where keys come from.
pub enum Source {
    /// A file.
    File(PathBuf),
    /// An address.
    Address {
        /// The address.
        url: Url,
        /// Who asks there.
        client: Box<Client<HttpsConnector<HttpConnector>, Empty<Bytes>>>,
    },
}

impl Source {
    /// The source that a configuration names.
    ///
    /// # Errors
    /// When it names none, or its authority cannot be used.
    pub fn of(config: &config::Issuer) -> Result<Self> {
        let Some(url) = config.jwks_url()? else {
            let file = config.jwks_file.clone().context("there is neither jwks_file nor jwks_url")?;
            return Ok(Self::File(file));
        };
        let plain = url.scheme() == "http";
        let builder = HttpsConnectorBuilder::new();
        let builder = match &config.jwks_ca_file {
            None => builder.with_native_roots().context("this system has no authorities to trust")?,
            Some(file) => {
                let place = file.display();
                let pem = std::fs::read(file).with_context(|| format!("cannot read {place}"))?;
                let mut roots = RootCertStore::empty();
                for authority in CertificateDer::pem_slice_iter(&pem) {
                    roots.add(authority.with_context(|| format!("{place} is not PEM"))?)?;
                }
                ensure!(!roots.is_empty(), "{place} holds no certificate");
                let tls = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                builder.with_tls_config(tls)
            }
        };
        // Plain http is for loopback only, which the configuration sees to.
        let connector = if plain { builder.https_or_http() } else { builder.https_only() };
        let client = Client::builder(TokioExecutor::new()).build(connector.enable_http1().build());
        Ok(Self::Address { url, client: Box::new(client) })
    }

    /// The keys as they are there now.
    ///
    /// # Errors
    /// When they cannot be had, or are none.
    pub async fn fetch(&self) -> Result<KeySet> {
        match self {
            Self::File(path) => {
                let place = path.display();
                let read = tokio::fs::read(path).await.with_context(|| format!("cannot read {place}"))?;
                ensure!(read.len() <= LARGEST, "{place} has {} bytes", read.len());
                KeySet::parse(&read).with_context(|| format!("in {place}"))
            }
            Self::Address { url, client } => {
                let asking = ask(url, client);
                let body =
                    tokio::time::timeout(PATIENCE, asking).await.with_context(|| format!("{url} does not answer"))?;
                KeySet::parse(&body?).with_context(|| format!("from {url}"))
            }
        }
    }
}

/// By what a file that was written again is known; `None` when it is not there.
pub async fn stamp(path: &Path) -> Option<(u64, SystemTime)> {
    let about = tokio::fs::metadata(path).await.ok()?;
    Some((about.len(), about.modified().ok()?))
}

async fn ask(url: &Url, client: &Client<HttpsConnector<HttpConnector>, Empty<Bytes>>) -> Result<Bytes> {
    let request = Request::get(url.as_str()).header("accept", "application/json").body(Empty::new())?;
    let response = client.request(request).await.with_context(|| format!("cannot fetch {url}"))?;
    if response.status() != StatusCode::OK {
        bail!("{url} answers {}", response.status());
    }
    match Limited::new(response.into_body(), LARGEST).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => bail!("{url} does not end well: {error}"),
    }
}
