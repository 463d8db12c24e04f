//! DSSE, the signed envelope of in-toto and Sigstore (`github.com/secure-systems-lab/dsse`, protocol v1.0.2): what
//! is signed is the payload *and* its type, byte for byte, so nothing has to be re-serialised to be verified.

use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use serde::{Deserialize, Serialize};

use super::derive::sha256;
use super::sign::{SigningKey, verify};

/// A payload with its signatures. Serialised as JSON it is what other DSSE tools read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// What the payload is, as a media type.
    pub payload_type: String,
    /// The payload, in base64.
    pub payload: String,
    /// At least one signature; one that verifies is enough.
    pub signatures: Vec<Signature>,
}

/// One signature of an [`Envelope`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key signed, as [`keyid`]: a hint for finding the key, never a proof.
    #[serde(default)]
    pub keyid: String,
    /// The signature, in base64.
    pub sig: String,
}

impl Envelope {
    /// Signs `payload` as a `payload_type`.
    #[must_use]
    pub fn sign(payload_type: &str, payload: &[u8], key: &SigningKey) -> Self {
        let sig = BASE64.encode(&key.sign(&pae(payload_type, payload)));
        let signature = Signature { keyid: keyid(&key.public()), sig };
        Self { payload_type: payload_type.to_owned(), payload: BASE64.encode(payload), signatures: vec![signature] }
    }

    /// The payload, if the owner of `public` signed it. The type is signed too: compare it before reading on.
    #[must_use]
    pub fn verify(&self, public: &[u8]) -> Option<Vec<u8>> {
        let payload = decode(&self.payload)?;
        let signed = pae(&self.payload_type, &payload);
        let fits = |one: &Signature| decode(&one.sig).is_some_and(|sig| verify(public, &signed, &sig));
        self.signatures.iter().any(fits).then_some(payload)
    }
}

/// The pre-authentication encoding: the bytes that are really signed.
#[must_use]
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The name of a public key: the first 16 bytes of its SHA-256, in hexadecimal.
#[must_use]
pub fn keyid(public: &[u8; 32]) -> String {
    let mut id = HEXLOWER.encode(&sha256(&[public]));
    id.truncate(32);
    id
}

/// The protocol lets a signer choose either alphabet.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text.as_bytes()).or_else(|_| BASE64URL.decode(text.as_bytes())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::testing::Seeded;

    const TYPE: &str = "http://example.com/HelloWorld";

    fn key(seed: u64) -> SigningKey {
        SigningKey::generate(&Seeded::new(seed)).unwrap().0
    }

    /// The example of the protocol document.
    #[test]
    fn encodes_as_the_protocol_shows() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae(TYPE, b"hello world"), expected);
    }

    #[test]
    fn gives_the_payload_to_the_right_key_only() {
        let envelope = Envelope::sign(TYPE, b"hello world", &key(1));
        assert_eq!(envelope.verify(&key(1).public()).unwrap(), b"hello world");
        assert!(envelope.verify(&key(2).public()).is_none());
    }

    #[test]
    fn survives_json_and_the_other_alphabet() {
        let envelope = Envelope::sign(TYPE, &[0xfb, 0xff, 0xfe], &key(1));
        let json = serde_json::to_string(&envelope).unwrap();
        assert!(json.starts_with(r#"{"payloadType":"http://example.com/HelloWorld","payload":"+//+","signatures":[{"#));
        let mut read: Envelope = serde_json::from_str(&json).unwrap();
        assert_eq!(read, envelope);
        read.payload = "-__-".to_owned();
        assert_eq!(read.verify(&key(1).public()).unwrap(), [0xfb, 0xff, 0xfe]);
    }

    #[test]
    fn refuses_changes() {
        let signed = || Envelope::sign(TYPE, b"hello world", &key(1));
        let type_changed = Envelope { payload_type: "text/plain".to_owned(), ..signed() };
        let payload_changed = Envelope { payload: BASE64.encode(b"hello w0rld"), ..signed() };
        let unsigned = Envelope { signatures: Vec::new(), ..signed() };
        let not_base64 = Envelope { payload: "?".to_owned(), ..signed() };
        for envelope in [type_changed, payload_changed, unsigned, not_base64] {
            assert!(envelope.verify(&key(1).public()).is_none());
        }
    }

    #[test]
    fn names_a_key_by_its_hash() {
        let id = keyid(&key(1).public());
        assert_eq!(id.len(), 32);
        assert_eq!(Envelope::sign(TYPE, b"", &key(1)).signatures[0].keyid, id);
    }
}
