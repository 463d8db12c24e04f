//! Callers who are known by a token of an issuer, and those who are not.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::{BASE64URL, BASE64URL_NOPAD};
use lacuna::config::{Algorithm, Caller, Claim, Issuer};
use lacuna::proto::v1;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::{Code, Status};

use crate::asks::{CARE, detokenize, text, tokenize};
use crate::doors::{call, rpcs};
use crate::house::{House, NOON, on_both_stores, reason};

const ISSUER: &str = "https://id.example.org";
const LIST: &str = "/lacuna.v1.SubjectService/ListSubjects";

/// A key that signs tokens.
enum Key {
    EdDsa(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
}

impl Key {
    fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::EdDsa(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn p256() -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self::Es256(EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).unwrap())
    }

    /// The one of the tests: making one takes long.
    fn rsa() -> Self {
        Self::Rs256(RsaKeyPair::from_pkcs8(include_bytes!("../data/jwt/rsa-for-tests.der")).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::EdDsa(_) => "EdDSA",
            Self::Es256(_) => "ES256",
            Self::Rs256(_) => "RS256",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::EdDsa(key) => key.sign(message).as_ref().to_vec(),
            Self::Es256(key) => key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// What everybody knows of it.
    fn public(&self) -> Vec<u8> {
        match self {
            Self::EdDsa(key) => key.public_key().as_ref().to_vec(),
            Self::Es256(key) => key.public_key().as_ref().to_vec(),
            Self::Rs256(key) => key.public().as_ref().to_vec(),
        }
    }

    /// How it is published.
    fn published(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        match self {
            Self::EdDsa(_) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": text(&self.public()) })
            }
            Self::Es256(_) => {
                let point = self.public();
                json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": text(&point[1..33]), "y": text(&point[33..]) })
            }
            Self::Rs256(key) => {
                let parts: ring::rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({ "kty": "RSA", "kid": kid, "alg": "RS256", "n": text(&parts.n), "e": text(&parts.e) })
            }
        }
    }

    /// A token with this key's algorithm.
    fn token(&self, kid: &str, claims: &Value) -> String {
        self.with_header(&json!({ "alg": self.algorithm(), "kid": kid, "typ": "JWT" }), claims)
    }

    fn with_header(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&self.sign(signed.as_bytes())))
    }
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

/// The time of the house, in seconds.
const NOW: i64 = NOON / 1_000_000;

/// What a good token of the shop says, with some of it said otherwise; `null` leaves a claim out.
fn claims(other: &Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": "lacuna", "sub": "shop", "exp": NOW + 300, "iat": NOW, "jti": "1" });
    for (name, value) in other.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn known(name: &str, claim: &str, value: &str) -> Caller {
    let jwt = Some(Claim { issuer: None, claim: claim.to_owned(), value: value.to_owned() });
    Caller { name: name.to_owned(), jwt, ..Caller::default() }
}

fn issuer() -> Issuer {
    Issuer {
        issuer: ISSUER.to_owned(),
        audience: "lacuna".to_owned(),
        jwks_file: None,
        jwks_url: None,
        jwks_ca_file: None,
        algorithms: vec![Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256],
        clock_skew_seconds: 60,
        groups_claim: Some("groups".to_owned()),
    }
}

/// Opens the house again for two callers of one issuer, whose keys are in a file.
async fn with_keys(house: &mut House, keys: &[(&str, &Key)]) -> PathBuf {
    let file = house.home().join("jwks.json");
    std::fs::write(&file, set(keys)).unwrap();
    house.config.issuers = vec![Issuer { jwks_file: Some(file.clone()), ..issuer() }];
    admit(house).await;
    file
}

async fn admit(house: &mut House) {
    let mailer = Caller { purposes: Some(vec!["order_confirmation".to_owned()]), ..known("mailer", "azp", "mail") };
    house.config.callers = vec![known("shop", "sub", "shop"), mailer];
    house.reopen().await;
}

fn set(keys: &[(&str, &Key)]) -> String {
    let published: Vec<_> = keys.iter().map(|(kid, key)| key.published(kid)).collect();
    json!({ "keys": published }).to_string()
}

/// Wants a list with a token.
async fn want(house: &House, token: &str) -> Result<Vec<u8>, Status> {
    call(house, LIST, Vec::new(), Some(&format!("Bearer {token}"))).await
}

/// Whether a token is refused, which tells nothing of why.
async fn refuses(house: &House, token: &str) -> bool {
    match want(house, token).await {
        Ok(_) => false,
        Err(status) => {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CALLER_UNKNOWN"));
            assert!(status.message().starts_with("no caller is known by this credential"), "{status:?}");
            true
        }
    }
}

/// A server that publishes keys, and counts who asks.
struct Publisher {
    address: std::net::SocketAddr,
    says: Arc<Mutex<(&'static str, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    async fn of(body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (says, asked) = (Arc::new(Mutex::new(("200 OK", body))), Arc::new(AtomicUsize::new(0)));
        let publisher = Self { address, says: Arc::clone(&says), asked: Arc::clone(&asked) };
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                asked.fetch_add(1, Ordering::SeqCst);
                let (status, body) = says.lock().unwrap().clone();
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _gone = stream.write_all(answer.as_bytes()).await;
            }
        });
        publisher
    }

    fn say(&self, status: &'static str, body: String) {
        *self.says.lock().unwrap() = (status, body);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn known_to(&self, house: &mut House) {
        let url = Some(format!("http://{}/keys", self.address));
        house.config.issuers = vec![Issuer { jwks_url: url, ..issuer() }];
        admit(house).await;
    }
}

on_both_stores! {
    async fn a_caller_is_known_by_a_token_of_its_issuer(house: House) {
        let mut house = house;
        let keys = [("a", Key::ed25519()), ("b", Key::p256()), ("c", Key::rsa())];
        with_keys(&mut house, &keys.each_ref().map(|(kid, key)| (*kid, key))).await;
        let (mut tokens, _) = house.connect_as(&keys[0].1.token("a", &claims(&json!({})))).await;
        let kept = tokens.tokenize(tokenize("", vec![text("x")])).await.unwrap().into_inner().tokens;
        let kept = [kept[0].token.clone()];
        for (kid, key) in &keys {
            let (mut tokens, _) = house.connect_as(&key.token(kid, &claims(&json!({})))).await;
            assert!(tokens.detokenize(detokenize(&kept, CARE)).await.is_ok(), "{}", key.algorithm());
            let mailer = claims(&json!({ "sub": "somebody", "azp": "mail", "aud": ["other", "lacuna"] }));
            let (mut tokens, _) = house.connect_as(&key.token(kid, &mailer)).await;
            let refused = tokens.detokenize(detokenize(&kept, CARE)).await.unwrap_err();
            assert_eq!(reason(&refused), "PURPOSE_NOT_GRANTED", "{} is the mailer", key.algorithm());
            assert!(tokens.detokenize(detokenize(&kept, "order_confirmation")).await.is_ok());
        }
    }

    async fn every_rpc_is_refused_to_a_token_that_is_not_good(house: House) {
        let mut house = house;
        let (key, other) = (Key::ed25519(), Key::ed25519());
        with_keys(&mut house, &[("a", &key)]).await;
        let good = key.token("a", &claims(&json!({})));
        assert!(!refuses(&house, &good).await);
        let before = house.everything().await;
        let expired = key.token("a", &claims(&json!({ "exp": NOW - 61 })));
        let forged = other.token("a", &claims(&json!({})));
        for rpc in rpcs() {
            for token in [&expired, &forged] {
                let refused = call(&house, &rpc.path, Vec::new(), Some(&format!("Bearer {token}"))).await.unwrap_err();
                assert_eq!(reason(&refused), "CALLER_UNKNOWN", "{}", rpc.path);
            }
        }
        assert_eq!(house.everything().await, before);
    }
}

/// Tokens that say something else than a good one.
fn bad_claims() -> Vec<Value> {
    vec![
        json!({ "iss": "https://id.example.org/" }),
        json!({ "iss": null }),
        json!({ "iss": ["https://id.example.org"] }),
        json!({ "aud": "other" }),
        json!({ "aud": null }),
        json!({ "aud": [] }),
        json!({ "aud": ["other", "Lacuna"] }),
        json!({ "aud": { "lacuna": true } }),
        json!({ "exp": null }),
        json!({ "exp": "never" }),
        json!({ "exp": (NOW + 300).to_string() }),
        json!({ "exp": NOW - 61 }),
        json!({ "exp": 0 }),
        json!({ "exp": -1.0e300 }),
        json!({ "exp": 1.0e300 }),
        json!({ "nbf": NOW + 120 }),
        json!({ "nbf": "now" }),
        json!({ "iat": NOW + 120 }),
        json!({ "sub": "stranger" }),
        json!({ "sub": null }),
        json!({ "sub": ["shop"] }),
        json!({ "sub": "SHOP" }),
        json!({ "azp": "mail" }),
        json!({ "groups": "admins" }),
        json!({ "groups": [1] }),
        json!({ "groups": [""] }),
        json!({ "groups": vec!["a"; 65] }),
    ]
}

#[tokio::test]
async fn a_token_that_is_not_good_in_every_respect_is_refused_without_saying_why() {
    let mut house = House::on_sqlite().await;
    let (key, other, rsa) = (Key::ed25519(), Key::ed25519(), Key::rsa());
    with_keys(&mut house, &[("a", &key), ("r", &rsa)]).await;
    let good = claims(&json!({}));
    for fine in [
        json!({}),
        json!({ "exp": NOW - 50 }),
        json!({ "exp": 4_102_444_800.5 }),
        json!({ "nbf": NOW + 50 }),
        json!({ "groups": ["a", "b"] }),
    ] {
        assert!(!refuses(&house, &key.token("a", &claims(&fine))).await, "{fine}");
    }
    for bad in bad_claims() {
        assert!(refuses(&house, &key.token("a", &claims(&bad))).await, "{bad}");
    }
    for header in [
        json!({ "alg": "EdDSA", "kid": "b" }),
        json!({ "alg": "EdDSA", "kid": "r" }),
        json!({ "alg": "RS256", "kid": "a" }),
        json!({ "alg": "ES256", "kid": "a" }),
        json!({ "alg": "none", "kid": "a" }),
        json!({ "alg": "None", "kid": "a" }),
        json!({ "alg": "HS256", "kid": "a" }),
        json!({ "alg": ["EdDSA"], "kid": "a" }),
        json!({ "kid": "a" }),
        json!({ "alg": "EdDSA", "kid": "a", "crit": ["exp"], "exp": 1 }),
        json!({ "alg": "EdDSA", "kid": "a", "typ": "logout+jwt" }),
        json!({ "alg": "EdDSA", "kid": "a", "jwk": other.published("a") }),
    ] {
        let token = if header.get("jwk").is_some() {
            other.with_header(&header, &good)
        } else {
            key.with_header(&header, &good)
        };
        assert!(refuses(&house, &token).await, "{header}");
    }
    // Whoever verifies with what the token says, and not with what the key is for, takes these.
    for secret in [key.public(), rsa.public(), set(&[("a", &key)]).into_bytes()] {
        let signed = unsigned(&json!({ "alg": "HS256", "kid": "a" }), &good);
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        assert!(refuses(&house, &format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))).await);
    }
    let none = unsigned(&json!({ "alg": "none" }), &good);
    let whole = key.token("a", &good);
    let (signed, signature) = whole.rsplit_once('.').unwrap();
    let padded = BASE64URL.encode(&BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap());
    for token in [
        format!("{none}."),
        none,
        format!("{signed}."),
        format!("{signed}.{}", &signature[4..]),
        format!("{signed}.{padded}"),
        format!("{whole}.{signature}"),
        format!("{whole}."),
        "..".to_owned(),
        "a.b.c".to_owned(),
        other.token("a", &good),
        format!(
            "{}.{signature}",
            unsigned(&json!({ "alg": "EdDSA", "kid": "a" }), &claims(&json!({ "sub": "mailer" })))
        ),
        key.token("a", &claims(&json!({ "padding": "x".repeat(9000) }))),
    ] {
        assert!(refuses(&house, &token).await, "{token}");
    }
    assert!(!refuses(&house, &whole).await, "the next one is served");
}

#[tokio::test]
async fn a_token_expires_by_the_clock_of_the_vault() {
    let mut house = House::on_sqlite().await;
    let key = Key::ed25519();
    with_keys(&mut house, &[("a", &key)]).await;
    let token = key.token("a", &claims(&json!({})));
    assert!(!refuses(&house, &token).await);
    house.clock.advance(Duration::from_secs(359));
    assert!(!refuses(&house, &token).await, "its issuer's clock may be late");
    house.clock.advance(Duration::from_secs(2));
    assert!(refuses(&house, &token).await);
}

#[tokio::test]
async fn a_token_that_was_taken_before_does_not_outlive_the_right_of_its_caller_nor_its_key() {
    let mut house = House::on_sqlite().await;
    let (key, other) = (Key::ed25519(), Key::ed25519());
    let file = with_keys(&mut house, &[("a", &key)]).await;
    let officer = key.token("a", &claims(&json!({ "sub": "somebody", "azp": "mail" })));
    let token = key.token("a", &claims(&json!({})));
    for _ in 0..3 {
        assert!(!refuses(&house, &token).await);
    }
    let ask = v1::DisableCallerRequest { caller: "shop".to_owned(), reason: "CASE-7".to_owned() };
    house.access_as(&officer).await.disable_caller(ask).await.unwrap();
    let refused = want(&house, &token).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "CALLER_DISABLED"));
    let ask = v1::EnableCallerRequest { caller: "shop".to_owned(), ..Default::default() };
    house.access_as(&officer).await.enable_caller(ask).await.unwrap();
    assert!(!refuses(&house, &token).await);
    std::fs::write(&file, set(&[("a", &other)])).unwrap();
    house.running().reload();
    while !refuses(&house, &token).await {
        tokio::task::yield_now().await;
    }
    assert!(!refuses(&house, &other.token("a", &claims(&json!({})))).await);
}

#[tokio::test]
async fn a_stream_ends_with_the_token_that_it_was_begun_with() {
    let mut house = House::on_sqlite().await;
    let key = Key::ed25519();
    with_keys(&mut house, &[("a", &key)]).await;
    let mut events = house.events_as(&key.token("a", &claims(&json!({})))).await;
    let asked = lacuna::proto::v1::WatchEventsRequest::default();
    let mut stream = events.watch_events(asked).await.unwrap().into_inner();
    house.clock.advance(Duration::from_secs(361));
    let ended = async {
        loop {
            if let Err(status) = stream.message().await {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_mins(1), ended).await.unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CALLER_UNKNOWN"));
}

#[tokio::test]
async fn only_the_algorithms_that_are_listed_are_taken() {
    let mut house = House::on_sqlite().await;
    let (key, point) = (Key::ed25519(), Key::p256());
    with_keys(&mut house, &[("a", &key), ("b", &point)]).await;
    house.config.issuers[0].algorithms = vec![Algorithm::Es256];
    house.reopen().await;
    assert!(!refuses(&house, &point.token("b", &claims(&json!({})))).await);
    assert!(refuses(&house, &key.token("a", &claims(&json!({})))).await);
}

#[tokio::test]
async fn keys_are_fetched_for_a_token_that_names_a_new_one_but_not_for_every_such_token() {
    let mut house = House::on_sqlite().await;
    let (first, second) = (Key::ed25519(), Key::p256());
    let publisher = Publisher::of(set(&[("a", &first)])).await;
    publisher.known_to(&mut house).await;
    assert!(!refuses(&house, &first.token("a", &claims(&json!({})))).await);
    assert_eq!(publisher.asked(), 1);
    publisher.say("200 OK", set(&[("b", &second)]));
    for number in 0..10 {
        assert!(refuses(&house, &second.token(&format!("made up {number}"), &claims(&json!({})))).await);
    }
    assert_eq!(publisher.asked(), 1, "it has just been asked");
    house.running().reload();
    while refuses(&house, &second.token("b", &claims(&json!({})))).await {
        tokio::task::yield_now().await;
    }
    assert!(refuses(&house, &first.token("a", &claims(&json!({})))).await, "what is not published any more is no key");
}

#[tokio::test]
async fn former_keys_stay_while_their_issuer_is_away_or_says_nonsense() {
    let mut house = House::on_sqlite().await;
    let key = Key::ed25519();
    let publisher = Publisher::of(set(&[("a", &key)])).await;
    publisher.known_to(&mut house).await;
    let token = key.token("a", &claims(&json!({})));
    assert!(!refuses(&house, &token).await);
    let nonsense = [
        ("500 Oh", set(&[])),
        ("302 Found", set(&[])),
        ("200 OK", "<html>".to_owned()),
        ("200 OK", " ".repeat(1 << 20)),
    ];
    for (status, body) in nonsense {
        publisher.say(status, body);
        let asked = publisher.asked();
        house.running().reload();
        while publisher.asked() == asked {
            tokio::task::yield_now().await;
        }
        assert!(!refuses(&house, &token).await, "{status}");
    }
    publisher.say("200 OK", set(&[]));
    house.running().reload();
    while !refuses(&house, &token).await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_they_have_changed() {
    let mut house = House::on_sqlite().await;
    let (first, second) = (Key::ed25519(), Key::ed25519());
    let file = with_keys(&mut house, &[("a", &first)]).await;
    let (old, new) = (first.token("a", &claims(&json!({}))), second.token("b", &claims(&json!({}))));
    assert!(!refuses(&house, &old).await && refuses(&house, &new).await);
    std::fs::write(&file, "half a fi").unwrap();
    assert!(refuses(&house, &new).await && !refuses(&house, &old).await);
    std::fs::write(&file, set(&[("b", &second)])).unwrap();
    assert!(!refuses(&house, &new).await, "a token that names a new key has the file read");
    assert!(refuses(&house, &old).await);
    std::fs::write(&file, "half a fi").unwrap();
    assert!(house.try_reopen().await.is_err(), "nor does it start with a file that cannot be used");
}

#[tokio::test]
async fn a_vault_starts_while_an_issuer_is_away() {
    let mut house = House::on_sqlite().await;
    let key = Key::ed25519();
    let publisher = Publisher::of(String::new()).await;
    publisher.say("503 Away", String::new());
    publisher.known_to(&mut house).await;
    assert!(refuses(&house, &key.token("a", &claims(&json!({})))).await);
    publisher.say("200 OK", set(&[("a", &key)]));
    house.running().reload();
    while refuses(&house, &key.token("a", &claims(&json!({})))).await {
        tokio::task::yield_now().await;
    }
}
