//! What strangers show at the door before they are known: tokens of issuers, certificates.

use std::sync::{Arc, LazyLock};

use data_encoding::BASE64URL_NOPAD;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{Named, halves, signer, text};
use crate::config;
use crate::crypto::derive;
use crate::crypto::jws::Algorithm;
use crate::formats::jwks::{Found, KeySet};
use crate::grpc::jwt::{Issuer, Token};
use crate::grpc::tls::certificate::{Certificate, validity};
use crate::grpc::tls::{Files, fit};
use crate::model::{Clock, Time};
use crate::policy::Caller;

pub const TARGETS: &[Named] = &[("jwt", jwt), ("jwks", jwks), ("certificates", certificates), ("tls_files", tls_files)];

const NOW: i64 = 1_795_262_400_000_000;

/// An issuer whose key signs whatever is put to a target.
static ISSUER: LazyLock<Option<Issuer>> = LazyLock::new(|| {
    let x = BASE64URL_NOPAD.encode(&signer()?.public());
    let set = format!("{{\"keys\":[{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"a\",\"x\":\"{x}\"}}]}}");
    let config: config::Issuer =
        toml::from_str("issuer = 'i'\naudience = 'lacuna'\ngroups_claim = 'groups'\njwks_file = 'none'").ok()?;
    let mut issuer = Issuer::of(&config).ok()?;
    issuer.set_keys(KeySet::parse(set.as_bytes()).ok()?);
    issuer.add(&toml::from_str("value = 'shop'").ok()?, Caller::named("shop"));
    Some(issuer)
});

/// What is said of files whose bytes come from elsewhere.
static TLS: LazyLock<Option<config::Tls>> = LazyLock::new(|| {
    toml::from_str("certificate_file = 'a'\nkey_file = 'b'\nclient_ca_file = 'c'\nclient_crl_file = 'd'").ok()
});

/// A token as it came; then one with these two parts that the issuer has signed.
fn jwt(bytes: &[u8]) {
    let (Some(issuer), Some(key)) = (&*ISSUER, signer()) else { return };
    let now = Time::from_micros(NOW);
    let check = |token: &str| {
        let digest = derive::sha256(&[token.as_bytes()]);
        Token::parse(token).map(|parsed| issuer.check(&parsed, digest, now))
    };
    assert!(!matches!(check(text(bytes)), Some(Ok(_))), "nobody signed it");
    let (header, claims) = halves(bytes);
    let signed = format!("{}.{}", BASE64URL_NOPAD.encode(header), BASE64URL_NOPAD.encode(claims));
    let whole = format!("{signed}.{}", BASE64URL_NOPAD.encode(&key.sign(signed.as_bytes())));
    if let Some(Ok((caller, until))) = check(&whole) {
        assert!(caller.name == "shop" && until > now && caller.groups.len() <= 64);
        assert_eq!(Token::parse(&whole).and_then(|token| token.issuer().map(str::to_owned)).as_deref(), Some("i"));
        for at in [0, signed.len() / 2, signed.len() - 1] {
            let mut other = whole.clone().into_bytes();
            other.iter_mut().skip(at).take(1).for_each(|byte| *byte = if *byte == b'A' { b'B' } else { b'A' });
            assert!(!matches!(check(text(&other)), Some(Ok(_))), "a token that was altered is taken");
        }
    }
}

fn jwks(bytes: &[u8]) {
    let Ok(keys) = KeySet::parse(bytes) else { return };
    assert!(keys.count() <= 64);
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        if let Found::Key(key) = keys.find(None, algorithm) {
            assert!(!key.verify(b"message", &[0; 64]) && key.algorithm() == algorithm);
        }
    }
}

/// The DER of a certificate.
fn certificates(bytes: &[u8]) {
    let der = CertificateDer::from(bytes.to_vec());
    if let Ok((begins, expires)) = validity(&der) {
        assert!(begins.micros() >= 0 && expires.micros() >= 0);
    }
    let certificate = Certificate::new(vec![der]);
    for name in certificate.names() {
        assert!(name.starts_with("dns:") || name.starts_with("spiffe://"), "{name}");
        assert!(!name.contains('*'));
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Time {
        Time::from_micros(NOW)
    }
}

/// The four files of TLS, one behind the other.
fn tls_files(bytes: &[u8]) {
    let (certificate, rest) = halves(bytes);
    let (key, rest) = halves(rest);
    let (authorities, revoked) = halves(rest);
    let files = Files {
        certificate: certificate.to_vec(),
        key: key.to_vec().into(),
        authorities: Some(authorities.to_vec()).filter(|file| !file.is_empty()),
        revoked: Some(revoked.to_vec()).filter(|file| !file.is_empty()),
    };
    let clock: Arc<dyn Clock> = Arc::new(Still);
    if let Some(config) = &*TLS {
        let _fits: bool = fit(&files, config, &clock);
    }
}
