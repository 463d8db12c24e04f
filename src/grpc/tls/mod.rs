//! TLS of the door: version 1.3 on ring, certificates of callers, and the replacement of all of it while it serves.
//!
//! The files are read anew when they have changed. A connection keeps what it was made with, so nothing under way is
//! dropped; its certificate, however, is held against the present authorities again and again, so that one that expires,
//! is revoked or has lost its authority does not live on in an old connection.

pub(crate) mod certificate;
mod keep;

pub use certificate::Certificate;
pub use keep::keep;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, version};
use zeroize::Zeroizing;

use crate::config::{self, ClientCertificates};
use crate::crypto::derive;
use crate::model::{Clock, Time};

/// What the door speaks, and nothing else.
const PROTOCOL: &[u8] = b"h2";

/// No file of certificates is larger.
const LARGEST_FILE: u64 = 4 << 20;

/// TLS as it is configured, and as it is in force.
pub struct Tls {
    config: config::Tls,
    clock: Arc<dyn Clock>,
    inforce: RwLock<Arc<InForce>>,
    /// Of the files that were seen last, whether they could be used or not.
    seen: Mutex<[u8; 32]>,
}

/// What a set of files says.
pub struct InForce {
    server: Arc<ServerConfig>,
    callers: Option<Arc<dyn ClientCertVerifier>>,
    digest: [u8; 32],
    expires: Time,
}

/// What came of a look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// They are those that were seen before.
    Same,
    /// They are in force now.
    Replaced,
}

impl Tls {
    /// Reads the files that a configuration names.
    ///
    /// # Errors
    /// When one of them cannot be used; it is named.
    pub fn open(config: &config::Tls, clock: Arc<dyn Clock>) -> Result<Self> {
        let files = Files::read(config)?;
        let inforce = files.put_in_force(config, &clock)?;
        let seen = Mutex::new(inforce.digest);
        Ok(Self { config: config.clone(), clock, inforce: RwLock::new(Arc::new(inforce)), seen })
    }

    /// Looks at the files, and puts them in force if they have changed. What was in force stays so when they cannot be used.
    ///
    /// # Errors
    /// When files that were not seen before cannot be used.
    pub fn look(&self) -> Result<Look> {
        let read = Files::read(&self.config);
        let digest = read.as_ref().map_or([0; 32], Files::digest);
        let before = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), digest);
        if before == digest {
            return Ok(Look::Same);
        }
        let inforce = Arc::new(read?.put_in_force(&self.config, &self.clock)?);
        *self.inforce.write().unwrap_or_else(PoisonError::into_inner) = inforce;
        Ok(Look::Replaced)
    }

    /// Whether the files that were seen last are in force.
    pub fn is_current(&self) -> bool {
        self.inforce().digest == *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the server's certificate in force expires.
    pub fn expires(&self) -> Time {
        self.inforce().expires
    }

    /// Whether it has.
    pub fn has_expired(&self) -> bool {
        self.expires() < self.clock.now()
    }

    /// Who shakes hands by what is in force.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.inforce().server))
    }

    /// Whether a certificate that was good when its connection was made still is.
    ///
    /// # Errors
    /// Telling why not.
    pub fn check(&self, certificate: &Certificate) -> Result<(), String> {
        let (inforce, now) = (self.inforce(), self.clock.now());
        certificate.check(inforce.digest, now, |first, rest| match &inforce.callers {
            Some(callers) => {
                callers.verify_client_cert(first, rest, unix(now)).map(drop).map_err(|error| error.to_string())
            }
            None => Err("nobody is asked for a certificate any more".to_owned()),
        })
    }

    fn inforce(&self) -> Arc<InForce> {
        Arc::clone(&self.inforce.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The bytes of the files, all read in one go.
pub(crate) struct Files {
    /// The chain of the server's certificate.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Zeroizing<Vec<u8>>,
    /// Whose certificates callers may show.
    pub authorities: Option<Vec<u8>>,
    /// Which of these are revoked.
    pub revoked: Option<Vec<u8>>,
}

/// Whether these files could be put in force.
#[cfg(any(test, fuzzing))]
pub(crate) fn fit(files: &Files, config: &config::Tls, clock: &Arc<dyn Clock>) -> bool {
    files.put_in_force(config, clock).is_ok_and(|inforce| inforce.expires >= clock.now())
}

impl Files {
    fn read(config: &config::Tls) -> Result<Self> {
        let optional = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        Ok(Self {
            certificate: read(&config.certificate_file)?,
            key: Zeroizing::new(read(&config.key_file)?),
            authorities: optional(&config.client_ca_file)?,
            revoked: optional(&config.client_crl_file)?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let (authorities, revoked) = (self.authorities.as_deref(), self.revoked.as_deref());
        let parts = [&*self.certificate, &*self.key, authorities.unwrap_or_default(), revoked.unwrap_or_default()];
        let each = parts.map(|part| derive::sha256(&[part]));
        derive::sha256(&[b"lacuna/tls-files/v1", each.as_flattened()])
    }

    fn put_in_force(&self, config: &config::Tls, clock: &Arc<dyn Clock>) -> Result<InForce> {
        let provider = Arc::new(crypto::ring::default_provider());
        let callers = self.authorities.as_deref().map(|pem| self.callers(config, pem, &provider)).transpose()?;
        let place = config.certificate_file.display();
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{place} is not PEM"))?;
        let own = chain.first().with_context(|| format!("{place} holds no certificate"))?;
        let (begins, expires) = certificate::validity(own).with_context(|| format!("in {place}"))?;
        let now = clock.now();
        ensure!(now <= expires, "the certificate in {place} expired at {expires}");
        ensure!(now >= begins, "the certificate in {place} is not valid before {begins}");
        let place = config.key_file.display();
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| anyhow::anyhow!("{place} holds no private key in PEM"))?;
        let builder = ServerConfig::builder_with_details(provider, Arc::new(Ticking(Arc::clone(clock))))
            .with_protocol_versions(&[&version::TLS13])?;
        let builder = match &callers {
            Some(callers) => builder.with_client_cert_verifier(Arc::clone(callers)),
            None => builder.with_no_client_auth(),
        };
        let mut server =
            builder.with_single_cert(chain, key).with_context(|| format!("the key in {place} cannot be used"))?;
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Every connection shows its certificate: none takes up the session of another.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(InForce { server: Arc::new(server), callers, digest: self.digest(), expires })
    }

    fn callers(
        &self,
        config: &config::Tls,
        pem: &[u8],
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>> {
        let name = |path: &Option<PathBuf>| path.iter().map(|path| path.display().to_string()).collect::<String>();
        let place = name(&config.client_ca_file);
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(pem) {
            let authority = authority.with_context(|| format!("{place} is not PEM"))?;
            roots.add(authority).with_context(|| format!("a certificate in {place} is that of no authority"))?;
        }
        ensure!(!roots.is_empty(), "{place} holds no certificate");
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        if let Some(pem) = &self.revoked {
            let place = name(&config.client_crl_file);
            let lists = CertificateRevocationListDer::pem_slice_iter(pem)
                .collect::<Result<Vec<_>, _>>()
                .with_context(|| format!("{place} is not PEM"))?;
            ensure!(!lists.is_empty(), "{place} holds no list of revoked certificates");
            // An authority without a list revokes nothing.
            builder = builder.with_crls(lists).allow_unknown_revocation_status();
        }
        if config.client_certificates == ClientCertificates::Optional {
            builder = builder.allow_unauthenticated();
        }
        builder.build().with_context(|| format!("the authorities in {place} cannot be used"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let read = || {
        let size = std::fs::metadata(path)?.len();
        if size > LARGEST_FILE {
            return Err(io::Error::other(format!("it has {size} bytes")));
        }
        std::fs::read(path)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

/// The vault's clock, for the library.
struct Ticking(Arc<dyn Clock>);

impl fmt::Debug for Ticking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticking")
    }
}

impl TimeProvider for Ticking {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0.now()))
    }
}

fn unix(time: Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_micros(u64::try_from(time.micros()).unwrap_or_default()))
}
