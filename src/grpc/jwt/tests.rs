use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::crypto::SigningKey;
use crate::crypto::testing::Seeded;

const NOW: i64 = 1_795_262_400;

fn sign(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", part(header), part(claims));
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&key.sign(signed.as_bytes())))
}

/// An issuer with one key, and a good token of it.
async fn issuer() -> (Issuer, String) {
    let (key, _) = SigningKey::generate(&Seeded::new(1)).unwrap();
    let x = BASE64URL_NOPAD.encode(&key.public());
    let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x }] });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), set.to_string()).unwrap();
    let text = format!("issuer = 'i'\naudience = 'lacuna'\njwks_file = {:?}", file.path());
    let mut issuer = Issuer::of(&toml::from_str(&text).unwrap()).unwrap();
    issuer.prepare().await.unwrap();
    let claim = toml::from_str("value = 'shop'").unwrap();
    issuer.add(&claim, Caller::named("shop"));
    let claims = json!({ "iss": "i", "aud": "lacuna", "sub": "shop", "exp": NOW + 60 });
    (issuer, sign(&key, &json!({ "alg": "EdDSA", "kid": "a" }), &claims))
}

#[tokio::test]
async fn a_file_of_keys_is_not_read_again_for_a_token_while_it_is_the_same() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"keys\":[]}").unwrap();
    let text = format!("issuer = 'i'\naudience = 'lacuna'\njwks_file = {:?}", file.path());
    let issuer = Issuer::of(&toml::from_str(&text).unwrap()).unwrap();
    issuer.prepare().await.unwrap();
    let read = issuer.asked.lock().await.at;
    issuer.look(Why::Token).await.unwrap();
    assert_eq!(issuer.asked.lock().await.at, read);
    std::fs::write(file.path(), "half a fi").unwrap();
    assert!(issuer.look(Why::Token).await.is_err(), "it is read when it has changed");
    let read = issuer.asked.lock().await.at;
    issuer.look(Why::Token).await.unwrap();
    assert_eq!(issuer.asked.lock().await.at, read, "once");
    assert!(issuer.look(Why::Age).await.is_err(), "and all the same when it is due");
}

fn digest(token: &str) -> [u8; 32] {
    crate::crypto::derive::sha256(&[token.as_bytes()])
}

fn takes(issuer: &Issuer, token: &str) -> bool {
    let now = Time::from_micros(NOW * 1_000_000);
    Token::parse(token).is_some_and(|parsed| issuer.check(&parsed, digest(token), now).is_ok())
}

#[tokio::test]
async fn a_token_of_which_anything_was_changed_is_refused() {
    let (issuer, good) = issuer().await;
    assert!(takes(&issuer, &good));
    for at in 0..good.len() {
        let (before, behind) = (&good[..at], &good[at + 1..]);
        for other in ["A", "_", ".", "=", "", "AA", "\n"] {
            let changed = format!("{before}{other}{behind}");
            assert!(changed == good || !takes(&issuer, &changed), "{other:?} at {at}");
        }
        assert!(!takes(&issuer, before), "cut off at {at}");
    }
}

#[tokio::test]
async fn a_token_that_was_taken_is_remembered_until_it_expires_and_no_other_is() {
    let (issuer, good) = issuer().await;
    let at = |seconds: i64| Time::from_micros(seconds * 1_000_000);
    assert!(issuer.recall(&digest(&good), at(NOW)).is_none());
    assert!(takes(&issuer, &good));
    let (caller, until) = issuer.recall(&digest(&good), at(NOW)).unwrap();
    assert_eq!((caller.name.as_str(), until), ("shop", at(NOW + 60 + 60)), "with the skew");
    for changed in [format!("{good}A"), format!("{good} "), good.replacen('e', "E", 1), good[1..].to_owned()] {
        assert!(issuer.recall(&digest(&changed), at(NOW)).is_none() && !takes(&issuer, &changed));
    }
    assert!(issuer.recall(&digest(&good), at(NOW + 119)).is_some());
    assert!(issuer.recall(&digest(&good), at(NOW + 120)).is_none());
    assert_eq!(issuer.keys().remembered(), 1, "what was refused is not remembered");
    issuer.forget_expired(at(NOW + 119));
    assert_eq!(issuer.keys().remembered(), 1);
    issuer.forget_expired(at(NOW + 120));
    assert_eq!(issuer.keys().remembered(), 0);
}

#[tokio::test]
async fn a_token_that_is_not_good_yet_by_a_clock_that_went_back_is_not_remembered_as_good() {
    let (key, _) = SigningKey::generate(&Seeded::new(1)).unwrap();
    let (issuer, _) = issuer().await;
    let claims = json!({ "iss": "i", "aud": "lacuna", "sub": "shop", "nbf": NOW, "exp": NOW + 60 });
    let token = sign(&key, &json!({ "alg": "EdDSA", "kid": "a" }), &claims);
    assert!(takes(&issuer, &token));
    let at = |seconds: i64| Time::from_micros(seconds * 1_000_000);
    assert!(issuer.recall(&digest(&token), at(NOW - 60)).is_some());
    assert!(issuer.recall(&digest(&token), at(NOW - 61)).is_none());
}

#[tokio::test]
async fn what_was_remembered_goes_with_the_keys_and_when_the_operator_wants_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (key, _) = SigningKey::generate(&Seeded::new(1)).unwrap();
    let x = BASE64URL_NOPAD.encode(&key.public());
    let set = |kid: &str| json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x }] }).to_string();
    std::fs::write(file.path(), set("a")).unwrap();
    let text = format!("issuer = 'i'\naudience = 'lacuna'\njwks_file = {:?}", file.path());
    let mut issuer = Issuer::of(&toml::from_str(&text).unwrap()).unwrap();
    issuer.prepare().await.unwrap();
    issuer.add(&toml::from_str("value = 'shop'").unwrap(), Caller::named("shop"));
    let claims = json!({ "iss": "i", "aud": "lacuna", "sub": "shop", "exp": NOW + 60 });
    let token = sign(&key, &json!({ "alg": "EdDSA", "kid": "a" }), &claims);
    let recalls = |issuer: &Issuer| issuer.recall(&digest(&token), Time::from_micros(NOW * 1_000_000)).is_some();
    assert!(takes(&issuer, &token) && recalls(&issuer));
    issuer.look(Why::Age).await.unwrap();
    assert!(recalls(&issuer), "the keys are the same");
    issuer.look(Why::Wish).await.unwrap();
    assert!(!recalls(&issuer));
    assert!(takes(&issuer, &token) && recalls(&issuer));
    // Whoever was verifying meanwhile remembers it with the former keys, which nobody asks any more.
    let former = issuer.keys();
    std::fs::write(file.path(), set("b")).unwrap();
    issuer.look(Why::Age).await.unwrap();
    let known = former.recall(&digest(&token), Time::from_micros(NOW * 1_000_000)).unwrap();
    former.remember(digest(&token), known);
    assert!(!recalls(&issuer) && !takes(&issuer, &token));
}

#[tokio::test]
async fn so_many_tokens_are_remembered_and_no_more() {
    let (key, _) = SigningKey::generate(&Seeded::new(1)).unwrap();
    let (issuer, _) = issuer().await;
    for number in 0..5000 {
        let claims = json!({ "iss": "i", "aud": "lacuna", "sub": "shop", "exp": NOW + 60, "jti": number });
        assert!(takes(&issuer, &sign(&key, &json!({ "alg": "EdDSA", "kid": "a" }), &claims)));
    }
    let remembered = issuer.keys().remembered();
    assert!((2000..=4096).contains(&remembered), "{remembered}");
}

proptest! {
    #[test]
    fn what_is_no_token_is_refused(text in ".*", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (issuer, _) = runtime.block_on(issuer());
        prop_assert!(!takes(&issuer, &text));
        prop_assert!(!takes(&issuer, &parts.join(".")));
    }

    #[test]
    fn times_are_read_or_refused(number in any::<f64>(), whole in any::<i64>()) {
        let read = time(Some(&json!(number)));
        prop_assert!(read.is_none_or(|micros| number.abs() < 9.3e12 && (micros < 0) == (number * 1e6 <= -1.0)));
        let seconds = whole.checked_mul(1_000_000);
        prop_assert_eq!(time(Some(&json!(whole))), seconds);
    }
}
