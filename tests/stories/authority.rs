//! An authority that makes certificates for stories, good ones and bad ones.

use std::fs;
use std::path::Path;

use lacuna::config::{ClientCertificates, Tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::house::House;

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Issued {
    pub pem: String,
    pub key: String,
}

/// What a certificate says.
pub struct Says {
    pub names: Vec<SanType>,
    pub usage: ExtendedKeyUsagePurpose,
    /// The year in which it begins, and the one in which it ends.
    pub years: (i32, i32),
    pub serial: u8,
}

/// A certificate for a caller with these names, `spiffe://…` or `dns:…`.
pub fn names(names: &[&str]) -> Says {
    let name = |name: &&str| match name.strip_prefix("dns:") {
        Some(host) => SanType::DnsName(host.try_into().unwrap()),
        None => SanType::URI((*name).try_into().unwrap()),
    };
    Says {
        names: names.iter().map(name).collect(),
        usage: ExtendedKeyUsagePurpose::ClientAuth,
        years: (2020, 2100),
        serial: 1,
    }
}

impl Authority {
    pub fn called(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub fn issue(&self, says: Says) -> Issued {
        let mut params = CertificateParams::default();
        params.not_before = date_time_ymd(says.years.0, 1, 1);
        params.not_after = date_time_ymd(says.years.1, 1, 1);
        params.subject_alt_names = says.names;
        params.extended_key_usages = vec![says.usage];
        params.serial_number = Some(SerialNumber::from_slice(&[says.serial]));
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        Issued { pem: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A caller's certificate with one name.
    pub fn caller(&self, name: &str) -> Issued {
        self.issue(names(&[name]))
    }

    /// A certificate for a server on this machine.
    pub fn server(&self) -> Issued {
        let says = names(&["dns:localhost"]);
        let here = SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        self.issue(Says {
            names: [says.names, vec![here]].concat(),
            usage: ExtendedKeyUsagePurpose::ServerAuth,
            ..names(&[])
        })
    }

    /// The list of the serial numbers that it has revoked.
    pub fn revoke(&self, serial: u8) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[serial]),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from_slice(&[1]),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// How somebody with this certificate speaks to a server of this authority.
pub fn speak(authority: &Authority, shown: Option<&Issued>) -> ClientTlsConfig {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem));
    match shown {
        Some(issued) => tls.identity(Identity::from_pem(&issued.pem, &issued.key)),
        None => tls,
    }
}

/// Writes a server's certificate and the authorities of callers, and answers the configuration that names them.
pub fn write(folder: &Path, server: &Issued, authorities: &str) -> Tls {
    let file = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    Tls {
        certificate_file: file("server.pem", &server.pem),
        key_file: file("server.key", &server.key),
        client_ca_file: Some(file("callers.pem", authorities)),
        client_crl_file: None,
        client_certificates: ClientCertificates::Required,
    }
}

/// A caller who is known by these names in their certificate.
pub fn known(name: &str, certificate: &[&str]) -> lacuna::config::Caller {
    lacuna::config::Caller {
        name: name.to_owned(),
        certificate: certificate.iter().map(|&name| name.to_owned()).collect(),
        ..Default::default()
    }
}

/// Opens the house again behind mutual TLS, for callers whom `authority` vouches for; the first of them speaks.
pub async fn secure(house: &mut House, authority: &Authority, callers: Vec<lacuna::config::Caller>) {
    house.config.tls = Some(write(house.home(), &authority.server(), &authority.pem));
    house.tls = Some(speak(authority, Some(&authority.caller(&callers[0].certificate[0]))));
    house.config.callers = callers;
    house.reopen().await;
}
