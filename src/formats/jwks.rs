//! The public keys of others: a JSON Web Key Set (RFC 7517), one key of that form, or PEM (RFC 7468).

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::Deserialize;

use crate::crypto::jws::{Algorithm, PublicKey};
use crate::model::{Error, Result};

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
        let document: Document =
            serde_json::from_slice(bytes).map_err(|_| Error::invalid("keys", "this is no JSON Web Key Set"))?;
        if document.keys.len() > MOST_KEYS {
            return Err(Error::invalid("keys", format!("a key set has {MOST_KEYS} keys at most")));
        }
        Ok(Self(document.keys.into_iter().filter_map(Jwk::named).collect()))
    }

    /// Reads what an operator has of somebody's public keys: PEM, one JSON Web Key, or a set of them.
    ///
    /// # Errors
    /// When there is no key in it that is good for verifying.
    pub fn of_file(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let keys = if text.trim_start().starts_with("-----BEGIN") {
            Self(pem(text)?)
        } else if let Ok(one) = serde_json::from_slice::<Jwk>(bytes) {
            Self(one.named().into_iter().collect())
        } else {
            Self::parse(bytes)?
        };
        let message = "there is no public key of RSA, P-256 or Ed25519 for signatures";
        if keys.0.is_empty() { Err(Error::invalid("keys", message)) } else { Ok(keys) }
    }

    /// The keys that may have signed: of this algorithm, and of this name where both have one.
    pub fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &PublicKey> {
        let fits = move |named: &&Named| {
            let same = kid.is_none_or(|kid| named.kid.as_deref().is_none_or(|name| name == kid));
            named.key.algorithm() == algorithm && same
        };
        self.0.iter().filter(fits).map(|named| &named.key)
    }

    /// How many keys there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// The key of this name and algorithm; without a name the only one for that algorithm.
    #[must_use]
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

/// The public keys in PEM.
fn pem(text: &str) -> Result<Vec<Named>> {
    const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
    const END: &str = "-----END PUBLIC KEY-----";
    if text.contains("PRIVATE KEY-----") {
        let message = "it holds a private key, which nobody else should have: give the public one";
        return Err(Error::invalid("keys", message));
    }
    if text.contains("BEGIN CERTIFICATE") {
        let message = "it holds a certificate; take the key out of it, as with `openssl x509 -noout -pubkey`";
        return Err(Error::invalid("keys", message));
    }
    let mut keys = Vec::new();
    for block in text.split(BEGIN).skip(1).take(MOST_KEYS) {
        let body: String = block.split(END).next().unwrap_or_default().split_whitespace().collect();
        let key = BASE64.decode(body.as_bytes()).ok().and_then(|der| PublicKey::from_spki(&der));
        let key = key.ok_or_else(|| Error::invalid("keys", "a key in it is none of RSA, P-256 or Ed25519"))?;
        keys.push(Named { kid: None, key });
    }
    Ok(keys)
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
    fn a_file_holds_keys_in_any_form() {
        let one = format!("{{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"a\",\"x\":\"{X}\"}}");
        let der = [&crate::crypto::jws::ED25519_SPKI[..], &BASE64URL_NOPAD.decode(X.as_bytes()).unwrap()].concat();
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&der));
        for file in [one.clone(), format!("{{\"keys\":[{one}]}}"), pem.clone()] {
            let keys = KeySet::of_file(file.as_bytes()).unwrap();
            assert_eq!(keys.candidates(None, Algorithm::EdDsa).count(), 1, "{file}");
            assert_eq!(keys.candidates(None, Algorithm::Es256).count(), 0, "{file}");
        }
        assert_eq!(KeySet::of_file(one.as_bytes()).unwrap().candidates(Some("b"), Algorithm::EdDsa).count(), 0);
        assert_eq!(KeySet::of_file(pem.as_bytes()).unwrap().candidates(Some("b"), Algorithm::EdDsa).count(), 1);
        for bad in
            ["", "{}", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "-----BEGIN PRIVATE KEY-----"]
        {
            assert!(KeySet::of_file(bad.as_bytes()).is_err(), "{bad}");
        }
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
            assert_eq!(set(&other).count(), 0, "{other}");
        }
        for bad in ["", "[]", "{}", "{\"keys\":{}}", "{\"keys\":[{}]}"] {
            assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
