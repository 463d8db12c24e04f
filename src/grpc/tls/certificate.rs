//! A caller's certificate: the names in it, and whether it is still good.

use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

use crate::config::check_name;
use crate::model::Time;

/// How long a look at a certificate is good for, in microseconds: a second.
const LOOK: i64 = 1_000_000;

/// No certificate of a caller needs more names.
const MOST_NAMES: usize = 100;

/// The certificate of a connection, with those between it and its authority.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    names: Vec<String>,
    looked: Mutex<Looked>,
}

/// What the last look at a certificate found.
struct Looked {
    /// Of the files that it was held against.
    digest: [u8; 32],
    at: Time,
    found: Result<(), String>,
}

impl Certificate {
    /// Takes a certificate whose connection has been made.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        let names = chain.first().map(names).unwrap_or_default();
        let found = Err("it was not looked at yet".to_owned());
        Self { chain, names, looked: Mutex::new(Looked { digest: [0; 32], at: Time::from_micros(0), found }) }
    }

    /// Its names as a configuration writes them: `spiffe://…` and `dns:…`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Has it looked at again if the last look was long ago, or at other authorities.
    pub fn check(
        &self,
        digest: [u8; 32],
        now: Time,
        look: impl FnOnce(&CertificateDer<'static>, &[CertificateDer<'static>]) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let old = now.micros().abs_diff(looked.at.micros()) >= LOOK.unsigned_abs();
        if old || looked.digest != digest {
            let found =
                self.chain.split_first().map_or_else(|| Err("there is none".to_owned()), |(own, rest)| look(own, rest));
            *looked = Looked { digest, at: now, found };
        }
        looked.found.clone()
    }
}

/// The names of hosts and the SPIFFE ID of a certificate, as far as a configuration could name them. A certificate with a
/// SPIFFE ID has one and no other URI (SPIFFE X.509-SVID, section 2): one that has several has none.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let hosts = parsed.valid_dns_names().map(|name| format!("dns:{}", name.to_ascii_lowercase()));
    let mut names: Vec<_> = hosts.filter(|name| check_name(name).is_ok()).take(MOST_NAMES).collect();
    let mut uris = parsed.valid_uri_names();
    if let (Some(uri), None) = (uris.next(), uris.next())
        && uri.starts_with("spiffe://")
        && check_name(uri).is_ok()
    {
        names.push(uri.to_owned());
    }
    names
}

/// From when to when a certificate is valid.
///
/// # Errors
/// When it is no certificate.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(Time, Time)> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { bail!("there is something that is no certificate") };
    // The library tells the limits to who asks at a time outside of them.
    let ask = |seconds: u64| {
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        parsed.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).map(drop)
    };
    let begins = match ask(0) {
        Err(Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
        _ => 0,
    };
    let expires = match ask(u64::MAX) {
        Err(Error::CertExpired { not_after, .. }) => not_after.as_secs(),
        _ => bail!("there is a certificate whose end cannot be told"),
    };
    let time = |seconds: u64| Time::from_micros(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000));
    Ok((time(begins), time(expires)))
}
