//! Callers who are known by their certificate, and those who are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lacuna::config::{Caller, ClientCertificates};
use lacuna::proto::v1;
use rcgen::{ExtendedKeyUsagePurpose, SanType};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, version};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::asks::{CARE, detokenize, text, tokenize};
use crate::authority::{Authority, Issued, Says, known, names, secure, speak, write};
use crate::doors::rpcs;
use crate::house::{House, on_both_stores, reason};
use crate::request::call_over;

const SHOP: &str = "spiffe://example.org/shop";
const MAILER: &str = "spiffe://example.org/mailer";
const LIST: &str = "/lacuna.v1.SubjectService/ListSubjects";

/// How it ended for somebody who wanted something.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Served,
    /// The connection did not come about, or ended before an answer.
    NoHandshake,
    /// The vault refused, for this reason.
    Refused(Code, String),
}

fn unknown() -> End {
    End::Refused(Code::Unauthenticated, "CALLER_UNKNOWN".to_owned())
}

fn end(answer: Result<Vec<u8>, Status>) -> End {
    use tonic_types::StatusExt as _;
    match answer {
        Ok(_) => End::Served,
        Err(status) if status.get_details_error_info().is_some() => End::Refused(status.code(), reason(&status)),
        Err(_) => End::NoHandshake,
    }
}

async fn connect(house: &House, authority: &Authority, shown: Option<&Issued>) -> Option<Channel> {
    let address = format!("https://{}", house.running().address);
    let endpoint = Channel::from_shared(address).unwrap().tls_config(speak(authority, shown)).unwrap();
    endpoint.connect().await.ok()
}

/// Wants a list, with a certificate and a bearer token.
async fn want(house: &House, authority: &Authority, shown: Option<&Issued>, bearer: Option<&str>) -> End {
    match connect(house, authority, shown).await {
        Some(channel) => end(call_over(channel, LIST, Vec::new(), bearer).await),
        None => End::NoHandshake,
    }
}

on_both_stores! {
    async fn a_caller_is_known_by_a_name_in_its_certificate(house: House) {
        let (mut house, authority) = (house, Authority::called("the authority"));
        let mailer = Caller {
            purposes: Some(vec!["order_confirmation".to_owned()]),
            ..known("mailer", &["dns:mailer.example.org", MAILER])
        };
        secure(&mut house, &authority, vec![known("shop", &[SHOP]), mailer]).await;
        let request = tokenize("", vec![text("x")]);
        let token = [house.tokens.tokenize(request).await.unwrap().into_inner().tokens[0].token.clone()];
        assert_eq!(house.reveal(&token, CARE).await, [Ok("x".to_owned())]);
        for name in ["dns:mailer.example.org", MAILER] {
            house.tls = Some(speak(&authority, Some(&authority.caller(name))));
            let (mut tokens, _) = house.connect_as("").await;
            let refused = tokens.detokenize(detokenize(&token, CARE)).await.unwrap_err();
            assert_eq!(reason(&refused), "PURPOSE_NOT_GRANTED", "{name} is the mailer");
            assert!(tokens.detokenize(detokenize(&token, "order_confirmation")).await.is_ok());
        }
    }

    async fn every_rpc_is_refused_to_a_certificate_that_names_nobody(house: House) {
        let (mut house, authority) = (house, Authority::called("the authority"));
        secure(&mut house, &authority, vec![known("shop", &[SHOP])]).await;
        house.config.tls.as_mut().unwrap().client_certificates = ClientCertificates::Optional;
        house.reopen().await;
        let before = house.everything().await;
        let stranger = connect(&house, &authority, Some(&authority.caller(MAILER))).await.unwrap();
        let nobody = connect(&house, &authority, None).await.unwrap();
        let rpcs = rpcs();
        assert!(rpcs.len() >= 20, "{rpcs:?}");
        for rpc in rpcs {
            for channel in [&stranger, &nobody] {
                for bearer in [None, Some("Bearer MARKED-nobody"), Some("Basic MARKED"), Some("Bearer a.b.c")] {
                    let answer = call_over(channel.clone(), &rpc.path, Vec::new(), bearer).await;
                    assert!(!format!("{answer:?}").contains("MARKED"), "{} repeats the credential", rpc.path);
                    assert_eq!(end(answer), unknown(), "{} with {bearer:?}", rpc.path);
                }
            }
        }
        assert_eq!(house.everything().await, before);
    }

    async fn certificates_are_replaced_under_load_and_no_request_is_dropped(house: House) {
        let (mut house, authority) = (house, Authority::called("the authority"));
        secure(&mut house, &authority, vec![known("shop", &[SHOP])]).await;
        let stop = AtomicBool::new(false);
        let served: [AtomicUsize; 4] = Default::default();
        let count = || served.each_ref().map(|served| served.load(Ordering::Relaxed));
        let replacing = async {
            for round in 0..20 {
                // Authorities come and go beside the one that vouches for those who call.
                let other = Authority::called("another one").pem;
                let own = authority.server();
                if round % 4 == 3 {
                    std::fs::write(house.home().join("server.pem"), "cut off in the mid").unwrap();
                    house.running().reload();
                }
                write(house.home(), &own, &format!("{}{other}", authority.pem));
                house.running().reload();
                let expected = CertificateDer::from_pem_slice(own.pem.as_bytes()).unwrap();
                while shown_by_server(&house, &authority).await != *expected {
                    // Told while it looked, it looks again only when it is told again.
                    house.running().reload();
                }
                let before = count();
                while count().iter().zip(before).any(|(now, before)| *now < before + 2) {
                    tokio::task::yield_now().await;
                }
            }
            stop.store(true, Ordering::Relaxed);
        };
        let anew = [false, false, false, true].into_iter().zip(&served);
        let calling = anew.map(|(anew, served)| go_on_calling(&house, &authority, anew, &stop, served));
        tokio::join!(replacing, futures_util::future::join_all(calling));
        println!("served while certificates were replaced 20 times: {:?}", count());
    }
}

/// The certificate that the server shows, as a stranger sees it.
async fn shown_by_server(house: &House, authority: &Authority) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(house.running().address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// Calls until it is told to stop, each call over a new connection or all over one, counting how often it was served.
async fn go_on_calling(house: &House, authority: &Authority, anew: bool, stop: &AtomicBool, served: &AtomicUsize) {
    let shown = authority.caller(SHOP);
    let mut channel = connect(house, authority, Some(&shown)).await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        let answer = end(call_over(channel.clone(), LIST, Vec::new(), None).await);
        assert_eq!(answer, End::Served, "after {served:?} that were served");
        served.fetch_add(1, Ordering::Relaxed);
        if anew {
            channel = connect(house, authority, Some(&shown)).await.expect("a handshake that is refused");
        }
    }
}

async fn on_sqlite(authority: &Authority) -> House {
    let mut house = House::on_sqlite().await;
    secure(&mut house, authority, vec![known("shop", &[SHOP, "dns:shop"]), known("mailer", &[MAILER, "dns:mailer"])])
        .await;
    house
}

#[tokio::test]
async fn who_is_not_vouched_for_does_not_get_as_far_as_a_call() {
    let authority = Authority::called("the authority");
    let other = Authority::called("the authority");
    let house = on_sqlite(&authority).await;
    let good = authority.caller(SHOP);
    assert_eq!(want(&house, &authority, Some(&good), None).await, End::Served);
    let says = || names(&[SHOP]);
    let bad = [
        ("none", None),
        ("another authority of the same name", Some(other.caller(SHOP))),
        ("expired", Some(authority.issue(Says { years: (2020, 2025), ..says() }))),
        ("not valid yet", Some(authority.issue(Says { years: (2027, 2030), ..says() }))),
        ("for servers", Some(authority.issue(Says { usage: ExtendedKeyUsagePurpose::ServerAuth, ..says() }))),
    ];
    for (what, shown) in bad {
        assert_eq!(want(&house, &authority, shown.as_ref(), None).await, End::NoHandshake, "{what}");
        let bearer = Some("Bearer something");
        assert_eq!(want(&house, &authority, shown.as_ref(), bearer).await, End::NoHandshake, "{what}, with a token");
    }
    let plain = Channel::from_shared(format!("http://{}", house.running().address)).unwrap();
    let plain = plain.connect().await;
    let ended = match plain {
        Ok(channel) => end(call_over(channel, LIST, Vec::new(), None).await),
        Err(_) => End::NoHandshake,
    };
    assert_eq!(ended, End::NoHandshake, "without TLS");
    assert_eq!(want(&house, &authority, Some(&good), None).await, End::Served, "the next one is served");
}

#[tokio::test]
async fn a_certificate_names_one_caller_or_nobody() {
    let authority = Authority::called("the authority");
    let house = on_sqlite(&authority).await;
    for (certificate, expected) in [
        (vec!["dns:shop"], End::Served),
        (vec!["dns:SHOP"], End::Served),
        (vec![SHOP, "dns:shop", "dns:elsewhere"], End::Served),
        (vec![], unknown()),
        (vec!["dns:elsewhere"], unknown()),
        (vec!["dns:*.shop"], unknown()),
        (vec!["spiffe://example.org/Shop"], unknown()),
        (vec!["spiffe://example.org/shop/"], unknown()),
        (vec!["spiffe://example.org/shop/till"], unknown()),
        (vec!["spiffe://example.com/shop"], unknown()),
        (vec!["https://example.org/shop"], unknown()),
        // A certificate with several URIs has no SPIFFE ID.
        (vec![SHOP, "https://example.org/"], unknown()),
        (vec![SHOP, SHOP], unknown()),
        (vec!["dns:shop", "dns:mailer"], unknown()),
        (vec![SHOP, "dns:mailer"], unknown()),
    ] {
        let shown = authority.issue(names(&certificate));
        assert_eq!(want(&house, &authority, Some(&shown), None).await, expected, "{certificate:?}");
    }
    let mut says = names(&[]);
    says.names = vec![SanType::Rfc822Name("shop@example.org".try_into().unwrap())];
    assert_eq!(want(&house, &authority, Some(&authority.issue(says)), None).await, unknown(), "an address");
}

#[tokio::test]
async fn a_token_and_a_certificate_of_two_callers_are_refused() {
    let authority = Authority::called("the authority");
    let mut house = on_sqlite(&authority).await;
    house.config.tls.as_mut().unwrap().client_certificates = ClientCertificates::Optional;
    house.config.callers[0].token = Some("the-token-of-shop".to_owned().into());
    house.reopen().await;
    let (shop, mailer, nobody) = (authority.caller(SHOP), authority.caller(MAILER), authority.caller("dns:nobody"));
    let token = Some("Bearer the-token-of-shop");
    assert_eq!(want(&house, &authority, None, token).await, End::Served);
    assert_eq!(want(&house, &authority, None, None).await, unknown());
    assert_eq!(want(&house, &authority, Some(&shop), token).await, End::Served);
    assert_eq!(want(&house, &authority, Some(&nobody), token).await, End::Served, "the token is enough");
    assert_eq!(want(&house, &authority, Some(&mailer), token).await, unknown());
    assert_eq!(want(&house, &authority, Some(&mailer), None).await, End::Served);
    assert_eq!(want(&house, &authority, Some(&mailer), Some("Bearer of-nobody-at-all")).await, unknown());
}

/// Shakes hands by one version of TLS; answers the version, the protocol, and the cipher suite that came of it.
async fn shake(
    house: &House,
    authority: &Authority,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let shown = authority.caller(SHOP);
    let chain = vec![CertificateDer::from_pem_slice(shown.pem.as_bytes()).unwrap()];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
    let mut client = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let stream = TcpStream::connect(house.running().address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.ok()?;
    let session = stream.get_ref().1;
    let protocol = String::from_utf8_lossy(session.alpn_protocol().unwrap_or_default()).into_owned();
    Some(format!("{:?} {protocol}", session.protocol_version().unwrap()))
}

#[tokio::test]
async fn only_the_present_version_of_tls_is_spoken() {
    let authority = Authority::called("the authority");
    let house = on_sqlite(&authority).await;
    let shaken = shake(&house, &authority, &[&version::TLS13]).await;
    assert_eq!(shaken.as_deref(), Some("TLSv1_3 h2"));
    assert_eq!(shake(&house, &authority, &[&version::TLS12]).await, None);
}

#[tokio::test]
async fn an_open_connection_does_not_outlive_its_certificate() {
    let authority = Authority::called("the authority");
    let mut house = on_sqlite(&authority).await;
    let short = authority.issue(Says { years: (2020, 2027), ..names(&[SHOP]) });
    let channel = connect(&house, &authority, Some(&short)).await.unwrap();
    let call = || call_over(channel.clone(), LIST, Vec::new(), None);
    assert_eq!(end(call().await), End::Served);
    house.clock.advance(std::time::Duration::from_hours(24 * 60));
    assert_eq!(end(call().await), unknown(), "it expired at the new year");
    assert_eq!(want(&house, &authority, Some(&authority.caller(SHOP)), None).await, End::Served);
    house.stop().await;
}

#[tokio::test]
async fn a_stream_of_values_does_not_outlive_the_certificate_of_its_caller() {
    let authority = Authority::called("the authority");
    let mut house = on_sqlite(&authority).await;
    let kept = house.tokens.tokenize(tokenize("", vec![text("x")])).await.unwrap().into_inner();
    let token = [kept.tokens[0].token.clone()];
    house.tls = Some(speak(&authority, Some(&authority.issue(Says { years: (2020, 2027), ..names(&[SHOP]) }))));
    let (mut tokens, _) = house.connect_as("").await;
    let (send, requests) = tokio::sync::mpsc::channel(1);
    send.send(detokenize(&token, CARE)).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = tokens.detokenize_stream(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    house.clock.advance(std::time::Duration::from_hours(24 * 60));
    let _ended_already = send.send(detokenize(&token, CARE)).await;
    assert_eq!(reason(&answers.message().await.unwrap_err()), "CALLER_UNKNOWN");
}

#[tokio::test]
async fn an_open_connection_does_not_outlive_its_authority_nor_its_revocation() {
    let (old, new) = (Authority::called("the old one"), Authority::called("the new one"));
    let mut house = on_sqlite(&old).await;
    let list = house.home().join("revoked.pem");
    std::fs::write(&list, new.revoke(7)).unwrap();
    let tls = write(house.home(), &old.server(), &format!("{}{}", old.pem, new.pem));
    house.config.tls = Some(lacuna::config::Tls { client_crl_file: Some(list.clone()), ..tls });
    house.reopen().await;
    let [of_old, of_new, third] = [old.caller(SHOP), new.caller(SHOP), new.issue(Says { serial: 8, ..names(&[SHOP]) })];
    let first = connect(&house, &old, Some(&of_old)).await.unwrap();
    let second = connect(&house, &old, Some(&of_new)).await.unwrap();
    let third = connect(&house, &old, Some(&third)).await.unwrap();
    let call = |channel: &Channel| call_over(channel.clone(), LIST, Vec::new(), None);
    for channel in [&first, &second, &third] {
        assert_eq!(end(call(channel).await), End::Served);
    }
    std::fs::write(house.home().join("callers.pem"), &new.pem).unwrap();
    std::fs::write(&list, new.revoke(8)).unwrap();
    house.running().reload();
    while end(call(&first).await) == End::Served || end(call(&third).await) == End::Served {
        tokio::task::yield_now().await;
    }
    assert_eq!([end(call(&first).await), end(call(&third).await)], [unknown(), unknown()]);
    assert_eq!(end(call(&second).await), End::Served, "nothing was said against this one");
    assert_eq!(want(&house, &old, Some(&of_old), None).await, End::NoHandshake);
}

#[tokio::test]
async fn a_door_without_authorities_asks_nobody_for_a_certificate() {
    let authority = Authority::called("the authority");
    let mut house = House::on_sqlite().await;
    let tls = write(house.home(), &authority.server(), &authority.pem);
    house.config.tls = Some(lacuna::config::Tls { client_ca_file: None, ..tls });
    house.tls = Some(speak(&authority, None));
    house.reopen().await;
    let bearer = format!("Bearer {}", house.bearer());
    assert_eq!(want(&house, &authority, None, Some(&bearer)).await, End::Served);
    assert_eq!(want(&house, &authority, Some(&authority.caller(SHOP)), None).await, unknown());
    let request = v1::ListSubjectsRequest::default();
    assert!(house.subjects.list_subjects(request).await.is_ok(), "the development credential, on loopback");
}
