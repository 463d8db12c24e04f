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

fn takes(issuer: &Issuer, token: &str) -> bool {
    let now = Time::from_micros(NOW * 1_000_000);
    Token::parse(token).is_some_and(|token| issuer.check(&token, now).is_ok())
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
