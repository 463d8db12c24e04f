//! The public keys of an issuer: a JSON Web Key Set (RFC 7517).

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;

use crate::crypto::jws::{Algorithm, PublicKey};

/// No issuer has more keys.
const MOST_KEYS: usize = 64;

/// The keys of an issuer that are good for verifying.
#[derive(Default, PartialEq, Eq)]
pub struct KeySet(Vec<Named>);

#[derive(PartialEq, Eq)]
struct Named {
    kid: Option<String>,
    key: PublicKey,
}

/// Which key a token was signed with.
pub enum Found<'k> {
    /// This one.
    Key(&'k PublicKey),
    /// None of those that are known.
    Unknown,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
}

/// One key as it is published. Whatever else it says is nothing to us.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl KeySet {
    /// Reads a key set, and leaves out what cannot be used here: keys for encryption, shared secrets, other algorithms.
    ///
    /// # Errors
    /// When it is no key set.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Document = serde_json::from_slice(bytes).context("this is no JSON Web Key Set")?;
        ensure!(document.keys.len() <= MOST_KEYS, "a key set has {MOST_KEYS} keys at most");
        Ok(Self(document.keys.into_iter().filter_map(Jwk::named).collect()))
    }

    /// How many keys there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// The key of this name and algorithm; without a name the only one for that algorithm.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let fits = |named: &&Named| {
            named.key.algorithm() == algorithm && kid.is_none_or(|kid| named.kid.as_deref() == Some(kid))
        };
        let mut found = self.0.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(named), None) => Found::Key(&named.key),
            _ => Found::Unknown,
        }
    }
}

impl Jwk {
    fn named(self) -> Option<Named> {
        let decode = |text: &Option<String>| BASE64URL_NOPAD.decode(text.as_deref()?.as_bytes()).ok();
        let key = match (self.kty.as_str(), self.crv.as_deref()) {
            ("OKP", Some("Ed25519")) => PublicKey::ed25519(decode(&self.x)?),
            ("EC", Some("P-256")) => PublicKey::p256(&decode(&self.x)?, &decode(&self.y)?),
            ("RSA", _) => PublicKey::rsa(&decode(&self.n)?, &decode(&self.e)?),
            _ => None,
        }?;
        let verifies = self.usage.is_none_or(|usage| usage == "sig")
            && self.key_ops.is_none_or(|deeds| deeds.iter().any(|deed| deed == "verify"))
            && self.alg.is_none_or(|name| Algorithm::called(&name) == Some(key.algorithm()));
        verifies.then_some(Named { kid: self.kid, key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn set(keys: &str) -> KeySet {
        KeySet::parse(format!("{{\"keys\":[{keys}]}}").as_bytes()).unwrap()
    }

    fn is_known(set: &KeySet, kid: Option<&str>) -> bool {
        matches!(set.find(kid, Algorithm::EdDsa), Found::Key(_))
    }

    #[test]
    fn keys_are_found_by_name_or_because_there_is_one_only() {
        let one = format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"a\",\"x\":\"{X}\"}}");
        let two = one.replace("\"a\"", "\"b\"");
        assert!(is_known(&set(&one), Some("a")) && is_known(&set(&one), None) && !is_known(&set(&one), Some("b")));
        let both = set(&format!("{one},{two}"));
        assert!(is_known(&both, Some("a")) && is_known(&both, Some("b")) && !is_known(&both, None));
        assert!(!is_known(&set(&format!("{one},{one}")), Some("a")), "which of them?");
        assert!(matches!(set(&one).find(Some("a"), Algorithm::Rs256), Found::Unknown), "a key is for one algorithm");
    }

    #[test]
    fn what_is_not_for_verifying_is_left_out() {
        for other in [
            format!("{{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"{X}\"}}"),
            format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"use\":\"enc\",\"x\":\"{X}\"}}"),
            format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"key_ops\":[\"sign\"],\"x\":\"{X}\"}}"),
            format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"alg\":\"HS256\",\"x\":\"{X}\"}}"),
            format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"{X}=\"}}"),
            format!("{{\"kty\":\"oct\",\"k\":\"{X}\"}}"),
            "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}".to_owned(),
            "{\"kty\":\"new\"}".to_owned(),
        ] {
            assert_eq!(set(&other).len(), 0, "{other}");
        }
        for bad in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[{}]}"] {
            assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
